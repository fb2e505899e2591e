//! What is done for a target as it stands now?

use fleetprof_crds::ProfileKind;
use fleetprof_crds::Reason;
use fleetprof_crds::session_status::{TargetPhase, TargetStatus};
use fleetprof_crds::wire::Order;

use super::super::observed::Action;
use super::prepare::{claim, image, is_attached, user};
use super::{CANCEL_GRACE, Context};

/// What to do for a target in its present phase. Orders are kept open until the outcome is recorded, so that
/// a new leader accepts what is still on its way.
pub(super) fn actions(index: usize, target: &mut TargetStatus, context: &Context) -> Vec<Action> {
    let profile = context.session.spec.profiles.first().copied().unwrap_or(ProfileKind::Cpu);
    let place =
        |target: &TargetStatus| claim(target, context.session, &context.observed.policy, context.settings);
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
        TargetPhase::Succeeded | TargetPhase::Failed | TargetPhase::Skipped | TargetPhase::Cancelled
            if !target.capture.is_empty() =>
        {
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
    Some(Action::Attach {
        target: index,
        pod,
        pod_uid,
        container,
        name: target.attached_as.clone(),
        image,
        user,
    })
}

/// Whether everything that will come has come: the agent says so, or there is nobody left to send more.
pub(super) fn complete(target: &TargetStatus, context: &Context) -> bool {
    let report = context.observed.captures.get(&target.capture).and_then(|f| f.report.as_ref());
    if report.is_some_and(|r| r.state.is_final()) {
        return true;
    }
    let now = context.observed.now;
    let given_up = context.results_until.is_some_and(|until| now > until);
    let nobody = context.pod(target).is_none()
        || matches!(
            target.reason,
            Some(Reason::AgentGone | Reason::CaptureTimedOut | Reason::StartDeadlineExceeded)
        )
        || context.cancelled_at.is_some_and(|at| now > at + CANCEL_GRACE);
    given_up || nobody
}

fn order(target: &TargetStatus, profile: ProfileKind, context: &Context) -> Order {
    let spec = &context.session.spec;
    Order {
        capture: target.capture.clone(),
        session: context.session.metadata.uid.clone().unwrap_or_default(),
        protocol: context.settings.protocol,
        container_id: target.container_id.clone(),
        profile: profile.name().into(),
        frequency_hz: u32::try_from(spec.frequency_hz).unwrap_or(99),
        duration_ms: u64::from(spec.duration.as_secs()) * 1000,
        slice_ms: u64::from(context.settings.slice_seconds) * 1000,
        start_before: context.start_before.as_second(),
        cancel: context.cancelled_at.is_some(),
    }
}
