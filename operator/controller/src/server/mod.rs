//! How many connections does a server accept, and how long may each stay? Shared by all servers of the
//! operator; it knows none of them.
//!
//! ```text
//! bind ─► Acceptor::next ── a permit of all, a permit of the peer's network ──► Connection
//!                          │ none: counted, logged, closed                         │ (tls: handshake within 5 s)
//!                          ▼                                                       ▼
//!                 fleetprof_connections_limited_total    first request within 10 s, then never idle for 120 s
//! ```
//! Guarantee: a permit comes back in bounded time, whatever its holder does or fails to do.

mod acceptor;
mod activity;
mod bind;
mod connection;
mod limits;
mod metrics;
mod network;
mod resources;
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
pub(crate) use connection::Connection;
pub use limits::Limits;
pub use metrics::ConnectionMetrics;
pub(crate) use network::Network;
pub use resources::{memory_limit, raise_files};

/// The other end of the connection; an extension of every request.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Address of the peer; of IPv4 also where it came to a socket of both families.
    pub addr: SocketAddr,
    /// Certificates that the peer presented and that were verified, leaf first; empty without.
    pub client_certs: Arc<[CertificateDer<'static>]>,
}

/// Serves `router` without TLS, for ever.
pub async fn serve_plain(listener: TcpListener, router: Router, limits: Limits) -> std::convert::Infallible {
    let mut acceptor = Acceptor::new(listener, limits);
    loop {
        let (stream, connection) = acceptor.next().await;
        tokio::spawn(connection.serve(stream, Arc::default(), router.clone()));
    }
}
