//! Which captures are compared after a rollout, how large a change counts, and what came of it?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::percent::Percent;

/// Rules of a comparison between two revisions of a workload.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "double(self.errorRate.replace('%', '')) >= 0.1 && double(self.errorRate.replace('%', '')) <= 20.0"
)
.message(
    "compare.errorRate must be between 0.1% and 20%"
))]
pub struct CompareRules {
    /// What the new revision is compared with. `Stable`: pods of the old revision that are captured in the
    /// same session. `Sessions`: earlier sessions of the policy's schedule and rollouts, which say less: 19 or
    /// more are needed.
    #[serde(default)]
    pub baseline: Baseline,
    /// With `Sessions`: the number of earlier sessions, the newest first. The policy keeps them, whatever its
    /// history limits say.
    #[serde(default = "default_sessions")]
    #[schemars(range(min = 1, max = 60))]
    pub sessions: i32,
    /// With `Stable`: suffix of the name of another workload whose pods are the old revision, such as
    /// `-primary` with Flagger. Workloads with this suffix are not compared themselves.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), regex(pattern = r"^(-[a-z0-9][-a-z0-9.]*)?$"))]
    pub baseline_suffix: String,
    /// Least number of pods of each revision.
    #[serde(default = "default_min_pods")]
    #[schemars(range(min = 2, max = 25))]
    pub min_pods: i32,
    /// The smallest change that counts.
    #[serde(default)]
    pub effect: Effect,
    /// How often a revision without a change may be called slower; 0.1% to 20%. With a lower rate, more pods
    /// are needed.
    #[serde(default = "default_error_rate")]
    pub error_rate: Percent,
}

impl Default for CompareRules {
    fn default() -> Self {
        Self {
            baseline: Baseline::default(),
            sessions: default_sessions(),
            baseline_suffix: String::new(),
            min_pods: default_min_pods(),
            effect: Effect::default(),
            error_rate: default_error_rate(),
        }
    }
}

/// What a new revision is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Baseline {
    /// Pods of the old revision, captured in the same session.
    #[default]
    Stable,
    /// Earlier sessions.
    Sessions,
    /// A value of a newer version. New revisions are captured without a comparison.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// The smallest change of a function that counts. Shares are of the container's CPU time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[self.points, self.least].all(p, double(p.replace('%', '')) >= 0.1 && double(p.replace('%', '')) <= \
     100.0)"
)
.message(
    "compare.effect.points and compare.effect.least must be between 0.1% and 100%"
))]
pub struct Effect {
    /// A rise of the function's own share by so many percentage points is enough in itself; 0.1% to 100%.
    #[serde(default = "default_points")]
    pub points: Percent,
    /// A rise by this part of what the share was, own or with what the function calls, is enough if it is
    /// also at least `least`.
    #[serde(default = "default_relative")]
    pub relative: Percent,
    /// The fewest percentage points for `relative`; 0.1% to 100%.
    #[serde(default = "default_least")]
    pub least: Percent,
}

impl Default for Effect {
    fn default() -> Self {
        Self { points: default_points(), relative: default_relative(), least: default_least() }
    }
}

/// Compares a revision with the one before it, from the captures of the session.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCompare {
    /// The new revision: the value of the label `pod-template-hash`, `rollouts-pod-template-hash` or
    /// `controller-revision-hash` of its pods. Targets of another revision are what it is compared with.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub revision: String,
    /// Rules of the comparison.
    #[serde(default)]
    pub rules: CompareRules,
}

/// Result of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ComparisonResult {
    /// At least one function costs more, by enough to count, and chance rarely does that.
    Regressed,
    /// No function does, and a change of twice the size that counts would have been seen.
    NotRegressed,
    /// It cannot be told; the reason says why.
    #[default]
    Inconclusive,
    /// A value of a newer version.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What a comparison of two revisions came to. Made once, when the session ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// The result.
    #[serde(default)]
    pub result: ComparisonResult,
    /// Reason for the result, as in the condition `Regressed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The new revision.
    pub revision: String,
    /// The revision that it was compared with; absent where there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base_revision: String,
    /// The smallest rise of the own share of a function of 5 % that is found in 4 of 5 such comparisons, in
    /// percentage points with one decimal; `none` where no change could have been found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smallest_change: String,
    /// How often chance makes any function rise as clearly, as in `0.014`; absent where nothing was tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<String>,
    /// What was compared of the new revision.
    #[serde(default)]
    pub new: ComparedRevision,
    /// What was compared of the old one.
    #[serde(default)]
    pub old: ComparedRevision,
    /// At most 5 functions: what costs more, then what moved, then what rose most by chance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<ComparedFunction>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// What was compared of a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComparedRevision {
    /// Its pods.
    #[serde(default)]
    pub pods: i32,
    /// Captures of them.
    #[serde(default)]
    pub captures: i32,
    /// Samples in these.
    #[serde(default)]
    pub samples: i64,
    /// Mean coverage in %; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<i32>,
}

/// How a function changed. Shares are of the container's CPU time, in % with one decimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComparedFunction {
    /// Name of the function.
    pub name: String,
    /// The last part of its source file's path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// `Rose`: it costs more. `Moved`: its cost came from related functions. `ShareOnly`: the rest got
    /// cheaper. `Noise`: too little to count, or chance.
    pub change: String,
    /// Whether the shares include what it calls.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cumulative: bool,
    /// Share before.
    pub old_percent: String,
    /// Share now.
    pub new_percent: String,
    /// Change in percentage points, with its sign.
    pub change_points: String,
    /// The change less and plus what chance makes of any function in all but `errorRate` of the cases, in
    /// percentage points, as in `+0.9 to +3.3`; absent where it cannot be told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interval: String,
    /// Cores by pod before; absent where CPU time by pod is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_cores: Option<String>,
    /// Cores by pod now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_cores: Option<String>,
}

/// A day of hourly sessions, and enough for a verdict.
const fn default_sessions() -> i32 {
    24
}
/// With fewer, no arrangement is rarer than one in 20.
const fn default_min_pods() -> i32 {
    3
}
const fn default_error_rate() -> Percent {
    Percent::from_tenths(50)
}
const fn default_points() -> Percent {
    Percent::from_tenths(10)
}
const fn default_relative() -> Percent {
    Percent::from_tenths(200)
}
const fn default_least() -> Percent {
    Percent::from_tenths(5)
}
