//! What do the tests stand on?

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use fleetprof_core::agent::{AgentId, PodAgent};
use fleetprof_core::capture::{CaptureScope, Weight};
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{
    AgentMode, CaptureReport, CaptureState, ContainerReport, DIGEST_HEADER, ErrorReply, Heartbeat, Order,
    PROTOCOL, SliceId,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::gateway::{
    Fleet, GatewayConfig, GatewayMetrics, GatewayState, Identify, IdentifyError, KnownPods, PodId,
    ServedNamespaces, SinkError, SliceSink, Stored, router,
};
use crate::server::PeerInfo;
use crate::sha256::sha256;
use crate::tickets::Tickets;

pub(super) const START: i64 = 1_800_000_000;
pub(super) const HOME: &str = "10.1.2.3:40000";

/// A gateway under test.
pub(super) struct Rig {
    pub(super) fleet: Fleet,
    pub(super) tickets: Arc<Tickets>,
    pub(super) sink: Arc<MemorySink>,
    pub(super) identify: Arc<Table>,
    pub(super) homes: Arc<Homes>,
    pub(super) registry: Registry,
    router: Router,
    seconds: Arc<AtomicI64>,
}

impl Rig {
    /// A synced gateway that knows the token `token-POD` of the pods `a` and `b`.
    pub(super) fn new() -> Self {
        let rig = Self::unsynced();
        rig.fleet.set_synced(true, rig.now());
        rig
    }

    pub(super) fn unsynced() -> Self {
        let seconds = Arc::new(AtomicI64::new(START));
        let ticking = seconds.clone();
        let (fleet, mut registry) = (Fleet::new(), Registry::default());
        let tickets = Arc::new(Tickets::new(&[9; 32]));
        let (sink, identify) = (Arc::new(MemorySink::default()), Arc::new(Table::default()));
        let homes = Arc::new(Homes::default());
        let router = router(GatewayState::new(GatewayConfig {
            fleet: fleet.clone(),
            identify: identify.clone(),
            tickets: tickets.clone(),
            pods: homes.clone(),
            nodes: ServedNamespaces::new(Vec::new(), vec!["kube-system".into()]),
            sink: sink.clone(),
            metrics: GatewayMetrics::register(&mut registry, &fleet),
            clock: Arc::new(move || Timestamp::from_second(ticking.load(Ordering::Relaxed)).unwrap()),
        }));
        Self { fleet, tickets, sink, identify, homes, registry, router, seconds }
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.seconds.load(Ordering::Relaxed)).unwrap()
    }

    pub(super) fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(super) fn open(&self, capture: &str, pod: &str) {
        self.fleet.open(scope(capture, pod), order(capture));
    }

    pub(super) fn open_of(&self, capture: &str, pod: &str, profiles: &[ProfileKind]) {
        let scope = CaptureScope { profiles: profiles.to_vec(), ..scope(capture, pod) };
        self.fleet.open(scope, order(capture));
    }

    /// A ticket for the agent that is attached to a container of a pod.
    pub(super) fn ticket(&self, pod: &str, container: &str) -> String {
        let agent = PodAgent { pod: self::pod(pod), container: Some(container.into()) };
        self.tickets.mint(&agent, &["10.1.2.3".parse().unwrap()], self.now()).unwrap()
    }

    /// The credential of that agent.
    pub(super) fn credential(&self, pod: &str, container: &str) -> String {
        let ticket = self.ticket(pod, container);
        self.tickets.redeem(&ticket, "10.1.2.3".parse().unwrap(), self.now()).unwrap().credential
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(super) async fn heartbeat(&self, pod: &str, beat: &Heartbeat) -> Answer {
        self.send(post("/v1/heartbeat", Some(&token(pod)), serde_json::to_vec(beat).unwrap())).await
    }

    pub(super) async fn poll(&self, pod: &str, query: &str) -> Answer {
        self.send(get(&format!("/v1/orders{query}"), &token(pod))).await
    }

    pub(super) async fn upload(&self, pod: &str, path: &str, body: &[u8]) -> Answer {
        self.send(put(path, pod, &hex(body), body.to_vec())).await
    }

    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// An answer of the gateway.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(super) fn accepted<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, StatusCode::OK, "{:?}", self.body);
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Refused with this status and reason and a sentence; 429 and 503 say when to come back.
    #[track_caller]
    pub(super) fn refused(&self, status: u16, reason: Reason) -> String {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        let reply: ErrorReply = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(reply.reason, reason, "{}", reply.message);
        assert!(
            reply.message.ends_with('.') || reply.message.contains('?') || reply.message.contains(';'),
            "{reply:?}"
        );
        let again = self
            .headers
            .get(header::RETRY_AFTER)
            .map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(again.is_some(), matches!(status, 429 | 503), "Retry-After: {again:?}");
        assert!(again.is_none_or(|seconds| (1..=120).contains(&seconds)));
        reply.message
    }
}

/// The namespace of `NAMESPACE.POD`; of other pods `shop`.
fn namespace(pod: &str) -> &str {
    pod.split_once('.').map_or("shop", |(namespace, _)| namespace)
}

/// The pod of a token.
pub(super) fn pod(name: &str) -> PodId {
    PodId { namespace: namespace(name).into(), name: format!("pod-{name}"), uid: uid(name) }
}

/// The agent of a pod; of the node `n1` where the name is `node-n1`.
pub(super) fn agent(name: &str) -> AgentId {
    match name.strip_prefix("node-") {
        Some(node) => AgentId::Node { name: node.into(), pod: pod(name) },
        None => AgentId::Pod(pod(name).into()),
    }
}

pub(super) fn uid(pod: &str) -> String {
    format!("uid-{pod}")
}

pub(super) fn token(pod: &str) -> String {
    format!("token-{pod}")
}

pub(super) fn from(peer: &str) -> PeerInfo {
    PeerInfo::new(peer.parse::<SocketAddr>().unwrap(), [])
}

fn request(method: &str, path: &str, token: Option<&str>, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).extension(from(HOME));
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(body.into()).unwrap()
}

pub(super) fn get(path: &str, token: &str) -> Request<Body> {
    request("GET", path, Some(token), Body::empty())
}

pub(super) fn post(path: &str, token: Option<&str>, body: impl Into<Body>) -> Request<Body> {
    request("POST", path, token, body)
}

pub(super) fn put(path: &str, pod: &str, digest: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = request("PUT", path, Some(&token(pod)), body);
    request.headers_mut().insert(DIGEST_HEADER, digest.parse().unwrap());
    request
}

pub(super) fn hex(body: &[u8]) -> String {
    sha256(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn scope(capture: &str, pod: &str) -> CaptureScope {
    CaptureScope {
        capture: capture.into(),
        session_uid: "session-uid".into(),
        session_namespace: namespace(pod).into(),
        session_name: "session".into(),
        pod_uid: uid(pod),
        pod_name: format!("pod-{pod}"),
        node: "node-1".into(),
        workload: "Deployment/orders".into(),
        container: "app".into(),
        container_id: "c0ffee".into(),
        profiles: vec![ProfileKind::Cpu, ProfileKind::Wall],
        destination: "default".into(),
        labels: BTreeMap::new(),
        weight: Weight::default(),
        max_bytes: u64::MAX,
        started: Timestamp::from_second(START).unwrap(),
    }
}

pub(super) fn order(capture: &str) -> Order {
    Order {
        capture: capture.into(),
        session: "session-uid".into(),
        protocol: PROTOCOL,
        container_id: "c0ffee".into(),
        profiles: vec![ProfileKind::Cpu],
        frequency_hz: 99,
        duration_ms: 120_000,
        slice_ms: 10_000,
        start_before: START + 60,
        start_within_ms: None,
        cancel: false,
    }
}

pub(super) fn beat(captures: Vec<CaptureReport>) -> Heartbeat {
    Heartbeat {
        version: "0.1.0".into(),
        protocol: PROTOCOL,
        mode: AgentMode::Sidecar,
        instance: "instance-1".into(),
        containers: vec![ContainerReport {
            id: "c0ffee".into(),
            runtime: "Python 3.11".into(),
            cpu_percent: Some(20),
            memory_percent: Some(30),
            cpu_of_node: false,
            signals: None,
            memory_of_node: false,
            problem: None,
            offers: Vec::new(),
        }],
        captures,
        sent_at_ms: None,
        leaving: false,
        number: None,
    }
}

pub(super) fn report(capture: &str, state: CaptureState) -> CaptureReport {
    CaptureReport { samples: 10, slices: 1, started_at: Some(START), ..CaptureReport::new(capture, state) }
}

fn without_claims(token: &str) -> &str {
    let claims = token.strip_suffix(".sig").and_then(|signed| signed.rsplit_once('.'));
    claims.map_or(token, |(name, _)| name)
}

/// Knows `token-POD`, and `token-POD.CLAIMS.sig`; `gone` makes every pod gone, `outage` makes it unavailable, and `slow` makes it think for 200 ms.
#[derive(Default)]
pub(super) struct Table {
    pub(super) asked: AtomicUsize,
    pub(super) slow: std::sync::atomic::AtomicBool,
    pub(super) outage: std::sync::atomic::AtomicBool,
    pub(super) gone: std::sync::atomic::AtomicBool,
}

impl Identify for Table {
    fn identify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<AgentId, IdentifyError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = match token.strip_prefix("token-") {
            _ if self.outage.load(Ordering::Relaxed) => {
                Err(IdentifyError::Unavailable("The API server is away.".into()))
            }
            Some(name) => Ok(agent(without_claims(name))),
            None => Err(IdentifyError::Refused("Nobody knows this token.".into())),
        };
        let slow = self.slow.load(Ordering::Relaxed);
        async move {
            if slow {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            answer
        }
        .boxed()
    }

    fn is_there(&self, _: &PodId) -> bool {
        !self.gone.load(Ordering::Relaxed)
    }
}

/// The addresses of the pods that are there, by uid, and the pods of nodes. Container `app` has the id `c0ffee`, and
/// `NAME` has `id-NAME`.
#[derive(Default)]
pub(super) struct Homes {
    pub(super) addresses: Mutex<HashMap<String, IpAddr>>,
    pub(super) nodes: Mutex<HashMap<String, Vec<Arc<PodFacts>>>>,
}

impl KnownPods for Homes {
    fn on_node(&self, node: &str) -> Vec<Arc<PodFacts>> {
        self.nodes.lock().unwrap().get(node).cloned().unwrap_or_default()
    }

    fn has_address(&self, pod: &PodId, address: IpAddr) -> bool {
        self.addresses.lock().unwrap().get(&pod.uid) == Some(&address)
    }

    fn container_id(&self, _: &PodId, container: &str) -> Option<String> {
        Some(if container == "app" { "c0ffee".to_owned() } else { format!("id-{container}") })
    }
}

/// Keeps slices in memory; fails when told to, waits while its gate is shut.
pub(super) struct MemorySink {
    pub(super) slices: Mutex<HashMap<(String, SliceId), Bytes>>,
    pub(super) fails: Mutex<Option<SinkError>>,
    pub(super) gate: Semaphore,
}

impl Default for MemorySink {
    fn default() -> Self {
        Self {
            slices: Mutex::default(),
            fails: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }
}

impl SliceSink for MemorySink {
    fn put_slice<'a>(
        &'a self,
        scope: &'a CaptureScope,
        slice: SliceId,
        body: Bytes,
        sha256: [u8; 32],
    ) -> BoxFuture<'a, Result<Stored, SinkError>> {
        async move {
            let _open = self.gate.acquire().await.unwrap();
            assert_eq!(crate::sha256::sha256(&body), sha256, "the gateway checks the digest");
            if let Some(error) = self.fails.lock().unwrap().clone() {
                return Err(error);
            }
            let mut slices = self.slices.lock().unwrap();
            match slices.get(&(scope.capture.clone(), slice)) {
                Some(stored) if *stored == body => Ok(Stored { duplicate: true }),
                Some(_) => Err(SinkError::Conflict),
                None => {
                    slices.insert((scope.capture.clone(), slice), body);
                    Ok(Stored { duplicate: false })
                }
            }
        }
        .boxed()
    }
}
