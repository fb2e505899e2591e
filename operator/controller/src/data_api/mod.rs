//! How does a person read a captured profile? Through the Kubernetes API, with their own rights.
//!
//! ```text
//! kubectl get --raw …/profilesessions/NAME/profile
//!    └─► API server: who? may they? ─► front proxy certificate + X-Remote-User ─► here:
//!          front_proxy: is it the API server? who asks? ─► authorize: may they (asked again)?
//!             ─► sessions: which, has it ended, are there samples? ─► results: merged pprof · table
//! ```
//! Every refusal is a Kubernetes `Status` that says what to do. The router is a value: give it to
//! [`crate::tls::serve`] with [`FrontProxySource::client_auth`].

mod authorize;
mod discovery;
mod front_proxy;
mod handlers;
mod metrics;
mod openapi;
pub mod registration;
mod sessions;
mod source;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

pub use authorize::{Access, AccessReviews, Authorize};
pub use front_proxy::{FrontProxy, User};
pub use metrics::DataApiMetrics;
pub use sessions::{Sessions, SessionsByApi};
pub use source::{FrontProxyFeed, FrontProxySource};

use crate::results::Results;
use crate::server::PeerInfo;
use metrics::Resource;
use status::Refusal;

/// What the read API needs.
#[derive(Clone)]
pub struct DataApi {
    /// Who the front proxy is.
    pub front_proxy: FrontProxySource,
    /// Who may read what.
    pub authorize: Arc<dyn Authorize>,
    /// Which sessions there are.
    pub sessions: Arc<dyn Sessions>,
    /// What was captured.
    pub results: Results,
    /// Who counts.
    pub metrics: DataApiMetrics,
}

/// The read API as a router. Requests need [`PeerInfo`] as an extension, as [`crate::tls::serve`] gives it.
pub fn router(api: DataApi) -> Router {
    let session = "/apis/data.fleetprof.dev/v1alpha1/namespaces/{namespace}/profilesessions/{name}";
    documents()
        .route(&format!("{session}/profile"), get(handlers::profile))
        .route(&format!("{session}/top"), get(handlers::top))
        .fallback(handlers::unknown)
        .method_not_allowed_fallback(|| async { Refusal::method_not_allowed() })
        .layer(from_fn_with_state(api.clone(), authenticate))
        .layer(from_fn_with_state(api.clone(), count))
        .with_state(api)
}

/// What answers for the read API while there is no leader: the documents about it, and why there is no more.
///
/// It holds no secret and reads nothing, so it asks nobody who they are.
pub fn understudy() -> Router {
    documents()
        .fallback(|| async {
            Refusal::unavailable(
                "no leader of fleetprof is running, and only it can read profiles: check the Deployment \
                 fleetprof-operator, and try again",
            )
        })
        .method_not_allowed_fallback(|| async { Refusal::method_not_allowed() })
}

/// The documents about the API, the same for everybody.
fn documents<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/apis", get(discovery::groups))
        .route("/apis/{group}", get(discovery::group))
        .route("/apis/{group}/{version}", get(discovery::resources))
        .route("/openapi/v2", get(openapi::v2))
        .route("/openapi/v3", get(openapi::v3_index))
        .route("/openapi/v3/apis/data.fleetprof.dev/v1alpha1", get(openapi::v3))
}

/// Lets nobody in but those whom the API server names.
async fn authenticate(State(api): State<DataApi>, mut request: Request, next: Next) -> Response {
    let certificates =
        request.extensions().get::<PeerInfo>().map(|peer| Arc::clone(&peer.client_certs)).unwrap_or_default();
    match api.front_proxy.current().identify(&certificates, request.headers()) {
        Ok(user) => {
            request.extensions_mut().insert(user);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn count(State(api): State<DataApi>, request: Request, next: Next) -> Response {
    let resource = Resource::of(request.uri().path());
    let response = next.run(request).await;
    api.metrics.count(resource, response.status().as_u16());
    response
}
