//! How many captures may run concurrently?

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Millicores;

/// Limits for concurrent captures. A target that gets no slot by its start deadline is `Skipped` with the
/// reason `NodeBusy` or `BudgetExhausted`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Maximum number of concurrent captures of this policy.
    #[serde(default = "default_max_concurrent")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_concurrent: i32,
    /// Targets of this policy wait while this many captures (of any policy) run on their node.
    #[serde(default = "default_per_node")]
    #[schemars(range(min = 1, max = 100))]
    pub max_concurrent_per_node: i32,
    /// Containers with a lower CPU limit, such as `100m`, are not profiled because the overhead of an agent
    /// would be too high.
    #[serde(default, rename = "minContainerCPU")]
    pub min_container_cpu: Millicores,
    /// Waiting targets with a higher priority get a slot first.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_concurrent: default_max_concurrent(),
            max_concurrent_per_node: default_per_node(),
            min_container_cpu: Millicores::default(),
            priority: 0,
        }
    }
}

const fn default_max_concurrent() -> i32 {
    10
}
const fn default_per_node() -> i32 {
    1
}
