//! Which revisions regressed, and which workloads grow, for Prometheus? The two metrics whose labels name objects:
//! what gates a rollout has to find its own revision, and who is paged by growth the workload.
//!
//! The leader sets the series of each policy with every look at it, so that a new one has them soon, and
//! nothing is left of policies that are gone.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_core::policy::growth;
use fleetprof_core::trigger::regression;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Each policy is looked at every 15 s; one that was not for so long is gone.
const GONE: Duration = Duration::from_secs(120);
/// Most series of a policy; those beyond are left out.
const MAX_SERIES: usize = 1_000;

/// What a gauge shows of.
pub trait Shown: Ord + Clone + fmt::Debug + Send + Sync + 'static {
    /// The name of the gauge.
    const METRIC: &'static str;
    /// What it says.
    const HELP: &'static str;
    /// Labels and their values.
    fn labels(&self) -> Vec<(&'static str, &str)>;
}

impl Shown for regression::Series {
    const METRIC: &'static str = "fleetprof_regression";
    const HELP: &'static str =
        "Whether a revision is slower than the one before it: 1 yes, 0 no, NaN not known";
    fn labels(&self) -> Vec<(&'static str, &str)> {
        let Self { namespace, kind, workload, revision } = self;
        vec![("namespace", namespace), ("kind", kind), ("workload", workload), ("revision", revision)]
    }
}

impl Shown for growth::Series {
    const METRIC: &'static str = "fleetprof_growth";
    const HELP: &'static str = "Whether a function grows from session to session: 1 yes, 0 no, NaN not known";
    fn labels(&self) -> Vec<(&'static str, &str)> {
        let Self { namespace, kind, workload, revision, profile } = self;
        let of = [("namespace", namespace), ("kind", kind), ("workload", workload), ("revision", revision)];
        of.into_iter()
            .map(|(label, value)| (label, value.as_str()))
            .chain([("type", profile.name())])
            .collect()
    }
}

/// The series of each policy, by its uid, and when they were set.
type ByPolicy<S> = HashMap<String, (Instant, BTreeMap<S, f64>)>;

/// The series of all policies.
#[derive(Debug)]
pub struct Verdicts<S>(Mutex<ByPolicy<S>>);

impl<S> Default for Verdicts<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Shown> Verdicts<S> {
    /// Sets the series of a policy in place of those it had.
    pub fn set(&self, policy_uid: &str, mut series: BTreeMap<S, f64>) {
        let beyond = series.len().saturating_sub(MAX_SERIES);
        if beyond > 0 {
            tracing::warn!(
                policy_uid,
                series = beyond,
                metric = S::METRIC,
                "the policy has more series of this metric than are exported; the last by name are left out"
            );
        }
        for _ in 0..beyond {
            series.pop_last();
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| at.elapsed() < GONE);
        if series.is_empty() {
            known.remove(policy_uid);
        } else {
            known.insert(policy_uid.to_owned(), (Instant::now(), series));
        }
    }
}

impl<S: Shown> Collector for Verdicts<S> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut family = encoder.encode_descriptor(S::METRIC, S::HELP, None, MetricType::Gauge)?;
        // A revision that two policies look at is one series.
        let mut all: BTreeMap<&S, f64> = BTreeMap::new();
        for (_, series) in known.values().filter(|(at, _)| at.elapsed() < GONE) {
            for (of, value) in series {
                let merged = all.entry(of).or_insert(*value);
                *merged = merged.max(*value);
            }
        }
        for (of, value) in all {
            ConstGauge::new(value).encode(family.encode_family(&of.labels())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::registry::Registry;

    use fleetprof_core::trigger::regression::Series;
    use fleetprof_crds::ProfileKind;

    use super::*;

    fn series(revision: &str, value: f64) -> BTreeMap<Series, f64> {
        let of = Series {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            workload: "orders".into(),
            revision: revision.into(),
        };
        [(of, value)].into()
    }

    fn shown<S: Shown>(regressions: &Arc<Verdicts<S>>) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(regressions.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn a_revision_is_shown_with_its_verdict_and_not_a_number_until_then() {
        let regressions = Arc::new(Verdicts::default());
        assert!(shown(&regressions).is_empty());
        let line = |value: &str| {
            format!(
                "fleetprof_regression{{namespace=\"shop\",kind=\"Deployment\",workload=\"orders\",revision=\"r2\"}} {value}"
            )
        };
        for (value, text) in [(f64::NAN, "NaN"), (1.0, "1.0"), (0.0, "0.0")] {
            regressions.set("p", series("r2", value));
            assert_eq!(shown(&regressions), [line(text)]);
        }
        regressions.set("other", series("r2", f64::NAN));
        assert_eq!(shown(&regressions), [line("0.0")], "what one policy knows counts");
        regressions.set("p", BTreeMap::new());
        regressions.set("other", BTreeMap::new());
        assert!(shown(&regressions).is_empty(), "the revision is gone");
    }

    #[test]
    fn growth_is_shown_by_workload_revision_and_type() {
        let growth = Arc::new(Verdicts::default());
        let of = growth::Series {
            namespace: "shop".into(),
            kind: "Deployment".into(),
            workload: "orders".into(),
            revision: "r2".into(),
            profile: ProfileKind::Heap,
        };
        growth.set("p", [(of, 1.0)].into());
        let wanted = "fleetprof_growth{namespace=\"shop\",kind=\"Deployment\",workload=\"orders\",revision=\"r2\",type=\"heap\"} 1.0";
        assert_eq!(shown(&growth), [wanted]);
    }
}
