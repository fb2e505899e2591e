//! Who has to look again? What happened to a pod, an agent or a session is told to the sessions and policies it concerns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::policy::PolicyView;
use fleetprof_core::session::{load, repeat};
use fleetprof_crds::session::PolicyKind;
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession, ProfilingPolicy};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::{ObjectRef, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::watches::Watches;
use crate::gateway::{Change, Fleet};
use crate::namespaces::Namespaces;
use crate::policies::PolicyStores;

/// Where pokes go.
pub struct Pokes {
    /// To the session controller.
    pub sessions: UnboundedSender<ObjectRef<ProfileSession>>,
    /// To the policy controller.
    pub policies: UnboundedSender<ObjectRef<ProfilingPolicy>>,
    /// To the controller of the cluster's policies, by way of [`pace_cluster_policies`].
    pub cluster_policies: UnboundedSender<ObjectRef<ClusterProfilingPolicy>>,
}

/// How often policies are told what has happened meanwhile to their sessions and pods. All of it at once: a debounce in the
/// controller would begin anew with each change, and a policy whose pods change all the time would never be looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The same for policies of the cluster: one looks at all the pods that it covers, which in a large cluster change all the time.
/// Their rounds start on time all the same.
const CLUSTER_LOOK: Duration = Duration::from_secs(5);

/// Passes on to the controller of the cluster's policies what it was told since the last look, each policy once, for ever.
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
pub async fn run(fleet: Fleet, mut watches: Watches, namespaces: Namespaces, pokes: Pokes) -> anyhow::Result<()> {
    let mut changes = fleet.subscribe();
    let mut look = tokio::time::interval(LOOK);
    let mut versions = HashMap::new();
    let mut changed = HashSet::new();
    loop {
        tokio::select! {
            Some(pod) = watches.pod_changes.recv() => {
                pokes.sessions_with(&watches.sessions, &pod.namespace, Some(&pod.uid));
                pokes.sessions_awaiting(&watches, &pod.namespace, &pod.uid);
                changed.insert(pod.namespace);
            }
            change = changes.next() => match change {
                Some(Change::Session { namespace, name }) => pokes.session(&namespace, &name),
                Some(Change::Agent(pod)) => {
                    pokes.sessions_with(&watches.sessions, &pod.namespace, Some(&pod.uid));
                    changed.insert(pod.namespace);
                }
                Some(Change::Everything) => pokes.everything(&watches),
                None => anyhow::bail!("the fleet is gone"),
            },
            _ = look.tick() => {
                pokes.policies_over(&watches.policies, &namespaces, &std::mem::take(&mut changed));
                pokes.policies_of_changed(&watches.sessions, &mut versions);
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
    fn sessions_with(&self, sessions: &Store<ProfileSession>, namespace: &str, pod_uid: Option<&str>) {
        let concerned = |s: &Arc<ProfileSession>| {
            let targets = s.status.as_ref().filter(|s| !s.phase.is_terminal()).map(|s| &s.targets);
            s.namespace().as_deref() == Some(namespace)
                && targets.is_some_and(|t| pod_uid.is_none_or(|uid| t.iter().any(|t| t.pod_uid == uid)))
        };
        for session in sessions.state().iter().filter(|s| concerned(s)) {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
    }

    /// Sessions that wait for a load that the pod is a part of.
    fn sessions_awaiting(&self, watches: &Watches, namespace: &str, pod_uid: &str) {
        let Some(pod) = watches.pods.get(namespace, pod_uid) else { return };
        let awaits = |s: &&Arc<ProfileSession>| s.namespace().as_deref() == Some(namespace) && load::is_awaited(s, &pod);
        for session in watches.sessions.state().iter().filter(awaits) {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
    }

    /// Live sessions that repeat one that was cancelled.
    fn repeats_of_cancelled(&self, sessions: &Store<ProfileSession>) {
        let all = sessions.state();
        let cancelled: HashSet<String> = all.iter().filter(|s| s.spec.cancel && s.spec.repeat.is_some()).filter_map(|s| s.uid()).collect();
        let live = |s: &ProfileSession| s.status.as_ref().is_none_or(|s| !s.phase.is_terminal());
        let concerned = |s: &&Arc<ProfileSession>| live(s) && repeat::root(s).is_some_and(|root| cancelled.contains(&root.uid));
        for session in all.iter().filter(concerned) {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
    }

    /// Sessions whose next capture can be made: the one before it has just ended, or the interval has.
    fn repeats_due(&self, sessions: &Store<ProfileSession>) {
        let now = Timestamp::now();
        for session in sessions.state().iter().filter(|s| s.spec.repeat.is_some()) {
            let namespace = session.namespace().unwrap_or_default();
            let phase = |name: &str| sessions.get(&ObjectRef::new(name).within(&namespace))?.status.as_ref().map(|s| s.phase);
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
        for policy in all.views().iter().filter(|p| labels.iter().any(|(n, labels)| p.covers(n, labels.as_ref()))) {
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
        for session in &watches.sessions.state() {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
        for policy in watches.policies.all().views().iter() {
            self.policy(&policy);
        }
    }

    /// Policies one of whose sessions was written since the last look.
    fn policies_of_changed(&self, sessions: &Store<ProfileSession>, versions: &mut HashMap<String, (String, String, PolicyKind, String)>) {
        let mut now = HashMap::new();
        for session in sessions.state() {
            let Some(policy) = &session.spec.policy_ref else { continue };
            let row =
                (session.resource_version().unwrap_or_default(), session.namespace().unwrap_or_default(), policy.kind, policy.name.clone());
            now.insert(session.uid().unwrap_or_default(), row);
        }
        let changed = now.iter().filter(|(uid, row)| versions.get(*uid) != Some(row)).map(|(_, row)| row);
        let gone = versions.iter().filter(|(uid, _)| !now.contains_key(*uid)).map(|(_, row)| row);
        for (_, namespace, kind, name) in changed.chain(gone) {
            self.policy_named(*kind, namespace, name);
        }
        *versions = now;
    }
}
