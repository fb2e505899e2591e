//! What does a person say once for a fleet? The `ProfilingPolicy`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent_resources::AgentResources;
use crate::budget::Budget;
use crate::defaults::{
    default_frequency, default_profiles, default_result_deadline, default_result_timeout,
    default_start_deadline, default_ttl,
};
pub use crate::policy_status::{LinkState, LinkedApp, ProfilingPolicyStatus, SessionSummary};
pub use crate::schedule::{Preset, Schedule, SuspendBehavior};
use crate::selector::label_selector;
use crate::triggers::Triggers;
use crate::{Duration, ProfileKind};

/// Links every pod that it selects in its namespace and profiles them in short bursts.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "fleetprof.dev",
    version = "v1alpha1",
    kind = "ProfilingPolicy",
    plural = "profilingpolicies",
    shortname = "ppol",
    category = "fleetprof",
    namespaced,
    status = "ProfilingPolicyStatus",
    derive = "PartialEq",
    doc = "ProfilingPolicy links every pod that it selects in its namespace, and profiles the linked apps in \
           short bursts.",
    validation = Rule::new(
        "self.metadata.name.size() <= 63"
    )
    .message(
        "metadata.name must have at most 63 characters, since sessions carry it as a label"
    ),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.agent.mode"),
    printcolumn(name = "Apps", type_ = "integer", json_path = ".status.linkedAppCount"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.linkedPodCount"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".status.schedule"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextSessionTime"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, e.operator in ['In', \
     'NotIn', 'Exists', 'DoesNotExist'])"
)
.message(
    "spec.selector.matchExpressions: operator must be In, NotIn, Exists or DoesNotExist"
))]
#[x_kube(validation = Rule::new(
    "!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, (e.operator in ['In', \
     'NotIn']) == (has(e.values) && e.values.size() > 0))"
)
.message(
    "spec.selector.matchExpressions: In and NotIn need values, Exists and DoesNotExist take none"
))]
pub struct ProfilingPolicySpec {
    /// Selects pods of the policy's namespace by their labels; `{}` selects all of them.
    #[schemars(schema_with = "label_selector")]
    pub selector: LabelSelector,
    /// Which container of a pod is profiled.
    #[serde(default)]
    pub containers: Containers,
    /// How the agent comes to the pods.
    #[serde(default)]
    pub agent: AgentSpec,
    /// When linked apps are profiled without being asked; by default every hour for 2 minutes.
    #[serde(default)]
    pub schedule: Schedule,
    /// What else starts a session; each trigger is off unless it is there.
    #[serde(default, skip_serializing_if = "Triggers::is_empty")]
    pub triggers: Triggers,
    /// What is captured.
    #[serde(default = "default_profiles")]
    #[schemars(length(min = 1, max = 6))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub profiles: Vec<ProfileKind>,
    /// Samples a second and target.
    #[serde(default = "default_frequency")]
    #[schemars(range(min = 1, max = 1000))]
    pub frequency_hz: i32,
    /// Who is picked in one round.
    #[serde(default)]
    pub sampling: Sampling,
    /// Deadlines and retention of the policy's sessions.
    #[serde(default)]
    pub session: SessionRules,
    /// Starts no new sessions while true.
    #[serde(default)]
    pub suspend: bool,
    /// What becomes of running sessions when `suspend` is set: `Finish` lets them end, `Cancel` stops them.
    #[serde(default)]
    pub suspend_behavior: SuspendBehavior,
    /// How much may be captured at the same time.
    #[serde(default)]
    pub budget: Budget,
}

/// Which container of a pod is profiled.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.include) || self.include.all(g, g.matches('^[a-z0-9*?]([-a-z0-9*?]*[a-z0-9*?])?$'))"
)
.message(
    "containers.include: a glob is made of lower-case letters, digits, -, * and ?"
))]
#[x_kube(validation = Rule::new(
    "!has(self.exclude) || self.exclude.all(g, g.matches('^[a-z0-9*?]([-a-z0-9*?]*[a-z0-9*?])?$'))"
)
.message(
    "containers.exclude: a glob is made of lower-case letters, digits, -, * and ?"
))]
pub struct Containers {
    /// Globs (`*`, `?`) of container names. The first container that matches is profiled. Empty: the
    /// container named by the annotation `kubectl.kubernetes.io/default-container`, else the first that is no
    /// known sidecar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub include: Vec<String>,
    /// Globs of container names that are never profiled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub exclude: Vec<String>,
}

/// How the agent comes to the pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!(self.mode == 'Ephemeral' && self.existingPods == 'Restart')"
)
.message(
    "agent.existingPods: Restart needs agent.mode Sidecar: with Ephemeral, a restart brings no agent"
))]
pub struct AgentSpec {
    /// `Sidecar`: injected when a pod is created. `Ephemeral`: attached when a session needs it.
    #[serde(default)]
    pub mode: AgentMode,
    /// What happens to pods without an agent, such as those older than the policy: `AttachOnDemand` attaches
    /// one when a session needs it, `Wait` leaves them alone until they are recreated, `Restart` restarts
    /// their workloads one after another, those with an older agent too; an admin must allow it (chart value
    /// `restart.enabled`).
    #[serde(default)]
    pub existing_pods: ExistingPods,
    /// Image of the agents of this policy: one that an admin allows (chart value `image.agent.allowed`).
    /// Without it they have the chart's. Pods that have an agent already keep it until they are recreated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"))]
    pub image: Option<String>,
    /// Resources of the injected container, in place of the chart's `agent.resources`. An attached agent has
    /// none of its own: Kubernetes allows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<AgentResources>,
}

/// How the agent comes to the pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AgentMode {
    /// Injected when a pod is created.
    #[default]
    Sidecar,
    /// Attached when a session needs it.
    Ephemeral,
}

/// What happens to pods without an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExistingPods {
    /// An agent is attached when a session needs it.
    #[default]
    AttachOnDemand,
    /// They are left alone until they are recreated.
    Wait,
    /// Their workloads are restarted one after another, where an admin lets the operator do so.
    Restart,
}

/// Who is picked in one round.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sampling {
    /// Most targets in one round, in percent of the pods that can be profiled; rounded up. 0: no rounds;
    /// sessions by hand and by triggers pick as with 100.
    #[serde(default = "default_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Pods of each workload in one round; a rotating pick gives every pod its turn.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 50))]
    pub replicas_per_workload: i32,
    /// Most targets in one round.
    #[serde(default = "default_max_targets")]
    #[schemars(range(min = 1, max = 50))]
    pub max_targets: i32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            percent: default_percent(),
            replicas_per_workload: default_replicas(),
            max_targets: default_max_targets(),
        }
    }
}

/// Deadlines and retention of sessions.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "duration(self.startDeadline) >= duration('5s') && duration(self.startDeadline) <= duration('1h')"
)
.message(
    "session.startDeadline must be between 5s and 1h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.resultTimeout) >= duration('10s') && duration(self.resultTimeout) <= \
     duration(self.resultDeadline)"
)
.message(
    "session.resultTimeout must be between 10s and session.resultDeadline"
))]
#[x_kube(validation = Rule::new(
    "duration(self.resultDeadline) <= duration('168h')"
)
.message(
    "session.resultDeadline must be at most 168h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.ttl) >= duration('1m')"
)
.message(
    "session.ttl must be at least 1m"
))]
pub struct SessionRules {
    /// A target that has not started by then fails; 5s to 1h.
    #[serde(default = "default_start_deadline")]
    pub start_deadline: Duration,
    /// Results later than this after the capture set the condition `ResultsDelayed`; they may still arrive.
    #[serde(default = "default_result_timeout")]
    pub result_timeout: Duration,
    /// Results later than this after the capture are given up.
    #[serde(default = "default_result_deadline")]
    pub result_deadline: Duration,
    /// A session and its profiles are removed this long after it ended.
    #[serde(default = "default_ttl")]
    pub ttl: Duration,
    /// How many ended sessions of the policy are kept.
    #[serde(default)]
    pub history: History,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self {
            start_deadline: default_start_deadline(),
            result_timeout: default_result_timeout(),
            result_deadline: default_result_deadline(),
            ttl: default_ttl(),
            history: History::default(),
        }
    }
}

/// How many ended sessions of a policy are kept in each namespace; applies to those that the policy started
/// itself.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Sessions that ended `Succeeded` or `PartiallySucceeded`.
    #[serde(default = "default_history_succeeded")]
    #[schemars(range(min = 0, max = 1000))]
    pub succeeded: i32,
    /// Sessions that ended otherwise.
    #[serde(default = "default_history_failed")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed: i32,
}

impl Default for History {
    fn default() -> Self {
        Self { succeeded: default_history_succeeded(), failed: default_history_failed() }
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
const fn default_history_succeeded() -> i32 {
    10
}
const fn default_history_failed() -> i32 {
    5
}
