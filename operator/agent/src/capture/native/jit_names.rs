//! What is the name of code that a runtime made while it ran? Some write it to `/tmp/perf-PID.map` when they
//! are asked to; .NET tells the agent.
//!
//! Node.js does with `--perf-basic-prof`, .NET with `DOTNET_PerfMapEnabled=1`, Python 3.12 with `-X perf`,
//! Erlang with `+JPperf true`.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use fleetprof_profile::read::nettrace::Place;

use super::elf::open_below_root;
use crate::proc;

/// Most bytes of a file that are read.
const MAX_BYTES: u64 = 32 << 20;
/// Most functions that are kept.
const MAX_FUNCTIONS: usize = 300_000;
/// Most bytes of a name that are kept.
const MAX_NAME: usize = 512;

/// A function that a runtime made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    start: u64,
    end: u64,
    name: Arc<str>,
}

/// The methods that a runtime tells; there are more all the time.
pub trait TellsMethods: Send + Sync {
    /// The method at an address, and the line where that is known. The address of a caller is one before that to
    /// which is returned.
    fn method(&self, address: u64) -> Option<Place>;
}

/// The same for all who ask.
pub type SharedMethods = Arc<dyn TellsMethods>;

/// What is known of the code that the runtime of a process made.
#[derive(Clone)]
pub struct Compiled {
    /// Its methods, where it tells them. Precompiled ones are among them, whose files have no symbols.
    pub methods: Option<SharedMethods>,
    /// What to do where code has no name, as a part of a sentence; `None` where the runtime says enough.
    pub advice: Option<&'static str>,
}

/// The functions in the map of one process.
pub struct JitNames {
    compiled: Compiled,
    functions: Vec<Function>,
    /// Length of the file when it was read: it only grows.
    length: u64,
}

impl JitNames {
    /// No functions but those that the runtime tells.
    pub const fn new(compiled: Compiled) -> Self {
        Self { compiled, functions: Vec::new(), length: 0 }
    }

    /// What to do where code has no name, as a part of a sentence, if more than the runtime is known.
    pub const fn advice(&self) -> Option<&'static str> {
        self.compiled.advice
    }

    /// The method at an address, where the runtime has told it.
    pub fn told(&self, address: u64) -> Option<Place> {
        self.compiled.methods.as_ref()?.method(address)
    }

    /// Reads the file again where it has grown; most processes have none.
    pub fn refresh(&mut self, pid: i32) {
        let Some(inner) = proc::inner_tid(pid, pid) else { return };
        let Ok(file) = open_below_root(pid, &format!("/tmp/perf-{inner}.map")) else { return };
        let Ok(meta) = file.metadata() else { return };
        if !meta.is_file() || meta.size() == self.length {
            return;
        }
        let mut bytes = Vec::new();
        if file.take(MAX_BYTES).read_to_end(&mut bytes).is_ok() {
            self.length = meta.size();
            self.functions = parse(&String::from_utf8_lossy(&bytes));
        }
    }

    /// The name of the function at an address.
    pub fn find(&self, address: u64) -> Option<Arc<str>> {
        self.told(address).map(|place| place.name).or_else(|| self.find_in_map(address))
    }

    fn find_in_map(&self, address: u64) -> Option<Arc<str>> {
        let after = self.functions.partition_point(|f| f.start <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        (address < function.end).then(|| Arc::clone(&function.name))
    }
}

/// Lines of start and size in hex, and a name. Of two functions at one place the later one is right.
fn parse(text: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = text.lines().filter_map(parse_line).take(MAX_FUNCTIONS).collect();
    functions.reverse();
    functions.sort_by_key(|f| f.start);
    functions.dedup_by_key(|f| f.start);
    functions
}

fn parse_line(line: &str) -> Option<Function> {
    let mut fields = line.splitn(3, ' ');
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (start, size) = (number(fields.next()?)?, number(fields.next()?)?);
    let name: String = fields.next()?.trim_end_matches('\0').chars().take(MAX_NAME).collect();
    (!name.is_empty()).then(|| Function { start, end: start.saturating_add(size), name: name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One method.
    struct Told(std::ops::Range<u64>, &'static str);

    impl TellsMethods for Told {
        fn method(&self, address: u64) -> Option<Place> {
            self.0.contains(&address).then(|| Place::named(self.1.into()))
        }
    }

    #[test]
    fn the_latest_function_at_an_address_is_found() {
        let text = "1000 20 LazyCompile:~old app.js:1\n0x2000 10 Builtin: Call\0\n1000 30 LazyCompile:*hot \
                    app.js:7\nnonsense\n3000 zz x\n4000 1\n";
        let compiled = Compiled { methods: None, advice: None };
        let names = JitNames { functions: parse(text), ..JitNames::new(compiled) };
        assert_eq!(names.find(0x1000).as_deref(), Some("LazyCompile:*hot app.js:7"));
        assert_eq!(names.find(0x102f).as_deref(), Some("LazyCompile:*hot app.js:7"));
        assert_eq!(names.find(0x2005).as_deref(), Some("Builtin: Call"));
        assert_eq!(
            (names.find(0xfff), names.find(0x1030), names.find(0x3000), names.find(u64::MAX)),
            (None, None, None, None)
        );
    }

    #[test]
    fn what_the_runtime_tells_comes_before_the_map() {
        let methods = Arc::new(Told(0x1000..0x1010, "Shop.Orders.Price"));
        let compiled = Compiled { methods: Some(methods), advice: None };
        let names = JitNames { functions: parse("1000 20 old"), ..JitNames::new(compiled) };
        assert_eq!(names.find(0x100f).as_deref(), Some("Shop.Orders.Price"));
        assert_eq!((names.find(0x1010).as_deref(), names.told(0x1010)), (Some("old"), None));
    }
}
