//! How does the status explain restarts that failed, and workloads that are not restarted?

use std::collections::BTreeSet;

use fleetprof_crds::names;
use fleetprof_crds::restart::RestartStatus;

use super::{DEADLINE, Key, Situation, WorkloadFacts, needs_restart};

/// Most workloads that are named.
const NAMED: usize = 5;

/// Another change would be taken back too, at the price of one more rollout.
pub(super) fn taken_back(key: &Key, facts: &WorkloadFacts, changes: u32) -> String {
    let who = facts.changed_by.as_ref().map(|who| format!(", probably {who},")).unwrap_or_default();
    let annotation = names::RESTARTED_FOR_ANNOTATION;
    format!(
        "Stopped: {key} cannot be restarted: something else{who} changes its pod template and has removed the \
         annotation {annotation} {changes} times; let that keep the annotation, or set agent.existingPods to \
         AttachOnDemand"
    )
}

/// A restart brings no further pod.
pub(super) fn no_progress(last: &RestartStatus, facts: &WorkloadFacts) -> String {
    let what = match facts.settled {
        _ if facts.restarted_for.as_deref() != Some(&last.agent_version) => {
            "the operator could not patch it; see the operator log".to_owned()
        }
        true => {
            "its pods are ready but have no agent; check that the fleetprof webhook is running".to_owned()
        }
        false => format!("{} of {} updated pods are ready", facts.ready, facts.desired),
    };
    format!("Stopped: {} was restarted but made no progress for {DEADLINE:#}: {what}", Key::of(last))
}

/// Names what no restart gives an agent: sessions attach one to it.
pub(super) fn up_to_date(situation: &Situation) -> String {
    let version = situation.version;
    let others: BTreeSet<Key> = situation
        .links
        .iter()
        .filter(|l| !l.pod.workload.restarts() && needs_restart(l, situation))
        .map(|l| Key { namespace: l.pod.namespace.to_string(), workload: (*l.pod.workload).clone() })
        .collect();
    if others.is_empty() {
        return format!("All workloads have agent {version}.");
    }
    let mut named: Vec<String> = others.iter().take(NAMED).map(ToString::to_string).collect();
    if others.len() > NAMED {
        named.push(format!("{} more", others.len() - NAMED));
    }
    format!(
        "All workloads that can be restarted have agent {version}. Others get it when they are recreated, and \
         until then sessions attach one: {}.",
        named.join(", ")
    )
}
