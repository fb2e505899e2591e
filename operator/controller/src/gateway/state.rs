//! What do the endpoints share?

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use fleetprof_core::agent::{AgentId, ServedNamespaces};
use fleetprof_core::pod::PodFacts;
use http::request::Parts;
use http::{Extensions, HeaderMap, header};
use jiff::Timestamp;

use super::auth::{Authenticator, Identify};
use super::limits::Limits;
use super::refuse::Refusal;
use super::{Fleet, GatewayMetrics, PodId, SliceSink};
use crate::server::PeerInfo;
use crate::tickets::Tickets;
use crate::watched::Pods;

/// Tells the time; tests bring their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The system's clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(Timestamp::now)
}

/// Tells what the API server says of pods.
pub trait KnownPods: Send + Sync + 'static {
    /// Whether the pod is there, by its uid, and has this address.
    fn has_address(&self, pod: &PodId, address: IpAddr) -> bool;

    /// The runtime's id of a container of the pod, without its prefix, if the pod is there and the
    /// container has started.
    fn container_id(&self, pod: &PodId, container: &str) -> Option<String>;

    /// The pods that are bound to a node.
    fn on_node(&self, node: &str) -> Vec<Arc<PodFacts>>;
}

impl KnownPods for Pods {
    fn has_address(&self, pod: &PodId, address: IpAddr) -> bool {
        self.get(&pod.namespace, &pod.uid)
            .is_some_and(|facts| facts.name == pod.name && facts.has_address(address))
    }

    fn container_id(&self, pod: &PodId, container: &str) -> Option<String> {
        let facts = self.get(&pod.namespace, &pod.uid)?;
        facts.container(container).map(|container| container.id.clone()).filter(|id| !id.is_empty())
    }

    fn on_node(&self, node: &str) -> Vec<Arc<PodFacts>> {
        self.node(node)
    }
}

/// What a gateway is made of.
pub struct GatewayConfig {
    /// Agents, captures and orders.
    pub fleet: Fleet,
    /// Tells pods by their tokens; [`super::TokenReviews`] in a cluster.
    pub identify: Arc<dyn Identify>,
    /// Makes and checks the credentials of attached agents.
    pub tickets: Arc<Tickets>,
    /// Tells whether credentials are renewed, and what an attached agent speaks for.
    pub pods: Arc<dyn KnownPods>,
    /// Which namespaces the agents of nodes serve.
    pub nodes: ServedNamespaces,
    /// Takes the slices.
    pub sink: Arc<dyn SliceSink>,
    /// Counts.
    pub metrics: GatewayMetrics,
    /// Tells the time.
    pub clock: Clock,
}

/// The shared state of the endpoints; a cheap handle.
#[derive(Clone)]
pub struct GatewayState(Arc<Shared>);

/// The parts behind a [`GatewayState`]; not to be named outside of the gateway.
pub struct Shared {
    pub(super) fleet: Fleet,
    pub(super) auth: Authenticator,
    pub(super) tickets: Arc<Tickets>,
    pub(super) pods: Arc<dyn KnownPods>,
    pub(super) nodes: ServedNamespaces,
    pub(super) sink: Arc<dyn SliceSink>,
    pub(super) metrics: GatewayMetrics,
    pub(super) limits: Limits,
    clock: Clock,
}

impl GatewayState {
    /// A gateway of these parts, with empty caches and limits.
    #[must_use]
    pub fn new(config: GatewayConfig) -> Self {
        let GatewayConfig { fleet, identify, tickets, pods, nodes, sink, metrics, clock } = config;
        let (auth, limits) = (Authenticator::new(identify, tickets.clone()), Limits::default());
        Self(Arc::new(Shared { fleet, auth, tickets, pods, nodes, sink, metrics, limits, clock }))
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.0.clock)()
    }
}

impl std::ops::Deref for GatewayState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The agent that calls: authenticated, and within its rate.
pub(super) struct Caller(pub(super) AgentId);

impl FromRequestParts<GatewayState> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &GatewayState) -> Result<Self, Refusal> {
        let now = state.now();
        let token = bearer(&parts.headers)?;
        let agent = state.auth.agent(token, address(&parts.extensions), now).await?;
        peer(&parts.extensions).map_or(Ok(()), |peer| peer.proof.is_pod(&agent.own_pod().uid))?;
        state.limits.may_ask(&agent, now).map_err(Refusal::too_many)?;
        Ok(Self(agent))
    }
}

/// The address that the request came from, if the server tells.
pub(super) fn address(extensions: &Extensions) -> Option<IpAddr> {
    peer(extensions).map(|peer| peer.addr.ip().to_canonical())
}

/// The other end of the connection, if the server tells.
pub(super) fn peer(extensions: &Extensions) -> Option<&PeerInfo> {
    extensions.get::<PeerInfo>()
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token =
        value.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    match token.map(|(_, token)| token.trim()) {
        Some(token) if !token.is_empty() => Ok(token),
        _ => Err(Refusal::unauthenticated("The request has no Authorization header with a bearer token.")),
    }
}
