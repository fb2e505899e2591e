//! What may an injected agent take of its node?

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{Memory, Millicores};

/// Resources of an injected agent. What is not named is not set, whatever the chart says.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.requests) || !has(self.limits) || !has(self.requests.cpu) || !has(self.limits.cpu) || \
     quantity(self.requests.cpu).compareTo(quantity(self.limits.cpu)) <= 0"
)
.message(
    "agent.resources.requests.cpu is higher than agent.resources.limits.cpu: pods with such an agent would \
     be refused"
))]
#[x_kube(validation = Rule::new(
    "!has(self.requests) || !has(self.limits) || !has(self.requests.memory) || !has(self.limits.memory) || \
     quantity(self.requests.memory).compareTo(quantity(self.limits.memory)) <= 0"
)
.message(
    "agent.resources.requests.memory is higher than agent.resources.limits.memory: pods with such an agent \
     would be refused"
))]
#[x_kube(validation = Rule::new(
    "!has(self.limits) || !has(self.limits.memory) || \
     quantity(self.limits.memory).compareTo(quantity('32Mi')) >= 0"
)
.message(
    "agent.resources.limits.memory is below 32Mi: an agent takes 9 MB while it waits, and a capture more"
))]
pub struct AgentResources {
    /// What the scheduler reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// What the agent can have at most. A CPU limit makes it sample late and count fewer samples than there
    /// are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of CPU and memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// CPU, such as `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Millicores>,
    /// Memory, such as `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}
