//! How are the controllers started? The orders that are on record first, so that the gateway knows every
//! capture before agents report.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::Context as _;
use fleetprof_core::inject::ClusterRules;
use fleetprof_core::session::Settings;
use fleetprof_core::trigger::verdict::Setup;
use fleetprof_crds::ProfileSession;
use futures::StreamExt;
use jiff::Timestamp;
use kube::{Client, Resource};
use kube_runtime::reflector::{ObjectRef, Store};
use kube_runtime::{Controller, controller};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::dispatch;
use super::found::{self, InFlight};
use super::registration;
use super::requeue::{Queues, Requeues};
use super::unreadable;
use super::watches::Watches;
use crate::agents::Agents;
use crate::configuration::Configuration;
use crate::destinations::Wake;
use crate::events::Events;
use crate::gateway::Fleet;
use crate::metrics::Metrics;
use crate::notifications::Notifications;
use crate::panics::Panics;
use crate::results::Results;
use crate::settings::RunSettings;
use crate::tickets::Tickets;
use crate::tls::TlsSource;
use crate::watched::{Cache, Namespaces, Pods, PolicyObject};
use crate::{policies, sessions, triggers};

/// Sessions of schedules and triggers that are reconciled at once.
const SESSIONS_AT_ONCE: u16 = 32;
/// Sessions of people that are reconciled at once: beside the others, so that none of them waits for a round
/// of thousands.
const PEOPLE_AT_ONCE: u16 = 16;
/// Policies that are reconciled at once.
const POLICIES_AT_ONCE: u16 = 16;
/// Policies of the cluster that are reconciled at once; each may look at all its pods.
const CLUSTER_POLICIES_AT_ONCE: u16 = 2;

/// What the controllers are made of.
pub struct Parts {
    pub client: Client,
    pub settings: RunSettings,
    pub fleet: Fleet,
    pub results: Results,
    pub notifications: Notifications,
    pub configuration: Configuration,
    pub tickets: Arc<Tickets>,
    pub tls: TlsSource,
    pub metrics: Metrics,
    pub watches: Watches,
    /// What tells the controllers to look, and where they hear of it.
    pub requeues: (Requeues, Queues),
}

impl Parts {
    /// Starts to send profiles to their destinations, and notifications to their receivers. Sessions are looked at
    /// when one has arrived.
    pub fn send(&self, tasks: &mut JoinSet<anyhow::Result<()>>) {
        let sessions = self.requeues.0.sessions.clone();
        let wake: Wake = Arc::new(move |namespace: &str, name: &str| {
            let _ = sessions.send(ObjectRef::new(name).within(namespace));
        });
        self.results.destinations().start(&wake, tasks);
        self.results.start_symbols(tasks);
        self.notifications.start(&wake, tasks);
    }
}

/// The parts that the servers work with as well.
pub struct Shared {
    pub fleet: Fleet,
    pub results: Results,
    pub tickets: Arc<Tickets>,
    pub tls: TlsSource,
    pub pods: Pods,
}

impl Parts {
    /// The parts that the servers work with as well.
    pub fn shared(&self) -> Shared {
        let Self { fleet, results, tickets, tls, watches, .. } = self;
        Shared {
            fleet: fleet.clone(),
            results: results.clone(),
            tickets: tickets.clone(),
            tls: tls.clone(),
            pods: watches.pods.clone(),
        }
    }
}

/// What both controllers work with.
struct Common {
    agents: Arc<dyn Agents>,
    events: Events,
    rules: Arc<ClusterRules>,
    namespaces: Namespaces,
    panics: Arc<Panics>,
}

impl Parts {
    fn common(&self) -> Common {
        let rules = Arc::new(ClusterRules {
            attach_disabled: self.settings.attach_disabled,
            ..self.settings.rules.get(&self.settings.namespace)
        });
        let events = Events::new(self.client.clone(), &self.settings.pod_name);
        Common {
            agents: Arc::new(self.fleet.clone()),
            panics: Arc::new(Panics::new(events.clone(), self.metrics.clone())),
            events,
            namespaces: Namespaces::new(self.watches.namespaces.clone(), rules.clone()),
            rules,
        }
    }

    fn session_context(&self, common: &Common) -> sessions::Context {
        sessions::Context {
            client: self.client.clone(),
            settings: self.settings.clone(),
            rules: Settings {
                node_budget: self.settings.node_budget,
                namespace_budget: self.settings.namespace_budget,
                fleet_budget: self.settings.fleet_budget,
                on_demand_budget: self.settings.on_demand_budget,
                session_budget: self.settings.session_budget,
                on_demand_limits: (self.settings.on_demand_duration, self.settings.on_demand_frequency),
                max_ttl: self.settings.max_ttl,
                destinations: self.results.destinations().names(),
                receivers: self.configuration.receivers.clone(),
                links: self.configuration.links.clone(),
                cluster: self.settings.cluster.clone(),
                rules: (*common.rules).clone(),
                ..Settings::default()
            },
            pods: self.watches.pods.clone(),
            policies: self.watches.policies.clone(),
            namespaces: common.namespaces.clone(),
            resources: self.watches.resources.clone(),
            sessions: self.watches.sessions.clone(),
            jobs: self.watches.jobs.clone(),
            nodes: self.watches.nodes.clone(),
            agents: common.agents.clone(),
            results: self.results.clone(),
            notifications: self.notifications.clone(),
            tickets: self.tickets.clone(),
            tls: self.tls.clone(),
            events: common.events.clone(),
            metrics: self.metrics.clone(),
            panics: common.panics.clone(),
            budgets: sessions::Budgets::default(),
            wake: self.requeues.0.sessions.clone(),
            written: sessions::Written::default(),
        }
    }

    fn policy_context(&self, common: &Common) -> policies::Context {
        policies::Context {
            client: self.client.clone(),
            pods: self.watches.pods.clone(),
            policies: self.watches.policies.clone(),
            sessions: self.watches.sessions.clone(),
            agents: common.agents.clone(),
            refusals: policies::Refusals::new(
                common.namespaces.clone(),
                common.rules.clone(),
                self.watches.resources.clone(),
            ),
            destinations: self.results.destinations().names(),
            restarts: policies::Restarts::new(self.settings.restart),
            triggers: triggers::Context {
                client: self.client.clone(),
                sessions: self.watches.sessions.clone(),
                agents: common.agents.clone(),
                memory: triggers::Memory::default(),
                setup: Setup {
                    receiver: !self.settings.alerts_secret.is_empty(),
                    prometheus: !self.settings.prometheus_url.is_empty(),
                },
                events: common.events.clone(),
                metrics: self.metrics.clone(),
            },
            events: common.events.clone(),
            metrics: self.metrics.clone(),
            panics: common.panics.clone(),
        }
    }
}

/// Opens the captures of all live sessions again, then starts both controllers and what feeds them. Gives
/// back what the policy controller works with, for those who bring it news.
pub async fn start(
    parts: Parts,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Arc<policies::Context>> {
    let common = parts.common();
    let session_context = Arc::new(parts.session_context(&common));
    let policy_context = Arc::new(parts.policy_context(&common));
    let Parts { client, settings, fleet, tls, watches, requeues: (requeues, queues), .. } = parts;
    reopen(&watches.sessions, &session_context).await;
    // Before any slice comes, which may evict what somebody wants kept.
    let owned = sessions::owned(&watches.sessions, &session_context);
    session_context
        .results
        .own(owned)
        .await
        .context("the index of the results volume cannot be completed")?;
    fleet.set_synced(true, Timestamp::now());
    run_sessions(&watches.sessions, &session_context, queues.sessions, tasks);
    let store = watches.policies.namespaced.store();
    tasks.spawn(run_policies(store, POLICIES_AT_ONCE, policy_context.clone(), queues.policies));
    tasks.spawn(dispatch::pace_cluster_policies(queues.cluster_told, requeues.edited.clone()));
    let store = watches.policies.cluster.store();
    tasks.spawn(run_policies(
        store,
        CLUSTER_POLICIES_AT_ONCE,
        policy_context.clone(),
        queues.cluster_policies,
    ));
    follow(Following { client, settings, tls, watches, requeues, session_context, common }, tasks);
    Ok(policy_context)
}

/// What follows the watches.
struct Following {
    client: Client,
    settings: RunSettings,
    tls: TlsSource,
    watches: Watches,
    requeues: Requeues,
    session_context: Arc<sessions::Context>,
    common: Common,
}

/// Starts everything that works on what the watches tell.
fn follow(parts: Following, tasks: &mut JoinSet<anyhow::Result<()>>) {
    let Following { client, settings, tls, watches, requeues, session_context, common } = parts;
    let Common { agents, events, namespaces, .. } = common;
    let Watches { pods, policies, sessions, index, namespaces: all_namespaces, changes, .. } = watches;
    tasks.spawn(unreadable::report_forever(client.clone(), events, changes.unreadable));
    tasks.spawn(registration::leave_with_namespace(
        client.clone(),
        settings.clone(),
        all_namespaces,
        changes.namespaces,
    ));
    tasks.spawn(registration::keep(client, settings, tls, policies.clone(), changes.policies));
    tasks.spawn(sessions::sweep_forever(sessions.clone(), index.clone(), changes.gone, session_context));
    let sources = dispatch::Sources { pods, policies, sessions, index, namespaces };
    tasks.spawn(dispatch::run(agents, sources, changes.pods, changes.concerned, requeues));
}

/// Until every one is open no agent is answered: an order that is missing from a list stops its capture. A
/// session that panics keeps no other from being served.
async fn reopen(sessions: &Cache<ProfileSession>, context: &sessions::Context) {
    let live = |s: &ProfileSession| s.status.as_ref().is_some_and(|s| !s.phase.is_terminal());
    for session in sessions.filter(live) {
        let about = session.object_ref(&());
        let work = async { sessions::reopen(&session, context) };
        // It waits for its reconcile.
        let _ = context.panics.guard(&about, session.metadata.generation, "session", work).await;
    }
}

type Queue<K> = mpsc::UnboundedReceiver<ObjectRef<K>>;

/// The copies bring their own changes, by way of the queue.
fn controller<K>(store: Store<K>, queue: Queue<K>, at_once: u16) -> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let config = controller::Config::default().concurrency(at_once);
    Controller::for_stream(futures::stream::pending(), store)
        .with_config(config)
        .reconcile_on(UnboundedReceiverStream::new(queue))
}

/// Starts the controllers of people's sessions and of all others, and what parts their queues.
fn run_sessions(
    sessions: &Cache<ProfileSession>,
    context: &Arc<sessions::Context>,
    mut queue: Queue<ProfileSession>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let in_flight = InFlight::default();
    let found = found::take(&sessions.store(), &mut queue);
    tasks.spawn(found::feed(found, in_flight.clone(), context.wake.clone()));
    let (to_people, of_people) = mpsc::unbounded_channel();
    let (to_others, of_others) = mpsc::unbounded_channel();
    for (queue, at_once) in [(of_people, PEOPLE_AT_ONCE), (of_others, SESSIONS_AT_ONCE)] {
        let controller = controller(sessions.store(), queue, at_once);
        tasks.spawn(reconcile_sessions(controller, in_flight.clone(), context.clone()));
    }
    tasks.spawn(dispatch::part_sessions(sessions.clone(), queue, to_people, to_others));
}

async fn reconcile_sessions(
    controller: Controller<ProfileSession>,
    in_flight: InFlight,
    context: Arc<sessions::Context>,
) -> anyhow::Result<()> {
    controller
        .run(sessions::reconcile, sessions::on_error, context)
        .for_each(|done| {
            in_flight.looked(&done);
            futures::future::ready(())
        })
        .await;
    anyhow::bail!("session controller ended")
}

async fn run_policies<P>(
    store: Store<P>,
    at_once: u16,
    context: Arc<policies::Context>,
    queue: Queue<P>,
) -> anyhow::Result<()>
where
    P: PolicyObject,
{
    let controller = controller(store, queue, at_once);
    controller
        .run(policies::reconcile, policies::on_error, context)
        .for_each(|_| futures::future::ready(()))
        .await;
    anyhow::bail!("policy controller ended")
}
