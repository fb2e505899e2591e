//! What does a policy answer in its status?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::phase::Phase;
use crate::restart::RestartStatus;
use crate::trigger::Trigger;

/// What a policy has linked and done. Under 20 KB whatever the size of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfilingPolicyStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Configured`, `AgentsReachable`, `ReceivingProfiles`, `WithinBudget`; `Restarting` with
    /// `agent.existingPods: Restart`, `TriggersReady` with triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Linked apps, one per workload, at most 100 and 13 kB, in the order of namespace, kind and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked_apps: Vec<LinkedApp>,
    /// How many workloads are linked in truth.
    #[serde(default)]
    pub linked_app_count: i32,
    /// How many workloads have pods whose agent is older than the operator. An agent changes with its pod
    /// alone: when the pod is recreated, or by `agent.existingPods: Restart`.
    #[serde(default)]
    pub outdated_apps: i32,
    /// The workload that is restarted now, or was last, under `agent.existingPods: Restart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartStatus>,
    /// How many pods are linked in truth.
    #[serde(default)]
    pub linked_pod_count: i32,
    /// Whether `linkedApps` leaves some out.
    #[serde(default)]
    pub linked_apps_truncated: bool,
    /// Sessions of this policy that have not ended; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active_sessions: Vec<SessionSummary>,
    /// The last 10 sessions of this policy that ended, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_sessions: Vec<SessionSummary>,
    /// The schedule that is followed, such as `every 1h for 2m`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    /// Share of time in which a picked pod is profiled, such as `3.33% of time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_overhead: Option<String>,
    /// When the next round starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_session_time: Option<Time>,
    /// When the last round started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_session_time: Option<Time>,
    /// The last tick that passed without a round, since another round was still going on, nobody led, or
    /// its sessions were refused; it is not made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed_time: Option<Time>,
    /// How the last 20 targets ended, newest first: `+` with a profile, `-` without.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub outcomes: String,
    /// Until when sessions are counted in `outcomes` and `failedRounds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcomes_until: Option<Time>,
    /// Rounds of the schedule in a row of which more targets failed than brought a profile. While more than
    /// half of `outcomes` failed, each of them doubles the distance between rounds, up to 16 times.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_rounds: i32,
    /// The last tick that found nothing to start: the policy was suspended, or no pod could be profiled. It
    /// is not missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_idle_time: Option<Time>,
}

// Serde passes what it skips by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// A workload that a policy has linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkedApp {
    /// Namespace of the workload, under a `ClusterProfilingPolicy` alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Kind of the workload, such as `Deployment`; `Pod` for a pod of its own.
    pub kind: String,
    /// Name of the workload.
    pub name: String,
    /// Container that is profiled.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Runtime that the agents found, such as `Python 3.11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Pods of the workload that the policy selects.
    pub pods: i32,
    /// Pods of them that can be profiled now: an agent answers, or can be attached.
    pub linked: i32,
    /// Versions of the agents, sorted; at most 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_versions: Vec<String>,
    /// Pods whose agent is older than the operator.
    #[serde(default)]
    pub outdated: i32,
    /// What holds for the workload.
    pub state: LinkState,
    /// Why: of the pod that is worst off.
    pub reason: Reason,
    /// When a profile of it was last captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_profile_time: Option<Time>,
}

/// What holds for a linked app.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum LinkState {
    /// Every pod can be profiled.
    #[default]
    Linked,
    /// Some pods can be profiled.
    PartiallyLinked,
    /// None can.
    NotLinked,
}

/// A line about a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionSummary {
    /// Namespace of the `ProfileSession`, under a `ClusterProfilingPolicy` alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name of the `ProfileSession`.
    pub name: String,
    /// What started it.
    pub trigger: Trigger,
    /// Where it stands.
    pub phase: Phase,
    /// Why, in a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Targets with data, of those wanted, as in `3/3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub targets: String,
    /// Every target of it was skipped, so that nothing was tried.
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
