//! What tells that a container has a hard time? Throttling, pressure and threads, from its cgroup, v2 or v1.
//!
//! All are counters or levels of the container's own cgroup, which every process in it may read. Shares are taken
//! between two readings, as the use of CPU is.

use std::path::Path;

use fleetprof_crds::wire::Signals;
use serde::{Deserialize, Serialize};

use super::usage::{MAX_FILE_BYTES, field, number, share, throttled};
use crate::proc::read_bounded;

/// The counters of a container's cgroup at one moment. Each is absent where the kernel does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Periods of the CPU limit in which it wanted to run, and how many of them it was throttled in. Absent
    /// without a CPU limit.
    periods: Option<(u64, u64)>,
    /// Microseconds in which at least one of its threads waited for a CPU, for memory and for block devices.
    stalled: [Option<u64>; 3],
    /// Its threads.
    threads: Option<u64>,
}

impl Counters {
    /// Whether the number of threads is to be counted in another way.
    pub const fn lacks_threads(&self) -> bool {
        self.threads.is_none()
    }

    /// The same with this number of threads.
    pub const fn with_threads(self, threads: u64) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// The signals of the `nanos` since an earlier reading; without one, those that need no other.
    pub fn signals(&self, earlier: Option<(&Self, u64)>) -> Signals {
        let pressure = |at: usize| {
            let (before, nanos) = earlier?;
            let stalled = (*self.stalled.get(at)?)?.checked_sub((*before.stalled.get(at)?)?)?;
            share(stalled, nanos / 1000)
        };
        let [cpu, memory, io] = [0, 1, 2].map(pressure);
        Signals {
            throttled_percent: earlier.and_then(|(before, _)| throttled(before.periods?, self.periods?)),
            cpu_pressure_percent: cpu,
            memory_pressure_percent: memory,
            io_pressure_percent: io,
            threads: self.threads.and_then(|threads| i32::try_from(threads).ok()),
        }
        .coarse()
    }
}

/// The counters of the cgroup that is mounted at `root`; `None` where nothing can be read there.
pub fn read(root: &Path) -> Option<Counters> {
    let text = |file: &str| {
        let bytes = read_bounded(root.join(file), MAX_FILE_BYTES).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let of_v2 = text("cgroup.controllers").is_some() || text("memory.current").is_some();
    let (cpu, pids) =
        if of_v2 { ("cpu.stat", "pids.current") } else { ("cpu/cpu.stat", "pids/pids.current") };
    let stalled = ["cpu.pressure", "memory.pressure", "io.pressure"];
    let counters = Counters {
        periods: text(cpu).as_deref().and_then(periods),
        // There is none of a cgroup in v1.
        stalled: stalled.map(|file| text(file).as_deref().and_then(stall)),
        threads: text(pids).as_deref().and_then(number),
    };
    (of_v2 || counters != Counters::default()).then_some(counters)
}

/// The kernel counts periods while there is a limit.
fn periods(cpu_stat: &str) -> Option<(u64, u64)> {
    let all = field(cpu_stat, "nr_periods").filter(|all| *all > 0)?;
    Some((all, field(cpu_stat, "nr_throttled")?))
}

/// The total of the line `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn stall(pressure: &str) -> Option<u64> {
    let line = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A directory with these files.
    struct Cgroup(std::path::PathBuf);

    impl Cgroup {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let dir = std::env::temp_dir().join(format!("fleetprof-signals-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            for (file, text) in files {
                let path = dir.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            Self(dir)
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn pressure(total: u64) -> String {
        format!(
            "some avg10=1.00 avg60=0.50 avg300=0.10 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
        )
    }

    fn v2(periods: u64, throttled: u64, stalled: [u64; 3], threads: u64) -> Counters {
        let [cpu, memory, io] = stalled.map(pressure);
        let stat =
            format!("usage_usec 9\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 7\n");
        let cgroup = Cgroup::new(
            "v2",
            &[
                ("cgroup.controllers", "cpu io memory pids\n"),
                ("cpu.stat", &stat),
                ("cpu.pressure", &cpu),
                ("memory.pressure", &memory),
                ("io.pressure", &io),
                ("pids.current", &format!("{threads}\n")),
            ],
        );
        read(&cgroup.0).unwrap()
    }

    fn figures(signals: Signals) -> [Option<i32>; 5] {
        let Signals {
            throttled_percent,
            cpu_pressure_percent,
            memory_pressure_percent,
            io_pressure_percent,
            threads,
        } = signals;
        [throttled_percent, cpu_pressure_percent, memory_pressure_percent, io_pressure_percent, threads]
    }

    #[test]
    fn shares_are_of_what_passed_between_two_readings() {
        let before = v2(100, 90, [1_000_000, 0, 500_000], 7);
        let after = v2(200, 140, [3_500_000, 0, 10_500_000], 1249);
        let signals = after.signals(Some((&before, 10 * SECOND)));
        assert_eq!(figures(signals), [Some(50), Some(25), Some(0), Some(100), Some(1200)]);
        assert_eq!(figures(after.signals(None)), [None, None, None, None, Some(1200)]);
        assert_eq!(
            figures(after.signals(Some((&after, SECOND)))),
            [Some(0), Some(0), Some(0), Some(0), Some(1200)]
        );
        let restarted = before.signals(Some((&after, SECOND)));
        assert_eq!(figures(restarted), [None, None, Some(0), None, Some(7)], "counters began again");
        assert_eq!(after.signals(Some((&before, 0))).cpu_pressure_percent, None, "no time passed");
    }

    #[test]
    fn without_a_limit_or_pressure_there_is_none_and_that_is_told() {
        let files =
            [("cgroup.controllers", "cpu\n"), ("cpu.stat", "usage_usec 9\nnr_periods 0\nnr_throttled 0\n")];
        let cgroup = Cgroup::new("bare", &files);
        let bare = read(&cgroup.0).unwrap();
        assert_eq!(figures(bare.signals(Some((&bare, SECOND)))), [None; 5]);
        assert!(bare.lacks_threads() && !bare.with_threads(3).lacks_threads());
        assert_eq!(read("/no/such/cgroup".as_ref()), None);
    }

    #[test]
    fn cgroup_v1_counts_throttling_and_threads() {
        let files = [
            ("cpu/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 5000\n"),
            ("pids/pids.current", "12\n"),
        ];
        let (before, cgroup) =
            (Counters { periods: Some((0, 0)), ..Counters::default() }, Cgroup::new("v1", &files));
        let signals = read(&cgroup.0).unwrap().signals(Some((&before, SECOND)));
        assert_eq!(figures(signals), [Some(40), None, None, None, Some(12)]);
    }

    #[test]
    fn what_is_no_such_file_counts_nothing() {
        for text in ["", "some", "some total=", "some total=x", "full total=7", "some avg10=7"] {
            assert_eq!(stall(text), None, "{text}");
        }
        assert_eq!(periods("nr_periods 7"), None);
        assert_eq!(stall(&pressure(42)), Some(42));
    }
}
