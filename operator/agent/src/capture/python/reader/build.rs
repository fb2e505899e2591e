//! Is an interpreter one without the global lock? Its threads run at the same time, its objects have other
//! heads, and each thread may run a copy of the code of its own.

use super::codes::word_at;
use super::layout::COOKIE;
use super::sections;
use crate::capture::native::open_below_root;
use crate::proc::{self, Mapping};

/// The section that begins with the table of offsets.
const SECTION: &[u8] = b".PyRuntime\0";
/// Bytes of the table up to the word that says it.
const TABLE: usize = 3 * 8;
/// Most files that are looked at.
const MAX_FILES: usize = 8;

/// Whether a process runs a build of CPython without the global lock, 3.13t or 3.14t, as the file of the
/// interpreter says.
pub fn is_free_threaded(pid: i32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let is_candidate = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with("libpython3") || program.as_os_str() == *path
    };
    let maps = proc::maps(pid).unwrap_or_default();
    let mut paths: Vec<&str> = maps.iter().filter_map(Mapping::file).filter(is_candidate).collect();
    paths.dedup();
    let table = |path: &str| sections::beginning::<TABLE>(&open_below_root(pid, path).ok()?, SECTION).ok();
    paths.into_iter().take(MAX_FILES).filter_map(table).any(|table| says_so(&table))
}

fn says_so(table: &[u8]) -> bool {
    table.starts_with(COOKIE) && word_at(table, 16) == Some(1)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn table(free_threaded: u64) -> Vec<u8> {
        [COOKIE.as_slice(), &0x030e_06f0_u64.to_ne_bytes(), &free_threaded.to_ne_bytes()].concat()
    }

    /// Has this process map a library that holds an interpreter.
    #[allow(unsafe_code)]
    fn map(name: &str, bytes: &[u8]) -> (std::path::PathBuf, memmap2::Mmap) {
        let folder = std::env::temp_dir().join(format!("fleetprof-build-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, sections::elf(SECTION, bytes)).unwrap();
        // SAFETY: nobody else writes to the file.
        let map = unsafe { memmap2::Mmap::map(&File::open(&path).unwrap()).unwrap() };
        (folder, map)
    }

    #[test]
    fn a_build_without_the_global_lock_is_told_by_its_file() {
        let me = std::process::id().cast_signed();
        let (folder, with) = map("libpython3.14.so.1.0", &table(0));
        assert!(!is_free_threaded(me));
        let (_, without) = map("libpython3.14t.so.1.0", &table(1));
        assert!(is_free_threaded(me));
        drop((with, without));
        assert!(!is_free_threaded(me), "it is mapped no more");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn other_tables_say_nothing() {
        let mut other = table(1);
        other[0] = b'y';
        assert!(says_so(&table(1)) && !says_so(&other) && !says_so(&table(2)) && !says_so(&table(1)[..20]));
    }
}
