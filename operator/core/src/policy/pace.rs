//! Which round is due, which was missed, which comes next, and how far apart are rounds while they fail?

use fleetprof_crds::policy::ProfilingPolicyStatus;
use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::Phase;
use jiff::{SignedDuration, Timestamp};

use super::outcomes;
use crate::schedule::{self, Plan, Tick};

/// Rounds that fail one after another double their distance up to 2⁴ times.
const MOST_DOUBLINGS: u32 = 4;

/// How a policy's rounds stand in time.
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
    let earliest = if stretch > 1 { resume(plan, last_round, stretch, now) } else { Timestamp::MIN };
    let (last, _) = plan.ticks(now);
    let last = last.filter(|tick| tick.at >= earliest);
    let known = last_round.max(status.last_missed_time.as_ref().map(|t| t.0));
    Pace {
        due: schedule::due(last, created, last_round, now),
        missed: schedule::missed(last, created, known, now),
        next: plan.ticks(now.max(earliest)).1.map(|tick| tick.at),
        stretch,
    }
}

fn stretch(status: &ProfilingPolicyStatus) -> u32 {
    if !outcomes::failing(&status.outcomes) {
        return 1;
    }
    let rounds = status.recent_sessions.iter().filter(|s| s.trigger == Trigger::Schedule);
    let failed = rounds.take_while(|s| !matches!(s.phase, Phase::Succeeded | Phase::PartiallySucceeded)).count();
    2u32.pow(u32::try_from(failed).unwrap_or(MOST_DOUBLINGS).min(MOST_DOUBLINGS))
}

/// From when on the next round may start. A tenth of an interval earlier than full intervals, since ticks jitter.
fn resume(plan: &Plan, last_round: Option<Timestamp>, stretch: u32, now: Timestamp) -> Timestamp {
    let gap = plan.gap(now).unwrap_or_default();
    last_round.map_or(Timestamp::MIN, |last| last + SignedDuration::from_secs(gap * i64::from(stretch) - gap / 10))
}
