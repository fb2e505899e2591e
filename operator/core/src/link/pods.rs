//! Which pods does a policy link, and what keeps the others out?

use std::sync::Arc;

use fleetprof_crds::policy::AgentMode;
use fleetprof_crds::{Reason, names};
use jiff::SignedDuration;

use super::Observed;
use crate::agent::{Container, Presence, Reach, Terms, World, at_limit, has_agent, presence};
use crate::pod::{AgentContainerState, PodFacts};
use crate::selector;
use crate::text::{cut, printable};
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
    /// What a person has to know beside the reason; empty where the reason says it all.
    pub cause: String,
    /// The agent that profiles it, or would when a session needs one; `None` where none would.
    pub mode: Option<AgentMode>,
    /// It has an agent, or gets one by itself: no session has to attach one.
    pub has_agent: bool,
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
            let Link { linked, reason, mode } = judge(policy, pod, &container, observed);
            let cause = cause(pod, reason, observed);
            let has_agent = has_agent(pod, &container, observed.agents, observed.settled);
            PodLink { pod: pod.clone(), container, linked, reason, cause, mode, has_agent }
        })
        .collect()
}

/// What holds for a pod.
struct Link {
    linked: bool,
    reason: Reason,
    mode: Option<AgentMode>,
}

/// A pod that no agent profiles.
const fn unlinked(reason: Reason) -> Link {
    Link { linked: false, reason, mode: None }
}

fn judge(policy: &PolicyView, pod: &PodFacts, container: &str, observed: &Observed) -> Link {
    let namespace = observed.namespaces.get(&*pod.namespace);
    if let Some(reason) = policy.yields(pod, namespace, &observed.policies) {
        return unlinked(reason);
    }
    if pod.opted_out(namespace) {
        return unlinked(Reason::OptedOut);
    }
    if container.is_empty() {
        return unlinked(Reason::NoSelectedContainer);
    }
    if pod.container(container).is_some_and(|c| c.below(&policy.spec.budget).is_some()) {
        return unlinked(Reason::TooSmall);
    }
    if !pod.running {
        return unlinked(if is_stuck(pod) { Reason::AgentImageFailed } else { Reason::PodNotRunning });
    }
    by_agent(policy, pod, container, observed)
}

/// What follows from the pod's agent: one that answers, comes or can be attached.
fn by_agent(policy: &PolicyView, pod: &PodFacts, container: &str, observed: &Observed) -> Link {
    let world = World {
        agents: observed.agents,
        images: observed.images,
        attach_disabled: observed.attach_disabled,
        level: observed.pod_security_of(&pod.namespace),
        node_agent: observed.node_agents.of(pod),
        policy: Some(Terms { spec: policy.spec, created: policy.created }),
    };
    let refusal = |pod: &PodFacts| (observed.refusal)(pod, &observed.policies);
    let found = presence(pod, Container { name: container, attached_as: "" }, &world, &refusal);
    let is_blocked = !observed.settled && matches!(found, Presence::Comes(_) | Presence::AwaitsNode(_));
    let (mode, (linked, reason)) = match found {
        Presence::Answers(agents) => (mode_of(agents.reach), (true, Reason::Linked)),
        Presence::AwaitsNode(_) if is_blocked || is_young(pod, observed) => {
            (AgentMode::Node, (false, Reason::AgentStarting))
        }
        other => match other.without_node() {
            Presence::Comes(sidecar) if is_starting(pod, sidecar, observed) => {
                (AgentMode::Sidecar, (false, Reason::AgentStarting))
            }
            Presence::Attached { lacks } | Presence::CanBeAttached { lacks, .. } => {
                (AgentMode::Ephemeral, (true, lacks))
            }
            Presence::Never(skip) => return unlinked(skip.reason),
            _ => (AgentMode::Sidecar, (false, Reason::AgentLost)),
        },
    };
    let (linked, reason) = if is_blocked { (true, Reason::StatusCheckBlocked) } else { (linked, reason) };
    Link { linked, reason, mode: Some(mode) }
}

/// How the agents came that see so much of a pod.
const fn mode_of(reach: Reach) -> AgentMode {
    match reach {
        Reach::Pod => AgentMode::Sidecar,
        Reach::Attached => AgentMode::Ephemeral,
        Reach::Node => AgentMode::Node,
    }
}

/// The object and the rule that keep the agent out: the reason is the same for all of them.
fn cause(pod: &PodFacts, reason: Reason, observed: &Observed) -> String {
    let refusal = || (observed.refusal)(pod, &observed.policies).filter(|skip| skip.reason == reason);
    let cause = match reason {
        Reason::ResourcesConflict | Reason::InjectionRefused => refusal().map(|skip| skip.cause),
        Reason::AgentImageFailed => Some(format!(
            "the pod {} does not start: the kubelet cannot start its container {}{}",
            pod.name,
            names::SIDECAR_NAME,
            words(pod)
        )),
        Reason::AttachLimit => Some(at_limit(pod)),
        _ => None,
    };
    cause.map(|cause| cut(&cause, names::MAX_LINK_MESSAGE)).unwrap_or_default()
}

/// Whether a pod that does not run waits for its sidecar. Between two tries that has ended; no sidecar of a pod that has
/// not started ends as it should.
fn is_stuck(pod: &PodFacts) -> bool {
    let sidecar = pod.sidecar.as_ref();
    sidecar.is_some_and(|state| state.cannot_start() || matches!(state, AgentContainerState::Ended(_)))
}

/// What the kubelet says of the sidecar.
fn words(pod: &PodFacts) -> String {
    match &pod.sidecar {
        Some(AgentContainerState::Waiting(why, message)) => format!(": {why}: {}", printable(message)),
        Some(AgentContainerState::Ended(why)) => format!(": {why}"),
        _ => String::new(),
    }
}

fn is_young(pod: &PodFacts, observed: &Observed) -> bool {
    pod.created.is_some_and(|at| observed.now.duration_since(at) < AGENT_START)
}

fn is_starting(pod: &PodFacts, sidecar: &AgentContainerState, observed: &Observed) -> bool {
    is_young(pod, observed)
        || matches!(sidecar, AgentContainerState::Unknown | AgentContainerState::Waiting(..))
}
