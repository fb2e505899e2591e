//! What is still missing before a target's order can be out: an agent, the right to attach one, a place in
//! the budgets?

use fleetprof_crds::budget::Budget;
use fleetprof_crds::policy::{AgentMode, ExistingPods};
use fleetprof_crds::session_status::{TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileSession, Reason, names};
use jiff::{SignedDuration, Timestamp};

use super::super::observed::{PolicyFacts, Settings};
use super::{Context, GRACE, explain, finish};
use crate::agent::{AgentUser, PodSecurity, Skip, agent_user};
use crate::budget::{Claim, Limits, Place};
use crate::hash::short_name;
use crate::pod::{AgentContainerState, PodFacts};
use crate::text::advised;

/// Before an order is out: is there an agent, can one be attached, is there a place in the budgets, how long
/// may it take? Gives back the claim that has to be answered first.
pub(super) fn prepare(target: &mut TargetStatus, context: &Context) -> Option<Claim> {
    let now = context.observed.now;
    if context.cancelled_at.is_some() {
        finish(target, TargetPhase::Cancelled, Reason::Cancelled, String::new(), now);
        return None;
    }
    let Some(pod) = context.pod(target).filter(|p| !p.ending) else {
        finish(
            target,
            TargetPhase::Failed,
            Reason::PodGone,
            "The pod ended before its capture started.".into(),
            now,
        );
        return None;
    };
    let Some(agent) = context.observed.agents.get(&target.pod_uid) else {
        return without_agent(target, pod, context);
    };
    if agent.protocol < context.settings.protocol {
        let (version, has, need) = (&agent.version, agent.protocol, context.settings.protocol);
        let message = advised(
            format!("The agent {version} speaks protocol {has}, the order needs {need}"),
            Reason::AgentTooOld,
        );
        finish(target, TargetPhase::Skipped, Reason::AgentTooOld, message, now);
        return None;
    }
    match turn(target, context) {
        Turn::Ask(claim) => return Some(claim),
        Turn::Wait => {}
        Turn::Go => {
            target.phase = TargetPhase::Ordered;
            target.container_id = pod.container(&target.container).map(|c| c.id.clone()).unwrap_or_default();
            target.runtime = agent.runtimes.get(&target.container_id).cloned();
            explain(target, Reason::WaitingForAgent, "The order is out.".into());
        }
    }
    None
}

/// Whether it is the target's turn.
enum Turn {
    /// It has its place.
    Go,
    /// It waits, or has given up.
    Wait,
    /// The ledger must be asked.
    Ask(Claim),
}

fn turn(target: &mut TargetStatus, context: &Context) -> Turn {
    if target.phase != TargetPhase::Pending {
        return Turn::Go;
    }
    let busy = match context.observed.places.get(&target.capture) {
        None => return Turn::Ask(claim(target, context.session, &context.observed.policy, context.settings)),
        Some(Place::Granted) => return Turn::Go,
        Some(Place::Busy(busy)) => busy,
    };
    let now = context.observed.now;
    if now > context.start_before {
        let message = advised(&busy.message, busy.reason);
        finish(target, TargetPhase::Skipped, busy.reason, message, now);
    } else {
        let message = format!(
            "{}; waiting for a place until {}.",
            busy.message,
            context.start_before.strftime("%H:%M:%S UTC")
        );
        explain(target, busy.reason, message);
    }
    Turn::Wait
}

/// The place that the target's capture takes.
#[must_use]
pub fn claim(
    target: &TargetStatus,
    session: &ProfileSession,
    policy: &PolicyFacts,
    settings: &Settings,
) -> Claim {
    let (policy, budget) = match policy {
        PolicyFacts::Found { uid, spec, .. } => (uid.clone(), spec.budget.clone()),
        _ => (String::new(), Budget { max_concurrent: i32::MAX, ..Budget::default() }),
    };
    let limit = |n: i32| usize::try_from(n).unwrap_or(1);
    Claim {
        capture: target.capture.clone(),
        session: session.metadata.uid.clone().unwrap_or_default(),
        namespace: session.metadata.namespace.clone().unwrap_or_default(),
        policy,
        node: target.node.clone(),
        priority: budget.priority,
        since: session.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0),
        limits: Limits {
            node: limit(budget.max_concurrent_per_node),
            namespace: settings.namespace_budget,
            policy: limit(budget.max_concurrent),
            fleet: settings.fleet_budget,
        },
    }
}

fn without_agent(target: &mut TargetStatus, pod: &PodFacts, context: &Context) -> Option<Claim> {
    let now = context.observed.now;
    let awaited = pod.sidecar.is_some() || target.phase == TargetPhase::Attaching;
    // Who does not run cannot have reported to the leader before this one either.
    let may_be_unheard = !context.observed.settled
        && ours(target, pod).is_some_and(|(_, state)| *state == AgentContainerState::Running);
    if awaited && now > context.start_before && !may_be_unheard {
        let (reason, message) = late_start(target, pod, context);
        finish(target, TargetPhase::Failed, reason, message, now);
        return None;
    }
    if pod.sidecar.is_some() {
        explain(target, Reason::WaitingForAgent, "The injected agent has not reported yet.".into());
        return None;
    }
    if !may_attach(context) {
        leave(target, pod, context);
        return None;
    }
    if !is_attached(target, pod)
        && let Err(skip) = user(target, pod, context)
    {
        finish(target, TargetPhase::Skipped, skip.reason, skip.sentence(), now);
        return None;
    }
    match turn(target, context) {
        Turn::Ask(claim) => return Some(claim),
        Turn::Wait => {}
        Turn::Go => attach_or_give_up(target, pod, context),
    }
    None
}

/// A pod without an agent that none may be attached to.
fn leave(target: &mut TargetStatus, pod: &PodFacts, context: &Context) {
    let created_before = matches!((&context.observed.policy, pod.created), (PolicyFacts::Found { created: Some(policy), .. }, Some(pod)) if pod < *policy);
    let reason = if created_before { Reason::CreatedBeforePolicy } else { Reason::WebhookMissed };
    let message =
        advised("The pod has no agent, and agent.existingPods does not let a session attach one", reason);
    finish(target, TargetPhase::Skipped, reason, message, context.observed.now);
}

fn attach_or_give_up(target: &mut TargetStatus, pod: &PodFacts, context: &Context) {
    let ours = pod.attached.iter().find(|a| a.name == target.attached_as).map(|a| &a.state);
    if let (None, Err(cause)) = (ours, image(context)) {
        let message = advised(format!("agent.image of the policy: {cause}"), Reason::ImageNotAllowed);
        return finish(target, TargetPhase::Skipped, Reason::ImageNotAllowed, message, context.observed.now);
    }
    let failed = match ours {
        Some(AgentContainerState::Ended(why)) => Some((
            Reason::AgentGone,
            advised(format!("The attached agent ended before it reported: {why}"), Reason::AgentGone),
        )),
        Some(AgentContainerState::Waiting(why, message)) if image_failed(why) => {
            Some((Reason::AgentImageFailed, format!("The attached agent does not start: {why}: {message}")))
        }
        _ => None,
    };
    if let Some((reason, message)) = failed {
        return finish(target, TargetPhase::Failed, reason, message, context.observed.now);
    }
    if target.attached_as.is_empty() {
        let uid = context.session.metadata.uid.as_deref().unwrap_or_default();
        target.attached_as = format!("{}{}", names::ATTACHED_PREFIX, short_name(&[uid, &target.container]));
    }
    target.phase = TargetPhase::Attaching;
    explain(target, Reason::Attaching, "An agent is being attached.".into());
}

/// The image of the agents that the session attaches.
pub(super) fn image<'a>(context: &Context<'a>) -> Result<&'a str, String> {
    match &context.observed.policy {
        PolicyFacts::Found { spec, .. } => context.settings.images.of(spec),
        _ => Ok(&context.settings.images.default),
    }
}

/// The user of an agent that is attached to the target.
pub(super) fn user(target: &TargetStatus, pod: &PodFacts, context: &Context) -> Result<AgentUser, Skip> {
    let level = PodSecurity::enforced(&context.observed.namespace_labels, context.settings.pod_security);
    let of_target = pod.container(&target.container).map(|c| c.user).unwrap_or_default();
    agent_user(&target.container, of_target, level)
}

/// Whether the pod has the agent that the target waits for, or that of another session.
pub(super) fn is_attached(target: &TargetStatus, pod: &PodFacts) -> bool {
    pod.attached
        .iter()
        .any(|a| a.name == target.attached_as || matches!(a.state, AgentContainerState::Running))
}

fn may_attach(context: &Context) -> bool {
    match &context.observed.policy {
        PolicyFacts::Found { spec, .. } => {
            spec.agent.mode == AgentMode::Ephemeral
                || spec.agent.existing_pods == ExistingPods::AttachOnDemand
        }
        _ => true,
    }
}

fn image_failed(reason: &str) -> bool {
    [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerError",
        "CreateContainerConfigError",
    ]
    .contains(&reason)
}

/// Name and state of the container of the agent that the target waits for.
fn ours<'a>(target: &TargetStatus, pod: &'a PodFacts) -> Option<(&'a str, &'a AgentContainerState)> {
    let attached =
        || pod.attached.iter().find(|a| a.name == target.attached_as).map(|a| (a.name.as_str(), &a.state));
    pod.sidecar.as_ref().map(|state| (names::SIDECAR_NAME, state)).or_else(attached)
}

/// What was awaited when the start deadline passed.
fn late_start(target: &TargetStatus, pod: &PodFacts, context: &Context) -> (Reason, String) {
    let deadline = context.session.spec.start_deadline;
    let of = |state: &AgentContainerState| match state {
        AgentContainerState::Unknown => "the kubelet has not said anything of it".to_owned(),
        AgentContainerState::Waiting(reason, message) => format!("it waits: {reason} {message}"),
        AgentContainerState::Running => "it runs, but does not reach the gateway".to_owned(),
        AgentContainerState::Ended(why) => format!("it ended: {why}"),
    };
    let state = ours(target, pod)
        .map_or("it was not attached".to_owned(), |(name, state)| format!("container {name}: {}", of(state)));
    (Reason::StartDeadlineExceeded, format!("No agent reported within {deadline}; {state}."))
}

/// Why an order that is out was not started, once its deadline has passed. An agent that answers knows why,
/// and is given the time to say so: it may be busy with another session.
pub(super) fn unstarted(
    target: &TargetStatus,
    pod: &PodFacts,
    context: &Context,
) -> Option<(Reason, String)> {
    let late = context.observed.now.duration_since(context.start_before);
    if late <= SignedDuration::from_secs(5) {
        return None;
    }
    if !context.observed.agents.contains_key(&target.pod_uid) {
        return Some(late_start(target, pod, context));
    }
    let message =
        "The agent answers, but did not start the capture in time; another session may hold the container.";
    (late > GRACE).then(|| (Reason::StartDeadlineExceeded, message.to_owned()))
}
