//! How long was each thread of an interpreter where it is, and did it run or wait there?

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use fleetprof_profile::{Frame, Wait};

use super::named_stacks::{FrameId, Frames, Stacks, Weight, resolve};
use super::protocol::Failure;
use super::slices::Slice;
use super::wall::{Look, NOT_SAMPLED, Pace, Place, ThreadState, Threads};

/// A thread of which the interpreter knows.
pub struct Sighted {
    /// The system's id.
    pub tid: i32,
    /// Its stack, leaf first: empty where it runs no code, `None` where it could not be read.
    pub stack: Option<Vec<FrameId>>,
    /// What it waits for where the kernel says that it is a futex.
    pub futex: Wait,
}

impl Sighted {
    /// One of which nothing tells what its futex is.
    pub const fn new(tid: i32, stack: Option<Vec<FrameId>>) -> Self {
        Self { tid, stack, futex: Wait::Futex }
    }
}

/// The wall time of one process's threads since the last slice.
pub struct WallTime {
    /// When the next turn is due.
    pub pace: Pace,
    threads: Threads,
    /// The frame of threads that run no code of the interpreter.
    others: &'static str,
    stacks: Stacks<ThreadState>,
    /// Time that no stack stands for.
    unsampled: Weight,
}

impl WallTime {
    /// Starts to count the time of every thread; those that run no code of the interpreter have the frame
    /// `others`.
    ///
    /// # Errors
    /// The threads may not be looked at.
    pub fn start(pid: i32, period: Duration, now: Instant, others: &'static str) -> io::Result<Self> {
        Ok(Self {
            others,
            pace: Pace::new(period, now),
            threads: Threads::start(pid, now)?,
            stacks: Stacks::default(),
            unsampled: Weight::default(),
        })
    }

    /// Counts the time of every thread up to `now`: those that were seen for their stacks, others as threads
    /// without code. The time of one whose stack could not be read counts the next time.
    pub fn count(&mut self, seen: Vec<Sighted>, frames: &mut Frames, now: Instant) {
        self.threads.refresh(now);
        let mut counted = HashSet::new();
        for thread in seen {
            match &thread.stack {
                Some(stack) if stack.is_empty() => continue,
                _ => counted.insert(thread.tid),
            };
            self.count_thread(thread, frames, now);
        }
        for tid in self.threads.ids() {
            if !counted.contains(&tid) {
                let stack = Some(vec![frames.number(self.others, "", 0)]);
                self.count_thread(Sighted::new(tid, stack), frames, now);
            }
        }
    }

    fn count_thread(&mut self, thread: Sighted, frames: &mut Frames, now: Instant) {
        let Sighted { tid, stack: Some(stack), futex } = thread else { return };
        let look = self.threads.look(tid, now);
        if look == Look::Gone {
            return;
        }
        let (spent, rest) = self.threads.spend(tid, now).bounded();
        let blocked = |place: Place| ThreadState::Blocked(told(place.wait, futex));
        match look {
            Look::Waits(place, true) => {
                self.add(blocked(place), stack, frames, spent.nanos.saturating_add(rest));
                return;
            }
            Look::Waits(place, false) => {
                self.add(blocked(place), stack, frames, spent.nanos);
            }
            Look::Ready(_) => {
                let (running, runnable) = spent.split();
                self.add(ThreadState::Running, stack.clone(), frames, running);
                self.add(ThreadState::Runnable, stack, frames, runnable);
            }
            Look::Gone => {}
        }
        if rest > 0 {
            self.unsampled.add(rest);
        }
    }

    fn add(&mut self, state: ThreadState, stack: Vec<FrameId>, frames: &mut Frames, nanos: u64) {
        if nanos > 0 {
            self.stacks.add(state, stack, nanos, frames);
        }
    }

    /// Moves what was counted into a slice.
    ///
    /// # Errors
    /// The slice cannot hold it.
    pub fn drain(&mut self, frames: &Frames, slice: &mut Slice<'_>) -> Result<(), Failure> {
        let names = frames.by_number();
        for ((state, stack), weight) in self.stacks.take() {
            let stack = resolve(&stack, &names);
            slice.labelled(state.labels(), |slice| slice.add(&stack, weight.samples, weight.nanos))?;
        }
        let Weight { samples, nanos } = std::mem::take(&mut self.unsampled);
        match samples {
            0 => Ok(()),
            samples => slice.add(&[Frame::named(NOT_SAMPLED, "", 0)], samples, nanos),
        }
    }
}

/// What a thread waits for, where the interpreter tells more of a futex than the kernel.
const fn told(wait: Wait, futex: Wait) -> Wait {
    match wait {
        Wait::Futex => futex,
        other => other,
    }
}
