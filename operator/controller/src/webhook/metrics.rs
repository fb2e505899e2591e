//! What did the webhook decide, and how long did it take? Labels are enums, never names of objects.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answer {
    /// `pods` or `profilesessions`.
    pub webhook: &'static str,
    /// `injected`, `present`, `skipped`, `not_selected`, `stamped`, `kept` or `malformed`.
    pub outcome: &'static str,
    /// The skip reason; empty without one.
    pub reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    webhook: &'static str,
}

/// The webhook's metrics. Clones are cheap and count together.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    answers: Family<Answer, Counter>,
    pods: Histogram,
    sessions: Histogram,
}

impl Metrics {
    /// Registers `fleetprof_admission_total` and `fleetprof_admission_duration_seconds`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let durations = Family::<Of, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        let of = |webhook| durations.get_or_create_owned(&Of { webhook });
        let inner = Inner { answers: Family::default(), pods: of("pods"), sessions: of("profilesessions") };
        registry.register(
            "fleetprof_admission",
            "Admission requests, by webhook, outcome and skip reason",
            inner.answers.clone(),
        );
        registry.register(
            "fleetprof_admission_duration_seconds",
            "Time to process an admission request",
            durations,
        );
        Self(Arc::new(inner))
    }

    /// Counts an answer that took `time`.
    pub fn answered(&self, answer: Answer, time: Duration) {
        self.0.answers.get_or_create(&answer).inc();
        let histogram = if answer.webhook == "pods" { &self.0.pods } else { &self.0.sessions };
        histogram.observe(time.as_secs_f64());
    }
}

/// 20 µs to 0.65 s: a patch takes tens of microseconds, the API server waits at most 3 s.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_02, 2.0, 16))
}
