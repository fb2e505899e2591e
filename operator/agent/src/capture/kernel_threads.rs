//! What does the kernel know of threads that a runtime names by their numbers in its own pid namespace?

use std::collections::HashMap;

use fleetprof_profile::Wait;

use super::looks::Doing;
use super::wall::waits_now;
use crate::proc::{self, SchedStat, parse_schedstat, read_bounded};

/// Threads of which is remembered what the scheduler counted.
const MOST_COUNTED: usize = 4_096;

/// The threads of one process.
pub struct KernelThreads {
    pid: i32,
    /// Where its namespace is not this one: number there → number here.
    outer: Option<HashMap<i32, i32>>,
    /// Whether the numbers were looked up for the answer under way.
    is_fresh: bool,
    counted: HashMap<i32, SchedStat>,
}

impl KernelThreads {
    /// The threads of a process.
    #[must_use]
    pub fn new(pid: i32) -> Self {
        let is_same = proc::inner_tid(pid, pid).is_none_or(|inner| inner == pid);
        Self { pid, outer: (!is_same).then(HashMap::new), is_fresh: false, counted: HashMap::new() }
    }

    /// The process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> usize {
        proc::threads(self.pid).map_or(0, |all| all.len())
    }

    /// A new answer of the runtime is read.
    pub fn begin(&mut self) {
        self.is_fresh = false;
        if self.counted.len() > MOST_COUNTED {
            self.counted.clear();
        }
    }

    fn outer(&mut self, inner: i32) -> Option<i32> {
        let pid = self.pid;
        let Some(known) = &mut self.outer else { return Some(inner) };
        if !known.contains_key(&inner) && !std::mem::replace(&mut self.is_fresh, true) {
            let all = proc::threads(pid).unwrap_or_default();
            *known = all.into_iter().filter_map(|tid| Some((proc::inner_tid(pid, tid)?, tid))).collect();
        }
        known.get(&inner).copied()
    }

    /// Whether a thread runs or waits for a CPU.
    pub fn is_ready(&mut self, inner: i32) -> bool {
        let stat = self.outer(inner).and_then(|tid| proc::thread_stat(self.pid, tid).ok());
        stat.is_some_and(|stat| stat.state == b'R')
    }

    /// What a thread waits for by its system call, where that may be known.
    pub fn waits(&mut self, inner: i32) -> Option<Wait> {
        let tid = self.outer(inner)?;
        waits_now(self.pid, tid)
    }

    /// What was counted of a thread that is ready since it was last, or since its start. One of which the kernel
    /// counts nothing runs.
    pub fn counted(&mut self, inner: i32) -> Doing {
        let now = self.outer(inner).and_then(|tid| schedstat(self.pid, tid)).unwrap_or_default();
        let before = self.counted.insert(inner, now).unwrap_or_default();
        Doing::Counted {
            ran: now.ran.saturating_sub(before.ran),
            delayed: now.delayed.saturating_sub(before.delayed),
        }
    }
}

fn schedstat(pid: i32, tid: i32) -> Option<SchedStat> {
    parse_schedstat(&read_bounded(format!("/proc/{pid}/task/{tid}/schedstat"), 96).ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn me() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn of_this_thread_is_known_that_it_runs() {
        let tid = nix::unistd::gettid().as_raw();
        let mut threads = KernelThreads::new(me());
        assert!(threads.is_ready(tid) && threads.count() > 0);
        // The time of a thread that has just begun is not counted yet.
        let by = Instant::now() + Duration::from_secs(10);
        while matches!(threads.counted(tid), Doing::Counted { ran: 0, .. }) {
            assert!(Instant::now() < by, "it is not counted");
            std::hint::spin_loop();
        }
        assert_eq!(threads.counted(i32::MAX), Doing::Counted { ran: 0, delayed: 0 });
        assert!(!threads.is_ready(i32::MAX));
        assert_eq!(threads.waits(i32::MAX), None);
    }

    #[test]
    fn numbers_of_another_namespace_are_looked_up_once_for_each_answer() {
        let mut threads =
            KernelThreads { outer: Some(HashMap::from([(7, me())])), ..KernelThreads::new(me()) };
        assert_eq!(threads.outer(7), Some(me()));
        assert_eq!(threads.outer(me()), Some(me()), "it is found among the threads");
        assert_eq!(threads.outer(7), None, "a number that is not there any more");
        threads.outer = Some(HashMap::new());
        assert_eq!(threads.outer(me()), None, "they were looked up already");
        threads.begin();
        assert_eq!(threads.outer(me()), Some(me()));
    }
}
