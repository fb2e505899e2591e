//! Is the caller of a connection authenticated? Until it is, it has one of few places, and loses it first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::metrics::Limit;
use super::shares::{Place, Shares};
use super::{ConnectionMetrics, Network};
use crate::permits::NoPermit;

/// How long a server remembers the networks that proved something, where it does.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Networks that are remembered; there are as many API servers as fingers.
const NETWORKS: usize = 256;

/// The holder of places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// All addresses of this network.
    Network(Network),
    /// The pod with this uid, wherever its connections seem to come from.
    Pod(String),
    /// The person with this name, for whom the API server asks.
    User(String),
}

/// The places of one server: few for callers that have proven nothing, the rest for the others.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) unproven: Shares<Holder>,
    pub(super) proven: Shares<Holder>,
    pub(super) known: Option<Arc<Known>>,
    pub(super) server: &'static str,
    pub(super) metrics: ConnectionMetrics,
}

/// Networks that have proven something lately.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<Network, Instant>>);

/// The place of one connection.
#[derive(Debug)]
pub(super) struct Standing {
    network: Network,
    places: Places,
    place: Mutex<Place<Holder>>,
    proven: AtomicBool,
    gone: Arc<Notify>,
}

/// What a handler reports about the caller of its connection; a request without a connection reports nothing.
#[derive(Clone, Debug, Default)]
pub struct Proof(Option<Arc<Standing>>);

impl Holder {
    /// This address.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Network(Network::of(address))
    }
}

impl Places {
    /// A place for a connection that was just accepted.
    pub(super) fn admit(&self, network: Network) -> Result<Standing, NoPermit> {
        let (holder, gone) = (Holder::Network(network), Arc::new(Notify::new()));
        let known = self.known.as_ref().is_some_and(|known| known.has(network, Instant::now()));
        let early = known.then(|| self.proven.take(&holder, 1, &gone).ok()).flatten();
        let proven = AtomicBool::new(early.is_some());
        let place = match early {
            Some(place) => place,
            None => self.unproven.take(&holder, 1, &gone)?,
        };
        Ok(Standing { network, places: self.clone(), place: Mutex::new(place), proven, gone })
    }
}

impl Known {
    fn has(&self, network: Network, now: Instant) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&network).is_some_and(|at| now.duration_since(*at) < REMEMBERED)
    }

    fn note(&self, network: Network, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= NETWORKS && !known.contains_key(&network) {
            let oldest = known.iter().min_by_key(|(_, at)| **at).map(|(network, _)| *network);
            oldest.and_then(|oldest| known.remove(&oldest));
        }
        known.insert(network, now);
    }
}

impl Standing {
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).set_busy(busy);
    }

    /// Completes when the connection has to make room for another.
    pub(super) async fn gone(&self) {
        self.gone.notified().await;
    }

    pub(super) fn prove(&self, pod: Option<&str>) -> Result<(), NoPermit> {
        if let Some(known) = &self.places.known {
            known.note(self.network, Instant::now());
        }
        if self.is_proven() {
            return Ok(());
        }
        let holder = pod.map_or(Holder::Network(self.network), |uid| Holder::Pod(uid.to_owned()));
        let place = self.places.proven.take(&holder, 1, &self.gone).inspect_err(|denied| {
            let limit = if *denied == NoPermit::ForHolder { Limit::peer } else { Limit::all };
            self.places.metrics.limited(self.places.server, limit);
        })?;
        place.set_busy(true);
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
        self.proven.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Proof {
    pub(super) fn new(standing: Arc<Standing>) -> Self {
        Self(Some(standing))
    }

    /// The caller has shown that it is this pod.
    ///
    /// # Errors
    /// The pod, or all pods together, have all the connections that they may have.
    pub(crate) fn is_pod(&self, uid: &str) -> Result<(), NoPermit> {
        self.0.as_ref().map_or(Ok(()), |standing| standing.prove(Some(uid)))
    }

    /// What is notified when the connection has to make room for another.
    pub(super) fn gone(&self) -> Arc<Notify> {
        self.0.as_ref().map_or_else(Arc::default, |standing| standing.gone.clone())
    }

    /// The caller has shown that it belongs here. Without a place among its like it stays where it was, and
    /// loses its place to others first.
    pub(crate) fn is_expected(&self) {
        let _ = self.0.as_ref().map(|standing| standing.prove(None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(known: bool) -> Places {
        Places {
            unproven: Shares::new(2, 2),
            proven: Shares::with_floor(3, 4, 1),
            known: known.then(Arc::default),
            server: "test",
            metrics: ConnectionMetrics::default(),
        }
    }

    fn network(n: u8) -> Network {
        Network::of([10, 0, 0, n].into())
    }

    #[test]
    fn who_has_proven_something_takes_no_place_of_those_who_have_not() {
        let places = places(false);
        let proven: Vec<Standing> = (0..4)
            .map(|n| {
                let standing = places.admit(network(1)).unwrap();
                standing.prove(Some(if n < 3 { "a" } else { "b" })).unwrap();
                standing
            })
            .collect();
        assert!(proven.iter().all(Standing::is_proven));
        let standing = places.admit(network(1)).unwrap();
        assert_eq!(standing.prove(Some("a")).err(), Some(NoPermit::ForHolder), "one pod has its share");
        assert!(!standing.is_proven());
        let _silent = places.admit(network(1)).unwrap();
        assert!(places.admit(network(1)).is_err(), "the unproven of one network");
    }

    #[test]
    fn a_network_that_proved_something_lately_starts_among_the_proven() {
        let places = places(true);
        places.admit(network(1)).unwrap().prove(None).unwrap();
        let known: Vec<Standing> = (0..3).map(|_| places.admit(network(1)).unwrap()).collect();
        assert!(known.iter().all(Standing::is_proven));
        assert!(!places.admit(network(2)).unwrap().is_proven());
    }

    #[test]
    fn networks_are_forgotten_after_a_while_and_bounded_in_number() {
        let (known, now) = (Known::default(), Instant::now());
        known.note(network(1), now);
        assert!(known.has(network(1), now + REMEMBERED - Duration::from_secs(1)));
        assert!(!known.has(network(1), now + REMEMBERED));
        for n in 0..=NETWORKS {
            let address = u32::try_from(n).unwrap().to_be_bytes();
            known.note(Network::of(address.into()), now + Duration::from_secs(1));
        }
        assert_eq!(known.0.lock().unwrap().len(), NETWORKS);
        assert!(!known.has(network(1), now));
    }
}
