//! How are triggers evaluated between two reconciles, when what they wait for arrives?

use std::sync::Arc;

use fleetprof_core::link;
use fleetprof_core::trigger::reach::{self, Reach};
use fleetprof_core::view::PolicyView;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Context, observe};
use crate::events;
use crate::triggers::{self, Arrival, Looked, Recheck, Rechecked};

/// Rechecks policies with what the policy controller works with.
pub struct Rechecks(pub Arc<Context>);

impl Recheck for Rechecks {
    fn recheck(&self, arrival: Arrival) -> BoxFuture<'_, Rechecked> {
        recheck(&self.0, arrival).boxed()
    }
}

async fn recheck(context: &Context, arrival: Arrival) -> Rechecked {
    let policies = context.policies.all();
    let mut rechecked = arrival.begin();
    for view in policies.views().iter().filter(|view| arrival.concerns(view)) {
        let about = events::policy(&view);
        let look = context.panics.guard(&about, view.generation, "policy", look(&view, &arrival, context));
        // A policy that panicked waits for its reconcile: a repeated notification changes nothing.
        let Ok((reached, looked)) = look.await else { continue };
        rechecked.reached_with(reached);
        rechecked.refused += looked.refused;
        if let Err(error) = looked.done {
            tracing::warn!(
                %error,
                fleetprof.policy.name = view.name,
                "a trigger failed to start its session; retrying"
            );
            rechecked.again = true;
        }
    }
    rechecked
}

async fn look(policy: &PolicyView<'_>, arrival: &Arrival, context: &Context) -> (Vec<Reach>, Looked) {
    let seen = observe::Current::of(policy, context);
    let observed = seen.observed(context);
    let links = link::pods(policy, &observed);
    let reached = reach::with_policy(policy, &links, arrival.alerts());
    (reached, triggers::look(policy, &links, observed.now, &context.triggers).await)
}
