//! How are triggers evaluated between two reconciles, when what they wait for arrives?

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Context, observe};
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
        let seen = observe::Current::of(&view, context);
        let observed = seen.observed(context);
        let links = fleetprof_core::link::pods(&view, &observed);
        if let Err(error) = triggers::look(&view, &links, observed.now, &context.triggers).await {
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
