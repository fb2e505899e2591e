//! When is the next round? Every policy has its own offset in its interval, so that a fleet does not start at once.

use fleetprof_crds::policy::Schedule;
use jiff::{SignedDuration, Timestamp};

use crate::hash::hash;

/// A tick that passed longer ago than this is missed: it is skipped, never queued.
pub const TICK_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// One tick of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Number of the round; grows by one each interval.
    pub round: u64,
    /// When it is due.
    pub at: Timestamp,
}

/// The last tick at or before `now` and the first after it.
///
/// Tick `n` is at `n × every + hash(uid) mod every`, plus a jitter of up to 5 % of the interval that depends on the
/// round, so that two policies that meet once do not meet every time.
#[must_use]
pub fn ticks(policy_uid: &str, schedule: &Schedule, now: Timestamp) -> (Option<Tick>, Tick) {
    let every = i64::from(schedule.every.as_secs().max(1));
    let guess = now.as_second().div_euclid(every);
    let mut last = None;
    let mut round = (guess - 2).max(0);
    loop {
        let tick = tick(policy_uid, every, round);
        if tick.at > now {
            return (last, tick);
        }
        last = Some(tick);
        round += 1;
    }
}

fn tick(policy_uid: &str, every: i64, round: i64) -> Tick {
    let below = |limit: i64, h: u64| i64::try_from(h % u64::try_from(limit.max(1)).unwrap_or(1)).unwrap_or(0);
    let offset = below(every, hash(&[policy_uid]));
    let jitter = below(every / 20 + 1, hash(&[policy_uid, &round.to_string()]));
    let at = Timestamp::from_second(round.saturating_mul(every).saturating_add(offset + jitter)).unwrap_or(Timestamp::MAX);
    Tick { round: u64::try_from(round).unwrap_or(0), at }
}

/// The round that should start now, if any: its tick passed within [`TICK_GRACE`], after the policy was created and after the last round.
#[must_use]
pub fn due(policy_uid: &str, schedule: &Schedule, created: Timestamp, last_round: Option<Timestamp>, now: Timestamp) -> Option<Tick> {
    let tick = ticks(policy_uid, schedule, now).0?;
    let fresh = now.duration_since(tick.at) <= TICK_GRACE;
    let new = last_round.is_none_or(|last| tick.at > last);
    (fresh && new && tick.at >= created).then_some(tick)
}

/// Share of time in which a picked pod is profiled, as `3.33% of time`.
#[must_use]
pub fn effective_overhead(schedule: &Schedule) -> String {
    let share = 100.0 * f64::from(schedule.duration.as_secs()) / f64::from(schedule.every.as_secs().max(1));
    format!("{share:.2}% of time")
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::Duration;
    use proptest::prelude::*;

    use super::*;

    fn every(secs: u32) -> Schedule {
        Schedule { every: Duration::from_secs(secs), duration: Duration::from_secs(10) }
    }
    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    proptest! {
        #[test]
        fn now_lies_between_last_and_next(secs in 60u32..604_800, now in 1_700_000_000i64..1_900_000_000, uid in "[a-f0-9]{8}") {
            let (last, next) = ticks(&uid, &every(secs), at(now));
            let last = last.unwrap();
            prop_assert!(last.at <= at(now) && at(now) < next.at);
            prop_assert_eq!(last.round + 1, next.round);
            let gap = next.at.duration_since(last.at).as_secs();
            prop_assert!((gap - i64::from(secs)).abs() <= i64::from(secs) / 20 + 1);
        }
    }

    #[test]
    fn a_tick_is_due_once_and_missed_ticks_are_skipped() {
        let s = every(600);
        let (last, next) = ticks("u", &s, at(1_800_000_000));
        let tick = next.at;
        assert_eq!(due("u", &s, at(0), last.map(|t| t.at), tick), Some(next));
        assert_eq!(due("u", &s, at(0), Some(tick), tick + SignedDuration::from_secs(5)), None, "already served");
        assert_eq!(due("u", &s, at(0), None, tick + SignedDuration::from_secs(31)), None, "missed");
        assert_eq!(
            due("u", &s, tick + SignedDuration::from_secs(1), None, tick + SignedDuration::from_secs(2)),
            None,
            "older than the policy"
        );
    }

    #[test]
    fn many_policies_start_evenly() {
        let s = every(3600);
        let mut per_minute = [0usize; 60];
        for n in 0..6000 {
            let (_, next) = ticks(&format!("uid-{n}"), &s, at(1_800_000_000));
            per_minute[usize::try_from(next.at.as_second() / 60 % 60).unwrap()] += 1;
        }
        let max = per_minute.iter().max().unwrap();
        assert!(*max < 160, "100 a minute on average, {max} at worst");
    }

    #[test]
    fn overhead_is_readable() {
        assert_eq!(effective_overhead(&Schedule::default()), "3.33% of time");
    }
}
