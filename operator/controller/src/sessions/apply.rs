//! How is a decided action done, and what came of it?

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fleetprof_core::budget::Claim;
use fleetprof_core::capture::CaptureScope;
use fleetprof_core::destination::{Delivery, Withdrawal};
use fleetprof_core::session::{Action, Assembled, Comparing, Outcome, Slices, StoredCapture, Watching};
use fleetprof_core::text::advised;
use fleetprof_crds::session_status::{StoredProfile, TargetSymbols, TopFunction};
use fleetprof_crds::wire::Order;
use fleetprof_crds::{DEFAULT_DESTINATION, ProfileKind, ProfileSession, Reason, names};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use kube_runtime::reflector::ObjectRef;

use super::{Context, Error, attach, report};
use crate::create::{self, Created};
use crate::permission;
use crate::results::{Merged, ResultsError};

/// Longest time to bring the profiles of a comparison back to the results volume.
const FETCH: Duration = Duration::from_secs(60);
/// Profiles that are fetched side by side for it.
const SIDE_BY_SIDE: usize = 4;

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
        Action::Assemble { target, scope, uploaded, done, overdue } => {
            Ok(assemble(session, target, (&scope, &done), (uploaded, overdue), context).await)
        }
        Action::Close { capture } => {
            close(&capture, context);
            Ok(Outcome::Done)
        }
        Action::Compare(comparing) => Ok(compare(session, *comparing, context).await),
        Action::Watch(watching) => Ok(watch(session, *watching, context).await),
        Action::Deliver { target, profile, destination } => {
            let delivery = context.results.deliver(session, &profile, &destination);
            Ok(Outcome::Delivered { target, uri: profile.uri, destination, delivery })
        }
        Action::Notify { receiver, notification } => {
            let delivery = context.notifications.offer(&receiver, session, &notification);
            Ok(Outcome::Notified { receiver, delivery })
        }
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
    session: &ProfileSession,
    target: usize,
    (scope, done): (&CaptureScope, &[ProfileKind]),
    (uploaded, overdue): (u32, bool),
    context: &Context,
) -> Outcome {
    let mut assembled = Vec::with_capacity(scope.profiles.len());
    let mut slices = Slices { uploaded, found: Some(0), left_out: 0 };
    let mut symbols = Vec::new();
    for kind in &scope.profiles {
        let (one, merged) = match done.contains(kind) {
            true => (Assembled::Kept, context.results.merged(scope, *kind).await.unwrap_or_default()),
            false => assemble_kind(session, (scope, *kind), (uploaded, overdue), context).await,
        };
        symbols.extend(symbols_of(&one, context).await);
        assembled.push((*kind, one));
        slices.found = slices.found.zip(merged).map(|(sum, merged)| sum.saturating_add(merged.found));
        slices.left_out = slices.left_out.saturating_add(merged.map_or(0, |merged| merged.left_out));
    }
    Outcome::Assembled { target, assembled, slices, overdue, symbols }
}

/// How much of a profile that was made has names. One that cannot be read has a worse fault than that.
async fn symbols_of(assembled: &Assembled, context: &Context) -> Option<TargetSymbols> {
    let (Assembled::Profile(profile) | Assembled::Refused(_, _, profile)) = assembled else { return None };
    match context.results.symbols(profile).await {
        Ok(symbols) => symbols,
        // It lies in another destination, where an earlier leader put it.
        Err(ResultsError::Missing(_)) => None,
        Err(error) => {
            tracing::warn!(%error, "failed to look which functions of a profile have names");
            None
        }
    }
}

/// What came of one kind, and of which slices.
async fn assemble_kind(
    session: &ProfileSession,
    (scope, kind): (&CaptureScope, ProfileKind),
    (uploaded, overdue): (u32, bool),
    context: &Context,
) -> (Assembled, Option<Merged>) {
    let results = &context.results;
    let first = session.spec.destinations.first().map_or(DEFAULT_DESTINATION, String::as_str);
    if let Err(error) = results.pull(scope, kind, uploaded).await {
        tracing::warn!(%error, fleetprof.capture = scope.capture, "failed to fetch slices; retrying");
        let mut held = if overdue { results.held(scope, kind).await } else { None };
        held.iter_mut().for_each(|profile| profile.failed.push(first.to_owned()));
        return (Assembled::Underway(Some(error.to_string()), held), None);
    }
    let made = match results.stored(&scope.capture, kind).await {
        // None may be stored because the profile was made already, by a leader that could not write it down.
        Ok(stored) => results.assemble(scope, kind, stored.slices).await,
        Err(error) => Err(error),
    };
    let made = match made {
        Err(ResultsError::Missing(why)) => match results.recall(session, scope, kind, first).await {
            Ok(recalled) => recalled.ok_or(ResultsError::Missing(why)),
            Err(error) => return (Assembled::Underway(Some(error.to_string()), None), None),
        },
        made => made,
    };
    let merged = match &made {
        Ok(_) => results.merged(scope, kind).await.unwrap_or_default(),
        Err(ResultsError::Missing(_)) => Some(Merged::default()),
        Err(_) => None,
    };
    let assembled = match from_result(made, scope) {
        Assembled::Profile(profile) => deliver_first(session, profile, (first, overdue), context),
        assembled => assembled,
    };
    (assembled, merged)
}

/// Sends a profile to the first destination of its session, which ends once the profile is there; an overdue one is
/// not sent again once it was tried.
fn deliver_first(
    session: &ProfileSession,
    mut profile: StoredProfile,
    (first, overdue): (&str, bool),
    context: &Context,
) -> Assembled {
    let withdrawn = overdue.then(|| context.results.withdraw(session, &profile, first));
    let delivery = match withdrawn {
        None => context.results.deliver(session, &profile, first),
        Some(Withdrawal::Sending) => return Assembled::Sending,
        Some(Withdrawal::Settled(delivery)) => delivery,
        Some(Withdrawal::Withdrawn(problem)) => Delivery::Underway(problem),
    };
    match delivery {
        Delivery::Stored => {
            context.results.forget_intake(&profile.uri);
            profile.destinations.push(first.to_owned());
            Assembled::Profile(profile)
        }
        Delivery::Underway(problem) => {
            profile.failed.push(first.to_owned());
            Assembled::Underway(problem.map(|why| format!("Destination {first}: {why}")), Some(profile))
        }
        Delivery::Failed(reason, why) => {
            profile.failed.push(first.to_owned());
            Assembled::Refused(reason, format!("Destination {first}: {why}"), profile)
        }
    }
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
async fn compare(session: &ProfileSession, comparing: Comparing, context: &Context) -> Outcome {
    fetch_compared(session, &comparing.captures, context).await;
    let base_revision = comparing.base_revision.clone();
    let wanted = comparing.captures.len();
    let verdict = context.results.compare(comparing).await;
    let verdict = verdict.map(Box::new).map_err(|error| {
        tracing::warn!(%error, "failed to compare two revisions");
        error.to_string()
    });
    let read = verdict.as_ref().map_or(0, |verdict| verdict.old.captures + verdict.new.captures);
    Outcome::Compared { base_revision, verdict, unread: wanted.saturating_sub(read) }
}

/// What a look for growth comes to; on failure, the session ends with the cause of that.
async fn watch(session: &ProfileSession, watching: Watching, context: &Context) -> Outcome {
    let wanted: Vec<StoredCapture> = watching.captures.iter().chain(&watching.loads).cloned().collect();
    fetch_compared(session, &wanted, context).await;
    let (subject, sessions, profiles) =
        (watching.subject.clone(), watching.sessions, watching.captures.len());
    let trend = context.results.watch(watching).await.map(Box::new).map_err(|error| {
        tracing::warn!(%error, "failed to look for growth");
        error.to_string()
    });
    let read = trend.as_ref().map_or(profiles, |trend| trend.captures);
    Outcome::Watched { subject, sessions, trend, unread: profiles.saturating_sub(read) }
}

/// Brings what is compared back to the results volume, each profile for itself, for a minute at most. What cannot be
/// had is left out of the comparison, which says how many that are.
async fn fetch_compared(session: &ProfileSession, captures: &[StoredCapture], context: &Context) {
    let wanted: HashSet<&str> = captures.iter().map(|capture| capture.uri.as_str()).collect();
    let until = Instant::now() + FETCH;
    let near = context.sessions.of(&session.namespace().unwrap_or_default());
    let mut fetches = Vec::new();
    for near in &near {
        let targets = near.status.iter().flat_map(|status| &status.targets);
        let profiles = targets.flat_map(|target| &target.profiles);
        for profile in profiles.filter(|profile| wanted.contains(profile.uri.as_str())) {
            fetches.push(context.results.fetch(near, vec![profile.clone()], until));
        }
    }
    let all = stream::iter(fetches).buffer_unordered(SIDE_BY_SIDE).for_each(async |fetched| {
        if let Err(error) = fetched {
            tracing::warn!(%error, "failed to fetch a profile for a comparison");
        }
    });
    if tokio::time::timeout(FETCH, all).await.is_err() {
        tracing::warn!(seconds = FETCH.as_secs(), "gave up fetching profiles for a comparison");
    }
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
    let named = session.status.iter().flat_map(|status| &status.targets).flat_map(|target| &target.profiles);
    let stored = named.filter(|profile| profiles.contains(&profile.uri)).cloned().collect();
    if let Err(error) = context.results.fetch(session, stored, Instant::now() + FETCH).await {
        tracing::warn!(%error, "failed to fetch profiles for the hottest functions");
    }
    let top = context.results.top(&uid, kind, profiles, names::MAX_TOP_FUNCTIONS).await;
    top.unwrap_or_else(|error| {
        tracing::warn!(%error, "failed to compute the hottest functions");
        Vec::new()
    })
}
