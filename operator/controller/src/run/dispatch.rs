//! Who has to look again? What happened to a pod, an agent or a session is told to the sessions and policies it concerns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::session::{load, repeat};
use fleetprof_crds::{ProfileSession, ProfilingPolicy};
use kube::ResourceExt;
use kube_runtime::reflector::{ObjectRef, Store};
use tokio::sync::mpsc::UnboundedSender;

use super::watches::Watches;
use crate::gateway::{Change, Fleet};

/// Where pokes go.
pub struct Pokes {
    /// To the session controller.
    pub sessions: UnboundedSender<ObjectRef<ProfileSession>>,
    /// To the policy controller.
    pub policies: UnboundedSender<ObjectRef<ProfilingPolicy>>,
}

/// How often every policy looks again although nothing was heard: sessions of it may have ended.
const SESSIONS_LOOK: Duration = Duration::from_secs(1);

/// Passes on what happens, for ever.
pub async fn run(fleet: Fleet, mut watches: Watches, pokes: Pokes) -> anyhow::Result<()> {
    let mut changes = fleet.subscribe();
    let mut look = tokio::time::interval(SESSIONS_LOOK);
    let mut versions = std::collections::HashMap::new();
    loop {
        tokio::select! {
            Some(pod) = watches.pod_changes.recv() => {
                pokes.sessions_with(&watches.sessions, &pod.namespace, Some(&pod.uid));
                pokes.sessions_awaiting(&watches, &pod.namespace, &pod.uid);
                pokes.policies_in(&watches.policies, &pod.namespace);
            }
            change = changes.next() => match change {
                Some(Change::Session { namespace, name }) => pokes.session(&namespace, &name),
                Some(Change::Agent(pod)) => {
                    pokes.sessions_with(&watches.sessions, &pod.namespace, Some(&pod.uid));
                    pokes.policies_in(&watches.policies, &pod.namespace);
                }
                Some(Change::Everything) => pokes.everything(&watches),
                None => anyhow::bail!("the fleet is gone"),
            },
            _ = look.tick() => {
                pokes.policies_of_changed(&watches.sessions, &mut versions);
                pokes.repeats_of_cancelled(&watches.sessions);
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

    fn policies_in(&self, policies: &Store<ProfilingPolicy>, namespace: &str) {
        for policy in policies.state().iter().filter(|p| p.namespace().as_deref() == Some(namespace)) {
            let _ = self.policies.send(ObjectRef::from_obj(&**policy));
        }
    }

    fn everything(&self, watches: &Watches) {
        for session in &watches.sessions.state() {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
        for policy in &watches.policies.state() {
            let _ = self.policies.send(ObjectRef::from_obj(&**policy));
        }
    }

    /// Policies one of whose sessions was written since the last look.
    fn policies_of_changed(
        &self,
        sessions: &Store<ProfileSession>,
        versions: &mut std::collections::HashMap<String, (String, String, String)>,
    ) {
        let mut now = std::collections::HashMap::new();
        for session in sessions.state() {
            let Some(policy) = &session.spec.policy_ref else { continue };
            let row = (session.resource_version().unwrap_or_default(), session.namespace().unwrap_or_default(), policy.name.clone());
            now.insert(session.uid().unwrap_or_default(), row);
        }
        let changed = now.iter().filter(|(uid, row)| versions.get(*uid) != Some(row)).map(|(_, row)| row);
        let gone = versions.iter().filter(|(uid, _)| !now.contains_key(*uid)).map(|(_, row)| row);
        for (_, namespace, name) in changed.chain(gone) {
            let _ = self.policies.send(ObjectRef::new(name).within(namespace));
        }
        *versions = now;
    }
}
