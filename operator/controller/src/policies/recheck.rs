//! How are triggers evaluated between two reconciles, when what they wait for arrives?

use std::sync::Arc;

use fleetprof_core::link;
use fleetprof_core::view::PolicyView;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Context, observe};
use crate::events;
use crate::triggers::{self, Arrival, Recheck};

/// Rechecks policies with what the policy controller works with.
pub struct Rechecks(pub Arc<Context>);

impl Recheck for Rechecks {
    fn recheck(&self, arrival: Arrival) -> BoxFuture<'_, bool> {
        recheck(&self.0, arrival).boxed()
    }
}

async fn recheck(context: &Context, arrival: Arrival) -> bool {
    let policies = context.policies.all();
    let mut all_done = true;
    for view in policies.views().iter().filter(|view| arrival.concerns(view)) {
        let about = events::policy(&view);
        let look = context.panics.guard(&about, view.generation, "policy", look(&view, context));
        // A policy that panicked waits for its reconcile: a repeated notification changes nothing.
        if let Err(error) = look.await.unwrap_or(Ok(())) {
            tracing::warn!(
                %error,
                fleetprof.policy.name = view.name,
                "a trigger failed to start its session; retrying"
            );
            all_done = false;
        }
    }
    all_done
}

async fn look(policy: &PolicyView<'_>, context: &Context) -> kube::Result<()> {
    let seen = observe::Current::of(policy, context);
    let observed = seen.observed(context);
    let links = link::pods(policy, &observed);
    triggers::look(policy, &links, observed.now, &context.triggers).await
}
