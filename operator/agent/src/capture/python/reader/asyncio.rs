//! Where do the tasks of asyncio lie? From 3.14 on its module says so, in a table in a section of its file.
//!
//! The table holds constants, so that it is read of the file: of `_asyncio`, where that is a file of its own,
//! or of the one that holds the interpreter.

use super::codes::word_at;
use super::sections;
use crate::capture::native::open_below_root;
use crate::proc::{self, Mapping};

/// The section with the table.
const SECTION: &[u8] = b".AsyncioDebug\0";
/// Bytes of the table.
const TABLE: usize = 13 * 8;
/// How the file of the module begins, where it has one of its own.
const MODULE: &str = "_asyncio.";
/// A task has fewer bytes, and offsets in interpreters and threads are smaller.
const MAX_TASK: usize = 4096;
const MAX_OFFSET: u64 = 4 << 20;

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskFields {
    /// Bytes of a task that hold all of its fields.
    pub size: usize,
    /// Of a task: its name.
    pub name: usize,
    /// Of a task: the coroutine that it runs.
    pub coroutine: usize,
    /// Of a task: its place in the list of tasks, the addresses of the next and the last one's.
    pub node: usize,
    /// Of an interpreter: the list of tasks of threads that have ended.
    pub of_interpreter: u64,
    /// Of a thread: the list of its tasks.
    pub of_thread: u64,
}

impl TaskFields {
    /// Those of a process whose interpreter has its runtime at an address; `None` where it has not loaded
    /// asyncio, or its table cannot be read.
    pub fn find(pid: i32, runtime: u64) -> Option<Self> {
        let maps = proc::maps(pid).ok()?;
        let module = maps.iter().find(|map| is_module(map));
        let holder = maps.iter().find(|map| (map.start..map.end).contains(&runtime));
        let paths = [module, holder].into_iter().flatten().filter_map(Mapping::file);
        let table = |path| sections::beginning::<TABLE>(&open_below_root(pid, path).ok()?, SECTION).ok();
        paths.filter_map(table).find_map(|table| Self::told(&table))
    }

    /// What a table says, as far as it can be.
    fn told(table: &[u8]) -> Option<Self> {
        let word = |n: usize| word_at(table, n * 8).filter(|value| *value < MAX_OFFSET);
        let field = |n: usize| usize::try_from(word(n)?).ok();
        let fields = Self {
            size: field(0)?,
            name: field(1)?,
            coroutine: field(5)?,
            node: field(6)?,
            of_interpreter: word(8)?,
            of_thread: word(12)?,
        };
        let fits = |at: usize, len: usize| at + len <= fields.size;
        let is_plausible = fields.size <= MAX_TASK
            && fits(fields.name, 8)
            && fits(fields.coroutine, 8)
            && fits(fields.node, 16)
            && fields.of_thread > 0;
        is_plausible.then_some(fields)
    }
}

fn is_module(map: &Mapping) -> bool {
    let name = map.path.rsplit('/').next().unwrap_or_default();
    name.starts_with(MODULE) && name.ends_with(".so")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of a table as CPython 3.14 has it on x86-64.
    const NUMBERS: [u64; 13] = [168, 136, 96, 108, 109, 128, 152, 225_864, 10_880, 936, 864, 872, 880];

    fn bytes(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
    }

    #[test]
    fn a_table_tells_where_tasks_are() {
        let fields = TaskFields::told(&bytes(&NUMBERS)).unwrap();
        assert_eq!((fields.size, fields.name, fields.coroutine, fields.node), (168, 136, 128, 152));
        assert_eq!((fields.of_interpreter, fields.of_thread), (10_880, 880));
    }

    #[test]
    fn tables_that_hold_nonsense_are_refused() {
        assert_eq!(TaskFields::told(&[]), None);
        for n in [0, 1, 5, 6, 8, 12] {
            let mut numbers = NUMBERS;
            numbers[n] = u64::MAX;
            assert_eq!(TaskFields::told(&bytes(&numbers)), None, "{n}");
        }
        assert_eq!(TaskFields::told(&bytes(&[0; 13])), None);
    }
}
