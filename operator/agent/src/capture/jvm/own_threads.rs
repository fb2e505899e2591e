//! How much CPU time do the threads of the virtual machine use, of which Java takes no samples? Their names say
//! what they do.

use std::collections::HashMap;

use fleetprof_profile::{Frame, Profile, ProfileBuilder, ProfileKind};

use crate::capture::cpu_time::TICK_NANOS;
use crate::proc::{self, read_bounded};

/// What threads are shown as, and how their names begin. The kernel cuts names to 15 bytes.
const WORK: [(&str, &[&str]); 3] = [
    (
        "[JVM: garbage collector]",
        &[
            "GC Thread#",
            "G1 ",
            "ZDirector",
            "ZDriver",
            "ZStat",
            "ZUn",
            "ZWorker",
            "XDriver",
            "XWorker",
            "Shenandoah",
        ],
    ),
    ("[JVM: compiler]", &["C1 CompilerThre", "C2 CompilerThre", "JVMCI "]),
    // Where a single thread collects garbage, it is this one.
    ("[JVM: VM thread]", &["VM Thread"]),
];

/// The threads of one virtual machine.
pub struct OwnThreads {
    pid: i32,
    /// CPU time at the last look, in clock ticks.
    earlier: HashMap<i32, u64>,
}

/// What is shown, and its CPU time in nanoseconds.
pub type Used = (&'static str, u64);

impl OwnThreads {
    /// The threads of a process; counts from now on.
    pub fn new(pid: i32) -> Self {
        let mut threads = Self { pid, earlier: HashMap::new() };
        let _before = threads.used();
        threads
    }

    /// CPU time since the last look.
    pub fn used(&mut self) -> Vec<Used> {
        let mut used: Vec<Used> = WORK.iter().map(|(shown, _)| (*shown, 0)).collect();
        let mut now = HashMap::new();
        for tid in proc::threads(self.pid).unwrap_or_default() {
            let Some((shown, ticks)) = self.look(tid) else { continue };
            now.insert(tid, ticks);
            let since = ticks.saturating_sub(self.earlier.get(&tid).copied().unwrap_or(0));
            for (_, sum) in used.iter_mut().filter(|(of, _)| *of == shown) {
                *sum = sum.saturating_add(since.saturating_mul(TICK_NANOS));
            }
        }
        self.earlier = now;
        used.retain(|(_, nanos)| *nanos > 0);
        used
    }

    fn look(&self, tid: i32) -> Option<(&'static str, u64)> {
        let name = read_bounded(format!("/proc/{}/task/{tid}/comm", self.pid), 64).ok()?;
        let shown = shown_as(&String::from_utf8_lossy(&name))?;
        let stat = proc::thread_stat(self.pid, tid).ok()?;
        Some((shown, stat.user_ticks.saturating_add(stat.system_ticks)))
    }
}

fn shown_as(name: &str) -> Option<&'static str> {
    let found = WORK.iter().find(|(_, names)| names.iter().any(|begin| name.starts_with(begin)))?;
    Some(found.0)
}

/// A profile of what these threads used; samples are so many nanoseconds apart.
pub fn profile(used: &[Used], period: u64, start_nanos: i64) -> Profile {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, signed(period), start_nanos);
    for (shown, nanos) in used {
        let values = [signed((nanos / period.max(1)).max(1)), signed(*nanos)];
        // Values are right in number and sign.
        let _added = builder.add(&[Frame::named(shown, "", 0)], &values, &[]);
    }
    builder.finish(0, &[])
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::{top, total};

    use super::*;

    #[test]
    fn threads_are_told_by_their_names() {
        let cases = [
            ("GC Thread#3\n", Some("[JVM: garbage collector]")),
            ("G1 Conc#0\n", Some("[JVM: garbage collector]")),
            ("C2 CompilerThre\n", Some("[JVM: compiler]")),
            ("VM Thread\n", Some("[JVM: VM thread]")),
            ("http-nio-8080-e\n", None),
            ("main\n", None),
        ];
        for (name, wanted) in cases {
            assert_eq!(shown_as(name), wanted, "{name}");
        }
    }

    #[test]
    fn what_they_used_is_a_profile_of_one_frame_each() {
        let profile = profile(&[("[JVM: compiler]", 35), ("[JVM: VM thread]", 3)], 10, 5);
        assert_eq!((total(&profile, 0), total(&profile, 1)), (4, 38));
        assert_eq!(top(&profile, 1, 1).rows[0].name, "[JVM: compiler]");
    }

    #[test]
    fn a_process_without_such_threads_has_used_nothing() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(OwnThreads::new(me).used(), []);
    }
}
