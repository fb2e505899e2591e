//! What does a `ClusterProfilingPolicy` consist of?

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::policy::ProfilingPolicySpec;
use crate::policy_status::ProfilingPolicyStatus;
use crate::selector::label_selector;

/// Links the selected pods in all selected namespaces. A `ProfilingPolicy` that selects the same pod takes
/// precedence.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "fleetprof.dev",
    version = "v1alpha1",
    kind = "ClusterProfilingPolicy",
    plural = "clusterprofilingpolicies",
    shortname = "cppol",
    category = "fleetprof",
    status = "ProfilingPolicyStatus",
    derive = "PartialEq",
    doc = "ClusterProfilingPolicy links the selected pods in all selected namespaces and profiles the linked \
           apps in short bursts. A ProfilingPolicy that selects the same pod takes precedence. kube-system \
           and the operator's namespace are never selected.",
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
    "!has(self.namespaceSelector.matchExpressions) || self.namespaceSelector.matchExpressions.all(e, \
     e.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'])"
)
.message(
    "spec.namespaceSelector.matchExpressions: operator must be In, NotIn, Exists or DoesNotExist"
))]
#[x_kube(validation = Rule::new(
    "!has(self.namespaceSelector.matchExpressions) || self.namespaceSelector.matchExpressions.all(e, \
     (e.operator in ['In', 'NotIn']) == (has(e.values) && e.values.size() > 0))"
)
.message(
    "spec.namespaceSelector.matchExpressions: In and NotIn require values, Exists and DoesNotExist do not \
     allow them"
))]
pub struct ClusterProfilingPolicySpec {
    /// Label selector for namespaces; `{}` selects all but `kube-system` and the operator's namespace. To
    /// select a namespace by name, use `matchLabels: {kubernetes.io/metadata.name: NAME}`.
    #[schemars(schema_with = "label_selector")]
    pub namespace_selector: LabelSelector,
    /// All other fields are those of a `ProfilingPolicy`, for each namespace.
    #[serde(flatten)]
    pub policy: ProfilingPolicySpec,
}
