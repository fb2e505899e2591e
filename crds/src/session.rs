//! What does a `ProfileSession` consist of? It is created by a user ("Profile Now") or by a policy.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compare::SessionCompare;
use crate::defaults::{
    default_destinations, default_duration, default_frequency, default_profiles, default_result_deadline,
    default_result_timeout, default_start_deadline, default_ttl,
};
use crate::load::{Repeat, StartWhen};
use crate::selector::label_selector;
use crate::session_status::ProfileSessionStatus;
pub use crate::trigger::Trigger;
use crate::{Duration, ProfileKind};

/// Captures profiles of its targets once. Its UID is the idempotency key: it never profiles twice.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "fleetprof.dev",
    version = "v1alpha1",
    kind = "ProfileSession",
    plural = "profilesessions",
    shortname = "psess",
    category = "fleetprof",
    namespaced,
    status = "ProfileSessionStatus",
    derive = "PartialEq",
    doc = "ProfileSession captures profiles of its targets once. Create one to profile on demand; policies \
           create them on schedule and by triggers.",
    validation = Rule::new(
        "!has(self.spec.repeat) || self.metadata.name.size() <= 60"
    )
    .message(
        "metadata.name must have at most 60 characters with spec.repeat because repeated sessions are named \
         after it"
    ),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "App", type_ = "string", json_path = ".status.app"),
    printcolumn(name = "Targets", type_ = "string", json_path = ".status.targetsSummary"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Samples", type_ = "integer", json_path = ".status.samples"),
    printcolumn(name = "CPU%", type_ = "integer", json_path = ".status.cpuPercent"),
    printcolumn(name = "Mem%", type_ = "integer", json_path = ".status.memoryPercent"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".spec.duration"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Captures", type_ = "integer", json_path = ".status.repeat.made", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "RequestedBy", type_ = "string", json_path = ".spec.requestedBy.username", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.policyRef) || has(self.target)"
)
.message(
    "set spec.policyRef, spec.target or both"
))]
#[x_kube(validation = Rule::new(
    "duration(self.duration) >= duration('10s') && duration(self.duration) <= duration('6m')"
)
.message(
    "spec.duration must be between 10s and 6m"
))]
#[x_kube(validation = Rule::new(
    "duration(self.startDeadline) >= duration('5s') && duration(self.startDeadline) <= duration('1h')"
)
.message(
    "spec.startDeadline must be between 5s and 1h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.resultTimeout) >= duration('10s') && duration(self.resultTimeout) <= \
     duration(self.resultDeadline)"
)
.message(
    "spec.resultTimeout must be between 10s and spec.resultDeadline"
))]
#[x_kube(validation = Rule::new(
    "duration(self.resultDeadline) <= duration('168h')"
)
.message(
    "spec.resultDeadline must be at most 168h"
))]
#[x_kube(validation = Rule::new(
    "duration(self.ttl) >= duration('1m')"
)
.message(
    "spec.ttl must be at least 1m"
))]
#[x_kube(validation = Rule::new(
    "!has(self.repeat) || !has(self.repeat.untilLoadEnds) || has(self.startWhen)"
)
.message(
    "spec.repeat.untilLoadEnds requires spec.startWhen"
))]
#[x_kube(validation = Rule::new(
    "!has(self.repeat) || duration(self.repeat.interval) >= duration(self.duration)"
)
.message(
    "spec.repeat.interval counts from start to start and must be at least spec.duration"
))]
#[x_kube(validation = Rule::new(
    "!has(self.compare) || !has(self.repeat)"
)
.message(
    "spec.compare does not allow spec.repeat: revisions are compared once"
))]
#[x_kube(validation = Rule::new(
    "!has(self.compare) || self.profiles.exists(p, p == 'cpu')"
)
.message(
    "spec.compare requires cpu in spec.profiles"
))]
#[x_kube(validation = Rule::new(
    "!oldSelf.cancel || self.cancel"
)
.message(
    "spec.cancel cannot be unset: create a new session"
))]
#[x_kube(validation = Rule::new(
    "has(self.policyRef) == has(oldSelf.policyRef) && (!has(self.policyRef) || self.policyRef == \
     oldSelf.policyRef) && has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == \
     oldSelf.target) && has(self.startWhen) == has(oldSelf.startWhen) && (!has(self.startWhen) || \
     self.startWhen == oldSelf.startWhen) && has(self.repeat) == has(oldSelf.repeat) && (!has(self.repeat) \
     || self.repeat == oldSelf.repeat) && has(self.compare) == has(oldSelf.compare) && (!has(self.compare) \
     || self.compare == oldSelf.compare) && self.container == oldSelf.container && self.duration == \
     oldSelf.duration && self.profiles == oldSelf.profiles && self.frequencyHz == oldSelf.frequencyHz && \
     self.startDeadline == oldSelf.startDeadline && self.resultTimeout == oldSelf.resultTimeout && \
     self.resultDeadline == oldSelf.resultDeadline && self.ttl == oldSelf.ttl && self.destinations == \
     oldSelf.destinations && self.labels == oldSelf.labels && has(self.context) == has(oldSelf.context) && \
     (!has(self.context) || self.context == oldSelf.context) && self.trigger == oldSelf.trigger && has(self.cause) == has(oldSelf.cause) && \
     (!has(self.cause) || self.cause == oldSelf.cause) && has(self.requestedBy) == has(oldSelf.requestedBy) \
     && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)"
)
.message(
    "spec is immutable except for spec.cancel: create a new session instead"
))]
pub struct ProfileSessionSpec {
    /// The policy to profile under; requires the verb `profile` on it. Sessions without a policy require
    /// `patch` on `pods/ephemeralcontainers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<PolicyRef>,
    /// What to profile. Defaults to all linked apps of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Name of the container to profile. Must be allowed by the policy's `containers`. Defaults to the
    /// container the policy selects, otherwise the pod's default container.
    #[serde(default)]
    #[schemars(length(max = 63), regex(pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"))]
    pub container: String,
    /// How long to capture; 10s to 6m.
    #[serde(default = "default_duration")]
    pub duration: Duration,
    /// Types of profiles to capture.
    #[serde(default = "default_profiles")]
    #[schemars(length(min = 1, max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub profiles: Vec<ProfileKind>,
    /// Sampling frequency in Hz, per target.
    #[serde(default = "default_frequency")]
    #[schemars(range(min = 1, max = 1000))]
    pub frequency_hz: i32,
    /// How long a target waits for a slot, and then for its agent to start; 5s to 1h. Targets of a scheduled
    /// round wait for a slot until shortly before the next round, at most 1h. A target whose container
    /// another user is profiling waits up to 6 minutes longer.
    #[serde(default = "default_start_deadline")]
    pub start_deadline: Duration,
    /// Waits for a load test: the session stays `Pending` until the load is running. `startDeadline` counts
    /// from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_when: Option<StartWhen>,
    /// Captures repeatedly, to cover a load that runs longer than one capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
    /// Compares two revisions of a workload from the CPU profiles of the targets. The result is the condition
    /// `Regressed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<SessionCompare>,
    /// Time after the capture until missing results set the condition `ResultsDelayed`. They may still
    /// arrive.
    #[serde(default = "default_result_timeout")]
    pub result_timeout: Duration,
    /// Time after the capture until missing results are given up.
    #[serde(default = "default_result_deadline")]
    pub result_deadline: Duration,
    /// The session and its profiles are deleted this long after it ended.
    #[serde(default = "default_ttl")]
    pub ttl: Duration,
    /// Names of the destinations for profiles, of those that an administrator configured (chart value
    /// `destinations`). A session ends once the first one holds its profiles; the others follow.
    #[serde(default = "default_destinations")]
    #[schemars(
        length(min = 1, max = 4),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub destinations: Vec<String>,
    /// Labels added to every sample of the profile, such as a build or a test run. At most 16, with keys of
    /// at most 63 characters.
    #[serde(default)]
    #[schemars(schema_with = "labels_schema")]
    pub labels: BTreeMap<String, String>,
    /// What prompted the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// Set to true to stop the session. Captured data is kept. This is the only mutable field.
    #[serde(default)]
    pub cancel: bool,
    /// What started the session. Only the operator may set a value other than `OnDemand`.
    #[serde(default)]
    pub trigger: Trigger,
    /// Details of the trigger that started the session. Only the operator may set it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub cause: String,
    /// The requesting user. Always overwritten by the webhook with the user of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Requester>,
}

/// A policy in the session's namespace, or a cluster policy that selects the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Kind of the policy.
    #[serde(default)]
    pub kind: PolicyKind,
    /// Name of the policy.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// Kind of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PolicyKind {
    /// A policy in the session's namespace.
    #[default]
    ProfilingPolicy,
    /// A cluster policy that selects the session's namespace.
    ClusterProfilingPolicy,
    /// A value of a newer version. Nothing is done with the session that names it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl PolicyKind {
    /// The kind in owner references and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProfilingPolicy => "ProfilingPolicy",
            Self::ClusterProfilingPolicy => "ClusterProfilingPolicy",
            Self::Unknown => "Unknown",
        }
    }

    /// The resource in RBAC rules and access reviews.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::ProfilingPolicy => "profilingpolicies",
            Self::ClusterProfilingPolicy => "clusterprofilingpolicies",
            Self::Unknown => "unknown",
        }
    }
}

/// What to profile. Exactly one of the fields must be set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.workload), has(self.podSelector), has(self.pods)].filter(x, x).size() == 1"
)
.message(
    "spec.target must have exactly one of workload, podSelector and pods"
))]
pub struct Target {
    /// Pods of one workload: all of them, or with a policy up to its `sampling.replicasPerWorkload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadRef>,
    /// All pods that match this label selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub pod_selector: Option<LabelSelector>,
    /// Pods by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 50),
        inner(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub pods: Option<Vec<String>>,
}

/// A workload in the session's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Kind as in `status.linkedApps`, such as `Deployment`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// What prompted the session, for correlation with traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// W3C trace ID, 32 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9a-f]{32}$"))]
    pub trace_id: Option<String>,
    /// W3C span ID, 16 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9a-f]{16}$"))]
    pub span_id: Option<String>,
    /// Free-text note.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub note: Option<String>,
}

/// The requesting user of a session, whose permissions are checked again before the session starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requester {
    /// Username as known to the API server.
    #[schemars(length(max = 1024))]
    pub username: String,
    /// Groups of the user as known to the API server.
    #[serde(default)]
    #[schemars(length(max = 128), inner(length(max = 1024)))]
    pub groups: Vec<String>,
}

fn labels_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "Labels added to every sample of the profile, such as a build or a test run. At most \
                        16, with keys of at most 63 characters.",
        "maxProperties": 16,
        "default": {},
        "additionalProperties": {"type": "string", "maxLength": 128},
        "x-kubernetes-validations": [{
            "rule": "self.all(key, key.size() <= 63 && key.matches('^[A-Za-z_][A-Za-z0-9_./-]*$'))",
            "message": "spec.labels: keys must have at most 63 letters, digits, _, ., / and -, and begin \
                        with a letter or _"
        }]
    })
}
