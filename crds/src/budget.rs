//! How many captures may run concurrently?

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Millicores;

/// Limits for concurrent captures that schedules and triggers start. A target without a slot waits; one that
/// gets none in time is `Skipped` with the reason `NodeBusy`, `BudgetExhausted` or `ContainerBusy`. Captures
/// that people request do not count here and are not limited by it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Maximum number of concurrent captures of this policy.
    #[serde(default = "default_max_concurrent")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_concurrent: i32,
    /// Maximum number of concurrent captures of this policy on one node. The limit of the node for captures
    /// of all policies applies as well: the chart value `budgets.node`, by default one per core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_concurrent_per_node: Option<i32>,
    /// Containers with a lower CPU limit, such as `100m`, are not profiled because the overhead of an agent
    /// would be too high.
    #[serde(default, rename = "minContainerCPU")]
    pub min_container_cpu: Millicores,
    /// Waiting targets with a higher priority get a slot first. Compares policies that profile the same
    /// namespace. Between namespaces, the one with the fewest running captures goes first; if they have
    /// equally many, the priority of a `ClusterProfilingPolicy` counts.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_concurrent: default_max_concurrent(),
            max_concurrent_per_node: None,
            min_container_cpu: Millicores::default(),
            priority: 0,
        }
    }
}

const fn default_max_concurrent() -> i32 {
    10
}
