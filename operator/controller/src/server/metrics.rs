//! How many connections are open, and which met a limit?

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::activity::Overdue;

/// The metrics of all servers of the process; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    open: Family<Of, Gauge>,
    limited: Family<Limited, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    server: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limited {
    server: &'static str,
    limit: Limit,
}

/// Which limit it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are label values")]
pub(super) enum Limit {
    /// All places of callers without proof are taken: another has to make room.
    all,
    /// The peer has as many as one may have: closed.
    peer,
    /// It made room for another: closed.
    displaced,
    /// No request came in time: closed.
    first_request,
    /// No request for a while: closed. Usual.
    idle,
    /// A request went on without moving: closed.
    stuck,
}

impl From<Overdue> for Limit {
    fn from(why: Overdue) -> Self {
        match why {
            Overdue::FirstRequest => Self::first_request,
            Overdue::Idle => Self::idle,
            Overdue::Stuck => Self::stuck,
        }
    }
}

/// An open connection; dropping it counts it out.
#[derive(Debug)]
pub(super) struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl ConnectionMetrics {
    /// Registers `fleetprof_connections` and `fleetprof_connections_limited_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("fleetprof_connections", "Open connections, by server", metrics.open.clone());
        registry.register(
            "fleetprof_connections_limited",
            "Connections that met a limit, by server and limit: all, peer and displaced are about their number, \
             the others are timeouts",
            metrics.limited.clone(),
        );
        metrics
    }

    pub(super) fn opened(&self, server: &'static str) -> Counted {
        let open = self.open.get_or_create_owned(&Of { server });
        open.inc();
        Counted(open)
    }

    pub(super) fn limited(&self, server: &'static str, limit: Limit) {
        self.limited.get_or_create(&Limited { server, limit }).inc();
    }

    #[cfg(test)]
    pub(super) fn count(&self, server: &'static str, limit: Limit) -> u64 {
        self.limited.get_or_create(&Limited { server, limit }).get()
    }
}
