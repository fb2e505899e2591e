//! What do destinations show to Prometheus?

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    destination: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempts {
    destination: String,
    outcome: &'static str,
}

/// The metrics of the destinations. Their names are the administrator's, so they are few.
#[derive(Clone, Debug, Default)]
pub struct DestinationMetrics {
    up: Family<Of, Gauge>,
    backlog: Family<Of, Gauge>,
    oldest: Family<Of, Gauge>,
    attempts: Family<Attempts, Counter>,
    dropped: Family<Of, Counter>,
    swept: Family<Of, Counter>,
}

impl DestinationMetrics {
    /// Registers `fleetprof_destination_up`, `…_backlog`, `…_oldest_seconds`, `…_attempts_total`,
    /// `…_dropped_total` and `…_swept_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { up, backlog, oldest, attempts, dropped, swept } = &metrics;
        registry.register(
            "fleetprof_destination_up",
            "Whether the last check of the destination, once a minute, succeeded",
            up.clone(),
        );
        registry.register(
            "fleetprof_destination_backlog",
            "Profiles that wait for the destination",
            backlog.clone(),
        );
        registry.register(
            "fleetprof_destination_oldest_seconds",
            "How long the oldest of them has waited",
            oldest.clone(),
        );
        registry.register(
            "fleetprof_destination_attempts",
            "Attempts to store a profile in the destination, by outcome: stored, failed, rejected",
            attempts.clone(),
        );
        registry.register(
            "fleetprof_destination_dropped",
            "Profiles that were dropped because too many waited for the destination",
            dropped.clone(),
        );
        registry.register(
            "fleetprof_destination_swept",
            "Profiles that were deleted in the destination because their session does not exist",
            swept.clone(),
        );
        metrics
    }

    pub(super) fn up(&self, destination: &str, up: bool) {
        self.up.get_or_create(&of(destination)).set(i64::from(up));
    }

    /// How many wait, and for how many seconds the oldest has.
    pub(super) fn level(&self, destination: &str, backlog: usize, oldest: i64) {
        self.backlog.get_or_create(&of(destination)).set(i64::try_from(backlog).unwrap_or(i64::MAX));
        self.oldest.get_or_create(&of(destination)).set(oldest);
    }

    pub(super) fn dropped(&self, destination: &str, profiles: u64) {
        self.dropped.get_or_create(&of(destination)).inc_by(profiles);
    }

    pub(super) fn attempt(&self, destination: &str, outcome: &'static str) {
        let labels = Attempts { destination: destination.to_owned(), outcome };
        self.attempts.get_or_create(&labels).inc();
    }

    pub(super) fn swept(&self, destination: &str, profiles: usize) {
        self.swept.get_or_create(&of(destination)).inc_by(profiles as u64);
    }
}

fn of(destination: &str) -> Of {
    Of { destination: destination.to_owned() }
}
