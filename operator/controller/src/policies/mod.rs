//! Is every selected workload linked, and does every round start at its tick? The policy controller.

mod apply;
mod kinds;
mod observe;
mod restart;

use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::policy::{self, PolicyView};
use fleetprof_core::trigger::verdict::Setup;
use fleetprof_crds::ProfileSession;
use kube::{Client, ResourceExt};
use kube_runtime::controller::Action;

pub use kinds::{PolicyObject, PolicyStores};
pub use restart::Restarts;

use crate::copies::Copies;
use crate::events::Events;
use crate::gateway::Fleet;
use crate::metrics::Metrics;
use crate::misses::Misses;
use crate::pods::Pods;
use crate::triggers::{self, Triggers};

/// What the policy controller works with.
pub struct Context {
    /// Client with the operator's rights.
    pub client: Client,
    /// The pods of the cluster.
    pub pods: Pods,
    /// The policies of both kinds.
    pub policies: PolicyStores,
    /// The sessions of the cluster.
    pub sessions: Copies<ProfileSession>,
    /// Agents.
    pub fleet: Fleet,
    /// Says why the webhook would leave a pod out.
    pub misses: Misses,
    /// What is remembered of restarts.
    pub restarts: Restarts,
    /// What is remembered of triggers.
    pub triggers: Triggers,
    /// What triggers can rely on.
    pub trigger_setup: Setup,
    /// Writes events.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
}

impl Context {
    /// The sessions that name a policy.
    #[must_use]
    pub fn sessions_of(&self, policy: &PolicyView<'_>) -> Vec<Arc<ProfileSession>> {
        match policy.namespace {
            Some(own) => self.sessions.of(own).into_iter().filter(|s| policy.owns(s)).collect(),
            None => self.sessions.filter(|s| policy.owns(s)),
        }
    }
}

/// Why a reconcile did not get through; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("the Kubernetes API answered: {0}")]
    Kube(#[from] kube::Error),
}

/// One reconcile: observe, decide, apply, report. Whatever is refused, the rest is done and the status tells.
///
/// # Errors
/// When the API server cannot be asked or written to; nothing is lost then.
pub async fn reconcile<P: PolicyObject>(policy: Arc<P>, context: Arc<Context>) -> Result<Action, Error> {
    let view = policy.view();
    let seen = observe::Seen::of(&view, &context);
    let observed = seen.observed(&context);
    let mut step = policy::step(&view, &observed);
    let triggered = triggers::look(&view, &observed, &context).await;
    restart::run(&view, &observed, &mut step, &context).await;
    triggers::report(&view, &mut step.status, &observed, &context);
    let rounds = apply::rounds(&*policy, &mut step, &context).await;
    apply::status(&*policy, &step, &context).await?;
    triggered.and(rounds)?;
    Ok(Action::requeue(Duration::try_from(step.requeue).unwrap_or(Duration::from_secs(1))))
}

/// Looks at the triggers of the policies that `wants` picks, beside their reconciles: something that they
/// wait for has come. Says whether all of them could do what they wanted.
pub async fn triggered(context: &Context, wants: impl Fn(&PolicyView<'_>) -> bool) -> bool {
    let policies = context.policies.all();
    let mut fine = true;
    for view in policies.views().iter().filter(|view| wants(view)) {
        let seen = observe::Seen::of(&view, context);
        if let Err(error) = triggers::look(&view, &seen.observed(context), context).await {
            tracing::warn!(%error, fleetprof.policy.name = view.name, "a trigger could not start its \
                session; it is tried again");
            fine = false;
        }
    }
    fine
}

/// When to try again after an error.
pub fn on_error<P: PolicyObject>(policy: Arc<P>, error: &Error, context: Arc<Context>) -> Action {
    context.metrics.reconcile_failed("policy");
    tracing::warn!(
        %error,
        k8s.namespace.name = policy.namespace(),
        fleetprof.policy.name = policy.name_any(),
        "a policy could not be reconciled; it is tried again"
    );
    Action::requeue(Duration::from_secs(5))
}
