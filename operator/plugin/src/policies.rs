//! Which policies apply to a namespace, and which apps do they list?

use fleetprof_crds::policy_status::LinkedApp;
use fleetprof_crds::session::{PolicyKind, PolicyRef};
use fleetprof_crds::{ProfilingPolicySpec, ProfilingPolicyStatus};
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{Ask, Cluster};
use crate::exit::Failure;
use crate::paths;

/// A policy with its status.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Kind and name.
    pub(crate) reference: PolicyRef,
    /// Empty for a policy of the cluster.
    pub(crate) namespace: String,
    /// Of a policy of the namespace; nothing for one of the cluster, or that this version cannot read.
    pub(crate) spec: Option<ProfilingPolicySpec>,
    /// When it was created.
    pub(crate) created: Option<Timestamp>,
    /// As the operator wrote it last; empty where this version cannot read it.
    pub(crate) status: ProfilingPolicyStatus,
}

impl Policy {
    fn read(kind: PolicyKind, object: &Value) -> Self {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        Self {
            reference: PolicyRef { kind, name: text("name") },
            namespace: text("namespace"),
            created: object["metadata"]["creationTimestamp"].as_str().and_then(|time| time.parse().ok()),
            spec: match kind {
                PolicyKind::ProfilingPolicy => serde_json::from_value(object["spec"].clone()).ok(),
                PolicyKind::ClusterProfilingPolicy | PolicyKind::Unknown => None,
            },
            status: serde_json::from_value(object["status"].clone()).unwrap_or_default(),
        }
    }

    /// The apps that it lists, with the namespace of each.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (&str, &LinkedApp)> {
        let own = |app: &'_ LinkedApp| app.namespace.is_empty();
        self.status
            .linked_apps
            .iter()
            .map(move |app| (if own(app) { self.namespace.as_str() } else { app.namespace.as_str() }, app))
    }
}

/// The policies of a namespace, or of all, and those of the cluster as far as the caller may see them: their
/// status lists apps of all namespaces, so most people may not.
///
/// # Errors
/// The policies of the namespace cannot be listed.
pub(crate) async fn list(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Policy>, Failure> {
    let own = cluster.json(&Ask::get(paths::policies(namespace))).await?;
    let of_cluster = match cluster.json(&Ask::get(paths::cluster_policies())).await {
        Ok(list) => list,
        Err(error) if error.status() == Some(403) => Value::Null,
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for (kind, list) in [(PolicyKind::ProfilingPolicy, own), (PolicyKind::ClusterProfilingPolicy, of_cluster)]
    {
        all.extend(list["items"].as_array().into_iter().flatten().map(|item| Policy::read(kind, item)));
    }
    Ok(all)
}
