//! Which path answers what? The router is a value; tests call it without a socket.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use fleetprof_core::inject::{AgentSettings, ClusterRules};
use fleetprof_crds::Reason;
use tokio::sync::watch;

use super::index::Index;
use super::metrics::{Answer, Metrics};
use super::review::{Reply, Request, Review};
use super::{pods, sessions};

/// Most bytes of a request: an object of the API server has at most 3 MiB, and may come twice.
const MAX_REQUEST: usize = 8 * 1024 * 1024;

/// What the handlers look at.
#[derive(Clone)]
pub struct WebhookState {
    /// Policies and namespaces.
    pub index: Index,
    /// How agents are set up now.
    pub agent: watch::Receiver<Arc<AgentSettings>>,
    /// What holds in the whole cluster.
    pub rules: Arc<ClusterRules>,
    /// User name of the operator itself.
    pub own_user: Arc<str>,
    /// What is counted.
    pub metrics: Metrics,
}

/// The router with `POST /mutate/pods` and `POST /mutate/profilesessions`. Its answers are `AdmissionReview`s
/// that allow the request.
pub fn router(state: WebhookState) -> axum::Router {
    axum::Router::new()
        .route("/mutate/pods", post(mutate_pod))
        .route("/mutate/profilesessions", post(mutate_session))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(state)
}

async fn mutate_pod(State(state): State<WebhookState>, body: Result<Bytes, BytesRejection>) -> Response {
    answer(&state, "pods", body, pods::review)
}

async fn mutate_session(State(state): State<WebhookState>, body: Result<Bytes, BytesRejection>) -> Response {
    answer(&state, "profilesessions", body, sessions::review)
}

type Handler = for<'a> fn(&WebhookState, &'a Request<'_>) -> (Reply<'a>, Answer);

fn answer(
    state: &WebhookState,
    webhook: &'static str,
    body: Result<Bytes, BytesRejection>,
    handler: Handler,
) -> Response {
    let began = Instant::now();
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            tracing::warn!(webhook, error = %rejection, "failed to read request");
            state.metrics.answered(malformed(webhook), began.elapsed());
            return rejection.into_response();
        }
    };
    let (response, answer) = match serde_json::from_slice::<Review<'_>>(&body) {
        Ok(Review { request }) if request.operation == "CREATE" => {
            let (reply, answer) = handler(state, &request);
            (write(&reply), answer)
        }
        Ok(Review { request }) => {
            let warning = format!(
                "unsupported operation {:?} (only CREATE); the MutatingWebhookConfiguration is stale",
                request.operation
            );
            (write(&Reply::warned(&request.uid, &warning)), malformed(webhook))
        }
        Err(error) => {
            tracing::warn!(webhook, %error, "invalid AdmissionReview");
            (
                write(&Reply::warned(&uid(&body), &format!("invalid AdmissionReview: {error}"))),
                malformed(webhook),
            )
        }
    };
    state.metrics.answered(answer, began.elapsed());
    response
}

fn malformed(webhook: &'static str) -> Answer {
    Answer { webhook, outcome: "malformed", reason: Reason::MalformedPod.as_str() }
}

/// The uid of a request of which nothing else can be read; the API server takes no answer without it.
fn uid(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    value["request"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn write(reply: &Reply<'_>) -> Response {
    match serde_json::to_vec(reply) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to serialize the response: {error}\n"))
                .into_response()
        }
    }
}
