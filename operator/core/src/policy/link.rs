//! Which apps does a policy link, and what keeps the others out?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetprof_crds::policy::{AgentMode, ExistingPods, LinkState, LinkedApp};
use fleetprof_crds::{ProfilingPolicyStatus, Reason, names};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Observed, PolicyView, news};
use crate::inject::{AgentUser, PodSecurity, Skip, agent_user};
use crate::pod::{AgentContainerState, PodFacts, Workload};
use crate::selector;
use crate::session::AgentFacts;

/// How long the agent of a running pod may take to report before it counts as lost.
const AGENT_START: SignedDuration = SignedDuration::from_secs(120);

/// How a policy sees one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodLink {
    /// The pod.
    pub pod: Arc<PodFacts>,
    /// Container that would be profiled.
    pub container: String,
    /// It can be profiled now.
    pub linked: bool,
    /// Why it is so.
    pub reason: Reason,
}

/// Every pod that the policy selects and that has not ended, with what holds for it.
#[must_use]
pub fn pods(policy: &PolicyView, observed: &Observed) -> Vec<PodLink> {
    let covered = |p: &PodFacts| policy.covers(&p.namespace, observed.namespaces.get(&*p.namespace));
    observed
        .pods
        .iter()
        .filter(|p| !p.ending && selector::selects(&policy.spec.selector, &p.labels) && covered(p))
        .map(|pod| {
            let container =
                pod.choose("", &policy.spec.containers).map(|c| c.name.to_string()).unwrap_or_default();
            let (linked, reason) = judge(policy, pod, &container, observed);
            PodLink { pod: pod.clone(), container, linked, reason }
        })
        .collect()
}

fn judge(policy: &PolicyView, pod: &PodFacts, container: &str, observed: &Observed) -> (bool, Reason) {
    let namespace = observed.namespaces.get(&*pod.namespace);
    if let Some(reason) = policy.yields(pod, namespace, &observed.policies) {
        return (false, reason);
    }
    if pod.opted_out(namespace) {
        return (false, Reason::OptedOut);
    }
    if container.is_empty() {
        return (false, Reason::NoSelectedContainer);
    }
    if pod.container(container).is_some_and(|c| c.below(&policy.spec.budget).is_some()) {
        return (false, Reason::TooSmall);
    }
    if !pod.running {
        return (false, Reason::PodNotRunning);
    }
    if observed.agents.contains_key(&pod.uid) {
        return (true, Reason::Linked);
    }
    if let Some(sidecar) = &pod.sidecar {
        if !observed.settled {
            return (true, Reason::StatusCheckBlocked);
        }
        let young = pod.created.is_some_and(|c| observed.now.duration_since(c) < AGENT_START);
        let starting =
            young || matches!(sidecar, AgentContainerState::Unknown | AgentContainerState::Waiting(..));
        return (false, if starting { Reason::AgentStarting } else { Reason::AgentLost });
    }
    without_agent(policy, pod, container, observed)
}

/// A pod without an agent can be profiled when one may be attached.
fn without_agent(
    policy: &PolicyView,
    pod: &PodFacts,
    container: &str,
    observed: &Observed,
) -> (bool, Reason) {
    let agent = &policy.spec.agent;
    if observed.images.of(policy.spec).is_err() {
        return (false, Reason::ImageNotAllowed);
    }
    let refusal = (observed.refusal)(pod, &observed.policies);
    if let Some(reason) = refusal.filter(|reason| bars_attaching(*reason, agent.mode)) {
        return (false, reason);
    }
    if let Err(skip) = attached_user(pod, container, observed) {
        return (false, skip.reason);
    }
    if agent.mode == AgentMode::Ephemeral {
        return (true, Reason::AttachedOnDemand);
    }
    let older = matches!((pod.created, policy.created), (Some(p), Some(q)) if p < q);
    let reason = refusal.unwrap_or(if older { Reason::CreatedBeforePolicy } else { Reason::WebhookMissed });
    (agent.existing_pods == ExistingPods::AttachOnDemand, reason)
}

/// Whether what keeps a sidecar out of a pod keeps an attached agent out as well. A policy that attaches
/// alone is written on purpose, also where nothing is injected.
fn bars_attaching(reason: Reason, mode: AgentMode) -> bool {
    match reason {
        Reason::OptedOut | Reason::WindowsNode | Reason::StaticPod => true,
        Reason::NamespaceExcluded => mode != AgentMode::Ephemeral,
        _ => false,
    }
}

/// The user of an agent that a session would attach.
fn attached_user(pod: &PodFacts, container: &str, observed: &Observed) -> Result<AgentUser, Skip> {
    let level = observed
        .namespaces
        .get(&*pod.namespace)
        .map_or(observed.pod_security, |l| PodSecurity::enforced(l, observed.pod_security));
    agent_user(container, pod.container(container).map(|c| c.user).unwrap_or_default(), level)
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
        observed.agents.get(&l.pod.uid).is_some_and(|a| is_outdated(pinned, a, observed.version))
    };
    status.outdated_apps = count(by_workload.values().filter(|pods| pods.iter().any(&outdated)).count());
    let before = std::mem::take(&mut status.linked_apps);
    status.linked_apps = worth_a_row(by_workload)
        .into_iter()
        .map(|((namespace, workload), pods)| {
            let old = before
                .iter()
                .find(|a| a.namespace == namespace && a.kind == workload.kind && a.name == workload.name);
            LinkedApp { namespace: namespace.to_owned(), ..app(policy, workload, &pods, old, observed) }
        })
        .collect();
    cut(&mut status.linked_apps);
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
        rows.sort_by_key(|(_, pods)| news::is_quiet(worst(pods)));
        rows.truncate(names::MAX_LINKED_APPS);
    }
    rows
}

/// Keeps as many rows as the status has room for, whatever the length of their names.
fn cut(rows: &mut Vec<LinkedApp>) {
    let mut room = names::MAX_LINKED_APPS_BYTES;
    let kept = rows
        .iter()
        .map_while(|row| {
            room = room.checked_sub(serde_json::to_vec(row).ok()?.len() + 1)?;
            Some(())
        })
        .count();
    rows.truncate(kept);
}

/// Whether an agent is of another version than new pods get. A policy that names an image has `pinned` its
/// version.
#[must_use]
pub fn is_outdated(pinned: bool, agent: &AgentFacts, version: &str) -> bool {
    !pinned && agent.version != version
}

fn app(
    policy: &PolicyView,
    workload: &Workload,
    pods: &[&PodLink],
    before: Option<&LinkedApp>,
    observed: &Observed,
) -> LinkedApp {
    let linked = pods.iter().filter(|l| l.linked).count();
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
        agent_versions: versions.into_iter().take(3).map(str::to_owned).collect(),
        outdated: count(agents.iter().filter(|a| is_outdated(pinned, a, observed.version)).count()),
        state: match linked {
            0 => LinkState::NotLinked,
            n if n == pods.len() => LinkState::Linked,
            _ => LinkState::PartiallyLinked,
        },
        reason: worst(pods),
        last_profile_time: last_profile(pods, observed).max(before.and_then(|b| b.last_profile_time.clone())),
    }
}

/// The reason of the pod that is worst off: one that cannot be profiled, then one that has no agent yet.
fn worst(pods: &[&PodLink]) -> Reason {
    let by_badness = |l: &&&PodLink| (l.linked, l.reason == Reason::Linked, l.reason);
    pods.iter().min_by_key(by_badness).map_or(Reason::Linked, |l| l.reason)
}

fn last_profile(pods: &[&PodLink], observed: &Observed) -> Option<Time> {
    let PodFacts { namespace, workload, .. } = &*pods.first()?.pod;
    let name = workload.to_string();
    let sessions = observed.sessions.iter().filter(|s| s.metadata.namespace.as_deref() == Some(&**namespace));
    let targets = sessions.filter_map(|s| s.status.as_ref()).flat_map(|s| &s.targets);
    targets.filter(|t| t.workload == name && !t.profiles.is_empty()).filter_map(|t| t.end_time.clone()).max()
}
