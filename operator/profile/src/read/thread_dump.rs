//! What does each thread of a Java process do, by the text that Java prints of all of them (`Thread.print`)?
//!
//! ```text
//! "payer" #14 prio=5 os_prio=0 cpu=218.21ms elapsed=5.59s tid=0x… nid=0x1b5f waiting on condition  [0x…]
//!    java.lang.Thread.State: WAITING (parking)
//!         at jdk.internal.misc.Unsafe.park(java.base@17/Native Method)
//!         - parking to wait for  <0x…> (a java.util.concurrent.CompletableFuture$Signaller)
//!         at java.util.concurrent.locks.LockSupport.park(java.base@17/LockSupport.java:211)
//! ```
//! Java says what a thread waits for of Java; of one that waits in native code it says that it runs. There the
//! method tells: `sun.nio.ch.Net.poll` waits for a socket. Threads without a Java stack are those of the virtual
//! machine, and are left out.

use super::ReadError;
use super::jfr::readable;
use crate::builder::Frame;
use crate::waits::Wait;

const FORMAT: &str = "thread dump";
/// Methods at the top of a stack that say what a thread waits for.
const TELLING: usize = 12;

/// Bounds of [`for_each_thread`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpLimits {
    /// Bytes of the text.
    pub bytes: usize,
    /// Threads.
    pub threads: usize,
    /// Frames of a stack; deeper ones are cut at their root.
    pub frames: usize,
}

impl Default for DumpLimits {
    /// A thousand threads of 40 frames take 4 MB.
    fn default() -> Self {
        Self { bytes: 16 << 20, threads: 4_096, frames: 1_024 }
    }
}

/// What a thread does, as far as Java says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It waits.
    Waits(Wait),
    /// It runs Java code, or could.
    Ready,
    /// It is in native code, where it waits for this if it does not run.
    Native(Wait),
}

/// A thread that has a Java stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JavaThread {
    /// Its number, as the process's pid namespace counts.
    pub tid: Option<i32>,
    /// What it does.
    pub doing: Doing,
    stack: Vec<Method>,
}

/// A method, its class, and the line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Method {
    name: String,
    class: usize,
    line: i64,
}

impl Method {
    fn frame(&self) -> Frame<'_> {
        Frame::named(&self.name, self.name.get(..self.class).unwrap_or_default(), self.line)
    }
}

impl JavaThread {
    /// Its stack, leaf first. A frame is called `package.Class.method`, its file is the class, as in a profile of
    /// a flight recording.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame<'_>> {
        self.stack.iter().map(Method::frame).collect()
    }
}

/// Calls `each` for the threads of a dump that have a Java stack; gives back how many there are.
///
/// # Errors
/// It is beyond the limits, or no dump.
pub fn for_each_thread(
    text: &str,
    limits: &DumpLimits,
    mut each: impl FnMut(&JavaThread),
) -> Result<usize, ReadError> {
    if text.len() > limits.bytes {
        return Err(too_large("bytes", text.len(), limits.bytes));
    }
    if !text.contains("Full thread dump ") {
        let what = "it does not begin as one";
        return Err(ReadError::Damaged { format: FORMAT, at: 0, what });
    }
    let (mut threads, mut reading) = (0, None::<Reading<'_>>);
    for line in text.lines() {
        if line.starts_with('"') {
            threads += usize::from(finish(reading.replace(Reading::new(line)), &mut each));
            if threads > limits.threads {
                return Err(too_large("threads", threads, limits.threads));
            }
        } else if let Some(reading) = &mut reading {
            reading.read(line, limits.frames);
        }
    }
    threads += usize::from(finish(reading, &mut each));
    Ok(threads)
}

fn too_large(what: &'static str, have: usize, limit: usize) -> ReadError {
    ReadError::TooLarge { format: FORMAT, what, have, limit }
}

/// Says whether there was a thread with a Java stack.
fn finish(reading: Option<Reading<'_>>, each: &mut impl FnMut(&JavaThread)) -> bool {
    let Some(thread) = reading.and_then(Reading::finish) else { return false };
    each(&thread);
    true
}

/// The lines of a thread.
#[derive(Default)]
struct Reading<'a> {
    tid: Option<i32>,
    state: &'a str,
    /// The class of what it parks for.
    blocker: &'a str,
    is_native: bool,
    stack: Vec<Method>,
}

impl<'a> Reading<'a> {
    /// The name of the thread is its own choice; what comes after it is Java's.
    fn new(line: &'a str) -> Self {
        let number = line.rfind(" nid=").and_then(|at| line.get(at + 5..)).unwrap_or_default();
        let number = number.split([' ', '\t']).next().unwrap_or_default();
        let tid = match number.strip_prefix("0x") {
            Some(hex) => i32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        Self { tid: tid.ok().filter(|tid| *tid > 0), ..Self::default() }
    }

    fn read(&mut self, line: &'a str, most: usize) {
        let line = line.trim_start();
        if let Some(state) = line.strip_prefix("java.lang.Thread.State: ") {
            self.state = state.trim_end();
        } else if let Some(frame) = line.strip_prefix("at ") {
            self.read_frame(frame, most);
        } else if let Some(parks) = line.strip_prefix("- parking to wait for ")
            && self.blocker.is_empty()
        {
            let class = parks.split_once("(a ").map_or("", |(_, class)| class);
            self.blocker = class.trim_end().trim_end_matches(')');
        }
    }

    /// `java.net.Socket$SocketInputStream.read(java.base@17.0.15/Socket.java:966)`.
    fn read_frame(&mut self, frame: &str, most: usize) {
        if self.stack.len() >= most {
            return;
        }
        let Some((method, place)) = frame.trim_end().rsplit_once('(') else { return };
        let place = place.trim_end_matches(')');
        if self.stack.is_empty() {
            self.is_native = place.ends_with("Native Method");
        }
        let line = place.rsplit_once(':').and_then(|(_, line)| line.parse::<u32>().ok()).unwrap_or(0);
        let (class, name) = method.rsplit_once('.').unwrap_or(("", method));
        let class = readable(class);
        let name = if class.is_empty() { name.to_owned() } else { format!("{class}.{name}") };
        self.stack.push(Method { name, class: class.len(), line: i64::from(line) });
    }

    fn finish(self) -> Option<JavaThread> {
        if self.stack.is_empty() {
            return None;
        }
        let names: Vec<&str> = self.stack.iter().take(TELLING).map(|method| method.name.as_str()).collect();
        let doing = match self.state.split(' ').next().unwrap_or_default() {
            "BLOCKED" => Doing::Waits(Wait::Lock),
            "WAITING" | "TIMED_WAITING" => Doing::Waits(self.waits(&names)),
            _ if self.is_native => of_native(&names),
            _ => Doing::Ready,
        };
        Some(JavaThread { tid: self.tid, doing, stack: self.stack })
    }

    fn waits(&self, names: &[&str]) -> Wait {
        match () {
            () if self.state.ends_with("(sleeping)") => Wait::Sleep,
            () if names.contains(&"java.lang.ProcessImpl.waitFor") => Wait::Child,
            () if is_lock(self.blocker) => Wait::Lock,
            () => Wait::Condition,
        }
    }
}

/// Whether a class of `java.util.concurrent` is one that threads take in turns.
fn is_lock(class: &str) -> bool {
    const LOCKS: [&str; 4] = ["ReentrantLock$", "ReentrantReadWriteLock$", "StampedLock", "Semaphore$"];
    class.strip_prefix("java.util.concurrent.").is_some_and(|rest| {
        let rest = rest.strip_prefix("locks.").unwrap_or(rest);
        LOCKS.iter().any(|lock| rest.starts_with(lock))
    })
}

/// What a thread in native code waits for, by its methods, leaf first.
fn of_native(names: &[&str]) -> Doing {
    let leaf = names.first().copied().unwrap_or_default();
    let is_of = |classes: &[&str]| classes.iter().any(|class| leaf.starts_with(class));
    let holds = |part: &str| names.iter().any(|name| name.contains(part));
    Doing::Native(match () {
        () if leaf == "java.lang.Thread.yield" || leaf == "java.lang.Thread.yield0" => return Doing::Ready,
        () if leaf.starts_with("java.lang.Object.wait") => return Doing::Waits(Wait::Condition),
        () if is_of(&["sun.nio.ch.EPoll.", "sun.nio.ch.EPollArrayWrapper."]) => Wait::Epoll,
        () if !is_of(&["sun.nio.ch.", "java.net.", "java.io.", "java.lang."]) => Wait::Other,
        () if holds("ccept") => Wait::Accept,
        () if holds("onnect") && !holds(".read") && !holds(".write") => Wait::Connect,
        () if is_of(&[
            "sun.nio.ch.FileDispatcherImpl.",
            "sun.nio.ch.UnixFileDispatcherImpl.",
            "java.io.",
        ]) =>
        {
            Wait::File
        }
        () if is_of(&["sun.nio.ch.", "java.net."]) => Wait::Socket,
        () if is_of(&["java.lang.ProcessHandleImpl.waitFor", "java.lang.UNIXProcess.waitFor"]) => Wait::Child,
        () if is_of(&["java.lang.ref.Reference.waitFor"]) => Wait::Condition,
        () => Wait::Other,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DUMP: &str = r#"2026-11-30 01:50:16
Full thread dump OpenJDK 64-Bit Server VM (17.0.15+6-Debian-1deb12u1 mixed mode, sharing):

"main" #1 prio=5 os_prio=0 cpu=307.52ms elapsed=6.24s tid=0x00007f45c40183c0 nid=0x1b43 waiting on condition  [0x00007f45ca5fe000]
   java.lang.Thread.State: WAITING (parking)
	at jdk.internal.misc.Unsafe.park(java.base@17.0.15/Native Method)
	- parking to wait for  <0x000000069ecb1920> (a java.util.concurrent.CountDownLatch$Sync)
	at java.util.concurrent.locks.LockSupport.park(java.base@17.0.15/LockSupport.java:211)
	at W.main(W.java:31)

"Signal Dispatcher" #4 daemon prio=9 os_prio=0 cpu=0.37ms elapsed=6.21s tid=0x00007f45c41016f0 nid=0x1b4c waiting on condition  [0x0000000000000000]
   java.lang.Thread.State: RUNNABLE

"payer" #14 [7007] prio=5 os_prio=0 cpu=218.21ms elapsed=5.59s tid=0x00007f45c42cc220 nid=7007 runnable  [0x00007f4591bfd000]
   java.lang.Thread.State: RUNNABLE
	at sun.nio.ch.SocketDispatcher.read0(java.base@17.0.15/Native Method)
	at sun.nio.ch.NioSocketImpl.read(java.base@17.0.15/NioSocketImpl.java:355)
	- locked <0x000000069ea60020> (a java.io.BufferedInputStream)
	at W.pay(W.java:5)
	at W$$Lambda$65/0x00007f4544000c30.run(Unknown Source)

"wants nid=7 "lock"" #22 prio=5 os_prio=0 cpu=0.17ms elapsed=5.58s tid=0x00007f45c42d6cb0 nid=0x1b67 waiting on condition  [0x00007f45913fd000]
   java.lang.Thread.State: WAITING (parking)
	at jdk.internal.misc.Unsafe.park(java.base@17.0.15/Native Method)
	- parking to wait for  <0x000000069dc07d08> (a java.util.concurrent.locks.ReentrantLock$NonfairSync)
	at W.wants(W.java:19)

"monitor" #24 prio=5 os_prio=0 cpu=0.37ms elapsed=5.47s tid=0x00007f45c42d94c0 nid=0x1b6a waiting for monitor entry  [0x00007f45911fd000]
   java.lang.Thread.State: BLOCKED (on object monitor)
	at W.lambda$main$10(W.java:20)
	- waiting to lock <0x000000069dc00350> (a java.lang.Object)

"holds" #23 prio=5 os_prio=0 cpu=0.09ms elapsed=5.57s tid=0x00007f45c42d7eb0 nid=0x1b68 waiting on condition  [0x00007f45912fd000]
   java.lang.Thread.State: TIMED_WAITING (sleeping)
	at java.lang.Thread.sleep(java.base@17.0.15/Native Method)
	at W.lambda$main$9(W.java:20)

"spin" #34 prio=5 os_prio=0 cpu=2670.40ms elapsed=5.42s tid=0x00007f45c42e40b0 nid=0x1b76 runnable  [0x00007f45906fb000]
   java.lang.Thread.State: RUNNABLE
	at W.guilty(W.java:4)

"VM Thread" os_prio=0 cpu=3.51ms elapsed=6.22s tid=0x00007f45c40f4920 nid=0x1b49 runnable  

JNI global refs: 12, weak refs: 0
"#;

    fn threads(text: &str) -> Vec<JavaThread> {
        let mut all = Vec::new();
        let count = for_each_thread(text, &DumpLimits::default(), |thread| all.push(thread.clone())).unwrap();
        assert_eq!(count, all.len());
        all
    }

    #[test]
    fn each_thread_has_its_number_its_stack_and_what_it_does() {
        let all = threads(DUMP);
        let seen: Vec<(Option<i32>, Doing, &str, i64)> = all
            .iter()
            .map(|t| (t.tid, t.doing, t.stack.last().unwrap().name.as_str(), t.stack.last().unwrap().line))
            .collect();
        let waits = Doing::Waits;
        let wanted = [
            (Some(0x1b43), waits(Wait::Condition), "W.main", 31),
            (Some(7007), Doing::Native(Wait::Socket), "W$$Lambda.run", 0),
            (Some(0x1b67), waits(Wait::Lock), "W.wants", 19),
            (Some(0x1b6a), waits(Wait::Lock), "W.lambda$main$10", 20),
            (Some(0x1b68), waits(Wait::Sleep), "W.lambda$main$9", 20),
            (Some(0x1b76), Doing::Ready, "W.guilty", 4),
        ];
        assert_eq!(seen, wanted);
        let payer = all[1].frames();
        let rows: Vec<(&str, &str, i64)> = payer.iter().map(|f| (f.function, f.file, f.line)).collect();
        assert_eq!(rows[0], ("sun.nio.ch.SocketDispatcher.read0", "sun.nio.ch.SocketDispatcher", 0));
        assert_eq!(rows[2], ("W.pay", "W", 5));
    }

    #[test]
    fn native_methods_say_what_a_thread_waits_for() {
        let cases: [(&[&str], Doing); 13] = [
            (&["sun.nio.ch.EPoll.wait", "sun.nio.ch.SelectorImpl.select"], Doing::Native(Wait::Epoll)),
            (&["sun.nio.ch.Net.poll", "sun.nio.ch.NioSocketImpl.park"], Doing::Native(Wait::Socket)),
            (&["sun.nio.ch.Net.poll", "sun.nio.ch.NioSocketImpl.timedAccept"], Doing::Native(Wait::Accept)),
            (&["sun.nio.ch.Net.accept", "java.net.ServerSocket.accept"], Doing::Native(Wait::Accept)),
            (
                &["sun.nio.ch.Net.poll", "sun.nio.ch.NioSocketImpl.timedFinishConnect"],
                Doing::Native(Wait::Connect),
            ),
            (
                &["java.net.SocketInputStream.socketRead0", "java.net.SocketInputStream.read"],
                Doing::Native(Wait::Socket),
            ),
            (&["java.io.FileInputStream.readBytes"], Doing::Native(Wait::File)),
            (&["sun.nio.ch.UnixFileDispatcherImpl.pread0"], Doing::Native(Wait::File)),
            (&["java.lang.ProcessHandleImpl.waitForProcessExit0"], Doing::Native(Wait::Child)),
            (&["java.lang.ref.Reference.waitForReferencePendingList"], Doing::Native(Wait::Condition)),
            (&["com.acme.Native.compute"], Doing::Native(Wait::Other)),
            (&["java.lang.Thread.yield0"], Doing::Ready),
            (&["java.lang.Object.wait0"], Doing::Waits(Wait::Condition)),
        ];
        for (names, wanted) in cases {
            assert_eq!(of_native(names), wanted, "{names:?}");
        }
    }

    #[test]
    fn what_is_no_dump_or_too_large_is_refused() {
        let limits = DumpLimits { bytes: 4096, threads: 3, frames: 2 };
        let read = |text: &str| for_each_thread(text, &limits, |_| ());
        assert!(matches!(read("java.lang.OutOfMemoryError"), Err(ReadError::Damaged { .. })));
        assert!(matches!(read(&"x".repeat(5000)), Err(ReadError::TooLarge { what: "bytes", .. })));
        let thread = "\"t\" nid=1\n\tat A.b(A.java:1)\n\tat A.c(A.java:2)\n\tat A.d(A.java:3)\n";
        let many = format!("Full thread dump x\n{}", thread.repeat(5));
        assert!(matches!(read(&many), Err(ReadError::TooLarge { what: "threads", .. })));
        let one = format!("Full thread dump x\n{thread}");
        let mut depth = 0;
        for_each_thread(&one, &limits, |thread| depth = thread.stack.len()).unwrap();
        assert_eq!(depth, 2);
    }

    proptest! {
        #[test]
        fn damaged_dumps_are_read_to_an_end(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..20)
        ) {
            let mut text: Vec<char> = DUMP.chars().collect();
            for (at, char) in changes {
                let at = at.index(text.len());
                text[at] = char;
            }
            let text: String = text.into_iter().collect();
            let _refused = for_each_thread(&text, &DumpLimits::default(), |thread| {
                assert!(!thread.frames().is_empty());
            });
        }

        #[test]
        fn any_lines_are_read_to_an_end(lines in prop::collection::vec("[\"\tat (.):/0x-]{0,40}", 0..40)) {
            let text = format!("Full thread dump x\n{}", lines.join("\n"));
            let _refused = for_each_thread(&text, &DumpLimits::default(), |_| ());
        }
    }
}
