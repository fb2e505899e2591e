//! Which workload does a policy restart so that its pods get the current agent?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The current or last workload restarted by `agent.existingPods: Restart`. It is written before the workload
/// is patched, so that a new leader can continue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartStatus {
    /// Namespace of the workload.
    pub namespace: String,
    /// Kind of the workload.
    pub kind: String,
    /// Name of the workload.
    pub name: String,
    /// Version of the agent that its pods will get.
    pub agent_version: String,
    /// State of the restart.
    pub state: RestartState,
    /// When the restart was decided.
    pub start_time: Time,
    /// When the number of ready pods last increased.
    pub progress_time: Time,
    /// Number of ready pods of the new revision at that time.
    #[serde(default)]
    pub ready: i32,
    /// When the restart ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Generation of the policy when the restart failed. Changing the policy continues with the next
    /// workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_generation: Option<i64>,
}

/// State of a workload's restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RestartState {
    /// Pending or in progress.
    #[default]
    Restarting,
    /// The pods are ready and have the agent.
    Restarted,
    /// The workload did not become ready, or its pods still have no agent. No other workload is restarted.
    Failed,
    /// A value of a newer version. The restart counts as not known.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
