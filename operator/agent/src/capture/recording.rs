//! How does a capture without turns get its profiles? A thread of its own waits for the target, so that
//! the turns of other processes are not delayed.
//!
//! ```text
//! thread:  work(line) ── give(kind, what to read) ─┐        ending ─► the thread takes what is left
//! capture: drain ◄── reads, one at a time ─────────┘        abort ──► it gives up
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_profile::{Profile, ProfileKind};

use super::protocol::{Failure, FailureReason};
use super::slices::Slices;

/// Most things of one kind that wait to be read: those of a capture whose slices are written late.
const MAX_READY: usize = 4;
/// How long a thread that was told to give up is waited for.
const GIVES_UP: Duration = Duration::from_millis(300);
/// Stack of a thread; it counts as memory of the worker.
const STACK: usize = 512 << 10;

/// Something of the target that is read into a profile when a slice is written: one at a time, since what is
/// packed in some bytes may take much memory.
pub type Unread = Box<dyn FnOnce() -> Result<Profile, Failure> + Send>;

/// What the thread of a recording and its capture say to each other.
#[derive(Default)]
pub struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: Vec<(ProfileKind, Unread)>,
    failures: BTreeMap<ProfileKind, Failure>,
    ending: bool,
    aborted: bool,
    done: bool,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what was recorded of a kind.
    pub fn give(&self, kind: ProfileKind, unread: Unread) {
        let mut state = self.state();
        if state.ready.iter().filter(|(ready, _)| *ready == kind).count() < MAX_READY {
            state.ready.push((kind, unread));
        } else {
            let late =
                || Failure::internal(format!("{kind} profiles were recorded faster than they were read"));
            state.failures.entry(kind).or_insert_with(late);
        }
    }

    /// Says why a kind, or a part of it, could not be recorded. The first reason stays.
    pub fn fail(&self, kind: ProfileKind, failure: Failure) {
        self.state().failures.entry(kind).or_insert(failure);
        self.changed.notify_all();
    }

    /// Waits for the end of the capture, at most until `until`.
    pub fn wait(&self, until: Instant) {
        let mut state = self.state();
        while !state.ending {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether the capture ends: what is still to be taken is taken now.
    pub fn is_ending(&self) -> bool {
        self.state().ending
    }

    /// Whether the thread is to give up.
    pub fn is_aborted(&self) -> bool {
        self.state().aborted
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `is_so`, at most until `by`; says whether it is.
    fn wait_until(&self, by: Instant, is_so: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state();
        loop {
            if is_so(&state) {
                return true;
            }
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A thread that records.
pub struct Recording {
    line: Arc<Line>,
    /// Samples and worth of what was read.
    samples: u64,
}

impl Recording {
    /// Starts `work` in a thread of its own. It ends by itself soon after [`Line::is_ending`], and at once
    /// after [`Line::is_aborted`].
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(work: impl FnOnce(&Line) + Send + 'static) -> Result<Self, Failure> {
        let line = Arc::new(Line::default());
        let of_thread = Arc::clone(&line);
        let thread = std::thread::Builder::new().name("recording".into()).stack_size(STACK);
        let spawned = thread.spawn(move || {
            let done = Done(&of_thread);
            work(&of_thread);
            drop(done);
        });
        match spawned {
            Ok(_ends_by_itself) => Ok(Self { line, samples: 0 }),
            Err(e) => Err(Failure::internal(format!("failed to start a thread for a recording: {e}"))),
        }
    }

    /// Why a kind could not be recorded, where that turns out within so long.
    #[must_use]
    pub fn failure_within(&self, kind: ProfileKind, most: Duration) -> Option<Failure> {
        let is_known = |state: &State| state.failures.contains_key(&kind) || state.done;
        self.line.wait_until(Instant::now() + most, is_known);
        self.line.state().failures.get(&kind).cloned()
    }

    /// Reads what was handed over into slices. What cannot be read is a failure of its kind.
    ///
    /// # Errors
    /// The kind is not captured.
    pub fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let ready = std::mem::take(&mut self.line.state().ready);
        for (kind, unread) in ready {
            let before = into.kind(kind)?.samples;
            if let Err(failure) = unread().and_then(|profile| into.merge(kind, &profile)) {
                self.line.fail(kind, failure);
            }
            self.samples = self.samples.saturating_add(into.kind(kind)?.samples.saturating_sub(before));
        }
        Ok(())
    }

    /// Samples that were read so far, of all kinds.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Why kinds could not be recorded.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<ProfileKind, Failure> {
        self.line.state().failures.clone()
    }

    /// Tells the thread that the capture ends.
    pub fn ending(&self) {
        self.line.change(|state| state.ending = true);
    }

    /// Waits until the thread has ended, and has it give up at `by`.
    pub fn stop(&self, by: Instant) {
        self.ending();
        if !self.line.wait_until(by, |state| state.done) {
            self.line.change(|state| state.aborted = true);
            self.line.wait_until(Instant::now() + GIVES_UP, |state| state.done);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.line.change(|state| (state.ending, state.aborted) = (true, true));
    }
}

/// Says that a thread has ended, also where it crashed.
struct Done<'a>(&'a Line);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let crashed = std::thread::panicking();
        self.0.change(|state| {
            state.done = true;
            if crashed {
                let failure =
                    Failure::new(FailureReason::CollectorCrashed, "the thread that records crashed");
                for kind in ProfileKind::ALL {
                    state.failures.entry(kind).or_insert_with(|| failure.clone());
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::{Frame, ProfileBuilder};

    use super::*;
    use ProfileKind::{Cpu, Heap};

    fn unread(samples: i64) -> Unread {
        Box::new(move || {
            let mut builder = ProfileBuilder::new(Heap, 1, 0);
            let added = builder.add(&[Frame::named("f", "", 0)], &[samples, samples], &[]);
            added.map_err(Failure::internal)?;
            Ok(builder.finish(1, &[]))
        })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn what_is_taken_at_the_end_is_in_the_last_slice() {
        let mut recording = Recording::start(|line| {
            line.wait(soon());
            line.give(Heap, unread(7));
        })
        .unwrap();
        let mut slices = Slices::new(&[Heap], 1, |_| 0, &[]);
        recording.drain(&mut slices).unwrap();
        assert_eq!(slices.samples(), 0);
        recording.stop(soon());
        recording.drain(&mut slices).unwrap();
        assert_eq!((slices.samples(), recording.samples()), (7, 7));
        recording.stop(Instant::now());
    }

    #[test]
    fn a_thread_that_hangs_is_left_behind_and_one_that_crashes_says_so() {
        let hangs = Recording::start(|line| while !line.is_aborted() {}).unwrap();
        let start = Instant::now();
        hangs.stop(Instant::now() + Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(hangs.failures(), BTreeMap::new());

        let crashes = Recording::start(|_| panic!("a fault")).unwrap();
        let failure = crashes.failure_within(Cpu, Duration::from_secs(10)).unwrap();
        assert_eq!(failure.reason, FailureReason::CollectorCrashed);
    }

    #[test]
    fn what_cannot_be_read_or_comes_too_fast_is_a_failure_of_its_kind() {
        let (full, faulty) = (MAX_READY + 3, || Box::new(|| Err(Failure::internal("torn"))) as Unread);
        let mut recording = Recording::start(move |line| {
            (0..full).for_each(|_| line.give(Heap, unread(1)));
            line.give(Cpu, faulty());
        })
        .unwrap();
        recording.stop(soon());
        let mut slices = Slices::new(&[Heap, Cpu], 1, |_| 0, &[]);
        recording.drain(&mut slices).unwrap();
        assert_eq!(slices.samples(), MAX_READY as u64);
        let failures = recording.failures();
        assert!(failures[&Heap].message.contains("faster"), "{failures:?}");
        assert_eq!(failures[&Cpu].message, "torn");
    }

    #[test]
    fn an_early_failure_is_waited_for_and_a_success_is_not_taken_for_one() {
        let fails = Recording::start(|line| line.fail(Cpu, Failure::internal("in use"))).unwrap();
        assert_eq!(fails.failure_within(Cpu, Duration::from_secs(10)).unwrap().message, "in use");
        let works = Recording::start(|line| line.wait(soon())).unwrap();
        assert_eq!(works.failure_within(Cpu, Duration::from_millis(30)), None);
    }
}
