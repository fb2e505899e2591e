//! Which workload does a policy restart, so that its pods get the agent of today?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The workload that a policy with `agent.existingPods: Restart` restarts now, or has restarted last. It is
/// written before the workload is touched, so that a new leader knows what is going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartStatus {
    /// Namespace of the workload.
    pub namespace: String,
    /// Kind of the workload.
    pub kind: String,
    /// Name of the workload.
    pub name: String,
    /// Version of the agent that its pods are to get.
    pub agent_version: String,
    /// Where the restart stands.
    pub state: RestartState,
    /// When it was decided.
    pub start_time: Time,
    /// When another pod of it was last seen ready.
    pub progress_time: Time,
    /// Pods of the new revision that were ready then.
    #[serde(default)]
    pub ready: i32,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// The policy's generation when it failed: a change of the policy lets it go on with the next workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_generation: Option<i64>,
}

/// Where the restart of a workload stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestartState {
    /// Decided, or going on.
    #[default]
    Restarting,
    /// Its pods are ready and have the agent.
    Restarted,
    /// It did not become ready, or its pods have no agent all the same. Nothing else is restarted.
    Failed,
}
