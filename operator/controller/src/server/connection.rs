//! How is one connection served, and when does it end?

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::activity::{Activity, InFlight, Overdue};
use super::metrics::Counted;
use super::{Limits, Network, PeerInfo, Timeouts};
use crate::permits::Permit;

/// How long requests in flight may take after shutdown was requested.
pub(super) const DRAIN: Duration = Duration::from_secs(10);
/// How long an idle connection may take to close: a request that arrives meanwhile is answered.
const IDLE_DRAIN: Duration = Duration::from_secs(5);
/// How often an HTTP/2 connection is asked for a sign of life, and how long that may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 256;

/// An accepted connection with its permits.
pub(crate) struct Connection {
    pub(crate) addr: SocketAddr,
    limits: Limits,
    stopping: watch::Receiver<()>,
    _counted: Counted,
    _permits: (OwnedSemaphorePermit, Permit<Network>),
}

impl Connection {
    pub(super) fn new(
        addr: SocketAddr,
        limits: &Limits,
        stopping: watch::Receiver<()>,
        permits: (OwnedSemaphorePermit, Permit<Network>),
    ) -> Self {
        Self {
            addr,
            limits: limits.clone(),
            stopping,
            _counted: limits.metrics.opened(limits.server),
            _permits: permits,
        }
    }

    /// Serves the connection to its end. HTTP/1.1 and HTTP/2; [`PeerInfo`] is an extension of every request.
    pub(crate) async fn serve<S>(
        mut self,
        stream: S,
        client_certs: Arc<[CertificateDer<'static>]>,
        router: Router,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new(Instant::now());
        let (peer, asked) = (PeerInfo { addr: self.addr, client_certs }, activity.clone());
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            let in_flight = asked.begin(Instant::now());
            request.extensions_mut().insert(peer.clone());
            let answer = router.clone().oneshot(request.map(Body::new));
            async move { answer.await.map(|answer| answer.map(|body| Watched { body, in_flight })) }
        });
        let timeouts = self.limits.timeouts;
        let http = http(timeouts);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let drain = tokio::select! {
            ended = connection.as_mut() => return self.note(ended),
            _ = self.stopping.changed() => DRAIN,
            why = activity.overdue(timeouts) => {
                tracing::debug!(client.address = %self.addr, ?why, "closing connection: timeout");
                self.limits.metrics.limited(self.limits.server, why.into());
                if why == Overdue::Idle { IDLE_DRAIN } else { Duration::ZERO }
            }
        };
        connection.as_mut().graceful_shutdown();
        if let Ok(ended) = timeout(drain, connection).await {
            self.note(ended);
        }
    }

    fn note<E: std::fmt::Display>(&self, ended: Result<(), E>) {
        if let Err(error) = ended {
            tracing::debug!(client.address = %self.addr, %error, "connection ended early");
        }
    }
}

fn http(timeouts: Timeouts) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // It runs between requests too, so it is not shorter than idleness; the first head is bounded by
    // `first_request`.
    http.http1().timer(TokioTimer::new()).header_read_timeout(timeouts.idle);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS);
    http
}

/// The body of an answer, which is in flight until it was taken.
struct Watched {
    body: Body,
    in_flight: InFlight,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.in_flight.moved(Instant::now());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
