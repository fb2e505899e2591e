//! When is the next sample due? A wall-clock schedule without drift; a turn that is missed is counted, never
//! caught up on.
//!
//! Each turn is due at a random moment of its interval: at regular moments, a target that works to a beat of
//! the same length is always sampled in the same place.

use std::time::Duration;

/// A schedule of turns, one in each interval. Time is an argument.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval: Duration,
    seed: u64,
    next: u64,
    missed: u64,
}

impl Schedule {
    /// A schedule whose first turn is about one interval after the start; `seed` decides the moments.
    pub fn new(interval: Duration, seed: u64) -> Self {
        Self { interval: interval.max(Duration::from_micros(100)), seed, next: 1, missed: 0 }
    }

    /// When the next turn is due, since the start: less than half an interval before or after its number of
    /// intervals.
    pub fn due(&self) -> Duration {
        let step = saturating_nanos(self.interval);
        let middle = step.saturating_mul(self.next);
        Duration::from_nanos((middle - step / 2).saturating_add(mixed(self.seed ^ self.next) % step))
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

/// A number that tells nothing of its neighbours' (the finalizer of `SplitMix64`).
pub const fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Nanoseconds of a duration, at most `u64::MAX`.
pub fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Whether the next turn is due within its interval.
    fn is_turn(s: &Schedule, turn: u32) -> bool {
        (turn * 10 * MS - 5 * MS..turn * 10 * MS + 5 * MS).contains(&s.due())
    }

    #[test]
    fn turns_do_not_drift() {
        let mut s = Schedule::new(10 * MS, 7);
        for turn in 1..=1000_u32 {
            assert!(is_turn(&s, turn), "turn {turn} at {:?}", s.due());
            s.taken(s.due() + 2 * MS, MS / 10);
        }
        assert_eq!(s.missed(), 0);
    }

    #[test]
    fn a_target_with_a_beat_of_the_same_length_is_sampled_everywhere() {
        for beat in [10 * MS, 5 * MS, 20 * MS] {
            let mut s = Schedule::new(10 * MS, 42);
            let mut tenths = [0; 10];
            for _ in 0..10_000 {
                let phase = s.due().as_nanos() % beat.as_nanos();
                tenths[usize::try_from(10 * phase / beat.as_nanos()).unwrap()] += 1;
                s.taken(s.due(), Duration::ZERO);
            }
            assert!(tenths.iter().all(|n| (850..1150).contains(n)), "{beat:?}: {tenths:?}");
        }
    }

    #[test]
    fn turns_that_are_left_out_are_not_missed() {
        let mut s = Schedule::new(10 * MS, 7);
        s.taken(10 * MS, Duration::ZERO);
        s.skip(3);
        assert!(is_turn(&s, 5), "{:?}", s.due());
        assert_eq!(s.missed(), 0);
    }

    #[test]
    fn late_turns_are_missed_and_counted() {
        let mut s = Schedule::new(10 * MS, 7);
        s.taken(45 * MS, Duration::ZERO);
        assert!(is_turn(&s, 4) && s.missed() == 2, "{s:?}");
        s.taken(46 * MS, Duration::ZERO);
        assert!(is_turn(&s, 5) && s.missed() == 2, "{s:?}");
    }

    #[test]
    fn a_costly_turn_leaves_three_quarters_of_the_time() {
        let mut s = Schedule::new(10 * MS, 7);
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
