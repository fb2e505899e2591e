//! How is one connection served, and when does it end?

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::activity::{Activity, InFlight, Overdue};
use super::metrics::{Counted, Limit};
use super::proof::{Proof, Standing};
use super::{Head, Limits, PeerInfo, Timeouts};

/// How long requests in flight may take after shutdown was requested.
pub(super) const DRAIN: Duration = Duration::from_secs(10);
/// How long an idle connection may take to close: a request that arrives meanwhile is answered.
const IDLE_DRAIN: Duration = Duration::from_secs(5);

/// An accepted connection with its place.
pub(crate) struct Connection {
    pub(crate) addr: SocketAddr,
    limits: Limits,
    stopping: watch::Receiver<()>,
    standing: Arc<Standing>,
    _open: mpsc::Sender<()>,
    _counted: Counted,
}

impl Connection {
    pub(super) fn new(
        addr: SocketAddr,
        limits: &Limits,
        (stopping, open): (watch::Receiver<()>, mpsc::Sender<()>),
        standing: Standing,
    ) -> Self {
        Self {
            addr,
            limits: limits.clone(),
            stopping,
            standing: Arc::new(standing),
            _open: open,
            _counted: limits.metrics.opened(limits.server),
        }
    }

    /// Does something before the first request; `None` when the connection had to make room meanwhile.
    pub(crate) async fn until_displaced<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.standing.gone() => {
                self.note_displaced();
                None
            }
        }
    }

    /// Serves the connection to its end, as HTTP/1.1; [`PeerInfo`] is an extension of every request.
    pub(crate) async fn serve<S>(
        mut self,
        stream: S,
        client_certs: Arc<[CertificateDer<'static>]>,
        router: Router,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new(Instant::now());
        let proof = Proof::new(self.standing.clone());
        if !client_certs.is_empty() {
            proof.is_expected();
        }
        let peer = PeerInfo { addr: self.addr, client_certs, proof };
        let service = service(peer, activity.clone(), self.standing.clone(), router);
        let Limits { timeouts, head, .. } = self.limits;
        let http = http(timeouts, head);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let drain = tokio::select! {
            ended = connection.as_mut() => return self.note(ended),
            _ = self.stopping.changed() => DRAIN,
            () = self.standing.gone() => return self.note_displaced(),
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

    fn note_displaced(&self) {
        tracing::debug!(client.address = %self.addr, "closing connection: another takes its place");
        self.limits.metrics.limited(self.limits.server, Limit::displaced);
    }

    fn note<E: std::fmt::Display>(&self, ended: Result<(), E>) {
        if let Err(error) = ended {
            tracing::debug!(client.address = %self.addr, %error, "connection ended early");
        }
    }
}

/// Hands requests to the router, and watches what becomes of them.
fn service(
    peer: PeerInfo,
    activity: Activity,
    standing: Arc<Standing>,
    router: Router,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = hyper::Response<Watched>,
    Error = std::convert::Infallible,
    Future: Send,
> {
    hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        let (in_flight, busy) = (activity.begin(Instant::now()), Busy::new(standing.clone()));
        request.extensions_mut().insert(peer.clone());
        let answer = router.clone().oneshot(request.map(Body::new));
        async move {
            let mut answer = answer.await?;
            if !busy.0.is_proven() {
                close_if_refused(&mut answer);
            }
            Ok(answer.map(|body| Watched { body, in_flight, _busy: busy }))
        }
    })
}

/// An unproven caller that was refused has no reason to stay connected.
fn close_if_refused(answer: &mut Response) {
    if answer.status() >= StatusCode::BAD_REQUEST {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// HTTP/1.1 alone, with a head of bounded size. One connection is one request at a time, so what a peer can
/// make the server hold is a matter of its connections; HTTP/2 would multiply it by streams and by frames.
fn http(timeouts: Timeouts, head: Head) -> http1::Builder {
    let mut http = http1::Builder::new();
    // It runs between requests too, so it is not shorter than idleness; the first head is bounded by
    // `first_request`.
    http.timer(TokioTimer::new())
        .header_read_timeout(timeouts.idle)
        .max_buf_size(head.bytes)
        .max_headers(head.headers);
    http
}

/// While it lives the connection is not idle.
struct Busy(Arc<Standing>);

impl Busy {
    fn new(standing: Arc<Standing>) -> Self {
        standing.set_busy(true);
        Self(standing)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

/// The body of an answer, which is in flight until it was taken.
struct Watched {
    body: Body,
    in_flight: InFlight,
    _busy: Busy,
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
