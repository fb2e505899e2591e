//! What is evaluated in a target? Nothing but what closes its inspector again.
//!
//! An exception in a timer would end the target, so that everything is in a `try`. `require` is what the
//! inspector lends for one evaluation; programs of ES modules have none of their own.

use std::time::Duration;

/// The modules that a script uses: `i` the inspector, `f` files.
const MODULES: &str = "const r=typeof require==='function'?require:process.getBuiltinModule,\
                       i=r('inspector'),f=r('fs');";
/// What [`arm`] and [`relocate`] answer where all is well.
pub const DONE: &str = "done";
/// How long a client that is still connected puts off the closing by the target itself.
const AGAIN: Duration = Duration::from_secs(60);

/// Closes the inspector, and sets the port at which the next one opens.
///
/// The call does not return before all clients are gone, which is why nothing answers. Node.js opens its
/// inspector twice for one signal: when it interrupts a function, and when that function has returned to the event
/// loop. Where a function was busy during the whole capture, the second one comes after the closing, and is closed
/// as well.
pub fn close(port: u16) -> String {
    let close = format!("process.debugPort={port};i.close();");
    guarded(&format!(
        "const s=r('timers').setImmediate,again=()=>{{try{{if(i.url()){{{close}}}}}catch{{}}}};\
         s(()=>{{try{{s(again).unref()}}catch{{}}}}).unref();{close}"
    ))
}

/// Closes the inspector when the client is gone, and opens it at another port of this host's choice, so that
/// other processes find the usual port free. The new one closes by itself as [`arm`] says: the agent may be
/// killed before it connects.
pub fn relocate(port: u16, after: Duration) -> String {
    guarded(&format!("i.close();i.open(0,'127.0.0.1');{}", timer(port, after)))
}

/// Has the target close its inspector by itself after so long, for an agent that was killed may not do it.
///
/// It is put off while a client is connected, because closing would stop the target until that is gone. An
/// inspector that was closed and opened again by somebody else has another URL and is left alone.
pub fn arm(port: u16, after: Duration) -> String {
    guarded(&timer(port, after))
}

fn timer(port: u16, after: Duration) -> String {
    let (after, again) = (after.as_millis(), AGAIN.as_millis());
    format!(
        "const u=i.url(),p=Number(new URL(u).port),look=()=>{{try{{if(i.url()!==u)return;\
         const busy=['tcp','tcp6'].some(n=>{{try{{\
         return f.readFileSync('/proc/self/net/'+n,'latin1').split('\\n')\
         .some(l=>{{const c=l.trim().split(/\\s+/);return c[3]==='01'&&parseInt(c[1].split(':')[1],16)===p}})}}\
         catch{{return false}}}});\
         if(busy)setTimeout(look,{again}).unref();else{{process.debugPort={port};i.close()}}}}catch{{}}}};\
         setTimeout(look,{after}).unref();"
    )
}

/// The parameters of `Runtime.evaluate` for a script.
pub fn evaluation(script: &str) -> String {
    serde_json::json!({"expression": script, "includeCommandLineAPI": true, "returnByValue": true})
        .to_string()
}

fn guarded(body: &str) -> String {
    format!("(()=>{{try{{{MODULES}{body}return '{DONE}'}}catch(e){{return String(e)}}}})()")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_script_can_throw() {
        let after = Duration::from_secs(75);
        for script in [close(9229), relocate(9229, after), arm(9229, after)] {
            assert!(script.starts_with("(()=>{try{") && script.contains("catch(e){return String(e)}})()"));
            let timers = script.matches("setTimeout(").count()
                + script.matches("s(()").count()
                + script.matches("s(again)").count();
            assert_eq!(
                script.matches(".unref()").count(),
                timers,
                "a timer keeps the target alive: {script}"
            );
            assert_eq!(script.matches('{').count(), script.matches('}').count(), "{script}");
        }
        for armed in [arm(9229, after), relocate(9229, after)] {
            assert!(armed.contains("process.debugPort=9229") && armed.contains("setTimeout(look,75000)"));
        }
    }
}
