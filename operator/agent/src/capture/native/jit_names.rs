//! What is the name of code that a runtime made while it ran? Some write it to `/tmp/perf-PID.map` when they
//! are asked to.
//!
//! Node.js does with `--perf-basic-prof`, .NET with `DOTNET_PerfMapEnabled=1`, Python 3.12 with `-X perf`,
//! Erlang with `+JPperf true`.

use std::io::Read;
use std::os::unix::fs::MetadataExt;

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
    name: Box<str>,
}

/// The functions in the map of one process.
#[derive(Default)]
pub struct JitNames {
    functions: Vec<Function>,
    /// Length of the file when it was read: it only grows.
    length: u64,
}

impl JitNames {
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
    pub fn find(&self, address: u64) -> Option<&str> {
        let after = self.functions.partition_point(|f| f.start <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        (address < function.end).then_some(&*function.name)
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

    #[test]
    fn the_latest_function_at_an_address_is_found() {
        let text = "1000 20 LazyCompile:~old app.js:1\n0x2000 10 Builtin: Call\0\n1000 30 LazyCompile:*hot \
                    app.js:7\nnonsense\n3000 zz x\n4000 1\n";
        let names = JitNames { functions: parse(text), length: 0 };
        assert_eq!(names.find(0x1000), Some("LazyCompile:*hot app.js:7"));
        assert_eq!(names.find(0x102f), Some("LazyCompile:*hot app.js:7"));
        assert_eq!(names.find(0x2005), Some("Builtin: Call"));
        assert_eq!(
            (names.find(0xfff), names.find(0x1030), names.find(0x3000), names.find(u64::MAX)),
            (None, None, None, None)
        );
    }
}
