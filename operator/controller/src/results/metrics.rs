//! What do the results show to Prometheus?

use fleetprof_crds::ProfileKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::error::ResultsError;
use super::space::Usage;

/// What became of a profile that was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Made and stored.
    Stored,
    /// Made before; nothing was left to do.
    Repeated,
    /// There are no slices: the target was idle, or they were lost.
    Missing,
    /// The volume was full.
    Full,
    /// Something else was wrong.
    Failed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Repeated => "repeated",
            Self::Missing => "missing",
            Self::Full => "full",
            Self::Failed => "failed",
        }
    }
}

impl From<&ResultsError> for Outcome {
    fn from(error: &ResultsError) -> Self {
        match error {
            ResultsError::Missing(_) => Self::Missing,
            ResultsError::Full(_) | ResultsError::NamespaceFull(_) => Self::Full,
            _ => Self::Failed,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
    kind: &'static str,
}

/// The metrics of the results.
#[derive(Clone, Debug, Default)]
pub struct ResultsMetrics {
    bytes: Gauge,
    free: Gauge,
    evicted: Counter,
    profiles: Family<Labels, Counter>,
}

impl ResultsMetrics {
    /// Registers `fleetprof_results_bytes`, `fleetprof_results_free_bytes`,
    /// `fleetprof_results_evicted_total` and `fleetprof_results_profiles_total`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "fleetprof_results_bytes",
            "Bytes of stored slices and profiles on the disk, folders included",
            metrics.bytes.clone(),
        );
        registry.register(
            "fleetprof_results_free_bytes",
            "Bytes available for results",
            metrics.free.clone(),
        );
        registry.register(
            "fleetprof_results_evicted",
            "Sessions whose results were evicted because their namespace was over its share",
            metrics.evicted.clone(),
        );
        registry.register(
            "fleetprof_results_profiles",
            "Profiles assembled from slices, by outcome and kind",
            metrics.profiles.clone(),
        );
        metrics
    }

    pub(super) fn usage(&self, usage: &Usage) {
        self.bytes.set(i64::try_from(usage.used).unwrap_or(i64::MAX));
        self.free.set(i64::try_from(usage.free).unwrap_or(i64::MAX));
    }

    pub(super) fn evicted(&self, sessions: u64) {
        self.evicted.inc_by(sessions);
    }

    pub(super) fn profile(&self, outcome: Outcome, kind: ProfileKind) {
        self.profiles.get_or_create(&Labels { outcome: outcome.as_str(), kind: kind.name() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_target_does_not_count_as_a_failure() {
        let cases = [
            (ResultsError::Missing(String::new()), "missing"),
            (ResultsError::Full(String::new()), "full"),
            (ResultsError::NamespaceFull(String::new()), "full"),
            (ResultsError::Io(String::new()), "failed"),
        ];
        for (error, wanted) in cases {
            assert_eq!(Outcome::from(&error).as_str(), wanted, "{error:?}");
        }
    }
}
