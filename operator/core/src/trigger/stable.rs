//! Which pods of the old revision are captured beside those of a new one?
//!
//! As many of each as a comparison is worth: both at the same time, so that the hour and the traffic cannot look
//! like the revision. The session is an ordinary one; its budgets decide how many run at once, and a capture
//! that has to wait past the start deadline is left out.

use std::collections::BTreeMap;

use fleetprof_crds::compare::{Baseline, CompareRules, SessionCompare};
use fleetprof_crds::triggers::RolloutTrigger;
use jiff::Timestamp;

use super::Firing;
use super::rollout::Revision;
use crate::link::PodLink;
use crate::pod::Workload;
use crate::view::PolicyView;

/// Most pods of each revision: a session has 50 targets.
const MOST: usize = 25;

/// Whether a pod can be profiled and has been ready for the trigger's delay, so that its caches are warm.
pub(super) fn is_warm(link: &PodLink, rule: &RolloutTrigger, now: Timestamp) -> bool {
    let ready = link.pod.ready_since.filter(|_| link.linked);
    ready.is_some_and(|since| now.duration_since(since) >= rule.delay.as_signed())
}

/// Whether a workload only stands for the old revision of another one.
pub(super) fn is_baseline(workload: &Workload, compare: &CompareRules) -> bool {
    !compare.baseline_suffix.is_empty() && workload.name.ends_with(&compare.baseline_suffix)
}

/// The workload whose pods are the old revision: the same one, but for the suffix.
fn baseline(workload: &Workload, compare: &CompareRules) -> Workload {
    Workload { kind: workload.kind.clone(), name: format!("{}{}", workload.name, compare.baseline_suffix) }
}

/// The firing of a new revision as one that compares: with the pods of both revisions.
pub(super) fn compared(
    firing: Firing,
    (policy, rule, compare): (&PolicyView, &RolloutTrigger, &CompareRules),
    (revision, pods, links): (&Revision, &[&PodLink], &[PodLink]),
    now: Timestamp,
) -> Firing {
    if compare.baseline == Baseline::Unknown {
        return firing;
    }
    let most = most(policy, compare);
    let warm: Vec<&PodLink> = pods.iter().copied().filter(|link| is_warm(link, rule, now)).collect();
    let old = match compare.baseline {
        Baseline::Stable => old(links, revision, (rule, compare), now),
        _ => Vec::new(),
    };
    let cause = format!("{}; compared with {}", firing.cause, said(compare, &old));
    let mut names = first(warm, most);
    names.extend(first(old, most));
    let rules = SessionCompare { revision: revision.label.clone(), rules: compare.clone() };
    // Each target's profile has the label of its own revision.
    Firing { pods: names, cause, compare: Some(rules), labels: BTreeMap::new(), ..firing }
}

fn said(compare: &CompareRules, old: &[&PodLink]) -> String {
    let revision = old.first().and_then(|link| link.pod.revision()).map(|(label, _)| label);
    match (compare.baseline, revision) {
        (Baseline::Sessions, _) => format!("the last {} sessions", compare.sessions),
        (_, Some(revision)) => format!("the revision {revision}, of which {} pods are ready", old.len()),
        (_, None) => "no other revision, because no pod of one is ready".to_owned(),
    }
}

/// As many pods of each revision as the policy captures at the same time, half of them of each.
fn most(policy: &PolicyView, compare: &CompareRules) -> usize {
    let number = |n: i32| usize::try_from(n).unwrap_or(0);
    number(compare.min_pods).max(number(policy.spec.budget.max_concurrent) / 2).clamp(1, MOST)
}

/// The pods of the old revision: of those that are warm, the revision that most are of.
fn old<'l>(
    links: &'l [PodLink],
    revision: &Revision,
    (rule, compare): (&RolloutTrigger, &CompareRules),
    now: Timestamp,
) -> Vec<&'l PodLink> {
    let workload = baseline(&revision.workload, compare);
    let is_old = |link: &&PodLink| {
        *link.pod.namespace == *revision.namespace
            && *link.pod.workload == workload
            && is_warm(link, rule, now)
    };
    let mut groups: BTreeMap<String, Vec<&PodLink>> = BTreeMap::new();
    for link in links.iter().filter(is_old) {
        if let Some((label, _)) = link.pod.revision().filter(|(label, _)| *label != revision.label) {
            groups.entry(label.to_owned()).or_default().push(link);
        }
    }
    groups.into_values().max_by_key(Vec::len).unwrap_or_default()
}

/// The names of the first pods: those with an agent, then by name.
fn first(mut links: Vec<&PodLink>, most: usize) -> Vec<String> {
    links.sort_by_key(|link| (!link.has_agent, link.pod.name.clone()));
    links.truncate(most);
    links.into_iter().map(|link| link.pod.name.clone()).collect()
}
