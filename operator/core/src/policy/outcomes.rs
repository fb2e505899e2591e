//! Do a policy's targets fail? The last 20 of them, whoever asked, in a text of one character each.

use std::sync::Arc;

use fleetprof_crds::policy::ProfilingPolicyStatus;
use fleetprof_crds::session_status::{TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileSession, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How many targets are remembered.
pub const REMEMBERED: usize = 20;

/// How long after its end a session is counted: by then every other one that ended in the same second is known as well.
const SETTLED: SignedDuration = SignedDuration::from_secs(3);

/// Adds the targets of sessions that ended since the last time.
pub fn fill(status: &mut ProfilingPolicyStatus, sessions: &[Arc<ProfileSession>], now: Timestamp) {
    let since = status.outcomes_until.as_ref().map(|t| t.0);
    let mut ended: Vec<(&Time, &ProfileSession)> = sessions
        .iter()
        .filter_map(|s| {
            let at = s.status.as_ref().filter(|s| s.phase.is_terminal())?.end_time.as_ref()?;
            let settled = now.duration_since(at.0) >= SETTLED;
            (settled && since.is_none_or(|since| at.0 > since)).then_some((at, &**s))
        })
        .collect();
    ended.sort_by(|a, b| a.0.cmp(b.0).then_with(|| a.1.metadata.name.cmp(&b.1.metadata.name)));
    for (at, session) in ended {
        let new: String = session.status.iter().flat_map(|s| &s.targets).filter_map(outcome).collect();
        status.outcomes = new.chars().chain(status.outcomes.chars()).take(REMEMBERED).collect();
        status.outcomes_until = Some(at.clone());
    }
}

/// `+` with a profile, `-` without. What was never tried, stopped by a person, or idle, is neither.
fn outcome(target: &TargetStatus) -> Option<char> {
    match target.phase {
        TargetPhase::Succeeded => Some('+'),
        TargetPhase::Failed if !matches!(target.reason, Some(Reason::NoSamples | Reason::PodGone)) => Some('-'),
        _ => None,
    }
}

/// How many of the remembered targets failed.
#[must_use]
pub fn failed(outcomes: &str) -> usize {
    outcomes.chars().filter(|c| *c == '-').count()
}

/// Whether more than half of the last 20 targets failed.
#[must_use]
pub fn failing(outcomes: &str) -> bool {
    failed(outcomes) > REMEMBERED / 2
}
