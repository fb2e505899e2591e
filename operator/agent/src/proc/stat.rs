//! Does a process run, since when, and on how much CPU time, as `/proc/PID/stat` tells?

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::read_bounded;

/// Most bytes of a stat file: the command in it has at most 64.
const MAX_BYTES: u64 = 4096;

/// The kernel's flag of an exiting task, from `include/linux/sched.h`.
const PF_EXITING: u64 = 4;

/// What is used of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Pid of the parent; 0 where the reader does not see the parent.
    pub parent: i32,
    /// `R` runs or waits for a CPU, `S` sleeps, `D`, `T`, `Z` …
    pub state: u8,
    /// It has ended or is exiting: the kernel no longer lets anyone trace it.
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

/// Clock ticks in a second: `USER_HZ` is 100 on every architecture that the agent is built for.
const TICKS: u64 = 100;

/// How long ago a process started; `None` where that cannot be known.
pub fn age(pid: i32) -> Option<Duration> {
    thread_age(pid, pid)
}

/// How long ago a thread started; `None` where that cannot be known.
pub fn thread_age(pid: i32, tid: i32) -> Option<Duration> {
    Some(since_boot()?.saturating_sub(of_ticks(thread_stat(pid, tid).ok()?.start_ticks)))
}

/// Time since the machine started, by which start times are told.
#[must_use]
pub fn since_boot() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}

/// So many clock ticks.
#[must_use]
pub const fn of_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS))
}

/// What the scheduler counted of a thread, as in a `schedstat` file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedStat {
    /// Time on a CPU, in nanoseconds.
    pub ran: u64,
    /// Time in which it waited for a CPU, in nanoseconds; counted when it is given one.
    pub delayed: u64,
    /// How often it was given a CPU; 0 where the kernel does not count.
    pub times: u64,
}

/// Parses `/proc/PID/task/TID/schedstat`: three numbers.
pub fn parse_schedstat(text: &[u8]) -> Option<SchedStat> {
    let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some(SchedStat { ran: next()?, delayed: next()?, times: next()? })
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
        parent: i32::try_from(number(4)?).ok()?,
        state,
        ending: matches!(state, b'Z' | b'X' | b'x') || number(9)? & PF_EXITING != 0,
        user_ticks: number(14)?,
        system_ticks: number(15)?,
        threads: number(20)?,
        start_ticks: number(22)?,
    })
}

/// The command in the text of `/proc/PID/stat`.
pub(super) fn parse_command(text: &[u8]) -> Option<String> {
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    Some(String::from_utf8_lossy(text.get(open + 1..close)?).into_owned())
}

/// The bytes of a stat file.
pub(super) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_bounded(path, MAX_BYTES)
}

/// `/proc/PID/task/TID/stat` of a thread.
pub fn thread_stat(pid: i32, tid: i32) -> io::Result<Stat> {
    parsed(&read(format!("/proc/{pid}/task/{tid}/stat"))?)
}

/// `/proc/PID/stat` of a process.
pub fn stat(pid: i32) -> io::Result<Stat> {
    parsed(&read(format!("/proc/{pid}/stat"))?)
}

fn parsed(text: &[u8]) -> io::Result<Stat> {
    parse_stat(text).ok_or_else(|| io::Error::other("malformed stat file"))
}

/// Start time of a process after boot, in clock ticks: with its pid it names a process for good.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    stat(pid).map(|s| s.start_ticks)
}

/// Whether the process has exited. Its first thread may have ended while others still run.
pub fn has_exited(pid: i32, start_ticks: u64) -> bool {
    match stat(pid) {
        Err(_) => true,
        Ok(s) if s.start_ticks != start_ticks => true,
        Ok(s) => matches!(s.state, b'X' | b'x') || (s.state == b'Z' && s.threads <= 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_does_not_shift_fields() {
        let stat = b"7 (a) R 1 (b) ) S 1 7 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 3 0 5555 1000 1";
        assert_eq!(
            parse_stat(stat),
            Some(Stat {
                parent: 1,
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
        assert_eq!(parse_command(stat).as_deref(), Some("a) R 1 (b) "));
        for bad in [
            &b"7 no command"[..],
            b"7 (x) R 1",
            b")(",
            b"",
            b"7 (x) S -1 7 7 0 -1 4 1 0 0 0 30 12 0 0 20 0 3 0 5 1",
        ] {
            assert_eq!(parse_stat(bad), None, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(parse_command(b")("), None);
    }

    #[test]
    fn the_scheduler_counts_three_numbers() {
        assert_eq!(parse_schedstat(b"87193 12 3\n"), Some(SchedStat { ran: 87_193, delayed: 12, times: 3 }));
        for bad in [&b"1 2"[..], b"", b"1 x 3", b"-1 2 3", b"\xff"] {
            assert_eq!(parse_schedstat(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
