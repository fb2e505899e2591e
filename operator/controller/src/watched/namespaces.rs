//! Which namespaces are there, with which labels, and which of them does no cluster policy reach?

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_core::inject::ClusterRules;
use fleetprof_core::view::Labels;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use super::Cache;

/// The namespaces of the cluster.
#[derive(Clone)]
pub struct Namespaces {
    cache: Cache<PartialObjectMeta<Namespace>>,
    rules: Arc<ClusterRules>,
}

impl Namespaces {
    /// Those of `cache`; `rules` name the ones that are never touched.
    #[must_use]
    pub fn new(cache: Cache<PartialObjectMeta<Namespace>>, rules: Arc<ClusterRules>) -> Self {
        Self { cache, rules }
    }

    /// Labels of a namespace; `None` where it is not known.
    #[must_use]
    pub fn known(&self, namespace: &str) -> Option<Labels> {
        Some(self.cache.get("", namespace)?.metadata.labels.clone().unwrap_or_default())
    }

    /// Labels of a namespace; none where it is not known.
    #[must_use]
    pub fn labels(&self, namespace: &str) -> Labels {
        self.known(namespace).unwrap_or_default()
    }

    /// Labels of a namespace that cluster policies reach.
    #[must_use]
    pub fn reached(&self, namespace: &str) -> Option<Labels> {
        self.is_open(namespace).then(|| self.labels(namespace))
    }

    /// All namespaces that cluster policies reach.
    #[must_use]
    pub fn all_reached(&self) -> BTreeMap<String, Labels> {
        let known = self
            .cache
            .all()
            .into_iter()
            .map(|n| (n.name_any(), n.metadata.labels.clone().unwrap_or_default()));
        known.filter(|(name, _)| self.is_open(name)).collect()
    }

    fn is_open(&self, namespace: &str) -> bool {
        !self.rules.excluded_namespaces.iter().any(|n| n == namespace)
    }
}
