//! Does an object that this version cannot decode stop anything but itself? On a real API server, whose kinds
//! are loosened first, as a newer version would.
#![allow(missing_docs)]

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use fleetprof_operator::watched::WatchMetrics;
use fleetprof_operator::webhook::Index;
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{cluster_policy, create, object};
use fleetprof_tests::{api_server, chart, wait_for};
use serde_json::{Value, json};

/// A time that the schema takes and that no clock of the operator can represent.
const NEVER: &str = "9999-12-31T23:59:59Z";
/// A name that must not come into any log.
const PRIVATE: &str = "private-pod";

/// Lets every kind take any spec.
fn loosen(place: &Place) -> Result<()> {
    for kind in ["profilingpolicies", "clusterprofilingpolicies", "profilesessions"] {
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let rules = "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations";
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let patch = json!([
            {"op": "replace", "path": spec, "value": any},
            {"op": "add", "path": rules, "value": []},
        ])
        .to_string();
        place.kubectl(&["patch", "crd", &format!("{kind}.fleetprof.dev"), "--type=json", "-p", &patch])?;
    }
    Ok(())
}

/// Creates an object as soon as the loosened schema is in force.
async fn create_loose(place: &Place, object: &Value) -> Result<()> {
    wait_for("the loosened schema is in force", Duration::from_secs(20), || async {
        create(&place.client, object, false).await?;
        Ok(Some(()))
    })
    .await
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == type_).unwrap_or(&Value::Null)
}

/// One broken object of each kind, in its spec and in its status.
async fn break_each(place: &Place, me: &str) -> Result<()> {
    loosen(place)?;
    let namespace = &place.namespace;
    let requester = json!({"username": me, "groups": ["system:masters"]});
    let spec = json!({"target": {"pods": [PRIVATE]}, "duration": 7, "requestedBy": requester});
    create_loose(place, &object("ProfileSession", namespace, "bad-spec", &spec)).await?;
    create_loose(place, &object("ProfilingPolicy", namespace, "bad-spec", &json!({"selector": PRIVATE})))
        .await?;
    let selector = json!({"namespaceSelector": 7, "selector": {}});
    create_loose(place, &cluster_policy(&format!("{namespace}-bad-spec"), &selector)).await?;

    let spec = json!({"target": {"pods": [PRIVATE]}, "duration": "10s", "requestedBy": requester});
    create_loose(place, &object("ProfileSession", namespace, "bad-status", &spec)).await?;
    place.status("profilesession", "bad-status", &json!({"phase": "Running", "endTime": NEVER}))?;
    create_loose(place, &object("ProfilingPolicy", namespace, "bad-status", &json!({"selector": {}})))
        .await?;
    place.status("profilingpolicy", "bad-status", &json!({"lastSessionTime": NEVER}))?;
    let selector = json!({"namespaceSelector": {"matchLabels": {"no": "where"}}, "selector": {}});
    let name = format!("{namespace}-bad-status");
    create_loose(place, &cluster_policy(&name, &selector)).await?;
    place.status("clusterprofilingpolicy", &name, &json!({"lastSessionTime": NEVER}))
}

async fn is_said_to_a_person(place: &Place) -> Result<()> {
    // This version's rules cannot read the broken spec either, so the API server takes no status of it.
    for kind in ["profilingpolicy", "profilesession"] {
        wait_for("a broken spec has an event", Duration::from_secs(30), || async {
            let described = place.kubectl(&["describe", kind, "bad-spec"])?;
            Ok(described.contains("Unreadable").then_some(()))
        })
        .await?;
    }
    for (name, field) in [("bad-status", "status.lastSessionTime")] {
        let status = place
            .until("ProfilingPolicy", name, 30, |s| condition(s, "Configured")["status"] == "False")
            .await?;
        let configured = condition(&status, "Configured");
        ensure!(configured["reason"] == "InvalidSpec", "{configured}");
        ensure!(configured["message"].as_str().is_some_and(|m| m.contains(field)), "{configured}");
        let cluster = "jsonpath={.status.conditions[?(@.type==\"Configured\")].reason}";
        let policy = format!("{}-{name}", place.namespace);
        wait_for(&policy, Duration::from_secs(30), || async {
            let reason = place.kubectl(&["get", "clusterprofilingpolicy", &policy, "-o", cluster])?;
            Ok((reason == "InvalidSpec").then_some(()))
        })
        .await?;
        wait_for("the session has an event", Duration::from_secs(30), || async {
            let described = place.kubectl(&["describe", "profilesession", name])?;
            Ok(described.contains("Unreadable").then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// The webhook's index serves the good policies of a namespace.
async fn webhook_serves(place: &Place) -> Result<()> {
    let index = Index::watch(&place.client, &WatchMetrics::default());
    tokio::time::timeout(Duration::from_secs(60), async {
        index.policies_synced().await;
        index.namespaces_synced().await;
    })
    .await?;
    let policies = index.policies(&place.namespace);
    let names: Vec<&str> = policies.iter().filter(|p| !p.is_cluster()).map(|p| p.name).collect();
    ensure!(names == ["good"], "{names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_object_of_each_kind_keeps_no_leader_from_serving_the_others() -> Result<()> {
    let kubeconfig = api_server()?;
    let place = Place::new(&kubeconfig, "unreadable").await?;
    let outcome = others_are_served(&kubeconfig, &place).await;
    // Left where they are, they would fail whatever lists these kinds on this API server.
    for name in ["bad-spec", "bad-status"] {
        let policy = format!("{}-{name}", place.namespace);
        place.kubectl(&["delete", "clusterprofilingpolicy", &policy, "--ignore-not-found"])?;
        place.kubectl(&["delete", "profilingpolicy,profilesession", name, "--ignore-not-found"])?;
    }
    outcome.and_then(|()| place.forget())
}

async fn others_are_served(kubeconfig: &Path, place: &Place) -> Result<()> {
    let me = place.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    place.pod("orders-1", &json!({"app": "orders", "fleetprof.dev/profiling": "disabled"}), None, |_| ())?;
    chart::crds(kubeconfig)?;
    break_each(place, &me).await?;
    // This version's schema again; what is stored stays as it is.
    chart::crds(kubeconfig)?;
    let good = json!({"selector": {"matchLabels": {"app": "orders"}}});
    create(&place.client, &object("ProfilingPolicy", &place.namespace, "good", &good), false).await?;

    let operator = Operator::start(kubeconfig, &[], &[]).await?;
    let spec = json!({
        "target": {"pods": ["orders-1"]}, "duration": "10s",
        "requestedBy": {"username": me, "groups": ["system:masters"]},
    });
    create(&place.client, &object("ProfileSession", &place.namespace, "good", &spec), false).await?;
    place.until("ProfileSession", "good", 20, |s| s["phase"] == "Failed").await?;
    place.until("ProfilingPolicy", "good", 20, |s| condition(s, "Configured")["status"] == "True").await?;
    is_said_to_a_person(place).await?;
    webhook_serves(place).await?;

    for name in ["bad-spec", "bad-status"] {
        let phase = place.kubectl(&["get", "profilesession", name, "-o", "jsonpath={.status.phase}"])?;
        ensure!(
            phase == if name == "bad-spec" { "" } else { "Running" },
            "nothing was done with {name}: {phase}"
        );
    }
    let log = std::fs::read_to_string(&operator.log)?;
    ensure!(!log.contains(PRIVATE), "the log prints an object; see {}", operator.log.display());
    Ok(())
}
