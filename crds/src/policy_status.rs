//! What does the status of a policy show?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::agent_mode::AgentMode;
use crate::phase::Phase;
use crate::restart::RestartStatus;
use crate::trigger::Trigger;

/// Status of a policy. Less than 20 KB, whatever the size of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfilingPolicyStatus {
    /// Generation of the spec that this status is based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Configured`, `AgentsReachable`, `ReceivingProfiles`, `WithinBudget`; `Restarting` with
    /// `agent.existingPods: Restart`, `TriggersReady` with triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Linked apps, one entry per workload, sorted by namespace, kind and name. Limited to 100 entries and 13
    /// kB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked_apps: Vec<LinkedApp>,
    /// Total number of linked workloads, including those omitted from `linkedApps`.
    #[serde(default)]
    pub linked_app_count: i32,
    /// Number of workloads with pods whose agent is older than the operator. Agents are only replaced when
    /// their pod is recreated, for example by `agent.existingPods: Restart`.
    #[serde(default)]
    pub outdated_apps: i32,
    /// The current or last workload restarted by `agent.existingPods: Restart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartStatus>,
    /// Total number of linked pods, including those omitted from `linkedApps`.
    #[serde(default)]
    pub linked_pod_count: i32,
    /// Whether `linkedApps` is incomplete.
    #[serde(default)]
    pub linked_apps_truncated: bool,
    /// Active sessions of this policy, at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active_sessions: Vec<SessionSummary>,
    /// The last 10 ended sessions of this policy, newest first. A `ClusterProfilingPolicy` leaves out those
    /// that users requested, here and in `activeSessions`: they are listed in their namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_sessions: Vec<SessionSummary>,
    /// The effective schedule, such as `every 1h for 2m`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    /// Share of the time that a picked pod is profiled, such as `3.33% of the time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_overhead: Option<String>,
    /// When the next round starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_session_time: Option<Time>,
    /// When the last round started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_session_time: Option<Time>,
    /// The last scheduled round that did not run because the previous one was still running, there was no
    /// leader, or its sessions were rejected. Missed rounds are skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed_time: Option<Time>,
    /// Outcomes of the last 20 targets, newest first: `+` with a profile, `-` without. For a
    /// `ClusterProfilingPolicy`, of the last 20 sessions of its rounds: one namespace counts once per round.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcomes: String,
    /// Sessions that ended until then are counted in `outcomes` and `failedRounds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcomes_until: Option<Time>,
    /// Number of consecutive scheduled rounds in which more targets (of a `ClusterProfilingPolicy`: more
    /// namespaces) failed than returned a profile. While more than half of `outcomes` failed, each of them
    /// doubles the interval between rounds, up to 16 times.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_rounds: i32,
    /// Namespaces in which targets of this `ClusterProfilingPolicy` failed lately; at most 20, those with the
    /// most failures. A namespace in which more than half of the last 20 targets failed is left out of 1, 3,
    /// 7 and at most 15 rounds, and does not affect the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing_namespaces: Vec<NamespaceOutcomes>,
    /// The last scheduled round with nothing to do because the policy was suspended or no pod could be
    /// profiled. It does not count as missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_idle_time: Option<Time>,
}

/// How the targets of a cluster policy fare in a namespace. Those of sessions that users requested do not
/// count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceOutcomes {
    /// Name of the namespace.
    pub namespace: String,
    /// Outcomes of its last 20 targets, newest first: `+` with a profile, `-` without.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcomes: String,
    /// Number of consecutive rounds in which more of its targets failed than returned a profile.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_rounds: i32,
    /// When the last of those rounds started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failed_time: Option<Time>,
}

// Serde passes what it skips by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// A workload linked by a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkedApp {
    /// Namespace of the workload; only set by a `ClusterProfilingPolicy`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Kind of the workload, such as `Deployment`; `Pod` for a standalone pod.
    pub kind: String,
    /// Name of the workload.
    pub name: String,
    /// The profiled container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Runtime detected by the agents, such as `Python 3.11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Number of pods of the workload that the policy selects.
    pub pods: i32,
    /// Number of pods that can be profiled now: their agent reports, or one can be attached.
    pub linked: i32,
    /// Which agents profile the pods, or would when a session needs one: `Sidecar`, `Ephemeral`, `Node`. With
    /// `agent.mode: Auto`, this tells what was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_modes: Vec<AgentMode>,
    /// Versions of the agents, sorted; at most 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_versions: Vec<String>,
    /// Number of pods whose agent is older than the operator.
    #[serde(default)]
    pub outdated: i32,
    /// State of the workload.
    pub state: LinkState,
    /// Reason reported by the least healthy pod.
    pub reason: Reason,
    /// What the reason refers to, such as the LimitRange that leaves no room for the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the workload was last profiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_profile_time: Option<Time>,
    /// CPU samples per hour that its last rounds captured, at most 4; only with `sampling.samplesPerHour`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_samples_per_hour: Option<i64>,
}

/// State of a linked app.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum LinkState {
    /// All pods can be profiled.
    #[default]
    Linked,
    /// Some pods can be profiled.
    PartiallyLinked,
    /// No pod can be profiled.
    NotLinked,
    /// A value of a newer version. It is worked out again with each look.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// Summary of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionSummary {
    /// Namespace of the `ProfileSession`; only set by a `ClusterProfilingPolicy`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the `ProfileSession`.
    pub name: String,
    /// What started the session.
    pub trigger: Trigger,
    /// Phase of the session.
    pub phase: Phase,
    /// Reason for the phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Targets with data out of all targets, as in `3/3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub targets: String,
    /// Whether all targets were skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Samples captured.
    #[serde(default)]
    pub samples: i64,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
}
