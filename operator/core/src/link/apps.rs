//! Which apps has a policy linked, and how do they stand? Rows of its status, one a workload.

use std::collections::{BTreeMap, BTreeSet};

use fleetprof_crds::policy::{LinkState, LinkedApp};
use fleetprof_crds::{ProfilingPolicyStatus, Reason, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::samples::Samples;
use super::{Observed, PodLink};
use crate::pod::{PodFacts, Workload};
use crate::view::PolicyView;

/// Reasons that need no attention.
const QUIET: [Reason; 5] = [
    Reason::Linked,
    Reason::AgentStarting,
    Reason::AttachedOnDemand,
    Reason::PodNotRunning,
    Reason::StatusCheckBlocked,
];

/// Whether nobody needs to look at an app because of `reason`.
#[must_use]
pub fn is_quiet(reason: Reason) -> bool {
    QUIET.contains(&reason)
}

/// Writes linked apps and their counts; the list is cut openly, the counts are exact.
pub fn fill(policy: &PolicyView, status: &mut ProfilingPolicyStatus, links: &[PodLink], observed: &Observed) {
    let mut by_workload = Workloads::new();
    for link in links {
        by_workload.entry((policy.shown(&link.pod.namespace), &link.pod.workload)).or_default().push(link);
    }
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    status.linked_pod_count = count(links.iter().filter(|l| l.linked).count());
    status.linked_app_count =
        count(by_workload.values().filter(|pods| pods.iter().any(|l| l.linked)).count());
    let workloads = by_workload.len();
    let pinned = policy.spec.agent.image.is_some();
    let outdated = |l: &&PodLink| {
        observed.agents.get(&l.pod.uid).is_some_and(|a| a.is_outdated(pinned, observed.version))
    };
    status.outdated_apps = count(by_workload.values().filter(|pods| pods.iter().any(&outdated)).count());
    let before = std::mem::take(&mut status.linked_apps);
    let samples = Samples::of(policy, observed);
    status.linked_apps = worth_a_row(by_workload)
        .into_iter()
        .map(|((namespace, workload), pods)| {
            let old = before
                .iter()
                .find(|a| a.namespace == namespace && a.kind == workload.kind && a.name == workload.name);
            let effective_samples_per_hour = samples.as_ref().and_then(|samples| samples.of_app(&pods));
            let app = app(policy, workload, &pods, old, observed);
            LinkedApp { namespace: namespace.to_owned(), effective_samples_per_hour, ..app }
        })
        .collect();
    let taken = serde_json::to_vec(&status.failing_namespaces).map_or(0, |list| list.len());
    cut(&mut status.linked_apps, names::MAX_LINKED_APPS_BYTES.saturating_sub(taken));
    status
        .linked_apps
        .sort_by(|a, b| (&a.namespace, &a.kind, &a.name).cmp(&(&b.namespace, &b.kind, &b.name)));
    status.linked_apps_truncated = workloads > status.linked_apps.len();
}

type Workloads<'a> = BTreeMap<(&'a str, &'a Workload), Vec<&'a PodLink>>;

/// As many workloads as there are rows. Where not all have one, those with a trouble come first: they are
/// what is looked for.
fn worth_a_row(all: Workloads<'_>) -> Vec<((&str, &Workload), Vec<&PodLink>)> {
    let cut = all.len() > names::MAX_LINKED_APPS;
    let mut rows: Vec<_> = all.into_iter().collect();
    if cut {
        rows.sort_by_key(|(_, pods)| worst(pods).is_none_or(|l| is_quiet(l.reason)));
        rows.truncate(names::MAX_LINKED_APPS);
    }
    rows
}

/// Keeps as many rows as the status has room for, whatever the length of their names.
fn cut(rows: &mut Vec<LinkedApp>, mut room: usize) {
    let kept = rows
        .iter()
        .map_while(|row| {
            room = room.checked_sub(serde_json::to_vec(row).ok()?.len() + 1)?;
            Some(())
        })
        .count();
    rows.truncate(kept);
}

fn app(
    policy: &PolicyView,
    workload: &Workload,
    pods: &[&PodLink],
    before: Option<&LinkedApp>,
    observed: &Observed,
) -> LinkedApp {
    let linked = pods.iter().filter(|l| l.linked).count();
    let worst = worst(pods);
    let pinned = policy.spec.agent.image.is_some();
    let agents: Vec<_> = pods.iter().filter_map(|l| observed.agents.get(&l.pod.uid)).collect();
    let versions: BTreeSet<&str> = agents.iter().map(|a| a.version.as_str()).collect();
    let runtime = pods
        .iter()
        .find_map(|l| observed.agents.get(&l.pod.uid)?.runtimes.get(&l.pod.container(&l.container)?.id))
        .cloned();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    LinkedApp {
        namespace: String::new(),
        kind: workload.kind.clone(),
        name: workload.name.clone(),
        container: pods.iter().map(|l| l.container.clone()).find(|c| !c.is_empty()).unwrap_or_default(),
        runtime: runtime.or_else(|| before.and_then(|b| b.runtime.clone())),
        pods: count(pods.len()),
        linked: count(linked),
        agent_modes: pods.iter().filter_map(|l| l.mode).collect::<BTreeSet<_>>().into_iter().collect(),
        agent_versions: versions.into_iter().take(3).map(str::to_owned).collect(),
        outdated: count(agents.iter().filter(|a| a.is_outdated(pinned, observed.version)).count()),
        state: match linked {
            0 => LinkState::NotLinked,
            n if n == pods.len() => LinkState::Linked,
            _ => LinkState::PartiallyLinked,
        },
        reason: worst.map_or(Reason::Linked, |l| l.reason),
        message: worst.map(|l| l.cause.clone()).unwrap_or_default(),
        last_profile_time: last_profile(pods, observed).max(before.and_then(|b| b.last_profile_time.clone())),
        effective_samples_per_hour: None,
    }
}

/// The pod that is worst off: one that cannot be profiled, then one that has no agent yet.
fn worst<'a>(pods: &[&'a PodLink]) -> Option<&'a PodLink> {
    pods.iter().copied().min_by_key(|l| (l.linked, l.reason == Reason::Linked, l.reason))
}

fn last_profile(pods: &[&PodLink], observed: &Observed) -> Option<Time> {
    let PodFacts { namespace, workload, .. } = &*pods.first()?.pod;
    let name = workload.to_string();
    let sessions = observed.sessions.iter().filter(|s| s.metadata.namespace.as_deref() == Some(&**namespace));
    let targets = sessions.filter_map(|s| s.status.as_ref()).flat_map(|s| &s.targets);
    targets.filter(|t| t.workload == name && !t.profiles.is_empty()).filter_map(|t| t.end_time.clone()).max()
}
