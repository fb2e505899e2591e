//! What happens next with one target? A state machine over what its pod, its agent and its capture say.
//!
//! ```text
//!              agent?           report          final report        assembled
//! Pending ─► Attaching ─► Ordered ─► Running ─────► Uploading ────────► Succeeded
//!    └─agent there──────────►┘          (no data, or an error: Failed; never tried: Skipped)
//! ```

use fleetprof_crds::budget::Budget;
use fleetprof_crds::policy::{AgentMode, ExistingPods, ProfileType};
use fleetprof_crds::session_status::{ProfileSessionStatus, TargetPhase, TargetStatus};
use fleetprof_crds::wire::{CaptureReport, CaptureState, Order, Problem};
use fleetprof_crds::{ProfileSession, Reason, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::{Action, Observed, PolicyFacts, Settings};
use crate::budget::{Claim, Limits, Place};
use crate::hash::short_name;
use crate::inject::{AgentUser, PodSecurity, Skip, agent_user};
use crate::pod::{AgentContainerState, PodFacts};
use crate::text::{advised, cut, sentence};

/// How long after its end a capture may stay silent.
const GRACE: SignedDuration = SignedDuration::from_secs(45);
/// How long a cancelled target's agent may take to answer.
const CANCEL_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// What all targets of a step have in common.
pub struct Context<'a> {
    session: &'a ProfileSession,
    observed: &'a Observed,
    settings: &'a Settings,
    start_before: Timestamp,
    cancelled_at: Option<Timestamp>,
    results_until: Option<Timestamp>,
}

impl<'a> Context<'a> {
    /// The context of this step.
    #[must_use]
    pub fn new(session: &'a ProfileSession, status: &ProfileSessionStatus, observed: &'a Observed, settings: &'a Settings) -> Self {
        let started = status.start_time.as_ref().map_or(observed.now, |t| t.0);
        Self {
            session,
            observed,
            settings,
            start_before: started + session.spec.start_deadline.as_signed(),
            cancelled_at: status.cancel_time.as_ref().map(|t| t.0),
            results_until: status.capture_end_time.as_ref().map(|t| t.0 + session.spec.result_deadline.as_signed()),
        }
    }

    fn pod(&self, target: &TargetStatus) -> Option<&'a PodFacts> {
        self.observed.pods.iter().find(|p| p.uid == target.pod_uid).map(|p| &**p)
    }
}

/// Moves `target` on and says what to do for it.
#[must_use]
pub fn step(index: usize, target: &mut TargetStatus, context: &Context) -> Vec<Action> {
    use TargetPhase as P;
    let was = target.phase;
    let asked = match was {
        P::Succeeded | P::Failed | P::Skipped | P::Cancelled => None,
        P::Pending | P::Attaching => prepare(target, context),
        P::Ordered | P::Running | P::Uploading => {
            follow(target, context);
            None
        }
    };
    match (was, target.phase, asked) {
        (_, _, Some(claim)) => vec![Action::Claim(Box::new(claim))],
        // The place has to be on record before anything is done with it.
        (P::Pending, P::Attaching | P::Ordered, None) => vec![Action::Record],
        _ => actions(index, target, context),
    }
}

/// Before an order is out: is there an agent, can one be attached, is there a place in the budgets, how long may it take?
/// Gives back the claim that has to be answered first.
fn prepare(target: &mut TargetStatus, context: &Context) -> Option<Claim> {
    let now = context.observed.now;
    if context.cancelled_at.is_some() {
        finish(target, TargetPhase::Cancelled, Reason::Cancelled, String::new(), now);
        return None;
    }
    let Some(pod) = context.pod(target).filter(|p| !p.ending) else {
        finish(target, TargetPhase::Failed, Reason::PodGone, "The pod ended before its capture started.".into(), now);
        return None;
    };
    let Some(agent) = context.observed.agents.get(&target.pod_uid) else { return without_agent(target, pod, context) };
    if agent.protocol < context.settings.protocol {
        let (version, has, need) = (&agent.version, agent.protocol, context.settings.protocol);
        let message = advised(format!("The agent {version} speaks protocol {has}, the order needs {need}"), Reason::AgentTooOld);
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
        let message = format!("{}; waiting for a place until {}.", busy.message, context.start_before.strftime("%H:%M:%S UTC"));
        explain(target, busy.reason, message);
    }
    Turn::Wait
}

/// The place that the target's capture takes.
#[must_use]
pub fn claim(target: &TargetStatus, session: &ProfileSession, policy: &PolicyFacts, settings: &Settings) -> Claim {
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
    let may_be_unheard = !context.observed.settled && ours(target, pod).is_some_and(|(_, state)| *state == AgentContainerState::Running);
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
    let created_before =
        matches!((&context.observed.policy, pod.created), (PolicyFacts::Found { created: Some(policy), .. }, Some(pod)) if pod < *policy);
    let reason = if created_before { Reason::CreatedBeforePolicy } else { Reason::WebhookMissed };
    let message = advised("The pod has no agent, and agent.existingPods does not let a session attach one", reason);
    finish(target, TargetPhase::Skipped, reason, message, context.observed.now);
}

fn attach_or_give_up(target: &mut TargetStatus, pod: &PodFacts, context: &Context) {
    let ours = pod.attached.iter().find(|a| a.name == target.attached_as).map(|a| &a.state);
    if let (None, Err(cause)) = (ours, image(context)) {
        let message = advised(format!("agent.image of the policy: {cause}"), Reason::ImageNotAllowed);
        return finish(target, TargetPhase::Skipped, Reason::ImageNotAllowed, message, context.observed.now);
    }
    let failed = match ours {
        Some(AgentContainerState::Ended(why)) => {
            Some((Reason::AgentGone, advised(format!("The attached agent ended before it reported: {why}"), Reason::AgentGone)))
        }
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
fn image<'a>(context: &Context<'a>) -> Result<&'a str, String> {
    match &context.observed.policy {
        PolicyFacts::Found { spec, .. } => context.settings.images.of(spec),
        _ => Ok(&context.settings.images.default),
    }
}

/// The user of an agent that is attached to the target.
fn user(target: &TargetStatus, pod: &PodFacts, context: &Context) -> Result<AgentUser, Skip> {
    let level = PodSecurity::enforced(&context.observed.namespace_labels, context.settings.pod_security);
    let of_target = pod.container(&target.container).map(|c| c.user).unwrap_or_default();
    agent_user(&target.container, of_target, level)
}

/// Whether the pod has the agent that the target waits for, or that of another session.
fn is_attached(target: &TargetStatus, pod: &PodFacts) -> bool {
    pod.attached.iter().any(|a| a.name == target.attached_as || matches!(a.state, AgentContainerState::Running))
}

fn may_attach(context: &Context) -> bool {
    match &context.observed.policy {
        PolicyFacts::Found { spec, .. } => {
            spec.agent.mode == AgentMode::Ephemeral || spec.agent.existing_pods == ExistingPods::AttachOnDemand
        }
        _ => true,
    }
}

fn image_failed(reason: &str) -> bool {
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerError", "CreateContainerConfigError"]
        .contains(&reason)
}

/// Name and state of the container of the agent that the target waits for.
fn ours<'a>(target: &TargetStatus, pod: &'a PodFacts) -> Option<(&'a str, &'a AgentContainerState)> {
    let attached = || pod.attached.iter().find(|a| a.name == target.attached_as).map(|a| (a.name.as_str(), &a.state));
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
    let state = ours(target, pod).map_or("it was not attached".to_owned(), |(name, state)| format!("container {name}: {}", of(state)));
    (Reason::StartDeadlineExceeded, format!("No agent reported within {deadline}; {state}."))
}

/// After an order is out: what does the capture's report say, and is anybody still there?
fn follow(target: &mut TargetStatus, context: &Context) {
    let now = context.observed.now;
    let facts = context.observed.captures.get(&target.capture);
    if let Some(report) = facts.and_then(|f| f.report.as_ref()) {
        copy_report(target, report, now);
    }
    if target.phase != TargetPhase::Uploading
        && let Some((reason, message)) = silence(target, context)
    {
        target.end_time = Some(Time(now));
        target.phase = TargetPhase::Uploading;
        explain(target, reason, message);
    }
    if target.phase == TargetPhase::Uploading && !complete(target, context) {
        tell_storage(target, context.observed.storage_full);
    }
}

/// Says that slices wait for a full volume, and takes it back when they no longer do.
fn tell_storage(target: &mut TargetStatus, full: bool) {
    match target.reason {
        Some(Reason::Uploading | Reason::Capturing) if full => {
            explain(
                target,
                Reason::StorageFull,
                advised("The results volume is full, the agent keeps what it captured", Reason::StorageFull),
            );
        }
        Some(Reason::StorageFull) if !full => explain(target, Reason::Uploading, String::new()),
        _ => {}
    }
}

/// Copies what the agent reports. A final report without slices ends the target; with slices they are assembled first.
fn copy_report(target: &mut TargetStatus, report: &CaptureReport, now: Timestamp) {
    let was = target.phase;
    target.runtime = report.runtime.clone().or_else(|| target.runtime.take());
    target.collector = report.collector.clone().or_else(|| target.collector.take());
    target.samples = report.samples;
    target.cpu_percent = report.cpu_percent.or(target.cpu_percent);
    target.memory_percent = report.memory_percent.or(target.memory_percent);
    let time = |seconds: Option<i64>| seconds.and_then(|s| Timestamp::from_second(s).ok()).map(|t| Time(t.min(now)));
    target.start_time = target.start_time.clone().or_else(|| time(report.started_at));
    target.end_time = target.end_time.clone().or_else(|| time(report.ended_at));
    match report.state {
        CaptureState::Accepted => {}
        CaptureState::Running if was == TargetPhase::Ordered => {
            target.phase = TargetPhase::Running;
            target.start_time = target.start_time.clone().or(Some(Time(now)));
            explain(target, Reason::Capturing, String::new());
        }
        CaptureState::Running => {}
        CaptureState::Uploading | CaptureState::Finished | CaptureState::Failed | CaptureState::Cancelled | CaptureState::Skipped => {
            target.end_time = target.end_time.clone().or(Some(Time(now)));
            end_of_capture(target, report, now);
        }
    }
}

fn end_of_capture(target: &mut TargetStatus, report: &CaptureReport, now: Timestamp) {
    let problem = report.problem.clone();
    if report.state.is_final() && report.uploaded == 0 {
        let (phase, fallback) = match report.state {
            CaptureState::Skipped => (TargetPhase::Skipped, Reason::Internal),
            CaptureState::Cancelled => (TargetPhase::Cancelled, Reason::Cancelled),
            CaptureState::Failed => (TargetPhase::Failed, Reason::Internal),
            _ => (TargetPhase::Failed, Reason::NoSamples),
        };
        let Problem { reason, message } = problem.unwrap_or(Problem { reason: fallback, message: String::new() });
        return finish(target, phase, reason, message, now);
    }
    target.phase = TargetPhase::Uploading;
    match problem {
        Some(Problem { reason, message }) => explain(target, reason, message),
        None if report.state == CaptureState::Cancelled => explain(target, Reason::Cancelled, String::new()),
        None if matches!(target.reason, None | Some(Reason::Capturing | Reason::WaitingForAgent)) => {
            explain(target, Reason::Uploading, String::new())
        }
        None => {}
    }
}

/// Why nothing more is to be expected from the agent of an ordered or running target, if so.
fn silence(target: &TargetStatus, context: &Context) -> Option<(Reason, String)> {
    let now = context.observed.now;
    let Some(pod) = context.pod(target) else {
        return Some((Reason::PodGone, "The pod was deleted during the session.".into()));
    };
    if let Some(at) = context.cancelled_at
        && now > at + CANCEL_GRACE
    {
        return Some((Reason::Cancelled, "The agent did not confirm that it stopped.".into()));
    }
    if !context.observed.settled {
        return None;
    }
    if target.phase == TargetPhase::Ordered {
        return unstarted(target, pod, context);
    }
    let attached_gone =
        pod.attached.iter().find(|a| a.name == target.attached_as).is_some_and(|a| matches!(a.state, AgentContainerState::Ended(_)));
    if attached_gone && !context.observed.agents.contains_key(&target.pod_uid) {
        return Some((Reason::AgentGone, advised("The attached agent ended during the capture", Reason::AgentGone)));
    }
    let end = target.start_time.as_ref().map(|t| t.0 + context.session.spec.duration.as_signed() + GRACE);
    if end.is_some_and(|end| now > end) {
        return Some((
            Reason::CaptureTimedOut,
            advised(format!("The agent did not end the capture within {GRACE:#} after its time"), Reason::CaptureTimedOut),
        ));
    }
    None
}

/// Why an order that is out was not started, once its deadline has passed. An agent that answers knows why, and is given the
/// time to say so: it may be busy with another session.
fn unstarted(target: &TargetStatus, pod: &PodFacts, context: &Context) -> Option<(Reason, String)> {
    let late = context.observed.now.duration_since(context.start_before);
    if late <= SignedDuration::from_secs(5) {
        return None;
    }
    if !context.observed.agents.contains_key(&target.pod_uid) {
        return Some(late_start(target, pod, context));
    }
    let message = "The agent answers, but did not start the capture in time; another session may hold the container.";
    (late > GRACE).then(|| (Reason::StartDeadlineExceeded, message.to_owned()))
}

/// What to do for a target in its present phase. Orders are kept open until the outcome is recorded, so that a new
/// leader accepts what is still on its way.
fn actions(index: usize, target: &mut TargetStatus, context: &Context) -> Vec<Action> {
    let profile = context.session.spec.profiles.first().copied().unwrap_or(ProfileType::Cpu);
    let place = |target: &TargetStatus| claim(target, context.session, &context.observed.policy, context.settings);
    let open = |target: &TargetStatus| Action::Open {
        target: index,
        order: order(target, profile, context),
        place: (target.phase != TargetPhase::Uploading).then(|| Box::new(place(target))),
    };
    match target.phase {
        TargetPhase::Attaching => attach(index, target, context).into_iter().collect(),
        TargetPhase::Ordered | TargetPhase::Running => vec![open(target)],
        TargetPhase::Uploading if complete(target, context) => {
            vec![open(target), Action::Assemble { target: index, capture: target.capture.clone(), profile }]
        }
        TargetPhase::Uploading => vec![open(target)],
        TargetPhase::Succeeded | TargetPhase::Failed | TargetPhase::Skipped | TargetPhase::Cancelled if !target.capture.is_empty() => {
            vec![Action::Close { capture: target.capture.clone() }]
        }
        _ => Vec::new(),
    }
}

fn attach(index: usize, target: &TargetStatus, context: &Context) -> Option<Action> {
    let pod = context.pod(target)?;
    if is_attached(target, pod) {
        return None;
    }
    let (user, image) = (user(target, pod, context).ok()?, image(context).ok()?.to_owned());
    let (pod, pod_uid, container) = (target.pod.clone(), target.pod_uid.clone(), target.container.clone());
    Some(Action::Attach { target: index, pod, pod_uid, container, name: target.attached_as.clone(), image, user })
}

/// Whether everything that will come has come: the agent says so, or there is nobody left to send more.
fn complete(target: &TargetStatus, context: &Context) -> bool {
    let report = context.observed.captures.get(&target.capture).and_then(|f| f.report.as_ref());
    if report.is_some_and(|r| r.state.is_final()) {
        return true;
    }
    let now = context.observed.now;
    let given_up = context.results_until.is_some_and(|until| now > until);
    let nobody = context.pod(target).is_none()
        || matches!(target.reason, Some(Reason::AgentGone | Reason::CaptureTimedOut | Reason::StartDeadlineExceeded))
        || context.cancelled_at.is_some_and(|at| now > at + CANCEL_GRACE);
    given_up || nobody
}

fn order(target: &TargetStatus, profile: ProfileType, context: &Context) -> Order {
    let spec = &context.session.spec;
    Order {
        capture: target.capture.clone(),
        session: context.session.metadata.uid.clone().unwrap_or_default(),
        protocol: context.settings.protocol,
        container_id: target.container_id.clone(),
        profile: profile.as_str().into(),
        frequency_hz: u32::try_from(spec.frequency_hz).unwrap_or(99),
        duration_ms: u64::from(spec.duration.as_secs()) * 1000,
        slice_ms: u64::from(context.settings.slice_seconds) * 1000,
        start_before: context.start_before.as_second(),
        cancel: context.cancelled_at.is_some(),
    }
}

/// Sets reason and message; an empty message becomes the reason's advice.
pub fn explain(target: &mut TargetStatus, reason: Reason, message: String) {
    target.reason = Some(reason);
    let text = if message.is_empty() { sentence(reason.advice()) } else { message };
    target.message = cut(&text, names::MAX_MESSAGE);
}

/// Ends a target.
pub fn finish(target: &mut TargetStatus, phase: TargetPhase, reason: Reason, message: String, now: Timestamp) {
    target.phase = phase;
    explain(target, reason, message);
    target.end_time = target.end_time.clone().or(Some(Time(now)));
}
