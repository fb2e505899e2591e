//! What is counted? Names and labels of the operator's own metrics; labels are enums, never names of objects,
//! but for [`crate::regressions`].

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_core::policy::growth;
use fleetprof_core::trigger::alert::Notification;
use fleetprof_core::trigger::reach::Reach;
use fleetprof_core::trigger::regression;
use fleetprof_crds::session::Trigger;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::regressions::Verdicts;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    trigger: &'static str,
    phase: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fired {
    trigger: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reached {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    kind: &'static str,
}

/// The operator's metrics.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    ended: Family<Ended, Counter>,
    active: Gauge,
    starts: Histogram,
    samples: Counter,
    errors: Family<Of, Counter>,
    panics: Family<Of, Counter>,
    writes: Family<Of, Counter>,
    leading: Gauge,
    fired: Family<Fired, Counter>,
    notifications: Family<Answered, Counter>,
    ignored_alerts: Family<Why, Counter>,
    alerts: Family<Reached, Counter>,
    regressions: Arc<Verdicts<regression::Series>>,
    growth: Arc<Verdicts<growth::Series>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            active: Gauge::default(),
            // 50 ms to 100 s: the goal is 1 s.
            starts: Histogram::new(exponential_buckets(0.05, 2.0, 12)),
            samples: Counter::default(),
            errors: Family::default(),
            panics: Family::default(),
            writes: Family::default(),
            leading: Gauge::default(),
            fired: Family::default(),
            notifications: Family::default(),
            ignored_alerts: Family::default(),
            alerts: Family::default(),
            regressions: Arc::default(),
            growth: Arc::default(),
        }
    }
}

impl Metrics {
    /// Metrics registered under `fleetprof_…`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        registry.register(
            "fleetprof_sessions",
            "Ended sessions, by trigger, phase and reason",
            m.0.ended.clone(),
        );
        registry.register("fleetprof_sessions_active", "Sessions that have not ended", m.0.active.clone());
        registry.register(
            "fleetprof_session_start_seconds",
            "Time from the creation of a session to its first running target",
            m.0.starts.clone(),
        );
        registry.register("fleetprof_samples", "Samples captured by ended sessions", m.0.samples.clone());
        registry.register("fleetprof_reconcile_errors", "Failed reconciles, by kind", m.0.errors.clone());
        registry.register(
            "fleetprof_reconcile_panics",
            "Reconciles that panicked, by kind; the object waits and all others go on",
            m.0.panics.clone(),
        );
        registry.register("fleetprof_status_writes", "Status writes, by kind", m.0.writes.clone());
        registry.register("fleetprof_leading", "1 on the leader", m.0.leading.clone());
        m.register_triggers(registry);
        m
    }

    fn register_triggers(&self, registry: &mut Registry) {
        let m = self;
        registry.register(
            "fleetprof_trigger_firings",
            "Trigger firings, by trigger and outcome: started a session, or held back by a cooldown",
            m.0.fired.clone(),
        );
        registry.register(
            "fleetprof_alert_notifications",
            "Alertmanager notifications received, by HTTP status code",
            m.0.notifications.clone(),
        );
        registry.register(
            "fleetprof_alerts_ignored",
            "Alerts ignored: Unusable, TooLarge, or OutOfRange for a startsAt over 366 days ago or in the future",
            m.0.ignored_alerts.clone(),
        );
        registry.register(
            "fleetprof_alerts",
            "Firing alerts received, by how far they came: matched, or what was missing",
            m.0.alerts.clone(),
        );
        registry.register_collector(Box::new(m.0.regressions.clone()));
        registry.register_collector(Box::new(m.0.growth.clone()));
    }

    /// Shows the verdicts on revisions that a policy compares, in place of those it had.
    pub fn regressions(&self, policy_uid: &str, series: BTreeMap<regression::Series, f64>) {
        self.0.regressions.set(policy_uid, series);
    }

    /// Shows the looks for growth of a policy, in place of those it had.
    pub fn growth(&self, policy_uid: &str, series: BTreeMap<growth::Series, f64>) {
        self.0.growth.set(policy_uid, series);
    }

    /// A notification was read; counts the alerts that were left out.
    pub fn alerts_ignored(&self, notification: &Notification) {
        let Notification { unusable, too_large, out_of_range, .. } = notification;
        let reasons = [("Unusable", *unusable), ("TooLarge", *too_large), ("OutOfRange", *out_of_range)];
        for (reason, number) in reasons {
            self.0.ignored_alerts.get_or_create(&Why { reason }).inc_by(number as u64);
        }
    }

    /// Alerts came so far.
    pub fn alerts(&self, reach: Reach, n: usize) {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        self.0.alerts.get_or_create(&Reached { outcome: reach.as_str() }).inc_by(n);
    }

    /// A notification of Alertmanager was answered.
    pub fn notification(&self, code: &'static str) {
        self.0.notifications.get_or_create(&Answered { code }).inc();
    }

    /// A trigger fired and started a session, or was held back by a cooldown.
    pub fn trigger_fired(&self, trigger: Trigger, started: bool) {
        let outcome = if started { "started" } else { "held" };
        self.0.fired.get_or_create(&Fired { trigger: trigger.as_str(), outcome }).inc();
    }

    /// This replica leads from now on.
    pub fn lead(&self) {
        self.0.leading.set(1);
    }

    /// A reconcile failed.
    pub fn reconcile_failed(&self, kind: &'static str) {
        self.0.errors.get_or_create(&Of { kind }).inc();
    }

    /// A reconcile panicked.
    pub fn reconcile_panicked(&self, kind: &'static str) {
        self.0.panics.get_or_create(&Of { kind }).inc();
    }

    /// A status was written.
    pub fn status_written(&self, kind: &'static str) {
        self.0.writes.get_or_create(&Of { kind }).inc();
    }

    /// How many sessions have not ended.
    pub fn sessions_active(&self, n: usize) {
        self.0.active.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// The first target of a session runs.
    pub fn session_running(&self, session: &ProfileSession) {
        if let Some(created) = &session.metadata.creation_timestamp {
            self.0.starts.observe(jiff::Timestamp::now().duration_since(created.0).as_secs_f64());
        }
    }

    /// A session ended.
    pub fn session_ended(&self, session: &ProfileSession, status: &ProfileSessionStatus) {
        let reason = status.reason.map_or("", fleetprof_crds::Reason::as_str);
        self.0
            .ended
            .get_or_create(&Ended {
                trigger: session.spec.trigger.as_str(),
                phase: status.phase.as_str(),
                reason,
            })
            .inc();
        self.0.samples.inc_by(u64::try_from(status.samples).unwrap_or(0));
    }
}
