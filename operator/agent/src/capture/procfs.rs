//! What does `/proc` say of a target? Bounded reads, and parsers that are pure functions over text.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes read of `/proc/PID/maps`: about 40,000 mappings.
const MAX_MAPS_BYTES: u64 = 4 * 1024 * 1024;
/// Most mappings that are looked at.
const MAX_MAPPINGS: usize = 65_536;
/// Most threads of a target that are looked at.
pub const MAX_THREADS: usize = 4096;

/// Reads at most `max` bytes of a file; what is longer is cut.
pub fn read_bounded(path: impl AsRef<Path>, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads at most 64 KiB of a text file.
fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read_bounded(path, 64 * 1024)?).into_owned())
}

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Whether code in it can run.
    pub executable: bool,
    /// Offset of the first address in the file.
    pub offset: u64,
    /// Inode of the file; 0 for memory without a file.
    pub inode: u64,
    /// Path as the target sees it, `[vdso]` and the like, or empty.
    pub path: String,
}

impl Mapping {
    /// The path, where the mapping is of a file that still has this name.
    pub fn file(&self) -> Option<&str> {
        let named = self.path.starts_with('/') && self.inode != 0;
        (named && !self.path.ends_with(" (deleted)")).then_some(self.path.as_str())
    }
}

/// The mappings in the text of `/proc/PID/maps`; lines that make no sense are left out.
pub fn parse_maps(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(parse_mapping).take(MAX_MAPPINGS).collect()
}

fn parse_mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || -> Option<&str> {
        let trimmed = rest.trim_start_matches(' ');
        let end = trimmed.find(' ').unwrap_or(trimmed.len());
        let (head, tail) = trimmed.split_at(end);
        rest = tail;
        (!head.is_empty()).then_some(head)
    };
    let (range, perms, offset, _device, inode) = (field()?, field()?, field()?, field()?, field()?);
    let (start, end) = range.split_once('-')?;
    let mapping = Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        executable: perms.as_bytes().get(2) == Some(&b'x'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        inode: inode.parse().ok()?,
        path: rest.trim_start_matches(' ').to_owned(),
    };
    (mapping.start < mapping.end).then_some(mapping)
}

/// The mappings of a process. Errors when the process is gone or may not be looked at.
pub fn maps(pid: i32) -> io::Result<Vec<Mapping>> {
    let bytes = read_bounded(format!("/proc/{pid}/maps"), MAX_MAPS_BYTES)?;
    Ok(parse_maps(&String::from_utf8_lossy(&bytes)))
}

/// The kernel's flag of a task that is being taken apart, as in its `include/linux/sched.h`.
const PF_EXITING: u64 = 4;

/// What is used of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R` runs or waits for a CPU, `S` sleeps, `D`, `T`, `Z` …
    pub state: u8,
    /// It has ended, or is about to: the kernel takes it apart, and lets nobody trace it any more.
    pub ending: bool,
    /// CPU time in user mode, in clock ticks.
    pub user_ticks: u64,
    /// CPU time in kernel mode, in clock ticks.
    pub system_ticks: u64,
    /// Threads of the process.
    pub threads: u64,
    /// Start time after boot, in clock ticks.
    pub start_ticks: u64,
}

/// Parses `/proc/PID/stat`; the command in it may hold blanks and parentheses.
pub fn parse_stat(text: &[u8]) -> Option<Stat> {
    let close = text.iter().rposition(|b| *b == b')')?;
    let tail = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    // The state is field 3 of the file and field 0 here.
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    let state = *fields.first()?.as_bytes().first()?;
    Some(Stat {
        state,
        ending: matches!(state, b'Z' | b'X' | b'x') || number(9)? & PF_EXITING != 0,
        user_ticks: number(14)?,
        system_ticks: number(15)?,
        threads: number(20)?,
        start_ticks: number(22)?,
    })
}

/// `/proc/PID/task/TID/stat` of a thread.
pub fn thread_stat(pid: i32, tid: i32) -> io::Result<Stat> {
    let bytes = read_bounded(format!("/proc/{pid}/task/{tid}/stat"), 4096)?;
    parse_stat(&bytes).ok_or_else(|| io::Error::other("the stat file makes no sense"))
}

/// `/proc/PID/stat` of a process.
pub fn stat(pid: i32) -> io::Result<Stat> {
    let bytes = read_bounded(format!("/proc/{pid}/stat"), 4096)?;
    parse_stat(&bytes).ok_or_else(|| io::Error::other("the stat file makes no sense"))
}

/// Start time of a process after boot, in clock ticks: with its pid it names a process for good.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    stat(pid).map(|s| s.start_ticks)
}

/// Whether the process runs no more. Its first thread may have ended while others live on.
pub fn has_exited(pid: i32, start_ticks: u64) -> bool {
    match stat(pid) {
        Err(_) => true,
        Ok(s) if s.start_ticks != start_ticks => true,
        Ok(s) => matches!(s.state, b'X' | b'x') || (s.state == b'Z' && s.threads <= 1),
    }
}

/// User and group of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// The effective user and group in the text of `/proc/PID/status`.
pub fn parse_owner(status: &str) -> Option<Owner> {
    let effective = |key: &str| {
        status.lines().find_map(|l| l.strip_prefix(key))?.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some(Owner { uid: effective("Uid:")?, gid: effective("Gid:")? })
}

/// The effective user and group of a process.
pub fn owner(pid: i32) -> io::Result<Owner> {
    let text = read_text(format!("/proc/{pid}/status"))?;
    parse_owner(&text).ok_or_else(|| io::Error::other("the status file makes no sense"))
}

/// The innermost id in the `NSpid` line of a status file: the id that the task itself sees.
pub fn parse_inner_id(status: &str) -> Option<i32> {
    status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.split_ascii_whitespace().last()?.parse().ok()
}

/// The id that a thread of the target itself sees.
pub fn inner_tid(pid: i32, tid: i32) -> Option<i32> {
    parse_inner_id(&read_text(format!("/proc/{pid}/task/{tid}/status")).ok()?)
}

/// The threads of a process, at most [`MAX_THREADS`].
pub fn threads(pid: i32) -> io::Result<Vec<i32>> {
    let names = std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    Ok(names.filter_map(|e| e.file_name().to_str()?.parse().ok()).take(MAX_THREADS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_with_and_without_files() {
        let text = "55d0c0000000-55d0c0001000 r-xp 00002000 fd:01 42                         /app/my server\n\
                    7f00-8000 rw-p 00000000 00:00 0 \n\
                    7ffd000-7ffe000 r-xp 00000000 00:00 0                          [vdso]\n\
                    1000-2000 r-xp 00000000 fd:01 7 /lib/old.so (deleted)\n\
                    nonsense\n\
                    9-1 r-xp 0 0:0 0\n";
        let maps = parse_maps(text);
        assert_eq!(maps.len(), 4);
        assert_eq!(
            (maps[0].file(), maps[0].executable, maps[0].offset),
            (Some("/app/my server"), true, 0x2000)
        );
        assert_eq!((maps[1].file(), maps[1].executable, maps[1].path.as_str()), (None, false, ""));
        assert_eq!(maps[2].path, "[vdso]");
        assert_eq!(maps[3].file(), None);
    }

    #[test]
    fn a_hostile_command_does_not_shift_fields() {
        let stat = b"7 (a) R 1 (b) ) S 1 7 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 3 0 5555 1000 1";
        assert_eq!(
            parse_stat(stat),
            Some(Stat {
                state: b'S',
                ending: false,
                user_ticks: 30,
                system_ticks: 12,
                threads: 3,
                start_ticks: 5555
            })
        );
        for (text, ending) in [
            ("S 1 7 7 0 -1 4194308", true),
            ("Z 1 7 7 0 -1 4194304", true),
            ("R 1 7 7 0 -1 1077936128", false),
        ] {
            let text = format!("7 (a) {text} 1 0 0 0 30 12 0 0 20 0 3 0 5555 1000 1");
            assert_eq!(parse_stat(text.as_bytes()).unwrap().ending, ending, "{text}");
        }
        assert_eq!(parse_stat(b"7 no command"), None);
        assert_eq!(parse_stat(b"7 (x) R 1"), None);
    }

    #[test]
    fn status_gives_effective_ids_and_the_inner_pid() {
        let status = "Name:\tx\nUid:\t1000\t1001\t1000\t1000\nGid:\t5\t6\t5\t5\nNSpid:\t4711\t12\t1\n";
        assert_eq!(parse_owner(status), Some(Owner { uid: 1001, gid: 6 }));
        assert_eq!(parse_inner_id(status), Some(1));
        assert_eq!(parse_owner("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_not_exited() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let start = start_ticks(pid).unwrap();
        assert!(!has_exited(pid, start));
        assert!(has_exited(pid, start + 1));
        assert!(maps(pid).unwrap().iter().any(|m| m.executable && m.file().is_some()));
        assert!(threads(pid).unwrap().contains(&pid));
    }
}
