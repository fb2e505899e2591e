//! When is the next sample due? A wall-clock schedule without drift; a turn that is missed is counted, never
//! caught up on.

use std::time::Duration;

/// A schedule of turns at fixed distances from its start. Time is an argument.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval: Duration,
    next: u64,
    missed: u64,
}

impl Schedule {
    /// A schedule whose first turn is one interval after the start.
    pub fn new(interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_micros(100)), next: 1, missed: 0 }
    }

    /// When the next turn is due, since the start.
    pub fn due(&self) -> Duration {
        Duration::from_nanos(saturating_nanos(self.interval).saturating_mul(self.next))
    }

    /// A turn was taken. `now` is the time since the start when it was over, `cost` how long it took.
    ///
    /// The next turn is the first one that is still to come and leaves three times `cost` for others,
    /// so that a worker never takes more than a quarter of a CPU. Turns between are missed.
    pub fn taken(&mut self, now: Duration, cost: Duration) {
        let earliest = saturating_nanos(now).saturating_add(saturating_nanos(cost).saturating_mul(3));
        let step = saturating_nanos(self.interval);
        // A turn that is late by less than half an interval is still taken.
        let first = earliest.saturating_sub(step / 2).div_ceil(step).max(self.next + 1);
        self.missed += first - (self.next + 1);
        self.next = first;
    }

    /// Leaves out turns in which there is nothing to do; they are not missed.
    pub fn skip(&mut self, turns: u64) {
        self.next = self.next.saturating_add(turns);
    }

    /// Turns that were due and not taken.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

/// Nanoseconds of a duration, at most `u64::MAX`.
pub fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn turns_do_not_drift() {
        let mut s = Schedule::new(10 * MS);
        for turn in 1..=1000_u32 {
            assert_eq!(s.due(), turn * 10 * MS);
            s.taken(s.due() + 2 * MS, MS / 10);
        }
        assert_eq!(s.missed(), 0);
    }

    #[test]
    fn turns_that_are_left_out_are_not_missed() {
        let mut s = Schedule::new(10 * MS);
        s.taken(10 * MS, Duration::ZERO);
        s.skip(3);
        assert_eq!((s.due(), s.missed()), (50 * MS, 0));
    }

    #[test]
    fn late_turns_are_missed_and_counted() {
        let mut s = Schedule::new(10 * MS);
        s.taken(45 * MS, Duration::ZERO);
        assert_eq!((s.due(), s.missed()), (40 * MS, 2));
        s.taken(46 * MS, Duration::ZERO);
        assert_eq!((s.due(), s.missed()), (50 * MS, 2));
    }

    #[test]
    fn a_costly_turn_leaves_three_quarters_of_the_time() {
        let mut s = Schedule::new(10 * MS);
        let mut now = Duration::ZERO;
        let mut busy = Duration::ZERO;
        for _ in 0..100 {
            now = s.due().max(now) + 20 * MS;
            busy += 20 * MS;
            s.taken(now, 20 * MS);
        }
        assert!(busy.as_secs_f64() / now.as_secs_f64() < 0.27, "{busy:?} of {now:?}");
    }
}
