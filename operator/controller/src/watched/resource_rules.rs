//! What do namespaces demand of the resources of their pods? Their LimitRanges, and their ResourceQuotas with what
//! is used of them.

use fleetprof_core::inject::ResourceRules;
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::Cache;

/// The LimitRanges and ResourceQuotas of the cluster.
#[derive(Clone)]
pub struct ResourceCaches {
    /// LimitRanges.
    pub limit_ranges: Cache<LimitRange>,
    /// ResourceQuotas.
    pub quotas: Cache<ResourceQuota>,
}

impl ResourceCaches {
    /// What holds in a namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> ResourceRules {
        ResourceRules { limit_ranges: self.limit_ranges.of(namespace), quotas: self.quotas.of(namespace) }
    }

    /// Waits until every object was listed once.
    ///
    /// # Errors
    /// When a watch ended before.
    pub async fn synced(&self) -> anyhow::Result<()> {
        tokio::try_join!(self.limit_ranges.synced(), self.quotas.synced()).map(drop)
    }
}

/// Takes away the metadata that tells nothing.
pub fn prune<K: Resource>(object: &mut K) {
    let ObjectMeta { name, namespace, uid, resource_version, .. } = std::mem::take(object.meta_mut());
    *object.meta_mut() = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
}
