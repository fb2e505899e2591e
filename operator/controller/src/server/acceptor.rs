//! Which connections are accepted?

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::connection::DRAIN;
use super::metrics::Limit;
use super::{Connection, Limits, Network};
use crate::permits::Permits;

/// How often the log mentions a limit that is reached again and again.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// A listener with limits.
pub(crate) struct Acceptor {
    listener: TcpListener,
    limits: Limits,
    all: Arc<Semaphore>,
    peers: Permits<Network>,
    stop: watch::Sender<()>,
    logged_all: Option<Instant>,
    logged_peer: Option<Instant>,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, limits: Limits) -> Self {
        let connections = limits.connections as usize;
        Self {
            all: Arc::new(Semaphore::new(connections)),
            peers: Permits::new(limits.per_peer as usize, connections),
            stop: watch::Sender::new(()),
            logged_all: None,
            logged_peer: None,
            listener,
            limits,
        }
    }

    /// Waits for a connection that is within the limits. Cancel-safe: no connection is lost when it is dropped.
    pub(crate) async fn next(&mut self) -> (TcpStream, Connection) {
        loop {
            let permit = self.permit().await;
            match self.listener.accept().await {
                Ok((stream, addr)) => {
                    let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
                    let Ok(of_peer) = self.peers.take(&Network::of(addr.ip())) else {
                        self.refuse(addr);
                        continue;
                    };
                    // Without it a small answer waits for the peer's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    let permits = (permit, of_peer);
                    return (stream, Connection::new(addr, &self.limits, self.stop.subscribe(), permits));
                }
                // The peer's failure, or one that passes (too many files open).
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn permit(&mut self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() {
            return permit;
        }
        let Limits { server, connections, ref metrics, .. } = self.limits;
        metrics.limited(server, Limit::all);
        if is_due(&mut self.logged_all, Instant::now()) {
            tracing::warn!(
                server,
                connections,
                "connection limit reached; new connections wait until others close"
            );
        }
        match Arc::clone(&self.all).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => std::future::pending().await,
        }
    }

    fn refuse(&mut self, peer: SocketAddr) {
        let Limits { server, per_peer, ref metrics, .. } = self.limits;
        metrics.limited(server, Limit::peer);
        if is_due(&mut self.logged_peer, Instant::now()) {
            tracing::warn!(
                server,
                client.address = %peer.ip(),
                limit = per_peer,
                "connection limit of this peer reached; closing the connection"
            );
        }
    }

    /// Stops accepting, and waits up to 10 s for requests in flight.
    pub(crate) async fn close(self) {
        let Self { listener, stop, all, limits, .. } = self;
        drop((listener, stop));
        let _ = tokio::time::timeout(DRAIN, all.acquire_many(limits.connections)).await;
    }
}

/// Whether to log again; notes that it was logged.
fn is_due(logged: &mut Option<Instant>, now: Instant) -> bool {
    let due = logged.is_none_or(|last| now.duration_since(last) >= LOG_EVERY);
    if due {
        *logged = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_logged_once_a_minute() {
        let (mut logged, begun) = (None, Instant::now());
        let due =
            [0, 1, 59, 60, 61, 120].map(|second| is_due(&mut logged, begun + Duration::from_secs(second)));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
