//! How are the controllers asked to look again?

use fleetprof_core::view::PolicyView;
use fleetprof_crds::session::PolicyKind;
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession, ProfilingPolicy};
use kube_runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::watched::SessionKey;

/// Asks the controllers to look again.
#[derive(Clone)]
pub struct Requeues {
    /// To the session controller.
    pub sessions: UnboundedSender<ObjectRef<ProfileSession>>,
    /// To the policy controller.
    pub policies: UnboundedSender<ObjectRef<ProfilingPolicy>>,
    /// To the controller of the cluster's policies, by way of [`super::dispatch::pace_cluster_policies`].
    pub cluster_policies: UnboundedSender<ObjectRef<ClusterProfilingPolicy>>,
    /// To the controller of the cluster's policies at once: the policy itself has changed.
    pub edited: UnboundedSender<ObjectRef<ClusterProfilingPolicy>>,
}

/// The other ends of [`Requeues`].
pub struct Queues {
    /// Sessions to look at.
    pub sessions: UnboundedReceiver<ObjectRef<ProfileSession>>,
    /// Policies to look at.
    pub policies: UnboundedReceiver<ObjectRef<ProfilingPolicy>>,
    /// Policies of the cluster of which something was told.
    pub cluster_told: UnboundedReceiver<ObjectRef<ClusterProfilingPolicy>>,
    /// Policies of the cluster to look at.
    pub cluster_policies: UnboundedReceiver<ObjectRef<ClusterProfilingPolicy>>,
}

/// Requests to look again, and where they arrive.
pub fn requeues() -> (Requeues, Queues) {
    let (to_sessions, sessions) = unbounded_channel();
    let (to_policies, policies) = unbounded_channel();
    let (tell_cluster, cluster_told) = unbounded_channel();
    let (edited, cluster_policies) = unbounded_channel();
    let requeues =
        Requeues { sessions: to_sessions, policies: to_policies, cluster_policies: tell_cluster, edited };
    (requeues, Queues { sessions, policies, cluster_told, cluster_policies })
}

impl Requeues {
    /// A session.
    pub fn session(&self, namespace: &str, name: &str) {
        let _ = self.sessions.send(ObjectRef::new(name).within(namespace));
    }

    /// Sessions by their keys.
    pub fn all(&self, sessions: Vec<SessionKey>) {
        sessions.iter().for_each(|(namespace, name)| self.session(namespace, name));
    }

    /// A policy.
    pub fn policy(&self, policy: &PolicyView<'_>) {
        self.policy_named(policy.kind, policy.namespace.unwrap_or_default(), policy.name);
    }

    /// A policy by its name.
    pub fn policy_named(&self, kind: PolicyKind, namespace: &str, name: &str) {
        let _ = match kind {
            PolicyKind::ProfilingPolicy => self.policies.send(ObjectRef::new(name).within(namespace)).is_ok(),
            PolicyKind::ClusterProfilingPolicy => self.cluster_policies.send(ObjectRef::new(name)).is_ok(),
            PolicyKind::Unknown => false,
        };
    }
}
