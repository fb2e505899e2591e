//! How much memory has a target left? What a runtime records takes some of it.

use crate::proc::read_bounded;

/// Most bytes of a file of a cgroup.
const MAX_BYTES: u64 = 16 * 1024;

/// The files of a version of cgroups, and what of the usage is given up when memory is short.
struct Files {
    limit: &'static str,
    usage: &'static str,
    stat: &'static str,
    spare: &'static str,
}

const VERSIONS: [Files; 2] = [
    Files { limit: "memory.max", usage: "memory.current", stat: "memory.stat", spare: "inactive_file " },
    Files {
        limit: "memory/memory.limit_in_bytes",
        usage: "memory/memory.usage_in_bytes",
        stat: "memory/memory.stat",
        spare: "total_inactive_file ",
    },
];

/// Bytes of memory that the container of a process may still take; `None` where it has no limit, or nothing
/// tells.
#[must_use]
pub fn left(pid: i32) -> Option<u64> {
    let read = |file: &str| {
        let bytes = read_bounded(format!("/proc/{pid}/root/sys/fs/cgroup/{file}"), MAX_BYTES).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let rooms = VERSIONS.iter().filter_map(|files| {
        room(&read(files.limit)?, &read(files.usage)?, &read(files.stat).unwrap_or_default(), files.spare)
    });
    rooms.min()
}

/// Bytes that are left; `None` without a limit.
fn room(limit: &str, usage: &str, stat: &str, spare: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let usage: u64 = usage.trim().parse().ok()?;
    let spare = stat.lines().find_map(|line| line.strip_prefix(spare)?.trim().parse::<u64>().ok());
    Some(limit.saturating_sub(usage.saturating_sub(spare.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_counts_what_can_be_given_up() {
        let stat = "anon 5\ninactive_file 300\nactive_file 7\n";
        assert_eq!(room("1000\n", "900\n", stat, "inactive_file "), Some(400));
        assert_eq!(room("1000\n", "900\n", "", "inactive_file "), Some(100));
        assert_eq!(room("100\n", "900\n", "", "inactive_file "), Some(0));
        assert_eq!(room("max\n", "900\n", stat, "inactive_file "), None);
        assert_eq!(room("1000\n", "900\n", "total_inactive_file 4\n", "total_inactive_file "), Some(104));
    }
}
