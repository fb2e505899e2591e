//! What does the leader watch, and when has it seen everything once?

use std::fmt::Debug;

use anyhow::Context;
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession, ProfilingPolicy};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use kube_runtime::reflector::{self, ObjectRef, Store};
use kube_runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::requeue::{Concerned, Requeues};
use crate::watched::Cache;
use crate::watched::PolicyCaches;
use crate::watched::{PodChange, Pods};

/// The leader's copies of the cluster, synced.
pub struct Watches {
    /// The pods, pruned.
    pub pods: Pods,
    /// Pods that changed.
    pub pod_changes: mpsc::UnboundedReceiver<PodChange>,
    /// The policies of both kinds.
    pub policies: PolicyCaches,
    /// The sessions.
    pub sessions: Cache<ProfileSession>,
    /// Policies one of whose sessions changed.
    pub session_changes: mpsc::UnboundedReceiver<Concerned>,
    /// The namespaces, metadata alone.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// Starts the watches and waits until each has listed everything once. What changes is told to the
/// controllers by `requeues`.
pub async fn start(
    client: &Client,
    requeues: &Requeues,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Watches> {
    let (sender, pod_changes) = mpsc::unbounded_channel();
    let (synced, pods_synced) = oneshot::channel();
    let pods = Pods::default();
    let synced = std::sync::Mutex::new(Some(synced));
    let done = move || {
        let sender = synced.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        sender.map(|s| s.send(()));
    };
    tasks.spawn(pods.clone().follow(client.clone(), sender, done));
    let (concerned, session_changes) = mpsc::unbounded_channel();
    let queue = requeues.clone();
    let sessions =
        copy(client, tasks, move |before: Option<&ProfileSession>, now: Option<&ProfileSession>| {
            now.map(|session| queue.sessions.send(ObjectRef::from_obj(session)));
            now.or(before).and_then(Concerned::of).map(|policy| concerned.send(policy));
        });
    // A policy that was edited is looked at without waiting for any pace, but not because its status was
    // written, by us.
    let queue = requeues.clone();
    let namespaced =
        copy(client, tasks, move |before: Option<&ProfilingPolicy>, now: Option<&ProfilingPolicy>| {
            edited(before, now).map(|policy| queue.policies.send(ObjectRef::from_obj(policy)));
        });
    let queue = requeues.clone();
    let cluster = copy(
        client,
        tasks,
        move |before: Option<&ClusterProfilingPolicy>, now: Option<&ClusterProfilingPolicy>| {
            edited(before, now).map(|policy| queue.edited.send(ObjectRef::from_obj(policy)));
        },
    );
    let policies = PolicyCaches { namespaced, cluster };
    let namespaces = reflect(
        watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), watcher::Config::default()),
        tasks,
    );
    pods_synced.await.context("failed to list pods")?;
    policies.namespaced.store().wait_until_ready().await.context("failed to list policies")?;
    policies.cluster.store().wait_until_ready().await.context("failed to list cluster policies")?;
    sessions.store().wait_until_ready().await.context("failed to list sessions")?;
    namespaces.wait_until_ready().await.context("failed to list namespaces")?;
    Ok(Watches { pods, pod_changes, policies, sessions, session_changes, namespaces })
}

/// The object, where it is new or somebody changed what it asks for.
fn edited<'a, K: Resource>(before: Option<&K>, now: Option<&'a K>) -> Option<&'a K> {
    now.filter(|now| {
        before.is_none_or(|before| {
            before.meta().generation != now.meta().generation || before.uid() != now.uid()
        })
    })
}

/// One copy of all objects of a kind; `tell` hears of each that changes. Who wrote which field, often half of
/// an object, is of no interest here.
fn copy<K>(
    client: &Client,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    tell: impl Fn(Option<&K>, Option<&K>) + Send + 'static,
) -> Cache<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let (cache, writer) = Cache::new();
    let watch = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
    tasks.spawn(writer.keep(watch.modify(|object| object.managed_fields_mut().clear()), tell));
    cache
}

fn reflect<K>(
    stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> Store<K>
where
    K: Resource + Clone + Send + Sync + 'static,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone + Send + Sync + Unpin,
{
    let (store, writer) = reflector::store();
    let stream = stream.default_backoff().reflect(writer);
    tasks.spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            if let Err(error) = event {
                tracing::warn!(
                    %error,
                    kind = %K::kind(&K::DynamicType::default()),
                    "watch interrupted; retrying"
                );
            }
        }
        anyhow::bail!("watch of {} ended", K::kind(&K::DynamicType::default()))
    });
    store
}
