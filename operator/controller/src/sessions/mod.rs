//! Does every session reach its end, and does its status tell how? The session controller.
//!
//! ```text
//! observe ─► step ─► apply ─► fold ─► report      (step and fold: fleetprof_core::session)
//!    ▲                          │
//!    └──── what came of it ◄────┘
//! ```

mod apply;
mod attach;
mod janitor;
mod newer;
mod observe;
mod report;
mod verdicts;
mod written;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetprof_core::budget::Ledger;
use fleetprof_core::session::{self, Answers, Settings};
use fleetprof_crds::session_status::TargetPhase;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus};
use jiff::Timestamp;
use kube::{Client, ResourceExt};
use kube_runtime::controller::Action;
use kube_runtime::reflector::ObjectRef;
use tokio::sync::mpsc::UnboundedSender;

pub use janitor::{Gone, owned, sweep_forever};
pub use written::Written;

use crate::agents::Agents;
use crate::create::NotCreated;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::panics::Panics;
use crate::results::Results;
use crate::settings::RunSettings;
use crate::tickets::Tickets;
use crate::tls::TlsSource;
use crate::watched::{Cache, JobState, Namespaces, NodeState, Pods, PolicyCaches, ResourceCaches};

/// The watch brings a session that changed within so long.
const CHANGED: Duration = Duration::from_millis(500);

/// Actions can have outcomes that change the next step; a chain is never longer than this.
const MAX_PASSES: usize = 8;

/// What the session controller works with.
pub struct Context {
    /// Client with the operator's rights.
    pub client: Client,
    /// Settings of the process.
    pub settings: RunSettings,
    /// Settings of the decisions.
    pub rules: Settings,
    /// The pods of the cluster.
    pub pods: Pods,
    /// The policies of both kinds.
    pub policies: PolicyCaches,
    /// The namespaces of the cluster.
    pub namespaces: Namespaces,
    /// The LimitRanges and ResourceQuotas of the cluster.
    pub resources: ResourceCaches,
    /// The sessions of the cluster.
    pub sessions: Cache<ProfileSession>,
    /// The Jobs of the cluster.
    pub jobs: Cache<JobState>,
    /// The nodes of the cluster.
    pub nodes: Cache<NodeState>,
    /// Agents, captures, orders.
    pub agents: Arc<dyn Agents>,
    /// Stored slices and profiles.
    pub results: Results,
    /// Tells receivers of ends.
    pub notifications: Notifications,
    /// Makes tickets for attached agents.
    pub tickets: Arc<Tickets>,
    /// The CA that agents are told to trust.
    pub tls: TlsSource,
    /// Writes events.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
    /// Which objects wait after a panic.
    pub panics: Arc<Panics>,
    /// Who is captured now, and who waits for it.
    pub budgets: Budgets,
    /// Has the controller look at a session at once: its capture yields to a person's.
    pub wake: UnboundedSender<ObjectRef<ProfileSession>>,
    /// The statuses as this leader decided them, newer than any watch; the leader is their one writer.
    pub written: Written,
}

/// The leader's one ledger of the budgets.
#[derive(Default)]
pub struct Budgets(Mutex<Ledger>);

impl Budgets {
    fn with<T>(&self, f: impl FnOnce(&mut Ledger) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Places the orders of a session as its status has them on record, and holds what they take, before any
/// agent is answered: an order that is missing from a list stops its capture. Nobody is asked anything.
pub fn reopen(session: &ProfileSession, context: &Context) {
    let status = session::recorded::take_over(session, Timestamp::now());
    if !status.targets.iter().any(|t| t.phase.holds_place() || t.phase == TargetPhase::Uploading) {
        return;
    }
    hold_places(session, &status, context);
    if session::newer::unknown(session).is_some() {
        return;
    }
    let session = ProfileSession { status: Some(status), ..session.clone() };
    let observed = observe::observe(&session, &Answers::default(), context);
    apply::reopen(session::reopen(&session, &observed, &context.rules), context);
}

/// Takes the places of targets whose orders may be out.
fn hold_places(session: &ProfileSession, status: &ProfileSessionStatus, context: &Context) {
    let pods = context.pods.namespace(&session.namespace().unwrap_or_default());
    let policy = observe::policy(session, &pods, context);
    for target in status.targets.iter().filter(|t| t.phase.holds_place()) {
        let claim = session::capture::claim(target, session, &policy, (&context.rules, None));
        context.budgets.with(|ledger| ledger.hold(claim));
    }
}

/// Why a reconcile failed; it is retried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("Kubernetes API error: {0}")]
    Kube(#[from] kube::Error),
    /// The session is not as it was when its status was decided: somebody edited or recreated it, or another
    /// leader wrote it.
    #[error("the session changed meanwhile")]
    Changed,
    /// A session that repeats this one could not be created.
    #[error(transparent)]
    NotCreated(#[from] NotCreated),
}

/// One reconcile. One that panics is its session's problem alone.
///
/// # Errors
/// When the API server cannot be asked or written to; nothing is lost then.
pub async fn reconcile(session: Arc<ProfileSession>, context: Arc<Context>) -> Result<Action, Error> {
    let work = work_on(session.clone(), context.clone());
    Box::pin(context.panics.reconcile(&*session, "session", work)).await
}

async fn work_on(session: Arc<ProfileSession>, context: Arc<Context>) -> Result<Action, Error> {
    if newer::is_newer(&session, &context).await {
        return Ok(Action::await_change());
    }
    context.written.begin(&session, Timestamp::now());
    let mut work = observe::current(&session, &context);
    report::accept(&mut work, &context).await?;
    let (mut answers, mut requeue) = (Answers::default(), None);
    let (mut again, mut passes) = (true, 0..MAX_PASSES);
    while again && passes.next().is_some() {
        let observed = observe::observe(&work, &answers, &context);
        let step = session::step(&work, &observed, &context.rules);
        (work.status, requeue) = (Some(step.status), step.requeue);
        let outcomes = apply::all(&work, step.actions, &context).await?;
        again = session::fold_all(&mut work, &mut answers, outcomes, Timestamp::now());
    }
    let wait = report::write(&work, &context).await?;
    context.written.settle(&session);
    let again = [wait, requeue.and_then(|r| Duration::try_from(r).ok())].into_iter().flatten().min();
    Ok(again.map_or_else(Action::await_change, Action::requeue))
}

/// When to try again after an error.
pub fn on_error(session: Arc<ProfileSession>, error: &Error, context: Arc<Context>) -> Action {
    if matches!(error, Error::Changed) {
        return Action::requeue(CHANGED);
    }
    context.metrics.reconcile_failed("session");
    tracing::warn!(
        %error,
        k8s.namespace.name = session.namespace(),
        fleetprof.session.name = session.name_any(),
        "failed to reconcile session; retrying"
    );
    Action::requeue(Duration::from_secs(2))
}
