//! Which events start a session of a policy?

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;
use crate::compare::CompareRules;

/// Events that start a session, in addition to the schedule. Triggers are off unless they are set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.promQL) || self.promQL.all(a, self.promQL.exists_one(b, a.name == b.name))"
)
.message(
    "promQL: names must be unique"
))]
pub struct Triggers {
    /// High CPU usage of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<LevelTrigger>,
    /// High memory usage of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<LevelTrigger>,
    /// Alerts from Alertmanager. Requires the alert receiver to be enabled by an administrator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub alerts: Vec<AlertTrigger>,
    /// Queries to the Prometheus server configured by an administrator.
    #[serde(rename = "promQL", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub prom_ql: Vec<PromQlTrigger>,
    /// Rollout of a new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutTrigger>,
}

impl Triggers {
    /// Whether there are no triggers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Starts a session if the usage of a container is high for a while.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "duration(self.window) >= duration('10s') && duration(self.window) <= duration('1h')"
)
.message(
    "window must be between 10s and 1h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.duration) >= duration('10s') && duration(self.duration) <= duration('6m')"
)
.message(
    "duration must be between 10s and 6m"
))]
#[x_kube(validation = Rule::new(
    "duration(self.cooldown) >= duration('2m') && duration(self.cooldown) <= duration('168h')"
)
.message(
    "cooldown must be between 2m and 168h"
))]
pub struct LevelTrigger {
    /// Threshold in percent of the container's limit, or of the node's cores or memory if it has no limit.
    #[serde(default = "default_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub threshold: i32,
    /// How long usage must be above the threshold; 10s to 1h. Drops of less than 5 points below it are
    /// ignored.
    #[serde(default = "default_window")]
    pub window: Duration,
    /// Capture time; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// Minimum time between sessions of the same workload by this trigger; 2m to 168h.
    #[serde(default = "default_cooldown")]
    pub cooldown: Duration,
}

const fn default_threshold() -> i32 {
    80
}
const fn default_window() -> Duration {
    Duration::from_secs(30)
}
const fn default_cooldown() -> Duration {
    Duration::from_secs(4 * 3600)
}

/// Starts a session for the workload identified by the labels of an alert.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.matchers.all(m, m.matches('^[a-zA-Z_][a-zA-Z0-9_]*[ ]*(=|!=|=~|!~)[ ]*(\".*\"|[^\" ]+)$'))"
)
.message(
    "matchers must be written as alertname=\"SlowOrders\", with =, !=, =~ or !~"
))]
#[x_kube(validation = Rule::new(
    "duration(self.duration) >= duration('10s') && duration(self.duration) <= duration('6m')"
)
.message(
    "duration must be between 10s and 6m"
))]
#[x_kube(validation = Rule::new(
    "duration(self.cooldown) >= duration('2m') && duration(self.cooldown) <= duration('168h')"
)
.message(
    "cooldown must be between 2m and 168h"
))]
pub struct AlertTrigger {
    /// Label matchers in Alertmanager syntax, which must all match: `alertname="SlowOrders"`,
    /// `severity=~"page|critical"`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 2, max = 256)))]
    pub matchers: Vec<String>,
    /// Capture time; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// Minimum time between sessions of the same workload by this trigger; 2m to 168h.
    #[serde(default = "default_cooldown")]
    pub cooldown: Duration,
}

/// Profiles each new revision of a Deployment, StatefulSet, DaemonSet or Argo Rollout once.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "duration(self.delay) <= duration('24h')"
)
.message(
    "delay must be at most 24h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.duration) >= duration('10s') && duration(self.duration) <= duration('6m')"
)
.message(
    "duration must be between 10s and 6m"
))]
#[x_kube(validation = Rule::new(
    "duration(self.wait) <= duration('24h')"
)
.message(
    "wait must be at most 24h"
))]
pub struct RolloutTrigger {
    /// Delay after the first pod of the revision is ready; up to 24h.
    #[serde(default = "default_delay")]
    pub delay: Duration,
    /// Capture time; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// With `compare`: how long to wait for `compare.minPods` ready pods of the revision, after the delay of the
    /// first one; up to 24h. Then those that are ready are compared.
    #[serde(default = "default_wait")]
    pub wait: Duration,
    /// Compares the revision with the one before it: did it get slower, and in which functions?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<CompareRules>,
}

const fn default_wait() -> Duration {
    Duration::from_secs(600)
}

/// Enough for caches to warm up and for first requests to arrive.
const fn default_delay() -> Duration {
    Duration::from_secs(60)
}

/// Starts a session if a Prometheus query returns a series for a while.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "duration(self.__for__) <= duration('24h')"
)
.message(
    "for must be at most 24h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.duration) >= duration('10s') && duration(self.duration) <= duration('6m')"
)
.message(
    "duration must be between 10s and 6m"
))]
#[x_kube(validation = Rule::new(
    "duration(self.cooldown) >= duration('2m') && duration(self.cooldown) <= duration('168h')"
)
.message(
    "cooldown must be between 2m and 168h"
))]
pub struct PromQlTrigger {
    /// Name of the trigger, used in causes and for cooldowns.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// An expression that returns an instant vector. Every returned series fires, whatever its value. Its
    /// labels identify the workload, like those of an alert.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// How long a series must exist before it fires; up to 24h.
    #[serde(rename = "for", default = "default_for")]
    pub for_: Duration,
    /// Capture time; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// Minimum time between sessions of the same workload by this trigger; 2m to 168h.
    #[serde(default = "default_cooldown")]
    pub cooldown: Duration,
}

const fn default_for() -> Duration {
    Duration::from_secs(60)
}
