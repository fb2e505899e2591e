//! Do schedules, budgets and events do what the policy says, on a real node? On the full cluster with the
//! shop of the demo. Runs one test at a time: `--test-threads=1`.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::shop::{SHOP, Shop, kill_9, processes};
use fleetprof_tests::wait_for;
use jiff::Timestamp;
use serde_json::{Value, json};

fn now(app: &str, duration: &str, start_deadline: &str) -> Value {
    json!({
        "policyRef": {"name": "shop"}, "target": {"workload": {"kind": "Deployment", "name": app}},
        "duration": duration, "startDeadline": start_deadline,
    })
}

fn time(value: &Value) -> Result<Timestamp> {
    value.as_str().with_context(|| format!("{value} is not a time"))?.parse().context("no time")
}

/// Runs `test` with a changed policy, and puts the policy back.
async fn with_policy<F: Future<Output = Result<()>>>(
    shop: &Shop,
    spec: &Value,
    back: &Value,
    test: impl FnOnce() -> F,
) -> Result<()> {
    let patch = |spec: &Value| {
        let body = json!({"spec": spec}).to_string();
        shop.kubectl(&["-n", SHOP, "patch", "ppol", "shop", "--type=merge", "-p", &body]).map(drop)
    };
    patch(spec)?;
    let outcome = test().await;
    patch(back)?;
    outcome
}

fn condition(shop: &Shop, type_: &str) -> Result<(String, String, String)> {
    let policy: Value =
        serde_json::from_str(&shop.kubectl(&["-n", SHOP, "get", "ppol", "shop", "-o", "json"])?)?;
    let all = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|c| c["type"] == type_).unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("reason"), text("message")))
}

/// Uid of the pod that holds the lease.
fn leader(shop: &Shop) -> Result<String> {
    let pod = shop.kubectl(&[
        "-n",
        "fleetprof",
        "get",
        "lease",
        "fleetprof-operator",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ])?;
    shop.kubectl(&["-n", "fleetprof", "get", "pod", pod.trim(), "-o", "jsonpath={.metadata.uid}"])
}

#[tokio::test]
async fn people_wait_for_nobody_but_each_other() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    let first = shop.profile(SHOP, now("worker", "15s", "60s")).await?;
    shop.until(SHOP, &first, 30, |s| s["phase"] == "Running").await?;
    let elsewhere = shop.profile(SHOP, now("orders", "10s", "5s")).await?;
    let second = shop.profile(SHOP, now("worker", "10s", "5s")).await?;
    let waits = shop.until(SHOP, &second, 10, |s| s["reason"] == "ContainerBusy").await?;
    let message = waits["targets"][0]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("is capturing the container; waiting for a slot until"), "{waits:#}");
    let elsewhere = shop.ended(SHOP, &elsewhere, 60).await?;
    let (one, other) = (shop.ended(SHOP, &first, 60).await?, shop.ended(SHOP, &second, 90).await?);
    for session in [&one, &other, &elsewhere] {
        ensure!(session["phase"] == "Succeeded", "{session:#}");
    }
    let end = time(&one["targets"][0]["endTime"])?;
    let (start, apart) =
        (time(&other["targets"][0]["startTime"])?, time(&elsewhere["targets"][0]["startTime"])?);
    ensure!(start >= end, "the second started at {start}, the first ended at {end}");
    ensure!(apart < end, "another container's started at {apart}, the first ended at {end}");
    Ok(())
}

#[tokio::test]
async fn a_budget_holds_across_a_failover() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    shop.kubectl(&["-n", "fleetprof", "scale", "deployment/fleetprof-operator", "--replicas=2"])?;
    shop.kubectl(&[
        "-n",
        "fleetprof",
        "rollout",
        "status",
        "deployment/fleetprof-operator",
        "--timeout=90s",
    ])?;
    let outcome = async {
        let first = shop.profile(SHOP, now("worker", "45s", "60s")).await?;
        shop.until(SHOP, &first, 30, |s| s["phase"] == "Running").await?;
        let second = shop.profile(SHOP, now("worker", "10s", "5m")).await?;
        shop.until(SHOP, &second, 10, |s| s["reason"] == "ContainerBusy").await?;
        let pids = processes(&leader(&shop)?, &["fleetprof-operator", "run"]);
        ensure!(pids.len() == 1, "one leader: {pids:?}");
        kill_9(pids[0])?;
        let (one, other) = (shop.ended(SHOP, &first, 200).await?, shop.ended(SHOP, &second, 200).await?);
        let (end, start) = (time(&one["targets"][0]["endTime"])?, time(&other["targets"][0]["startTime"])?);
        ensure!(start >= end, "the second started at {start}, the first ended at {end}: {one:#}\n{other:#}");
        ensure!(other["phase"] == "Succeeded", "{other:#}");
        Ok(())
    }
    .await;
    shop.kubectl(&["-n", "fleetprof", "scale", "deployment/fleetprof-operator", "--replicas=1"])?;
    shop.kubectl(&[
        "-n",
        "fleetprof",
        "rollout",
        "status",
        "deployment/fleetprof-operator",
        "--timeout=90s",
    ])?;
    shop.linked("worker", "Linked").await?;
    outcome
}

#[tokio::test]
async fn a_suspended_policy_cancels_what_runs_where_it_says_so() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    let session = shop.profile(SHOP, now("worker", "2m", "60s")).await?;
    shop.until(SHOP, &session, 30, |s| s["phase"] == "Running").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let back = json!({"suspend": false, "suspendBehavior": "Finish"});
    with_policy(&shop, &json!({"suspend": true, "suspendBehavior": "Cancel"}), &back, || async {
        let status = shop.ended(SHOP, &session, 60).await?;
        ensure!(
            status["phase"] == "Cancelled" && status["samples"].as_i64() > Some(0),
            "what was captured is kept: {status:#}"
        );
        wait_for("the policy says so", Duration::from_secs(20), || async {
            Ok((condition(&shop, "Ready")?.1 == "PolicySuspended").then_some(()))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_obeyed_is_named_by_its_field() -> Result<()> {
    let shop = Shop::open().await?;
    let schedule =
        |cron: &str, zone: &str| json!({"schedule": {"every": null, "cron": cron, "timeZone": zone}});
    let back =
        json!({"schedule": {"every": "168h", "cron": null, "timeZone": null}, "agent": {"image": null}});
    for (spec, words) in [
        (schedule("0 0 31 2 *", "UTC"), "spec.schedule.cron never matches any time"),
        (
            schedule("0 3 * * *", "Europe/Atlantis"),
            "spec.schedule.timeZone: unknown time zone \"Europe/Atlantis\"",
        ),
        (
            json!({"agent": {"image": "evil.example/agent:1"}}),
            "spec.agent.image: image \"evil.example/agent:1\" is not allowed; allowed images: ",
        ),
    ] {
        with_policy(&shop, &spec, &back, || async {
            wait_for(words, Duration::from_secs(20), || async {
                let (status, reason, message) = condition(&shop, "Configured")?;
                Ok((status == "False" && reason == "InvalidSpec" && message.starts_with(words)).then_some(()))
            })
            .await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn why_an_app_is_left_out_stands_on_the_app_itself() -> Result<()> {
    let shop = Shop::open().await?;
    let label = |value: Value| {
        let body =
            json!({"spec": {"template": {"metadata": {"labels": {"fleetprof.dev/profiling": value}}}}})
                .to_string();
        shop.kubectl(&["-n", SHOP, "patch", "deployment", "worker", "--type=merge", "-p", &body])?;
        shop.kubectl(&["-n", SHOP, "rollout", "status", "deployment/worker", "--timeout=90s"]).map(drop)
    };
    label(json!("disabled"))?;
    let outcome = wait_for("an event on the Deployment", Duration::from_secs(90), || async {
        let described = shop.kubectl(&["-n", SHOP, "describe", "deployment", "worker"])?;
        Ok(described
            .lines()
            .any(|l| l.contains("OptedOut") && l.contains("fleetprof-operator"))
            .then_some(()))
    })
    .await;
    label(Value::Null)?;
    shop.linked("worker", "Linked").await?;
    outcome
}
