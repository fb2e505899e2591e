//! How many cores has each node? A copy of the cluster's nodes, of each only its allocatable CPU.

use std::borrow::Cow;

use fleetprof_crds::quantity;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::Cache;

/// A node without its images, addresses and conditions, which are most of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeState {
    metadata: ObjectMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    allocatable: Option<Resources>,
    #[serde(default)]
    capacity: Option<Resources>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Resources {
    cpu: Option<String>,
}

impl Resource for NodeState {
    type DynamicType = ();
    type Scope = <Node as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Node::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Node::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Node::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Node::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl NodeState {
    /// Takes away the metadata that tells nothing.
    pub fn prune(&mut self) {
        let ObjectMeta { name, uid, resource_version, .. } = std::mem::take(&mut self.metadata);
        self.metadata = ObjectMeta { name, uid, resource_version, ..ObjectMeta::default() };
    }

    /// What pods may use of its CPU, in thousandths of a core; all that it has where it does not say.
    #[must_use]
    pub fn cpu(&self) -> Option<i64> {
        let of = |resources: &Option<Resources>| quantity::millicores(resources.as_ref()?.cpu.as_deref()?);
        of(&self.status.allocatable).or_else(|| of(&self.status.capacity))
    }
}

impl Cache<NodeState> {
    /// Allocatable CPU of the node of this name, in thousandths of a core; `None` for one that is not known,
    /// which is every one where the operator's role does not allow to list them.
    #[must_use]
    pub fn cpu(&self, node: &str) -> Option<i64> {
        self.get("", node)?.cpu()
    }
}

#[cfg(test)]
mod tests {
    use kube_runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::watched::{Guarded, WatchMetrics};

    fn node(status: Value) -> Guarded<NodeState> {
        let meta = json!({"name": "n1", "uid": "n", "labels": {"zone": "a"}});
        serde_json::from_value(json!({"metadata": meta, "spec": {}, "status": status})).unwrap()
    }

    #[test]
    fn the_cpu_of_a_node_is_what_pods_may_use() {
        let cases = [
            (json!({"allocatable": {"cpu": "3920m", "pods": "110"}, "capacity": {"cpu": "4"}}), Some(3920)),
            (json!({"capacity": {"cpu": "4"}}), Some(4000)),
            (json!({"allocatable": {"memory": "1Gi"}, "capacity": {"cpu": "2"}}), Some(2000)),
            (json!({"allocatable": {"cpu": "many"}}), None),
            (json!({}), None),
        ];
        for (status, wanted) in cases {
            assert_eq!(node(status.clone()).0.unwrap().cpu(), wanted, "{status}");
        }
    }

    #[test]
    fn a_node_that_was_not_listed_is_not_known() {
        let (nodes, mut writer) = Cache::<NodeState>::new(WatchMetrics::default());
        assert_eq!(nodes.cpu("n1"), None);
        writer.take(Event::Apply(node(json!({"allocatable": {"cpu": "2"}}))), &|_| {});
        assert_eq!(nodes.cpu("n1"), Some(2000));
    }

    #[test]
    fn little_is_kept_of_a_node() {
        let mut node = node(json!({})).0.unwrap();
        node.prune();
        assert_eq!((node.metadata.labels, node.metadata.name.as_deref()), (None, Some("n1")));
    }
}
