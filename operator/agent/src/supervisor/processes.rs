//! Which processes does the agent see? Bounded reads of `/proc`, and parsers that are pure functions over
//! text.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::cgroup;

/// Most processes that are looked at, in the order of their pids.
const MAX_PROCESSES: usize = 4096;
/// Most bytes of a stat file: the command in it has at most 64.
const MAX_STAT_BYTES: u64 = 4096;
/// Most bytes of a cgroup file.
const MAX_CGROUP_BYTES: u64 = 16 * 1024;

/// A process, as `/proc` tells of it.
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

    /// Every visible process; those that end meanwhile are left out. Errors when the tree itself cannot be
    /// read.
    pub fn processes(&self) -> io::Result<Vec<Process>> {
        let pids =
            std::fs::read_dir(&self.root)?.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
        let mut all: Vec<Process> = pids.take(MAX_PROCESSES).filter_map(|pid| self.process(pid)).collect();
        all.sort_unstable_by_key(|p| p.pid);
        Ok(all)
    }

    /// One process; `None` when it is not there.
    #[must_use]
    pub fn process(&self, pid: i32) -> Option<Process> {
        let stat = read_bounded(&self.path(pid, "stat"), MAX_STAT_BYTES).ok()?;
        let cgroup = read_bounded(&self.path(pid, "cgroup"), MAX_CGROUP_BYTES).ok()?;
        let container = cgroup::container_id(&String::from_utf8_lossy(&cgroup)).map(str::to_owned);
        parse_stat(pid, &stat).map(|p| Process { container, ..p })
    }

    /// The effective user of a process; `None` when it is not there.
    #[must_use]
    pub fn owner(&self, pid: i32) -> Option<(u32, u32)> {
        let status = read_bounded(&self.path(pid, "status"), MAX_CGROUP_BYTES).ok()?;
        let owner = crate::capture::procfs::parse_owner(&String::from_utf8_lossy(&status))?;
        Some((owner.uid, owner.gid))
    }
}

/// Reads at most `max` bytes of a regular file; what is longer is cut. Never waits for the other end of a
/// pipe.
pub(super) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses `/proc/PID/stat`; the command in it may hold blanks and parentheses.
fn parse_stat(pid: i32, text: &[u8]) -> Option<Process> {
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    let command = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let tail = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    // The state is field 3 of the file and field 0 here.
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    Some(Process {
        pid,
        parent: i32::try_from(number(4)?).ok()?,
        command,
        state: *fields.first()?.as_bytes().first()?,
        cpu_ticks: number(14)?.saturating_add(number(15)?),
        start_ticks: number(22)?,
        container: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_does_not_shift_fields() {
        let stat = b"7 (a) R 1 (b) ) S 3 7 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 3 0 5555 1000 1";
        let p = parse_stat(7, stat).unwrap();
        assert_eq!((p.parent, p.command.as_str(), p.state), (3, "a) R 1 (b) ", b'S'));
        assert_eq!((p.cpu_ticks, p.start_ticks), (42, 5555));
        for bad in [
            &b"7 no command"[..],
            b"7 (x) R 1",
            b")(",
            b"",
            b"7 (x) S -1 7 7 0 -1 4 1 0 0 0 30 12 0 0 20 0 3 0 5 1",
        ] {
            assert_eq!(parse_stat(7, bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn this_process_sees_itself() {
        let me = i32::try_from(std::process::id()).unwrap();
        let tree = ProcTree::new("/proc");
        let all = tree.processes().unwrap();
        let found = all.iter().find(|p| p.pid == me).unwrap();
        assert!(found.is_alive() && found.start_ticks > 0);
        assert_eq!(tree.owner(me).unwrap().0, nix::unistd::geteuid().as_raw());
        assert_eq!(tree.process(i32::MAX), None);
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("fleetprof-fifo-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let result = read_bounded(&path, 10);
        std::fs::remove_file(&path).unwrap();
        assert!(result.is_err());
    }
}
