//! Which actions does a target need in its current phase?

use fleetprof_crds::session_status::{StoredProfile, TargetPhase, TargetStatus};
use fleetprof_crds::wire::{Order, needs};
use fleetprof_crds::{ProfileKind, Reason};

use super::super::observed::Action;
use super::{CANCEL_GRACE, Context};
use crate::agent::Presence;
use crate::capture::{CaptureScope, kinds, rate};
use crate::time::after;

/// What to do for a target in its present phase. Orders are kept open until the outcome is recorded, so that
/// a new leader accepts what is still on its way.
pub(super) fn actions(index: usize, target: &TargetStatus, context: &Context) -> Vec<Action> {
    match target.phase {
        TargetPhase::Attaching => attach(index, target, context).into_iter().collect(),
        TargetPhase::Ordered | TargetPhase::Running => vec![open(target, context)],
        TargetPhase::Uploading if complete(target, context) => {
            let scope = Box::new(context.scope(target));
            let report = context.observed.captures.get(&target.capture).and_then(|f| f.report.as_ref());
            let uploaded = report.map_or(0, |report| report.uploaded);
            let done = arrived(target, &scope.destination);
            let overdue = context.overdue();
            vec![open(target, context), Action::Assemble { target: index, scope, uploaded, done, overdue }]
        }
        TargetPhase::Uploading => vec![open(target, context)],
        TargetPhase::Succeeded | TargetPhase::Failed | TargetPhase::Skipped | TargetPhase::Cancelled
            if !target.capture.is_empty() =>
        {
            vec![Action::Close { capture: target.capture.clone() }]
        }
        _ => Vec::new(),
    }
}

/// Kinds whose profile is in the session's first destination, or was refused by it: they are not sent again while
/// another kind is on its way.
fn arrived(target: &TargetStatus, first: &str) -> Vec<ProfileKind> {
    let names = |profile: &StoredProfile| [&profile.destinations[..], &profile.failed[..]].concat();
    let settled = target.profiles.iter().filter(|profile| names(profile).iter().any(|name| name == first));
    settled.map(|profile| profile.kind).collect()
}

/// The order of a target whose order is out.
#[must_use]
pub fn reopen(target: &TargetStatus, context: &Context) -> Option<Action> {
    let is_out = matches!(target.phase, TargetPhase::Ordered | TargetPhase::Running | TargetPhase::Uploading);
    is_out.then(|| open(target, context))
}

fn open(target: &TargetStatus, context: &Context) -> Action {
    let holds_place = target.phase != TargetPhase::Uploading;
    let place = holds_place.then(|| Box::new(context.claim(target)));
    Action::Open { scope: Box::new(context.scope(target)), order: context.order(target), place }
}

/// Nothing where an agent is there already, or none may be attached any more.
fn attach(index: usize, target: &TargetStatus, context: &Context) -> Option<Action> {
    let facts = context.pod(target)?;
    let presence = context.presence(target, facts).without_node();
    let Presence::CanBeAttached { user, image, .. } = presence else { return None };
    let (pod, pod_uid, container) = (target.pod.clone(), target.pod_uid.clone(), target.container.clone());
    let (name, image) = (target.attached_as.clone(), image.to_owned());
    let host_network = facts.host_network;
    Some(Action::Attach { target: index, pod, pod_uid, container, name, image, user, host_network })
}

/// Whether everything that will come has come: the agent says so, or there is nobody left to send more.
pub(super) fn complete(target: &TargetStatus, context: &Context) -> bool {
    let report = context.observed.captures.get(&target.capture).and_then(|f| f.report.as_ref());
    if report.is_some_and(|r| r.state.is_final()) {
        return true;
    }
    let now = context.observed.now;
    let nobody = context.pod(target).is_none()
        || matches!(
            target.reason,
            Some(Reason::AgentGone | Reason::CaptureTimedOut | Reason::StartDeadlineExceeded)
        )
        || context.cancelled_at.is_some_and(|at| now > after(at, CANCEL_GRACE));
    context.overdue() || nobody
}

impl Context<'_> {
    /// Whether the result deadline has passed.
    fn overdue(&self) -> bool {
        self.results_until.is_some_and(|until| self.observed.now > until)
    }

    /// What the target's capture is of.
    fn scope(&self, target: &TargetStatus) -> CaptureScope {
        let targets = self.targets.get(&target.workload).copied().unwrap_or(1);
        CaptureScope::of(self.session, target, targets, self.started)
    }

    /// The order to capture the target. It says the least protocol that knows all it asks for, so that agents
    /// of the version before this one go on with what they know.
    pub(super) fn order(&self, target: &TargetStatus) -> Order {
        let rate = rate(self.session, target);
        let order = Order {
            capture: target.capture.clone(),
            session: self.session.metadata.uid.clone().unwrap_or_default(),
            protocol: 0,
            container_id: target.container_id.clone(),
            profiles: kinds(self.session, target),
            frequency_hz: rate.frequency_hz,
            duration_ms: u64::from(rate.seconds) * 1000,
            slice_ms: u64::from(self.settings.slice_seconds) * 1000,
            start_before: self.start_before(target).as_second(),
            // The gateway counts it when it sends the order.
            start_within_ms: None,
            cancel: self.cancelled_at.is_some() || target.reason == Some(Reason::Yielded),
        };
        Order { protocol: needs(&order), ..order }
    }
}
