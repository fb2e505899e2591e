//! What happens to an object before it is stored? New pods get an agent, new sessions are stamped with who
//! asked.
//!
//! ```text
//! API server ── AdmissionReview ──► router ─► pods     ── fleetprof-core: inject ──► JSON patch
//!                                         └─► sessions ── requestedBy ─────────────► JSON patch
//! API server ◄── watch: policies, namespaces' labels, LimitRanges, quotas ── Index      Secret ◄── watch ── TlsSource
//! API server ◄── watch: events of pods that were refused ── Refusals
//! API server ── discovery of the read API, while nobody leads ──► data_api::standby_router
//! ```
//! Every request is allowed, whatever is wrong with it: an error leaves a pod without an agent, and is
//! counted, logged and sent back as a warning. A pod that is left out has no object yet that an event could
//! speak of; the controllers derive the reason again with the same function (`fleetprof_core::inject::judge`)
//! once the pod is there. One that is left out since others were refused carries the reason as an annotation.

mod args;
mod index;
mod metrics;
mod pods;
mod refusals;
pub mod registration;
mod review;
mod router;
mod sessions;
#[cfg(test)]
pub(crate) mod tests;
mod weight;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use args::WebhookArgs;
pub use index::Index;
pub use metrics::Metrics;
pub use refusals::Refusals;
pub use router::{WebhookState, router};

use crate::client;
use crate::data_api::registration::{ReadService, stand_by};
use crate::data_api::standby_router;
use crate::health::{self, Gates, Health};
use crate::listeners;
use crate::server::{self, ConnectionMetrics};
use crate::signals;
use crate::tls::{self, TlsSource};
use crate::watched::WatchMetrics;
use fleetprof_core::inject::AgentSettings;

/// How long requests are still taken after the order to stop: until the API server has heard that this
/// replica is leaving.
const LEAVE: Duration = Duration::from_secs(5);

/// Runs the webhook until the process is told to stop.
///
/// # Errors
/// When the settings are wrong, there is no way to the API server, or a port is taken.
pub async fn run(args: WebhookArgs) -> anyhow::Result<()> {
    let client = client::connect(None).await?;
    let tls = TlsSource::watch(client.clone(), &args.namespace, &args.tls_secret());
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let index = Index::watch(&client, &WatchMetrics::register(&mut registry));
    tls::register_expiry(&mut registry, tls.clone());
    let gates = Gates::new(&[POLICIES, NAMESPACES, RESOURCES, CERTIFICATE, SERVING]);
    let connections = ConnectionMetrics::register(&mut registry);
    let limits = listeners::health(connections.clone());
    let health = health::serve(
        args.health_port,
        Health { gates: gates.clone(), registry: Arc::new(registry) },
        limits,
    );
    let (leader, instead) =
        (ReadService::leader(&args.namespace, &args.name), ReadService::standby(&args.namespace, &args.name));
    let refusals = Refusals::default();
    tokio::select! {
        served = answer(&args, (&index, &refusals), &tls, (metrics, connections), &gates) => served,
        ended = health => ended,
        () = open_gates(&gates, &index, &tls) => Ok(()),
        () = refusals.follow(&client) => Ok(()),
        () = stand_by(client.clone(), args.lease(), leader, instead) => Ok(()),
    }
}

/// Serves the API server from the first certificate until the order to stop.
async fn answer(
    args: &WebhookArgs,
    (index, refusals): (&Index, &Refusals),
    tls: &TlsSource,
    (metrics, connections): (Metrics, ConnectionMetrics),
    gates: &Gates,
) -> anyhow::Result<()> {
    let (agent, rules) = (args.agent(), args.rules());
    let listeners = (server::bind(args.port)?, server::bind(args.data_port)?);
    let stopped = signals::stopped();
    tokio::pin!(stopped);
    // No pod may get an agent that trusts nobody.
    let first = tokio::select! {
        first = tls.loaded() => first,
        () = &mut stopped => return Ok(()),
    };
    let agent =
        follow_bundle(AgentSettings { ca_bundle: first.ca_bundle().to_string(), ..agent }, tls.clone());
    let state = WebhookState {
        index: index.clone(),
        refusals: refusals.clone(),
        agent,
        rules: rules.into(),
        own_user: args.own_user().into(),
        metrics,
    };
    gates.set(SERVING, true);
    let leaving = async {
        stopped.await;
        gates.set(SERVING, false);
        tokio::time::sleep(LEAVE).await;
    }
    .shared();
    serve(listeners, tls, router(state), connections, leaving).await
}

/// Serves admission, and the read API as its standby, until `leaving` is over.
async fn serve(
    (listener, data_listener): (TcpListener, TcpListener),
    tls: &TlsSource,
    admission: axum::Router,
    connections: ConnectionMetrics,
    leaving: impl Future<Output = ()> + Clone + Send,
) -> anyhow::Result<()> {
    let limits = listeners::webhook(connections.clone());
    let webhook = tls::serve(listener, tls.clone(), admission, None, limits, leaving.clone());
    let limits = listeners::read_api_standby(connections);
    let data = tls::serve(data_listener, tls.clone(), standby_router(), None, limits, leaving);
    tokio::try_join!(webhook, data).context("the webhook's server ended")?;
    Ok(())
}

const POLICIES: &str = "policies";
const NAMESPACES: &str = "namespaces";
const RESOURCES: &str = "resources";
const CERTIFICATE: &str = "certificate";
const SERVING: &str = "serving";

/// Opens each gate once what it stands for is there; never ends.
async fn open_gates(gates: &Gates, index: &Index, tls: &TlsSource) {
    let policies = async {
        index.policies_synced().await;
        gates.set(POLICIES, true);
    };
    let namespaces = async {
        index.namespaces_synced().await;
        gates.set(NAMESPACES, true);
    };
    let resources = async {
        index.resources_synced().await;
        gates.set(RESOURCES, true);
    };
    let certificate = async {
        tls.loaded().await;
        gates.set(CERTIFICATE, true);
    };
    tokio::join!(policies, namespaces, resources, certificate);
    tracing::info!("the webhook is ready");
    std::future::pending().await
}

/// The agent's settings with the CA bundle that holds now.
fn follow_bundle(agent: AgentSettings, mut tls: TlsSource) -> watch::Receiver<Arc<AgentSettings>> {
    let (sender, receiver) = watch::channel(Arc::new(agent));
    tokio::spawn(async move {
        loop {
            if let Some(material) = tls.take() {
                sender.send_modify(|agent| {
                    *agent = Arc::new(AgentSettings {
                        ca_bundle: material.ca_bundle().to_string(),
                        ..(**agent).clone()
                    })
                });
            }
            tokio::select! {
                () = tls.changed() => {}
                () = sender.closed() => return,
            }
        }
    });
    receiver
}
