//! How do agents get at pods?

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How agents get into pods.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum AgentMode {
    /// Injected when a pod is created.
    #[default]
    Sidecar,
    /// Attached when a session needs it.
    Ephemeral,
    /// None: the agent of the node serves them.
    Node,
    /// What the cluster allows: the agent of the node, else one in the pod.
    Auto,
    /// A value of a newer version. The policy is reported as invalid and gives no pod an agent.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
