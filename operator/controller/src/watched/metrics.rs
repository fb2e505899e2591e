//! How many objects cannot be read?

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of all watches; a cheap handle.
#[derive(Clone, Debug, Default)]
pub struct WatchMetrics(Family<Of, Gauge>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    kind: String,
}

impl WatchMetrics {
    /// Registers `fleetprof_unreadable_objects`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "fleetprof_unreadable_objects",
            "Objects that exist but that this version cannot decode, by kind",
            metrics.0.clone(),
        );
        metrics
    }

    /// So many objects of `kind` cannot be read.
    pub(super) fn unreadable(&self, kind: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.0.get_or_create(&Of { kind: kind.to_owned() }).set(count);
    }
}
