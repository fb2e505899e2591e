//! Where does a session stand, and what came of it?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::load::RepeatStatus;
pub use crate::phase::{Phase, TargetPhase};
use crate::trigger::Trigger;
use crate::{ProfileKind, Reason};

/// The status of a session. One writer: the leader.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileSessionStatus {
    /// Where the session stands.
    #[serde(default)]
    pub phase: Phase,
    /// Why it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// What is profiled: one workload, or `3 apps`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub app: String,
    /// When targets were picked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the first target was seen running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_time: Option<Time>,
    /// When the last capture ended; result deadlines count from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_end_time: Option<Time>,
    /// When it was seen that `spec.cancel` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_time: Option<Time>,
    /// When the session reached its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Whether results came after the result timeout, but came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub completed_late: bool,
    /// How many targets were wanted, started and ended how.
    #[serde(default)]
    pub counts: Counts,
    /// Targets with data, of those wanted, as in `3/3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub targets_summary: String,
    /// Samples captured in all.
    #[serde(default)]
    pub samples: i64,
    /// Mean CPU use of the targets during the capture, % of their limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<i32>,
    /// Highest memory use of a target during the capture, % of its limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i32>,
    /// The hottest functions over all targets, at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_functions: Vec<TopFunction>,
    /// The targets, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetStatus>,
    /// Where to read the results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// What became of `spec.repeat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RepeatStatus>,
    /// `Complete`, `AgentReachable`; `TargetsLimited` where pods were left out, `ResultsDelayed` where
    /// results are late, `RepeatsComplete` with `spec.repeat`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Targets by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Targets picked.
    pub desired: i32,
    /// Targets whose capture has started.
    pub started: i32,
    /// Targets with a stored profile.
    pub succeeded: i32,
    /// Targets that failed or were cancelled.
    pub failed: i32,
    /// Targets that were never tried.
    pub skipped: i32,
}

/// A function at the top of the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopFunction {
    /// Name of the function.
    pub name: String,
    /// Its file and hottest line, as in `cards.py:42`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Share of samples in the function itself, with one digit, as in `87.3`.
    pub self_percent: String,
}

/// One target of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Name of the pod.
    pub pod: String,
    /// Uid of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// Node of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Workload of the pod, as in `Deployment/orders`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Container that is captured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Runtime id of the container at the time of the order.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// Idempotency key of the capture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub capture: String,
    /// Name of the attached agent's container, where one was attached for this session.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attached_as: String,
    /// Runtime of the target, such as `Python 3.11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// What captures, such as `py-spy` or `perf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector: Option<String>,
    /// Where the target stands.
    #[serde(default)]
    pub phase: TargetPhase,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Samples captured.
    #[serde(default)]
    pub samples: i64,
    /// Mean CPU use during the capture, % of the container's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<i32>,
    /// Highest memory use during the capture, % of the container's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i32>,
    /// When capturing started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When capturing ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Stored profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<StoredProfile>,
}

/// A stored profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredProfile {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ProfileKind,
    /// Its key in the destination.
    pub uri: String,
    /// Bytes as stored.
    pub bytes: i64,
    /// Samples in it.
    pub samples: i64,
}

/// Where to read something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// What it shows: `profile`, `top`.
    pub name: String,
    /// Path on the Kubernetes API server, for `kubectl get --raw`.
    pub url: String,
}
