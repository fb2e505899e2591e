//! How many connections does a server accept, and how long may each stay? Shared by all servers of the
//! operator; it knows none of them.
//!
//! ```text
//! bind ─► Acceptor::next ── a place of those who have proven nothing ──► Connection ── first request within 10 s
//!            │ none for its network: closed      (tls: handshake within 5 s) │
//!            │ none at all: whoever holds the most gives one up              ├─ refused: closed after the answer
//!            ▼                                                               ▼
//!   fleetprof_connections_limited_total    Proof: the handler knows the caller ─► a place of the proven; never idle
//!                                                                                 for 120 s
//! ```
//! Guarantees: a place comes back in bounded time, whatever its holder does or fails to do. What callers that
//! have proven nothing can make a server hold is a number for each and in total, [`Limits::worst_of_unproven`]
//! and [`Bodies`], and a caller that holds less than the others is never kept out by them.

mod acceptor;
mod activity;
mod bind;
mod body;
mod connection;
mod limits;
mod metrics;
mod network;
mod proof;
mod resources;
mod shares;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;

pub(crate) use acceptor::Acceptor;
pub use activity::Timeouts;
pub use bind::bind;
pub(crate) use body::{Bodies, BodyError, HeldAnswer, HeldBody, Pace, read as read_body, size as body_size};
pub(crate) use connection::Connection;
pub(crate) use limits::TLS_BUFFER;
pub use limits::{Head, Limits, Share};
pub use metrics::ConnectionMetrics;
pub(crate) use network::Network;
pub(crate) use proof::Holder;
pub use proof::Proof;
pub use resources::{memory_limit, raise_files};

/// The other end of the connection; an extension of every request.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Address of the peer; of IPv4 also where it came to a socket of both families.
    pub addr: SocketAddr,
    /// Certificates that the peer presented and that were verified, leaf first; empty without.
    pub client_certs: Arc<[CertificateDer<'static>]>,
    /// Where handlers say that they know the caller.
    pub proof: Proof,
}

impl PeerInfo {
    /// A peer without a connection that could be proven.
    #[cfg(test)]
    pub(crate) fn new(addr: SocketAddr, certs: impl Into<Vec<CertificateDer<'static>>>) -> Self {
        Self { addr, client_certs: certs.into().into(), proof: Proof::default() }
    }
}

/// Serves `router` without TLS, for ever.
pub async fn serve_plain(listener: TcpListener, router: Router, limits: Limits) -> std::convert::Infallible {
    let mut acceptor = Acceptor::new(listener, limits);
    loop {
        let (stream, connection) = acceptor.next().await;
        tokio::spawn(connection.serve(stream, Arc::default(), router.clone()));
    }
}
