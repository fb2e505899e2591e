//! What does `/proc` say about a process? The only reader of these files, for the supervisor and the workers.
//!
//! The target controls what these files contain, so reads are bounded in bytes and lines, and the parsers are
//! pure functions over text that skip malformed lines. The `procfs` crate reads whole files, and rejects a
//! file for a single line.

mod cgroup;
mod container_cpu;
mod listeners;
mod maps;
mod stat;
mod status;
mod tree;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub use cgroup::container_id;
pub use container_cpu::container_cpu;
pub use listeners::{clients, is_listened_at, listeners, shares_network};
pub use maps::{Mapping, maps, parse_maps};
pub use stat::{
    SchedStat, Stat, age, has_exited, of_ticks, parse_schedstat, parse_stat, since_boot, start_ticks, stat,
    thread_age, thread_stat,
};
pub use status::{
    Owner, SignalSet, caught_signals, inner_tid, is_dumpable, may_become_others, may_trace_all, owner,
    parse_caught, parse_inner_id, parse_owner,
};
pub use tree::{ProcTree, Process};

/// Maximum number of threads listed per process.
const MAX_THREADS: usize = 4096;

/// Reads at most `max` bytes of a regular file and ignores the rest. Never blocks on a pipe.
pub fn read_bounded(path: impl AsRef<Path>, max: u64) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The threads of a process, at most 4096.
pub fn threads(pid: i32) -> io::Result<Vec<i32>> {
    let names = std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    Ok(names.filter_map(|e| e.file_name().to_str()?.parse().ok()).take(MAX_THREADS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_where_it_is_too_long() {
        assert_eq!(read_bounded("/proc/self/stat", 4).unwrap().len(), 4);
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("fleetprof-fifo-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let result = read_bounded(&path, 10);
        std::fs::remove_file(&path).unwrap();
        assert!(result.is_err());
    }

    #[test]
    fn this_process_has_not_exited() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let start = start_ticks(pid).unwrap();
        assert!(!has_exited(pid, start));
        let age = super::age(pid).unwrap();
        assert!(age < std::time::Duration::from_secs(3600) && super::age(i32::MAX).is_none(), "{age:?}");
        assert!(has_exited(pid, start + 1));
        assert!(maps(pid).unwrap().iter().any(|m| m.executable && m.file().is_some()));
        assert!(threads(pid).unwrap().contains(&pid));
    }
}
