//! Which policies, labels and rules on resources does a namespace have now? Kept in memory by watches; a request only reads.

use std::collections::BTreeMap;

use fleetprof_core::inject::ResourceRules;
use fleetprof_crds::{ClusterProfilingPolicy, ProfilingPolicy};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use crate::watched::{Cache, PolicyCaches, ResourceCaches, Snapshot, WatchMetrics, events, metadata, prune};

/// The policies and labels of every namespace. Clones are cheap and see the same.
#[derive(Clone)]
pub struct Index {
    policies: PolicyCaches,
    namespaces: Cache<PartialObjectMeta<Namespace>>,
    resources: ResourceCaches,
}

impl Index {
    /// An index of caches that somebody fills.
    #[must_use]
    pub fn new(
        policies: PolicyCaches,
        namespaces: Cache<PartialObjectMeta<Namespace>>,
        resources: ResourceCaches,
    ) -> Self {
        Self { policies, namespaces, resources }
    }

    /// An index that five watches keep, for ever. Must be called inside a tokio runtime.
    #[must_use]
    pub fn watch(client: &Client, metrics: &WatchMetrics) -> Self {
        let (namespaced, policies) = Cache::new(metrics.clone());
        let (cluster, cluster_policies) = Cache::new(metrics.clone());
        let (namespaces, labels) = Cache::new(metrics.clone());
        let spec: fn(&mut ProfilingPolicy) = |policy| {
            policy.status = None;
            metadata::policy(policy);
        };
        let cluster_spec: fn(&mut ClusterProfilingPolicy) = |policy| {
            policy.status = None;
            metadata::policy(policy);
        };
        let of_policies = events(Api::all(client.clone()), spec);
        let of_cluster = events(Api::all(client.clone()), cluster_spec);
        let of_namespaces = events(Api::all(client.clone()), metadata::namespace);
        tokio::spawn(never_ends(policies.keep(of_policies, |_| {})));
        tokio::spawn(never_ends(cluster_policies.keep(of_cluster, |_| {})));
        tokio::spawn(never_ends(labels.keep(of_namespaces, |_| {})));
        let (limit_ranges, ranges) = Cache::new(metrics.clone());
        let (quotas, of_quotas) = Cache::new(metrics.clone());
        tokio::spawn(never_ends(ranges.keep(events(Api::all(client.clone()), prune), |_| {})));
        tokio::spawn(never_ends(of_quotas.keep(events(Api::all(client.clone()), prune), |_| {})));
        Self::new(PolicyCaches { namespaced, cluster }, namespaces, ResourceCaches { limit_ranges, quotas })
    }

    /// The policies that may select pods of the namespace.
    #[must_use]
    pub fn policies(&self, namespace: &str) -> Snapshot {
        self.policies.near(namespace)
    }

    /// Labels of a namespace; `None` where it is not known.
    #[must_use]
    pub fn labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        Some(self.namespaces.get("", namespace)?.metadata.labels.clone().unwrap_or_default())
    }

    /// What the namespace demands of the resources of its pods.
    #[must_use]
    pub fn resources(&self, namespace: &str) -> ResourceRules {
        self.resources.of(namespace)
    }

    /// Waits until every policy has been seen; for ever when that cannot be.
    pub async fn policies_synced(&self) {
        never_if_failed(self.policies.synced().await).await;
    }

    /// Waits until every LimitRange and ResourceQuota has been seen; for ever when that cannot be.
    pub async fn resources_synced(&self) {
        never_if_failed(self.resources.synced().await).await;
    }

    /// Waits until every namespace has been seen; for ever when that cannot be.
    pub async fn namespaces_synced(&self) {
        never_if_failed(self.namespaces.synced().await).await;
    }
}

async fn never_ends(watch: impl Future<Output = anyhow::Result<()>>) {
    if let Err(error) = watch.await {
        tracing::error!(%error, "a watch ended unexpectedly; restart the webhook");
    }
}

async fn never_if_failed(synced: anyhow::Result<()>) {
    if synced.is_err() {
        std::future::pending().await
    }
}
