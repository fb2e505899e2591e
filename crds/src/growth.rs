//! When does a function grow from session to session of one revision, and what came of the last look?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::percent::Percent;
use crate::{ProfileKind, Reason};

/// Looks for functions that use more and more from session to session of one revision: of `heap` profiles, memory
/// in use by pod (a leak); of `cpu` profiles, CPU time by pod at the same load.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "double(self.errorRate.replace('%', '')) >= 0.1 && double(self.errorRate.replace('%', '')) <= 20.0"
)
.message(
    "growth.errorRate must be between 0.1% and 20%"
))]
pub struct GrowthRules {
    /// Number of sessions per look. No session is part of two looks. The policy keeps this many of the newest sessions
    /// of each workload until their `ttl`, whatever its history limits are.
    #[serde(default = "default_sessions")]
    #[schemars(range(min = 8, max = 60))]
    pub sessions: i32,
    /// The smallest growth that counts.
    #[serde(default)]
    pub effect: GrowthEffect,
    /// How often a workload in which nothing grows may be called growing, for each look; 0.1% to 20%.
    #[serde(default = "default_error_rate")]
    pub error_rate: Percent,
}

impl Default for GrowthRules {
    fn default() -> Self {
        Self {
            sessions: default_sessions(),
            effect: GrowthEffect::default(),
            error_rate: default_error_rate(),
        }
    }
}

/// The smallest growth of a function over all sessions of a look that counts. Both must be reached.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "double(self.least.replace('%', '')) >= 0.1 && double(self.least.replace('%', '')) <= 100.0"
)
.message(
    "growth.effect.least must be between 0.1% and 100%"
))]
pub struct GrowthEffect {
    /// In proportion to what the function used at the first session.
    #[serde(default = "default_relative")]
    pub relative: Percent,
    /// In proportion to all that a pod uses; 0.1% to 100%.
    #[serde(default = "default_least")]
    pub least: Percent,
}

impl Default for GrowthEffect {
    fn default() -> Self {
        Self { relative: default_relative(), least: default_least() }
    }
}

/// Result of a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GrowthResult {
    /// At least one function grows, by enough to count, steadily, and chance rarely does that.
    Growing,
    /// None does, and a growth of twice the size that counts would have been seen.
    NotGrowing,
    /// It cannot be told, or not yet; the reason says why.
    #[default]
    Inconclusive,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What came of the look at the sessions of one workload's revision, up to this session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadGrowth {
    /// The workload, as in `Deployment/orders`.
    pub workload: String,
    /// Its revision, as in the labels of its pods; absent for workloads without revisions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Type of the profiles: `cpu` or `heap`.
    #[serde(rename = "type")]
    pub kind: ProfileKind,
    /// The result.
    #[serde(default)]
    pub result: GrowthResult,
    /// Reason for the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What was found, in a few sentences; absent where there was no look.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Sessions that were looked at, or that there are since the last look.
    #[serde(default)]
    pub sessions: i32,
    /// In which part of the orders of the sessions any function grows as clearly, as in `0.0021`; absent where there
    /// was no look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<String>,
    /// The smallest growth, in % of all that a pod uses, of a function with a 5 % share that 4 of 5 such looks would
    /// find; one decimal. `none` if no growth could be found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smallest_growth: String,
    /// At most 3 functions: what grows, then what rose unsteadily, then what rose most by chance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<GrownFunction>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// How a function grew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrownFunction {
    /// Name of the function.
    pub name: String,
    /// The last part of its source file's path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// `Grows`: it uses more and more. `NotSteady`: it rose in a step, in a cycle, or less and less. `Noise`: too
    /// little to count, or chance.
    pub change: String,
    /// Whether the amounts include what it calls.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cumulative: bool,
    /// Amount by pod at the first session, as in `12.5 MiB` or `0.125 cores`.
    pub from: String,
    /// Amount by pod at the last session.
    pub to: String,
}

/// A day of hourly sessions.
const fn default_sessions() -> i32 {
    24
}
const fn default_error_rate() -> Percent {
    Percent::from_tenths(10)
}
const fn default_relative() -> Percent {
    Percent::from_tenths(200)
}
const fn default_least() -> Percent {
    Percent::from_tenths(10)
}
