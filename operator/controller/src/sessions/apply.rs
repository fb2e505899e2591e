//! How is a decided action done, and what came of it?

use std::collections::BTreeMap;

use fleetprof_core::session::summary::{Assembled, fold_assembled, set_top};
use fleetprof_core::session::{Action, capture, conclude};
use fleetprof_core::text::advised;
use fleetprof_crds::session_status::{StoredProfile, TargetPhase, TargetStatus};
use fleetprof_crds::wire::Order;
use fleetprof_crds::{ProfileKind, ProfileSession, Reason, names};
use jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};

use super::{Answers, Context, Error, attach, job, report};
use crate::events::is_refusal;
use crate::gateway::CaptureScope;
use crate::permission;
use crate::results::ResultsError;

/// Does all actions and folds their outcomes into the session. Says whether another step should look at them.
pub async fn all(
    session: &mut ProfileSession,
    actions: Vec<Action>,
    answers: &mut Answers,
    context: &Context,
) -> Result<bool, Error> {
    let mut again = false;
    for action in actions {
        again |= one(session, action, answers, context).await?;
    }
    Ok(again)
}

async fn one(
    session: &mut ProfileSession,
    action: Action,
    answers: &mut Answers,
    context: &Context,
) -> Result<bool, Error> {
    match action {
        Action::CheckPermission => {
            answers.permission = permission::review(&context.client, session).await?;
            Ok(true)
        }
        Action::LookAtJob => {
            answers.job = job::look(session, context).await?;
            Ok(true)
        }
        Action::Repeat { number, session: follow_up } => repeat(session, number, &follow_up, context).await,
        Action::Attach { target, pod, pod_uid, container, name, image, user } => {
            let request = attach::Request {
                namespace: session.namespace().unwrap_or_default(),
                pod,
                pod_uid,
                container,
                name,
                image,
                user,
            };
            let attached = attach::attach(&request, context).await;
            Ok(fold_attached(session, target, attached))
        }
        Action::Claim(claim) => {
            let (capture, now) = (claim.capture.clone(), Timestamp::now());
            let place = context.places.with(|ledger| ledger.claim(*claim, now));
            answers.places.insert(capture, place);
            Ok(true)
        }
        Action::Record => {
            report::record(session, context).await?;
            Ok(true)
        }
        Action::Open { target, order, place } => {
            context.places.with(|ledger| match place {
                Some(claim) => ledger.hold(*claim),
                None => ledger.release(&order.capture),
            });
            open(session, target, order, context);
            Ok(false)
        }
        Action::Assemble { target, capture, profile } => {
            Ok(assemble(session, target, &capture, profile, context).await)
        }
        Action::Close { capture } => {
            context.places.with(|ledger| ledger.release(&capture));
            context.fleet.close(&capture);
            Ok(false)
        }
        Action::Forget => report::forget(session, context).await.map(|()| false),
        Action::Summarize => {
            summarize(session, context).await;
            Ok(true)
        }
    }
}

/// Makes the session that captures once more; one that is there already was made before. Says whether another
/// step should look.
async fn repeat(
    root: &mut ProfileSession,
    number: i32,
    follow_up: &ProfileSession,
    context: &Context,
) -> Result<bool, Error> {
    let api =
        Api::<ProfileSession>::namespaced(context.client.clone(), &root.namespace().unwrap_or_default());
    let about = root.object_ref(&());
    match api.create(&PostParams::default(), follow_up).await {
        Ok(_) => {
            let note = format!("Capture {number} starts as session {}.", follow_up.name_any());
            context.events.normal(&about, Reason::SessionCreated, "Repeat", note).await;
            Ok(false)
        }
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(false),
        Err(error) if is_refusal(&error) => {
            let reason = Reason::SessionRefused;
            let note = advised(
                format!("Capture {number} was not made: the Kubernetes API answered: {error}"),
                reason,
            );
            context.events.warning(&about, reason, "Repeat", note).await;
            root.status
                .iter_mut()
                .for_each(|status| fleetprof_core::session::repeat::refuse(status, &follow_up.name_any()));
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

fn fold_attached(session: &mut ProfileSession, index: usize, attached: Result<(), attach::Refused>) -> bool {
    let (Err((reason, message)), Some(target)) = (attached, target_of(session, index)) else { return false };
    capture::finish(target, TargetPhase::Failed, reason, message, Timestamp::now());
    true
}

fn target_of(session: &mut ProfileSession, index: usize) -> Option<&mut TargetStatus> {
    session.status.as_mut()?.targets.get_mut(index)
}

fn open(session: &ProfileSession, index: usize, order: Order, context: &Context) {
    let Some(target) = session.status.as_ref().and_then(|s| s.targets.get(index)) else { return };
    context.fleet.open(scope(session, target), order);
}

/// What is captured, for the gateway's checks and the profile's labels.
pub fn scope(session: &ProfileSession, target: &TargetStatus) -> CaptureScope {
    let started =
        session.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or_else(Timestamp::now, |t| t.0);
    CaptureScope {
        capture: target.capture.clone(),
        session_uid: session.uid().unwrap_or_default(),
        session_namespace: session.namespace().unwrap_or_default(),
        session_name: session.name_any(),
        pod_uid: target.pod_uid.clone(),
        pod_name: target.pod.clone(),
        node: target.node.clone(),
        workload: target.workload.clone(),
        container: target.container.clone(),
        container_id: target.container_id.clone(),
        profiles: session.spec.profiles.iter().copied().filter(|kind| kind.is_known()).collect(),
        labels: labels(session),
        started,
    }
}

/// The session's own labels, and the trace that it was asked for.
fn labels(session: &ProfileSession) -> BTreeMap<String, String> {
    let mut labels = session.spec.labels.clone();
    let context = session.spec.context.clone().unwrap_or_default();
    for (key, value) in [("trace_id", context.trace_id), ("span_id", context.span_id)] {
        if let Some(value) = value {
            labels.insert(key.into(), value);
        }
    }
    labels
}

async fn assemble(
    session: &mut ProfileSession,
    index: usize,
    capture: &str,
    profile: ProfileKind,
    context: &Context,
) -> bool {
    let Some(target) = session.status.as_ref().and_then(|s| s.targets.get(index)) else { return false };
    let scope = scope(session, target);
    let assembled = match context.results.stored(capture, profile).await {
        // None may be stored because the profile was made already, by a leader that could not write it down.
        Ok(stored) => from_result(context.results.assemble(&scope, profile, stored.slices).await, &scope),
        Err(error) => from_result(Err(error), &scope),
    };
    let delayed = matches!(assembled, Assembled::Delayed(..));
    let now = Timestamp::now();
    let deadline = session
        .status
        .as_ref()
        .and_then(|s| s.capture_end_time.as_ref())
        .map(|t| t.0 + session.spec.result_deadline.as_signed());
    let Some(target) = target_of(session, index) else { return false };
    let before = target.reason;
    fold_assembled(target, assembled, deadline.is_some_and(|d| now > d), now);
    !delayed || target.reason != before
}

fn from_result(result: Result<StoredProfile, ResultsError>, scope: &CaptureScope) -> Assembled {
    match result {
        Ok(profile) if profile.samples > 0 => Assembled::Profile(profile),
        Ok(_) => Assembled::Nothing,
        Err(ResultsError::Missing(_)) => Assembled::Nothing,
        Err(ResultsError::Full(_)) => Assembled::Delayed(
            Reason::StorageFull,
            advised("The results volume is full", Reason::StorageFull),
        ),
        Err(error) => {
            tracing::error!(%error, fleetprof.capture = scope.capture, "a profile could not be assembled; it \
                is tried again");
            Assembled::Delayed(Reason::StorageFailed, format!("The profile could not be stored: {error}"))
        }
    }
}

/// The hottest functions over all targets; without them the session ends all the same.
async fn summarize(session: &mut ProfileSession, context: &Context) {
    let uid = session.uid().unwrap_or_default();
    let Some(status) = session.status.as_mut() else { return };
    let kept = status.targets.iter().flat_map(|target| &target.profiles);
    let kind = session.spec.profiles.iter().copied().find(|kind| kept.clone().any(|p| p.kind == *kind));
    if let Some(kind) = kind {
        let keys: Vec<String> = kept.filter(|p| p.kind == kind).map(|p| p.uri.clone()).collect();
        match context.results.top(&uid, kind, &keys, names::MAX_TOP_FUNCTIONS).await {
            Ok(top) => set_top(status, top),
            Err(error) => tracing::warn!(%error, "the hottest functions could not be computed"),
        }
    }
    let mut status = status.clone();
    conclude(session, &mut status, Timestamp::now());
    session.status = Some(status);
}
