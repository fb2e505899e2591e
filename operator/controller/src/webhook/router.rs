//! Which path answers what? The router is a value; tests call it without a socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use fleetprof_core::inject::{AgentSettings, ClusterRules};
use fleetprof_core::text::cut;
use fleetprof_crds::Reason;
use serde::Deserialize;
use tokio::sync::watch;

use super::index::Index;
use super::metrics::{Answer, Metrics};
use super::refusals::Refusals;
use super::review::{MAX_QUOTED, Reply, Request, Review, is_uid};
use super::weight::weight;
use super::{pods, sessions};
use crate::server::{Bodies, BodyError, HeldBody, Holder, Pace, PeerInfo};

/// Most bytes of a request: an object of the API server's has at most 3 MiB, and comes once when it is created.
const MAX_REQUEST: usize = 4 << 20;
/// Bytes of requests of one address, and of all, at one time, with what is made of them. API servers send a few
/// KiB a pod.
const MEMORY: (usize, usize) = (16 << 20, 24 << 20);
/// Bytes of an answer that its connection has room for. A larger one takes memory until the caller has taken it.
const SMALL_ANSWER: usize = 8 << 10;
/// The API server waits 3 s for an answer, and sends what it has at once.
const PACE: Pace = Pace { grace: Duration::from_secs(1), bytes_per_second: 2 << 20 };

/// What the handlers look at.
#[derive(Clone)]
pub struct WebhookState {
    /// Policies and namespaces.
    pub index: Index,
    /// Workloads whose pods are refused with an agent.
    pub refusals: Refusals,
    /// How agents are set up now.
    pub agent: watch::Receiver<Arc<AgentSettings>>,
    /// What holds in the whole cluster.
    pub rules: Arc<ClusterRules>,
    /// User name of the operator itself.
    pub own_user: Arc<str>,
    /// What is counted.
    pub metrics: Metrics,
}

/// The state with the memory for requests.
#[derive(Clone)]
struct Bounded {
    state: WebhookState,
    bodies: Bodies,
}

/// The router with `POST /mutate/pods` and `POST /mutate/profilesessions`. Its answers are `AdmissionReview`s
/// that allow the request.
pub fn router(state: WebhookState) -> axum::Router {
    axum::Router::new()
        .route("/mutate/pods", post(mutate_pod))
        .route("/mutate/profilesessions", post(mutate_session))
        .with_state(Bounded { state, bodies: Bodies::new(MEMORY.0, MEMORY.1) })
}

type Peer = Option<Extension<PeerInfo>>;

async fn mutate_pod(State(bounded): State<Bounded>, peer: Peer, body: Body) -> Response {
    bounded.answer("pods", peer, body, pods::review).await
}

async fn mutate_session(State(bounded): State<Bounded>, peer: Peer, body: Body) -> Response {
    bounded.answer("profilesessions", peer, body, sessions::review).await
}

type Handler = for<'a> fn(&WebhookState, &'a Request<'_>) -> (Reply<'a>, Answer);

impl Bounded {
    async fn answer(&self, webhook: &'static str, peer: Peer, body: Body, handler: Handler) -> Response {
        let began = Instant::now();
        let peer = peer.map(|Extension(peer)| peer);
        let (response, answer) = match self.read(peer.as_ref(), body).await {
            Ok(body) => {
                let (json, answer) = review(&self.state, webhook, peer.as_ref(), &body.bytes, handler);
                drop(body);
                (self.hand_on(peer.as_ref(), json), answer)
            }
            Err(error) => {
                tracing::warn!(webhook, ?error, "failed to read request");
                (refused(error), malformed(webhook))
            }
        };
        self.state.metrics.answered(answer, began.elapsed());
        response
    }

    /// The answer, with its memory until it was taken: nobody has to take what they asked for.
    fn hand_on(&self, peer: Option<&PeerInfo>, json: Vec<u8>) -> Response {
        let head = [(header::CONTENT_TYPE, "application/json")];
        if json.len() <= SMALL_ANSWER {
            return (head, json).into_response();
        }
        let proof = peer.map(|peer| peer.proof.clone()).unwrap_or_default();
        match self.bodies.answer(&holder(peer), json.len(), &proof) {
            Ok(held) => (head, held.body(json.into())).into_response(),
            Err(error) => refused(BodyError::NoRoom(error)),
        }
    }

    /// The request, with the memory that it and what is made of it take.
    async fn read(&self, peer: Option<&PeerInfo>, body: Body) -> Result<HeldBody, BodyError> {
        let mut body = self.bodies.read(&holder(peer), body, MAX_REQUEST, PACE).await?;
        body.grow(weight(&body.bytes)).await.map_err(BodyError::NoRoom)?;
        Ok(body)
    }
}

fn holder(peer: Option<&PeerInfo>) -> Holder {
    Holder::of(peer.map_or([0; 4].into(), |peer| peer.addr.ip()))
}

fn refused(error: BodyError) -> Response {
    let (code, text) = match error {
        BodyError::TooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("the request exceeds {MAX_REQUEST} bytes\n"))
        }
        BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "timeout while reading the request\n".to_owned()),
        BodyError::Incomplete => (StatusCode::BAD_REQUEST, "incomplete request\n".to_owned()),
        BodyError::NoRoom(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the webhook has reached its limit of memory for requests; retry later\n".to_owned(),
        ),
    };
    (code, text).into_response()
}

fn review(
    state: &WebhookState,
    webhook: &'static str,
    peer: Option<&PeerInfo>,
    body: &[u8],
    handler: Handler,
) -> (Vec<u8>, Answer) {
    let request = match serde_json::from_slice::<Review<'_>>(body) {
        Ok(Review { request }) => request,
        Err(error) => {
            let error = cut(&error.to_string(), MAX_QUOTED);
            tracing::warn!(webhook, error, "invalid AdmissionReview");
            let warning = format!("invalid AdmissionReview: {error}");
            return (write(&Reply::warned(&uid(body), &warning)), malformed(webhook));
        }
    };
    if !request.is_possible() {
        return (
            write(&Reply::warned("", "the request has a uid or namespace that is too long")),
            malformed(webhook),
        );
    }
    if request.operation != "CREATE" {
        let warning = format!(
            "unsupported operation {:?} (only CREATE); the MutatingWebhookConfiguration is stale",
            cut(&request.operation, MAX_QUOTED)
        );
        return (write(&Reply::warned(&request.uid, &warning)), malformed(webhook));
    }
    // Others could send it too, so it only decides which caller is disconnected first.
    peer.inspect(|peer| peer.proof.is_expected());
    let (reply, answer) = handler(state, &request);
    (write(&reply), answer)
}

fn malformed(webhook: &'static str) -> Answer {
    Answer { webhook, outcome: "malformed", reason: Reason::MalformedPod.as_str() }
}

/// The uid of a request of which nothing else can be read; the API server takes no answer without it.
fn uid(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Lenient {
        request: LenientRequest,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct LenientRequest {
        uid: String,
    }
    let lenient: Lenient = serde_json::from_slice(body).unwrap_or_default();
    Some(lenient.request.uid).filter(|uid| is_uid(uid)).unwrap_or_default()
}

/// An answer is made of strings and JSON values, so it can always be written; the API server admits what is answered
/// with nothing.
fn write(reply: &Reply<'_>) -> Vec<u8> {
    serde_json::to_vec(reply).unwrap_or_default()
}
