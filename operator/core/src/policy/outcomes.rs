//! Do the captures of a policy fail? The results of its last 20 targets, whatever started their sessions, are
//! kept as a text of one character each; and the number of scheduled rounds in a row that failed, however
//! many sessions they had.
//!
//! For a cluster policy, one character stands for one namespace in one round, so that no tenant outweighs the
//! others; the results of its targets are kept per namespace.

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_crds::policy::ProfilingPolicyStatus;
use fleetprof_crds::session_status::{TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileSession, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::namespaces;
use super::rounds::number_of;
use crate::view::PolicyView;

/// How many targets are remembered.
pub const REMEMBERED: usize = 20;

/// How long after its end a session is counted: by then every other one that ended in the same second is
/// known as well.
const SETTLED: SignedDuration = SignedDuration::from_secs(3);

/// Adds the targets of sessions that ended since the last time, and the rounds whose last session did.
pub fn fill(
    policy: &PolicyView,
    status: &mut ProfilingPolicyStatus,
    sessions: &[Arc<ProfileSession>],
    now: Timestamp,
) {
    let is_cluster = policy.is_cluster();
    let since = status.outcomes_until.as_ref().map(|t| t.0);
    let mut ended: Vec<(&Time, &ProfileSession)> = sessions
        .iter()
        .filter(|s| !is_cluster || namespaces::is_own(s))
        .filter_map(|s| {
            let at = ended(s, now)?;
            since.is_none_or(|since| at.0 > since).then_some((at, &**s))
        })
        .collect();
    ended.sort_by(|a, b| a.0.cmp(b.0).then_with(|| a.1.metadata.name.cmp(&b.1.metadata.name)));
    // A round is counted with the last of its sessions, so once.
    let last_of_round: HashMap<&str, usize> =
        ended.iter().enumerate().filter_map(|(n, (_, s))| Some((number_of(s)?, n))).collect();
    for (n, (at, session)) in ended.iter().enumerate() {
        if is_cluster {
            namespaces::add(status, session, &of(session).collect::<String>());
        }
        let told = weighed(session, is_cluster);
        status.outcomes = told.chars().chain(status.outcomes.chars()).take(REMEMBERED).collect();
        status.outcomes_until = Some((*at).clone());
        if let Some(round) = number_of(session).filter(|round| last_of_round.get(round) == Some(&n)) {
            count(status, round, (sessions, is_cluster), now);
        }
    }
}

/// What a session counts for its policy: each of its targets, or under a cluster policy the namespace that
/// takes part in a round.
fn weighed(session: &ProfileSession, is_cluster: bool) -> String {
    let outcomes: String = of(session).collect();
    if !is_cluster {
        return outcomes;
    }
    let verdict = namespaces::verdict(&outcomes).filter(|_| number_of(session).is_some());
    verdict.map(String::from).unwrap_or_default()
}

/// When a session ended, once every other one that ended then is known as well.
fn ended(session: &ProfileSession, now: Timestamp) -> Option<&Time> {
    let at = session.status.as_ref().filter(|s| s.phase.is_terminal())?.end_time.as_ref()?;
    (now.duration_since(at.0) >= SETTLED).then_some(at)
}

/// Counts a round all of whose sessions have ended: one that failed is one more in a row, one that did not
/// ends the row, and one of which nothing was tried is neither.
fn count(
    status: &mut ProfilingPolicyStatus,
    round: &str,
    (sessions, is_cluster): (&[Arc<ProfileSession>], bool),
    now: Timestamp,
) {
    let of_round = || sessions.iter().filter(|s| number_of(s) == Some(round));
    if !of_round().all(|s| ended(s, now).is_some()) {
        return;
    }
    let all: String = of_round().map(|s| weighed(s, is_cluster)).collect();
    match namespaces::verdict(&all) {
        Some('-') => status.failed_rounds = status.failed_rounds.saturating_add(1),
        Some(_) => status.failed_rounds = 0,
        None => {}
    }
}

fn of(session: &ProfileSession) -> impl Iterator<Item = char> {
    session.status.iter().flat_map(|s| &s.targets).filter_map(outcome)
}

/// `+` with a profile, `-` without. What was never tried, stopped by a person, or idle, is neither.
fn outcome(target: &TargetStatus) -> Option<char> {
    match target.phase {
        TargetPhase::Succeeded => Some('+'),
        TargetPhase::Failed if !matches!(target.reason, Some(Reason::NoSamples | Reason::PodGone)) => {
            Some('-')
        }
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
