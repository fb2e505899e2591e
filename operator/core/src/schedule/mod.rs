//! When is the next round? Each policy has its own offset within its interval, so that a fleet does not start
//! at once.

mod cron;

use fleetprof_crds::policy::Schedule;
use fleetprof_crds::schedule::Preset;
use jiff::{SignedDuration, Timestamp};

use self::cron::Clock;
use crate::hash::hash;
use crate::time::{after, before};

/// A tick older than this is missed: it is skipped, never queued.
pub const TICK_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Default interval between rounds, in seconds.
const DEFAULT_EVERY: i64 = 3600;
/// Seconds.
const WEEK: i64 = 7 * 86_400;
/// Policies with the same cron expression start within this many seconds.
const CRON_SPREAD: i64 = 30;

/// One tick of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Round number; increases with time.
    pub round: u64,
    /// When it is due.
    pub at: Timestamp,
}

/// An invalid schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, starting with `spec`.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
}

/// The parsed schedule of a policy.
#[derive(Clone, Debug)]
pub struct Plan {
    uid: String,
    rhythm: Rhythm,
    duration: i64,
}

#[derive(Clone, Debug)]
enum Rhythm {
    /// Seconds between two rounds.
    Every(i64),
    /// By cron expression.
    Cron(Box<Clock>),
}

impl Plan {
    /// Parses the schedule of the policy with this UID.
    ///
    /// # Errors [`Invalid`] for an invalid cron expression or time zone.
    pub fn read(policy_uid: &str, schedule: &Schedule) -> Result<Self, Invalid> {
        let duration = i64::from(schedule.duration.as_secs());
        let rhythm = match (&schedule.cron, schedule.preset, schedule.every) {
            (Some(line), _, _) => Rhythm::Cron(Box::new(Clock::read(line, schedule.time_zone.as_deref())?)),
            (_, Some(Preset::Unknown), _) => {
                return Err(Invalid {
                    field: "spec.schedule.preset",
                    message: "is not known to this version".into(),
                });
            }
            (_, Some(preset), _) => Rhythm::Every((duration * 100 / i64::from(preset.percent())).max(1)),
            (_, _, every) => Rhythm::Every(every.map_or(DEFAULT_EVERY, |e| i64::from(e.as_secs().max(1)))),
        };
        Ok(Self { uid: policy_uid.to_owned(), rhythm, duration })
    }

    /// The last tick at or before `now`, and the first after it.
    ///
    /// With an interval, tick `n` is at `n × every + hash(uid) mod every`, plus a jitter of up to 5 % of the
    /// interval that depends on the round, so that two policies do not collide in every round. With a cron
    /// expression, it is up to 30 s later, depending on the UID.
    #[must_use]
    pub fn ticks(&self, now: Timestamp) -> (Option<Tick>, Option<Tick>) {
        match &self.rhythm {
            Rhythm::Every(every) => {
                let (last, next) = self.in_interval(*every, now);
                (last, Some(next))
            }
            Rhythm::Cron(clock) => {
                let shift = SignedDuration::from_secs(below(CRON_SPREAD, hash(&[&self.uid])));
                let tick = |at: Timestamp| Tick {
                    round: u64::try_from(at.as_second() / 60).unwrap_or(0),
                    at: after(at, shift),
                };
                (clock.last(before(now, shift)).map(tick), clock.next(before(now, shift)).map(tick))
            }
        }
    }

    fn in_interval(&self, every: i64, now: Timestamp) -> (Option<Tick>, Tick) {
        let mut last = None;
        let mut round = (now.as_second().div_euclid(every) - 2).max(0);
        loop {
            let tick = self.tick(every, round);
            // The last time that there is has no tick after it.
            if tick.at > now || tick.at == Timestamp::MAX {
                return (last, tick);
            }
            last = Some(tick);
            round += 1;
        }
    }

    fn tick(&self, every: i64, round: i64) -> Tick {
        let offset = below(every, hash(&[&self.uid]));
        let jitter = below(every / 20 + 1, hash(&[&self.uid, &round.to_string()]));
        let at = Timestamp::from_second(round.saturating_mul(every).saturating_add(offset + jitter))
            .unwrap_or(Timestamp::MAX);
        Tick { round: u64::try_from(round).unwrap_or(0), at }
    }

    /// The `n`th tick after that of `at`; `None` if there is none.
    #[must_use]
    pub fn after(&self, at: Timestamp, n: u32) -> Option<Tick> {
        match &self.rhythm {
            Rhythm::Every(every) => {
                let (last, next) = self.in_interval(*every, at);
                let round = i64::try_from(last.map_or(next.round.saturating_sub(1), |last| last.round))
                    .unwrap_or(i64::MAX);
                Some(self.tick(*every, round.saturating_add(i64::from(n))))
            }
            Rhythm::Cron(_) => (0..n).try_fold(Tick { round: 0, at }, |tick, _| self.ticks(tick.at).1),
        }
    }

    /// Average number of seconds between rounds; `None` if there is no next one.
    ///
    /// For cron expressions it is the average over a week, so that `0 9-17 * * MON-FRI` gives the same result
    /// on a Friday evening; with less than two ticks per week, the time between the next two.
    #[must_use]
    pub fn gap(&self, now: Timestamp) -> Option<i64> {
        match &self.rhythm {
            Rhythm::Every(every) => Some(*every),
            Rhythm::Cron(clock) => match clock.ticks_in_a_week(now) {
                ticks @ 2.. => Some(WEEK / ticks),
                _ => {
                    let next = clock.next(now)?;
                    Some(clock.next(next)?.duration_since(next).as_secs())
                }
            },
        }
    }

    /// Share of the time that a picked pod is profiled, as `3.33% of the time`; `None` if there is no next
    /// round.
    #[must_use]
    pub fn overhead(&self, now: Timestamp) -> Option<String> {
        let gap = self.gap(now)?;
        #[allow(clippy::cast_precision_loss)]
        let share = 100.0 * self.duration as f64 / gap.max(1) as f64;
        Some(format!("{share:.2}% of the time"))
    }
}

fn below(limit: i64, hash: u64) -> i64 {
    i64::try_from(hash % u64::try_from(limit.max(1)).unwrap_or(1)).unwrap_or(0)
}

/// The round that should start now, if any: its tick passed within [`TICK_GRACE`], after the policy was
/// created and after the last round.
#[must_use]
pub fn due(
    last_tick: Option<Tick>,
    created: Timestamp,
    last_round: Option<Timestamp>,
    now: Timestamp,
) -> Option<Tick> {
    last_tick.filter(|tick| is_new(*tick, created, last_round) && now.duration_since(tick.at) <= TICK_GRACE)
}

/// The missed tick, if any.
#[must_use]
pub fn missed(
    last_tick: Option<Tick>,
    created: Timestamp,
    last_round: Option<Timestamp>,
    now: Timestamp,
) -> Option<Tick> {
    last_tick.filter(|tick| is_new(*tick, created, last_round) && now.duration_since(tick.at) > TICK_GRACE)
}

fn is_new(tick: Tick, created: Timestamp, last_round: Option<Timestamp>) -> bool {
    tick.at >= created && last_round.is_none_or(|last| tick.at > last)
}

/// The schedule as text, such as `every 1h for 2m`.
#[must_use]
pub fn describe(schedule: &Schedule) -> String {
    let when = match (&schedule.cron, schedule.preset, schedule.every) {
        (Some(line), _, _) => format!("{line} {}", schedule.time_zone.as_deref().unwrap_or("UTC")),
        (_, Some(preset), _) => format!("{} ({} % of the time)", preset.as_str(), preset.percent()),
        (_, _, Some(every)) => format!("every {every}"),
        (_, _, None) => "every 1h".to_owned(),
    };
    format!("{when} for {}", schedule.duration)
}

#[cfg(test)]
mod tests;
