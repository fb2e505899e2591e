//! Is a real load test covered from its first to its last minute? The shop's customers as a Job on the full
//! cluster. Runs one test at a time: `--test-threads=1`.
#![allow(missing_docs)]

use anyhow::{Context, Result, ensure};
use fleetprof_tests::shop::{SHOP, Shop};
use serde_json::{Value, json};

/// The shop's load Job under another name, for so many seconds; it is gone when the guard is dropped.
struct Load<'a>(&'a Shop, &'static str);

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["-n", SHOP, "delete", "job", self.1, "--ignore-not-found", "--wait=false"]);
    }
}

fn start_load<'a>(shop: &'a Shop, name: &'static str, seconds: u32) -> Result<Load<'a>> {
    let file = fleetprof_tests::root().join("examples/orders/manifests/load.yaml");
    let text = shop.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", &file.to_string_lossy()])?;
    let mut job: Value = serde_json::from_str(&text)?;
    job["metadata"]["name"] = json!(name);
    let env = job["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array_mut()
        .context("the Job's container has an environment")?;
    for variable in env.iter_mut().filter(|v| v["name"] == "DURATION") {
        variable["value"] = json!(seconds.to_string());
    }
    shop.apply(&job)?;
    Ok(Load(shop, name))
}

#[tokio::test]
async fn a_load_test_is_covered_until_it_ends() -> Result<()> {
    let shop = Shop::open().await?;
    let session = json!({"policyRef": {"name": "shop"}, "target": {"workload": {"kind": "Deployment", "name": "orders"}}, "duration": "10s",
        "startWhen": {"jobRef": {"name": "test-load"}, "deadline": "2m"}, "repeat": {"untilLoadEnds": true, "interval": "10s"}});
    let name = shop.profile(SHOP, session).await?;
    shop.until(SHOP, &name, 15, |s| s["reason"] == "WaitingForLoad").await?;
    let _load = start_load(&shop, "test-load", 32)?;
    shop.until(SHOP, &name, 60, |s| s["startTime"].is_string()).await?;
    let ended = shop.until(SHOP, &name, 180, |s| s["repeat"]["endTime"].is_string()).await?;
    let series = &ended["repeat"];
    ensure!(series["reason"] == "LoadEnded", "{ended:#}");
    ensure!(series["made"].as_i64() >= Some(2) && series["succeeded"].as_i64() >= Some(2), "{ended:#}");
    ensure!(
        ended["topFunctions"][0]["name"].as_str().is_some_and(|f| f.contains("find_issuer")),
        "{ended:#}"
    );
    for row in series["captures"].as_array().into_iter().flatten() {
        let follow_up = shop.ended(SHOP, row["name"].as_str().unwrap_or_default(), 5).await?;
        ensure!(follow_up["phase"] == row["phase"], "{follow_up:#}");
    }
    Ok(())
}
