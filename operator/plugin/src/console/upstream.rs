//! Where are requests passed on to? To the API server, or in tests to a fake.

use std::pin::Pin;

use axum::body::Body;
use http::Response;

use crate::cluster::{Ask, Cluster};

/// The answer as it comes: a watch's body has no end. An error is a sentence on why there is no answer.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, String>> + Send + 'a>>;

/// Answers requests.
pub(super) trait Upstream: Send + Sync + 'static {
    /// Sends the request, with the caller's credentials.
    fn send<'a>(&'a self, ask: &'a Ask) -> Answer<'a>;
}

impl Upstream for Cluster {
    fn send<'a>(&'a self, ask: &'a Ask) -> Answer<'a> {
        Box::pin(async move {
            let answer = self.pass(ask).await.map_err(|failure| failure.to_string())?;
            Ok(answer.map(Body::new))
        })
    }
}
