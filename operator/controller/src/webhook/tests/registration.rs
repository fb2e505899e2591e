//! Which webhooks belong to which policies.

use fleetprof_core::view::PolicyView;
use fleetprof_crds::ClusterProfilingPolicy;

use super::*;
use crate::webhook::registration::{Names, webhooks};

fn names() -> Names {
    Names { fullname: "fleetprof".into(), namespace: "fleetprof".into() }
}

fn registered(policies: &[(&str, &str)]) -> Vec<Value> {
    let policies: Vec<_> = policies
        .iter()
        .enumerate()
        .map(|(n, (ns, mode))| Arc::new(policy(ns, &format!("p{n}"), json!({"mode": mode}))))
        .collect();
    webhooks(policies.iter().map(|p| PolicyView::from(&**p)), "PEM", &names())
}

/// Namespaces whose pods are sent; `None` when no pod is.
fn namespaces(policies: &[(&str, &str)]) -> Option<Value> {
    let webhooks = registered(policies);
    assert_eq!(
        webhooks.last().unwrap()["name"],
        "profilesessions.fleetprof.dev",
        "sessions are always stamped"
    );
    let pods = webhooks.iter().find(|w| w["name"] == "pods.fleetprof.dev")?;
    Some(pods["namespaceSelector"]["matchExpressions"][0]["values"].clone())
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
    let pods = registered(&[("shop", "Sidecar")]).remove(0);
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
    let registered = webhooks(cluster.iter().map(PolicyView::from), "PEM", &names());
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
    for webhook in registered(&[("shop", "Sidecar")]) {
        let typed: MutatingWebhook = serde_json::from_value(webhook.clone()).unwrap();
        assert_eq!(json!(typed), webhook, "so that what is and what should be can be compared");
    }
}
