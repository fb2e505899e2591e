//! Which objects of a kind are there? One cache for the whole process, filled by one watch and indexed by
//! namespace: with 10,000 policies and the sessions of each, no lookup may scan all of them.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use kube_runtime::reflector::store::{self, Store};
use kube_runtime::reflector::{self, ObjectRef};
use kube_runtime::watcher::{self, Event};
use tokio::sync::watch as watch_channel;

use super::guarded::{Guarded, Unreadable};
use super::metrics::WatchMetrics;
use super::watch;

type ByNamespace<K> = HashMap<String, HashMap<String, Arc<K>>>;
/// Objects that cannot be read, by namespace and name.
type AllUnreadable = HashMap<(String, String), Arc<Unreadable>>;

/// The objects of a kind.
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    objects: Arc<RwLock<Objects<K>>>,
    /// Whether every object was listed once. The store says so a moment before they are found here.
    listed: watch_channel::Receiver<bool>,
}

struct Objects<K> {
    readable: ByNamespace<K>,
    unreadable: AllUnreadable,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), objects: self.objects.clone(), listed: self.listed.clone() }
    }
}

/// What a watch told of one object, once the cache knows it.
#[derive(Debug)]
pub enum Told<'a, K> {
    /// It is new, changed, or readable again.
    Object {
        /// As it was; `None` for a new one.
        before: Option<&'a K>,
        /// As it is.
        now: &'a K,
    },
    /// It exists, but cannot be read.
    Unreadable(&'a Unreadable),
    /// It is gone.
    Gone {
        /// Its uid.
        uid: &'a str,
        /// As it was; `None` for one that could not be read.
        before: Option<&'a K>,
    },
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    /// No objects yet, and what brings them.
    #[must_use]
    pub fn new(metrics: WatchMetrics) -> (Self, Writer<K>) {
        let (store, writer) = reflector::store();
        let objects = Objects { readable: HashMap::new(), unreadable: HashMap::new() };
        let (done, listed) = watch_channel::channel(false);
        let cache = Self { store, objects: Arc::new(RwLock::new(objects)), listed };
        (cache.clone(), Writer { cache, store: writer, listed: HashMap::new(), done, metrics })
    }

    /// The readable objects as a controller wants them.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Waits until every object was listed once.
    ///
    /// # Errors
    /// When the watch ended before.
    pub async fn synced(&self) -> anyhow::Result<()> {
        self.listed
            .clone()
            .wait_for(|listed| *listed)
            .await
            .map(drop)
            .context("the watch ended before its first list")
    }

    /// Whether every object was listed once.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// One object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read(|all| all.readable.get(namespace)?.get(name).cloned())
    }

    /// The objects of a namespace, in no order; those of the cluster are in the empty one.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read(|all| {
            all.readable.get(namespace).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
        })
    }

    /// Those of all objects that `wanted` picks, in no order. It is called for every one: not for what
    /// happens often.
    #[must_use]
    pub fn filter(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.read(|all| {
            all.readable.values().flat_map(HashMap::values).filter(|object| wanted(object)).cloned().collect()
        })
    }

    /// All objects, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.filter(|_| true)
    }

    /// The uids of all objects that exist, whether they can be read or not: what is kept for an object is
    /// deleted only when its uid is not among them.
    #[must_use]
    pub fn uids(&self) -> HashSet<String> {
        self.read(|all| {
            let readable = all.readable.values().flat_map(HashMap::values).filter_map(|object| object.uid());
            readable.chain(all.unreadable.values().map(|object| object.uid().to_owned())).collect()
        })
    }

    /// The objects that exist but cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Arc<Unreadable>> {
        self.read(|all| all.unreadable.values().cloned().collect())
    }

    fn read<T>(&self, f: impl FnOnce(&Objects<K>) -> T) -> T {
        f(&self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Objects<K>) -> T) -> T {
        f(&mut self.objects.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes what a watch brings into the cache.
pub struct Writer<K: Resource<DynamicType = ()> + Clone + 'static> {
    cache: Cache<K>,
    store: store::Writer<K>,
    listed: AllUnreadable,
    done: watch_channel::Sender<bool>,
    metrics: WatchMetrics,
}

impl<K> Writer<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    /// Fills the cache for as long as `events` come, which is for ever; `tell` is called with each change,
    /// once the cache knows it.
    ///
    /// # Errors
    /// When the watch ends.
    pub async fn keep(
        mut self,
        events: impl Stream<Item = watcher::Result<Event<Guarded<K>>>> + Send,
        tell: impl Fn(Told<'_, K>) + Send,
    ) -> anyhow::Result<()> {
        let kind = K::kind(&());
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(event, &tell),
                Err(error) => watch::interrupted(&kind, &error),
            }
        }
        anyhow::bail!("watch of {kind} ended")
    }

    /// Takes in one event.
    pub fn take(&mut self, event: Event<Guarded<K>>, tell: &impl Fn(Told<'_, K>)) {
        match event {
            Event::Init => {
                self.listed.clear();
                self.store.apply_watcher_event(&Event::Init);
            }
            Event::InitApply(Guarded(Ok(object))) => {
                self.store.apply_watcher_event(&Event::InitApply(object));
            }
            Event::InitApply(Guarded(Err(unreadable))) => {
                self.listed.insert(key(&unreadable), Arc::new(unreadable));
            }
            Event::InitDone => self.relisted(tell),
            Event::Apply(Guarded(Ok(object))) => self.apply(object, tell),
            Event::Apply(Guarded(Err(unreadable))) => self.apply_unreadable(unreadable, tell),
            Event::Delete(object) => self.delete(object.meta(), tell),
        }
        let unreadable = self.cache.read(|all| all.unreadable.len());
        self.metrics.unreadable(&K::kind(&()), unreadable);
    }

    fn apply(&mut self, object: K, tell: &impl Fn(Told<'_, K>)) {
        let event = Event::Apply(object);
        self.store.apply_watcher_event(&event);
        let Event::Apply(object) = event else { return };
        let Some(now) = self.cache.store.get(&ObjectRef::from_obj(&object)) else { return };
        let before = self.cache.write(|all| {
            all.unreadable.remove(&(object.namespace().unwrap_or_default(), object.name_any()));
            insert(&mut all.readable, now.clone())
        });
        tell(Told::Object { before: before.as_deref(), now: &now });
    }

    /// The last readable state is not worked on any longer: what it asks for may have changed.
    fn apply_unreadable(&mut self, unreadable: Unreadable, tell: &impl Fn(Told<'_, K>)) {
        let unreadable = Arc::new(unreadable);
        let (known, before) = self.cache.write(|all| {
            let known = all.unreadable.insert(key(&unreadable), unreadable.clone());
            (known, remove(&mut all.readable, unreadable.namespace(), unreadable.name()))
        });
        if known.is_none_or(|known| known.error != unreadable.error) {
            watch::unreadable(&K::kind(&()), &unreadable);
        }
        self.drop_from_store(before.as_deref());
        tell(Told::Unreadable(&unreadable));
    }

    fn delete(&mut self, meta: &ObjectMeta, tell: &impl Fn(Told<'_, K>)) {
        let namespace = meta.namespace.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();
        let before = self.cache.write(|all| {
            let before = remove(&mut all.readable, &namespace, &name);
            all.unreadable.remove(&(namespace, name));
            before
        });
        self.drop_from_store(before.as_deref());
        tell(Told::Gone { uid: meta.uid.as_deref().unwrap_or_default(), before: before.as_deref() });
    }

    fn drop_from_store(&mut self, object: Option<&K>) {
        if let Some(object) = object {
            self.store.apply_watcher_event(&Event::Delete(object.clone()));
        }
    }

    fn relisted(&mut self, tell: &impl Fn(Told<'_, K>)) {
        self.store.apply_watcher_event(&Event::InitDone);
        let mut readable = ByNamespace::new();
        self.cache.store.state().into_iter().for_each(|object| drop(insert(&mut readable, object)));
        let listed = Objects { readable, unreadable: std::mem::take(&mut self.listed) };
        let mut before = self.cache.write(|all| std::mem::replace(all, listed));
        self.done.send_replace(true);
        for now in self.cache.all() {
            before.unreadable.remove(&(now.namespace().unwrap_or_default(), now.name_any()));
            let before = remove(&mut before.readable, &now.namespace().unwrap_or_default(), &now.name_any());
            tell(Told::Object { before: before.as_deref(), now: &now });
        }
        for now in self.cache.unreadable() {
            if before.unreadable.remove(&key(&now)).is_none() {
                watch::unreadable(&K::kind(&()), &now);
            }
            remove(&mut before.readable, now.namespace(), now.name());
            tell(Told::Unreadable(&now));
        }
        for gone in before.readable.values().flat_map(HashMap::values) {
            tell(Told::Gone { uid: &gone.uid().unwrap_or_default(), before: Some(gone) });
        }
        before.unreadable.values().for_each(|gone| tell(Told::Gone { uid: gone.uid(), before: None }));
    }
}

fn key(unreadable: &Unreadable) -> (String, String) {
    (unreadable.namespace().to_owned(), unreadable.name().to_owned())
}

/// The object that was there before.
fn insert<K: Resource>(all: &mut ByNamespace<K>, object: Arc<K>) -> Option<Arc<K>> {
    all.entry(object.namespace().unwrap_or_default()).or_default().insert(object.name_any(), object)
}

/// The object that was there.
fn remove<K>(all: &mut ByNamespace<K>, namespace: &str, name: &str) -> Option<Arc<K>> {
    let objects = all.get_mut(namespace)?;
    let was = objects.remove(name);
    if objects.is_empty() {
        all.remove(namespace);
    }
    was
}

#[cfg(test)]
mod tests;
