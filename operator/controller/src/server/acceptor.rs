//! Which connections are accepted?

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::connection::DRAIN;
use super::limits::KERNEL_BUFFER;
use super::metrics::Limit;
use super::proof::{Holder, Places, Standing};
use super::{Connection, Limits, Network};
use crate::permits::NoPermit;

/// How often the log mentions a limit that is reached again and again.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Connections that wait for a place, at most: of all callers, and of one network, whose others would only keep the
/// rest of the world out of the queue.
const WAITING: usize = 512;
const WAITING_OF_NETWORK: usize = 4;
/// How soon a caller that waits is looked at again, and how long it may wait.
const SOON: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(3);

/// A connection with its place.
type Admitted = (TcpStream, SocketAddr, Standing);

/// A listener with limits.
pub(crate) struct Acceptor {
    listener: TcpListener,
    limits: Limits,
    places: Places,
    waiting: FuturesUnordered<BoxFuture<'static, (Network, Option<Admitted>)>>,
    waiting_of: HashMap<Network, usize>,
    stop: watch::Sender<()>,
    /// Every connection holds a clone of the sender, so the receiver learns when all have ended.
    open: (mpsc::Sender<()>, mpsc::Receiver<()>),
    logged_all: Option<Instant>,
    logged_peer: Option<Instant>,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, limits: Limits) -> Self {
        bound_buffers(&listener);
        Self {
            places: limits.places(),
            waiting: FuturesUnordered::new(),
            waiting_of: HashMap::new(),
            stop: watch::Sender::new(()),
            open: mpsc::channel(1),
            logged_all: None,
            logged_peer: None,
            listener,
            limits,
        }
    }

    /// Waits for a connection that is within the limits. Cancel-safe: no connection is lost when it is dropped.
    pub(crate) async fn next(&mut self) -> (TcpStream, Connection) {
        loop {
            let admitted = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, addr)) => self.admit(stream, addr),
                    // The peer's failure, or one that passes (too many files open).
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        None
                    }
                },
                Some((network, waited)) = self.waiting.next() => {
                    self.waits_no_more(network);
                    waited
                }
            };
            if let Some((stream, addr, standing)) = admitted {
                // Without it a small answer waits for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let ended = (self.stop.subscribe(), self.open.0.clone());
                return (stream, Connection::new(addr, &self.limits, ended, standing));
            }
        }
    }

    /// A connection with its place; `None` when its peer, or everybody, has too many. Who has none yet waits for
    /// one, and holds nobody up: in a second, if not earlier, somebody has to make room.
    fn admit(&mut self, stream: TcpStream, addr: SocketAddr) -> Option<Admitted> {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let network = Network::of(addr.ip());
        let full = self.places.unproven.is_full();
        let admitted = self.places.admit(network);
        if full {
            self.note_full();
        }
        match admitted {
            Ok(standing) => return Some((stream, addr, standing)),
            Err(NoPermit::ForHolder) => self.refuse(addr),
            Err(NoPermit::ForAnyone) => {
                let first = !self.places.unproven.has_any(&Holder::Network(network));
                if first && self.may_wait(network) {
                    let places = self.places.clone();
                    self.waiting.push(async move { (network, wait(places, stream, addr).await) }.boxed());
                }
            }
        }
        None
    }

    /// Whether one more connection of the network may wait; notes that it does.
    fn may_wait(&mut self, network: Network) -> bool {
        let all = self.waiting.len();
        let waiting = self.waiting_of.entry(network).or_default();
        let may = all < WAITING && *waiting < WAITING_OF_NETWORK;
        *waiting += usize::from(may);
        if *waiting == 0 {
            self.waiting_of.remove(&network);
        }
        may
    }

    fn waits_no_more(&mut self, network: Network) {
        if let Entry::Occupied(mut waiting) = self.waiting_of.entry(network) {
            *waiting.get_mut() -= 1;
            if *waiting.get() == 0 {
                waiting.remove();
            }
        }
    }

    fn note_full(&mut self) {
        let Limits { server, unproven, ref metrics, .. } = self.limits;
        metrics.limited(server, Limit::all);
        if is_due(&mut self.logged_all, Instant::now()) {
            tracing::warn!(
                server,
                connections = unproven.all,
                "limit of connections without proof reached; new ones take the place of others"
            );
        }
    }

    fn refuse(&mut self, peer: SocketAddr) {
        let Limits { server, unproven, ref metrics, .. } = self.limits;
        metrics.limited(server, Limit::peer);
        if is_due(&mut self.logged_peer, Instant::now()) {
            tracing::warn!(
                server,
                client.address = %peer.ip(),
                limit = unproven.each,
                "limit of this peer's connections without proof reached; closing the connection"
            );
        }
    }

    /// Stops accepting, and waits up to 10 s for requests in flight.
    pub(crate) async fn close(self) {
        let Self { listener, stop, open: (sender, mut open), .. } = self;
        drop((listener, stop, sender));
        let _ = tokio::time::timeout(DRAIN, open.recv()).await;
    }
}

/// Waits for a place.
async fn wait(places: Places, stream: TcpStream, addr: SocketAddr) -> Option<Admitted> {
    let begun = Instant::now();
    while begun.elapsed() < LONGEST {
        tokio::time::sleep(SOON).await;
        if let Ok(standing) = places.admit(Network::of(addr.ip())) {
            return Some((stream, addr, standing));
        }
    }
    None
}

/// Keeps what the kernel holds for a connection small: it counts to the container's memory. Connections have the
/// sizes of their listener; set later, the peer would have been promised more already.
fn bound_buffers(listener: &TcpListener) {
    let socket = socket2::SockRef::from(listener);
    let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
    let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
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

    #[tokio::test]
    async fn a_network_waits_with_few_of_its_connections() {
        let limits = Limits::new("test", (1, 1), Default::default());
        let mut acceptor = Acceptor::new(crate::server::bind(0).unwrap(), limits);
        let [one, other] = [1, 2].map(|n| Network::of([10, 0, 0, n].into()));
        let mut wait = |network| acceptor.may_wait(network);
        assert_eq!([(); 6].map(|()| wait(one)), [true, true, true, true, false, false]);
        assert!(wait(other), "another network is not kept out");
        acceptor.waits_no_more(one);
        assert_eq!([(); 2].map(|()| acceptor.may_wait(one)), [true, false]);
        [one; 4].into_iter().chain([other]).for_each(|network| acceptor.waits_no_more(network));
        assert!(acceptor.waiting_of.is_empty(), "networks are forgotten");
    }

    #[test]
    fn a_limit_is_logged_once_a_minute() {
        let (mut logged, begun) = (None, Instant::now());
        let due =
            [0, 1, 59, 60, 61, 120].map(|second| is_due(&mut logged, begun + Duration::from_secs(second)));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
