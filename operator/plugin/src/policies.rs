//! Which policies apply to a namespace, and which apps do they list?

use fleetprof_core::view::{Labels, PolicyView};
use fleetprof_crds::policy_status::LinkedApp;
use fleetprof_crds::session::{PolicyKind, PolicyRef};
use fleetprof_crds::{ClusterProfilingPolicySpec, ProfilingPolicySpec, ProfilingPolicyStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use crate::cluster::{Ask, Cluster};
use crate::exit::Failure;
use crate::paths;

/// The label of a namespace that has its name.
const NAME: &str = "kubernetes.io/metadata.name";
/// Policies of the cluster never serve it.
const EXCLUDED: &str = "kube-system";

/// A policy with its status.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Kind and name.
    pub(crate) reference: PolicyRef,
    /// Empty for a policy of the cluster.
    pub(crate) namespace: String,
    /// The part that both kinds share; nothing where this version cannot read it.
    pub(crate) spec: Option<ProfilingPolicySpec>,
    /// The namespaces that a policy of the cluster serves.
    pub(crate) namespaces: LabelSelector,
    /// When it was created.
    pub(crate) created: Option<Timestamp>,
    /// As the operator wrote it last; empty where this version cannot read it.
    pub(crate) status: ProfilingPolicyStatus,
}

impl Policy {
    fn read(kind: PolicyKind, object: &Value) -> Self {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let spec = object["spec"].clone();
        let (spec, namespaces) = match kind {
            PolicyKind::ProfilingPolicy => (serde_json::from_value(spec).ok(), LabelSelector::default()),
            PolicyKind::ClusterProfilingPolicy => {
                let read = serde_json::from_value::<ClusterProfilingPolicySpec>(spec).ok();
                read.map(|spec| (Some(spec.policy), spec.namespace_selector)).unwrap_or_default()
            }
            PolicyKind::Unknown => (None, LabelSelector::default()),
        };
        Self {
            reference: PolicyRef { kind, name: text("name") },
            namespace: text("namespace"),
            created: object["metadata"]["creationTimestamp"].as_str().and_then(|time| time.parse().ok()),
            spec,
            namespaces,
            status: serde_json::from_value(object["status"].clone()).unwrap_or_default(),
        }
    }

    /// As the operator's decisions see it; nothing where this version cannot read its spec.
    fn view(&self) -> Option<PolicyView<'_>> {
        let of_cluster = self.reference.kind != PolicyKind::ProfilingPolicy;
        Some(PolicyView {
            kind: self.reference.kind,
            namespace: (!of_cluster).then_some(self.namespace.as_str()),
            name: &self.reference.name,
            uid: "",
            created: self.created,
            generation: None,
            spec: self.spec.as_ref()?,
            namespace_selector: of_cluster.then_some(&self.namespaces),
            status: Some(&self.status),
        })
    }

    /// The labels of the namespace that matter to this policy, where they are known. If the caller may not see
    /// them, a policy of the cluster may still select all namespaces, or by name.
    fn labels(&self, namespace: &str, seen: Option<&Labels>) -> Option<Labels> {
        let selector = &self.namespaces;
        let keys = selector.match_labels.iter().flatten().map(|(key, _)| key.as_str());
        let mut keys = keys.chain(selector.match_expressions.iter().flatten().map(|one| one.key.as_str()));
        match seen {
            _ if namespace == EXCLUDED => None,
            Some(labels) => Some(labels.clone()),
            None => keys.all(|key| key == NAME).then(|| [(NAME.to_owned(), namespace.to_owned())].into()),
        }
    }

    /// As in the status and in messages: `ppol/NAME` or `cppol/NAME`.
    pub(crate) fn shown(&self) -> String {
        let kind = match self.reference.kind {
            PolicyKind::ProfilingPolicy => "ppol",
            PolicyKind::ClusterProfilingPolicy | PolicyKind::Unknown => "cppol",
        };
        format!("{kind}/{}", self.reference.name)
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
    seen(cluster, namespace).await.map(|(all, _)| all)
}

/// As [`list`], and whether the caller may see those of the cluster.
pub(crate) async fn seen(cluster: &Cluster, namespace: Option<&str>) -> Result<(Vec<Policy>, bool), Failure> {
    let own = cluster.json(&Ask::get(paths::policies(namespace))).await?;
    let (of_cluster, may) = match cluster.json(&Ask::get(paths::cluster_policies())).await {
        Ok(list) => (list, true),
        Err(error) if error.status() == Some(403) => (Value::Null, false),
        Err(error) => return Err(error),
    };
    let mut all = Vec::new();
    for (kind, list) in [(PolicyKind::ProfilingPolicy, own), (PolicyKind::ClusterProfilingPolicy, of_cluster)]
    {
        all.extend(list["items"].as_array().into_iter().flatten().map(|item| Policy::read(kind, item)));
    }
    Ok((all, may))
}

/// The labels of a namespace; nothing where the caller may not see them.
///
/// # Errors
/// The API server does not answer, or the namespace does not exist.
pub(crate) async fn labels(cluster: &Cluster, namespace: &str) -> Result<Option<Labels>, Failure> {
    match cluster.json(&Ask::get(format!("/api/v1/namespaces/{namespace}"))).await {
        Ok(object) => {
            Ok(Some(serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default()))
        }
        Err(error) if error.status() == Some(403) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The policy that serves a pod of the namespace, in the operator's own order. `selected` says whether a policy
/// selects the pod.
pub(crate) fn serving<'a>(
    all: &'a [Policy],
    namespace: &str,
    labels: Option<&Labels>,
    selected: impl Fn(&LabelSelector) -> bool,
) -> Option<(&'a Policy, &'a ProfilingPolicySpec)> {
    let views = all.iter().filter_map(|policy| Some((policy, policy.view()?)));
    let here = views.filter(|(policy, view)| {
        view.covers(namespace, policy.labels(namespace, labels).as_ref()) && selected(&view.spec.selector)
    });
    here.min_by_key(|(_, view)| view.precedence()).map(|(policy, view)| (policy, view.spec))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(kind: PolicyKind, name: &str, created: &str, spec: &Value) -> Policy {
        let of = if kind == PolicyKind::ProfilingPolicy { "shop" } else { "" };
        let metadata = json!({"name": name, "namespace": of, "creationTimestamp": created});
        Policy::read(kind, &json!({"metadata": metadata, "spec": spec}))
    }

    #[test]
    fn a_pod_is_served_by_the_policy_that_the_operator_takes() {
        let own = |name: &str, created: &str| {
            policy(PolicyKind::ProfilingPolicy, name, created, &json!({"selector": {}}))
        };
        let of_cluster = |name: &str, namespaces: &Value| {
            let spec = json!({"selector": {}, "namespaceSelector": namespaces});
            policy(PolicyKind::ClusterProfilingPolicy, name, "2020-01-01T00:00:00Z", &spec)
        };
        let chosen = |all: &[Policy], labels: Option<&Labels>| {
            serving(all, "shop", labels, |_| true).map(|(policy, _)| policy.shown())
        };
        let all = [
            of_cluster("all", &json!({})),
            own("a-new", "2026-01-02T00:00:00Z"),
            own("old", "2026-01-01T00:00:00Z"),
        ];
        assert_eq!(chosen(&all, None).as_deref(), Some("ppol/old"), "its own, and the oldest");
        assert_eq!(chosen(&all[..1], None).as_deref(), Some("cppol/all"));
        let front = [of_cluster("front", &json!({"matchLabels": {"tier": "front"}}))];
        let labels = |tier: &str| Some([("tier".to_owned(), tier.to_owned())].into());
        assert_eq!(chosen(&front, labels("front").as_ref()).as_deref(), Some("cppol/front"));
        assert_eq!(chosen(&front, labels("back").as_ref()), None);
        assert_eq!(chosen(&front, None), None, "labels that nobody may see tell nothing");
        let named = [of_cluster("named", &json!({"matchLabels": {NAME: "shop"}}))];
        assert_eq!(chosen(&named, None).as_deref(), Some("cppol/named"));
        assert!(serving(&all[..1], EXCLUDED, None, |_| true).is_none());
    }
}
