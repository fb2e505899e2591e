//! Which load does a session wait for, how often does it capture while the load runs, and what came of it?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::phase::Phase;
use crate::selector::label_selector;
use crate::{Duration, Reason};

/// Waits until a load runs: a pod of the Job, or a pod that the labels select, is running and ready.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.jobRef) != has(self.podSelector)"
)
.message(
    "spec.startWhen takes exactly one of jobRef and podSelector"
))]
#[x_kube(validation = Rule::new(
    "duration(self.deadline) >= duration('10s') && duration(self.deadline) <= duration('24h')"
)
.message(
    "spec.startWhen.deadline must be between 10s and 24h"
))]
pub struct StartWhen {
    /// A Job of the session's namespace; it may be created after the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_ref: Option<JobRef>,
    /// Labels of the pods that make the load, in the session's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub pod_selector: Option<LabelSelector>,
    /// A load that does not run this long after the session was created is given up; 10s to 24h.
    #[serde(default = "default_load_deadline")]
    pub deadline: Duration,
}

/// A Job of the session's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRef {
    /// Name of the Job.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Covers a long load by several captures one after another. The first is the session's own; each further one
/// is a session that the operator makes, named after this one and owned by it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.count) != (has(self.untilLoadEnds) && self.untilLoadEnds)"
)
.message(
    "spec.repeat takes exactly one of count and untilLoadEnds: true"
))]
#[x_kube(validation = Rule::new(
    "duration(self.interval) <= duration('24h')"
)
.message(
    "spec.repeat.interval must be at most 24h"
))]
pub struct Repeat {
    /// Captures in all, the first included; 1 to 50. Fewer are made when the load of `startWhen` ends before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub count: Option<i32>,
    /// Captures until the load of `startWhen` has ended, at most 50 times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_load_ends: Option<bool>,
    /// Time from the start of one capture to the start of the next, at least `duration` and at most 24h.
    #[serde(default = "default_interval")]
    pub interval: Duration,
}

/// What became of `spec.repeat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepeatStatus {
    /// Captures made, the session's own included.
    pub made: i32,
    /// Captures of them that ended with data.
    pub succeeded: i32,
    /// Captures of them that ended without.
    pub failed: i32,
    /// Why it goes on, or why no more are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the next capture starts at the earliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// When the last capture had ended and no more were to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// The sessions that were made, in their order; at most 49. A row stays after its session is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<FollowUp>,
}

/// A session that was made to repeat another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FollowUp {
    /// Name of the session.
    pub name: String,
    /// When it was made.
    pub created_time: Time,
    /// Where it stands.
    #[serde(default)]
    pub phase: Phase,
    /// Why, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Samples captured.
    #[serde(default)]
    pub samples: i64,
}

const fn default_load_deadline() -> Duration {
    Duration::from_secs(900)
}

/// Longer than the longest capture, so that the default goes with every `duration`.
const fn default_interval() -> Duration {
    Duration::from_secs(600)
}
