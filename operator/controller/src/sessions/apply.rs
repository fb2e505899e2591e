//! How is a decided action done, and what came of it?

use fleetprof_core::budget::Claim;
use fleetprof_core::capture::CaptureScope;
use fleetprof_core::session::{Action, Assembled, Comparing, Outcome, Slices};
use fleetprof_core::text::advised;
use fleetprof_crds::session_status::{StoredProfile, TopFunction};
use fleetprof_crds::wire::Order;
use fleetprof_crds::{ProfileKind, ProfileSession, Reason, names};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use kube_runtime::reflector::ObjectRef;

use super::{Context, Error, attach, report};
use crate::create::{self, Created};
use crate::permission;
use crate::results::{Merged, ResultsError};

/// Does all actions, in their order, and says what came of each.
pub async fn all(
    session: &ProfileSession,
    actions: Vec<Action>,
    context: &Context,
) -> Result<Vec<Outcome>, Error> {
    let mut outcomes = Vec::with_capacity(actions.len());
    for action in actions {
        outcomes.push(one(session, action, context).await?);
    }
    Ok(outcomes)
}

async fn one(session: &ProfileSession, action: Action, context: &Context) -> Result<Outcome, Error> {
    match action {
        Action::CheckPermission => {
            permission::review(&context.client, session).await.map(Outcome::Permission).map_err(Error::Kube)
        }
        Action::Repeat { number, session: follow_up } => repeat(session, number, &follow_up, context).await,
        Action::Attach { target, pod, pod_uid, container, name, image, user, host_network } => {
            let namespace = session.namespace().unwrap_or_default();
            let request =
                attach::Request { namespace, pod, pod_uid, container, name, image, user, host_network };
            Ok(attach(target, &request, context).await)
        }
        Action::Claim(claim) => Ok(ask_for_place(*claim, context)),
        Action::Record => report::record(session, context).await.map(|()| Outcome::Recorded),
        Action::Open { scope, order, place } => {
            open(*scope, order, place, context);
            Ok(Outcome::Done)
        }
        Action::Assemble { target, scope, uploaded } => {
            let (assembled, slices) = assemble(&scope, uploaded, context).await;
            Ok(Outcome::Assembled { target, assembled, slices })
        }
        Action::Close { capture } => {
            close(&capture, context);
            Ok(Outcome::Done)
        }
        Action::Compare(comparing) => Ok(compare(*comparing, context).await),
        Action::Summarize { kind, profiles } => {
            Ok(Outcome::Summarized(top(session, kind, &profiles, context).await))
        }
        Action::Forget => report::forget(session, context).await.map(|()| Outcome::Done),
    }
}

/// Makes the session that captures once more; one that is there already was made before, unless somebody
/// else's has its name, by which it is found.
async fn repeat(
    root: &ProfileSession,
    number: i32,
    follow_up: &ProfileSession,
    context: &Context,
) -> Result<Outcome, Error> {
    let about = root.object_ref(&());
    match create::create_exactly(&context.client, follow_up).await {
        Ok(Created::New(_)) => {
            let note = format!("Created session {} for repeat {number}.", follow_up.name_any());
            context.events.normal(&about, Reason::SessionCreated, "Repeat", note).await;
            Ok(Outcome::Done)
        }
        Ok(Created::Before) => Ok(Outcome::Done),
        Err(error) if error.is_final() => {
            let reason = Reason::SessionRefused;
            let note = advised(format!("Failed to create a session for repeat {number}: {error}"), reason);
            context.events.warning(&about, reason, "Repeat", note).await;
            Ok(Outcome::RepeatRefused(follow_up.name_any()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn attach(target: usize, request: &attach::Request, context: &Context) -> Outcome {
    match attach::attach(request, context).await {
        Ok(()) => Outcome::Done,
        Err(attach::Refused::Final(reason, message)) => Outcome::NotAttached { target, reason, message },
        Err(attach::Refused::Delayed(message)) => {
            tracing::warn!(
                k8s.namespace.name = request.namespace,
                k8s.pod.name = request.pod,
                error = message,
                "failed to attach an agent; retrying"
            );
            Outcome::AttachDelayed { target, message }
        }
    }
}

fn ask_for_place(claim: Claim, context: &Context) -> Outcome {
    let capture = claim.capture.clone();
    let (place, yielding) = context.budgets.with(|ledger| {
        let place = ledger.claim(claim, Timestamp::now());
        (place, ledger.yielding_to(&capture))
    });
    for (namespace, name) in yielding {
        let _ = context.wake.send(ObjectRef::new(&name).within(&namespace));
    }
    Outcome::Place { capture, place }
}

/// Opens orders again that were out under another leader.
pub fn reopen(actions: Vec<Action>, context: &Context) {
    for action in actions {
        if let Action::Open { scope, order, place } = action {
            open(*scope, order, place, context);
        }
    }
}

fn open(scope: CaptureScope, order: Order, place: Option<Box<Claim>>, context: &Context) {
    context.budgets.with(|ledger| match place {
        Some(claim) => ledger.hold(*claim),
        None => ledger.release(&order.capture),
    });
    context.agents.order(scope, order);
}

fn close(capture: &str, context: &Context) {
    context.budgets.with(|ledger| ledger.release(capture));
    context.agents.close(capture);
}

async fn assemble(
    scope: &CaptureScope,
    uploaded: u32,
    context: &Context,
) -> (Vec<(ProfileKind, Assembled)>, Slices) {
    let mut assembled = Vec::with_capacity(scope.profiles.len());
    let mut slices = Slices { uploaded, found: Some(0), left_out: 0 };
    for kind in &scope.profiles {
        let (one, merged) = assemble_kind(scope, *kind, context).await;
        assembled.push((*kind, one));
        slices.found = slices.found.zip(merged).map(|(sum, merged)| sum.saturating_add(merged.found));
        slices.left_out = slices.left_out.saturating_add(merged.map_or(0, |merged| merged.left_out));
    }
    (assembled, slices)
}

/// What came of one kind, and of which slices.
async fn assemble_kind(
    scope: &CaptureScope,
    kind: ProfileKind,
    context: &Context,
) -> (Assembled, Option<Merged>) {
    let results = &context.results;
    let made = match results.stored(&scope.capture, kind).await {
        // None may be stored because the profile was made already, by a leader that could not write it down.
        Ok(stored) => results.assemble(scope, kind, stored.slices).await,
        Err(error) => Err(error),
    };
    let merged = match &made {
        Ok(_) => results.merged(scope, kind).await.unwrap_or_default(),
        Err(ResultsError::Missing(_)) => Some(Merged::default()),
        Err(_) => None,
    };
    (from_result(made, scope), merged)
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
            tracing::error!(%error, fleetprof.capture = scope.capture, "failed to assemble profile; \
                                                                        retrying");
            Assembled::Delayed(Reason::StorageFailed, format!("Failed to store the profile: {error}"))
        }
    }
}

/// The verdict on two revisions; on failure, the session ends with the cause of that.
async fn compare(comparing: Comparing, context: &Context) -> Outcome {
    let base_revision = comparing.base_revision.clone();
    let verdict = context.results.compare(comparing).await;
    let verdict = verdict.map(Box::new).map_err(|error| {
        tracing::warn!(%error, "failed to compare two revisions");
        error.to_string()
    });
    Outcome::Compared { base_revision, verdict }
}

/// The hottest functions across all targets; on failure, the session ends without them.
async fn top(
    session: &ProfileSession,
    kind: ProfileKind,
    profiles: &[String],
    context: &Context,
) -> Vec<TopFunction> {
    // With no profile named, the results would take all that they have of the session.
    if profiles.is_empty() {
        return Vec::new();
    }
    let uid = session.uid().unwrap_or_default();
    let top = context.results.top(&uid, kind, profiles, names::MAX_TOP_FUNCTIONS).await;
    top.unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to compute the hottest functions");
        Vec::new()
    })
}
