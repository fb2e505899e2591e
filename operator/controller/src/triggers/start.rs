//! How does a firing become a session? Decided and created by one at a time, then told.

use fleetprof_core::text::advised;
use fleetprof_core::trigger::{Firing, Held, admit};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::{ProfileSession, Reason};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::{Context, Looked};
use crate::create::{self, Created, NotCreated};
use crate::events;
use crate::watched::sessions_of;

/// Starts a session for each firing that may have one. One that is refused keeps no other from having its
/// own, and is not tried again at once.
pub(super) async fn start(policy: &PolicyView<'_>, firings: Vec<Firing>, context: &Context) -> Looked {
    let mut looked = Looked { done: Ok(()), refused: 0 };
    if firings.is_empty() {
        return looked;
    }
    let _alone = context.memory.alone().await;
    let now = Timestamp::now();
    let sessions = context.memory.with_created(sessions_of(&context.sessions, policy), policy, now);
    let admitted = admit(policy, firings, &sessions, now);
    for held in &admitted.held {
        tell_held(policy, held, context).await;
    }
    for session in &admitted.create {
        if context.memory.is_refused(session, now) {
            looked.refused += 1;
            continue;
        }
        match create(policy, session, context).await {
            Ok(()) => {}
            Err(error) if error.is_final() => {
                looked.refused += 1;
                if context.memory.refuse(session, now) {
                    tell_refused(policy, session, &error, context).await;
                }
            }
            Err(error) => looked.done = looked.done.and(Err(error)),
        }
    }
    looked
}

/// An event where there will be no session; anything else is told by who tries it again.
async fn tell_refused(
    policy: &PolicyView<'_>,
    session: &ProfileSession,
    error: &NotCreated,
    context: &Context,
) {
    let (reason, namespace) = (Reason::SessionRefused, session.namespace().unwrap_or_default());
    let cause =
        format!("{}; its session in namespace {namespace} was not created: {error}", session.spec.cause);
    context.events.warning(&events::policy(policy), reason, "Trigger", advised(cause, reason)).await;
}

async fn create(
    policy: &PolicyView<'_>,
    session: &ProfileSession,
    context: &Context,
) -> Result<(), NotCreated> {
    // The same firing may have started it before, by this leader or the one before it.
    let Created::New(created) = create::create(&context.client, session).await? else { return Ok(()) };
    let (name, cause, trigger) = (created.name_any(), created.spec.cause.clone(), created.spec.trigger);
    let about = created.object_ref(&());
    context.memory.created(*created, Timestamp::now());
    context.metrics.trigger_fired(trigger, true);
    tracing::info!(
        k8s.namespace.name = about.namespace,
        fleetprof.policy.name = policy.name,
        fleetprof.session.name = name,
        fleetprof.trigger = trigger.as_str(),
        cause,
        "trigger started a session"
    );
    let note = format!("{cause}: created session {name}.");
    context.events.normal(&events::policy(policy), Reason::TriggerFired, "Trigger", note).await;
    context.events.normal(&about, Reason::TriggerFired, "Trigger", format!("{cause}.")).await;
    Ok(())
}

/// An event, once for each session that keeps firings of a workload waiting.
async fn tell_held(policy: &PolicyView<'_>, held: &Held, context: &Context) {
    if !context.memory.tell_once(policy, held) {
        return;
    }
    context.metrics.trigger_fired(held.firing.trigger, false);
    let Held { firing, after, until } = held;
    let (cause, workload, until) = (&firing.cause, &firing.workload, until.strftime("%Y-%m-%dT%H:%M:%SZ"));
    let cause = format!(
        "{cause}; held back by a cooldown until {until}: session {after} already profiled {workload}"
    );
    let note = advised(cause, Reason::TriggerHeldBack);
    context.events.normal(&events::policy(policy), Reason::TriggerHeldBack, "Trigger", note).await;
}
