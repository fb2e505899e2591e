//! Does the cluster work while pods without rights attack fleetprof? On the full cluster with the shop of the demo.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_tests::shop::{SHOP, Shop};
use fleetprof_tests::wait_for;
use serde_json::{Value, json};

const EVIL: &str = "evil";
const TENANT: &str = "tenant";
/// Pods that attack, each with 96 connections at a time: more than the 16 that took the read API once.
const PODS: usize = 18;

/// Pods that hold connections, with little CPU: what is tested is what they can take, not the node's cores.
fn attackers() -> [Value; 3] {
    let container = json!({
        "name": "hold", "image": "docker.io/library/fleetprof-orders:demo", "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "-c", include_str!("hold.py")],
        "resources": {"requests": {"cpu": "1m"}, "limits": {"cpu": "50m", "memory": "256Mi"}},
    });
    let labels = json!({"app": "hold"});
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1},
    });
    [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": EVIL}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TENANT}}),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": EVIL, "name": "hold"},
            "spec": {"replicas": PODS, "selector": {"matchLabels": labels}, "template": template},
        }),
    ]
}

/// Restarts of fleetprof's containers.
fn restarts(shop: &Shop) -> Result<u64> {
    let counts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let counts = shop.kubectl(&["-n", "fleetprof", "get", "pods", "-o", counts])?;
    counts.split_whitespace().map(|count| Ok(count.parse::<u64>()?)).sum()
}

fn attacking(shop: &Shop) -> Result<usize> {
    let said = shop.kubectl(&["-n", EVIL, "logs", "-l", "app=hold", "--max-log-requests=50"])?;
    Ok(said.lines().filter(|line| *line == "attacks").count())
}

#[tokio::test]
async fn pods_without_rights_stop_neither_the_cluster_nor_profile_now() -> Result<()> {
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    let outcome = under_attack(&shop).await;
    shop.kubectl(&["delete", "namespace", EVIL, TENANT, "--ignore-not-found", "--timeout=90s"])?;
    outcome
}

async fn under_attack(shop: &Shop) -> Result<()> {
    let (before, idle) = (restarts(shop)?, discovery(shop)?);
    for object in attackers() {
        shop.apply(&object)?;
    }
    wait_for("all attack", Duration::from_secs(120), || async {
        Ok((attacking(shop).unwrap_or_default() == PODS).then_some(()))
    })
    .await?;
    let refused = wait_for("limits are reached", Duration::from_secs(30), || async {
        let of_leader = limited(shop)?;
        Ok((of_leader > 0).then_some(of_leader))
    });
    println!("connections limited: {}", refused.await?);

    let (mut slowest, mut read) = (Duration::ZERO, 0);
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        slowest = slowest.max(discovery(shop).context("discovery under attack")?);
        read += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "read API: {read} of {read} answered, the slowest after {slowest:?}, {idle:?} without an attack"
    );
    ensure!(slowest < Duration::from_secs(5), "the slowest answer took {slowest:?}");

    let began = Instant::now();
    shop.apply(&beside())?;
    let created = began.elapsed();
    println!("a pod was created within {created:?}");
    shop.kubectl(&["-n", SHOP, "delete", "pod", "beside", "--wait=false"])?;
    ensure!(created < Duration::from_secs(5), "creating a pod took {created:?}");

    let began = Instant::now();
    shop.kubectl(&["delete", "namespace", TENANT, "--timeout=60s"]).context("deletion of a namespace")?;
    println!("a namespace was deleted within {:?}", began.elapsed());

    let spec = json!({
        "policyRef": {"name": "shop"}, "target": {"workload": {"kind": "Deployment", "name": "worker"}}, "duration": "10s",
    });
    let session = shop.profile(SHOP, spec).await?;
    let began = Instant::now();
    shop.until(SHOP, &session, 30, |s| s["phase"] == "Running").await?;
    let ran = began.elapsed();
    println!("a session ran within {ran:?}");
    ensure!(ran < Duration::from_secs(30), "a session ran after {ran:?}");
    let status = shop.ended(SHOP, &session, 120).await?;
    ensure!(status["phase"] == "Succeeded", "{status:#}");
    ensure!(restarts(shop)? == before, "a container of fleetprof was restarted");
    ensure!(attacking(shop)? == PODS, "the attack went on until the end");
    Ok(())
}

/// How long the API server takes to answer for the read API.
fn discovery(shop: &Shop) -> Result<Duration> {
    let began = Instant::now();
    shop.kubectl(&["get", "--raw", "/apis/data.fleetprof.dev/v1alpha1"])?;
    Ok(began.elapsed())
}

/// A pod of a namespace with a policy, as its Pod Security level wants it.
fn beside() -> Value {
    let security = json!({
        "runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let container = json!({
        "name": "app", "image": "docker.io/library/fleetprof-worker:demo", "imagePullPolicy": "IfNotPresent",
        "securityContext": security, "resources": {"limits": {"cpu": "50m", "memory": "64Mi"}},
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": SHOP, "name": "beside"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    })
}

/// How often a server of the leader or of a webhook had no place for a connection.
fn limited(shop: &Shop) -> Result<u64> {
    let names =
        shop.kubectl(&["-n", "fleetprof", "get", "pods", "-o", "jsonpath={.items[*].metadata.name}"])?;
    let mut sum = 0;
    for name in names.split_whitespace() {
        let path = format!("/api/v1/namespaces/fleetprof/pods/{name}:8080/proxy/metrics");
        let metrics = shop.kubectl(&["get", "--raw", &path])?;
        let counts = metrics.lines().filter(|line| line.starts_with("fleetprof_connections_limited_total{"));
        sum += counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(sum)
}
