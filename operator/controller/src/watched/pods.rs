//! Which pods are there? A pruned copy of the cluster's pods, about 1 KB each, kept by one watch.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use fleetprof_core::pod::{PodFacts, SharedFacts};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use kube_runtime::watcher::{self, Event};
use kube_runtime::{WatchStreamExt, watcher as watch};
use tokio::sync::mpsc::UnboundedSender;

/// A pod that changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodChange {
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
}

type ByNamespace = HashMap<String, HashMap<String, Arc<PodFacts>>>;

/// The pods of the cluster by namespace and uid.
#[derive(Clone, Default)]
pub struct Pods(Arc<RwLock<ByNamespace>>);

impl Pods {
    /// The pods of a namespace, in no order.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Vec<Arc<PodFacts>> {
        self.read(|all| all.get(namespace).map(|pods| pods.values().cloned().collect()).unwrap_or_default())
    }

    /// One pod of a namespace.
    #[must_use]
    pub fn get(&self, namespace: &str, uid: &str) -> Option<Arc<PodFacts>> {
        self.read(|all| all.get(namespace)?.get(uid).cloned())
    }

    /// How many pods are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read(|all| all.values().map(HashMap::len).sum())
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read<T>(&self, f: impl FnOnce(&ByNamespace) -> T) -> T {
        f(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut ByNamespace) -> T) -> T {
        f(&mut self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Keeps the copy until the watch ends, which it does not; `synced` is called after the first full list.
    ///
    /// # Errors
    /// None in practice: the watch retries for ever with back-off.
    pub async fn follow(
        self,
        client: Client,
        changes: UnboundedSender<PodChange>,
        synced: impl Fn(),
    ) -> anyhow::Result<()> {
        let (mut listing, mut shared) = (None, SharedFacts::default());
        let mut events = watch(Api::<Pod>::all(client), watcher::Config::default()).default_backoff().boxed();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    let done = matches!(event, Event::InitDone);
                    self.take(event, (&mut listing, &mut shared), &changes);
                    if done {
                        synced();
                    }
                }
                Ok(None) => anyhow::bail!("watch of pods ended"),
                Err(error) => tracing::warn!(%error, "watch of pods interrupted; retrying"),
            }
        }
    }

    fn take(
        &self,
        event: Event<Pod>,
        (listing, shared): (&mut Option<ByNamespace>, &mut SharedFacts),
        changes: &UnboundedSender<PodChange>,
    ) {
        let mut facts_of = |pod: &Pod| {
            let mut facts = PodFacts::of(pod)?;
            shared.share(&mut facts);
            Some(facts)
        };
        match event {
            Event::Init => *listing = Some(ByNamespace::default()),
            Event::InitApply(pod) => {
                if let (Some(all), Some(facts)) = (listing.as_mut(), facts_of(&pod)) {
                    insert(all, facts);
                }
            }
            Event::InitDone => {
                if let Some(all) = listing.take() {
                    self.write(|old| *old = all);
                }
            }
            Event::Apply(pod) => {
                let Some(facts) = facts_of(&pod) else { return };
                let change = PodChange { namespace: facts.namespace.to_string(), uid: facts.uid.clone() };
                if self.write(|all| insert(all, facts)) {
                    let _ = changes.send(change);
                }
            }
            Event::Delete(pod) => {
                let (Some(namespace), Some(uid)) = (pod.metadata.namespace, pod.metadata.uid) else { return };
                self.write(|all| all.get_mut(&namespace).and_then(|pods| pods.remove(&uid)));
                let _ = changes.send(PodChange { namespace, uid });
            }
        }
    }
}

/// Whether anything that matters has changed.
fn insert(all: &mut ByNamespace, facts: PodFacts) -> bool {
    let pods = all.entry(facts.namespace.to_string()).or_default();
    if pods.get(&facts.uid).is_some_and(|old| **old == facts) {
        return false;
    }
    pods.insert(facts.uid.clone(), Arc::new(facts));
    true
}
