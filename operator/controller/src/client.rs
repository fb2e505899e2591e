//! How does the operator call the API server? Every request has its time, and a leader's requests are sent
//! only while it leads.
//!
//! ```text
//! decide on a version of the object ─► does this replica lead? ─► request with that version ─► 409, or written
//! ```
//! In this order a leader that was frozen anywhere in between does not write over its successor: before the
//! check it leads, so the version is from before anything that a successor wrote; after it the version is
//! refused once a successor has written.

mod lists;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use http::Request;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use lists::Lists;
pub(crate) use lists::kept;

/// Longest wait for the head of an answer: the API server itself gives up after 60 s.
const ANSWER: Duration = Duration::from_secs(65);
/// Longest silence of a connection: watches end after 290 s, and have a bookmark each minute.
const SILENCE: Duration = Duration::from_secs(300);

/// Until when this replica leads; a cheap handle. One that never led leads until nothing.
#[derive(Clone, Debug)]
pub struct Fence {
    started: Instant,
    /// Nanoseconds since `started`.
    until: Arc<AtomicU64>,
}

impl Default for Fence {
    fn default() -> Self {
        Self { started: Instant::now(), until: Arc::default() }
    }
}

impl Fence {
    /// The moment that durations are counted from.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// This replica leads until so long after the start.
    pub(crate) fn lead_until(&self, until: Option<Duration>) {
        let nanos = until.map_or(0, |until| u64::try_from(until.as_nanos()).unwrap_or(u64::MAX));
        self.until.store(nanos, Ordering::SeqCst);
    }

    fn leads(&self) -> bool {
        self.started.elapsed().as_nanos() < u128::from(self.until.load(Ordering::SeqCst))
    }
}

/// A client of the API server that the environment names.
///
/// # Errors
/// When it names none, or its settings are not usable.
pub async fn connect(fence: Option<&Fence>) -> anyhow::Result<Client> {
    let config = Config::infer()
        .await
        .context("no Kubernetes API server configured; set KUBECONFIG or run in a pod")?;
    with_config(config, fence).context("failed to configure the Kubernetes client")
}

/// A client with these settings. With a fence, requests fail while this replica does not lead.
///
/// # Errors
/// When the settings are not usable.
pub fn with_config(mut config: Config, fence: Option<&Fence>) -> kube::Result<Client> {
    config.read_timeout = Some(SILENCE);
    let calls = Calls { fence: fence.cloned(), answer: ANSWER };
    Ok(ClientBuilder::try_from(config)?.with_layer(&calls).with_layer(&Lists).build())
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("this replica no longer leads; the request was not sent")]
    NotLeading,
    #[error("the API server did not answer in time")]
    Late,
}

#[derive(Clone)]
struct Calls {
    fence: Option<Fence>,
    answer: Duration,
}

impl<S> Layer<S> for Calls {
    type Service = Call<S>;

    fn layer(&self, inner: S) -> Call<S> {
        Call { calls: self.clone(), inner }
    }
}

struct Call<S> {
    calls: Calls,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Call<S>
where
    S: Service<Request<B>, Response = R, Error = BoxError>,
    S::Future: Send + 'static,
    R: Send + 'static,
{
    type Response = R;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<R, BoxError>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.calls.fence.as_ref().is_some_and(|fence| !fence.leads()) {
            return ready(Err(CallError::NotLeading.into())).boxed();
        }
        let answer = tokio::time::timeout(self.calls.answer, self.inner.call(request));
        async move { answer.await.unwrap_or_else(|_| Err(CallError::Late.into())) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;
    use tower::service_fn;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    async fn ask<F: Future<Output = Result<&'static str, BoxError>> + Send + 'static>(
        fence: Option<&Fence>,
        answer: impl Fn() -> F,
    ) -> Result<&'static str, String> {
        let inner = service_fn(|_: Request<()>| answer());
        let mut calls = Calls { fence: fence.cloned(), answer: SHORT }.layer(inner);
        calls.call(Request::new(())).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_leader_that_was_frozen_past_its_lease_sends_nothing() {
        let fence = Fence::default();
        let answered = async || ask(Some(&fence), || async { Ok("written") }).await;
        let leads_for = |time| fence.lead_until(Some(fence.started().elapsed() + time));
        assert!(answered().await.unwrap_err().contains("no longer leads"), "it never led");
        leads_for(SHORT * 100);
        assert_eq!(answered().await, Ok("written"));
        leads_for(SHORT);
        sleep(SHORT).await;
        assert!(answered().await.unwrap_err().contains("no longer leads"));
        leads_for(SHORT * 100);
        assert_eq!(answered().await, Ok("written"));
        fence.lead_until(None);
        assert!(answered().await.is_err(), "the Lease was lost or given back");
        assert_eq!(ask(None, || async { Ok("read") }).await, Ok("read"), "a standby has no fence");
    }

    #[tokio::test]
    async fn a_server_that_never_answers_holds_nobody_for_ever() {
        let late = ask(None, std::future::pending::<Result<&'static str, BoxError>>).await;
        assert!(late.unwrap_err().contains("did not answer in time"));
    }
}
