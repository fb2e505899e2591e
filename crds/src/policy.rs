//! What does a `ProfilingPolicy` consist of?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ProfileKind;
pub use crate::agent_mode::AgentMode;
use crate::agent_resources::AgentResources;
use crate::budget::Budget;
use crate::defaults::{default_destinations, default_frequency, default_profiles};
use crate::growth::GrowthRules;
pub use crate::policy_status::{
    LinkState, LinkedApp, NamespaceOutcomes, ProfilingPolicyStatus, SessionSummary,
};
pub use crate::sampling::Sampling;
pub use crate::schedule::{Preset, Schedule, SuspendBehavior};
use crate::selector::label_selector;
pub use crate::session_rules::{History, SessionLimits, SessionRules};
use crate::triggers::Triggers;

/// Links the selected pods in its namespace and profiles them in short bursts.
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
    doc = "ProfilingPolicy links the selected pods in its namespace and profiles the linked apps in short \
           bursts.",
    validation = Rule::new(
        "self.metadata.name.size() <= 63"
    )
    .message(
        "metadata.name must have at most 63 characters because sessions carry it as a label"
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
    "spec.selector.matchExpressions: In and NotIn require values, Exists and DoesNotExist do not allow them"
))]
#[x_kube(validation = Rule::new(
    "!has(self.growth) || self.profiles.exists(p, p in ['cpu', 'heap'])"
)
.message(
    "spec.growth requires cpu or heap in spec.profiles"
))]
#[x_kube(validation = Rule::new(
    "!has(self.sampling.samplesPerHour) || self.profiles.exists(p, p == 'cpu')"
)
.message(
    "sampling.samplesPerHour counts CPU samples and requires cpu in spec.profiles"
))]
#[x_kube(validation = Rule::new(
    "!has(self.sampling.samplesPerHour) || self.session.history.succeeded > 0"
)
.message(
    "sampling.samplesPerHour requires session.history.succeeded of at least 1: kept sessions tell how many \
     samples a workload gives"
))]
pub struct ProfilingPolicySpec {
    /// Label selector for pods in the policy's namespace; `{}` selects all.
    #[schemars(schema_with = "label_selector")]
    pub selector: LabelSelector,
    /// Selects the container of a pod to profile.
    #[serde(default)]
    pub containers: Containers,
    /// How agents get into pods.
    #[serde(default)]
    pub agent: AgentSpec,
    /// Schedule for profiling; defaults to 2 minutes every hour.
    #[serde(default)]
    pub schedule: Schedule,
    /// Events that start a session. Triggers are off unless they are set.
    #[serde(default, skip_serializing_if = "Triggers::is_empty")]
    pub triggers: Triggers,
    /// Looks for functions that grow from session to session of the schedule. Off unless it is set; `{}` uses the
    /// defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<GrowthRules>,
    /// Types of profiles to capture.
    #[serde(default = "default_profiles")]
    #[schemars(length(min = 1, max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub profiles: Vec<ProfileKind>,
    /// Sampling frequency in Hz, per target.
    #[serde(default = "default_frequency")]
    #[schemars(range(min = 1, max = 1000))]
    pub frequency_hz: i32,
    /// Which pods are picked in each round.
    #[serde(default)]
    pub sampling: Sampling,
    /// Names of the destinations for profiles, of those that an administrator configured (chart value
    /// `destinations`). A session ends once the first one holds its profiles; the others follow.
    #[serde(default = "default_destinations")]
    #[schemars(
        length(min = 1, max = 4),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub destinations: Vec<String>,
    /// Deadlines and retention of sessions started by the policy.
    #[serde(default)]
    pub session: SessionRules,
    /// If true, no new sessions are started.
    #[serde(default)]
    pub suspend: bool,
    /// What happens to running sessions when `suspend` is set: `Finish` lets them finish, `Cancel` stops
    /// them.
    #[serde(default)]
    pub suspend_behavior: SuspendBehavior,
    /// Limits for concurrent captures.
    #[serde(default)]
    pub budget: Budget,
}

/// Selects the container of a pod to profile.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.include) || self.include.all(g, g.matches('^[a-z0-9*?]([-a-z0-9*?]*[a-z0-9*?])?$'))"
)
.message(
    "containers.include: globs may only contain lower-case letters, digits, -, * and ?"
))]
#[x_kube(validation = Rule::new(
    "!has(self.exclude) || self.exclude.all(g, g.matches('^[a-z0-9*?]([-a-z0-9*?]*[a-z0-9*?])?$'))"
)
.message(
    "containers.exclude: globs may only contain lower-case letters, digits, -, * and ?"
))]
pub struct Containers {
    /// Globs (`*`, `?`) of container names. The first matching container is profiled. Defaults to the
    /// container in the annotation `kubectl.kubernetes.io/default-container`, or the first container that is
    /// not a known sidecar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub include: Vec<String>,
    /// Globs of names of containers that are never profiled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub exclude: Vec<String>,
}

/// How agents get into pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!(self.mode != 'Sidecar' && self.existingPods == 'Restart')"
)
.message(
    "agent.existingPods: Restart requires agent.mode Sidecar: with any other, restarted pods get no agent"
))]
pub struct AgentSpec {
    /// `Sidecar` injects the agent when a pod is created. `Ephemeral` attaches it when a session needs it.
    /// `Node` leaves pods as they are: the agent of their node profiles them, where an administrator installed
    /// node agents (chart value `nodeAgent.enabled`). `Auto` is `Node` in namespaces that node agents serve, with
    /// agents attached on nodes without one, and `Sidecar` in all others.
    #[serde(default)]
    pub mode: AgentMode,
    /// With `Sidecar` and `Auto`, what happens to pods without an agent, such as pods older than the policy.
    /// `AttachOnDemand` attaches one when a session needs it. `Wait` does nothing until they are recreated.
    /// `Restart` restarts their workloads, and those with an outdated agent, one at a time; an administrator
    /// must allow it (chart value `restart.enabled`). Pods that no restart replaces, such as those of a Job,
    /// are attached to.
    #[serde(default)]
    pub existing_pods: ExistingPods,
    /// Agent image for this policy. Must be allowed by an administrator (chart value `image.agent.allowed`).
    /// Defaults to the image set in the chart. Pods keep their agent until they are recreated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"))]
    pub image: Option<String>,
    /// Resources of the injected container. Replaces the chart's `agent.resources`. Does not apply to
    /// attached agents: Kubernetes does not support resources for ephemeral containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<AgentResources>,
}

/// What happens to pods without an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExistingPods {
    /// Sessions attach an agent when they need it.
    #[default]
    AttachOnDemand,
    /// Nothing, until they are recreated.
    Wait,
    /// Their workloads are restarted one at a time, if allowed by an administrator.
    Restart,
    /// A value of a newer version. Existing pods are left alone.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}
