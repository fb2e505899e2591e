//! Who has to look again? What happened to a pod, an agent or a session is told to the sessions and policies
//! it concerns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::session::{load, repeat};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession};
use jiff::Timestamp;
use kube_runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::requeue::Requeues;
use crate::agents::{Agents, Change};
use crate::watched::{Cache, Namespaces, PodChange, Pods, PolicyCaches, PolicyKey, SessionIndex};

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

/// Passes on which sessions are to be looked at: people's to one controller, all others to another. What
/// started a session never changes, so no session is ever in both.
pub async fn part_sessions(
    sessions: Cache<ProfileSession>,
    mut queue: UnboundedReceiver<ObjectRef<ProfileSession>>,
    people: UnboundedSender<ObjectRef<ProfileSession>>,
    others: UnboundedSender<ObjectRef<ProfileSession>>,
) -> anyhow::Result<()> {
    while let Some(session) = queue.recv().await {
        let known = sessions.get(session.namespace.as_deref().unwrap_or_default(), &session.name);
        let is_person = known.is_some_and(|session| session.spec.trigger == Trigger::OnDemand);
        let _ = if is_person { people.send(session) } else { others.send(session) };
    }
    anyhow::bail!("nothing asks for sessions to be looked at any more")
}

/// What the dispatch looks into.
pub struct Sources {
    /// The pods.
    pub pods: Pods,
    /// The policies of both kinds.
    pub policies: PolicyCaches,
    /// The sessions.
    pub sessions: Cache<ProfileSession>,
    /// The live sessions, by what concerns them.
    pub index: SessionIndex,
    /// The namespaces.
    pub namespaces: Namespaces,
}

/// Passes on what happens, for ever.
///
/// # Errors
/// When there is nothing left that could happen.
pub async fn run(
    agents: Arc<dyn Agents>,
    sources: Sources,
    mut pods: UnboundedReceiver<PodChange>,
    mut sessions: UnboundedReceiver<PolicyKey>,
    requeues: Requeues,
) -> anyhow::Result<()> {
    let mut changes = agents.changes();
    let mut look = tokio::time::interval(LOOK);
    let (mut changed, mut concerned) = (HashSet::new(), HashSet::new());
    loop {
        tokio::select! {
            Some(pod) = pods.recv() => {
                requeues.all(sources.index.capturing(&pod.uid));
                requeues.awaiting(&sources, &pod);
                changed.insert(pod.namespace);
            }
            change = changes.next() => match change {
                Some(Change::Session { namespace, name }) => requeues.session(&namespace, &name),
                Some(Change::Agent(pod)) => {
                    requeues.all(sources.index.capturing(&pod.uid));
                    changed.insert(pod.namespace);
                }
                Some(Change::Everything) => requeues.everything(&sources),
                None => anyhow::bail!("nothing reports changes of agents any more"),
            },
            Some(policy) = sessions.recv() => drop(concerned.insert(policy)),
            _ = look.tick() => {
                requeues.policies_over(&sources, &std::mem::take(&mut changed));
                concerned.drain().for_each(|(kind, namespace, name): PolicyKey| {
                    requeues.policy_named(kind, &namespace, &name);
                });
                requeues.all(sources.index.repeats_of_cancelled());
                requeues.repeats_due(&sources);
            }
        }
    }
}

impl Requeues {
    /// Sessions that wait for a load that the pod is a part of.
    fn awaiting(&self, sources: &Sources, pod: &PodChange) {
        let Some(pod) = sources.pods.get(&pod.namespace, &pod.uid) else { return };
        for (namespace, name) in sources.index.awaiting(&pod) {
            let session = sources.sessions.get(&namespace, &name);
            if session.is_some_and(|session| load::is_awaited(&session, &pod)) {
                self.session(&namespace, &name);
            }
        }
    }

    /// Sessions whose next capture can be made: the one before it has just ended, or the interval has.
    fn repeats_due(&self, sources: &Sources) {
        let now = Timestamp::now();
        for (namespace, name) in sources.index.repeating() {
            let Some(session) = sources.sessions.get(&namespace, &name) else { continue };
            let phase = |name: &str| {
                let session = sources.sessions.get(&namespace, name)?;
                session.status.as_ref().map(|s| s.phase)
            };
            if repeat::is_due(&session, now, phase) {
                self.session(&namespace, &name);
            }
        }
    }

    /// Policies that cover one of the namespaces.
    fn policies_over(&self, sources: &Sources, changed: &HashSet<String>) {
        if changed.is_empty() {
            return;
        }
        let labels: Vec<_> = changed.iter().map(|n| (n, sources.namespaces.reached(n))).collect();
        let all = sources.policies.all();
        for policy in
            all.views().iter().filter(|p| labels.iter().any(|(n, labels)| p.covers(n, labels.as_ref())))
        {
            self.policy(&policy);
        }
    }

    fn everything(&self, sources: &Sources) {
        for session in &sources.sessions.all() {
            let _ = self.sessions.send(ObjectRef::from_obj(&**session));
        }
        for policy in sources.policies.all().views().iter() {
            self.policy(&policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube_runtime::watcher::Event;
    use serde_json::json;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::watched::WatchMetrics;

    #[tokio::test]
    async fn sessions_of_people_wait_behind_no_others() {
        let (cache, mut writer) = Cache::<ProfileSession>::new(WatchMetrics::default());
        let (queue, queued) = unbounded_channel();
        for (name, trigger) in [("round", "Schedule"), ("mine", "OnDemand"), ("cpu", "CPU")] {
            let meta = json!({"namespace": "shop", "name": name, "uid": name});
            let object = json!({
                "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": meta,
                "spec": {"trigger": trigger},
            });
            writer.take(Event::Apply(serde_json::from_value(object).unwrap()), &|_| {});
            queue.send(ObjectRef::new(name).within("shop")).unwrap();
        }
        queue.send(ObjectRef::new("gone").within("shop")).unwrap();
        drop(queue);
        let ((to_people, mut people), (to_others, mut others)) = (unbounded_channel(), unbounded_channel());
        assert!(part_sessions(cache, queued, to_people, to_others).await.is_err(), "it ends with its queue");
        let names = |queue: &mut UnboundedReceiver<ObjectRef<ProfileSession>>| {
            std::iter::from_fn(|| queue.try_recv().ok()).map(|session| session.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&mut people), ["mine"]);
        assert_eq!(names(&mut others), ["round", "cpu", "gone"]);
    }
}
