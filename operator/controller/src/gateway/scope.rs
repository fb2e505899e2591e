//! Which pod, which agent and which capture is meant?

use std::collections::BTreeMap;

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Heartbeat;
use jiff::Timestamp;

/// A pod, as the API server vouched for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: two pods of the same name, one after the other, are told apart by it.
    pub uid: String,
}

/// An agent that was heard of lately.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    /// The pod that it serves.
    pub pod: PodId,
    /// Its last heartbeat, cleaned: texts are bounded and printable, numbers are in range.
    pub heartbeat: Heartbeat,
    /// When that heartbeat came.
    pub received: Timestamp,
}

/// What a capture is of and who may upload for it.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureScope {
    /// The capture's idempotency key, as in its order.
    pub capture: String,
    /// Uid of the session.
    pub session_uid: String,
    /// Namespace of the session and of the pod.
    pub session_namespace: String,
    /// Name of the session.
    pub session_name: String,
    /// Uid of the pod; only its agent may upload.
    pub pod_uid: String,
    /// Name of the pod.
    pub pod_name: String,
    /// Name of the node.
    pub node: String,
    /// Workload of the pod, such as `Deployment/orders`.
    pub workload: String,
    /// Name of the container.
    pub container: String,
    /// The runtime's id of the container, without its prefix.
    pub container_id: String,
    /// What is captured: at least one kind, none of them twice.
    pub profiles: Vec<ProfileKind>,
    /// Labels for every sample.
    pub labels: BTreeMap<String, String>,
    /// When the capture was ordered.
    pub started: Timestamp,
}
