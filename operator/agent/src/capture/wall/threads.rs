//! What does each thread of a process do now, and how much time has passed since it was last counted?
//!
//! The kernel counts for each thread how long it ran, how long it waited for a CPU, and how often it was given
//! one. Where these numbers have not changed, the thread has not run, and waits where it did: so a pool of
//! hundreds of parked threads costs one small read for each.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::waits::{Doing, Place, doing, wait_of};
use crate::capture::schedule::saturating_nanos;
use crate::proc::{self, SchedStat, parse_schedstat};

/// How often new threads are looked for.
const SCAN: Duration = Duration::from_millis(100);
/// A thread that has not run for so long is parked: it is not asked whether it was just woken and waits for a
/// CPU, which costs a second read.
const QUIET: Duration = Duration::from_secs(2);
/// Longest time that a stack stands for, unless its thread has not run at all.
pub const MOST_WORTH: Duration = Duration::from_secs(2);

/// What a thread does when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It runs or waits for a CPU; whether it has not run since the last look, so that its stack is the same.
    Ready(bool),
    /// It waits here; whether it has not run since the last look, so that its stack is the same.
    Waits(Place, bool),
    /// It has ended, or may not be looked at.
    Gone,
}

/// Time of a thread that is counted now, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Time that passed since it was last counted.
    pub nanos: u64,
    ran: u64,
    delayed: u64,
    was_scheduled: bool,
}

impl Spent {
    /// Of a thread that has something to do: the time that it ran, and that it waited for a CPU.
    #[must_use]
    pub fn split(self) -> (u64, u64) {
        super::state::split(self.nanos, self.ran, self.delayed, self.was_scheduled)
    }

    /// Cut to what a stack stands for, and the rest in nanoseconds.
    #[must_use]
    pub fn bounded(self) -> (Self, u64) {
        let nanos = self.nanos.min(saturating_nanos(MOST_WORTH));
        (Self { nanos, ..self }, self.nanos - nanos)
    }
}

struct Thread {
    /// Its `schedstat` file, where the kernel has one.
    file: Option<File>,
    seen: SchedStat,
    counted: SchedStat,
    /// Until when its time is counted.
    until: Instant,
    /// When it was last seen to have run since the capture began.
    active: Option<Instant>,
    place: Option<Place>,
}

impl Thread {
    fn open(pid: i32, tid: i32, since: Instant) -> Option<Self> {
        let file = match File::open(format!("/proc/{pid}/task/{tid}/schedstat")) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return None,
        };
        let mut thread = Self {
            file,
            seen: SchedStat::default(),
            counted: SchedStat::default(),
            until: since,
            active: None,
            place: None,
        };
        thread.counted = thread.counts().unwrap_or_default();
        thread.seen = thread.counted;
        Some(thread)
    }

    /// `None` when it is gone; zeros where the kernel does not count.
    fn counts(&self) -> Option<SchedStat> {
        let Some(file) = &self.file else { return Some(SchedStat::default()) };
        let mut buffer = [0; 96];
        let n = file.read_at(&mut buffer, 0).ok().filter(|n| *n > 0)?;
        parse_schedstat(buffer.get(..n)?)
    }

    fn look(&mut self, pid: i32, tid: i32, now: Instant) -> Look {
        let Some(counts) = self.counts() else { return Look::Gone };
        let unchanged = counts.times > 0 && counts == self.seen;
        if !unchanged {
            (self.seen, self.active) = (counts, Some(now));
        }
        let parked = self.active.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        if let Some(place) = self.place.filter(|_| unchanged && parked) {
            return Look::Waits(place, true);
        }
        let known = self.place.take().filter(|_| unchanged);
        match doing(pid, tid) {
            None => Look::Gone,
            Some(Doing::Running) => Look::Ready(unchanged),
            Some(Doing::Waiting { call, sp, pc }) => {
                let same = known.filter(|known| (known.sp, known.pc) == (sp, pc));
                let place = same.unwrap_or_else(|| Place { wait: wait_of(pid, call), sp, pc });
                self.place = Some(place);
                Look::Waits(place, same.is_some())
            }
        }
    }
}

/// The threads of one process.
pub struct Threads {
    pid: i32,
    known: BTreeMap<i32, Thread>,
    scanned: Instant,
    /// Most threads that could not be followed at a time.
    left_out: usize,
}

impl Threads {
    /// Starts to count the time of every thread at `now`.
    ///
    /// # Errors
    /// The process is gone, or its threads may not be looked at.
    pub fn start(pid: i32, now: Instant) -> io::Result<Self> {
        // Opening is not enough: the kernel checks when the file is read.
        proc::read_bounded(format!("/proc/{pid}/task/{pid}/syscall"), 512)?;
        let mut threads = Self { pid, known: BTreeMap::new(), scanned: now, left_out: 0 };
        threads.scan(now)?;
        Ok(threads)
    }

    /// Finds threads that are new and forgets those that are gone, where it is time to.
    pub fn refresh(&mut self, now: Instant) {
        if now.saturating_duration_since(self.scanned) >= SCAN {
            let _gone = self.scan(now);
            self.scanned = now;
        }
    }

    fn scan(&mut self, now: Instant) -> io::Result<()> {
        let all = proc::threads(self.pid)?;
        let alive: HashSet<i32> = all.iter().copied().collect();
        self.known.retain(|tid, _| alive.contains(tid));
        for tid in &all {
            if !self.known.contains_key(tid) {
                let most = now.saturating_duration_since(self.scanned);
                let age = if most.is_zero() {
                    most
                } else {
                    proc::thread_age(self.pid, *tid).unwrap_or(most).min(most)
                };
                if let Some(thread) = Thread::open(self.pid, *tid, now.checked_sub(age).unwrap_or(now)) {
                    self.known.insert(*tid, thread);
                }
            }
        }
        self.left_out = self.left_out.max(all.len().saturating_sub(self.known.len()));
        Ok(())
    }

    /// The threads that are known, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<i32> {
        self.known.keys().copied().collect()
    }

    /// Whether a thread is known.
    #[must_use]
    pub fn knows(&self, tid: i32) -> bool {
        self.known.contains_key(&tid)
    }

    /// Threads that could not be followed, because there are too many.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// What a thread does now.
    pub fn look(&mut self, tid: i32, now: Instant) -> Look {
        let pid = self.pid;
        self.known.get_mut(&tid).map_or(Look::Gone, |thread| thread.look(pid, tid, now))
    }

    /// Whether a thread has run since it was last looked at.
    #[must_use]
    pub fn has_run(&self, tid: i32) -> bool {
        self.known.get(&tid).is_none_or(|thread| thread.counts() != Some(thread.seen))
    }

    /// Counts the time of a thread up to `now`.
    pub fn spend(&mut self, tid: i32, now: Instant) -> Spent {
        let Some(thread) = self.known.get_mut(&tid) else { return Spent::default() };
        let spent = Spent {
            nanos: saturating_nanos(now.saturating_duration_since(thread.until)),
            ran: thread.seen.ran.saturating_sub(thread.counted.ran),
            delayed: thread.seen.delayed.saturating_sub(thread.counted.delayed),
            was_scheduled: thread.seen.times != thread.counted.times,
        };
        (thread.counted, thread.until) = (thread.seen, now.max(thread.until));
        spent
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use fleetprof_profile::Wait;

    use super::*;

    fn me() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn a_long_time_is_cut_to_what_a_stack_stands_for() {
        let spent = |secs: u64| Spent { nanos: secs * 1_000_000_000, ..Spent::default() };
        let bounded = |secs| {
            let (spent, rest) = spent(secs).bounded();
            (spent.nanos / 1_000_000_000, rest / 1_000_000_000)
        };
        assert_eq!((bounded(1), bounded(2), bounded(9)), ((1, 0), (2, 0), (2, 7)));
    }

    #[test]
    fn a_parked_thread_waits_in_one_place_and_its_time_is_that_of_the_clock() {
        let (tell, told) = channel();
        let parked = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            std::thread::park();
        });
        let tid = told.recv().unwrap();
        let by = Instant::now() + Duration::from_secs(30);
        while !matches!(super::super::waits::doing(me(), tid), Some(Doing::Waiting { .. })) {
            assert!(Instant::now() < by, "it does not wait");
            std::thread::sleep(Duration::from_millis(1));
        }
        let start = Instant::now();
        let mut threads = Threads::start(me(), start).unwrap();
        let Look::Waits(place, false) = threads.look(tid, start) else { panic!("the first look") };
        assert_eq!(place.wait, Wait::Futex);
        assert_eq!(threads.look(tid, start), Look::Waits(place, true));
        assert!(!threads.has_run(tid));
        let later = start + Duration::from_millis(700);
        assert_eq!(threads.spend(tid, later).nanos, 700_000_000);
        assert_eq!(threads.spend(tid, later).nanos, 0, "time is counted once");
        parked.thread().unpark();
        parked.join().unwrap();
        assert_eq!(threads.look(tid, later), Look::Gone);
        threads.refresh(start + Duration::from_secs(1));
        assert!(!threads.knows(tid) && threads.knows(me()));
    }

    #[test]
    fn a_thread_that_spins_is_ready_and_a_new_one_counts_from_its_start() {
        let start = Instant::now();
        let mut threads = Threads::start(me(), start).unwrap();
        let (tell, told) = channel();
        let (stop, stopped) = channel::<()>();
        let spins = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                std::hint::spin_loop();
            }
        });
        let tid = told.recv().unwrap();
        let by = Instant::now() + Duration::from_secs(30);
        while proc::thread_stat(me(), tid).unwrap().user_ticks < 20 {
            assert!(Instant::now() < by, "it does not spin");
            std::thread::sleep(Duration::from_millis(10));
        }
        let now = Instant::now();
        threads.refresh(now);
        assert!(matches!(threads.look(tid, now), Look::Ready(_)));
        let spent = threads.spend(tid, now);
        let most = saturating_nanos(now - start);
        assert!((190_000_000..=most).contains(&spent.nanos), "{} of {most} ns", spent.nanos);
        drop(stop);
        spins.join().unwrap();
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Threads::start(i32::MAX, Instant::now()).is_err());
    }
}
