//! Who is let in?

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::guest::DRAIN;
use super::metrics::Limit;
use super::{Guest, Limits, Network};
use crate::places::Places;

/// How often the log tells of a limit that is met again and again.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A listener with limits.
pub(crate) struct Door {
    listener: TcpListener,
    limits: Limits,
    all: Arc<Semaphore>,
    peers: Places<Network>,
    stop: watch::Sender<()>,
    told_all: Option<Instant>,
    told_peer: Option<Instant>,
}

impl Door {
    pub(crate) fn new(listener: TcpListener, limits: Limits) -> Self {
        let connections = limits.connections as usize;
        Self {
            all: Arc::new(Semaphore::new(connections)),
            peers: Places::new(limits.per_peer as usize, connections),
            stop: watch::Sender::new(()),
            told_all: None,
            told_peer: None,
            listener,
            limits,
        }
    }

    /// The next connection that there is room for. It can be dropped while it waits: nobody is lost.
    pub(crate) async fn next(&mut self) -> (TcpStream, Guest) {
        loop {
            let permit = self.place().await;
            match self.listener.accept().await {
                Ok((stream, addr)) => {
                    let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
                    let Ok(place) = self.peers.take(&Network::of(addr.ip())) else {
                        self.refuse(addr);
                        continue;
                    };
                    // Without it a small answer waits for the peer's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    return (stream, Guest::new(addr, &self.limits, self.stop.subscribe(), (permit, place)));
                }
                // The peer's failure, or one that passes (too many files open).
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn place(&mut self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() {
            return permit;
        }
        let Limits { server, connections, ref metrics, .. } = self.limits;
        metrics.limited(server, Limit::all);
        if is_due(&mut self.told_all, Instant::now()) {
            tracing::warn!(?server, connections, "all connections are taken; new ones wait until others end");
        }
        match Arc::clone(&self.all).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => std::future::pending().await,
        }
    }

    fn refuse(&mut self, peer: SocketAddr) {
        let Limits { server, per_peer, ref metrics, .. } = self.limits;
        metrics.limited(server, Limit::peer);
        if is_due(&mut self.told_peer, Instant::now()) {
            tracing::warn!(
                ?server,
                client.address = %peer.ip(),
                limit = per_peer,
                "this peer has as many connections as one may have; hung up"
            );
        }
    }

    /// Lets nobody in any more, and waits up to 10 s for requests in flight.
    pub(crate) async fn close(self) {
        let Self { listener, stop, all, limits, .. } = self;
        drop((listener, stop));
        let _ = tokio::time::timeout(DRAIN, all.acquire_many(limits.connections)).await;
    }
}

/// Whether to tell again; notes that it was told.
fn is_due(told: &mut Option<Instant>, now: Instant) -> bool {
    let due = told.is_none_or(|last| now.duration_since(last) >= TELL_EVERY);
    if due {
        *told = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_once_a_minute() {
        let (mut told, begun) = (None, Instant::now());
        let due =
            [0, 1, 59, 60, 61, 120].map(|second| is_due(&mut told, begun + Duration::from_secs(second)));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
