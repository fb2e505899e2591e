//! Which paths does the gateway serve?

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use fleetprof_crds::Reason;
use http::StatusCode;

use super::metrics::Endpoint;
use super::refuse::Refusal;
use super::state::GatewayState;
use super::{enroll, heartbeat, orders, slices};

/// The gateway's router. The server has to insert [`crate::server::PeerInfo`] into each request.
pub fn router(state: GatewayState) -> Router {
    Router::new()
        .route("/v1/enroll", post(enroll::enroll))
        .route("/v1/heartbeat", post(heartbeat::heartbeat))
        .route("/v1/heartbeat/changes", post(heartbeat::changes))
        .route("/v1/orders", get(orders::orders))
        .route("/v1/captures/{capture}/{kind}/slices/{seq}", put(slices::put))
        .route("/v1/captures/{capture}/slices/{seq}", put(slices::put_cpu))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(state.clone(), count))
        .with_state(state)
}

async fn unknown_path() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, Reason::MalformedRequest, "Path not found.")
}

async fn wrong_method() -> Refusal {
    let message = "Method not allowed.";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, Reason::MalformedRequest, message)
}

async fn count(State(state): State<GatewayState>, request: Request, next: Next) -> Response {
    let endpoint = Endpoint::of(request.uri().path());
    let response = next.run(request).await;
    state.metrics.request(endpoint, response.status());
    response
}
