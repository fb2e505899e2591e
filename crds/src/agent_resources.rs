//! Which resources does an injected agent get?

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{Memory, Millicores};

/// Resources of an injected agent. Unset values are those of the chart: without a CPU request, a
/// HorizontalPodAutoscaler would stop scaling.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.requests) || !has(self.limits) || !has(self.requests.cpu) || !has(self.limits.cpu) || \
     quantity(self.requests.cpu).compareTo(quantity(self.limits.cpu)) <= 0"
)
.message(
    "agent.resources.requests.cpu must not exceed agent.resources.limits.cpu: the API server would reject \
     the pods"
))]
#[x_kube(validation = Rule::new(
    "!has(self.requests) || !has(self.limits) || !has(self.requests.memory) || !has(self.limits.memory) || \
     quantity(self.requests.memory).compareTo(quantity(self.limits.memory)) <= 0"
)
.message(
    "agent.resources.requests.memory must not exceed agent.resources.limits.memory: the API server would \
     reject the pods"
))]
#[x_kube(validation = Rule::new(
    "!has(self.limits) || !has(self.limits.memory) || \
     quantity(self.limits.memory).compareTo(quantity('32Mi')) >= 0"
)
.message(
    "agent.resources.limits.memory must be at least 32Mi: an idle agent uses 9 MB, and captures need more"
))]
pub struct AgentResources {
    /// Resource requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// Resource limits. With a CPU limit, the agent samples late and misses samples.
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
