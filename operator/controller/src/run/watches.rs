//! What does the leader watch, whom does it tell, and when has it seen everything once?

use std::time::Duration;

use anyhow::Context;
use fleetprof_core::session::load;
use fleetprof_crds::phase::Phase;
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession, ProfilingPolicy};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use kube_runtime::reflector::ObjectRef;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::requeue::Requeues;
use super::unreadable::Report;
use crate::sessions::Gone;
use crate::watched::{
    Cache, JobState, NodeState, PodChange, Pods, PolicyCaches, PolicyKey, PolicyObject, ResourceCaches,
    SessionIndex, Told, Unreadable, WatchMetrics, Writer, events, metadata, policy, prune,
};

/// How long the leader waits for a list that its role may not allow before it starts without.
const OPTIONAL_WAIT: Duration = Duration::from_secs(5);

/// The leader's caches of the cluster, synced.
pub struct Watches {
    /// The pods, pruned.
    pub pods: Pods,
    /// The policies of both kinds.
    pub policies: PolicyCaches,
    /// The sessions.
    pub sessions: Cache<ProfileSession>,
    /// The live sessions, by what concerns them.
    pub index: SessionIndex,
    /// The Jobs, pruned.
    pub jobs: Cache<JobState>,
    /// The nodes, pruned; they may not be listed yet.
    pub nodes: Cache<NodeState>,
    /// The namespaces, metadata alone.
    pub namespaces: Cache<PartialObjectMeta<Namespace>>,
    /// The LimitRanges and ResourceQuotas.
    pub resources: ResourceCaches,
    /// What changes in them.
    pub changes: Changes,
}

/// What the watches tell beside what they requeue.
pub struct Changes {
    /// Pods that changed.
    pub pods: mpsc::UnboundedReceiver<PodChange>,
    /// Policies one of whose sessions changed.
    pub concerned: mpsc::UnboundedReceiver<PolicyKey>,
    /// Sessions that are gone.
    pub gone: mpsc::UnboundedReceiver<Gone>,
    /// Objects that cannot be read.
    pub unreadable: mpsc::UnboundedReceiver<Report>,
    /// Some policy is new, edited or gone.
    pub policies: watch::Receiver<()>,
    /// Some namespace changed.
    pub namespaces: watch::Receiver<()>,
}

/// The other ends of [`Changes`].
#[derive(Clone)]
struct Tell {
    index: SessionIndex,
    requeues: Requeues,
    concerned: mpsc::UnboundedSender<PolicyKey>,
    gone: mpsc::UnboundedSender<Gone>,
    unreadable: mpsc::UnboundedSender<Report>,
    policies: watch::Sender<()>,
    namespaces: watch::Sender<()>,
}

/// Starts the watches and waits until each has listed everything once. What changes is told to the
/// controllers by `requeues`.
///
/// # Errors
/// When a watch ends.
pub async fn start(
    client: &Client,
    requeues: &Requeues,
    metrics: &WatchMetrics,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Watches> {
    let (pods, pod_changes, pods_synced) = follow_pods(client, metrics, tasks);
    let (tell, changes) = channels(requeues.clone(), pod_changes);
    let index = tell.index.clone();
    let (sessions, of_sessions) = Cache::new(metrics.clone());
    let told = tell.clone();
    spawn(client, tasks, of_sessions, metadata::session, move |change| told.session(&change));
    let policies = follow_policies(client, metrics, &tell, tasks);
    let (jobs, of_jobs) = Cache::new(metrics.clone());
    let (told, above) = (tell.clone(), pods.clone());
    spawn(client, tasks, of_jobs, JobState::prune, move |change| {
        JobState::note_owner(&change, &above);
        told.job(&change);
    });
    let nodes = follow_nodes(client, metrics, tasks);
    let (namespaces, of_namespaces) = Cache::new(metrics.clone());
    spawn(client, tasks, of_namespaces, metadata::namespace, move |_| tell.namespaces.send_replace(()));
    pods_synced.await.context("failed to list pods")?;
    policies.synced().await.context("failed to list policies")?;
    sessions.synced().await.context("failed to list sessions")?;
    namespaces.synced().await.context("failed to list namespaces")?;
    let resources = follow_resources(client, metrics, tasks);
    may_be_listed("Jobs", jobs.synced()).await?;
    may_be_listed("LimitRanges and ResourceQuotas", resources.synced()).await?;
    Ok(Watches { pods, policies, sessions, index, jobs, nodes, namespaces, resources, changes })
}

fn follow_policies(
    client: &Client,
    metrics: &WatchMetrics,
    tell: &Tell,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> PolicyCaches {
    let (namespaced, of_namespaced) = Cache::new(metrics.clone());
    let told = tell.clone();
    spawn(client, tasks, of_namespaced, metadata::policy, move |change: Told<'_, ProfilingPolicy>| {
        if let Some(policy) = told.policy(&change) {
            let _ = told.requeues.policies.send(ObjectRef::from_obj(policy));
        }
    });
    let (cluster, of_cluster) = Cache::new(metrics.clone());
    let told = tell.clone();
    spawn(client, tasks, of_cluster, metadata::policy, move |change: Told<'_, ClusterProfilingPolicy>| {
        if let Some(policy) = told.policy(&change) {
            let _ = told.requeues.edited.send(ObjectRef::from_obj(policy));
        }
    });
    PolicyCaches { namespaced, cluster }
}

/// Nobody waits for the list of nodes: one that is not known counts as a small one, and the role of an older
/// chart allows no list.
fn follow_nodes(
    client: &Client,
    metrics: &WatchMetrics,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> Cache<NodeState> {
    let (nodes, writer) = Cache::new(metrics.clone());
    spawn(client, tasks, writer, NodeState::prune, |_| {});
    nodes
}

/// The role of an older chart allows no list of some kinds; that must not keep the leader from all other work.
async fn may_be_listed(kinds: &str, listed: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    match tokio::time::timeout(OPTIONAL_WAIT, listed).await {
        Ok(listed) => listed.with_context(|| format!("failed to list {kinds}")),
        Err(_) => {
            tracing::warn!("{kinds} are not listed yet; what depends on them goes on waiting");
            Ok(())
        }
    }
}

fn follow_resources(
    client: &Client,
    metrics: &WatchMetrics,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> ResourceCaches {
    let (limit_ranges, of_ranges) = Cache::new(metrics.clone());
    let (quotas, of_quotas) = Cache::new(metrics.clone());
    spawn(client, tasks, of_ranges, prune, |_| {});
    spawn(client, tasks, of_quotas, prune, |_| {});
    ResourceCaches { limit_ranges, quotas }
}

fn follow_pods(
    client: &Client,
    metrics: &WatchMetrics,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> (Pods, mpsc::UnboundedReceiver<PodChange>, oneshot::Receiver<()>) {
    let (sender, changes) = mpsc::unbounded_channel();
    let (synced, pods_synced) = oneshot::channel();
    let pods = Pods::default();
    let synced = std::sync::Mutex::new(Some(synced));
    let done = move || {
        let sender = synced.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        sender.map(|s| s.send(()));
    };
    tasks.spawn(pods.clone().follow(client.clone(), sender, metrics.clone(), done));
    (pods, changes, pods_synced)
}

fn channels(requeues: Requeues, pods: mpsc::UnboundedReceiver<PodChange>) -> (Tell, Changes) {
    let (to_concerned, concerned) = mpsc::unbounded_channel();
    let (to_gone, gone) = mpsc::unbounded_channel();
    let (to_unreadable, unreadable) = mpsc::unbounded_channel();
    let (to_policies, policies) = watch::channel(());
    let (to_namespaces, namespaces) = watch::channel(());
    let tell = Tell {
        index: SessionIndex::default(),
        requeues,
        concerned: to_concerned,
        gone: to_gone,
        unreadable: to_unreadable,
        policies: to_policies,
        namespaces: to_namespaces,
    };
    (tell, Changes { pods, concerned, gone, unreadable, policies, namespaces })
}

fn spawn<K>(
    client: &Client,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    writer: Writer<K>,
    prune: fn(&mut K),
    tell: impl Fn(Told<'_, K>) + Send + 'static,
) where
    K: Resource<DynamicType = ()> + serde::de::DeserializeOwned,
    K: Clone + std::fmt::Debug + Send + Sync + 'static,
{
    tasks.spawn(writer.keep(events(Api::all(client.clone()), prune), tell));
}

impl Tell {
    fn session(&self, change: &Told<'_, ProfileSession>) {
        let session = match change {
            Told::Object { before, now } => {
                self.index.set(now);
                if !before.is_some_and(|before| is_own_write(before, now)) {
                    let _ = self.requeues.sessions.send(ObjectRef::from_obj(*now));
                }
                Some(*now)
            }
            Told::Gone { uid, before } => {
                let status = before.and_then(|session| session.status.as_ref());
                let _ = self.gone.send(Gone::of(uid, status));
                before.inspect(|session| {
                    self.index.remove(&(session.namespace().unwrap_or_default(), session.name_any()));
                })
            }
            Told::Unreadable(object) => {
                self.index.remove(&(object.namespace().to_owned(), object.name().to_owned()));
                self.unreadable::<ProfileSession>(object);
                None
            }
        };
        session.and_then(policy).map(|policy| self.concerned.send(policy));
    }

    /// The policy, where it is new or somebody changed what it asks for: it is looked at without waiting for
    /// any pace, but not because the operator wrote its status.
    ///
    /// Its live sessions look at once: it may have been suspended, or be gone.
    fn policy<'a, K: PolicyObject>(&self, change: &Told<'a, K>) -> Option<&'a K> {
        let edited = match change {
            Told::Object { before, now } => Some(*now).filter(|now| is_edited(*before, now)),
            Told::Gone { .. } => None,
            Told::Unreadable(object) => {
                self.unreadable::<K>(object);
                None
            }
        };
        if edited.is_some() || !matches!(change, Told::Object { .. }) {
            self.policies.send_replace(());
        }
        let sessions_of = match change {
            Told::Object { before, .. } => before.and(edited),
            Told::Gone { before, .. } => *before,
            Told::Unreadable(_) => None,
        };
        if let Some(policy) = sessions_of {
            let view = policy.view();
            let namespace = view.namespace.unwrap_or_default().to_owned();
            self.requeues.all(self.index.of_policy(&(view.kind, namespace, view.name.to_owned())));
        }
        edited
    }

    /// A session that waits for the Job is told of every change, one that will never end included.
    fn job(&self, change: &Told<'_, JobState>) {
        let meta = match change {
            Told::Object { now, .. } => now.meta(),
            Told::Gone { before: Some(before), .. } => before.meta(),
            Told::Gone { before: None, .. } | Told::Unreadable(_) => return,
        };
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        self.requeues.all(self.index.awaiting_job(namespace.unwrap_or_default(), name.unwrap_or_default()));
    }

    fn unreadable<K: Resource<DynamicType = ()>>(&self, object: &Unreadable) {
        let _ = self.unreadable.send(Report { kind: K::kind(&()).into_owned(), object: object.clone() });
    }
}

/// Whether the leader wrote down that a new session was taken, or that it waits for its load: nothing follows
/// from that, and there may be thousands.
fn is_own_write(before: &ProfileSession, now: &ProfileSession) -> bool {
    let same = before.uid() == now.uid()
        && before.metadata.generation == now.metadata.generation
        && before.metadata.deletion_timestamp == now.metadata.deletion_timestamp
        && before.status != now.status;
    let Some(status) = now.status.as_ref().filter(|_| same) else { return false };
    let taken = before.status.is_none() && status.phase == Phase::Pending && status.targets.is_empty();
    taken || load::is_waiting(now)
}

fn is_edited<K: Resource>(before: Option<&K>, now: &K) -> bool {
    before.is_none_or(|before| before.meta().generation != now.meta().generation || before.uid() != now.uid())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn session(generation: i64, status: Value) -> ProfileSession {
        let object = json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"namespace": "shop", "name": "one", "uid": "u", "generation": generation},
            "spec": {}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn only_what_the_leader_wrote_itself_of_a_session_that_waits_is_not_looked_at_again() {
        let (new, taken) = (json!(null), json!({"phase": "Pending", "message": "Checking"}));
        let waiting =
            |message: &str| json!({"phase": "Pending", "reason": "WaitingForLoad", "message": message});
        let running = json!({"phase": "Running"});
        let cases = [
            (session(1, new.clone()), session(1, taken.clone()), true),
            (session(1, taken.clone()), session(1, waiting("a")), true),
            (session(1, waiting("a")), session(1, waiting("b")), true),
            (session(1, waiting("a")), session(2, waiting("a")), false),
            (session(1, waiting("a")), session(1, waiting("a")), false),
            (session(1, waiting("a")), session(1, taken), false),
            (session(1, waiting("a")), session(1, running), false),
        ];
        for (before, now, own) in cases {
            assert_eq!(is_own_write(&before, &now), own, "{:?} {:?}", before.status, now.status);
        }
    }
}
