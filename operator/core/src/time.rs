//! When is a time and a duration later, or earlier? Never outside of what a timestamp can hold.
//!
//! The operators `+` and `-` of timestamps and durations panic there, and a time may come from anywhere: a
//! status, an alert, an agent. Clippy refuses them (`arithmetic_side_effects` in `clippy.toml`).

use jiff::{SignedDuration, Timestamp};

/// `duration` later than `time`; [`Timestamp::MAX`] where that would be later still, [`Timestamp::MIN`] for a
/// negative duration that leads before it.
#[must_use]
pub fn after(time: Timestamp, duration: SignedDuration) -> Timestamp {
    let end = if duration.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(duration).unwrap_or(end)
}

/// `duration` earlier than `time`, within the same bounds.
#[must_use]
pub fn before(time: Timestamp, duration: SignedDuration) -> Timestamp {
    after(time, duration.checked_neg().unwrap_or(SignedDuration::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_that_no_timestamp_holds_is_the_nearest_one_that_it_does() {
        let (start, second) = (Timestamp::UNIX_EPOCH, SignedDuration::from_secs(1));
        let cases = [
            (after(start, second), "1970-01-01T00:00:01Z"),
            (before(start, second), "1969-12-31T23:59:59Z"),
            (after(start, -second), "1969-12-31T23:59:59Z"),
        ];
        for (time, wanted) in cases {
            assert_eq!(time.to_string(), wanted);
        }
        for duration in [second, SignedDuration::MAX] {
            assert_eq!(after(Timestamp::MAX, duration), Timestamp::MAX);
            assert_eq!(before(Timestamp::MIN, duration), Timestamp::MIN);
        }
        assert_eq!(before(Timestamp::MIN, SignedDuration::MIN), Timestamp::MAX);
        assert_eq!(after(Timestamp::MAX, SignedDuration::MIN), Timestamp::MIN);
    }

    proptest! {
        #[test]
        fn later_is_never_earlier(second in -377_705_023_201i64..=253_402_207_200, more in 0..=i64::MAX) {
            let (time, more) = (Timestamp::from_second(second).unwrap(), SignedDuration::from_secs(more));
            prop_assert!(before(time, more) <= time && time <= after(time, more));
        }
    }
}
