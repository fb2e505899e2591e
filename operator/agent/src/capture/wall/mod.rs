//! Where does the time of a target's threads pass, whether they run or wait? What every sampler of wall time
//! needs: what each thread does now, and for how long since it was last looked at.
//!
//! ```text
//! turn (20/s, or less) ─► threads.look ─┬─ runs: a stack as for CPU ───┐
//!                                       └─ waits: where, for what ─────┴─► stack × time since the last look
//! ```
//! A sample is worth the time that passed since its thread was last looked at, so that the sum over a thread
//! is the time that it lived, however late turns come. A thread that waits is not stopped and not disturbed.

mod state;
mod threads;
mod waits;

use std::time::{Duration, Instant};

use super::schedule::mixed;

pub use self::state::{ThreadState, split};
pub use self::threads::{Look, MOST_WORTH, Spent, Threads};
pub use self::waits::{Place, waits_now};

/// The frame for time that is too long ago for a stack to tell about it.
pub const NOT_SAMPLED: &str = "[not sampled]";
/// Shortest distance of turns: threads that wait do so for long, and there may be hundreds of them.
pub const SHORTEST: Duration = Duration::from_millis(50);
/// Turns leave so many times their cost for others: they take at most 5 % of a CPU.
const REST: u32 = 20;

/// The distance of two looks at a thread at this rate: at least 50 ms.
#[must_use]
pub fn period(frequency_hz: u32) -> Duration {
    (Duration::from_secs(1) / frequency_hz.max(1)).max(SHORTEST)
}

/// When is the next turn due, so that turns take little of a CPU? Time and cost are arguments.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    period: Duration,
    due: Instant,
}

impl Pace {
    /// The first turn is one period after `now`.
    #[must_use]
    pub fn new(period: Duration, now: Instant) -> Self {
        Self { period, due: now + period }
    }

    /// The shortest distance of turns.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Whether a turn is due. One may be early by a quarter of the period, since the session has its turns at
    /// distances of its own; the next one is not, so that the mean is right.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        now + self.period / 4 >= self.due
    }

    /// A random moment within a quarter of a period before or after the next turn is due, for those who wait for
    /// it: at regular moments a target that works to a beat is always seen in the same place.
    #[must_use]
    pub fn moment(&self, seed: u64) -> Instant {
        let step = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX).max(2) / 2;
        let earliest = self.due.checked_sub(self.period / 4).unwrap_or(self.due);
        earliest + Duration::from_nanos(mixed(seed) % step)
    }

    /// A turn that began at `now` took this much CPU time.
    pub fn taken(&mut self, now: Instant, cost: Duration) {
        let next = self.due.max(now.checked_sub(self.period).unwrap_or(now)) + self.period;
        self.due = next.max(now + cost.saturating_mul(REST) + self.period / 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn looks_are_at_most_twenty_a_second() {
        let cases = [(1, 1000), (10, 100), (20, 50), (99, 50), (1000, 50), (0, 1000)];
        for (hz, ms) in cases {
            assert_eq!(period(hz), ms * MS, "{hz} Hz");
        }
    }

    #[test]
    fn cheap_turns_keep_their_distance_and_late_ones_are_not_caught_up_on() {
        let start = Instant::now();
        let mut pace = Pace::new(50 * MS, start);
        assert!(!pace.is_due(start + 37 * MS) && pace.is_due(start + 38 * MS));
        pace.taken(start + 53 * MS, MS);
        assert!(!pace.is_due(start + 87 * MS) && pace.is_due(start + 88 * MS), "no drift");
        pace.taken(start + 300 * MS, MS);
        assert!(!pace.is_due(start + 301 * MS) && pace.is_due(start + 350 * MS));
    }

    #[test]
    fn the_mean_distance_is_the_period_whatever_the_distance_of_the_sessions_turns() {
        for step in [10 * MS, Duration::from_micros(40_404), 50 * MS, Duration::from_micros(8_333)] {
            let start = Instant::now();
            let mut pace = Pace::new(50 * MS, start);
            let turns = 10_000_u32.div_ceil(u32::try_from(step.as_millis()).unwrap());
            let taken = (1..=turns).filter(|turn| {
                let now = start + *turn * step;
                let due = pace.is_due(now);
                if due {
                    pace.taken(now, MS / 10);
                }
                due
            });
            let taken = taken.count();
            assert!((180..=210).contains(&taken), "{taken} turns in 10 s at {step:?}");
        }
    }

    #[test]
    fn turns_are_waited_for_at_random_moments_around_those_at_which_they_are_due() {
        let start = Instant::now();
        let pace = Pace::new(100 * MS, start);
        let moments: Vec<Duration> = (0..100).map(|seed| pace.moment(seed) - start).collect();
        assert!(moments.iter().all(|at| (75 * MS..=125 * MS).contains(at)), "{moments:?}");
        assert!(moments.iter().any(|at| *at < 85 * MS) && moments.iter().any(|at| *at > 115 * MS));
        assert!(pace.is_due(start + 75 * MS));
    }

    #[test]
    fn costly_turns_take_a_twentieth_of_a_cpu() {
        let start = Instant::now();
        let mut pace = Pace::new(50 * MS, start);
        let (mut now, mut busy) = (start, Duration::ZERO);
        for _ in 0..100 {
            while !pace.is_due(now) {
                now += MS;
            }
            pace.taken(now, 10 * MS);
            busy += 10 * MS;
        }
        let share = busy.as_secs_f64() / (now - start).as_secs_f64();
        assert!(share < 0.051, "{share}");
    }
}
