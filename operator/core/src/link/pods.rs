//! Which pods does a policy link, and what keeps the others out?

use std::sync::Arc;

use fleetprof_crds::Reason;
use fleetprof_crds::policy::{AgentMode, ExistingPods};
use jiff::SignedDuration;

use super::Observed;
use crate::agent::{AgentUser, PodSecurity, Skip, agent_user};
use crate::pod::{AgentContainerState, PodFacts};
use crate::selector;
use crate::view::PolicyView;

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
