//! Which policies and labels does a namespace have now? Kept in memory by two watches; a request only reads.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};

use fleetprof_core::view::PolicyView;
use fleetprof_crds::{ClusterProfilingPolicy, ProfilingPolicy};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Labels of a namespace.
pub type Labels = Arc<BTreeMap<String, String>>;
/// Policies of a namespace, or of the cluster.
pub type Policies = Arc<Vec<Policy>>;

/// A policy without what injection does not ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// One of a namespace.
    Namespaced(ProfilingPolicy),
    /// One of the cluster.
    Cluster(ClusterProfilingPolicy),
}

impl Policy {
    /// As injection looks at it.
    #[must_use]
    pub fn view(&self) -> PolicyView<'_> {
        match self {
            Self::Namespaced(policy) => policy.into(),
            Self::Cluster(policy) => policy.into(),
        }
    }
}

impl From<ProfilingPolicy> for Policy {
    fn from(mut policy: ProfilingPolicy) -> Self {
        policy.metadata.managed_fields = None;
        Self::Namespaced(ProfilingPolicy { status: None, ..policy })
    }
}

impl From<ClusterProfilingPolicy> for Policy {
    fn from(mut policy: ClusterProfilingPolicy) -> Self {
        policy.metadata.managed_fields = None;
        Self::Cluster(ClusterProfilingPolicy { status: None, ..policy })
    }
}

/// The policies and labels of every namespace. Clones are cheap and see the same.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    policies: Table<Policies>,
    /// Those of the cluster, under the empty name.
    cluster: Table<Policies>,
    namespaces: Table<Labels>,
}

/// A map that is read often and replaced or changed by one writer.
struct Table<V> {
    map: RwLock<HashMap<String, V>>,
    synced: watch::Sender<bool>,
}

impl<V: Clone> Table<V> {
    fn new() -> Self {
        Self { map: RwLock::default(), synced: watch::channel(false).0 }
    }

    fn get(&self, key: &str) -> Option<V> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<String, V>)) {
        change(&mut self.map.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn replace(&self, map: HashMap<String, V>) {
        self.change(|current| *current = map);
        self.synced.send_replace(true);
    }

    async fn synced(&self) {
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }
}

impl Default for Index {
    fn default() -> Self {
        Self(Arc::new(Inner { policies: Table::new(), cluster: Table::new(), namespaces: Table::new() }))
    }
}

impl Index {
    /// An index that three watches keep, for ever. Must be called inside a tokio runtime.
    #[must_use]
    pub fn watch(client: Client) -> Self {
        let index = Self::default();
        let policies = Api::<DeserializeGuard<ProfilingPolicy>>::all(client.clone());
        let cluster = Api::<DeserializeGuard<ClusterProfilingPolicy>>::all(client.clone());
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client);
        let (of_policies, of_cluster, of_namespaces) = (index.clone(), index.clone(), index.clone());
        tokio::spawn(async move {
            follow("policies", policies, PolicyWriter::new(of_policies, |inner| &inner.policies)).await
        });
        tokio::spawn(async move {
            follow("cluster policies", cluster, PolicyWriter::new(of_cluster, |inner| &inner.cluster)).await
        });
        tokio::spawn(async move {
            follow("namespaces", namespaces, NamespaceWriter { index: of_namespaces, fresh: HashMap::new() })
                .await
        });
        index
    }

    /// Policies of a namespace.
    #[must_use]
    pub fn policies(&self, namespace: &str) -> Option<Policies> {
        self.0.policies.get(namespace)
    }

    /// Policies of the cluster.
    #[must_use]
    pub fn cluster_policies(&self) -> Option<Policies> {
        self.0.cluster.get("")
    }

    /// Labels of a namespace.
    #[must_use]
    pub fn labels(&self, namespace: &str) -> Option<Labels> {
        self.0.namespaces.get(namespace)
    }

    /// Replaces the policies, as (namespace, policies).
    pub fn set_policies(&self, policies: impl IntoIterator<Item = (String, Vec<ProfilingPolicy>)>) {
        let map = policies
            .into_iter()
            .map(|(n, p)| (n, Arc::new(p.into_iter().map(Policy::from).collect())))
            .collect();
        self.0.policies.replace(map);
    }

    /// Replaces the policies of the cluster.
    pub fn set_cluster_policies(&self, policies: impl IntoIterator<Item = ClusterProfilingPolicy>) {
        let policies: Vec<Policy> = policies.into_iter().map(Policy::from).collect();
        self.0.cluster.replace(HashMap::from([(String::new(), Arc::new(policies))]));
    }

    /// Replaces the namespaces, as (name, labels).
    pub fn set_namespaces(&self, namespaces: impl IntoIterator<Item = (String, BTreeMap<String, String>)>) {
        self.0.namespaces.replace(namespaces.into_iter().map(|(n, l)| (n, Arc::new(l))).collect());
    }

    /// Waits until every policy has been seen.
    pub async fn policies_synced(&self) {
        self.0.policies.synced().await;
        self.0.cluster.synced().await;
    }

    /// Waits until every namespace has been seen.
    pub async fn namespaces_synced(&self) {
        self.0.namespaces.synced().await;
    }
}

/// What a watch tells, in the order in which it tells it.
trait Writer<K> {
    fn begin(&mut self);
    fn listed(&mut self, object: K);
    fn end(&mut self);
    fn apply(&mut self, object: K);
    fn delete(&mut self, object: K);
}

async fn follow<K, W>(what: &'static str, api: Api<K>, mut writer: W)
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    W: Writer<K>,
{
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => writer.begin(),
            Ok(Some(Event::InitApply(object))) => writer.listed(object),
            Ok(Some(Event::InitDone)) => writer.end(),
            Ok(Some(Event::Apply(object))) => writer.apply(object),
            Ok(Some(Event::Delete(object))) => writer.delete(object),
            Ok(None) => {
                return tracing::error!(what, "a watch ended unexpectedly; restart the webhook");
            }
            Err(error) => {
                tracing::warn!(what, %error, "watch failed; retrying with the last known state")
            }
        }
    }
}

/// By namespace and name; a policy that cannot be read is left out, and never stalls the others.
struct PolicyWriter<K> {
    index: Index,
    table: fn(&Inner) -> &Table<Policies>,
    names: HashMap<String, BTreeMap<String, Policy>>,
    kind: PhantomData<fn(K)>,
}

impl<K: kube::Resource + Into<Policy>> PolicyWriter<K>
where
    DeserializeGuard<K>: kube::Resource,
{
    fn new(index: Index, table: fn(&Inner) -> &Table<Policies>) -> Self {
        Self { index, table, names: HashMap::new(), kind: PhantomData }
    }

    fn put(&mut self, guard: DeserializeGuard<K>) -> String {
        let (namespace, name) = (guard.namespace().unwrap_or_default(), guard.name_any());
        let policies = self.names.entry(namespace.clone()).or_default();
        match guard.0 {
            Ok(policy) => drop(policies.insert(name, policy.into())),
            Err(error) => {
                tracing::warn!(
                    k8s.namespace.name = namespace,
                    fleetprof.policy = name,
                    %error,
                    "ignoring an invalid policy; see kubectl get -o yaml"
                );
                policies.remove(&name);
            }
        }
        namespace
    }

    fn publish(&self, namespace: &str) {
        let policies =
            self.names.get(namespace).map(|p| p.values().cloned().collect::<Vec<_>>()).unwrap_or_default();
        (self.table)(&self.index.0).change(|map| match policies.is_empty() {
            true => drop(map.remove(namespace)),
            false => drop(map.insert(namespace.to_owned(), Arc::new(policies))),
        });
    }
}

impl<K: kube::Resource + Into<Policy>> Writer<DeserializeGuard<K>> for PolicyWriter<K>
where
    DeserializeGuard<K>: kube::Resource,
{
    fn begin(&mut self) {
        self.names.clear();
    }
    fn listed(&mut self, object: DeserializeGuard<K>) {
        self.put(object);
    }
    fn end(&mut self) {
        let full = self.names.iter().filter(|(_, p)| !p.is_empty());
        (self.table)(&self.index.0)
            .replace(full.map(|(n, p)| (n.clone(), Arc::new(p.values().cloned().collect()))).collect());
    }
    fn apply(&mut self, object: DeserializeGuard<K>) {
        let namespace = self.put(object);
        self.publish(&namespace);
    }
    fn delete(&mut self, object: DeserializeGuard<K>) {
        let namespace = object.namespace().unwrap_or_default();
        if let Some(policies) = self.names.get_mut(&namespace) {
            policies.remove(&object.name_any());
        }
        self.publish(&namespace);
    }
}

struct NamespaceWriter {
    index: Index,
    fresh: HashMap<String, Labels>,
}

fn labels(object: PartialObjectMeta<Namespace>) -> (String, Labels) {
    (object.name_any(), Arc::new(object.metadata.labels.unwrap_or_default()))
}

impl Writer<PartialObjectMeta<Namespace>> for NamespaceWriter {
    fn begin(&mut self) {
        self.fresh.clear();
    }
    fn listed(&mut self, object: PartialObjectMeta<Namespace>) {
        self.fresh.extend([labels(object)]);
    }
    fn end(&mut self) {
        self.index.0.namespaces.replace(std::mem::take(&mut self.fresh));
    }
    fn apply(&mut self, object: PartialObjectMeta<Namespace>) {
        self.index.0.namespaces.change(|map| map.extend([labels(object)]));
    }
    fn delete(&mut self, object: PartialObjectMeta<Namespace>) {
        self.index.0.namespaces.change(|map| drop(map.remove(&object.name_any())));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(namespace: &str, name: &str, spec: serde_json::Value) -> DeserializeGuard<ProfilingPolicy> {
        let object = json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
            "metadata": {"namespace": namespace, "name": name}, "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    fn names(index: &Index, namespace: &str) -> Vec<String> {
        index.policies(namespace).iter().flat_map(|p| p.iter()).map(|p| p.view().name.to_owned()).collect()
    }

    #[test]
    fn the_index_follows_the_watch() {
        let index = Index::default();
        let mut writer = PolicyWriter::<ProfilingPolicy>::new(index.clone(), |inner| &inner.policies);
        let good = || json!({"selector": {}});
        writer.begin();
        writer.listed(policy("shop", "a", good()));
        assert!(
            names(&index, "shop").is_empty() && !*index.0.policies.synced.borrow(),
            "nothing before the list is complete"
        );
        writer.listed(policy("bank", "b", good()));
        writer.end();
        assert!(*index.0.policies.synced.borrow());
        writer.apply(policy("shop", "c", good()));
        assert_eq!(
            (names(&index, "shop"), names(&index, "bank")),
            (vec!["a".into(), "c".into()], vec!["b".into()])
        );
        writer.delete(policy("bank", "b", good()));
        assert!(index.policies("bank").is_none());

        writer.begin();
        assert_eq!(names(&index, "shop"), ["a", "c"], "what was known holds until the new list is complete");
        writer.listed(policy("shop", "c", good()));
        writer.end();
        assert_eq!(names(&index, "shop"), ["c"], "what was deleted meanwhile is gone");
    }

    #[test]
    fn a_policy_that_cannot_be_read_stalls_no_other() {
        let index = Index::default();
        let mut writer = PolicyWriter::<ProfilingPolicy>::new(index.clone(), |inner| &inner.policies);
        writer.begin();
        writer.listed(policy("shop", "broken", json!({"selector": 7})));
        writer.listed(policy("shop", "good", json!({"selector": {}})));
        writer.end();
        assert_eq!(names(&index, "shop"), ["good"]);
        writer.apply(policy("shop", "good", json!({"selector": {}, "frequencyHz": "much"})));
        assert!(index.policies("shop").is_none(), "a policy that became unreadable selects nothing");
    }
}
