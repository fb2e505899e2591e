//! Is every selected workload linked, and does every round start at its tick? The policy controller.
//!
//! ```text
//! observe ─► decide (fleetprof_core::policy::step, restarts) ─► apply (triggers, restarts, rounds) ─► report
//! ```
//! The status has one writer, [`report`]: it puts together what was decided and what came of it.

mod apply;
mod observe;
mod recheck;
mod refusals;
mod report;
mod restart;

use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::policy;
use fleetprof_crds::ProfileSession;
use kube::{Client, ResourceExt};
use kube_runtime::controller::Action;

pub use recheck::Rechecks;
pub use refusals::Refusals;
pub use restart::Restarts;

use crate::agents::Agents;
use crate::create::NotCreated;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::panics::Panics;
use crate::triggers;
use crate::watched::{Cache, Pods, PolicyCaches, PolicyObject};

/// What the policy controller works with.
pub struct Context {
    /// Client with the operator's rights.
    pub client: Client,
    /// The pods of the cluster.
    pub pods: Pods,
    /// The policies of both kinds.
    pub policies: PolicyCaches,
    /// The sessions of the cluster.
    pub sessions: Cache<ProfileSession>,
    /// Agents.
    pub agents: Arc<dyn Agents>,
    /// Says why the webhook would leave a pod out.
    pub refusals: Refusals,
    /// Names of the destinations that are configured.
    pub destinations: Vec<String>,
    /// What is remembered of restarts.
    pub restarts: Restarts,
    /// Evaluates triggers.
    pub triggers: triggers::Context,
    /// Writes events.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
    /// Which objects wait after a panic.
    pub panics: Arc<Panics>,
}

/// Why a reconcile failed; it is retried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("Kubernetes API error: {0}")]
    Kube(#[from] kube::Error),
    /// The policy is not as it was when its status was decided: the watch is behind, somebody edited it, or
    /// another leader wrote it.
    #[error("the policy changed meanwhile")]
    Changed,
    /// A session could not be created.
    #[error(transparent)]
    NotCreated(#[from] NotCreated),
}

/// One reconcile. Whatever is refused, the rest is done and the status tells; one that panics is its policy's
/// problem alone.
///
/// # Errors
/// When the API server cannot be asked or written to; nothing is lost then.
pub async fn reconcile<P: PolicyObject>(policy: Arc<P>, context: Arc<Context>) -> Result<Action, Error> {
    let work = work_on(policy.clone(), context.clone());
    context.panics.reconcile(&*policy, "policy", work).await
}

async fn work_on<P: PolicyObject>(policy: Arc<P>, context: Arc<Context>) -> Result<Action, Error> {
    let view = policy.view();
    let seen = observe::Current::of(&view, &context);
    let observed = seen.observed(&context);
    let step = policy::step(&view, &observed);
    let restart = restart::next(&view, &observed, &step.links, &context).await;
    let applied = apply::all(&*policy, &step, &restart, &context).await;
    report::write(&*policy, &step, &restart, &applied, &context).await?;
    applied.errors()?;
    Ok(Action::requeue(Duration::try_from(step.requeue).unwrap_or(Duration::from_secs(1))))
}

/// When to try again after an error.
pub fn on_error<P: PolicyObject>(policy: Arc<P>, error: &Error, context: Arc<Context>) -> Action {
    // The watch brings it.
    if matches!(error, Error::Changed) {
        return Action::requeue(Duration::from_secs(1));
    }
    context.metrics.reconcile_failed("policy");
    tracing::warn!(
        %error,
        k8s.namespace.name = policy.namespace(),
        fleetprof.policy.name = policy.name_any(),
        "failed to reconcile a policy; retrying"
    );
    Action::requeue(Duration::from_secs(5))
}
