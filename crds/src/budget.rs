//! How much may be captured at the same time?

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Millicores;

/// How much may be captured at the same time. A target that gets no place by its start deadline is `Skipped`,
/// with the reason `NodeBusy` or `BudgetExhausted`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Most targets of this policy that are captured at the same time.
    #[serde(default = "default_max_concurrent")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_concurrent: i32,
    /// A target of this policy waits while this many captures run on its node, whoever ordered them.
    #[serde(default = "default_per_node")]
    #[schemars(range(min = 1, max = 100))]
    pub max_concurrent_per_node: i32,
    /// Containers with a lower CPU limit are left alone, since an agent would weigh too much beside them,
    /// such as `100m`.
    #[serde(default, rename = "minContainerCPU")]
    pub min_container_cpu: Millicores,
    /// Of targets that wait for a place, those with the higher number go first.
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
