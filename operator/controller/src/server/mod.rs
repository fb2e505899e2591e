//! Who may stay connected, how many of them, and for how long? What all servers of the operator share.
//!
//! ```text
//! bind ─► Door::next ── a place of all, a place of the peer's network ──► Guest
//!                          │ none: counted, logged, hung up                 │ (tls: handshake within 5 s)
//!                          ▼                                                ▼
//!                 fleetprof_connections_limited_total        first request within 10 s, then never idle for 120 s
//! ```
//! Guarantee: a place comes back in bounded time, whatever its holder does or leaves out.

mod activity;
mod bind;
mod door;
mod guest;
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

pub use activity::Patience;
pub use bind::bind;
pub(crate) use door::Door;
pub(crate) use guest::Guest;
pub use limits::{Limits, Server};
pub use metrics::ConnectionMetrics;
pub(crate) use network::Network;
pub use resources::{memory_limit, raise_files};

/// Who is at the other end of the connection; an extension of every request.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Address of the peer; of IPv4 also where it came to a socket of both families.
    pub addr: SocketAddr,
    /// Certificates that the peer presented and that were verified, leaf first; empty without.
    pub client_certs: Arc<[CertificateDer<'static>]>,
}

/// Serves `router` without TLS, for ever.
pub async fn serve_plain(listener: TcpListener, router: Router, limits: Limits) -> std::convert::Infallible {
    let mut door = Door::new(listener, limits);
    loop {
        let (stream, guest) = door.next().await;
        tokio::spawn(guest.serve(stream, Arc::default(), router.clone()));
    }
}
