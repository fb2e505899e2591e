//! Who has to look again? What happened to a pod, an agent or a session is told to the sessions and policies
//! it concerns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::session::{load, repeat};
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession};
use jiff::Timestamp;
use kube::ResourceExt;
use kube_runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::requeue::{Concerned, Requeues};
use super::watches::Watches;
use crate::gateway::{Change, Fleet};
use crate::watched::Cache;
use crate::watched::Namespaces;
use crate::watched::PolicyCaches;

/// How often policies are told what has happened meanwhile to their sessions and pods. All of it at once: a
/// debounce in the controller would restart with each change, and a policy whose pods change all the time
/// would never be looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The same for policies of the cluster: one looks at all the pods that it covers, which in a large cluster
/// change all the time. Their rounds start on time anyway.
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
    requeues: Requeues,
) -> anyhow::Result<()> {
    let mut changes = fleet.subscribe();
    let mut look = tokio::time::interval(LOOK);
    let (mut changed, mut concerned) = (HashSet::new(), HashSet::new());
    loop {
        tokio::select! {
            Some(pod) = watches.pod_changes.recv() => {
                requeues.sessions_with(&watches.sessions, &pod.namespace, &pod.uid);
                requeues.sessions_awaiting(&watches, &pod.namespace, &pod.uid);
                changed.insert(pod.namespace);
            }
            change = changes.next() => match change {
                Some(Change::Session { namespace, name }) => requeues.session(&namespace, &name),
                Some(Change::Agent(pod)) => {
                    requeues.sessions_with(&watches.sessions, &pod.namespace, &pod.uid);
                    changed.insert(pod.namespace);
                }
                Some(Change::Everything) => requeues.everything(&watches),
                None => anyhow::bail!("the fleet is gone"),
            },
            Some(policy) = watches.session_changes.recv() => drop(concerned.insert(policy)),
            _ = look.tick() => {
                requeues.policies_over(&watches.policies, &namespaces, &std::mem::take(&mut changed));
                concerned.drain().for_each(|policy: Concerned| requeues.policy_named(policy.kind, &policy.namespace, &policy.name));
                requeues.repeats_of_cancelled(&watches.sessions);
                requeues.repeats_due(&watches.sessions);
            }
        }
    }
}

impl Requeues {
    /// Live sessions of the namespace that capture the pod.
    fn sessions_with(&self, sessions: &Cache<ProfileSession>, namespace: &str, pod_uid: &str) {
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
    fn repeats_of_cancelled(&self, sessions: &Cache<ProfileSession>) {
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
    fn repeats_due(&self, sessions: &Cache<ProfileSession>) {
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
    fn policies_over(&self, policies: &PolicyCaches, namespaces: &Namespaces, changed: &HashSet<String>) {
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

    fn everything(&self, watches: &Watches) {
        for session in &watches.sessions.all() {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
        for policy in watches.policies.all().views().iter() {
            self.policy(&policy);
        }
    }
}
