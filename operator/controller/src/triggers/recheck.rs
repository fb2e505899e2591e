//! What arrives between two reconciles, and which policies does it concern?

use fleetprof_core::view::PolicyView;
use futures::future::BoxFuture;

/// Something that triggers wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Alerts about pods of these namespaces.
    Alerts(Vec<String>),
    /// Answers of Prometheus.
    QueryResults,
}

impl Arrival {
    /// Whether a trigger of the policy may fire by it.
    #[must_use]
    pub fn concerns(&self, policy: &PolicyView<'_>) -> bool {
        match self {
            Self::Alerts(namespaces) => {
                !policy.spec.triggers.alerts.is_empty()
                    && namespaces.iter().any(|n| policy.namespace.is_none_or(|own| own == n))
            }
            Self::QueryResults => !policy.spec.triggers.prom_ql.is_empty(),
        }
    }
}

/// Evaluates triggers beside the reconciles of their policies.
pub trait Recheck: Send + Sync + 'static {
    /// Starts the sessions of what fires by `arrival`. Says whether everything could be done.
    fn recheck(&self, arrival: Arrival) -> BoxFuture<'_, bool>;
}
