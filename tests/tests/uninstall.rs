//! What is left behind when fleetprof is taken away, and is everything there when it comes back? On the full
//! cluster with the shop, after all other tests of it.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetprof_tests::shop::{SHOP, Shop};
use fleetprof_tests::{chart, run, wait_for};
use serde_json::json;

const AFTER: &str = "after-uninstall";

fn helm(shop: &Shop, arguments: &[&str]) -> Result<String> {
    let kubeconfig = shop.kubeconfig.to_string_lossy();
    run(
        &chart::tool("helm")?,
        &[arguments, &["--kubeconfig", &kubeconfig, "-n", "fleetprof", "--wait", "--timeout", "3m"]].concat(),
    )
}

#[tokio::test]
async fn an_uninstalled_fleetprof_stands_in_nobodys_way_and_comes_back_with_everything() -> Result<()> {
    let shop = Shop::open().await?;
    let kept = || shop.kubectl(&["-n", SHOP, "get", "psess,ppol", "-o", "name"]);
    let before = kept()?;
    helm(&shop, &["uninstall", "fleetprof"])?;
    let outcome = without(&shop).await;
    helm(&shop, &["install", "fleetprof", "charts/fleetprof"])?;
    outcome?;
    ensure!(kept()?.contains(&before), "what was there before is still there: {before}");
    // The lease of the operator that was uninstalled could not be given back, since its Role went with it.
    wait_for("the next leader has registered the webhooks", Duration::from_secs(40), || async {
        let names =
            ["get", "mutatingwebhookconfiguration", "fleetprof", "-o", "jsonpath={.webhooks[*].name}"];
        Ok(shop.kubectl(&names)?.contains("profilesessions.fleetprof.dev").then_some(()))
    })
    .await?;

    // A registration is stored a moment before the API server goes by it.
    let after = wait_for("the API server asks the webhook", Duration::from_secs(30), || async {
        shop.profile(SHOP, json!({"policyRef": {"name": "shop"}, "duration": "10s"})).await.map(Some)
    })
    .await?;
    let status = shop.ended(SHOP, &after, 90).await?;
    ensure!(
        status["phase"] == "Succeeded",
        "the agents of the pods that ran on serve the next installation: {status:#}"
    );
    Ok(())
}

/// Pods start, namespaces can be deleted, apps with an agent keep running, and creating a session fails with
/// a reason.
async fn without(shop: &Shop) -> Result<()> {
    let left = shop.kubectl(&[
        "get",
        "mutatingwebhookconfigurations,apiservices,clusterrolebindings",
        "-o",
        "name",
    ])?;
    // The CRDs, and what is in them, stay until a person deletes them.
    let left: Vec<&str> =
        left.lines().filter(|l| l.contains("fleetprof") && !l.ends_with("/v1alpha1.fleetprof.dev")).collect();
    ensure!(left.is_empty(), "{left:?}");
    let restarts =
        ["-n", SHOP, "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"];
    let before = shop.kubectl(&restarts)?;

    let image = shop.kubectl(&[
        "-n",
        SHOP,
        "get",
        "deployment",
        "worker",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ])?;
    let metadata = |name: &str| json!({"name": name, "namespace": AFTER});
    shop.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": AFTER, "labels": {"profiling": "on"}}}))?;
    let account = || async { shop.kubectl(&["-n", AFTER, "get", "serviceaccount", "default"]).map(Some) };
    wait_for("the namespace has its service account", Duration::from_secs(20), account).await?;
    shop.apply(
        &json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "metadata": metadata("all"), "spec": {"selector": {}}}),
    )?;
    let container = json!({"name": "app", "image": image, "imagePullPolicy": "Never"});
    shop.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("app"), "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}))?;
    shop.kubectl(&["-n", AFTER, "wait", "pod/app", "--for=condition=Ready", "--timeout=60s"])?;
    shop.kubectl(&["delete", "namespace", AFTER, "--timeout=60s"])?;

    ensure!(shop.kubectl(&restarts)? == before, "an app was restarted");
    shop.kubectl(&["-n", SHOP, "wait", "pods", "--all", "--for=condition=Ready", "--timeout=5s"]).map(drop)
}
