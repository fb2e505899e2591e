//! Which webhooks belong to which policies.

use fleetprof_core::agent::ServedNamespaces;
use fleetprof_core::view::PolicyView;
use fleetprof_crds::ClusterProfilingPolicy;

use super::*;
use crate::webhook::registration::{Names, webhooks};

fn names() -> Names {
    Names { fullname: "fleetprof".into(), namespace: "fleetprof".into() }
}

fn registered(policies: &[(&str, &str)], served: Option<&ServedNamespaces>) -> Vec<Value> {
    let policies: Vec<_> = policies
        .iter()
        .enumerate()
        .map(|(n, (ns, mode))| Arc::new(policy(ns, &format!("p{n}"), json!({"mode": mode}))))
        .collect();
    webhooks(policies.iter().map(|p| PolicyView::from(&**p)), served, "PEM", &names())
}

/// Namespaces whose pods are sent; `None` when no pod is.
fn namespaces(policies: &[(&str, &str)]) -> Option<Value> {
    namespaces_where(policies, None)
}

/// The same where agents of nodes serve these namespaces.
fn namespaces_where(policies: &[(&str, &str)], served: Option<&ServedNamespaces>) -> Option<Value> {
    let webhooks = registered(policies, served);
    assert_eq!(
        webhooks.last().unwrap()["name"],
        "profilesessions.fleetprof.dev",
        "sessions are always stamped"
    );
    let pods = webhooks.iter().find(|w| w["name"] == "pods.fleetprof.dev")?;
    Some(pods["namespaceSelector"]["matchExpressions"][0]["values"].clone())
}

#[test]
fn with_auto_pods_are_sent_from_namespaces_that_no_agent_of_a_node_serves() {
    let policies = [("shop", "Auto"), ("bank", "Auto"), ("quiet", "Node"), ("old", "Sidecar")];
    assert_eq!(namespaces(&policies), Some(json!(["bank", "old", "shop"])));
    let served = |named: &[&str]| {
        let named = named.iter().map(|name| (*name).to_owned()).collect();
        namespaces_where(&policies, Some(&ServedNamespaces::new(named, vec!["kube-system".into()])))
    };
    assert_eq!(served(&["sho?"]), Some(json!(["bank", "old"])));
    assert_eq!(served(&[]), Some(json!(["old"])));
}

#[test]
fn a_cluster_policy_with_auto_sends_pods_unless_all_namespaces_are_served() {
    let policy: ClusterProfilingPolicy = serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ClusterProfilingPolicy", "metadata": {"name": "all"},
        "spec": {"selector": {}, "namespaceSelector": {}, "agent": {"mode": "Auto"}},
    }))
    .unwrap();
    let sends = |named: &[&str]| {
        let served = ServedNamespaces::new(named.iter().map(|name| (*name).to_owned()).collect(), vec![]);
        let webhooks = webhooks([PolicyView::from(&policy)], Some(&served), "PEM", &names());
        webhooks.iter().any(|w| w["name"] == "all.cluster.pods.fleetprof.dev")
    };
    assert_eq!((sends(&["team-*"]), sends(&["*"]), sends(&[])), (true, false, false));
}

#[test]
fn pods_are_sent_from_namespaces_with_a_sidecar_policy_alone() {
    assert_eq!(namespaces(&[]), None);
    assert_eq!(namespaces(&[("shop", "Ephemeral")]), None);
    assert_eq!(namespaces(&[("kube-system", "Sidecar"), ("fleetprof", "Sidecar")]), None);
    assert_eq!(
        namespaces(&[("shop", "Sidecar"), ("bank", "Sidecar"), ("shop", "Sidecar"), ("quiet", "Ephemeral")]),
        Some(json!(["bank", "shop"]))
    );
}

#[test]
fn the_webhook_of_pods_never_blocks_a_pod() {
    let pods = registered(&[("shop", "Sidecar")], None).remove(0);
    let expected = json!({
        "name": "pods.fleetprof.dev",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"caBundle": "UEVN", "service": {"name": "fleetprof-webhook", "namespace": "fleetprof", "path": "/mutate/pods", "port": 443}},
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop"]},
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "fleetprof"]}]},
        "objectSelector": {"matchExpressions": [{"key": "fleetprof.dev/profiling", "operator": "NotIn", "values": ["disabled"]}]},
        "reinvocationPolicy": "IfNeeded",
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}],
        "sideEffects": "None",
        "timeoutSeconds": 3,
    });
    assert_eq!(pods, expected);
}

fn cluster_policy(name: &str, spec: Value) -> ClusterProfilingPolicy {
    let mut full = json!({"selector": {}, "namespaceSelector": {}});
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ClusterProfilingPolicy",
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": full,
    }))
    .unwrap()
}

#[test]
fn each_policy_of_the_cluster_has_a_webhook_as_narrow_as_itself() {
    let cluster = [
        cluster_policy("b.all", json!({})),
        cluster_policy(
            "a",
            json!({
                "namespaceSelector": {"matchLabels": {"team": "x"}, "matchExpressions": [{"key": "env", "operator": "Exists", "values": []}]},
                "selector": {"matchLabels": {"app": "web"}},
            }),
        ),
        cluster_policy("broken", json!({"namespaceSelector": {"matchLabels": {"no key": "x"}}})),
        cluster_policy("quiet", json!({"agent": {"mode": "Ephemeral"}})),
    ];
    let registered = webhooks(cluster.iter().map(PolicyView::from), None, "PEM", &names());
    let of: Vec<&str> = registered.iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert_eq!(
        of,
        ["a.cluster.pods.fleetprof.dev", "b.all.cluster.pods.fleetprof.dev", "profilesessions.fleetprof.dev"]
    );
    let out = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "fleetprof"]});
    let opted_in = json!({"key": "fleetprof.dev/profiling", "operator": "NotIn", "values": ["disabled"]});
    assert_eq!(
        registered[0]["namespaceSelector"],
        json!({"matchLabels": {"team": "x"}, "matchExpressions": [{"key": "env", "operator": "Exists"}, out.clone()]})
    );
    assert_eq!(
        registered[0]["objectSelector"],
        json!({"matchLabels": {"app": "web"}, "matchExpressions": [opted_in.clone()]})
    );
    assert_eq!(registered[1]["namespaceSelector"], json!({"matchExpressions": [out]}));
    assert_eq!(registered[1]["objectSelector"], json!({"matchExpressions": [opted_in]}));
    for webhook in registered {
        assert_eq!((&webhook["failurePolicy"], &webhook["timeoutSeconds"]), (&json!("Ignore"), &json!(3)));
        let typed: k8s_openapi::api::admissionregistration::v1::MutatingWebhook =
            serde_json::from_value(webhook.clone()).unwrap();
        assert_eq!(json!(typed), webhook, "so that what is and what should be can be compared");
    }
}

#[test]
fn what_is_registered_survives_the_api_types_unchanged() {
    use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
    for webhook in registered(&[("shop", "Sidecar")], None) {
        let typed: MutatingWebhook = serde_json::from_value(webhook.clone()).unwrap();
        assert_eq!(json!(typed), webhook, "so that what is and what should be can be compared");
    }
}
