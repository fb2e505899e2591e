//! How is wall time captured of a target that tells itself what it does? It is asked for all stacks several times a
//! second, by a thread that adds up what they are worth.
//!
//! ```text
//! ask ─► groups (stack, number, what they do) × time since the last answer ─► slices
//! ```
//! Each thread in an answer is worth the time since the last answer. So no thread has to be recognised, and those
//! that live for a moment only are right on average.

mod seen;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_profile::ProfileKind;
use nix::time::{ClockId, clock_gettime};

pub use self::seen::{Doing, Naming, Seen};
use crate::capture::collector::Tally;
use crate::capture::protocol::Failure;
use crate::capture::recording::{Line, Recording};
use crate::capture::slices::Slices;
use crate::capture::wall::{self, Pace};

/// Shortest distance of two answers: one is work for the target.
const SHORTEST: Duration = Duration::from_millis(100);
/// How long an answer may take.
const TAKEN: Duration = Duration::from_secs(4);
/// How long the target is left alone after one that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Answers whose costs are remembered. What one costs is seen from above, so that the least of them is nearest.
const REMEMBERED: usize = 4;

/// Something that tells what its threads, or the like, do.
pub trait Telling: Send + 'static {
    /// What it answers.
    type Answer;

    /// What is counted, such as `goroutines`.
    const WHAT: &'static str;

    /// Asks for all stacks. What it gives back beside the answer is what the answer may have cost the target.
    ///
    /// # Errors
    /// The target gave no usable answer in time.
    fn ask(
        &mut self,
        by: Instant,
        is_aborted: &dyn Fn() -> bool,
    ) -> Result<(Self::Answer, Duration), Failure>;

    /// Adds what an answer tells.
    ///
    /// # Errors
    /// It tells something else.
    fn add(&mut self, answer: &Self::Answer, seen: &mut Seen) -> Result<(), Failure>;

    /// CPU time that the target has used, where it tells how many of those that could run did.
    fn used(&self) -> Duration {
        Duration::ZERO
    }
}

/// The looks at one target.
pub struct Looks {
    recording: Recording,
    seen: Arc<Mutex<Seen>>,
}

impl Looks {
    /// Asks once, and then again and again until the capture ends, at most `frequency_hz` times a second.
    ///
    /// # Errors
    /// The target does not answer.
    pub fn begin<T: Telling>(target: T, frequency_hz: u32) -> Result<Self, Failure> {
        let seen = Arc::new(Mutex::new(Seen::of(T::WHAT)));
        let mut looker = Looker::new(target, frequency_hz, Arc::clone(&seen));
        // It tells what an answer costs; no time has passed that it could stand for.
        looker.look(&|| false)?;
        let recording = Recording::start(move |line| looker.look_until_end(line))?;
        Ok(Self { recording, seen })
    }

    /// The thread, to end it.
    pub const fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What the looks have to say so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let seen = lock(&self.seen);
        let (taken, lacking) = (seen.samples(), seen.seldom());
        Tally {
            expected: Some(taken),
            taken,
            lacking,
            failures: self.recording.failures(),
            ..Tally::default()
        }
    }

    /// Moves what was seen into the slice.
    ///
    /// # Errors
    /// The slice cannot hold it.
    pub fn drain(&self, into: &mut Slices<'_>) -> Result<(), Failure> {
        self.drain_named(into, &|_| None)
    }

    /// The same; functions whose names are known only now get them from `name`.
    ///
    /// # Errors
    /// The slice cannot hold it.
    pub fn drain_named(&self, into: &mut Slices<'_>, name: &Naming<'_>) -> Result<(), Failure> {
        lock(&self.seen).drain(into.kind(ProfileKind::Wall)?, name)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks, and when.
struct Looker<T> {
    target: T,
    seen: Arc<Mutex<Seen>>,
    pace: Pace,
    /// When the last answer was asked for, and what the target had used of CPU by then.
    last: Option<(Instant, Duration)>,
    costs: [Duration; REMEMBERED],
    looks: usize,
}

impl<T: Telling> Looker<T> {
    fn new(target: T, frequency_hz: u32, seen: Arc<Mutex<Seen>>) -> Self {
        let pace = Pace::new(wall::period(frequency_hz).max(SHORTEST), Instant::now());
        Self { target, seen, pace, last: None, costs: [Duration::MAX; REMEMBERED], looks: 0 }
    }

    fn look_until_end(mut self, line: &Line) {
        loop {
            line.wait(self.pace.moment(self.looks as u64));
            let is_last = line.is_ending();
            if let Err(failure) = self.look(&|| line.is_aborted()) {
                if line.is_aborted() {
                    return;
                }
                line.fail(ProfileKind::Wall, failure);
                line.wait(Instant::now() + PAUSE);
            }
            if is_last {
                return;
            }
        }
    }

    fn look(&mut self, is_aborted: &dyn Fn() -> bool) -> Result<(), Failure> {
        let (asked, own, used) = (Instant::now(), thread_cpu_time(), self.target.used());
        let (answer, answered) = self.target.ask(asked + TAKEN, is_aborted)?;
        let (since, used_before) = self.last.unwrap_or((asked, used));
        let mut seen = lock(&self.seen);
        let passed = asked.saturating_duration_since(since);
        seen.begin(passed);
        self.target.add(&answer, &mut seen)?;
        drop(answer);
        seen.end(used.saturating_sub(used_before).saturating_sub(answered));
        drop(seen);
        self.last = Some((asked, used));
        let cost = self.cost(answered + thread_cpu_time().saturating_sub(own));
        self.pace.taken(asked, cost);
        Ok(())
    }

    /// What an answer costs: the least of the last few.
    fn cost(&mut self, cost: Duration) -> Duration {
        if let Some(oldest) = self.costs.get_mut(self.looks % REMEMBERED) {
            *oldest = cost;
        }
        self.looks += 1;
        self.costs.iter().min().copied().unwrap_or(cost)
    }
}

/// CPU time that this thread has used.
fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::{Frame, Wait};

    use super::*;

    /// Something that answers slowly, so often.
    struct Slow(u32);

    impl Telling for Slow {
        type Answer = ();

        const WHAT: &'static str = "threads";

        fn ask(&mut self, _by: Instant, _is_aborted: &dyn Fn() -> bool) -> Result<((), Duration), Failure> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| Failure::internal("no more"))?;
            Ok(((), Duration::from_secs(30)))
        }

        fn add(&mut self, (): &(), seen: &mut Seen) -> Result<(), Failure> {
            seen.add(&[Frame::named("pay", "x.go", 7)], 1, Doing::Blocked(Wait::Socket));
            Ok(())
        }
    }

    #[test]
    fn the_time_up_to_the_end_is_counted_however_seldom_answers_are() {
        let looks = Looks::begin(Slow(2), 20).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        looks.recording().stop(Instant::now() + Duration::from_secs(10));
        let mut slices = Slices::new(&[ProfileKind::Wall], 1, |_| 0, &[]);
        looks.drain(&mut slices).unwrap();
        assert_eq!((slices.samples(), looks.tally().taken), (1, 1));
        let nanos = slices.kind(ProfileKind::Wall).unwrap().worth;
        assert!(nanos >= 300_000_000, "{nanos}");
    }

    #[test]
    fn a_target_that_does_not_answer_is_refused_at_once_or_said_later() {
        assert!(Looks::begin(Slow(0), 20).is_err());
        let looks = Looks::begin(Slow(1), 20).unwrap();
        looks.recording().stop(Instant::now() + Duration::from_secs(10));
        assert_eq!(looks.recording().failures()[&ProfileKind::Wall].message, "no more");
    }
}
