//! Which objects of a kind are there? One cache for the whole process, filled by one watch and indexed by
//! namespace: with 10,000 policies and the sessions of each, no lookup may scan all of them.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use kube_runtime::reflector::store::{self, Store};
use kube_runtime::reflector::{self, ObjectRef};
use kube_runtime::watcher::{self, Event};

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
}

struct Objects<K> {
    readable: ByNamespace<K>,
    unreadable: AllUnreadable,
    /// Whether every object was listed once.
    listed: bool,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), objects: self.objects.clone() }
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
        let objects = Objects { readable: HashMap::new(), unreadable: HashMap::new(), listed: false };
        let cache = Self { store, objects: Arc::new(RwLock::new(objects)) };
        (cache.clone(), Writer { cache, store: writer, listed: HashMap::new(), metrics })
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
        Ok(self.store.wait_until_ready().await?)
    }

    /// Whether every object was listed once.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.read(|all| all.listed)
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
        let listed = Objects { readable, unreadable: std::mem::take(&mut self.listed), listed: true };
        let mut before = self.cache.write(|all| std::mem::replace(all, listed));
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
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    /// An object such as `a/one=x`; one whose value is `!` cannot be read.
    fn object(text: &str) -> Guarded<ConfigMap> {
        let (namespace, rest) = text.split_once('/').unwrap();
        let (name, value) = rest.split_once('=').unwrap();
        let data = if value == "!" { json!(7) } else { json!({"v": value}) };
        let meta = json!({"namespace": namespace, "name": name, "uid": format!("uid-{name}")});
        serde_json::from_value(json!({"metadata": meta, "data": data})).unwrap()
    }

    fn value(object: Option<&ConfigMap>) -> String {
        object.map_or("-".to_owned(), |o| o.data.as_ref().unwrap()["v"].clone())
    }

    fn names(objects: &[Arc<ConfigMap>]) -> BTreeSet<String> {
        objects
            .iter()
            .map(|o| format!("{}/{}={}", o.namespace().unwrap(), o.name_any(), value(Some(o))))
            .collect()
    }

    /// A cache, and what was told of it.
    struct Rig {
        cache: Cache<ConfigMap>,
        writer: Writer<ConfigMap>,
        told: RefCell<Vec<String>>,
    }

    impl Rig {
        fn new() -> Self {
            let (cache, writer) = Cache::new(WatchMetrics::default());
            Self { cache, writer, told: RefCell::default() }
        }

        fn take(&mut self, event: Event<Guarded<ConfigMap>>) {
            let told = &self.told;
            self.writer.take(event, &|change| {
                told.borrow_mut().push(match change {
                    Told::Object { before, now } => {
                        format!("{} {}>{}", now.name_any(), value(before), value(Some(now)))
                    }
                    Told::Unreadable(object) => format!("{} unreadable", object.name()),
                    Told::Gone { uid, before } => format!("{uid} {}>", value(before)),
                });
            });
        }

        fn list(&mut self, objects: &[&str]) {
            self.take(Event::Init);
            objects.iter().for_each(|o| self.take(Event::InitApply(object(o))));
            self.take(Event::InitDone);
        }

        fn told(&self) -> BTreeSet<String> {
            self.told.take().into_iter().collect()
        }
    }

    fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
        texts.map(String::from).into()
    }

    #[test]
    fn what_a_watch_brings_is_found_by_namespace_and_told_once() {
        let mut rig = Rig::new();
        rig.list(&["a/one=listed", "a/two=listed", "b/three=listed"]);
        assert_eq!(names(&rig.cache.of("a")), set(["a/one=listed", "a/two=listed"]));
        assert_eq!(rig.told().len(), 3);

        rig.take(Event::Apply(object("a/one=new")));
        rig.take(Event::Apply(object("c/four=new")));
        rig.take(Event::Delete(object("b/three=old")));
        assert_eq!(rig.told(), set(["one listed>new", "four ->new", "uid-three listed>"]));
        assert_eq!(names(&rig.cache.all()), set(["a/one=new", "a/two=listed", "c/four=new"]));
        let found = (rig.cache.of("b").len(), rig.cache.get("b", "three"), rig.cache.store().len());
        assert_eq!(found, (0, None, 3));
        assert!(Arc::ptr_eq(
            &rig.cache.get("a", "one").unwrap(),
            &rig.cache.store().get(&ObjectRef::new("one").within("a")).unwrap()
        ));

        rig.list(&["a/two=listed"]);
        assert_eq!(names(&rig.cache.all()), set(["a/two=listed"]), "a new list replaces the old one");
        let told = set(["two listed>listed", "uid-one new>", "uid-four new>"]);
        assert_eq!(rig.told(), told, "what is gone is told too");
    }

    #[test]
    fn an_object_that_cannot_be_read_exists_and_hides_no_other() {
        let mut rig = Rig::new();
        rig.list(&["a/good=x", "a/bad=!"]);
        assert_eq!(names(&rig.cache.all()), set(["a/good=x"]));
        assert_eq!(rig.cache.uids(), set(["uid-good", "uid-bad"]).into_iter().collect());
        assert_eq!(rig.told(), set(["good ->x", "bad unreadable"]));

        rig.take(Event::Apply(object("a/good=!")));
        let left = (rig.cache.get("a", "good"), rig.cache.store().len(), rig.cache.unreadable().len());
        assert_eq!(left, (None, 0, 2), "what it asked for last is not worked on");
        assert_eq!(rig.cache.uids().len(), 2);

        rig.take(Event::Apply(object("a/good=y")));
        rig.take(Event::Delete(object("a/bad=!")));
        assert_eq!(rig.told(), set(["good unreadable", "good ->y", "uid-bad ->"]));
        assert_eq!(
            (rig.cache.uids(), rig.cache.unreadable().len()),
            (set(["uid-good"]).into_iter().collect(), 0)
        );
    }

    #[test]
    fn a_new_list_tells_of_what_became_unreadable_and_of_what_is_gone() {
        let mut rig = Rig::new();
        rig.list(&["a/one=x", "a/two=!", "a/three=!"]);
        rig.told();
        rig.list(&["a/one=!", "a/two=x"]);
        assert_eq!(rig.told(), set(["one unreadable", "two ->x", "uid-three ->"]));
        assert_eq!(rig.cache.store().len(), 1);
    }
}
