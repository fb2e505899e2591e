//! How long was each Python thread where it is, and did it run or wait there?

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use fleetprof_profile::Frame;

use super::NATIVE_THREADS;
use crate::capture::named_stacks::{FrameId, Frames, Stacks, Weight, resolve};
use crate::capture::protocol::Failure;
use crate::capture::slices::Slice;
use crate::capture::wall::{Look, NOT_SAMPLED, Pace, ThreadState, Threads};

/// The wall time of one process's threads since the last slice.
pub struct WallTime {
    /// When the next turn is due.
    pub pace: Pace,
    threads: Threads,
    stacks: Stacks<ThreadState>,
    /// Time that no stack stands for.
    unsampled: Weight,
}

impl WallTime {
    /// Starts to count the time of every thread.
    ///
    /// # Errors
    /// The threads may not be looked at.
    pub fn start(pid: i32, period: Duration, now: Instant) -> io::Result<Self> {
        Ok(Self {
            pace: Pace::new(period, now),
            threads: Threads::start(pid, now)?,
            stacks: Stacks::default(),
            unsampled: Weight::default(),
        })
    }

    /// Counts the time of every thread up to `now`: those that were seen for their stacks, others as threads
    /// without Python code. The time of one whose stack could not be read counts the next time.
    pub fn count(&mut self, seen: Vec<(i32, Option<Vec<FrameId>>)>, frames: &mut Frames, now: Instant) {
        self.threads.refresh(now);
        let mut counted = HashSet::new();
        for (tid, stack) in seen {
            match stack {
                Some(stack) if stack.is_empty() => continue,
                Some(stack) => self.count_thread(tid, stack, frames, now),
                None => {}
            }
            counted.insert(tid);
        }
        for tid in self.threads.ids() {
            if !counted.contains(&tid) {
                let stack = vec![frames.number(NATIVE_THREADS, "", 0)];
                self.count_thread(tid, stack, frames, now);
            }
        }
    }

    fn count_thread(&mut self, tid: i32, stack: Vec<FrameId>, frames: &mut Frames, now: Instant) {
        let look = self.threads.look(tid, now);
        if look == Look::Gone {
            return;
        }
        let (spent, rest) = self.threads.spend(tid, now).bounded();
        match look {
            Look::Waits(place, true) => {
                self.add(ThreadState::Blocked(place.wait), stack, frames, spent.nanos.saturating_add(rest));
                return;
            }
            Look::Waits(place, false) => {
                self.add(ThreadState::Blocked(place.wait), stack, frames, spent.nanos);
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
