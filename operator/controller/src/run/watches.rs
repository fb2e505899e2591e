//! What does the leader watch, and when has it seen everything once?

use anyhow::Context;
use fleetprof_crds::ProfileSession;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource};
use kube_runtime::reflector::{self, Store};
use kube_runtime::{WatchStreamExt, watcher};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::pods::{PodChange, Pods};
use crate::policies::PolicyStores;

/// The leader's copies of the cluster, synced.
pub struct Watches {
    /// The pods, pruned.
    pub pods: Pods,
    /// Pods that changed.
    pub pod_changes: mpsc::UnboundedReceiver<PodChange>,
    /// The policies of both kinds.
    pub policies: PolicyStores,
    /// The sessions.
    pub sessions: Store<ProfileSession>,
    /// The namespaces, metadata alone.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// Starts the watches and waits until each has listed everything once.
pub async fn start(client: &Client, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<Watches> {
    let (sender, pod_changes) = mpsc::unbounded_channel();
    let (synced, pods_synced) = oneshot::channel();
    let pods = Pods::default();
    let synced = std::sync::Mutex::new(Some(synced));
    let done = move || {
        let sender = synced.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        sender.map(|s| s.send(()));
    };
    tasks.spawn(pods.clone().follow(client.clone(), sender, done));
    let policies = PolicyStores {
        namespaced: reflect(watcher(Api::all(client.clone()), watcher::Config::default()), tasks),
        cluster: reflect(watcher(Api::all(client.clone()), watcher::Config::default()), tasks),
    };
    let sessions = reflect(watcher(Api::<ProfileSession>::all(client.clone()), watcher::Config::default()), tasks);
    let namespaces = reflect(watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), watcher::Config::default()), tasks);
    pods_synced.await.context("the pods could not be listed")?;
    policies.namespaced.wait_until_ready().await.context("the policies could not be listed")?;
    policies.cluster.wait_until_ready().await.context("the policies of the cluster could not be listed")?;
    sessions.wait_until_ready().await.context("the sessions could not be listed")?;
    namespaces.wait_until_ready().await.context("the namespaces could not be listed")?;
    Ok(Watches { pods, pod_changes, policies, sessions, namespaces })
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
                tracing::warn!(%error, kind = %K::kind(&K::DynamicType::default()), "a watch was interrupted; it is tried again");
            }
        }
        anyhow::bail!("the watch of {} ended", K::kind(&K::DynamicType::default()))
    });
    store
}
