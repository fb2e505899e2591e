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

/// An agent: who calls is not always whom it serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AgentId {
    /// The agent in a pod: it serves that pod alone.
    Pod(PodId),
    /// The agent of a node: it serves every pod there.
    Node {
        /// Name of the node.
        name: String,
        /// Uid of the agent's own pod: two agents of one node, one after the other, are told apart by it.
        uid: String,
    },
}

impl AgentId {
    /// Whether it may upload what a capture brings: the agent of a pod for its own pod, the agent of a node
    /// for the pods of that node. A pod that is bound to no node has no agent of a node.
    #[must_use]
    pub fn may_upload(&self, scope: &CaptureScope) -> bool {
        match self {
            Self::Pod(pod) => pod.is_captured_by(scope),
            Self::Node { name, .. } => !name.is_empty() && *name == scope.node,
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
        let target = TargetStatus { pod_uid: pod_uid.into(), node: node.into(), ..TargetStatus::default() };
        CaptureScope::of(&session, &target, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_agent_uploads_for_whom_it_serves() {
        let pod =
            |uid: &str| AgentId::Pod(PodId { namespace: "n".into(), name: "a".into(), uid: uid.into() });
        let foreign = AgentId::Pod(PodId { namespace: "m".into(), name: "a".into(), uid: "uid-a".into() });
        let node = |name: &str| AgentId::Node { name: name.into(), uid: "agent-1".into() };
        let cases = [
            (pod("uid-a"), "uid-a", "node-1", true),
            (pod("uid-b"), "uid-a", "node-1", false),
            (pod(""), "", "node-1", false),
            (foreign, "uid-a", "node-1", false),
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
