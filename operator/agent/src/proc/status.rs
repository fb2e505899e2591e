//! Who owns a process, and which ids does it see itself, as `/proc/PID/status` tells?

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::read_bounded;

/// Most bytes of a status file: a process in many groups has a long line of them.
const MAX_BYTES: u64 = 64 * 1024;

/// Numbers of the capabilities to become another user and group, and to trace any process, from
/// `include/uapi/linux/capability.h`.
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SYS_PTRACE: u32 = 19;

/// The text of a status file.
fn read(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read_bounded(path, MAX_BYTES)?).into_owned())
}

/// User and group of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    owner_in(format!("/proc/{pid}/status"))
}

/// The effective user and group in a status file.
pub(super) fn owner_in(path: impl AsRef<Path>) -> io::Result<Owner> {
    parse_owner(&read(path)?).ok_or_else(|| io::Error::other("malformed status file"))
}

/// Whether the kernel lets other processes of its user look at a process, see [`super::ProcTree`].
pub fn is_dumpable(pid: i32) -> Option<bool> {
    super::ProcTree::new("/proc").is_dumpable(pid)
}

/// Whether this process may look at any process whatever its user: it has `CAP_SYS_PTRACE`.
pub fn may_trace_all() -> bool {
    read("/proc/self/status").is_ok_and(|status| holds(&status, CAP_SYS_PTRACE))
}

/// Whether this process may become any user: it has `CAP_SETUID` and `CAP_SETGID`.
pub fn may_become_others() -> bool {
    let all = |status: String| [CAP_SETUID, CAP_SETGID].into_iter().all(|number| holds(&status, number));
    read("/proc/self/status").is_ok_and(all)
}

/// Whether a capability is in the effective set of a status file.
fn holds(status: &str, capability: u32) -> bool {
    let set = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set >> capability & 1 == 1)
}

/// A set of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    /// Whether a signal, by its number from 1, is in the set.
    #[must_use]
    pub fn holds(self, signal: i32) -> bool {
        let bit =
            u32::try_from(signal).ok().and_then(|n| n.checked_sub(1)).and_then(|n| 1_u64.checked_shl(n));
        bit.is_some_and(|bit| self.0 & bit != 0)
    }
}

/// The signals that a process handles, in the text of its status file. Any other may end it.
pub fn parse_caught(status: &str) -> Option<SignalSet> {
    let set = status.lines().find_map(|l| l.strip_prefix("SigCgt:"))?;
    u64::from_str_radix(set.trim(), 16).ok().map(SignalSet)
}

/// The signals that a process handles.
pub fn caught_signals(pid: i32) -> Option<SignalSet> {
    parse_caught(&read(format!("/proc/{pid}/status")).ok()?)
}

/// The innermost id in the `NSpid` line of a status file: the id that the task itself sees.
pub fn parse_inner_id(status: &str) -> Option<i32> {
    status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.split_ascii_whitespace().last()?.parse().ok()
}

/// The id that a thread of the target itself sees.
pub fn inner_tid(pid: i32, tid: i32) -> Option<i32> {
    parse_inner_id(&read(format!("/proc/{pid}/task/{tid}/status")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_bits() {
        assert!(holds("CapPrm:\t0\nCapEff:\t0000000000080000\n", CAP_SYS_PTRACE));
        assert!(!holds("CapEff:\t00000000a80425fb\n", CAP_SYS_PTRACE));
        assert!(!holds("CapPrm:\tffffffffffffffff\n", CAP_SYS_PTRACE));
        for default in [CAP_SETGID, CAP_SETUID] {
            assert!(holds("CapEff:\t00000000a80425fb\n", default) && !holds("CapEff:\t0\n", default));
        }
    }

    #[test]
    fn caught_signals_are_bits_from_one() {
        let set = parse_caught("SigIgn:\tffffffffffffffff\nSigCgt:\t8000000000000202\n").unwrap();
        let held: Vec<i32> = (-1..=66).filter(|n| set.holds(*n)).collect();
        assert_eq!(held, [2, 10, 64]);
        assert_eq!((parse_caught("SigCgt:\tx\n"), parse_caught("")), (None, None));
        assert!(caught_signals(i32::MAX).is_none());
    }

    #[test]
    fn status_gives_effective_ids_and_the_inner_pid() {
        let status = "Name:\tx\nUid:\t1000\t1001\t1000\t1000\nGid:\t5\t6\t5\t5\nNSpid:\t4711\t12\t1\n";
        assert_eq!(parse_owner(status), Some(Owner { uid: 1001, gid: 6 }));
        assert_eq!(parse_inner_id(status), Some(1));
        assert_eq!(parse_owner("Name:\tx\n"), None);
    }
}
