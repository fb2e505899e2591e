//! How does a decision about a policy reach the cluster?

use fleetprof_core::policy::Step;
use fleetprof_core::text::advised;
use fleetprof_crds::{ProfileSession, Reason, names};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};

use super::restart::{self, Next};
use super::{Context, Error};
use crate::triggers;
use crate::watched::PolicyObject;

/// Of this many namespaces that take no session an event tells the reason.
const TOLD: usize = 5;

/// What came of what was decided.
pub struct Applied {
    /// The round was due, and no namespace took its session: it has not begun.
    pub refused_round: bool,
    triggers: kube::Result<()>,
    rounds: Result<(), Error>,
}

impl Applied {
    /// The first failure.
    ///
    /// # Errors If an operation failed; the next reconcile retries it.
    pub fn errors(self) -> Result<(), Error> {
        self.triggers.map_err(Error::from).and(self.rounds)
    }
}

/// Does what was decided; whatever fails keeps nothing else from being done.
pub async fn all<P: PolicyObject>(policy: &P, step: &Step, restart: &Next, context: &Context) -> Applied {
    let view = policy.view();
    let triggers = triggers::look(&view, &step.links, step.now, &context.triggers).await;
    restart::apply(&view, restart, context).await;
    let deleted = delete(step, context).await;
    missed(policy, step, context).await;
    let created = round(policy, step, context).await;
    Applied { refused_round: created.is_err(), triggers, rounds: created.and(deleted) }
}

/// Deletes the sessions over the history limits.
async fn delete(step: &Step, context: &Context) -> Result<(), Error> {
    let mut deleted = Ok(());
    for (namespace, name) in &step.delete {
        let api = Api::<ProfileSession>::namespaced(context.client.clone(), namespace);
        deleted = deleted.and(ignore(api.delete(name, &DeleteParams::default()).await.map(drop), 404));
    }
    deleted
}

async fn missed<P: PolicyObject>(policy: &P, step: &Step, context: &Context) {
    if let Some(tick) = step.missed {
        let note = advised(format!("The round scheduled for {} did not run", tick.at), Reason::TickMissed);
        context.events.warning(&policy.object_ref(&()), Reason::TickMissed, "Schedule", note).await;
    }
}

/// Creates the sessions of the round that is due.
///
/// A namespace that takes no session, such as one that is terminating, keeps no other from having its own.
/// Where none takes one, the round has not begun: the event tells why, and until its tick counts as missed it
/// is retried.
async fn round<P: PolicyObject>(policy: &P, step: &Step, context: &Context) -> Result<(), Error> {
    let (mut any, mut refused) = (step.create.is_empty(), Vec::new());
    for session in &step.create {
        match create(policy, session, context).await {
            Ok(()) => any = true,
            Err(error) => refused.push((session.namespace().unwrap_or_default(), error)),
        }
    }
    for (namespace, error) in refused.iter().take(TOLD) {
        let (reason, all) = (Reason::SessionRefused, refused.len());
        let cause =
            format!("Failed to create {all} sessions of the round; error in namespace {namespace}: {error}");
        let note = advised(cause, reason);
        context.events.warning(&policy.object_ref(&()), reason, "Schedule", note).await;
    }
    match refused.into_iter().next() {
        Some((_, error)) if !any => Err(error),
        _ => Ok(()),
    }
}

async fn create<P: PolicyObject>(
    policy: &P,
    session: &ProfileSession,
    context: &Context,
) -> Result<(), Error> {
    let api =
        Api::<ProfileSession>::namespaced(context.client.clone(), &session.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), session).await {
        Ok(_) => {
            let round = session.annotations().get(names::ROUND_ANNOTATION).map_or("", String::as_str);
            let (namespace, name) = (session.namespace().unwrap_or_default(), session.name_any());
            let note = format!("Created session {namespace}/{name} for scheduled run {round}.");
            context.events.normal(&policy.object_ref(&()), Reason::SessionCreated, "Schedule", note).await;
            Ok(())
        }
        // The round was started before, by this leader or the one before it.
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn ignore(result: kube::Result<()>, code: u16) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(answer)) if answer.code == code => Ok(()),
        other => other.map_err(Error::from),
    }
}
