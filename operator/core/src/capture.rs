//! What is a capture of, for the gateway's checks and the profile's labels?

use std::collections::BTreeMap;

use fleetprof_crds::session_status::TargetStatus;
use fleetprof_crds::{ProfileKind, ProfileSession};
use jiff::Timestamp;

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

impl CaptureScope {
    /// The scope of the capture of one target.
    #[must_use]
    pub fn of(session: &ProfileSession, target: &TargetStatus, started: Timestamp) -> Self {
        let meta = &session.metadata;
        Self {
            capture: target.capture.clone(),
            session_uid: meta.uid.clone().unwrap_or_default(),
            session_namespace: meta.namespace.clone().unwrap_or_default(),
            session_name: meta.name.clone().unwrap_or_default(),
            pod_uid: target.pod_uid.clone(),
            pod_name: target.pod.clone(),
            node: target.node.clone(),
            workload: target.workload.clone(),
            container: target.container.clone(),
            container_id: target.container_id.clone(),
            profiles: session.spec.profiles.iter().copied().filter(|kind| kind.is_known()).collect(),
            labels: labels(session),
            started,
        }
    }
}

/// The session's own labels, and the trace that it was asked for.
fn labels(session: &ProfileSession) -> BTreeMap<String, String> {
    let mut labels = session.spec.labels.clone();
    let context = session.spec.context.clone().unwrap_or_default();
    for (key, value) in [("trace_id", context.trace_id), ("span_id", context.span_id)] {
        if let Some(value) = value {
            labels.insert(key.into(), value);
        }
    }
    labels
}
