//! In which namespaces do the captures of a cluster policy fail? Rounds skip a namespace whose captures keep
//! failing; the schedule of the other namespaces does not change.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use fleetprof_crds::policy::{NamespaceOutcomes, ProfilingPolicyStatus};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::{ProfileSession, names};

use super::outcomes::{REMEMBERED, failed, failing};
use super::pace::doubled;
use super::rounds::number_of;
use crate::schedule::{Plan, Tick};

/// How many namespaces are remembered: those with the most failures.
const NAMESPACES: usize = 20;

/// Adds what came of the targets of an ended session, newest first, to its namespace.
pub(super) fn add(status: &mut ProfilingPolicyStatus, session: &ProfileSession, outcomes: &str) {
    let name = session.metadata.namespace.as_deref().unwrap_or_default();
    let known = status.failing_namespaces.iter().position(|n| n.namespace == name);
    let mut namespace = known.map_or_else(
        || NamespaceOutcomes { namespace: name.to_owned(), ..NamespaceOutcomes::default() },
        |at| status.failing_namespaces.remove(at),
    );
    namespace.outcomes = outcomes.chars().chain(namespace.outcomes.chars()).take(REMEMBERED).collect();
    match verdict(outcomes).filter(|_| number_of(session).is_some()) {
        Some('-') => {
            namespace.failed_rounds = namespace.failed_rounds.saturating_add(1);
            namespace.last_failed_time.clone_from(&session.metadata.creation_timestamp);
        }
        Some(_) => (namespace.failed_rounds, namespace.last_failed_time) = (0, None),
        None => {}
    }
    if failed(&namespace.outcomes) > 0 {
        status.failing_namespaces.push(namespace);
    }
    status.failing_namespaces.sort_by_cached_key(|n| (Reverse(failed(&n.outcomes)), n.namespace.clone()));
    status.failing_namespaces.truncate(NAMESPACES);
}

/// `-` where more targets failed than returned a profile, `+` where some did and no more failed, nothing
/// where nothing was tried.
pub(super) fn verdict(outcomes: &str) -> Option<char> {
    let bad = failed(outcomes);
    let good = outcomes.len() - bad;
    match (good, bad) {
        (good, bad) if bad > good => Some('-'),
        (0, _) => None,
        _ => Some('+'),
    }
}

/// Namespaces that take no part in the round of `tick`: their rounds fail, and are further apart.
pub(super) fn resting(status: &ProfilingPolicyStatus, plan: Option<&Plan>, tick: Tick) -> BTreeSet<String> {
    let rests = |namespace: &&NamespaceOutcomes| {
        let last = namespace.last_failed_time.as_ref().filter(|_| failing(&namespace.outcomes));
        let resumes = last.and_then(|last| plan?.after(last.0, doubled(namespace.failed_rounds)));
        resumes.is_some_and(|resumes| tick.at < resumes.at)
    };
    status.failing_namespaces.iter().filter(rests).map(|namespace| namespace.namespace.clone()).collect()
}

/// Whether a session counts for its cluster policy: what people request is their choice.
pub(super) fn is_own(session: &ProfileSession) -> bool {
    session.spec.trigger != Trigger::OnDemand
}

/// What is said of the namespaces that are left out of rounds; empty where none is.
pub(super) fn sentence(status: &ProfilingPolicyStatus) -> String {
    let all: Vec<&str> = status
        .failing_namespaces
        .iter()
        .filter(|n| failing(&n.outcomes) && n.failed_rounds > 0)
        .map(|n| n.namespace.as_str())
        .collect();
    match all.as_slice() {
        [] => String::new(),
        [one] => format!(" Most targets in namespace {one} fail, so it is left out of some rounds."),
        many => {
            let shown: Vec<&str> = many.iter().take(names::MAX_RECENT_SESSIONS).copied().collect();
            format!(
                " Most targets in {} namespaces fail, so they are left out of some rounds: {}.",
                many.len(),
                shown.join(", ")
            )
        }
    }
}
