//! Which pods does a round pick, and how many samples is it to have?

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Which pods are picked in each round.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.samplesPerHour) || self.percent > 0"
)
.message(
    "sampling.samplesPerHour requires a sampling.percent above 0: with 0 there are no rounds"
))]
pub struct Sampling {
    /// Maximum number of targets per round, as a percentage of the pods that can be profiled, rounded up. 0
    /// disables rounds; on-demand and triggered sessions then pick as with 100.
    #[serde(default = "default_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Number of pods per workload and round. Rounds rotate through all pods.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 50))]
    pub replicas_per_workload: i32,
    /// Maximum number of targets per round.
    #[serde(default = "default_max_targets")]
    #[schemars(range(min = 1, max = 50))]
    pub max_targets: i32,
    /// CPU samples that rounds are to capture of each workload per hour, on average; 100 to 10000000. If set,
    /// `replicasPerWorkload`, `schedule.duration` and `frequencyHz` are upper limits: the samples of earlier rounds
    /// decide in how many pods, for how long and how often each workload is sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 10_000_000))]
    pub samples_per_hour: Option<i32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            percent: default_percent(),
            replicas_per_workload: default_replicas(),
            max_targets: default_max_targets(),
            samples_per_hour: None,
        }
    }
}

const fn default_percent() -> i32 {
    100
}
const fn default_replicas() -> i32 {
    1
}
const fn default_max_targets() -> i32 {
    50
}
