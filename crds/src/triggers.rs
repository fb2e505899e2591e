//! What starts a session beside the schedule and people? The triggers of a policy; each is off unless it is
//! there.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// What starts a session beside the schedule and people. Each is off unless it is there.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.promQL) || self.promQL.all(a, self.promQL.exists_one(b, a.name == b.name))"
)
.message(
    "promQL: each trigger needs a name of its own"
))]
pub struct Triggers {
    /// A container uses much CPU for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<LevelTrigger>,
    /// A container uses much memory for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<LevelTrigger>,
    /// An alert fires; needs the alert receiver, which the administrator turns on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub alerts: Vec<AlertTrigger>,
    /// A query of the administrator's Prometheus gives a series.
    #[serde(rename = "promQL", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub prom_ql: Vec<PromQlTrigger>,
    /// A new revision is rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutTrigger>,
}

impl Triggers {
    /// Whether none is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A container uses much of what it may for a while.
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
    /// Per cent of the container's own limit; of the node's cores or memory where it has none.
    #[serde(default = "default_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub threshold: i32,
    /// For how long it has to be reached; 10s to 1h. A drop of less than 5 points below the threshold does
    /// not interrupt it.
    #[serde(default = "default_window")]
    pub window: Duration,
    /// How long the session captures; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// For how long this trigger starts no other session of the same workload; 2m to 168h.
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

/// An alert of Alertmanager starts a session of the workload that its labels name.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.matchers.all(m, m.matches('^[a-zA-Z_][a-zA-Z0-9_]*[ ]*(=|!=|=~|!~)[ ]*(\".*\"|[^\" ]+)$'))"
)
.message(
    "matchers: write each as alertname=\"SlowOrders\", with =, !=, =~ or !~"
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
    /// Labels that the alert must have, all of them, as in Alertmanager: `alertname="SlowOrders"`,
    /// `severity=~"page|critical"`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 2, max = 256)))]
    pub matchers: Vec<String>,
    /// How long the session captures; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// For how long this trigger starts no other session of the same workload; 2m to 168h.
    #[serde(default = "default_cooldown")]
    pub cooldown: Duration,
}

/// A new revision of a Deployment, StatefulSet or DaemonSet is profiled once.
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
pub struct RolloutTrigger {
    /// How long after the first pod of the revision is ready; up to 24h.
    #[serde(default = "default_delay")]
    pub delay: Duration,
    /// How long the session captures; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
}

/// Caches are warm and the first customers are there.
const fn default_delay() -> Duration {
    Duration::from_secs(60)
}

/// A query of the administrator's Prometheus gives a series for a while.
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
    /// Names the trigger in causes and cooldowns.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// An expression that gives an instant vector. Every series that it gives fires, whatever its value; its
    /// labels name the workload, as those of an alert do.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,
    /// For how long a series has to be there; up to 24h.
    #[serde(rename = "for", default = "default_for")]
    pub for_: Duration,
    /// How long the session captures; 10s to 6m.
    #[serde(default = "default_window")]
    pub duration: Duration,
    /// For how long this trigger starts no other session of the same workload; 2m to 168h.
    #[serde(default = "default_cooldown")]
    pub cooldown: Duration,
}

const fn default_for() -> Duration {
    Duration::from_secs(60)
}
