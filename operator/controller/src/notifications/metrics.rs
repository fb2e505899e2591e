//! What do notifications show to Prometheus?

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    receiver: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempts {
    receiver: String,
    outcome: &'static str,
}

/// The metrics of notifications. The names of receivers are the administrator's, so they are few.
#[derive(Clone, Debug, Default)]
pub struct NotificationMetrics {
    attempts: Family<Attempts, Counter>,
    waiting: Family<Of, Gauge>,
}

impl NotificationMetrics {
    /// Registers `fleetprof_notifications_total` and `fleetprof_notifications_waiting`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { attempts, waiting } = &metrics;
        registry.register(
            "fleetprof_notifications",
            "Attempts to tell a receiver of the end of a session, by outcome: sent, failed, rejected",
            attempts.clone(),
        );
        registry.register(
            "fleetprof_notifications_waiting",
            "Notifications that waited for the receiver after the last attempt",
            waiting.clone(),
        );
        metrics
    }

    pub(super) fn attempt(&self, receiver: &str, outcome: &'static str) {
        self.attempts.get_or_create(&Attempts { receiver: receiver.to_owned(), outcome }).inc();
    }

    pub(super) fn waiting(&self, receiver: &str, notifications: usize) {
        let of = Of { receiver: receiver.to_owned() };
        self.waiting.get_or_create(&of).set(i64::try_from(notifications).unwrap_or(i64::MAX));
    }
}
