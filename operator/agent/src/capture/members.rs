//! Which processes of a container are captured from now on? A pure function over two looks at them.
//!
//! All that use CPU are, whatever their names, parents or age, up to a bound. Where there are more, those
//! that used most since the last look come first, and captured ones that used none make room for them.

use std::collections::{HashMap, HashSet};

/// Most processes of a container that are captured at a time.
pub const MAX_PROCESSES: usize = 16;

/// A process and the program that it runs: another program in the same process is captured again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The process.
    pub pid: i32,
    /// Its start, in clock ticks after boot: a reused pid is another process.
    pub start_ticks: u64,
    /// Path of its program, where it may be known.
    pub program: String,
}

/// A process as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who it is.
    pub identity: Identity,
    /// Its name.
    pub command: String,
    /// CPU time since its start, in clock ticks.
    pub cpu_ticks: u64,
}

/// CPU ticks at the last look.
pub type Earlier = HashMap<Identity, u64>;

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Captured ones that are gone, or make room.
    pub end: Vec<Identity>,
    /// Processes to capture from now on, busiest first.
    pub begin: Vec<Seen>,
    /// Processes that used CPU but are beyond the limit.
    pub left_out: usize,
}

/// The plan for the processes `seen` now, of which those in `held` are captured and those in `refused` cannot
/// be. Those that use no CPU are captured with `idle_too`: they hold memory, and wait.
#[must_use]
pub fn plan(
    seen: &[Seen],
    held: &[Identity],
    refused: &HashSet<Identity>,
    earlier: &Earlier,
    bound: usize,
    idle_too: bool,
) -> Plan {
    let used = |p: &Seen| p.cpu_ticks.saturating_sub(earlier.get(&p.identity).copied().unwrap_or(0));
    let is_held = |p: &Seen| held.contains(&p.identity);
    let (staying, others): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(|p| is_held(p));
    let mut end: Vec<Identity> =
        held.iter().filter(|h| staying.iter().all(|p| p.identity != **h)).cloned().collect();
    let mut busy: Vec<&Seen> =
        others.into_iter().filter(|p| (idle_too || used(p) > 0) && !refused.contains(&p.identity)).collect();
    busy.sort_by_key(|p| (std::cmp::Reverse((used(p), p.cpu_ticks)), p.identity.clone()));
    let room = bound.saturating_sub(staying.len());
    let missing = busy.iter().filter(|p| used(p) > 0).count().saturating_sub(room);
    let idle: Vec<Identity> =
        staying.iter().filter(|p| used(p) == 0).take(missing).map(|p| p.identity.clone()).collect();
    let begin: Vec<Seen> = busy.iter().take(room + idle.len()).map(|p| (*p).clone()).collect();
    let left_out = busy.iter().skip(begin.len()).filter(|p| used(p) > 0).count();
    end.extend(idle);
    Plan { end, begin, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(pid: i32) -> Identity {
        Identity { pid, start_ticks: 5, program: "/bin/app".into() }
    }

    fn seen(pid: i32, cpu_ticks: u64) -> Seen {
        Seen { identity: identity(pid), command: "app".into(), cpu_ticks }
    }

    /// Pids that begin, pids that end, and how many are left out.
    fn planned(
        seen: &[Seen],
        held: &[i32],
        refused: &[i32],
        earlier: &[(i32, u64)],
    ) -> (Vec<i32>, Vec<i32>, usize) {
        let held: Vec<Identity> = held.iter().map(|pid| identity(*pid)).collect();
        let refused = refused.iter().map(|pid| identity(*pid)).collect();
        let earlier = earlier.iter().map(|(pid, ticks)| (identity(*pid), *ticks)).collect();
        let plan = plan(seen, &held, &refused, &earlier, 3, false);
        let begin = plan.begin.iter().map(|p| p.identity.pid).collect();
        (begin, plan.end.iter().map(|i| i.pid).collect(), plan.left_out)
    }

    #[test]
    fn every_process_that_uses_cpu_is_captured_up_to_a_bound() {
        let all = [seen(1, 0), seen(2, 10), seen(3, 30)];
        assert_eq!(planned(&all, &[], &[], &[]), (vec![3, 2], vec![], 0), "an idle one is left alone");
        assert_eq!(planned(&all, &[3, 2], &[], &[(2, 9), (3, 30)]), (vec![], vec![], 0));
        assert_eq!(planned(&all[..2], &[3, 2], &[], &[]), (vec![], vec![3], 0), "one is gone");
        assert_eq!(planned(&all, &[], &[3], &[]), (vec![2], vec![], 0), "one cannot be captured");
    }

    #[test]
    fn where_there_are_too_many_the_busiest_come_first_and_idle_ones_make_room() {
        let all = [seen(1, 90), seen(2, 50), seen(3, 40), seen(4, 30), seen(5, 20)];
        assert_eq!(planned(&all, &[], &[], &[]), (vec![1, 2, 3], vec![], 2));
        let earlier = [(1, 90), (2, 49), (3, 39), (4, 10), (5, 10)];
        assert_eq!(planned(&all, &[1, 2, 3], &[], &earlier), (vec![4], vec![1], 1));
        let all_work = [(1, 80), (2, 49), (3, 39), (4, 10), (5, 10)];
        assert_eq!(planned(&all, &[1, 2, 3], &[], &all_work), (vec![], vec![], 2));
    }

    #[test]
    fn idle_processes_are_captured_where_more_counts_than_cpu_and_take_nobodys_place() {
        let all = [seen(1, 0), seen(2, 10), seen(3, 0), seen(4, 0)];
        let pids = |held: &[i32]| {
            let held: Vec<Identity> = held.iter().map(|pid| identity(*pid)).collect();
            let plan = plan(&all, &held, &HashSet::new(), &Earlier::new(), 3, true);
            let begin: Vec<i32> = plan.begin.iter().map(|p| p.identity.pid).collect();
            (begin, plan.end.iter().map(|i| i.pid).collect::<Vec<_>>(), plan.left_out)
        };
        assert_eq!(pids(&[]), (vec![2, 1, 3], vec![], 0));
        assert_eq!(pids(&[1, 2, 3]), (vec![], vec![], 0), "an idle one makes no room for another");
        assert_eq!(pids(&[1, 3, 4]), (vec![2], vec![1], 0), "it does for one that works");
    }

    #[test]
    fn another_program_in_the_same_process_is_captured_anew() {
        let mut after = seen(7, 12);
        after.identity.program = "/usr/bin/python3.11".into();
        let plan = plan(&[after], &[identity(7)], &HashSet::new(), &[(identity(7), 12)].into(), 16, false);
        assert_eq!((plan.end, plan.begin.len()), (vec![identity(7)], 1));
    }
}
