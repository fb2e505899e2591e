//! How much CPU and memory does a container use, of what it may? Its own cgroup's figures, and percentages of
//! them.
//!
//! Memory is the working set as the kubelet counts it: usage less the file cache that can be dropped. Without
//! a limit of its own a container is measured against the node.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::proc::read_bounded;

/// Most bytes of a cgroup file: `memory.stat` has about 2 KiB.
pub(super) const MAX_FILE_BYTES: u64 = 16 * 1024;
/// A v1 memory limit from here on means none: the kernel says the largest multiple of a page in an `i64`.
const NO_LIMIT_V1: u64 = 1 << 60;

/// The figures of a container's cgroup at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// CPU time used since the container's start, nanoseconds.
    pub cpu_nanos: u64,
    /// CPU limit in thousandths of a core; `None` without one.
    pub cpu_limit_millis: Option<u64>,
    /// Periods of the CPU limit in which it wanted to run, and how many of them it was throttled in; `None` without a
    /// limit.
    #[serde(default)]
    pub periods: Option<(u64, u64)>,
    /// Working set, bytes.
    pub memory_bytes: u64,
    /// Memory limit, bytes; `None` without one.
    pub memory_limit: Option<u64>,
}

/// What a container without limits can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Cores, in thousandths.
    pub cpu_millis: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
}

impl Reading {
    /// Memory use in % of the container's limit, else of the node's memory; `None` when neither is known.
    #[must_use]
    pub fn memory_percent(&self, node: Node) -> Option<i32> {
        percent(u128::from(self.memory_bytes), u128::from(self.memory_limit.unwrap_or(node.memory_bytes)))
    }

    /// Share of the CPU limit's periods since an earlier reading in which it was throttled, in %. `None` without a
    /// limit, and when the container was restarted in between.
    #[must_use]
    pub fn throttled_percent(&self, earlier: &Self) -> Option<i32> {
        throttled(earlier.periods?, self.periods?)
    }

    /// CPU use in % of the container's limit, else of the node's cores, over the `nanos` since an earlier
    /// reading. `None` without time between the two, and when the container was restarted in between.
    #[must_use]
    pub fn cpu_percent(&self, earlier: &Self, nanos: u64, node: Node) -> Option<i32> {
        let used = u128::from(self.cpu_nanos.checked_sub(earlier.cpu_nanos)?) * 1000;
        percent(used, u128::from(nanos) * u128::from(self.cpu_limit_millis.unwrap_or(node.cpu_millis)))
    }
}

/// In how many of the periods between two readings a container was throttled, in %, rounded down. `None` where it
/// was restarted in between.
pub(super) fn throttled(before: (u64, u64), now: (u64, u64)) -> Option<i32> {
    let (all, throttled) = (now.0.checked_sub(before.0)?, now.1.checked_sub(before.1)?);
    // A container that never wanted to run was not throttled.
    if all == 0 { Some(0) } else { share(throttled, all) }
}

/// In %, rounded down, at most 100. `None` of nothing.
pub(super) fn share(part: u64, whole: u64) -> Option<i32> {
    let percent = u128::from(part).checked_mul(100)?.checked_div(u128::from(whole))?;
    i32::try_from(percent.min(100)).ok()
}

/// Rounded to the nearest whole %, at most 10,000.
fn percent(part: u128, whole: u128) -> Option<i32> {
    let rounded = part.checked_mul(100)?.checked_add(whole / 2)?.checked_div(whole)?;
    i32::try_from(rounded.min(10_000)).ok()
}

/// The figures of the cgroup that is mounted at `root`, v2 or v1. Errors when neither can be read.
pub fn read(root: &Path) -> io::Result<Reading> {
    let text = |file: &str| {
        read_bounded(root.join(file), MAX_FILE_BYTES).map(|b| String::from_utf8_lossy(&b).into_owned())
    };
    match text("memory.current") {
        Ok(current) => parse_v2(
            &current,
            &text("memory.max")?,
            &text("memory.stat")?,
            &text("cpu.stat")?,
            &text("cpu.max")?,
        ),
        Err(e) if e.kind() == io::ErrorKind::NotFound => parse_v1(
            &text("memory/memory.usage_in_bytes")?,
            &text("memory/memory.limit_in_bytes")?,
            &text("memory/memory.stat")?,
            &text("cpuacct/cpuacct.usage")?,
            &text("cpu/cpu.cfs_quota_us")?,
            &text("cpu/cpu.cfs_period_us")?,
            &text("cpu/cpu.stat").unwrap_or_default(),
        ),
        Err(e) => return Err(e),
    }
    .ok_or_else(|| io::Error::other("malformed cgroup files"))
}

fn parse_v2(current: &str, max: &str, stat: &str, cpu_stat: &str, cpu_max: &str) -> Option<Reading> {
    let mut quota = cpu_max.split_ascii_whitespace();
    let (limit, period) = (quota.next()?, quota.next()?.parse::<u64>().ok()?);
    let cpu_limit_millis = limit.parse::<u64>().ok().and_then(|l| millis(l, period));
    Some(Reading {
        cpu_nanos: field(cpu_stat, "usage_usec")?.saturating_mul(1000),
        cpu_limit_millis,
        periods: cpu_limit_millis.and_then(|_| periods(cpu_stat)),
        memory_bytes: number(current)?.saturating_sub(field(stat, "inactive_file").unwrap_or(0)),
        memory_limit: number(max),
    })
}

fn parse_v1(
    usage: &str,
    limit: &str,
    stat: &str,
    cpu_usage: &str,
    quota: &str,
    period: &str,
    cpu_stat: &str,
) -> Option<Reading> {
    let cpu_limit_millis = number(quota).and_then(|q| millis(q, number(period)?));
    Some(Reading {
        cpu_nanos: number(cpu_usage)?,
        cpu_limit_millis,
        periods: cpu_limit_millis.and_then(|_| periods(cpu_stat)),
        memory_bytes: number(usage)?.saturating_sub(field(stat, "total_inactive_file").unwrap_or(0)),
        memory_limit: number(limit).filter(|l| *l < NO_LIMIT_V1),
    })
}

/// A quota per period, as thousandths of a core; `None` without a quota.
fn millis(quota: u64, period: u64) -> Option<u64> {
    quota.checked_mul(1000)?.checked_div(period).filter(|m| *m > 0)
}

/// The periods of a limit that is there: the kernel counts those of an earlier one as well.
fn periods(cpu_stat: &str) -> Option<(u64, u64)> {
    Some((field(cpu_stat, "nr_periods")?, field(cpu_stat, "nr_throttled")?))
}

/// A number alone in a file; `None` for `max` and for `-1`.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind `key` in lines of `key number`.
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

/// The node's cores and memory, from the lists of the kernel. What cannot be read counts as 0, which gives no
/// percentages.
#[must_use]
pub fn node(cpus_online: &str, meminfo: &str) -> Node {
    let kib = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Node {
        cpu_millis: count_cpus(cpus_online).saturating_mul(1000),
        memory_bytes: kib.unwrap_or(0).saturating_mul(1024),
    }
}

/// Counts a list such as `0-3,8,10-11`.
fn count_cpus(list: &str) -> u64 {
    let count = |range: &str| -> Option<u64> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.trim().split(',').filter_map(count).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const NODE: Node = Node { cpu_millis: 4000, memory_bytes: 16 * GIB };

    fn v2(current: &str, max: &str, stat: &str, cpu: &str, cpu_max: &str) -> Option<Reading> {
        parse_v2(current, max, stat, cpu, cpu_max)
    }

    #[test]
    fn cgroup_v2() {
        let limited = v2(
            "1000\n",
            "4000\n",
            "anon 5\ninactive_file 200\n",
            "usage_usec 7\nuser_usec 3\nnr_periods 20\nnr_throttled 5\nthrottled_usec 90\n",
            "50000 100000\n",
        )
        .unwrap();
        assert_eq!(
            limited,
            Reading {
                cpu_nanos: 7000,
                cpu_limit_millis: Some(500),
                periods: Some((20, 5)),
                memory_bytes: 800,
                memory_limit: Some(4000)
            }
        );
        let stat = "usage_usec 7\nnr_periods 3\nnr_throttled 1\n";
        let free = v2("1000", "max", "inactive_file 2000", stat, "max 100000").unwrap();
        assert_eq!(free.periods, None, "of a limit that was taken away");
        assert_eq!((free.memory_bytes, free.memory_limit, free.cpu_limit_millis), (0, None, None));
        assert_eq!(v2("x", "max", "", "usage_usec 7", "max 100000"), None);
        assert_eq!(v2("1", "max", "", "user_usec 7", "max 100000"), None);
        assert_eq!(v2("1", "max", "", "usage_usec 7", "1000 0").unwrap().cpu_limit_millis, None);
    }

    #[test]
    fn cgroup_v1() {
        let stat = "inactive_file 9\ntotal_inactive_file 300\n";
        let limited =
            parse_v1("1000", "2000", stat, "42", "200000", "100000", "nr_periods 7\nnr_throttled 0\n")
                .unwrap();
        assert_eq!(
            limited,
            Reading {
                cpu_nanos: 42,
                cpu_limit_millis: Some(2000),
                periods: Some((7, 0)),
                memory_bytes: 700,
                memory_limit: Some(2000)
            }
        );
        let free = parse_v1("1000", "9223372036854771712", stat, "42", "-1", "100000", "").unwrap();
        assert_eq!((free.memory_limit, free.cpu_limit_millis, free.periods), (None, None, None));
    }

    #[test]
    fn percentages_are_of_the_own_limit_or_of_the_node() {
        let second = 1_000_000_000;
        let reading = |cpu_nanos, cpu_limit_millis, memory_bytes, memory_limit| Reading {
            cpu_nanos,
            cpu_limit_millis,
            periods: None,
            memory_bytes,
            memory_limit,
        };
        let zero = reading(0, None, 0, None);
        let cases = [
            ("half a core of half a core", reading(second / 2, Some(500), 0, None), Some(100), Some(0)),
            ("a core of four", reading(second, None, 8 * GIB, None), Some(25), Some(50)),
            (
                "over the limit for a moment",
                reading(2 * second, Some(1000), 3 * GIB, Some(2 * GIB)),
                Some(200),
                Some(150),
            ),
            ("rounded", reading(second / 1000 * 6, Some(1000), 1, Some(GIB)), Some(1), Some(0)),
            (
                "absurd figures are cut",
                reading(u64::MAX, Some(1), u64::MAX, Some(1)),
                Some(10_000),
                Some(10_000),
            ),
            ("a limit of nothing", reading(0, None, 5, Some(0)), Some(0), None),
        ];
        for (what, now, cpu, memory) in cases {
            assert_eq!(now.cpu_percent(&zero, second, NODE), cpu, "{what}");
            assert_eq!(now.memory_percent(NODE), memory, "{what}");
        }
        assert_eq!(zero.cpu_percent(&zero, 0, NODE), None, "no time between");
        assert_eq!(zero.cpu_percent(&reading(5, None, 0, None), second, NODE), None, "a restarted container");
        assert_eq!(zero.memory_percent(Node { cpu_millis: 0, memory_bytes: 0 }), None, "an unknown node");
    }

    #[test]
    fn the_node_is_counted() {
        let node = node("0-3,8,10-11\n", "MemTotal:       24576 kB\nMemFree: 1 kB\n");
        assert_eq!(node, Node { cpu_millis: 7000, memory_bytes: 24576 * 1024 });
        assert_eq!(super::node("", ""), Node { cpu_millis: 0, memory_bytes: 0 });
        assert_eq!(count_cpus("3-1,x,5"), 1);
    }
}
