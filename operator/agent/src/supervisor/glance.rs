//! Has something started since the last look, and when to look next? A glance is cheap: the list of pids, and
//! what those are that are new or young.
//!
//! ```text
//! start, or a change ─► a look every second, for a minute ─► one every 5 s
//! ```
//! A sidecar starts before the containers of its pod, so that its first heartbeat knows none of them. The
//! next one is due half a minute later, and a person waits for it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::proc::{ProcTree, Process, of_ticks, since_boot};

/// How long the agent looks often after its start and after each change. A process that is as old is not
/// expected to become another program.
pub const LIVELY: Duration = Duration::from_secs(60);
/// Between two looks while something may start, and what they may cost: a thousandth of a core.
const OFTEN: (Duration, u32) = (Duration::from_secs(1), 1_000);
/// The same at rest: a ten-thousandth of a core.
const SELDOM: (Duration, u32) = (Duration::from_secs(5), 10_000);
/// Longest time between two looks, however costly. Heartbeats look as well.
const LONGEST: Duration = Duration::from_secs(300);
/// Most processes that are read in a look; the others have their turn in the next ones.
const MAX_READS: usize = 256;

/// How long to wait until the next look, where the last one took so much CPU time.
#[must_use]
pub fn pause(since_change: Duration, cost: Duration) -> Duration {
    let (distance, share) = if since_change < LIVELY { OFTEN } else { SELDOM };
    cost.saturating_mul(share).clamp(distance, LONGEST)
}

/// CPU time that this thread has used.
#[must_use]
pub fn own_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A process that was read.
#[derive(Debug)]
struct Known {
    /// Container and command.
    program: Option<Program>,
    /// When it started, or was first seen where that cannot be told; since the machine's start.
    started: Duration,
}

/// A command of a container.
type Program = (String, String);

/// What was there at the last look.
#[derive(Debug, Default)]
pub struct Glance {
    known: HashMap<i32, Known>,
    programs: HashSet<Program>,
}

impl Glance {
    /// Whether a container runs a program that it did not run before.
    pub fn look(&mut self, tree: &ProcTree) -> bool {
        let Ok(pids) = tree.pids() else { return false };
        self.take(&pids, |pid| tree.process(pid), since_boot().unwrap_or_default())
    }

    /// The same of a list of pids, so long after the machine's start; `read` tells what one of them is.
    fn take(&mut self, pids: &[i32], read: impl Fn(i32) -> Option<Process>, now: Duration) -> bool {
        let there: HashSet<i32> = pids.iter().copied().collect();
        self.known.retain(|pid, _| there.contains(pid));
        for pid in self.unsettled(pids, now) {
            let process = read(pid).filter(Process::is_alive);
            let started = process.as_ref().map_or(now, |process| of_ticks(process.start_ticks));
            let program = process.and_then(|process| Some((process.container?, process.command)));
            self.known.insert(pid, Known { program, started });
        }
        let programs: HashSet<Program> = self.known.values().filter_map(|k| k.program.clone()).collect();
        let has_more = programs.iter().any(|program| !self.programs.contains(program));
        self.programs = programs;
        has_more
    }

    /// What is read now: new processes before young ones.
    fn unsettled(&self, pids: &[i32], now: Duration) -> Vec<i32> {
        let is_young =
            |pid: &i32| self.known.get(pid).is_some_and(|known| now.saturating_sub(known.started) < LIVELY);
        let new = pids.iter().filter(|pid| !self.known.contains_key(pid));
        new.chain(pids.iter().filter(|pid| is_young(pid))).take(MAX_READS).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the processes of these tests started, since the machine did.
    const START: Duration = Duration::from_secs(1000);

    fn process(pid: i32, container: Option<&str>, command: &str, state: u8) -> Process {
        let (container, start_ticks) = (container.map(str::to_owned), START.as_secs() * 100);
        Process { pid, parent: 0, command: command.into(), state, cpu_ticks: 0, start_ticks, container }
    }

    /// A look at these processes, by pid, container and command.
    fn look(glance: &mut Glance, now: Duration, processes: &[(i32, &str, &str)]) -> bool {
        let pids: Vec<i32> = processes.iter().map(|(pid, ..)| *pid).collect();
        let read = |pid: i32| {
            let (_, container, command) = processes.iter().find(|(known, ..)| *known == pid)?;
            Some(process(pid, Some(*container).filter(|id| !id.is_empty()), command, b'S'))
        };
        glance.take(&pids, read, now)
    }

    #[test]
    fn a_program_that_a_container_did_not_run_before_is_news_and_another_process_of_it_is_none() {
        let mut glance = Glance::default();
        type Case = (u64, &'static [(i32, &'static str, &'static str)], bool, &'static str);
        let cases: [Case; 8] = [
            (0, &[(1, "", "pause")], false, "what is in no container"),
            (1, &[(1, "", "pause"), (7, "a", "sh")], true, "a container"),
            (2, &[(1, "", "pause"), (7, "a", "sh")], false, "nothing new"),
            (3, &[(1, "", "pause"), (7, "a", "node")], true, "the shell became another program"),
            (4, &[(7, "a", "node"), (8, "a", "node")], false, "a worker"),
            (5, &[(7, "a", "node"), (9, "b", "node")], true, "another container"),
            (6, &[(7, "a", "node")], false, "one that ended"),
            (7, &[(7, "a", "node"), (9, "b", "node")], true, "one that came back"),
        ];
        for (seconds, processes, wanted, what) in cases {
            assert_eq!(look(&mut glance, START + Duration::from_secs(seconds), processes), wanted, "{what}");
        }
    }

    #[test]
    fn a_process_is_read_once_more_only_while_it_is_young() {
        let mut glance = Glance::default();
        let (young, old) = (START + LIVELY - Duration::from_millis(1), START + LIVELY);
        assert!(look(&mut glance, START, &[(7, "a", "sh")]));
        assert!(look(&mut glance, young, &[(7, "a", "node")]));
        assert!(!look(&mut glance, old, &[(7, "a", "worker 1")]), "it would be news every time");
        assert!(!glance.take(&[7], |_| panic!("it is read"), old));
    }

    #[test]
    fn a_zombie_runs_nothing_and_many_processes_are_read_in_turns() {
        let mut glance = Glance::default();
        assert!(!glance.take(&[7], |pid| Some(process(pid, Some("a"), "node", b'Z')), START));
        let pids: Vec<i32> = (1..=1000).collect();
        let reads = std::cell::Cell::new(0);
        let read = |pid: i32| {
            reads.set(reads.get() + 1);
            Some(process(pid, Some("b"), &format!("program {pid}"), b'S'))
        };
        let mut crowded = Glance::default();
        for n in 1..=4 {
            assert!(crowded.take(&pids, read, START));
            assert_eq!((reads.get(), crowded.known.len()), (n * MAX_READS, (n * MAX_READS).min(1000)));
        }
    }

    #[test]
    fn looks_are_frequent_after_a_change_and_cost_a_share_of_a_core_whatever_they_cost() {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let cases = [
            (s(0), Duration::from_micros(50), s(1)),
            (s(59), ms(1), s(1)),
            (s(59), ms(4), s(4)),
            (s(60), Duration::from_micros(50), s(5)),
            (s(600), ms(1), s(10)),
            (s(600), ms(20), s(200)),
            (s(600), ms(900), s(300)),
            (s(600), Duration::MAX, s(300)),
        ];
        for (since_change, cost, wanted) in cases {
            assert_eq!(pause(since_change, cost), wanted, "{since_change:?} {cost:?}");
        }
    }

    #[test]
    fn this_process_is_seen_in_proc() {
        let mut glance = Glance::default();
        while !glance.known.contains_key(&i32::try_from(std::process::id()).unwrap()) {
            let _whatever_runs = glance.look(&ProcTree::new("/proc"));
        }
        assert!(!Glance::default().look(&ProcTree::new("/no/such/tree")));
    }
}
