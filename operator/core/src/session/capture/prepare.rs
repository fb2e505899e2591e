//! What is missing before a target can be ordered: an agent, the permission to attach one, a place in the
//! budgets?

use fleetprof_crds::session_status::{TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileKind, Reason, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::turn::{Turn, turn};
use super::{Context, GRACE, explain, finish, gives_way};
use crate::agent::{AgentFacts, Presence, Skip, plan};
use crate::budget::Claim;
use crate::hash::short_name;
use crate::pod::{AgentContainerState, PodFacts};
use crate::text::{advised, cut};

/// Before an order is out: is there an agent, can one be attached, is there a place in the budgets, how long
/// may it take? Gives back the claim that has to be answered first.
pub(super) fn prepare(target: &mut TargetStatus, context: &Context) -> Option<Claim> {
    let now = context.observed.now;
    if context.cancelled_at.is_some() {
        finish(target, TargetPhase::Cancelled, Reason::Cancelled, String::new(), now);
        return None;
    }
    if let Some(to) = context.yields_to(target) {
        finish(target, TargetPhase::Skipped, Reason::Yielded, gives_way(to), now);
        return None;
    }
    let Some(pod) = context.pod(target).filter(|p| !p.ending) else {
        let message = "The pod ended before its capture started.".into();
        finish(target, TargetPhase::Failed, Reason::PodGone, message, now);
        return None;
    };
    match presence_now(target, pod, context) {
        Presence::Answers(agent) => return order(target, pod, agent, context),
        Presence::AwaitsNode(_) => {
            let message = "The agent of the node has not reported the container yet.";
            explain(target, Reason::WaitingForAgent, message.into());
        }
        _ if is_late(target, pod, context) => {
            let (reason, message) = late_start(target, pod, context);
            finish(target, TargetPhase::Failed, reason, message, now);
        }
        Presence::Comes(_) => {
            explain(target, Reason::WaitingForAgent, "The injected agent has not reported yet.".into());
        }
        Presence::Never(skip) => leave(target, &skip, now),
        _ if !runs(target, pod) => {
            await_container(target, context, "does not run; an agent is attached once it does");
        }
        Presence::Attached { .. } | Presence::CanBeAttached { .. } => return attach(target, pod, context),
    }
    None
}

/// Whether the pod has, or can have, an agent, once that of its node has been waited for. Once an agent is being
/// attached, it is the one that is waited for.
fn presence_now<'a>(target: &TargetStatus, pod: &'a PodFacts, context: &Context<'a>) -> Presence<'a> {
    let presence = context.presence(target, pod);
    let is_decided = target.phase == TargetPhase::Attaching || is_silent(target, pod, context);
    if is_decided { presence.without_node() } else { presence }
}

/// Leaves out a target before anything is done for it.
fn leave(target: &mut TargetStatus, skip: &Skip, now: Timestamp) {
    finish(target, TargetPhase::Skipped, skip.reason, skip.sentence(), now);
}

/// There is an agent: the order is out as soon as the container has started and there is a place.
fn order(target: &mut TargetStatus, pod: &PodFacts, agent: &AgentFacts, context: &Context) -> Option<Claim> {
    if !has_started(target, pod) {
        await_container(target, context, "has not started yet");
        return None;
    }
    if awaits_offers(target, pod, agent, context) {
        explain(target, Reason::WaitingForAgent, "The agent has not reported the container yet.".into());
        return None;
    }
    if let Err(skip) = can_obey(target, pod, agent, context) {
        if !matches!(skip.reason, Reason::AgentTooOld | Reason::InvalidSpec) && is_young(target, pod, context)
        {
            let message = format!("The container {} has just started: {}.", target.container, skip.cause);
            explain(target, Reason::WaitingForAgent, message);
        } else {
            leave(target, &skip, context.observed.now);
        }
        return None;
    }
    match turn(target, context) {
        Turn::Ask(claim) => return Some(*claim),
        Turn::Wait => {}
        Turn::Go => {
            target.slot_time = target.slot_time.take().or(Some(Time(context.observed.now)));
            target.phase = TargetPhase::Ordered;
            target.container_id = pod.container(&target.container).map(|c| c.id.clone()).unwrap_or_default();
            target.runtime = agent.runtimes.get(&target.container_id).cloned();
            let ordered = format!("The capture is ordered. {}", target.left_out);
            explain(target, Reason::WaitingForAgent, ordered.trim_end().to_owned());
        }
    }
    None
}

/// Whether the kubelet has told the id of the container: an order names the container by it.
fn has_started(target: &TargetStatus, pod: &PodFacts) -> bool {
    pod.container(&target.container).is_none_or(|container| !container.id.is_empty())
}

/// Whether what the agent captures of the container is not known yet, and matters: every agent captures CPU.
fn awaits_offers(target: &TargetStatus, pod: &PodFacts, agent: &AgentFacts, context: &Context) -> bool {
    let is_known = pod.container(&target.container).is_some_and(|container| agent.know(&container.id));
    let wanted = &context.session.spec.profiles;
    let wants_more = wanted.iter().any(|kind| kind.is_known() && *kind != ProfileKind::Cpu);
    wants_more && !is_known && context.observed.now <= context.start_before(target)
}

/// For how long what an agent saw of a container may be of what started it: the container runtime's own program, which
/// nobody may look into, a shell, or a runtime that cannot answer yet. Agents look again meanwhile.
const YOUNG: SignedDuration = SignedDuration::from_secs(20);

/// Whether the container has just started, so that an agent may soon say something else of it.
fn is_young(target: &TargetStatus, pod: &PodFacts, context: &Context) -> bool {
    let now = context.observed.now;
    let since = pod.container(&target.container).and_then(|container| container.since);
    since.is_some_and(|at| now.duration_since(at) < YOUNG) && now <= context.start_before(target)
}

/// Plans which kinds are ordered: those that the agent captures of the container and has a word for.
fn can_obey(
    target: &mut TargetStatus,
    pod: &PodFacts,
    agent: &AgentFacts,
    context: &Context,
) -> Result<(), Skip> {
    let wanted = &context.session.spec.profiles;
    let known: Vec<ProfileKind> = wanted.iter().copied().filter(|kind| kind.is_known()).collect();
    if known.is_empty() {
        let cause = "this version of the operator knows no kind of profile in spec.profiles";
        return Err(Skip::new(Reason::InvalidSpec, cause));
    }
    let id = pod.container(&target.container).map_or("", |container| container.id.as_str());
    let planned = plan(&known, &agent.offers(id))?;
    target.ordered = if planned.kinds == known { Vec::new() } else { planned.kinds };
    target.left_out = cut(&planned.left_out, names::MAX_MESSAGE);
    let (version, have, need) = (&agent.version, agent.protocol, context.order(target).protocol);
    if have < need {
        let cause = format!("the agent {version} speaks protocol {have}, the order needs {need}");
        return Err(Skip::new(Reason::AgentTooOld, cause));
    }
    Ok(())
}

/// How old a pod is whose node's agent has had the time to report it.
const REPORTED: SignedDuration = SignedDuration::from_secs(120);

/// Whether the agent of the node does not report the pod, and is not going to.
fn is_silent(target: &TargetStatus, pod: &PodFacts, context: &Context) -> bool {
    let now = context.observed.now;
    let is_old = pod.created.is_none_or(|at| now.duration_since(at) > REPORTED);
    context.observed.settled && is_old || now > context.start_before(target)
}

/// Whether an agent was awaited, and the start deadline has passed.
fn is_late(target: &TargetStatus, pod: &PodFacts, context: &Context) -> bool {
    let awaited = pod.sidecar.is_some() || target.phase == TargetPhase::Attaching;
    // Who does not run cannot have reported to the leader before this one either.
    let may_be_unheard = !context.observed.settled
        && ours(target, pod).is_some_and(|(_, state)| *state == AgentContainerState::Running);
    awaited && context.observed.now > context.start_before(target) && !may_be_unheard
}

/// Whether the target's container runs: a runtime starts no agent in the process namespace of one that does not.
fn runs(target: &TargetStatus, pod: &PodFacts) -> bool {
    pod.container(&target.container).is_some_and(|container| container.running)
}

/// Waits for the container until the start deadline; `state` continues the sentence "The container NAME". A sidecar
/// starts before the containers of its pod and answers while they are on their way, and a container that restarts is
/// there again soon: an agent that is attached before would only count against the pod's limit.
fn await_container(target: &mut TargetStatus, context: &Context, state: &str) {
    let (name, now) = (&target.container, context.observed.now);
    if now > context.start_before(target) {
        let deadline = context.session.spec.start_deadline;
        let message = format!("The container {name} did not run within {deadline}.");
        return finish(target, TargetPhase::Failed, Reason::StartDeadlineExceeded, message, now);
    }
    let message = format!("The container {name} {state}.");
    explain(target, Reason::WaitingForAgent, message);
}

/// An agent is attached as soon as there is a place.
fn attach(target: &mut TargetStatus, pod: &PodFacts, context: &Context) -> Option<Claim> {
    match turn(target, context) {
        Turn::Ask(claim) => return Some(*claim),
        Turn::Wait => {}
        Turn::Go => attach_or_give_up(target, pod, context),
    }
    None
}

fn attach_or_give_up(target: &mut TargetStatus, pod: &PodFacts, context: &Context) {
    let ours = pod.attached.iter().find(|a| a.name == target.attached_as).map(|a| &a.state);
    let failed = match ours {
        Some(AgentContainerState::Ended(why)) => Some((
            Reason::AgentGone,
            advised(format!("The attached agent exited before it reported: {why}"), Reason::AgentGone),
        )),
        // The kubelet goes on trying where the container has ended meanwhile.
        Some(state @ AgentContainerState::Waiting(why, message))
            if state.cannot_start() && !message.contains("target container") =>
        {
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
    target.slot_time = target.slot_time.take().or(Some(Time(context.observed.now)));
    target.phase = TargetPhase::Attaching;
    explain(target, Reason::Attaching, ATTACHING.into());
}

/// What is said while nothing has gone wrong.
const ATTACHING: &str = "An agent is being attached.";

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
        AgentContainerState::Unknown => "the kubelet has not reported its state".to_owned(),
        AgentContainerState::Waiting(reason, message) => format!("waiting: {reason} {message}"),
        AgentContainerState::Running => "running, but cannot reach the gateway".to_owned(),
        AgentContainerState::Ended(why) => format!("exited: {why}"),
    };
    // What the API server said last, if it did not attach one.
    let refused =
        Some(target.message.trim_end_matches('.')).filter(|_| target.reason == Some(Reason::Attaching));
    let refused = refused.filter(|said| !said.is_empty() && !ATTACHING.starts_with(said));
    let none = || {
        refused.map_or("no container was attached".into(), |why| format!("no container was attached: {why}"))
    };
    let state =
        ours(target, pod).map_or_else(none, |(name, state)| format!("container {name}: {}", of(state)));
    (Reason::StartDeadlineExceeded, format!("No agent reported within {deadline}; {state}."))
}

/// Why an order that is out was not started, once its deadline has passed. An agent that answers knows why,
/// and is given the time to say so: it may be busy with another session.
pub(super) fn unstarted(
    target: &TargetStatus,
    pod: &PodFacts,
    context: &Context,
) -> Option<(Reason, String)> {
    let late = context.observed.now.duration_since(context.start_before(target));
    if late <= SignedDuration::from_secs(5) {
        return None;
    }
    if !context.has_agent(target) {
        return Some(late_start(target, pod, context));
    }
    let message = "The agent reports, but did not start the capture in time; another session may be \
                   capturing the container.";
    (late > GRACE).then(|| (Reason::StartDeadlineExceeded, message.to_owned()))
}
