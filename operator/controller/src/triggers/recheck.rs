//! What arrives between two reconciles, which policies does it concern, and what came of it?

use std::sync::Arc;

use fleetprof_core::trigger::alert::Alert;
use fleetprof_core::trigger::place;
use fleetprof_core::trigger::reach::{self, Reach};
use fleetprof_core::view::PolicyView;
use futures::future::BoxFuture;

/// Something that triggers wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Alerts that fire.
    Alerts(Vec<Arc<Alert>>),
    /// Answers of Prometheus.
    QueryResults,
}

impl Arrival {
    /// Whether a trigger of the policy may fire by it.
    #[must_use]
    pub fn concerns(&self, policy: &PolicyView<'_>) -> bool {
        match self {
            Self::Alerts(alerts) => {
                !policy.spec.triggers.alerts.is_empty()
                    && alerts.iter().any(|alert| {
                        namespace(alert).is_some_and(|named| policy.namespace.is_none_or(|own| own == named))
                    })
            }
            Self::QueryResults => !policy.spec.triggers.prom_ql.is_empty(),
        }
    }

    /// Its alerts, as far as they come before any policy is asked.
    #[must_use]
    pub fn begin(&self) -> Rechecked {
        let reached = self.alerts().iter().map(|alert| reach::before_policies(alert)).collect();
        Rechecked { again: false, refused: 0, reached }
    }

    /// Its alerts.
    #[must_use]
    pub fn alerts(&self) -> &[Arc<Alert>] {
        match self {
            Self::Alerts(alerts) => alerts,
            Self::QueryResults => &[],
        }
    }
}

fn namespace(alert: &Alert) -> Option<&str> {
    place::namespace(|name| alert.labels.get(name).map(String::as_str))
}

/// What came of an arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rechecked {
    /// Something could not be done that another try may do.
    pub again: bool,
    /// Sessions that the API server rejected.
    pub refused: usize,
    /// How far each alert came, in the order of the alerts.
    pub reached: Vec<Reach>,
}

impl Rechecked {
    /// Takes in how far the alerts came with one more policy.
    pub fn reached_with(&mut self, reached: Vec<Reach>) {
        for (known, one) in self.reached.iter_mut().zip(reached) {
            *known = (*known).max(one);
        }
    }
}

/// Evaluates triggers beside the reconciles of their policies.
pub trait Recheck: Send + Sync + 'static {
    /// Starts the sessions of what fires by `arrival`.
    fn recheck(&self, arrival: Arrival) -> BoxFuture<'_, Rechecked>;
}
