//! What does `fleetprof-operator run` do, in which order?
//!
//! ```text
//! every replica:  metrics + health ─► leader election ─┐
//! the leader:     certificates ─► results ─► watches synced ─► reopen live sessions ─► gateway, data API, controllers
//!                                                              └─► EndpointSlice names this pod ─► APIService names the leader
//! ```

mod alerts;
mod controllers;
mod dispatch;
mod endpoint;
mod found;
mod registration;
mod requeue;
mod unreadable;
mod watches;

use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use crate::client::{self, Fence};
use crate::configuration::Configuration;
use crate::data_api::{self, AccessReviews, DataApi, DataApiMetrics, FrontProxySource, SessionsByApi};
use crate::destinations::{DestinationMetrics, Identity};
use crate::gateway::{self, Fleet, GatewayConfig, GatewayMetrics, GatewayState, TokenReviews, system_clock};
use crate::health::{self, Gates, Health};
use crate::leader;
use crate::listeners;
use crate::metrics::Metrics;
use crate::notifications::{NotificationMetrics, Notifications};
use crate::results::{Results, ResultsConfig, ResultsMetrics};
use crate::server::{self, ConnectionMetrics, Limits};
use crate::settings::RunSettings;
use crate::signals;
use crate::symbols::Symbols;
use crate::tickets::Tickets;
use crate::tls::{self, CertificateNames, ClientAuth, TlsSource};
use crate::watched::WatchMetrics;

/// All metrics of the process; registered once, before there is a leader.
#[derive(Clone)]
struct AllMetrics {
    own: Metrics,
    gateway: GatewayMetrics,
    results: ResultsMetrics,
    destinations: DestinationMetrics,
    notifications: NotificationMetrics,
    data: DataApiMetrics,
    connections: ConnectionMetrics,
    watches: WatchMetrics,
}

/// Runs until the lease is lost, something essential ends, or the process is asked to stop.
///
/// # Errors
/// When the API server cannot be reached at start, a port is taken, or the lease is lost.
pub async fn run(settings: RunSettings) -> anyhow::Result<()> {
    let fence = Fence::default();
    let (elected, client) = (client::connect(None).await?, client::connect(Some(&fence)).await?);
    let fleet = Fleet::new();
    let mut registry = Registry::default();
    let metrics = AllMetrics {
        own: Metrics::register(&mut registry),
        gateway: GatewayMetrics::register(&mut registry, &fleet),
        results: ResultsMetrics::register(&mut registry),
        destinations: DestinationMetrics::register(&mut registry),
        notifications: NotificationMetrics::register(&mut registry),
        data: DataApiMetrics::register(&mut registry),
        connections: ConnectionMetrics::register(&mut registry),
        watches: WatchMetrics::register(&mut registry),
    };
    // A standby is ready when it takes part in the election; who leads has more gates to open.
    let gates = Gates::new(&["election"]);
    let limits = listeners::health(metrics.connections.clone());
    let health = health::serve(
        settings.health_port,
        Health { gates: gates.clone(), registry: Arc::new(registry) },
        limits,
    );
    let lease = format!("{}-operator", settings.name);
    let work = || lead(client.clone(), settings.clone(), fleet, metrics, gates.clone());
    let leave = || registration::leave(client.clone(), settings.clone());
    gates.set("election", true);
    tokio::select! {
        result = leader::run(elected, &settings.namespace, &lease, &settings.pod_name, (work, leave), fence, signals::stopped()) => result,
        result = health => result,
    }
}

/// What a leader must have before it can serve; each is a gate of its readiness.
const STEPS: [&str; 4] = ["certificates", "results", "watches", "serving"];

fn begin(metrics: &AllMetrics, gates: &Gates) {
    metrics.own.lead();
    STEPS.iter().for_each(|step| gates.set(step, false));
}

/// Everything that the leader does; dropped as a whole when it stops to be one.
async fn lead(
    client: Client,
    settings: RunSettings,
    fleet: Fleet,
    metrics: AllMetrics,
    gates: Gates,
) -> anyhow::Result<()> {
    begin(&metrics, &gates);
    let configuration = Configuration::read(settings.config.as_deref())?;
    let mut tasks = JoinSet::new();
    let (names, mut held) = (certificate_names(&settings), tls::Held::default());
    let ensured =
        tls::ensure_certificates(&client, &settings.namespace, &names, &mut held, Timestamp::now()).await?;
    let tls = TlsSource::watch(client.clone(), &settings.namespace, &names.tls_secret);
    tls.clone().loaded().await;
    gates.set("certificates", true);
    let results = open_results(&client, (&settings, &configuration), &metrics, &gates).await?;
    let (requeues, queues) = requeue::requeues();
    let watches = watches::start(&client, &requeues, &metrics.watches, &mut tasks).await?;
    gates.set("watches", true);
    let parts = controllers::Parts {
        client: client.clone(),
        settings: settings.clone(),
        fleet,
        results,
        notifications: Notifications::new(
            configuration.notifications.webhooks(),
            metrics.notifications.clone(),
        ),
        configuration,
        tickets: Arc::new(Tickets::new(&ensured.ticket_key)),
        tls: tls.clone(),
        metrics: metrics.own.clone(),
        watches,
        requeues: (requeues, queues),
    };
    parts.send(&mut tasks);
    let limits = listeners::alerts(metrics.connections.clone());
    let servers =
        Servers { client: client.clone(), settings: settings.clone(), parts: parts.shared(), metrics };
    let policies = controllers::start(parts, &mut tasks).await?;
    alerts::start(&client, &settings, policies, (&tls, limits), &mut tasks).await?;
    tasks.spawn(endless(registration::renew_certificates(client, settings, (names, held), ensured.recheck)));
    servers.start(&mut tasks).await?;
    gates.set("serving", true);
    tracing::info!("leader is ready");
    first_to_end(tasks).await
}

fn certificate_names(settings: &RunSettings) -> CertificateNames {
    let names = CertificateNames::of(&settings.name, &settings.namespace);
    if settings.tls_secret.is_empty() { names } else { names.with_existing(&settings.tls_secret) }
}

async fn open_results(
    client: &Client,
    (settings, configuration): (&RunSettings, &Configuration),
    metrics: &AllMetrics,
    gates: &Gates,
) -> anyhow::Result<Results> {
    let config = ResultsConfig {
        root: settings.results.clone(),
        cluster: settings.cluster.clone(),
        capacity: settings.results_capacity,
        share: settings.results_share,
        quotas: configuration.quotas.clone(),
    };
    let program = std::env::current_exe().context("the path of the operator's program is not known")?;
    let symbols = Symbols::new(&configuration.symbols, &config.root, program);
    let destinations = configuration.destinations.clone();
    let identity = Identity { cluster: config.cluster_component(), uid: cluster_uid(client).await? };
    let build = move |merges: &_| destinations.build(&identity, merges);
    let (of_results, of_destinations) = (metrics.results.clone(), metrics.destinations.clone());
    let results = Results::open_with(config, of_results, (build, of_destinations)).await;
    let results = results.context("the results volume is not usable")?;
    gates.set("results", true);
    Ok(results.named_by(symbols))
}

/// What no other cluster has: the uid of `kube-system`.
async fn cluster_uid(client: &Client) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let only = ListParams::default().fields("metadata.name=kube-system");
    let found = namespaces.list_metadata(&only).await.context("failed to read the namespace kube-system")?;
    Ok(found.items.into_iter().find_map(|namespace| namespace.metadata.uid).unwrap_or_default())
}

/// None of the leader's tasks ends by itself, so the first that does is why the leader stops.
async fn first_to_end(mut tasks: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match tasks.join_next().await {
        Some(Ok(result)) => result.context("a task of the leader ended"),
        Some(Err(error)) => Err(error).context("a task of the leader panicked"),
        None => Ok(()),
    }
}

/// What the leader's two servers are made of.
struct Servers {
    client: Client,
    settings: RunSettings,
    parts: controllers::Shared,
    metrics: AllMetrics,
}

impl Servers {
    /// Starts the gateway and the read API, then names this pod as their address.
    async fn start(self, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
        let Self { client, settings, parts, metrics } = self;
        let controllers::Shared { fleet, results, tickets, tls, pods } = parts;
        let state = GatewayState::new(GatewayConfig {
            fleet: fleet.clone(),
            identify: Arc::new(TokenReviews::new(client.clone(), pods.clone(), settings.node_agent_user())),
            tickets,
            pods: Arc::new(pods),
            nodes: settings.rules.get(&settings.namespace).node_agents.unwrap_or_default(),
            sink: Arc::new(results.clone()),
            metrics: metrics.gateway,
            clock: system_clock(),
        });
        let (files, memory) = (server::raise_files(), server::memory_limit());
        let limits = listeners::gateway(metrics.connections.clone(), files, memory);
        fleet.set_places(listeners::agents(&limits));
        tasks.spawn(listen(settings.gateway_port, tls.clone(), gateway::router(state), None, limits));
        let front_proxy = FrontProxySource::watch(client.clone());
        let (known, client_auth) = (front_proxy.clone(), front_proxy.client_auth().required());
        let data = data_api::router(DataApi {
            front_proxy,
            authorize: Arc::new(AccessReviews::new(client.clone())),
            sessions: Arc::new(SessionsByApi::new(client.clone())),
            results,
            metrics: metrics.data,
        });
        let limits = listeners::read_api(metrics.connections);
        let read_api = listen(settings.data_port, tls.clone(), data, Some(client_auth), limits);
        tasks.spawn(once_known(known.clone(), read_api));
        tasks.spawn(endless(gateway::expire_forever(fleet.clone(), system_clock())));
        tasks.spawn(endless(registration::follow_ca(fleet, tls.clone())));
        if settings.rules.node_agents {
            let (client, settings, tls) = (client.clone(), settings.clone(), tls.clone());
            tasks.spawn(endless(registration::publish_ca(client, settings, tls)));
        }
        endpoint::publish(&client, &settings).await?;
        tasks.spawn(endless(registration::keep_read_api(client.clone(), settings.clone(), tls, known)));
        tasks.spawn(endpoint::keep(client, settings));
        Ok(())
    }
}

async fn endless(work: impl Future<Output = ()>) -> anyhow::Result<()> {
    work.await;
    anyhow::bail!("it ended unexpectedly")
}

/// Serves once it is known whom to believe.
async fn once_known(
    front_proxy: FrontProxySource,
    server: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    front_proxy.loaded().await;
    server.await
}

async fn listen(
    port: u16,
    tls: TlsSource,
    router: axum::Router,
    client_auth: Option<ClientAuth>,
    limits: Limits,
) -> anyhow::Result<()> {
    let listener = server::bind(port)?;
    tls::serve(listener, tls, router, client_auth, limits, std::future::pending())
        .await
        .with_context(|| format!("server on port {port} ended"))
}
