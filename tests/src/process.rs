//! What does a process of this machine use?

use anyhow::{Context, Result};

/// CPU time of the threads that a process has now in nanoseconds, as the scheduler counts it: for one whose threads
/// do not end.
///
/// # Errors
/// When there is no such process.
pub fn cpu_nanos(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum +=
            stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()).context("schedstat has no number")?;
    }
    Ok(sum)
}

/// CPU time of a process in nanoseconds, with that of threads which have ended; in steps of 10 ms.
///
/// # Errors
/// When there is no such process.
pub fn cpu_of_all_threads(pid: u32) -> Result<u64> {
    const TICK: u64 = 10_000_000;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold spaces; it is followed by the state, and 10 fields later by the times.
    let (_, fields) = stat.rsplit_once(')').context("stat has no name")?;
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(times.sum::<Result<u64, _>>()? * TICK)
}

/// Resident memory of a process in KiB.
///
/// # Errors
/// When there is no such process.
pub fn rss_kib(pid: u32) -> Result<f64> {
    memory_kib(pid, "VmRSS:")
}

/// The part of a process's resident memory that is its own, in KiB: what it allocated or changed. The rest is pages
/// of files, which all processes of a node that run the same program share.
///
/// # Errors
/// When there is no such process.
pub fn own_kib(pid: u32) -> Result<f64> {
    memory_kib(pid, "RssAnon:")
}

fn memory_kib(pid: u32, key: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|l| l.strip_prefix(key))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
        .with_context(|| format!("no {key} in the status of process {pid}"))
}
