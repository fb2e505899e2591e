//! What does a process of this machine use?

use anyhow::{Context, Result};

/// CPU time of the threads of a process in nanoseconds, as the scheduler counts it.
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

/// Resident memory of a process in KiB.
///
/// # Errors
/// When there is no such process.
pub fn rss_kib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|l| l.trim().trim_end_matches(" kB").parse().ok())
        .context("no VmRSS")
}
