//! Which policies are there? The caches of both kinds, and what the controller must know of a kind.

use std::fmt::Debug;
use std::sync::Arc;

use fleetprof_core::view::{Policies, PolicyView};
use fleetprof_crds::{ClusterProfilingPolicy, ProfilingPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Cache;

/// A kind of policy.
pub trait PolicyObject:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// As decisions look at it.
    fn view(&self) -> PolicyView<'_>;
    /// The API through which this object is written.
    fn api(&self, client: Client) -> Api<Self>;
}

impl PolicyObject for ProfilingPolicy {
    fn view(&self) -> PolicyView<'_> {
        self.into()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::namespaced(client, &self.namespace().unwrap_or_default())
    }
}

impl PolicyObject for ClusterProfilingPolicy {
    fn view(&self) -> PolicyView<'_> {
        self.into()
    }
    fn api(&self, client: Client) -> Api<Self> {
        Api::all(client)
    }
}

/// The policies of the cluster, kept by watches.
#[derive(Clone)]
pub struct PolicyCaches {
    /// Those of namespaces.
    pub namespaced: Cache<ProfilingPolicy>,
    /// Those of the cluster.
    pub cluster: Cache<ClusterProfilingPolicy>,
}

/// Policies at one moment.
pub struct Snapshot {
    namespaced: Vec<Arc<ProfilingPolicy>>,
    cluster: Vec<Arc<ClusterProfilingPolicy>>,
}

impl PolicyCaches {
    /// Waits until every policy was listed once.
    ///
    /// # Errors
    /// When a watch ended before.
    pub async fn synced(&self) -> anyhow::Result<()> {
        self.namespaced.synced().await?;
        self.cluster.synced().await
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Snapshot {
        Snapshot { namespaced: self.namespaced.all(), cluster: self.cluster.all() }
    }

    /// Those that may select pods of the namespace.
    #[must_use]
    pub fn near(&self, namespace: &str) -> Snapshot {
        Snapshot { namespaced: self.namespaced.of(namespace), cluster: self.cluster.all() }
    }
}

impl Snapshot {
    /// As decisions look at them.
    #[must_use]
    pub fn views(&self) -> Policies<'_> {
        self.iter().collect()
    }

    /// Each of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = PolicyView<'_>> {
        let namespaced = self.namespaced.iter().map(|p| PolicyView::from(&**p));
        namespaced.chain(self.cluster.iter().map(|p| PolicyView::from(&**p)))
    }
}
