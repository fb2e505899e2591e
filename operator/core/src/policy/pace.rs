//! Which round is due, which was missed, which comes next, and how far apart are rounds while they fail?

use fleetprof_crds::policy::ProfilingPolicyStatus;
use jiff::Timestamp;

use super::outcomes;
use crate::schedule::{self, Plan, Tick};

/// Rounds that fail one after another double their distance up to 2⁴ times.
const MOST_DOUBLINGS: u32 = 4;

/// The timing of a policy's rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The round that should start now.
    pub due: Option<Tick>,
    /// A tick that passed without a round.
    pub missed: Option<Tick>,
    /// When the next round is due.
    pub next: Option<Timestamp>,
    /// How many times further apart rounds are than the schedule says; 1 unless they fail.
    pub stretch: u32,
}

/// The pace of a policy that was created at `created`.
#[must_use]
pub fn pace(plan: &Plan, created: Timestamp, status: &ProfilingPolicyStatus, now: Timestamp) -> Pace {
    let stretch = stretch(status);
    let last_round = status.last_session_time.as_ref().map(|t| t.0);
    // While rounds fail, so many ticks are counted from the last one: those in between are no rounds, and are
    // not missed.
    let resume = last_round.filter(|_| stretch > 1).and_then(|last| plan.after(last, stretch));
    let (last, next) = plan.ticks(now);
    let last = last.filter(|tick| resume.is_none_or(|resume| tick.at >= resume.at));
    let known = [&status.last_session_time, &status.last_missed_time, &status.last_idle_time]
        .into_iter()
        .flatten()
        .map(|t| t.0)
        .max();
    Pace {
        due: schedule::due(last, created, last_round, now),
        missed: schedule::missed(last, created, known, now),
        next: resume.filter(|resume| resume.at > now).or(next).map(|tick| tick.at),
        stretch,
    }
}

fn stretch(status: &ProfilingPolicyStatus) -> u32 {
    if !outcomes::failing(&status.outcomes) {
        return 1;
    }
    doubled(status.failed_rounds)
}

/// How many times further apart rounds are after so many that failed, one after another.
pub(super) fn doubled(failed_rounds: i32) -> u32 {
    2u32.pow(u32::try_from(failed_rounds).unwrap_or(0).min(MOST_DOUBLINGS))
}
