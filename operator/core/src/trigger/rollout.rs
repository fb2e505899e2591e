//! Is there a new revision of a workload that was never profiled?
//!
//! ```text
//! first pod ready ─ delay ─► one session of the new revision
//!        with compare: ─ delay, and minPods ready for it, or wait is over ─► one session of new and old pods
//! ```
//! A revision is a ReplicaSet, as of a Deployment, or a ControllerRevision, as of a StatefulSet: created when
//! the pod template changes, and used again by a rollback. Its creation time therefore tells a new revision
//! from pods that were merely replaced, and from the revision that existed before the policy. A rollback is
//! not a new revision.

use std::collections::{BTreeMap, HashMap};

use fleetprof_crds::session::Trigger;
use fleetprof_crds::triggers::RolloutTrigger;
use jiff::{SignedDuration, Timestamp};

use super::{Firing, stable};
use crate::link::PodLink;
use crate::pod::{RevisionObject, Workload};
use crate::view::PolicyView;

/// A revision is new for so long after its creation, and for the trigger's delay. What becomes ready later is
/// missed, never queued; within it the revision's session is kept, so that it is known to have been profiled.
pub const NEW: SignedDuration = SignedDuration::from_hours(1);

/// A revision of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision {
    /// Its namespace.
    pub namespace: String,
    /// The workload.
    pub workload: Workload,
    /// The object that stands for it in the cluster.
    pub object: RevisionObject,
    /// What tells it from others of the workload: the hash or name that its pods carry.
    pub label: String,
}

impl Revision {
    /// The revision of a pod; `None` for pods of workloads without revisions.
    pub(super) fn of(link: &PodLink) -> Option<Self> {
        let pod = &link.pod;
        let (label, object) = pod.revision()?;
        Some(Self {
            namespace: pod.namespace.to_string(),
            workload: (*pod.workload).clone(),
            object,
            label: label.to_owned(),
        })
    }
}

/// The pods of each revision that may be profiled now, as far as pods alone can tell.
fn candidates<'a>(
    policy: &PolicyView,
    links: &'a [PodLink],
    now: Timestamp,
) -> BTreeMap<Revision, Vec<&'a PodLink>> {
    let Some(rule) = &policy.spec.triggers.rollout else { return BTreeMap::new() };
    let mut found: BTreeMap<Revision, Vec<&PodLink>> = BTreeMap::new();
    for link in links {
        if let Some(revision) = Revision::of(link) {
            found.entry(revision).or_default().push(link);
        }
    }
    found.retain(|_, pods| {
        // No revision is younger than its pods.
        let oldest = pods.iter().filter_map(|l| l.pod.created).min();
        let young = oldest.is_some_and(|at| policy.created.is_none_or(|p| p < at) && is_new(at, rule, now));
        young && is_due(rule, pods, now)
    });
    if let Some(compare) = &rule.compare {
        found.retain(|revision, _| !stable::is_baseline(&revision.workload, compare));
    }
    found
}

/// Whether it is time for the session of a revision. One that is compared waits for as many pods as that needs,
/// but not for long: there is one look, and a revision of one pod shall be told that it is too few.
fn is_due(rule: &RolloutTrigger, pods: &[&PodLink], now: Timestamp) -> bool {
    let Some((_, first)) = first_ready(pods) else { return false };
    let since = now.duration_since(first);
    let Some(compare) = &rule.compare else { return since >= rule.delay.as_signed() };
    let warm = pods.iter().filter(|link| stable::is_warm(link, rule, now)).count();
    let enough = warm >= usize::try_from(compare.min_pods).unwrap_or(1).max(1);
    enough || since >= rule.delay.as_signed().saturating_add(rule.wait.as_signed())
}

pub(super) fn is_new(created: Timestamp, rule: &RolloutTrigger, now: Timestamp) -> bool {
    now.duration_since(created) < new_for(rule)
}

/// For how long a revision is new, and so for how long its session has to be known.
#[must_use]
pub fn new_for(rule: &RolloutTrigger) -> SignedDuration {
    let wait = if rule.compare.is_some() { rule.wait.as_signed() } else { SignedDuration::ZERO };
    NEW.saturating_add(rule.delay.as_signed()).saturating_add(wait)
}

fn first_ready<'a>(pods: &[&'a PodLink]) -> Option<(&'a PodLink, Timestamp)> {
    let ready = pods.iter().filter(|l| l.linked).filter_map(|l| Some((*l, l.pod.ready_since?)));
    ready.min_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.pod.name.cmp(&b.0.pod.name)))
}

/// The revisions whose time of creation has to be known for [`firings`].
#[must_use]
pub fn questions(policy: &PolicyView, links: &[PodLink], now: Timestamp) -> Vec<Revision> {
    candidates(policy, links, now).into_keys().collect()
}

/// A firing for each revision that is new and ready for the delay. `created` are the answers to
/// [`questions`]; a revision that is gone has none.
#[must_use]
pub fn firings(
    policy: &PolicyView,
    links: &[PodLink],
    created: &HashMap<Revision, Timestamp>,
    now: Timestamp,
) -> Vec<Firing> {
    let Some(rule) = &policy.spec.triggers.rollout else { return Vec::new() };
    let fresh = |r: &Revision| {
        created.get(r).is_some_and(|at| policy.created.is_none_or(|p| p < *at) && is_new(*at, rule, now))
    };
    let candidates = candidates(policy, links, now);
    let firing = |(revision, pods): (&Revision, &Vec<&PodLink>)| {
        let firing = firing(policy, rule, revision, pods, now)?;
        Some(match &rule.compare {
            Some(compare) => stable::compared(firing, (policy, rule, compare), (revision, pods, links), now),
            None => firing,
        })
    };
    candidates.iter().filter(|(r, _)| fresh(r)).filter_map(firing).collect()
}

fn firing(
    policy: &PolicyView,
    rule: &RolloutTrigger,
    revision: &Revision,
    pods: &[&PodLink],
    now: Timestamp,
) -> Option<Firing> {
    let (first, since) = first_ready(pods)?;
    let mut names: Vec<String> =
        pods.iter().filter(|l| l.linked && l.pod.ready_since.is_some()).map(|l| l.pod.name.clone()).collect();
    names.sort();
    names.truncate(super::most_pods(policy));
    let (workload, label) = (&revision.workload, &revision.label);
    Some(Firing {
        trigger: Trigger::Rollout,
        source: "rollout".into(),
        namespace: revision.namespace.clone(),
        workload: workload.clone(),
        pods: names,
        cause: format!(
            "{workload} has the new revision {label}; its first pod {} has been ready for {} s (delay {})",
            first.pod.name,
            now.duration_since(since).as_secs(),
            rule.delay
        ),
        key: label.clone(),
        ongoing: None,
        duration: rule.duration,
        // Each revision once; how soon after each other is up to who rolls them out.
        cooldown: fleetprof_crds::Duration::from_secs(0),
        compare: None,
        labels: [("revision".to_owned(), label.clone())].into(),
    })
}
