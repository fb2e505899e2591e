//! What was seen of a target's threads since the last slice?

use std::time::Duration;

use fleetprof_profile::{Frame, Wait};

use crate::capture::named_stacks::{FrameKey, Frames, MAX_DEPTH, Stacks, Weight, resolve};
use crate::capture::protocol::Failure;
use crate::capture::schedule::saturating_nanos;
use crate::capture::slices::Slice;
use crate::capture::wall::{MOST_WORTH, NOT_SAMPLED, ThreadState, split};

/// A longer mean distance of answers than this is said.
const SELDOM: Duration = Duration::from_millis(500);

/// Gives a function another name, and file and line, by the name that it has.
pub type Naming<'a> = dyn Fn(&str) -> Option<FrameKey> + 'a;

/// What some threads do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// They wait.
    Blocked(Wait),
    /// They run, or could: the CPU time of the target tells how many ran.
    Ready,
    /// The same, of which the scheduler has counted: nanoseconds that they ran, and that they waited for a CPU.
    Counted {
        /// Time on a CPU.
        ran: u64,
        /// Time without one.
        delayed: u64,
    },
}

/// What was seen since the last slice, and counts of all slices.
#[derive(Default)]
pub struct Seen {
    what: &'static str,
    frames: Frames,
    /// By their state; none where they run, or could.
    stacks: Stacks<Option<ThreadState>>,
    unsampled: Weight,
    /// What each thread of the answer under way is worth, and the time that is too long ago, in nanoseconds.
    worth: (u64, u64),
    /// Time that has passed until this answer.
    passing: Duration,
    /// Time of those that run, or could, and what the target used of CPU meanwhile, in nanoseconds.
    ready: u64,
    used: u64,
    samples: u64,
    /// Answers, the time between them, and the most threads in one.
    looks: u32,
    passed: Duration,
    threads: u64,
    most: u64,
}

impl Seen {
    /// Nothing yet of what is called so: `goroutines`, `threads`.
    pub fn of(what: &'static str) -> Self {
        Self { what, ..Self::default() }
    }

    /// Samples of all slices.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// An answer begins, so long after the last one.
    pub fn begin(&mut self, passed: Duration) {
        let worth = passed.min(MOST_WORTH);
        self.worth = (saturating_nanos(worth), saturating_nanos(passed.saturating_sub(worth)));
        (self.passing, self.threads) = (passed, 0);
    }

    /// Adds threads of the answer, by their stack, leaf first.
    pub fn add(&mut self, stack: &[Frame<'_>], count: u64, doing: Doing) {
        self.threads = self.threads.saturating_add(count);
        let (nanos, rest) = self.worth;
        if nanos == 0 {
            return;
        }
        let frames = &mut self.frames;
        let number = |frame: &Frame<'_>| {
            frames.number(frame.function, frame.file, u32::try_from(frame.line).unwrap_or(0))
        };
        let stack: Vec<_> = stack.iter().take(MAX_DEPTH).map(number).collect();
        let all = Weight { samples: count, nanos: nanos.saturating_mul(count) };
        self.samples = self.samples.saturating_add(count);
        match doing {
            Doing::Blocked(wait) => self.add_in(Some(ThreadState::Blocked(wait)), stack, all),
            Doing::Ready => {
                self.ready = self.ready.saturating_add(all.nanos);
                self.add_in(None, stack, all);
            }
            Doing::Counted { ran, delayed } => {
                let (running, runnable) = parts(all, ran, delayed);
                self.add_in(Some(ThreadState::Running), stack.clone(), running);
                self.add_in(Some(ThreadState::Runnable), stack, runnable);
            }
        }
        if rest > 0 {
            self.unsampled.add_many(Weight { samples: count, nanos: rest.saturating_mul(count) });
        }
    }

    fn add_in(&mut self, state: Option<ThreadState>, stack: Vec<u32>, weight: Weight) {
        if weight.nanos > 0 {
            self.stacks.add_many(state, stack, weight, &mut self.frames);
        }
    }

    /// The answer has ended; the target used so much CPU time since the last one.
    pub fn end(&mut self, used: Duration) {
        self.most = self.most.max(self.threads);
        if !self.passing.is_zero() {
            self.looks = self.looks.saturating_add(1);
            self.passed = self.passed.saturating_add(self.passing);
            self.used = self.used.saturating_add(saturating_nanos(used));
        }
    }

    /// Moves what was seen into a slice; functions whose names are known only now get them from `name`.
    ///
    /// # Errors
    /// The slice cannot hold it.
    pub fn drain(&mut self, slice: &mut Slice<'_>, name: &Naming<'_>) -> Result<(), Failure> {
        let frames = std::mem::take(&mut self.frames).renamed(name);
        let names: Vec<_> = frames.iter().collect();
        let (ready, used) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.used));
        for ((state, stack), weight) in self.stacks.take() {
            let stack = resolve(&stack, &names);
            let mut add = |state: ThreadState, part: Weight| match part.nanos {
                0 => Ok(()),
                nanos => slice.labelled(state.labels(), |slice| slice.add(&stack, part.samples, nanos)),
            };
            match state {
                Some(state) => add(state, weight)?,
                None => {
                    let (running, runnable) = parts(weight, used.min(ready), ready.saturating_sub(used));
                    add(ThreadState::Running, running)?;
                    add(ThreadState::Runnable, runnable)?;
                }
            }
        }
        match std::mem::take(&mut self.unsampled) {
            Weight { samples: 0, .. } => Ok(()),
            Weight { samples, nanos } => slice.add(&[Frame::named(NOT_SAMPLED, "", 0)], samples, nanos),
        }
    }

    /// Says that the target was asked seldom, where it was.
    pub fn seldom(&self) -> Option<String> {
        let distance = self.passed.checked_div(self.looks)?;
        (distance > SELDOM).then(|| {
            format!(
                "The {} were asked what they do every {:.1} s only, so that this takes 5 % of a CPU at most; there \
                 were up to {}.",
                self.what,
                distance.as_secs_f64(),
                self.most
            )
        })
    }
}

/// What threads that run, or could, are worth in both states, by time that was counted of both.
fn parts(all: Weight, ran: u64, delayed: u64) -> (Weight, Weight) {
    let (ran_nanos, delayed_nanos) = split(all.nanos, ran, delayed, true);
    let (ran_samples, delayed_samples) = split(all.samples, ran, delayed, true);
    let weight = |samples, nanos| Weight { samples, nanos };
    (weight(ran_samples, ran_nanos), weight(delayed_samples, delayed_nanos))
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::{Profile, ProfileBuilder, ProfileKind};

    use super::*;

    const NANOS: Duration = Duration::from_nanos(1);

    /// Name, state and what for, samples and nanoseconds.
    fn drained(seen: &mut Seen) -> Vec<(String, String, i64, i64)> {
        let mut slice = Slice::new(ProfileKind::Wall, 10, 0, vec![]);
        seen.drain(&mut slice, &|name| (name == "late").then(|| ("known".to_owned(), String::new(), 0)))
            .unwrap();
        let fresh = ProfileBuilder::new(ProfileKind::Wall, 10, 0);
        let profile: Profile = std::mem::replace(slice.builder(), fresh).finish(1, &[]);
        let text = |n: i64| profile.string_table[usize::try_from(n).unwrap()].clone();
        let row = |sample: &fleetprof_profile::proto::Sample| {
            let labels: Vec<String> = sample.label.iter().map(|label| text(label.str)).collect();
            let function = &profile.function[usize::try_from(sample.location_id[0]).unwrap() - 1];
            (text(function.name), labels.join(" "), sample.value[0], sample.value[1])
        };
        let mut rows: Vec<_> = profile.sample.iter().map(row).collect();
        rows.sort();
        rows
    }

    fn row(name: &str, labels: &str, samples: i64, nanos: i64) -> (String, String, i64, i64) {
        (name.to_owned(), labels.to_owned(), samples, nanos)
    }

    fn look(seen: &mut Seen, passed: Duration, used: Duration, threads: &[(&str, u64, Doing)]) {
        seen.begin(passed);
        for (name, count, doing) in threads {
            seen.add(&[Frame::named(name, "x.go", 7)], *count, *doing);
        }
        seen.end(used);
    }

    #[test]
    fn threads_are_worth_the_time_since_the_last_answer_in_their_states() {
        let mut seen = Seen::default();
        let threads = [
            ("pay", 1, Doing::Blocked(Wait::Socket)),
            ("guilty", 2, Doing::Ready),
            ("counted", 1, Doing::Counted { ran: 3, delayed: 1 }),
        ];
        look(&mut seen, Duration::ZERO, Duration::ZERO, &threads);
        for _ in 0..2 {
            look(&mut seen, 100 * NANOS, 150 * NANOS, &threads);
        }
        let wanted = [
            row("counted", "runnable", 2, 50),
            row("counted", "running", 0, 150),
            row("guilty", "runnable", 1, 100),
            row("guilty", "running", 3, 300),
            row("pay", "blocked socket", 2, 200),
        ];
        assert_eq!(drained(&mut seen), wanted);
        assert_eq!((drained(&mut seen), seen.samples, seen.most), (vec![], 8, 4));
    }

    #[test]
    fn what_the_target_used_beside_its_threads_makes_nothing_more_than_running() {
        let mut seen = Seen::default();
        look(&mut seen, 100 * NANOS, 900 * NANOS, &[("guilty", 1, Doing::Ready)]);
        assert_eq!(drained(&mut seen), [row("guilty", "running", 1, 100)]);
    }

    #[test]
    fn a_function_may_get_its_name_when_the_slice_is_written() {
        let mut seen = Seen::default();
        let threads = [("late", 1, Doing::Blocked(Wait::Lock)), ("known", 1, Doing::Blocked(Wait::Lock))];
        look(&mut seen, 100 * NANOS, Duration::ZERO, &threads);
        let nanos: i64 = drained(&mut seen).iter().map(|row| row.3).sum();
        assert_eq!(nanos, 200);
        look(&mut seen, 100 * NANOS, Duration::ZERO, &threads[..1]);
        assert_eq!(drained(&mut seen), [row("known", "blocked lock", 1, 100)]);
    }

    #[test]
    fn time_that_is_too_long_ago_is_kept_apart_and_a_seldom_look_is_said() {
        let mut seen = Seen::of("goroutines");
        assert_eq!(seen.seldom(), None);
        let threads = [("pay", 40_000, Doing::Blocked(Wait::Socket))];
        look(&mut seen, Duration::from_secs(9), Duration::ZERO, &threads);
        let rows = drained(&mut seen);
        assert!(rows.contains(&row("pay", "blocked socket", 40_000, 80_000_000_000_000)), "{rows:?}");
        assert!(rows.contains(&row(NOT_SAMPLED, "", 40_000, 280_000_000_000_000)), "{rows:?}");
        let note = seen.seldom().unwrap();
        assert!(note.contains("goroutines were asked") && note.contains("every 9.0 s"), "{note}");
        assert!(note.contains("up to 40000"), "{note}");
    }

    #[test]
    fn numbers_of_a_hostile_target_do_not_overflow() {
        let mut seen = Seen::default();
        let threads = [
            ("a", u64::MAX, Doing::Ready),
            ("b", u64::MAX, Doing::Blocked(Wait::Lock)),
            ("c", u64::MAX, Doing::Counted { ran: u64::MAX, delayed: u64::MAX }),
        ];
        for _ in 0..2 {
            look(&mut seen, Duration::MAX, Duration::MAX, &threads);
        }
        assert!(drained(&mut seen).len() >= 4);
        assert!(seen.seldom().is_some());
    }
}
