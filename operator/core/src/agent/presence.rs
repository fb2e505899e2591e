//! Will this pod have an agent, and if not, why? One answer for links, sessions, triggers and restarts.
//!
//! ```text
//! reports ─────────────────────────────────────► Answers
//! injected, has not reported ──────────────────► Comes
//! left to the node's, which has not reported it ─► AwaitsNode, and what holds where that stays so
//! none of these ─ may a session attach one? ─┬─ yes ─► CanBeAttached, or Attached already
//!                                            └─ no, or it had too many ──► Never(why)
//! ```
//! Agents that do not serve the pod by its policy are not among those that are known here, see [`super::serves`].

use std::collections::HashMap;

use fleetprof_crds::policy::{AgentMode, ExistingPods};
use fleetprof_crds::{ProfilingPolicySpec, Reason, names};
use jiff::Timestamp;

use super::{AgentFacts, AgentUser, NodeAgent, PodSecurity, Reach, Skip, agent_user};
use crate::image::AgentImages;
use crate::pod::{AgentContainer, AgentContainerState, PodFacts};

/// The container that is to be profiled.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Its name.
    pub name: &'a str,
    /// Name of the agent's container that a session has attached to it; empty where it has attached none.
    pub attached_as: &'a str,
}

/// What the policy that serves the pod says of agents.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Its spec.
    pub spec: &'a ProfilingPolicySpec,
    /// When it was created.
    pub created: Option<Timestamp>,
}

/// What the answer depends on beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// Agents that report, by pod UID.
    pub agents: &'a HashMap<String, AgentFacts>,
    /// The images that agents may have.
    pub images: &'a AgentImages,
    /// Whether an administrator forbids to attach agents.
    pub attach_disabled: bool,
    /// Pod Security level that the pod's namespace enforces.
    pub level: PodSecurity,
    /// Whether the pod can be left to the agent of its node.
    pub node_agent: NodeAgent,
    /// The policy that serves the pod; `None` for a session that names none, which attaches whatever it needs.
    pub policy: Option<Terms<'a>>,
}

/// Whether a pod has, or can have, an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Presence<'a> {
    /// It has one that answers.
    Answers(&'a AgentFacts),
    /// One was injected but has not reported; this is its state according to the kubelet.
    Comes(&'a AgentContainerState),
    /// It is left to the agent of its node, which has not reported the container; this holds where that stays so.
    AwaitsNode(Box<Self>),
    /// One was attached but has not reported.
    Attached {
        /// Why the pod has no sidecar.
        lacks: Reason,
    },
    /// It has none, and a session may attach one.
    CanBeAttached {
        /// The user that the agent would run as.
        user: AgentUser,
        /// Its image.
        image: &'a str,
        /// Why the pod has no sidecar.
        lacks: Reason,
    },
    /// It has none and gets none.
    Never(Skip),
}

impl Presence<'_> {
    /// What holds once the agent of the node has had the time to report the container.
    #[must_use]
    pub fn without_node(self) -> Self {
        match self {
            Self::AwaitsNode(otherwise) => *otherwise,
            other => other,
        }
    }
}

/// Whether the pod has, or can have, an agent for one of its containers: one that is attached to another
/// container does not see it. `refusal` tells why injection leaves
/// out a pod that has no sidecar, `None` where it would inject it; it is asked only of a pod without an agent,
/// since it reads the pod's JSON.
#[must_use]
pub fn presence<'a>(
    pod: &'a PodFacts,
    container: Container<'_>,
    world: &World<'a>,
    refusal: &dyn Fn(&PodFacts) -> Option<Skip>,
) -> Presence<'a> {
    let id = pod.container(container.name).map_or("", |c| c.id.as_str());
    if let Some(agent) = world.agents.get(&pod.uid).filter(|agents| agents.see(id)) {
        // What only keeps a container out of the pod does not matter to the agent of its node: none is added.
        let barred =
            || refusal(pod).filter(|skip| matches!(skip.reason, Reason::OptedOut | Reason::NamespaceUnknown));
        let barred = if agent.reach == Reach::Node { barred() } else { None };
        return barred.map_or(Presence::Answers(agent), Presence::Never);
    }
    match &pod.sidecar {
        Some(sidecar) => Presence::Comes(sidecar),
        None => without_agent(pod, container, world, refusal(pod)),
    }
}

fn without_agent<'a>(
    pod: &PodFacts,
    container: Container<'_>,
    world: &World<'a>,
    refusal: Option<Skip>,
) -> Presence<'a> {
    let mode = world.policy.map(|terms| terms.spec.agent.mode);
    let (is_left, otherwise) = match mode {
        Some(AgentMode::Node) => (true, Err(left_to_node(pod, refusal))),
        Some(AgentMode::Auto) => {
            (world.node_agent == NodeAgent::Answers, attachable(pod, container, world, refusal))
        }
        _ => (false, attachable(pod, container, world, refusal)),
    };
    match otherwise {
        Err(skip) if is_left && !bars_node(skip.reason) => {
            Presence::AwaitsNode(Box::new(Presence::Never(skip)))
        }
        Err(skip) => Presence::Never(skip),
        Ok(can_be @ Presence::CanBeAttached { .. }) if is_left => Presence::AwaitsNode(Box::new(can_be)),
        Ok(presence) => presence,
    }
}

/// Whether an agent is attached or can be, and which.
fn attachable<'a>(
    pod: &PodFacts,
    container: Container<'_>,
    world: &World<'a>,
    refusal: Option<Skip>,
) -> Result<Presence<'a>, Skip> {
    let lacks = may_attach(pod, world, refusal)?;
    if pod.attached.iter().any(|a| a.name == container.attached_as || runs_beside(a, container.name)) {
        return Ok(Presence::Attached { lacks });
    }
    if world.attach_disabled {
        return Err(Skip::new(Reason::AttachDisabled, format!("the pod has no agent ({lacks})")));
    }
    if pod.attached.len() >= names::MAX_ATTACHED {
        return Err(Skip::new(Reason::AttachLimit, at_limit(pod)));
    }
    let image = world.policy.map_or(Ok(&*world.images.default), |terms| world.images.of(terms.spec));
    let image = image
        .map_err(|cause| Skip::new(Reason::ImageNotAllowed, format!("the policy's agent.image: {cause}")))?;
    let runs_as = pod.container(container.name).map(|c| c.user).unwrap_or_default();
    Ok(Presence::CanBeAttached { user: agent_user(container.name, runs_as, world.level)?, image, lacks })
}

/// What is said of a pod that is left to the agent of its node, where that one does not report it.
fn left_to_node(pod: &PodFacts, refusal: Option<Skip>) -> Skip {
    let unreported = || {
        let cause = format!("no agent of the node {} reports the container", pod.node);
        Skip::new(Reason::NoNodeAgent, cause)
    };
    refusal.filter(|skip| bars_node(skip.reason)).unwrap_or_else(unreported)
}

/// Whether what keeps a sidecar out of a pod keeps the agent of its node from it as well.
fn bars_node(reason: Reason) -> bool {
    matches!(reason, Reason::OptedOut | Reason::NamespaceUnknown | Reason::WindowsNode)
}

/// Whether a container of a pod has an agent, so that a session need not attach one. Until every agent has had the
/// time to report, which `settled` tells, one that runs counts as well.
#[must_use]
pub fn has_agent(
    pod: &PodFacts,
    container: &str,
    agents: &HashMap<String, AgentFacts>,
    settled: bool,
) -> bool {
    let id = pod.container(container).map_or("", |c| c.id.as_str());
    pod.sidecar.is_some()
        || agents.get(&pod.uid).is_some_and(|agents| agents.see(id))
        || (!settled && pod.attached.iter().any(|agent| runs_beside(agent, container)))
}

/// Whether an attached agent runs that was attached to this container.
fn runs_beside(agent: &AgentContainer, container: &str) -> bool {
    agent.state == AgentContainerState::Running && agent.target == container
}

/// What is said of a pod that has no agent and may have no more attached, as a part of a sentence.
#[must_use]
pub fn at_limit(pod: &PodFacts) -> String {
    let (had, most) = (pod.attached.len(), names::MAX_ATTACHED);
    format!("the pod {} had {had} agents attached, and may have {most} in its lifetime", pod.name)
}

/// Why the pod has no sidecar, where a session may attach an agent nevertheless.
fn may_attach(pod: &PodFacts, world: &World<'_>, refusal: Option<Skip>) -> Result<Reason, Skip> {
    let policy = world.policy;
    let mode = policy.map_or(AgentMode::Ephemeral, |terms| terms.spec.agent.mode);
    let is_served = mode == AgentMode::Auto && world.node_agent != NodeAgent::Unserved;
    if mode == AgentMode::Unknown {
        return Err(Skip::new(Reason::InvalidSpec, "this version does not know the policy's agent.mode"));
    }
    if let Some(barred) = refusal.as_ref().filter(|refusal| bars_attaching(refusal.reason)) {
        // The agent of the node would serve it nevertheless.
        return Err(if is_served { left_to_node(pod, refusal) } else { barred.clone() });
    }
    let Some(terms) = policy.filter(|_| matches!(mode, AgentMode::Sidecar | AgentMode::Auto)) else {
        return Ok(Reason::AttachedOnDemand);
    };
    let refusal = if is_served { Some(left_to_node(pod, refusal)) } else { refusal };
    let older = matches!((pod.created, terms.created), (Some(pod), Some(policy)) if pod < policy);
    let missed = if older { Reason::CreatedBeforePolicy } else { Reason::WebhookMissed };
    let (lacks, cause) =
        refusal.map_or((missed, "the pod has no agent".to_owned()), |skip| (skip.reason, skip.cause));
    match terms.spec.agent.existing_pods {
        ExistingPods::AttachOnDemand => return Ok(lacks),
        // No restart would give it an agent.
        ExistingPods::Restart if !pod.workload.restarts() => return Ok(lacks),
        _ => {}
    }
    Err(Skip::new(lacks, format!("{cause}, and agent.existingPods does not allow attaching one")))
}

/// Whether what keeps a sidecar out of a pod keeps an attached agent out as well.
fn bars_attaching(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::OptedOut
            | Reason::NamespaceUnknown
            | Reason::WindowsNode
            | Reason::StaticPod
            | Reason::NamespaceExcluded
    )
}
