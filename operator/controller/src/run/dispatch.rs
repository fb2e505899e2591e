//! Who has to look again? What happened to a pod, an agent or a session is told to the sessions and policies
//! it concerns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::policy::PolicyView;
use fleetprof_core::session::{load, repeat};
use fleetprof_crds::session::PolicyKind;
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession, ProfilingPolicy};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::watches::Watches;
use crate::copies::Copies;
use crate::gateway::{Change, Fleet};
use crate::namespaces::Namespaces;
use crate::policies::PolicyStores;

/// Where pokes go.
#[derive(Clone)]
pub struct Pokes {
    /// To the session controller.
    pub sessions: UnboundedSender<ObjectRef<ProfileSession>>,
    /// To the policy controller.
    pub policies: UnboundedSender<ObjectRef<ProfilingPolicy>>,
    /// To the controller of the cluster's policies, by way of [`pace_cluster_policies`].
    pub cluster_policies: UnboundedSender<ObjectRef<ClusterProfilingPolicy>>,
    /// To the controller of the cluster's policies at once: the policy itself has changed.
    pub edited: UnboundedSender<ObjectRef<ClusterProfilingPolicy>>,
}

/// The other ends of [`Pokes`].
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

/// Pokes, and where they arrive.
pub fn pokes() -> (Pokes, Queues) {
    let (to_sessions, sessions) = unbounded_channel();
    let (to_policies, policies) = unbounded_channel();
    let (tell_cluster, cluster_told) = unbounded_channel();
    let (edited, cluster_policies) = unbounded_channel();
    let pokes =
        Pokes { sessions: to_sessions, policies: to_policies, cluster_policies: tell_cluster, edited };
    (pokes, Queues { sessions, policies, cluster_told, cluster_policies })
}

/// A policy as a session names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Concerned {
    kind: PolicyKind,
    namespace: String,
    name: String,
}

impl Concerned {
    /// The policy that the session names.
    pub fn of(session: &ProfileSession) -> Option<Self> {
        let policy = session.spec.policy_ref.as_ref()?;
        let namespace = match policy.kind {
            PolicyKind::ProfilingPolicy => session.namespace()?,
            PolicyKind::ClusterProfilingPolicy => String::new(),
        };
        Some(Self { kind: policy.kind, namespace, name: policy.name.clone() })
    }
}

/// How often policies are told what has happened meanwhile to their sessions and pods. All of it at once: a
/// debounce in the controller would begin anew with each change, and a policy whose pods change all the time
/// would never be looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The same for policies of the cluster: one looks at all the pods that it covers, which in a large cluster
/// change all the time. Their rounds start on time all the same.
const CLUSTER_LOOK: Duration = Duration::from_secs(5);

/// Passes on to the controller of the cluster's policies what it was told since the last look, each policy
/// once, for ever.
pub async fn pace_cluster_policies(
    mut told: UnboundedReceiver<ObjectRef<ClusterProfilingPolicy>>,
    controller: UnboundedSender<ObjectRef<ClusterProfilingPolicy>>,
) -> anyhow::Result<()> {
    let (mut waiting, mut look) = (HashSet::new(), tokio::time::interval(CLUSTER_LOOK));
    loop {
        tokio::select! {
            Some(policy) = told.recv() => drop(waiting.insert(policy)),
            _ = look.tick() => waiting.drain().for_each(|policy| drop(controller.send(policy))),
        }
    }
}

/// Passes on what happens, for ever.
pub async fn run(
    fleet: Fleet,
    mut watches: Watches,
    namespaces: Namespaces,
    pokes: Pokes,
) -> anyhow::Result<()> {
    let mut changes = fleet.subscribe();
    let mut look = tokio::time::interval(LOOK);
    let (mut changed, mut concerned) = (HashSet::new(), HashSet::new());
    loop {
        tokio::select! {
            Some(pod) = watches.pod_changes.recv() => {
                pokes.sessions_with(&watches.sessions, &pod.namespace, &pod.uid);
                pokes.sessions_awaiting(&watches, &pod.namespace, &pod.uid);
                changed.insert(pod.namespace);
            }
            change = changes.next() => match change {
                Some(Change::Session { namespace, name }) => pokes.session(&namespace, &name),
                Some(Change::Agent(pod)) => {
                    pokes.sessions_with(&watches.sessions, &pod.namespace, &pod.uid);
                    changed.insert(pod.namespace);
                }
                Some(Change::Everything) => pokes.everything(&watches),
                None => anyhow::bail!("the fleet is gone"),
            },
            Some(policy) = watches.session_changes.recv() => drop(concerned.insert(policy)),
            _ = look.tick() => {
                pokes.policies_over(&watches.policies, &namespaces, &std::mem::take(&mut changed));
                concerned.drain().for_each(|policy: Concerned| pokes.policy_named(policy.kind, &policy.namespace, &policy.name));
                pokes.repeats_of_cancelled(&watches.sessions);
                pokes.repeats_due(&watches.sessions);
            }
        }
    }
}

impl Pokes {
    fn session(&self, namespace: &str, name: &str) {
        let _ = self.sessions.send(ObjectRef::new(name).within(namespace));
    }

    /// Live sessions of the namespace that capture the pod.
    fn sessions_with(&self, sessions: &Copies<ProfileSession>, namespace: &str, pod_uid: &str) {
        let concerned = |s: &&Arc<ProfileSession>| {
            s.status
                .as_ref()
                .is_some_and(|s| !s.phase.is_terminal() && s.targets.iter().any(|t| t.pod_uid == pod_uid))
        };
        for session in sessions.of(namespace).iter().filter(concerned) {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
    }

    /// Sessions that wait for a load that the pod is a part of.
    fn sessions_awaiting(&self, watches: &Watches, namespace: &str, pod_uid: &str) {
        let Some(pod) = watches.pods.get(namespace, pod_uid) else { return };
        for session in watches.sessions.of(namespace).iter().filter(|s| load::is_awaited(s, &pod)) {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
    }

    /// Live sessions that repeat one that was cancelled.
    fn repeats_of_cancelled(&self, sessions: &Copies<ProfileSession>) {
        let cancelled = sessions.filter(|s| s.spec.cancel && s.spec.repeat.is_some());
        let live = |s: &ProfileSession| s.status.as_ref().is_none_or(|s| !s.phase.is_terminal());
        for root in &cancelled {
            let (namespace, uid) = (root.namespace().unwrap_or_default(), root.uid().unwrap_or_default());
            for session in sessions.of(&namespace).iter().filter(|s| live(s) && repeat::repeats(s, &uid)) {
                let _ = self.sessions.send(ObjectRef::from_obj(&**session));
            }
        }
    }

    /// Sessions whose next capture can be made: the one before it has just ended, or the interval has.
    fn repeats_due(&self, sessions: &Copies<ProfileSession>) {
        let now = Timestamp::now();
        for session in &sessions.filter(|s| s.spec.repeat.is_some()) {
            let namespace = session.namespace().unwrap_or_default();
            let phase = |name: &str| sessions.get(&namespace, name)?.status.as_ref().map(|s| s.phase);
            if repeat::is_due(session, now, phase) {
                let _ = self.sessions.send(ObjectRef::from_obj(&**session));
            }
        }
    }

    /// Policies that cover one of the namespaces.
    fn policies_over(&self, policies: &PolicyStores, namespaces: &Namespaces, changed: &HashSet<String>) {
        if changed.is_empty() {
            return;
        }
        let labels: Vec<_> = changed.iter().map(|n| (n, namespaces.reached(n))).collect();
        let all = policies.all();
        for policy in
            all.views().iter().filter(|p| labels.iter().any(|(n, labels)| p.covers(n, labels.as_ref())))
        {
            self.policy(&policy);
        }
    }

    fn policy(&self, policy: &PolicyView<'_>) {
        self.policy_named(policy.kind, policy.namespace.unwrap_or_default(), policy.name);
    }

    fn policy_named(&self, kind: PolicyKind, namespace: &str, name: &str) {
        let _ = match kind {
            PolicyKind::ProfilingPolicy => self.policies.send(ObjectRef::new(name).within(namespace)).is_ok(),
            PolicyKind::ClusterProfilingPolicy => self.cluster_policies.send(ObjectRef::new(name)).is_ok(),
        };
    }

    fn everything(&self, watches: &Watches) {
        for session in &watches.sessions.all() {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
        for policy in watches.policies.all().views().iter() {
            self.policy(&policy);
        }
    }
}
