//! How are the controllers started? Live sessions first, so that the gateway knows every capture before agents report.

use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::inject::{ClusterRules, PodSecurity};
use fleetprof_core::session::Settings;
use fleetprof_core::trigger::verdict::Setup;
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession, ProfilingPolicy};
use futures::StreamExt;
use jiff::Timestamp;
use kube::{Api, Client};
use kube_runtime::{Controller, controller, watcher};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::watches::Watches;
use super::{dispatch, registration};
use crate::events::Events;
use crate::gateway::{Fleet, Tickets};
use crate::metrics::Metrics;
use crate::misses::Misses;
use crate::namespaces::Namespaces;
use crate::policies::PolicyObject;
use crate::results::Results;
use crate::settings::RunSettings;
use crate::tls::TlsSource;
use crate::triggers::Triggers;
use crate::{policies, sessions};

/// Sessions that are reconciled at once.
const SESSIONS_AT_ONCE: u16 = 32;
/// Policies that are reconciled at once.
const POLICIES_AT_ONCE: u16 = 16;
/// Policies of the cluster that are reconciled at once; each may look at all its pods.
const CLUSTER_POLICIES_AT_ONCE: u16 = 2;

/// How long is waited before sessions that could not be opened again are tried once more.
const REOPEN_AGAIN: Duration = Duration::from_secs(1);

/// What the controllers are made of.
pub struct Parts {
    pub client: Client,
    pub settings: RunSettings,
    pub fleet: Fleet,
    pub results: Results,
    pub tickets: Arc<Tickets>,
    pub tls: TlsSource,
    pub metrics: Metrics,
    pub watches: Watches,
}

/// The parts that the servers work with as well.
pub struct Shared {
    pub fleet: Fleet,
    pub results: Results,
    pub tickets: Arc<Tickets>,
    pub tls: TlsSource,
}

impl Parts {
    /// The parts that the servers work with as well.
    pub fn shared(&self) -> Shared {
        let Self { fleet, results, tickets, tls, .. } = self;
        Shared { fleet: fleet.clone(), results: results.clone(), tickets: tickets.clone(), tls: tls.clone() }
    }
}

/// Opens the captures of all live sessions again, then starts both controllers and what feeds them. Gives back what the policy
/// controller works with, for those who bring it news.
pub async fn start(parts: Parts, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<Arc<policies::Context>> {
    let Parts { client, settings, fleet, results, tickets, tls, metrics, watches } = parts;
    let events = Events::new(client.clone(), &settings.pod_name);
    let rules = Arc::new(ClusterRules {
        excluded_namespaces: vec!["kube-system".into(), settings.namespace.clone()],
        default_pod_security: PodSecurity::default(),
        images: settings.images.get(),
    });
    let namespaces = Namespaces::new(watches.namespaces.clone(), rules.clone());
    let misses = Misses { namespaces: namespaces.clone(), rules: rules.clone() };
    let session_context = Arc::new(sessions::Context {
        client: client.clone(),
        settings: settings.clone(),
        rules: Settings {
            namespace_budget: settings.namespace_budget,
            fleet_budget: settings.fleet_budget,
            images: settings.images.get(),
            ..Settings::default()
        },
        pods: watches.pods.clone(),
        policies: watches.policies.clone(),
        namespaces: namespaces.clone(),
        sessions: watches.sessions.clone(),
        fleet: fleet.clone(),
        results,
        tickets,
        tls: tls.clone(),
        events: events.clone(),
        metrics: metrics.clone(),
        places: sessions::Places::default(),
        written: sessions::Written::default(),
    });
    let policy_context = Arc::new(policies::Context {
        client: client.clone(),
        pods: watches.pods.clone(),
        policies: watches.policies.clone(),
        sessions: watches.sessions.clone(),
        fleet: fleet.clone(),
        misses,
        restarts: policies::Restarts::new(settings.restart),
        triggers: Triggers::default(),
        trigger_setup: Setup { receiver: !settings.alerts_secret.is_empty(), prometheus: !settings.prometheus_url.is_empty() },
        events,
        metrics,
    });
    reopen(&watches, &session_context).await;
    fleet.set_synced(true, Timestamp::now());
    let (session_pokes, session_queue) = mpsc::unbounded_channel();
    let (policy_pokes, policy_queue) = mpsc::unbounded_channel();
    let (cluster_pokes, cluster_told) = mpsc::unbounded_channel();
    let (cluster_paced, cluster_queue) = mpsc::unbounded_channel();
    tasks.spawn(dispatch::pace_cluster_policies(cluster_told, cluster_paced));
    tasks.spawn(run_sessions(client.clone(), session_context.clone(), session_queue));
    tasks.spawn(run_policies::<ProfilingPolicy>(client.clone(), POLICIES_AT_ONCE, policy_context.clone(), policy_queue));
    tasks.spawn(run_policies::<ClusterProfilingPolicy>(client.clone(), CLUSTER_POLICIES_AT_ONCE, policy_context.clone(), cluster_queue));
    tasks.spawn(registration::leave_with_namespace(client.clone(), settings.clone(), watches.namespaces.clone()));
    tasks.spawn(registration::keep(client, settings, tls, watches.policies.clone()));
    tasks.spawn(sessions::sweep_forever(watches.sessions.clone(), session_context));
    let pokes = dispatch::Pokes { sessions: session_pokes, policies: policy_pokes, cluster_policies: cluster_pokes };
    tasks.spawn(dispatch::run(fleet, watches, namespaces, pokes));
    Ok(policy_context)
}

/// Until every one is open no agent is answered: an order that is missing from a list stops its capture.
async fn reopen(watches: &Watches, context: &Arc<sessions::Context>) {
    let live = |s: &Arc<ProfileSession>| s.status.as_ref().is_some_and(|s| !s.phase.is_terminal());
    let mut left: Vec<_> = watches.sessions.state().into_iter().filter(live).collect();
    left.iter().for_each(|session| sessions::hold_places(session, context));
    while !left.is_empty() {
        let mut failed = Vec::new();
        for session in left {
            if let Err(error) = sessions::reconcile(session.clone(), context.clone()).await {
                sessions::on_error(session.clone(), &error, context.clone());
                failed.push(session);
            }
        }
        if !failed.is_empty() {
            tokio::time::sleep(REOPEN_AGAIN).await;
        }
        left = failed;
    }
}

type Queue<K> = mpsc::UnboundedReceiver<kube_runtime::reflector::ObjectRef<K>>;

async fn run_sessions(client: Client, context: Arc<sessions::Context>, queue: Queue<ProfileSession>) -> anyhow::Result<()> {
    let config = controller::Config::default().concurrency(SESSIONS_AT_ONCE);
    Controller::new(Api::<ProfileSession>::all(client), watcher::Config::default())
        .with_config(config)
        .reconcile_on(UnboundedReceiverStream::new(queue))
        .run(sessions::reconcile, sessions::on_error, context)
        .for_each(|_| futures::future::ready(()))
        .await;
    anyhow::bail!("the session controller ended")
}

async fn run_policies<P>(client: Client, at_once: u16, context: Arc<policies::Context>, queue: Queue<P>) -> anyhow::Result<()>
where
    P: PolicyObject,
{
    let config = controller::Config::default().concurrency(at_once);
    Controller::new(Api::<P>::all(client), watcher::Config::default())
        .with_config(config)
        .reconcile_on(UnboundedReceiverStream::new(queue))
        .run(policies::reconcile, policies::on_error, context)
        .for_each(|_| futures::future::ready(()))
        .await;
    anyhow::bail!("the policy controller ended")
}
