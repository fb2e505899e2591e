//! Which load does a session wait for, and how does it repeat?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::phase::Phase;
use crate::selector::label_selector;
use crate::{Duration, Reason};

/// Waits until a load is running: until a pod of the Job, or a pod matched by the selector, is running and
/// ready.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.jobRef) != has(self.podSelector)"
)
.message(
    "spec.startWhen must have exactly one of jobRef and podSelector"
))]
#[x_kube(validation = Rule::new(
    "duration(self.deadline) >= duration('10s') && duration(self.deadline) <= duration('24h')"
)
.message(
    "spec.startWhen.deadline must be between 10s and 24h"
))]
pub struct StartWhen {
    /// A Job in the session's namespace. It may be created after the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_ref: Option<JobRef>,
    /// Label selector for the pods that generate the load, in the session's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub pod_selector: Option<LabelSelector>,
    /// Time after the creation of the session by which the load must be running; 10s to 24h.
    #[serde(default = "default_load_deadline")]
    pub deadline: Duration,
}

/// A Job in the session's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRef {
    /// Name of the Job.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Covers a long load with consecutive captures. The session itself makes the first one. The operator creates
/// a session for each further one, named after this one and owned by it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.count) != (has(self.untilLoadEnds) && self.untilLoadEnds)"
)
.message(
    "spec.repeat must have exactly one of count and untilLoadEnds: true"
))]
#[x_kube(validation = Rule::new(
    "duration(self.interval) <= duration('24h')"
)
.message(
    "spec.repeat.interval must be at most 24h"
))]
pub struct Repeat {
    /// Total number of captures, including the first; 1 to 50. Stops early if the load in `startWhen` ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub count: Option<i32>,
    /// Captures until the load in `startWhen` has ended, at most 50 times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_load_ends: Option<bool>,
    /// Time from the start of one capture to the start of the next, at least `duration` and at most 24h.
    #[serde(default = "default_interval")]
    pub interval: Duration,
}

/// Status of `spec.repeat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepeatStatus {
    /// Number of captures made, including the session's own.
    pub made: i32,
    /// Number of captures that returned data.
    pub succeeded: i32,
    /// Number of captures that returned no data.
    pub failed: i32,
    /// Why more captures follow, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Human-readable message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Earliest start of the next capture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// When the last capture ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// The created sessions in order, at most 49. Entries remain after their session is deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<FollowUp>,
}

/// A session that repeats another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FollowUp {
    /// Name of the session.
    pub name: String,
    /// When it was created.
    pub created_time: Time,
    /// Phase of the session.
    #[serde(default)]
    pub phase: Phase,
    /// Reason for the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Samples captured.
    #[serde(default)]
    pub samples: i64,
}

const fn default_load_deadline() -> Duration {
    Duration::from_secs(900)
}

/// Longer than the longest capture, so that the default is valid with any `duration`.
const fn default_interval() -> Duration {
    Duration::from_secs(600)
}
