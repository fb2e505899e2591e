//! How does a person read a captured profile? Through the Kubernetes API, with their own rights.
//!
//! ```text
//! kubectl get --raw …/profilesessions/NAME/VIEW
//!    └─► API server: authenticates, authorizes ─► front proxy certificate + X-Remote-User ─► here:
//!          front_proxy: is it the API server, and for whom? ─► authorize: may they (asked again)?
//!             ─► sessions: has it ended with samples? ─► results: merged profile ─► views: what is made of it
//! ```
//! What can be read is a table, `views`. Beside it, `symbols` takes files with symbols from those who may put names
//! into profiles. Every refusal is a Kubernetes `Status` that says what to do. The
//! router is a value: give it to [`crate::tls::serve`] with [`FrontProxySource::client_auth`].

mod answers;
mod authorize;
mod bounded;
mod discovery;
mod front_proxy;
mod handlers;
mod metrics;
mod openapi;
mod packed;
mod page;
mod params;
pub mod registration;
mod render;
mod sessions;
mod source;
mod status;
mod symbols;
#[cfg(test)]
mod tests;
mod verdict;
mod views;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};

pub use authorize::{Access, AccessReviews, Authorize};
pub use front_proxy::{FrontProxy, User};
pub use metrics::DataApiMetrics;
pub use sessions::{Picks, Rollouts, Sessions, SessionsByApi};
pub use source::{FrontProxyFeed, FrontProxySource};

use fleetprof_crds::names::{DATA_GROUP, VERSION};

use answers::Answers;

use crate::results::Results;
use crate::server::PeerInfo;
use status::Refusal;
use views::VIEWS;

/// What the read API needs.
#[derive(Clone)]
pub struct DataApi {
    /// Recognises the API server.
    pub front_proxy: FrontProxySource,
    /// Says who may read what.
    pub authorize: Arc<dyn Authorize>,
    /// Finds sessions.
    pub sessions: Arc<dyn Sessions>,
    /// Holds what was captured.
    pub results: Results,
    /// Counts requests.
    pub metrics: DataApiMetrics,
}

/// The read API as a router. Requests need [`PeerInfo`] as an extension, as [`crate::tls::serve`] gives it.
pub fn router(api: DataApi) -> Router {
    let session = format!("/apis/{DATA_GROUP}/{VERSION}/namespaces/{{namespace}}/profilesessions/{{name}}");
    let with_views = VIEWS.iter().copied().fold(documents(), |router, view| {
        let answer = move |api, path, caller, query| handlers::read(view, api, path, caller, query);
        router.route(&format!("{session}/{}", view.name), get(answer))
    });
    with_views
        .merge(symbols::routes())
        .fallback(handlers::unknown)
        .method_not_allowed_fallback(|| async { Refusal::method_not_allowed() })
        .layer(from_fn_with_state(api.clone(), authenticate))
        .layer(Extension(Answers::default()))
        .layer(Extension(symbols::bodies()))
        .layer(from_fn_with_state(api.clone(), count))
        .with_state(api)
}

/// What answers in place of the read API while there is no leader: the documents about it, and 503 for the
/// rest.
///
/// It holds no secret and reads nothing, so it does not authenticate callers.
pub fn standby_router() -> Router {
    documents()
        .fallback(|| async {
            Refusal::unavailable(
                "no leader of fleetprof is running, and only the leader can read profiles: check the \
                 Deployment fleetprof-operator, and try again",
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

/// Refuses requests that do not come from the API server on behalf of a user.
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
    let resource = metrics::resource(request.uri().path());
    let response = next.run(request).await;
    api.metrics.count(resource, response.status().as_u16());
    response
}
