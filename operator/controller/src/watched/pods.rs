//! Which pods are there? A pruned cache of the cluster's pods, about 1 KB each, filled by one watch.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, RwLock};

use fleetprof_core::pod::{PodFacts, SharedFacts, Workload};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, Resource};
use kube_runtime::watcher::Event;
use tokio::sync::mpsc::UnboundedSender;

use super::guarded::{Guarded, Unreadable};
use super::metrics::WatchMetrics;
use super::watch;

/// Most bytes that are kept of a pod; usual ones take 1 to 3 KiB, one with 100 containers 40 KiB.
const MOST_OF_A_POD: usize = 64 << 10;

/// A pod that changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodChange {
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
}

type ByNamespace = HashMap<String, HashSet<ByUid>>;

/// A pod that is found by its uid, without a copy of it as key.
struct ByUid(Arc<PodFacts>);

impl Borrow<str> for ByUid {
    fn borrow(&self) -> &str {
        &self.0.uid
    }
}

impl Hash for ByUid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uid.as_str().hash(state);
    }
}

impl PartialEq for ByUid {
    fn eq(&self, other: &Self) -> bool {
        self.0.uid == other.0.uid
    }
}

impl Eq for ByUid {}

impl ByUid {
    fn with_workload(mut self, workload: &Arc<Workload>) -> Self {
        Arc::make_mut(&mut self.0).workload = workload.clone();
        self
    }
}

/// The pods of the cluster by namespace and uid, and by node.
#[derive(Clone, Default)]
pub struct Pods(Arc<RwLock<State>>);

#[derive(Default)]
struct State {
    pods: ByNamespace,
    /// The same pods by the node that they are bound to.
    nodes: HashMap<Arc<str>, HashSet<ByUid>>,
    /// What owns a Job, by the Job's uid: the workload of its pods.
    above_jobs: HashMap<String, Arc<Workload>>,
}

impl Pods {
    /// The pods of a namespace, in no order.
    #[must_use]
    pub fn namespace(&self, namespace: &str) -> Vec<Arc<PodFacts>> {
        self.read(|all| {
            all.get(namespace).map(|pods| pods.iter().map(|pod| pod.0.clone()).collect()).unwrap_or_default()
        })
    }

    /// One pod of a namespace.
    #[must_use]
    pub fn get(&self, namespace: &str, uid: &str) -> Option<Arc<PodFacts>> {
        self.read(|all| all.get(namespace)?.get(uid).map(|pod| pod.0.clone()))
    }

    /// The pods that are bound to a node, in no order.
    #[must_use]
    pub fn node(&self, node: &str) -> Vec<Arc<PodFacts>> {
        let state = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.nodes.get(node).into_iter().flatten().map(|pod| pod.0.clone()).collect()
    }

    /// How many pods are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read(|all| all.values().map(HashSet::len).sum())
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes what owns a Job: it is the workload of the Job's pods, whichever is seen first.
    pub fn set_above_job(&self, namespace: &str, job_uid: &str, workload: Workload) {
        self.write(|state| {
            if state.above_jobs.get(job_uid).is_some_and(|known| **known == workload) {
                return;
            }
            let workload = Arc::new(workload);
            state.above_jobs.insert(job_uid.to_owned(), workload.clone());
            let Some(pods) = state.pods.get_mut(namespace) else { return };
            let of_job: Vec<_> = pods.extract_if(|pod| is_of_job(&pod.0, job_uid)).collect();
            for pod in of_job.into_iter().map(|pod| pod.with_workload(&workload)) {
                bind(&mut state.nodes, &pod.0);
                pods.replace(pod);
            }
        });
    }

    /// Forgets a Job that is gone.
    pub fn forget_job(&self, job_uid: &str) {
        self.write(|state| state.above_jobs.remove(job_uid));
    }

    fn read<T>(&self, f: impl FnOnce(&ByNamespace) -> T) -> T {
        f(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).pods)
    }

    fn write<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Fills the cache until the watch ends, which it does not; `synced` is called after the first full list.
    ///
    /// # Errors
    /// None in practice: the watch retries for ever with back-off.
    pub async fn follow(
        self,
        client: Client,
        changes: UnboundedSender<PodChange>,
        metrics: WatchMetrics,
        synced: impl Fn(),
    ) -> anyhow::Result<()> {
        let mut writer = Writer::new(self, changes, metrics);
        let mut events = watch::events(Api::<Guarded<Pod>>::all(client), watch::whole).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let done = matches!(event, Event::InitDone);
                    writer.take(event);
                    if done {
                        synced();
                    }
                }
                Err(error) => watch::interrupted("Pod", &error),
            }
        }
        anyhow::bail!("watch of pods ended")
    }
}

/// Takes what the watch brings into the cache.
pub(super) struct Writer {
    pods: Pods,
    shared: SharedFacts,
    listing: Option<ByNamespace>,
    /// Uids of the pods that cannot be read.
    unreadable: HashSet<String>,
    changes: UnboundedSender<PodChange>,
    metrics: WatchMetrics,
}

impl Writer {
    pub(super) fn new(pods: Pods, changes: UnboundedSender<PodChange>, metrics: WatchMetrics) -> Self {
        let (shared, unreadable) = (SharedFacts::default(), HashSet::new());
        Self { pods, shared, listing: None, unreadable, changes, metrics }
    }

    pub(super) fn take(&mut self, event: Event<Guarded<Pod>>) {
        match event {
            Event::Init => {
                self.listing = Some(ByNamespace::default());
                self.unreadable.clear();
            }
            Event::InitApply(Guarded(Ok(pod))) => self.list(&pod),
            Event::InitApply(Guarded(Err(pod))) => self.keep_listed(&pod),
            Event::InitDone => {
                if let Some(all) = self.listing.take() {
                    self.pods.write(|state| state.replace(all));
                }
                self.metrics.unreadable("Pod", self.unreadable.len());
            }
            Event::Apply(Guarded(Ok(pod))) => self.apply(&pod),
            Event::Apply(Guarded(Err(pod))) => self.note(&pod),
            Event::Delete(pod) => self.delete(pod.meta()),
        }
    }

    /// What is known of a pod; nothing of one that is hardly a pod.
    ///
    /// # Errors
    /// It is so large that it counts as unreadable.
    fn facts(&mut self, pod: &Pod) -> Result<Option<PodFacts>, Box<Unreadable>> {
        let Some(mut facts) = PodFacts::of(pod) else { return Ok(None) };
        let bytes = facts.bytes();
        if bytes > MOST_OF_A_POD {
            let error = format!(
                "spec: {bytes} bytes of its labels, containers and placement would be kept, more than \
                 {MOST_OF_A_POD}"
            );
            return Err(Unreadable::too_large(&pod.metadata, error).into());
        }
        self.shared.share(&mut facts);
        Ok(Some(facts))
    }

    fn list(&mut self, pod: &Pod) {
        match self.facts(pod) {
            Ok(Some(facts)) => drop(self.listing.as_mut().and_then(|listing| insert(listing, facts))),
            Ok(None) => {}
            Err(unreadable) => self.keep_listed(&unreadable),
        }
    }

    fn apply(&mut self, pod: &Pod) {
        let facts = match self.facts(pod) {
            Ok(Some(facts)) => facts,
            Ok(None) => return,
            Err(unreadable) => return self.note(&unreadable),
        };
        let change = PodChange { namespace: facts.namespace.to_string(), uid: facts.uid.clone() };
        self.readable(&change.uid);
        if self.pods.write(|state| state.insert(facts)) {
            let _ = self.changes.send(change);
        }
    }

    fn delete(&mut self, meta: &ObjectMeta) {
        let (Some(namespace), Some(uid)) = (meta.namespace.clone(), meta.uid.clone()) else { return };
        self.readable(&uid);
        self.pods.write(|state| state.remove(&namespace, &uid));
        let _ = self.changes.send(PodChange { namespace, uid });
    }

    fn note(&mut self, pod: &Unreadable) {
        if self.unreadable.insert(pod.uid().to_owned()) {
            watch::unreadable("Pod", pod);
            self.metrics.unreadable("Pod", self.unreadable.len());
        }
    }

    fn readable(&mut self, uid: &str) {
        if self.unreadable.remove(uid) {
            self.metrics.unreadable("Pod", self.unreadable.len());
        }
    }

    /// A pod that cannot be read is not gone: what was known of it stays.
    fn keep_listed(&mut self, pod: &Unreadable) {
        self.note(pod);
        if let Some(facts) = self.pods.get(pod.namespace(), pod.uid())
            && let Some(listing) = &mut self.listing
        {
            listing.entry(pod.namespace().to_owned()).or_default().replace(ByUid(facts));
        }
    }
}

impl State {
    /// Whether anything that matters has changed.
    fn insert(&mut self, mut facts: PodFacts) -> bool {
        if let Some(workload) = above(&facts, &self.above_jobs) {
            facts.workload = workload;
        }
        let Some(pod) = insert(&mut self.pods, facts) else { return false };
        bind(&mut self.nodes, &pod);
        true
    }

    /// Forgets a pod, and its namespace and node with the last one.
    fn remove(&mut self, namespace: &str, uid: &str) {
        let Some(pods) = self.pods.get_mut(namespace) else { return };
        let gone = pods.take(uid);
        if pods.is_empty() {
            self.pods.remove(namespace);
        }
        let Some(node) = gone.map(|pod| pod.0.node.clone()) else { return };
        if let Some(pods) = self.nodes.get_mut(&node) {
            pods.remove(uid);
            if pods.is_empty() {
                self.nodes.remove(&node);
            }
        }
    }

    fn replace(&mut self, all: ByNamespace) {
        let above_jobs = &self.above_jobs;
        let of_workload = |pod: ByUid| match above(&pod.0, above_jobs) {
            Some(workload) if workload != pod.0.workload => pod.with_workload(&workload),
            _ => pod,
        };
        let pods = all.into_iter().map(|(name, pods)| (name, pods.into_iter().map(of_workload).collect()));
        self.pods = pods.collect();
        self.nodes.clear();
        for pod in self.pods.values().flatten() {
            bind(&mut self.nodes, &pod.0);
        }
    }
}

/// Notes the node of a pod, which it keeps from when it is bound until it is gone.
fn bind(nodes: &mut HashMap<Arc<str>, HashSet<ByUid>>, pod: &Arc<PodFacts>) {
    if pod.node.is_empty() {
        return;
    }
    nodes.entry(pod.node.clone()).or_default().replace(ByUid(pod.clone()));
}

fn above(pod: &PodFacts, above_jobs: &HashMap<String, Arc<Workload>>) -> Option<Arc<Workload>> {
    pod.job()?;
    above_jobs.get(&pod.owner.as_ref()?.uid).cloned()
}

fn is_of_job(pod: &PodFacts, job_uid: &str) -> bool {
    pod.job().is_some() && pod.owner.as_ref().is_some_and(|owner| owner.uid == job_uid)
}

/// The pod as it is now, where anything that matters has changed.
fn insert(all: &mut ByNamespace, facts: PodFacts) -> Option<Arc<PodFacts>> {
    let pods = all.entry(facts.namespace.to_string()).or_default();
    if pods.get(facts.uid.as_str()).is_some_and(|old| *old.0 == facts) {
        return None;
    }
    let pod = Arc::new(facts);
    pods.replace(ByUid(pod.clone()));
    Some(pod)
}

#[cfg(test)]
mod tests;
