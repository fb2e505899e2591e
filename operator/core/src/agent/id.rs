//! Which agent calls, and for whose captures may it upload?

use crate::capture::CaptureScope;

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

impl PodId {
    /// Whether the capture is of this pod: a session captures pods of its own namespace alone, whatever uid
    /// its status names.
    #[must_use]
    pub fn is_captured_by(&self, scope: &CaptureScope) -> bool {
        !self.uid.is_empty() && self.uid == scope.pod_uid && self.namespace == scope.session_namespace
    }
}

/// An agent in a pod, and what of the pod it speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodAgent {
    /// The pod.
    pub pod: PodId,
    /// Name of the container that it was attached to, which is all that it speaks for. `None` for a
    /// sidecar, which speaks for the whole pod, and for agents whose credential was issued by a version
    /// that named no container.
    pub container: Option<String>,
}

impl PodAgent {
    /// Whether it may capture: captures of its pod, and of its own container where it was attached to one.
    #[must_use]
    pub fn captures(&self, scope: &CaptureScope) -> bool {
        self.pod.is_captured_by(scope) && self.speaks_for(&scope.container)
    }

    /// Whether it speaks for a container of its pod.
    #[must_use]
    pub fn speaks_for(&self, container: &str) -> bool {
        self.container.as_ref().is_none_or(|own| own == container)
    }
}

impl From<PodId> for PodAgent {
    /// The agent of a whole pod.
    fn from(pod: PodId) -> Self {
        Self { pod, container: None }
    }
}

/// An agent: who calls is not always whom it serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AgentId {
    /// An agent in a pod: it serves that pod alone, or one of its containers.
    Pod(PodAgent),
    /// The agent of a node: it serves every pod there.
    Node {
        /// Name of the node.
        name: String,
        /// The agent's own pod: two agents of one node, one after the other, are told apart by it.
        pod: PodId,
    },
}

impl AgentId {
    /// Whether it may upload what a capture brings: an agent in a pod for what it speaks for, the agent of a
    /// node for the pods of that node. A pod that is bound to no node has no agent of a node.
    #[must_use]
    pub fn may_upload(&self, scope: &CaptureScope) -> bool {
        match self {
            Self::Pod(agent) => agent.captures(scope),
            Self::Node { name, .. } => !name.is_empty() && *name == scope.node,
        }
    }

    /// The pod that the agent itself runs in.
    #[must_use]
    pub fn own_pod(&self) -> &PodId {
        match self {
            Self::Pod(agent) => &agent.pod,
            Self::Node { pod, .. } => pod,
        }
    }
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::ProfileSession;
    use fleetprof_crds::session_status::TargetStatus;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn scope(pod_uid: &str, node: &str) -> CaptureScope {
        let session: ProfileSession = serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": {"namespace": "n"}, "spec": {},
        }))
        .unwrap();
        let target = TargetStatus {
            pod_uid: pod_uid.into(),
            node: node.into(),
            container: "app".into(),
            ..TargetStatus::default()
        };
        CaptureScope::of(&session, &target, 1, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_agent_uploads_for_whom_it_serves() {
        let id = |namespace: &str, uid: &str| PodId {
            namespace: namespace.into(),
            name: "a".into(),
            uid: uid.into(),
        };
        let pod = |uid: &str| AgentId::Pod(id("n", uid).into());
        let foreign = AgentId::Pod(id("m", "uid-a").into());
        let attached = |uid: &str, container: &str| {
            AgentId::Pod(PodAgent { pod: id("n", uid), container: Some(container.into()) })
        };
        let node = |name: &str| AgentId::Node { name: name.into(), pod: id("fleetprof", "agent-1") };
        let cases = [
            (pod("uid-a"), "uid-a", "node-1", true),
            (pod("uid-b"), "uid-a", "node-1", false),
            (pod(""), "", "node-1", false),
            (foreign, "uid-a", "node-1", false),
            (attached("uid-a", "app"), "uid-a", "node-1", true),
            (attached("uid-a", "proxy"), "uid-a", "node-1", false),
            (attached("uid-a", ""), "uid-a", "node-1", false),
            (attached("uid-b", "app"), "uid-a", "node-1", false),
            (node("node-1"), "uid-a", "node-1", true),
            (node("node-1"), "agent-1", "node-2", false),
            (node("node-2"), "uid-a", "node-1", false),
            (node(""), "uid-a", "", false),
        ];
        for (agent, pod_uid, at, wanted) in cases {
            assert_eq!(agent.may_upload(&scope(pod_uid, at)), wanted, "{agent:?} {pod_uid} {at}");
        }
    }
}
