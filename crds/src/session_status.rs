//! What does the status of a session show?

mod shared;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compare::Comparison;
use crate::growth::WorkloadGrowth;
use crate::load::RepeatStatus;
pub use crate::phase::{Phase, TargetPhase};
use crate::trigger::Trigger;
use crate::{Duration, ProfileKind, Reason};
pub use shared::{FEWEST, SharedFacts, SharedProfile};

/// Status of a session. Only the leader writes it.
// It is read and written by `shared`, to which `remote` gives the derived functions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", remote = "Self")]
#[schemars(rename = "ProfileSessionStatus")]
pub struct ProfileSessionStatus {
    /// Phase of the session.
    #[serde(default)]
    pub phase: Phase,
    /// Reason for the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Human-readable message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What started the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// The profiled workload, or the number of workloads as in `3 apps`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub app: String,
    /// When the targets were picked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the first target was running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_time: Option<Time>,
    /// When the last capture ended; result deadlines count from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_end_time: Option<Time>,
    /// When the operator noticed that `spec.cancel` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_time: Option<Time>,
    /// When the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Whether results arrived after the result timeout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub completed_late: bool,
    /// Number of targets by outcome.
    #[serde(default)]
    pub counts: Counts,
    /// Targets with data out of all targets, as in `3/3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub targets_summary: String,
    /// Total number of samples captured.
    #[serde(default)]
    pub samples: i64,
    /// Mean CPU usage of the targets during the capture, in % of their limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<i32>,
    /// Highest memory usage of a target during the capture, in % of its limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i32>,
    /// The hottest functions across all targets, at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_functions: Vec<TopFunction>,
    /// What targets of one phase have in common, where there are at least 5 of them. A field that a target does not
    /// have is read here, by its phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<SharedFacts>,
    /// The targets, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetStatus>,
    /// How much of each workload the session captured, sorted by workload; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadStatus>,
    /// Where to read the results: the views of the read API, then what an administrator configured (chart value
    /// `links`, at most 5).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Receivers (chart value `notifications`) that are still to be told of the end of the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_notifications: Vec<String>,
    /// Status of `spec.repeat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RepeatStatus>,
    /// Result of `spec.compare`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// With `growth` of the policy: whether functions of the captured workloads grow, at most 20 rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub growth: Vec<WorkloadGrowth>,
    /// `Complete`, `AgentReachable`, `Representative` (whether the profiles hold most of the CPU time that
    /// the containers used); `Regressed` (whether the new revision is slower) with `spec.compare`;
    /// `Growing` (whether a function grows from session to session) with `growth` of the policy;
    /// `TargetsLimited` if pods were left out, `ResultsDelayed` if results are late, `TtlLimited` if `spec.ttl` is
    /// cut, `Kept` with the annotation `fleetprof.dev/keep`, `RepeatsComplete` with `spec.repeat`, `Delivered` with more than one destination; `Notified` if
    /// receivers are told of its end; `ClockWentBack` if it held times in the future.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status is based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Number of targets by outcome.
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
    /// Targets that were never attempted.
    pub skipped: i32,
}

/// How much of a workload a session captured. CPU time in its profiles, divided by `podSeconds` and multiplied by
/// `pods`, is the number of cores that the whole workload uses: so workloads compare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The workload, as in `Deployment/orders`.
    pub workload: String,
    /// Number of its pods that were running when the targets were picked.
    pub pods: i32,
    /// Number of its pods that were picked.
    pub targets: i32,
    /// Number of targets with data.
    pub captured: i32,
    /// For how long these were captured, added up over the targets, in seconds.
    pub pod_seconds: i64,
    /// Samples captured.
    pub samples: i64,
}

/// One of the hottest functions of the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopFunction {
    /// Name of the function.
    pub name: String,
    /// File and hottest line, as in `cards.py:42`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Percentage of samples in the function itself, with one decimal, as in `87.3`.
    pub self_percent: String,
}

/// One target of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    /// Node of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Workload of the pod, as in `Deployment/orders`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// Revision of the pod, as in its labels; empty for workloads without revisions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The captured container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Container ID at the time of the order; after the end, only its first 13 digits if the target's phase has an entry
    /// in `shared`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// Idempotency key of the capture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub capture: String,
    /// Name of the ephemeral container, if an agent was attached for this session.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attached_as: String,
    /// Runtime of the target, such as `Python 3.11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Collector used, such as `cpython` or `perf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collector: Option<String>,
    /// Number of pods of the workload that were running when the target was picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_pods: Option<i32>,
    /// How long the target is captured, where `sampling.samplesPerHour` of the policy needs less than
    /// `spec.duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_duration: Option<Duration>,
    /// Sampling frequency in Hz, where `sampling.samplesPerHour` of the policy needs less than `spec.frequencyHz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_frequency_hz: Option<i32>,
    /// Phase of the target.
    #[serde(default)]
    pub phase: TargetPhase,
    /// Reason for the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Human-readable message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Samples captured.
    #[serde(default)]
    pub samples: i64,
    /// Number of the container's processes that have samples in the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<i32>,
    /// CPU time in the profile, in % of the CPU time that the container used during the capture (0 to 100).
    /// Absent where the agent cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<i32>,
    /// Mean CPU usage during the capture, in % of the container's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<i32>,
    /// Highest memory usage during the capture, in % of the container's limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i32>,
    /// CPU throttling during the capture: in how many of the CPU limit's periods in which the container ran it was
    /// throttled, in % (0 to 100). Absent without a CPU limit, and where the agent cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_percent: Option<i32>,
    /// When the target got its slot in the budgets; the start deadline counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot_time: Option<Time>,
    /// When the capture started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the capture ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Types of profiles that were ordered, where these are not all of `spec.profiles`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ordered: Vec<ProfileKind>,
    /// The other types, and why they cannot be captured.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub left_out: String,
    /// Stored profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<StoredProfile>,
    /// How much of its native code has names. Absent where there is none in the profiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<TargetSymbols>,
}

/// How much of a target's native code has names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSymbols {
    /// Frames that have the name of a function, in % of all frames of the samples (0 to 100); of the type of profile
    /// in which these are fewest.
    pub named: i32,
    /// Files whose functions have no names, at most 5: those with the most samples first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingSymbols>,
}

/// A file whose functions have no names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissingSymbols {
    /// The file, as the target sees it.
    pub file: String,
    /// Its build ID, by which its symbols are found; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
    /// Why its functions have no names, where symbols were looked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A stored profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredProfile {
    /// Type of the profile.
    #[serde(rename = "type")]
    pub kind: ProfileKind,
    /// Its key, the same in every destination.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Stored size in bytes.
    pub bytes: i64,
    /// Number of samples.
    pub samples: i64,
    /// Destinations that hold it, of those in `spec.destinations`. Empty: only the results volume does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// Destinations that it is not sent to any more; the message of the target or the condition `Delivered` says why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

/// Link to a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Name of the view, such as `profile` or `top`, or of the administrator's link, such as `Grafana`.
    pub name: String,
    /// Path on the Kubernetes API server, for `kubectl get --raw`, or the administrator's URL.
    pub url: String,
}
