//! Which objects of a kind are there? One cache for the whole process, filled by one watch and indexed by
//! namespace: with 10,000 policies and the sessions of each, no lookup may scan all of them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use futures::{Stream, StreamExt};
use kube::{Resource, ResourceExt};
use kube_runtime::reflector::store::{self, Store};
use kube_runtime::reflector::{self, ObjectRef};
use kube_runtime::watcher::{self, Event};

type ByNamespace<K> = HashMap<String, HashMap<String, Arc<K>>>;

/// The objects of a kind.
pub struct Cache<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    by_namespace: Arc<RwLock<ByNamespace<K>>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), by_namespace: self.by_namespace.clone() }
    }
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    /// No objects yet, and what brings them.
    #[must_use]
    pub fn new() -> (Self, Writer<K>) {
        let (store, writer) = reflector::store();
        let cache = Self { store, by_namespace: Arc::default() };
        (cache.clone(), Writer { cache, store: writer })
    }

    /// The same as a controller wants it.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// One object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read(|all| all.get(namespace)?.get(name).cloned())
    }

    /// The objects of a namespace, in no order.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read(|all| {
            all.get(namespace).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
        })
    }

    /// Those of all objects that `wanted` picks, in no order. It is called for every one: not for what
    /// happens often.
    #[must_use]
    pub fn filter(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.read(|all| {
            all.values().flat_map(HashMap::values).filter(|object| wanted(object)).cloned().collect()
        })
    }

    /// All objects, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.filter(|_| true)
    }

    fn read<T>(&self, f: impl FnOnce(&ByNamespace<K>) -> T) -> T {
        f(&self.by_namespace.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut ByNamespace<K>) -> T) -> T {
        f(&mut self.by_namespace.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes what a watch brings into the cache.
pub struct Writer<K: Resource<DynamicType = ()> + Clone + 'static> {
    cache: Cache<K>,
    store: store::Writer<K>,
}

impl<K> Writer<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    /// Keeps the cache for as long as `watch` goes on, which is for ever; `tell` is called with each object
    /// as it was before and as it is now, once the cache know it: `None` before for a new one, `None` now
    /// for one that is gone.
    ///
    /// # Errors
    /// When the watch ends.
    pub async fn keep(
        mut self,
        watch: impl Stream<Item = watcher::Result<Event<K>>> + Send,
        tell: impl Fn(Option<&K>, Option<&K>) + Send,
    ) -> anyhow::Result<()> {
        let kind = K::kind(&());
        let mut watch = std::pin::pin!(watch);
        while let Some(event) = watch.next().await {
            match event {
                Ok(event) => self.take(event, &tell),
                Err(error) => tracing::warn!(%error, %kind, "watch interrupted; retrying"),
            }
        }
        anyhow::bail!("watch of {kind} ended")
    }

    fn take(&mut self, event: Event<K>, tell: &impl Fn(Option<&K>, Option<&K>)) {
        self.store.apply_watcher_event(&event);
        match event {
            Event::Apply(object) => {
                let kept = self.cache.store.get(&ObjectRef::from_obj(&object));
                let before = kept.and_then(|kept| self.cache.write(|all| insert(all, kept)));
                tell(before.as_deref(), Some(&object));
            }
            Event::Delete(object) => {
                self.cache.write(|all| remove(all, &object));
                tell(Some(&object), None);
            }
            Event::InitDone => {
                let mut listed = ByNamespace::new();
                self.cache.store.state().into_iter().for_each(|object| drop(insert(&mut listed, object)));
                let mut before = self.cache.write(|all| std::mem::replace(all, listed));
                self.cache
                    .all()
                    .iter()
                    .for_each(|object| tell(remove(&mut before, &**object).as_deref(), Some(object)));
                before.values().flat_map(HashMap::values).for_each(|gone| tell(Some(gone), None));
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// The object that was there before.
fn insert<K: Resource>(all: &mut ByNamespace<K>, object: Arc<K>) -> Option<Arc<K>> {
    all.entry(object.namespace().unwrap_or_default()).or_default().insert(object.name_any(), object)
}

/// The object that was there.
fn remove<K: Resource>(all: &mut ByNamespace<K>, object: &K) -> Option<Arc<K>> {
    let namespace = object.namespace().unwrap_or_default();
    let objects = all.get_mut(&namespace)?;
    let was = objects.remove(&object.name_any());
    if objects.is_empty() {
        all.remove(&namespace);
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

    fn object(name: &str, value: &str) -> ConfigMap {
        let (namespace, name) = name.split_once('/').unwrap();
        serde_json::from_value(
            json!({"metadata": {"namespace": namespace, "name": name}, "data": {"v": value}}),
        )
        .unwrap()
    }

    fn names(objects: &[Arc<ConfigMap>]) -> BTreeSet<String> {
        objects
            .iter()
            .map(|o| format!("{}/{}={}", o.namespace().unwrap(), o.name_any(), o.data.as_ref().unwrap()["v"]))
            .collect()
    }

    #[test]
    fn what_a_watch_brings_is_found_by_namespace_and_told_once() {
        let (cache, mut writer) = Cache::new();
        let told = RefCell::new(Vec::new());
        let value =
            |o: Option<&ConfigMap>| o.map_or("-".to_owned(), |o| o.data.as_ref().unwrap()["v"].clone());
        let tell = |before: Option<&ConfigMap>, now: Option<&ConfigMap>| {
            told.borrow_mut().push(format!(
                "{} {}>{}",
                before.or(now).unwrap().name_any(),
                value(before),
                value(now)
            ));
        };
        let list = |writer: &mut Writer<ConfigMap>, names: &[&str]| {
            writer.take(Event::Init, &tell);
            names.iter().for_each(|n| writer.take(Event::InitApply(object(n, "listed")), &tell));
            writer.take(Event::InitDone, &tell);
        };
        list(&mut writer, &["a/one", "a/two", "b/three"]);
        assert_eq!(names(&cache.of("a")), ["a/one=listed", "a/two=listed"].map(String::from).into());
        assert_eq!(std::mem::take(&mut *told.borrow_mut()).len(), 3);

        writer.take(Event::Apply(object("a/one", "new")), &tell);
        writer.take(Event::Apply(object("c/four", "new")), &tell);
        writer.take(Event::Delete(object("b/three", "old")), &tell);
        assert_eq!(std::mem::take(&mut *told.borrow_mut()), ["one listed>new", "four ->new", "three old>-"]);
        assert_eq!(names(&cache.all()), ["a/one=new", "a/two=listed", "c/four=new"].map(String::from).into());
        assert_eq!((cache.of("b").len(), cache.get("b", "three"), cache.store().len()), (0, None, 3));
        assert!(Arc::ptr_eq(
            &cache.get("a", "one").unwrap(),
            &cache.store().get(&ObjectRef::new("one").within("a")).unwrap()
        ));

        list(&mut writer, &["a/two"]);
        assert_eq!(
            names(&cache.all()),
            ["a/two=listed"].map(String::from).into(),
            "a new list replaces the old one"
        );
        assert_eq!(
            told.take().into_iter().collect::<BTreeSet<_>>(),
            ["two listed>listed", "one new>-", "four new>-"].map(String::from).into(),
            "deletions are told too"
        );
    }
}
