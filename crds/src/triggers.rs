//! Which events start a session of a policy?

use kube::KubeSchema;
use schemars::JsonSchema;
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
    /// CPU throttling of a container: the share of its CPU limit's periods in which it was throttled. Containers
    /// without a CPU limit are never throttled by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttling: Option<ShareTrigger>,
    /// Waiting for CPU, memory or block devices.
    #[serde(default, skip_serializing_if = "PressureTriggers::is_empty")]
    pub pressure: PressureTriggers,
    /// Many threads in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<ThreadsTrigger>,
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
    /// Fires by single measurements instead of by the mean over `window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
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
const fn default_share() -> i32 {
    25
}
const fn default_window() -> Duration {
    Duration::from_secs(30)
}
const fn default_cooldown() -> Duration {
    Duration::from_secs(4 * 3600)
}

/// Fires when a number of the last measurements are at or above the threshold: finds peaks that are shorter than
/// a window and come again. Containers below their threshold are measured with each report of their agent, those
/// above it every 9 seconds in a small fleet.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.need <= self.of").message("checks.need must be at most checks.of"))]
pub struct Checks {
    /// Number of measurements that must be at or above the threshold.
    #[schemars(range(min = 1, max = 20))]
    pub need: i32,
    /// Number of measurements that are looked at: the last ones.
    #[schemars(range(min = 1, max = 20))]
    pub of: i32,
}

/// Starts a session if a container is kept from running for a while.
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
#[x_kube(validation = Rule::new("self.threshold % 5 == 0").message(
    "threshold must be a multiple of 5: it is measured in steps of 5 %"
))]
pub struct ShareTrigger {
    /// Threshold in percent, in steps of 5.
    #[serde(default = "default_share")]
    #[schemars(range(min = 5, max = 100))]
    pub threshold: i32,
    /// How long it must be above the threshold; 10s to 1h. Drops of 5 points below it are
    /// ignored.
    #[serde(default = "default_window")]
    pub window: Duration,
    /// Fires by single measurements instead of by the mean over `window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
    /// Capture time; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// Minimum time between sessions of the same workload by this trigger; 2m to 168h.
    #[serde(default = "default_cooldown")]
    pub cooldown: Duration,
}

/// Pressure stall information (PSI) of the container's own cgroup: the share of the time in which at least one of
/// its threads waited. Requires cgroup v2 and a kernel with PSI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PressureTriggers {
    /// Waiting for a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<ShareTrigger>,
    /// Waiting for memory: reclaim, swap and refaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ShareTrigger>,
    /// Waiting for block devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<ShareTrigger>,
}

impl PressureTriggers {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Starts a session if a container has many threads for a while.
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
pub struct ThreadsTrigger {
    /// Number of threads. Counts above 100 are rounded down to two digits.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub threshold: i32,
    /// How long it must be above the threshold; 10s to 1h. Drops of less than a twentieth below it
    /// are ignored.
    #[serde(default = "default_window")]
    pub window: Duration,
    /// Fires by single measurements instead of by the mean over `window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
    /// Capture time; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// Minimum time between sessions of the same workload by this trigger; 2m to 168h.
    #[serde(default = "default_cooldown")]
    pub cooldown: Duration,
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
