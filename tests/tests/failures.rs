//! What happens when something breaks in the middle? On the full cluster with the shop of the demo. Whatever
//! breaks, every session ends with a reason and no policy tells an untruth. Runs one test at a time:
//! `--test-threads=1`.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fleetprof_tests::people::{create, object};
use fleetprof_tests::shop::{SHOP, Shop, kill_9, processes};
use fleetprof_tests::{chart, person, wait_for};
use serde_json::{Value, json};

fn now(app: &str, duration: &str) -> Value {
    json!({"policyRef": {"name": "shop"}, "target": {"workload": {"kind": "Deployment", "name": app}}, "duration": duration})
}

fn running(status: &Value) -> bool {
    status["phase"] == "Running"
}

/// A session of the worker that runs, and goes on for a while, when its first slice is stored.
async fn with_a_slice(shop: &Shop) -> Result<String> {
    let (leader, _) = operator(shop).await?;
    let before = wait_for("the leader's metrics", Duration::from_secs(30), || async {
        shop.stored(&leader).map(Some)
    })
    .await?;
    let name = shop.profile(SHOP, now("worker", "2m")).await?;
    shop.until(SHOP, &name, 60, running).await?;
    // A slice is 10 s long; the status shows samples later, and never what is stored. Nothing else is
    // captured meanwhile.
    wait_for("the first slice is stored", Duration::from_secs(80), || async {
        Ok((shop.stored(&leader)? > before).then_some(()))
    })
    .await?;
    Ok(name)
}

#[tokio::test]
async fn no_pod_matches() -> Result<()> {
    let shop = Shop::open().await?;
    let name = shop
        .profile(
            SHOP,
            json!({"target": {"podSelector": {"matchLabels": {"app": "nothing"}}}, "duration": "10s"}),
        )
        .await?;
    let status = shop.ended(SHOP, &name, 15).await?;
    ensure!(status["phase"] == "Failed" && status["reason"] == "NoMatchingPods", "{status:#}");
    ensure!(status["message"].as_str().is_some_and(|m| m.contains("kubectl get pods -l")), "{status:#}");
    let name =
        shop.profile(SHOP, json!({"policyRef": {"name": "shop"}, "target": {"workload": {"kind": "Deployment", "name": "typo"}}})).await?;
    let status = shop.ended(SHOP, &name, 15).await?;
    ensure!(
        status["reason"] == "TargetNotFound"
            && status["message"].as_str().is_some_and(|m| m.contains("Deployment/typo")),
        "{status:#}"
    );
    Ok(())
}

#[tokio::test]
async fn the_pod_goes_in_the_middle() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    let (pod, _) = shop.pod(SHOP, "worker").await?;
    let name = with_a_slice(&shop).await?;
    shop.kubectl(&["-n", SHOP, "delete", "pod", &pod, "--grace-period=1", "--wait=false"])?;
    let status = shop.ended(SHOP, &name, 90).await?;
    let target = &status["targets"][0];
    ensure!(
        target["profiles"].as_array().is_some_and(|p| !p.is_empty()),
        "the first slice was stored before the pod went, and must be kept: {status:#}"
    );
    // Which of them is seen first is chance. A program that ends has been captured to its end; what lost its
    // pod or its agent has failed, with what it had sent: some data, and never a success.
    let (of_target, of_session) = match target["reason"].as_str().unwrap_or_default() {
        "TargetExited" => ("Succeeded", "Succeeded"),
        "PodGone" | "AgentGone" => ("Failed", "PartiallySucceeded"),
        _ => bail!("the target's reason names neither its pod, its agent nor its end: {status:#}"),
    };
    ensure!(target["phase"] == of_target && status["phase"] == of_session, "{status:#}");
    shop.linked("worker", "Linked").await?;
    Ok(())
}

#[tokio::test]
async fn the_agent_is_killed_in_the_middle() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    let (_, uid) = shop.pod(SHOP, "worker").await?;
    let name = with_a_slice(&shop).await?;
    let agents = processes(&uid, &["fleetprof-agent", "sidecar"]);
    ensure!(agents.len() == 1, "one agent in the pod: {agents:?}");
    kill_9(agents[0])?;
    let status = shop.ended(SHOP, &name, 120).await?;
    ensure!(status["targets"][0]["reason"] == "AgentGone", "{status:#}");
    ensure!(
        status["phase"] == "PartiallySucceeded" && status["samples"].as_i64() > Some(0),
        "what was spooled before is kept: {status:#}"
    );
    ensure!(!processes(&uid, &["worker"]).is_empty(), "the target runs on");
    shop.linked("worker", "Linked").await?;
    Ok(())
}

#[tokio::test]
async fn the_leader_is_killed_in_the_middle() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    let leader = operator(&shop).await?;
    let name = shop.profile(SHOP, now("worker", "20s")).await?;
    shop.until(SHOP, &name, 20, running).await?;
    let pids = processes(&leader.1, &["fleetprof-operator", "run"]);
    ensure!(pids.len() == 1, "one leader: {pids:?}");
    kill_9(pids[0])?;
    let status = shop.ended(SHOP, &name, 150).await?;
    ensure!(status["phase"] == "Succeeded" && status["counts"]["desired"] == 1, "{status:#}");
    // 20 s at 99 Hz of a program that uses 0.3 CPU: captured once, not twice.
    let samples = status["samples"].as_i64().unwrap_or_default();
    ensure!((50..1500).contains(&samples), "{samples} samples");
    let raw = format!("/apis/data.fleetprof.dev/v1alpha1/namespaces/{SHOP}/profilesessions/{name}/top");
    wait_for("the profile can be read", Duration::from_secs(60), || async {
        shop.kubectl(&["get", "--raw", &raw]).map(Some)
    })
    .await?;
    shop.linked("worker", "Linked").await?;
    Ok(())
}

/// Name and uid of the operator's pod.
async fn operator(shop: &Shop) -> Result<(String, String)> {
    let text = shop.kubectl(&[
        "-n",
        "fleetprof",
        "get",
        "pods",
        "-l",
        "app.kubernetes.io/component=operator",
        "--field-selector=status.phase=Running",
        "-o",
        "json",
    ])?;
    let list: Value = serde_json::from_str(&text)?;
    let pod = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|p| p["metadata"]["deletionTimestamp"].is_null())
        .context("no operator runs")?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Ok((text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"])))
}

#[tokio::test]
async fn the_webhook_is_down() -> Result<()> {
    let shop = Shop::open().await?;
    shop.stop_webhook()?;
    let outcome = async {
        shop.kubectl(&["-n", SHOP, "rollout", "restart", "deployment/worker"])?;
        shop.kubectl(&["-n", SHOP, "rollout", "status", "deployment/worker", "--timeout=90s"])?;
        shop.linked("worker", "WebhookMissed").await?;
        // It can be profiled anyway.
        let mut spec = now("worker", "10s");
        let me = shop.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
        spec["requestedBy"] = json!({"username": me, "groups": ["system:masters"]});
        let name = shop
            .profile(SHOP, spec)
            .await
            .context("a person that names themself is let through while the webhook is down")?;
        let status = shop.ended(SHOP, &name, 120).await?;
        ensure!(status["phase"] == "Succeeded", "{status:#}");
        Ok::<_, anyhow::Error>(())
    }
    .await;
    shop.kubectl(&["-n", "fleetprof", "scale", "deployment/fleetprof-webhook", "--replicas=2"])?;
    shop.kubectl(&["-n", "fleetprof", "rollout", "status", "deployment/fleetprof-webhook", "--timeout=90s"])?;
    // The API server reaches the webhook only once the node's rules name its new pods.
    wait_for("the webhook serves the shop", Duration::from_secs(60), || async {
        let worker: Value = serde_json::from_str(&shop.kubectl(&[
            "-n",
            SHOP,
            "get",
            "deployment",
            "worker",
            "-o",
            "json",
        ])?)?;
        let template = &worker["spec"]["template"];
        let metadata = json!({"name": "probe", "namespace": SHOP, "labels": template["metadata"]["labels"]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
        let names = "jsonpath={.spec.initContainers[*].name}";
        let create = ["create", "--dry-run=server", "-o", names, "-f", "-"];
        let added = chart::kubectl(&shop.kubeconfig, &create, Some(&pod.to_string()))?;
        Ok((added == "fleetprof-agent").then_some(()))
    })
    .await?;
    shop.kubectl(&["-n", SHOP, "rollout", "restart", "deployment/worker"])?;
    shop.kubectl(&["-n", SHOP, "rollout", "status", "deployment/worker", "--timeout=90s"])?;
    shop.linked("worker", "Linked").await?;
    outcome
}

#[tokio::test]
async fn a_cancelled_session_keeps_what_it_has() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    let name = shop.profile(SHOP, now("worker", "2m")).await?;
    shop.until(SHOP, &name, 20, running).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    shop.cancel(SHOP, &name)?;
    let status = shop.ended(SHOP, &name, 40).await?;
    ensure!(status["phase"] == "Cancelled" && status["samples"].as_i64() > Some(0), "{status:#}");
    Ok(())
}

#[tokio::test]
async fn a_deleted_session_stops_its_capture_and_holds_nothing() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    let (_, uid) = shop.pod(SHOP, "worker").await?;
    let name = shop.profile(SHOP, now("worker", "2m")).await?;
    shop.until(SHOP, &name, 20, running).await?;
    ensure!(!processes(&uid, &["fleetprof-worker"]).is_empty(), "a worker captures");
    shop.forget(SHOP, &name).await?;
    wait_for("the worker stops", Duration::from_secs(40), || async {
        Ok(processes(&uid, &["fleetprof-worker"]).is_empty().then_some(()))
    })
    .await
}

/// The gate lets the operator's account create sessions for others; the operator checks their permissions
/// anyway.
#[tokio::test]
async fn who_asked_has_lost_the_right() -> Result<()> {
    let shop = Shop::open().await?;
    let operator = person(
        &shop.kubeconfig,
        Some("system:serviceaccount:fleetprof:fleetprof-operator"),
        &["system:serviceaccounts"],
    )
    .await?;
    let mut spec = now("worker", "10s");
    spec["requestedBy"] = json!({"username": "eve", "groups": ["system:authenticated"]});
    let mut session = object("ProfileSession", SHOP, "", &spec);
    session["metadata"] = json!({"generateName": "test-", "namespace": SHOP});
    let name = create(&operator, &session, false).await?.metadata.name.unwrap_or_default();
    let status = shop.ended(SHOP, &name, 15).await?;
    ensure!(
        status["phase"] == "Failed" && status["reason"] == "Forbidden" && status["targets"].is_null(),
        "{status:#}"
    );
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("eve")
            && message.contains("profile profilingpolicies/shop")
            && message.contains("fleetprof-runner"),
        "{message}"
    );
    Ok(())
}

/// The volume is a small tmpfs for this test, filled from the node.
#[tokio::test]
async fn the_results_volume_is_full() -> Result<()> {
    let shop = Shop::open().await?;
    shop.helm(&["--set", "results.medium=Memory", "--set", "results.size=2Mi"])?;
    let outcome = full_volume(&shop).await;
    shop.helm(&[])?;
    outcome?;
    shop.linked("worker", "Linked").await?;
    Ok(())
}

async fn full_volume(shop: &Shop) -> Result<()> {
    shop.linked("worker", "Linked").await?;
    let (_, uid) = operator(shop).await?;
    let pid =
        *processes(&uid, &["fleetprof-operator", "run"]).first().context("the operator runs on this node")?;
    let filler = format!("/proc/{pid}/root/var/lib/fleetprof/filler");
    // Writing until nothing fits any more is the point.
    let _ = std::fs::write(&filler, vec![0u8; 4 << 20]);
    let name = shop.profile(SHOP, now("worker", "10s")).await?;
    let status = shop.until(SHOP, &name, 60, |s| s["reason"] == "StorageFull").await?;
    ensure!(
        status["message"].as_str().is_some_and(|m| m.contains("free space on the results volume")),
        "{status:#}"
    );
    std::fs::remove_file(&filler)?;
    let status = shop.ended(SHOP, &name, 120).await?;
    ensure!(
        status["phase"] == "Succeeded" && status["samples"].as_i64() > Some(0),
        "nothing was lost meanwhile: {status:#}"
    );
    Ok(())
}

/// An agent of an older release, as the gateway sees it: a heartbeat with the pod's own token and protocol 0.
#[tokio::test]
async fn the_agent_is_older_than_the_order() -> Result<()> {
    const OLD: &str = "test-old-agent";
    let shop = Shop::open().await?;
    shop.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OLD}}))?;
    shop.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "old", "namespace": OLD}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "app", "image": "docker.io/library/fleetprof-worker:demo", "imagePullPolicy": "IfNotPresent"}]}}))?;
    shop.kubectl(&["-n", OLD, "wait", "pod/old", "--for=condition=Ready", "--timeout=60s"])?;
    let outcome = old_agent(&shop, OLD).await;
    shop.kubectl(&["delete", "namespace", OLD, "--timeout=60s"])?;
    outcome
}

async fn old_agent(shop: &Shop, namespace: &str) -> Result<()> {
    let uid = shop.kubectl(&["-n", namespace, "get", "pod", "old", "-o", "jsonpath={.metadata.uid}"])?;
    let token = shop.kubectl(&[
        "-n",
        namespace,
        "create",
        "token",
        "default",
        "--audience",
        "fleetprof.dev/gateway",
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        "old",
        "--bound-object-uid",
        &uid,
    ])?;
    let address = shop.kubectl(&[
        "-n",
        "fleetprof",
        "get",
        "endpointslice",
        "fleetprof-leader",
        "-o",
        "jsonpath={.endpoints[0].addresses[0]}",
    ])?;
    let heartbeat =
        json!({"version": "0.0.1", "protocol": 0, "mode": "Sidecar", "instance": "old"}).to_string();
    let answer = fleetprof_tests::run(
        "curl",
        &[
            "-sk",
            "-w",
            "%{http_code}",
            "-H",
            &format!("authorization: Bearer {}", token.trim()),
            "-H",
            "content-type: application/json",
            "-d",
            &heartbeat,
            &format!("https://{address}:8443/v1/heartbeat"),
        ],
    )?;
    ensure!(answer.ends_with("200"), "the heartbeat is taken: {answer}");
    let name = shop.profile(namespace, json!({"target": {"pods": ["old"]}, "duration": "10s"})).await?;
    let status = shop.ended(namespace, &name, 20).await?;
    ensure!(status["phase"] == "Failed" && status["reason"] == "NoCapableAgents", "{status:#}");
    let target = &status["targets"][0];
    ensure!(target["phase"] == "Skipped" && target["reason"] == "AgentTooOld", "{status:#}");
    ensure!(
        target["message"].as_str().is_some_and(|m| m.contains("protocol 0") && m.contains("restart the pod")),
        "{status:#}"
    );
    Ok(())
}
