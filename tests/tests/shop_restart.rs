//! Do pods that are older than their policy come to the agent by themselves where an admin allows it? On the
//! full cluster with the shop. Runs one test at a time: `--test-threads=1`.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetprof_tests::shop::{SHOP, Shop};
use fleetprof_tests::wait_for;
use serde_json::Value;

fn existing_pods(shop: &Shop, what: &str) -> Result<()> {
    let patch = format!(r#"{{"spec":{{"agent":{{"existingPods":"{what}"}}}}}}"#);
    shop.kubectl(&["-n", SHOP, "patch", "ppol", "shop", "--type=merge", "-p", &patch]).map(drop)
}

fn status(shop: &Shop) -> Result<Value> {
    Ok(serde_json::from_str(&shop.kubectl(&[
        "-n",
        SHOP,
        "get",
        "ppol",
        "shop",
        "-o",
        "jsonpath={.status}",
    ])?)?)
}

#[tokio::test]
async fn a_workload_without_the_agent_is_restarted_once() -> Result<()> {
    let shop = Shop::open().await?;
    // A pod that the webhook leaves alone, and then no more: as if it were older than the policy.
    shop.stop_webhook()?;
    shop.kubectl(&["-n", SHOP, "rollout", "restart", "deployment/worker"])?;
    shop.kubectl(&["-n", SHOP, "rollout", "status", "deployment/worker", "--timeout=90s"])?;
    // The upgrade brings the webhook back, and the right to restart.
    shop.kubectl(&["-n", "fleetprof", "scale", "deployment/fleetprof-webhook", "--replicas=2"])?;
    shop.helm(&["--set", "restart.enabled=true"])?;
    existing_pods(&shop, "Restart")?;
    let outcome = restarted(&shop).await;
    existing_pods(&shop, "AttachOnDemand")?;
    shop.helm(&[])?;
    outcome
}

async fn restarted(shop: &Shop) -> Result<()> {
    shop.linked("worker", "Linked").await?;
    let done = wait_for("the restarts are over", Duration::from_secs(150), || async {
        let status = status(shop)?;
        let over = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Restarting" && c["reason"] == "UpToDate");
        Ok(over.then_some(status))
    })
    .await?;
    ensure!(done["restart"]["state"] == "Restarted" && done["linkedAppCount"] == 2, "{done:#}");
    let template = shop.kubectl(&[
        "-n",
        SHOP,
        "get",
        "deployment",
        "worker",
        "-o",
        "jsonpath={.spec.template.metadata.annotations}",
    ])?;
    ensure!(template.contains("fleetprof.dev/restarted-for"), "{template}");
    let (pod, _) = shop.pod(SHOP, "worker").await?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    ensure!(shop.pod(SHOP, "worker").await?.0 == pod, "it is restarted once");
    Ok(())
}
