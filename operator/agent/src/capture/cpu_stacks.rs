//! For what did a thread use its CPU time, where it is looked at from time to time?
//!
//! ```text
//! looked at:      runs in guilty      waits in pay     waits in pay       runs in pay
//! CPU time since:    4 ms                3 ms              0                0.1 ms
//! goes to:         guilty              guilty              –                pay
//! ```
//! What it used before it began to wait went where it was the look before. Where it waited then as well, all of it
//! passed unseen: that is spread over the stacks of the thread in the slice, by what they have. Were it kept for the
//! next look instead, a function that waits would get it on a node whose CPUs are busy: there a thread that has just
//! woken up waits for a CPU, and the system says that it runs.

use std::collections::HashMap;

use fleetprof_profile::Frame;

use super::cpu_time::{ThreadTimes, most_worth};
use super::named_stacks::{FrameId, Frames, Stacks, resolve};
use super::protocol::Failure;
use super::slices::Slice;
use super::wall::NOT_SAMPLED;

/// What a look finds of a thread.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<S> {
    /// It used no CPU time.
    Rests,
    /// It runs, and used so many nanoseconds: its stack is to be read.
    Runs(u64),
    /// It waits, and used so many nanoseconds since the last look, when it ran and had this stack.
    Ran(u64, S),
    /// It waits, as it did at the last look, and used so many nanoseconds between.
    Unseen(u64),
}

/// The stacks that threads had at the last look, of those that ran.
#[derive(Debug)]
pub struct LastStacks<S>(HashMap<i32, S>);

impl<S> Default for LastStacks<S> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<S> LastStacks<S> {
    /// What is to be counted of a thread now.
    pub fn look(&mut self, times: &ThreadTimes, tid: i32) -> Look<S> {
        self.decide(tid, times.uncounted(tid), || times.runnable(tid))
    }

    fn decide(&mut self, tid: i32, nanos: u64, runnable: impl FnOnce() -> bool) -> Look<S> {
        // Most threads of a process sleep: whether they do is asked only where it matters.
        if nanos == 0 && !self.0.contains_key(&tid) {
            return Look::Rests;
        }
        match (runnable(), nanos) {
            // It waits for a CPU, and is where it was.
            (true, 0) => Look::Rests,
            (true, nanos) => Look::Runs(nanos),
            (false, nanos) => match (self.0.remove(&tid), nanos) {
                (_, 0) => Look::Rests,
                (Some(stack), nanos) => Look::Ran(nanos, stack),
                (None, nanos) => Look::Unseen(nanos),
            },
        }
    }

    /// Notes the stack of a thread that runs.
    pub fn note(&mut self, tid: i32, stack: S) {
        self.0.insert(tid, stack);
    }

    /// Forgets that of one thread: it has run on, and nothing tells where.
    pub fn lose(&mut self, tid: i32) {
        self.0.remove(&tid);
    }

    /// Forgets all: the numbers of frames have changed, or threads may have ended.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// The stacks of a slice, by thread, with the CPU time that each is worth.
#[derive(Debug)]
pub struct CpuStacks {
    /// Nanoseconds between two looks.
    period: std::time::Duration,
    stacks: Stacks<i32>,
    last: LastStacks<Vec<FrameId>>,
    /// Nanoseconds that passed unseen, by thread.
    unseen: HashMap<i32, u64>,
    /// Whether the next slice is the last.
    closed: bool,
}

impl CpuStacks {
    /// For threads that are looked at so often.
    pub fn new(period: std::time::Duration) -> Self {
        Self {
            period,
            stacks: Stacks::default(),
            last: LastStacks::default(),
            unseen: HashMap::new(),
            closed: false,
        }
    }

    /// Looks at a thread, and counts what it used. `read` gives its stack, or none where it runs no code of the
    /// interpreter; it is asked only where the thread runs. Whether it was read.
    ///
    /// # Errors
    /// That of `read`: the time counts with the next look.
    pub fn look<E>(
        &mut self,
        (times, tid): (&mut ThreadTimes, i32),
        frames: &mut Frames,
        read: impl FnOnce(&mut Frames) -> Result<Vec<FrameId>, E>,
    ) -> Result<bool, E> {
        let (nanos, stack, is_read) = match self.last.look(times, tid) {
            Look::Rests => return Ok(false),
            Look::Unseen(nanos) => {
                times.count(tid, nanos);
                *self.unseen.entry(tid).or_default() += most_worth(nanos, self.period);
                return Ok(false);
            }
            Look::Ran(nanos, stack) => (nanos, stack, false),
            Look::Runs(nanos) => {
                self.last.lose(tid);
                let stack = read(frames)?;
                if stack.is_empty() {
                    return Ok(false);
                }
                self.last.note(tid, stack.clone());
                (nanos, stack, true)
            }
        };
        times.count(tid, nanos);
        self.add(tid, stack, most_worth(nanos, self.period), frames);
        Ok(is_read)
    }

    /// Adds a stack of a thread, leaf first, that is worth so many nanoseconds.
    pub fn add(&mut self, tid: i32, stack: Vec<FrameId>, nanos: u64, frames: &mut Frames) {
        self.stacks.add(tid, stack, nanos, frames);
    }

    /// The next slice is the last one.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Moves the stacks into a slice. What passed unseen of a thread without a stack waits for the next one; of a
    /// thread that has ended, and in the last slice, it is time that was not sampled.
    ///
    /// # Errors
    /// The slice cannot hold them.
    pub fn drain(
        &mut self,
        times: &ThreadTimes,
        frames: &Frames,
        slice: &mut Slice<'_>,
    ) -> Result<(), Failure> {
        self.last.forget();
        let names = frames.by_number();
        let all = self.stacks.take();
        let mut seen: HashMap<i32, u64> = HashMap::new();
        for ((tid, _), weight) in &all {
            *seen.entry(*tid).or_default() += weight.nanos;
        }
        for ((tid, stack), weight) in all {
            let of_thread = seen.get(&tid).copied().unwrap_or_default();
            let unseen = self.unseen.get(&tid).copied().unwrap_or_default();
            let more = share(unseen, weight.nanos, of_thread);
            slice.add(&resolve(&stack, &names), weight.samples, weight.nanos.saturating_add(more))?;
        }
        self.unseen.retain(|tid, _| !seen.contains_key(tid));
        let ended =
            self.unseen.extract_if(|tid, _| self.closed || !times.knows(*tid)).map(|(_, nanos)| nanos);
        match ended.sum() {
            0 => Ok(()),
            nanos => slice.add(&[Frame::named(NOT_SAMPLED, "", 0)], 1, nanos),
        }
    }
}

/// The share of `whole` that `part` of `parts` gets, rounded down.
fn share(whole: u64, part: u64, parts: u64) -> u64 {
    let share = u128::from(whole) * u128::from(part) / u128::from(parts.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::ProfileKind;

    use super::*;

    #[test]
    fn what_a_thread_used_before_it_waits_went_where_it_was_before() {
        let mut last = LastStacks::default();
        let mut look = |nanos, runnable, stack: Option<&'static str>| {
            let found = last.decide(7, nanos, || runnable);
            stack.into_iter().for_each(|stack| last.note(7, stack));
            found
        };
        assert_eq!(look(5, false, None), Look::Unseen(5));
        assert_eq!(look(9, true, Some("guilty")), Look::Runs(9));
        assert_eq!(look(0, true, None), Look::Rests, "it waits for a CPU");
        assert_eq!(look(4, false, None), Look::Ran(4, "guilty"), "and waits now");
        assert_eq!(look(1, false, None), Look::Unseen(1), "it woke up between");
        assert_eq!(look(2, true, Some("pay")), Look::Runs(2));
        assert_eq!(look(0, false, None), Look::Rests);
        assert_eq!(look(3, false, None), Look::Unseen(3), "it has waited since");
    }

    #[test]
    fn what_passed_unseen_is_spread_over_the_stacks_of_its_thread() {
        let mut frames = Frames::default();
        let mut stacks = CpuStacks::new(std::time::Duration::from_millis(10));
        let [guilty, pay, other] = ["guilty", "pay", "other"].map(|name| frames.number(name, "orders.py", 1));
        for (tid, frame, nanos) in [(1, guilty, 900), (1, pay, 100), (2, other, 50)] {
            stacks.add(tid, vec![frame], nanos, &mut frames);
        }
        let mine = i32::try_from(std::process::id()).unwrap();
        stacks.unseen = [(1, 2_000), (mine, 7)].into();
        let times = ThreadTimes::start(mine).unwrap();
        let mut slice = Slice::new(ProfileKind::Cpu, 10, 0, vec![]);
        stacks.drain(&times, &frames, &mut slice).unwrap();
        assert_eq!(
            (slice.samples, slice.worth),
            (3, 3_050),
            "900 + 1800, 100 + 200, and 50 of another thread"
        );
        assert_eq!(stacks.unseen, [(mine, 7)].into(), "of this one nothing is known yet");
        stacks.unseen = [(-1, 9)].into();
        stacks.drain(&times, &frames, &mut slice).unwrap();
        assert_eq!((slice.samples, slice.worth), (4, 3_059), "that one has ended");
        stacks.unseen = [(mine, 5)].into();
        stacks.close();
        stacks.drain(&times, &frames, &mut slice).unwrap();
        assert_eq!((slice.samples, slice.worth), (5, 3_064), "there is no other slice for it");
        assert!(stacks.unseen.is_empty());
    }

    #[test]
    fn a_share_is_one_of_the_whole() {
        assert_eq!([share(10, 1, 3), share(u64::MAX, 2, 2), share(5, 0, 0)], [3, u64::MAX, 0]);
    }
}
