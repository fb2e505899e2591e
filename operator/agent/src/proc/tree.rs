//! Which processes are there, and what is each?

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Owner, cgroup, parse_stat, read_bounded, stat, status};

/// Most processes that are listed: the pid limit of a node of 32 cores by default. Those of a pod are fewer.
const MAX_PROCESSES: usize = 32_768;
/// Most bytes of a cgroup file.
const MAX_CGROUP_BYTES: u64 = 16 * 1024;

/// A process, as `/proc` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid, as the agent sees it.
    pub pid: i32,
    /// Its parent's pid; 0 where the agent does not see the parent.
    pub parent: i32,
    /// Its command, at most 15 bytes (64 for kernel threads).
    pub command: String,
    /// `R`, `S`, `Z` …
    pub state: u8,
    /// CPU time in user and kernel mode, in clock ticks.
    pub cpu_ticks: u64,
    /// Start time after boot, in clock ticks: with the pid it names a process for good.
    pub start_ticks: u64,
    /// The container it runs in, where that can be told.
    pub container: Option<String>,
}

impl Process {
    /// Whether it runs code; a zombie has ended and only waits for its parent.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Reads `/proc`, or a tree in its form.
#[derive(Clone, Debug)]
pub struct ProcTree {
    root: PathBuf,
}

impl ProcTree {
    /// The tree at `root`, `/proc` in a running agent.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path of a file of a process.
    #[must_use]
    pub fn path(&self, pid: i32, file: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(file)
    }

    /// A file of the tree that belongs to no process.
    #[must_use]
    pub fn global(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// The pid of every visible process, in no order. Errors when the tree itself cannot be read.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let names = std::fs::read_dir(&self.root)?.flatten();
        Ok(names.filter_map(|e| e.file_name().to_str()?.parse().ok()).take(MAX_PROCESSES).collect())
    }

    /// Every visible process; those that end meanwhile are left out. Errors when the tree itself cannot be
    /// read.
    pub fn processes(&self) -> io::Result<Vec<Process>> {
        let mut all: Vec<Process> = self.pids()?.into_iter().filter_map(|pid| self.process(pid)).collect();
        all.sort_unstable_by_key(|p| p.pid);
        Ok(all)
    }

    /// One process; `None` when it is not there.
    #[must_use]
    pub fn process(&self, pid: i32) -> Option<Process> {
        let text = stat::read(self.path(pid, "stat")).ok()?;
        let stat = parse_stat(&text)?;
        Some(Process {
            pid,
            parent: stat.parent,
            command: stat::parse_command(&text)?,
            state: stat.state,
            cpu_ticks: stat.user_ticks.saturating_add(stat.system_ticks),
            start_ticks: stat.start_ticks,
            container: cgroup::container_id(&self.cgroup(pid).ok()?).map(str::to_owned),
        })
    }

    /// The text of the cgroup file of a process.
    pub fn cgroup(&self, pid: i32) -> io::Result<String> {
        let bytes = read_bounded(self.path(pid, "cgroup"), MAX_CGROUP_BYTES)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The effective user and group of a process; `None` when it is not there.
    #[must_use]
    pub fn owner(&self, pid: i32) -> Option<Owner> {
        status::owner_in(self.path(pid, "status")).ok()
    }

    /// Whether the kernel lets other processes of its user look at a process; `None` when it is not there.
    /// One that gave up the rights of another user is not dumpable: then its files belong to root. Of root's
    /// own processes nothing can be told, and they count as dumpable.
    #[must_use]
    pub fn is_dumpable(&self, pid: i32) -> Option<bool> {
        let uid = self.owner(pid)?.uid;
        let files = std::fs::metadata(self.path(pid, "stat")).ok()?.uid();
        Some(uid == 0 || files != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_sees_itself() {
        let me = i32::try_from(std::process::id()).unwrap();
        let tree = ProcTree::new("/proc");
        let all = tree.processes().unwrap();
        let found = all.iter().find(|p| p.pid == me).unwrap();
        assert!(found.is_alive() && found.start_ticks > 0);
        assert_eq!(tree.owner(me).unwrap().uid, nix::unistd::geteuid().as_raw());
        assert_eq!(tree.process(i32::MAX), None);
    }
}
