//! How does a decision about a policy reach the cluster?

use fleetprof_core::agent::INFORMED;
use fleetprof_core::policy::{Step, growth};
use fleetprof_core::text::advised;
use fleetprof_core::time::after;
use fleetprof_core::view::PolicyView;
use fleetprof_crds::{ProfileSession, Reason, names};
use jiff::SignedDuration;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use super::restart::{self, Next};
use super::{Context, Error};
use crate::create::{self, Created, NotCreated};
use crate::triggers;
use crate::watched::{PolicyObject, sessions_of};

/// Of this many namespaces that take no session an event tells the reason.
const TOLD: usize = 5;

/// For how long attached agents are let stay; said again with every look at the policy, every 15 s, or later
/// where many policies wait.
const KEEP_FOR: SignedDuration = INFORMED;

/// What came of what was decided.
pub struct Applied {
    /// The round was due, and no namespace took its session: it has not begun.
    pub refused_round: bool,
    triggers: Result<(), NotCreated>,
    rounds: Result<(), Error>,
}

impl Applied {
    /// The first failure.
    ///
    /// # Errors If an operation failed that may succeed at once; the next reconcile retries it.
    pub fn errors(self) -> Result<(), Error> {
        self.triggers.map_err(Error::from).and(self.rounds)
    }
}

/// Does what was decided; whatever fails keeps nothing else from being done.
pub async fn all<P: PolicyObject>(policy: &P, step: &Step, restart: &Next, context: &Context) -> Applied {
    let view = policy.view();
    context.agents.keep(step.keep.clone(), after(step.now, KEEP_FOR));
    let triggers = triggers::look(&view, &step.links, step.now, &context.triggers).await.done;
    show_growth(&view, step, context);
    restart::apply(&view, restart, context).await;
    let deleted = delete(step, context).await;
    missed(policy, step, context).await;
    let round = round(policy, step, context).await;
    let refused_round = !matches!(round, Round::Begun);
    let created = if let Round::Failed(error) = round { Err(Error::from(error)) } else { Ok(()) };
    Applied { refused_round, triggers, rounds: created.and(deleted) }
}

/// Shows to Prometheus what looks for growth said.
fn show_growth(policy: &PolicyView<'_>, step: &Step, context: &Context) {
    let looks = policy.spec.growth.is_some();
    let sessions = if looks { sessions_of(&context.sessions, policy) } else { Vec::new() };
    context.metrics.growth(policy.uid, growth::series(policy, &step.links, &sessions));
}

/// Deletes the sessions over the history limits, as they are known: one that somebody has changed meanwhile, such
/// as to have it kept, is looked at again with the policy.
async fn delete(step: &Step, context: &Context) -> Result<(), Error> {
    let mut deleted = Ok(());
    for (namespace, name) in &step.delete {
        let Some(session) = context.sessions.get(namespace, name) else { continue };
        let api = Api::<ProfileSession>::namespaced(context.client.clone(), namespace);
        let as_seen = Preconditions { uid: session.uid(), resource_version: session.resource_version() };
        let answer = api.delete(name, &DeleteParams::default().preconditions(as_seen)).await;
        deleted = deleted.and(ignore(answer.map(drop), &[404, 409]));
    }
    deleted
}

async fn missed<P: PolicyObject>(policy: &P, step: &Step, context: &Context) {
    if let Some(tick) = step.missed {
        let note = advised(format!("The round scheduled for {} did not run", tick.at), Reason::TickMissed);
        context.events.warning(&policy.object_ref(&()), Reason::TickMissed, "Schedule", note).await;
    }
}

/// What came of a round.
enum Round {
    /// There was none, or a namespace took its session.
    Begun,
    /// No namespace takes its session, and none would at once: told by an event.
    Refused,
    /// No namespace took its session; another try may.
    Failed(NotCreated),
}

/// Creates the sessions of the round that is due.
///
/// A namespace that takes no session, such as one that is terminating, keeps no other from having its own.
/// Where none takes one, the round has not begun: the event tells why, and until its tick counts as missed it
/// is retried, once a minute where the API server rejects it for good.
async fn round<P: PolicyObject>(policy: &P, step: &Step, context: &Context) -> Round {
    let memory = &context.triggers.memory;
    let (mut any, mut news, mut failed) = (step.create.is_empty(), Vec::new(), None);
    for session in step.create.iter().filter(|session| !memory.is_refused(session, step.now)) {
        match create(policy, session, context).await {
            Ok(()) => any = true,
            Err(error) if error.is_final() => {
                if memory.refuse(session, step.now) {
                    news.push((session.namespace().unwrap_or_default(), error));
                }
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    tell_refused(policy, &news, context).await;
    match failed {
        _ if any => Round::Begun,
        Some(error) => Round::Failed(error),
        None => Round::Refused,
    }
}

async fn tell_refused<P: PolicyObject>(policy: &P, news: &[(String, NotCreated)], context: &Context) {
    for (namespace, error) in news.iter().take(TOLD) {
        let (reason, all) = (Reason::SessionRefused, news.len());
        let cause =
            format!("Failed to create {all} sessions of the round; error in namespace {namespace}: {error}");
        let note = advised(cause, reason);
        context.events.warning(&policy.object_ref(&()), reason, "Schedule", note).await;
    }
}

async fn create<P: PolicyObject>(
    policy: &P,
    session: &ProfileSession,
    context: &Context,
) -> Result<(), NotCreated> {
    // The round may have been started before, by this leader or the one before it.
    if let Created::New(session) = create::create(&context.client, session).await? {
        let round = session.annotations().get(names::ROUND_ANNOTATION).map_or("", String::as_str);
        let (namespace, name) = (session.namespace().unwrap_or_default(), session.name_any());
        let note = format!("Created session {namespace}/{name} for scheduled run {round}.");
        context.events.normal(&policy.object_ref(&()), Reason::SessionCreated, "Schedule", note).await;
    }
    Ok(())
}

fn ignore(result: kube::Result<()>, codes: &[u16]) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(answer)) if codes.contains(&answer.code) => Ok(()),
        other => other.map_err(Error::from),
    }
}
