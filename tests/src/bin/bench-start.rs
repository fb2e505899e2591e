//! How long from creating a session to its target running, and what does an agent cost while it waits?
//!
//! `cargo run -p fleetprof-tests --bin bench-start [SESSIONS [CAPTURES]]`: on the cluster of `make demo`,
//! against the worker's sidecar. With CAPTURES, so many scheduled captures of other pods run on the node
//! meanwhile. Prints rows of the table of `make bench`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_tests::people::resource;
use fleetprof_tests::process::{cpu_nanos, own_kib, rss_kib};
use fleetprof_tests::shop::{SHOP, Shop, processes};
use fleetprof_tests::wait_for;
use futures::StreamExt;
use kube::Api;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use serde_json::json;

/// Namespace of the pods that are captured meanwhile.
const SPACE: &str = "fleetprof-crowd";

#[tokio::main]
async fn main() -> Result<()> {
    let number = |n: usize, default: usize| {
        std::env::args()
            .nth(n)
            .map_or(Ok(default), |n| n.parse())
            .context("the arguments are numbers of sessions and of scheduled captures")
    };
    let (sessions, captures) = (number(1, 50)?, number(2, 0)?);
    let shop = Shop::open().await?;
    shop.linked("worker", "Linked").await?;
    quiet(&shop).await?;
    if captures == 0 {
        idle(&shop).await?;
        return starts(&shop, sessions, "").await;
    }
    let measured = beside(&shop, sessions, captures).await;
    // What is measured next finds the node at rest.
    shop.kubectl(&["delete", "namespace", SPACE, "--ignore-not-found", "--timeout=180s"])?;
    shop.node_budget(None)?;
    measured
}

/// Measures starts while a round of another policy captures so many pods of the node.
async fn beside(shop: &Shop, sessions: usize, captures: usize) -> Result<()> {
    crowd(shop, captures).await?;
    let round = shop.start_round((SPACE, "crowd"), None, "6m").await?;
    let running = |status: &serde_json::Value| {
        let targets = status["targets"].as_array();
        targets.into_iter().flatten().filter(|target| target["phase"] == "Running").count()
    };
    shop.until(SPACE, &round, 60, |status| running(status) == captures).await?;
    starts(shop, sessions, &format!(" while {captures} scheduled captures run on the node")).await?;
    let left = running(&shop.status(SPACE, &round).await?);
    ensure!(left == captures, "{left} of {captures} captures ran until the last session had started");
    Ok(())
}

/// So many pods with sidecars, under a policy whose rounds capture all of them at once.
async fn crowd(shop: &Shop, pods: usize) -> Result<()> {
    shop.node_budget(Some(pods))?;
    let spec = json!({
        "selector": {}, "schedule": {"every": "168h"},
        "sampling": {"replicasPerWorkload": pods, "maxTargets": pods},
        "budget": {"maxConcurrent": pods, "maxConcurrentPerNode": pods},
    });
    shop.profiled_namespace(SPACE, &[("crowd", spec)]).await?;
    let labels = json!({"app.kubernetes.io/name": "crowd"});
    shop.deploy_worker((SPACE, "crowd"), &labels, 0.01, |worker| {
        worker["spec"]["replicas"] = json!(pods);
        // All of them must fit on the node.
        let requests = json!({"cpu": "1m", "memory": "8Mi"});
        worker["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = requests;
    })?;
    let policies: Api<DynamicObject> =
        Api::namespaced_with(shop.client.clone(), SPACE, &resource("ProfilingPolicy"));
    wait_for("every pod is linked", Duration::from_secs(240), || async {
        let apps = policies.get("crowd").await?.data["status"]["linkedApps"].clone();
        Ok((apps[0]["linked"] == pods && apps[0]["reason"] == "Linked").then_some(()))
    })
    .await
}

/// Measures the starts of sessions, one after another, and prints the row.
async fn starts(shop: &Shop, sessions: usize, meanwhile: &str) -> Result<()> {
    let mut took = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        took.push(one(shop).await?);
    }
    took.sort();
    let at = |q: f64| took[((took.len() - 1) as f64 * q).round() as usize].as_secs_f64();
    println!(
        "| ProfileSession created → target Running{meanwhile}, {sessions} sessions | p50 {:.3} s, p99 {:.3} s, \
         max {:.3} s | p99 ≤ 1 s: {} | |",
        at(0.5),
        at(0.99),
        at(1.0),
        met(at(0.99) <= 1.0)
    );
    Ok(())
}

/// The word for a goal.
fn met(yes: bool) -> &'static str {
    if yes { "met" } else { "missed" }
}

/// Waits until no session is under way, of a round that began before this.
async fn quiet(shop: &Shop) -> Result<()> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(shop.client.clone(), SHOP, &resource("ProfileSession"));
    wait_for("every session has ended", Duration::from_secs(240), || async {
        let all = api.list(&kube::api::ListParams::default()).await?;
        Ok(all.items.iter().all(|s| s.data["status"]["endTime"].is_string()).then_some(()))
    })
    .await
}

/// One session, from the call that creates it to the watch event that shows it running; cancelled then.
async fn one(shop: &Shop) -> Result<Duration> {
    let api: Api<DynamicObject> =
        Api::namespaced_with(shop.client.clone(), SHOP, &resource("ProfileSession"));
    let params = WatchParams::default().timeout(60);
    let version = api
        .list_metadata(&kube::api::ListParams::default().limit(1))
        .await?
        .metadata
        .resource_version
        .unwrap_or_default();
    let mut events = Box::pin(api.watch(&params, &version).await?);
    let began = Instant::now();
    let spec = json!({"policyRef": {"name": "shop"}, "target": {"workload": {"kind": "Deployment", "name": "worker"}}, "duration": "10s"});
    let name = shop.profile(SHOP, spec).await?;
    let mut took = None;
    while let Some(event) = events.next().await {
        let WatchEvent::Modified(session) = event? else { continue };
        if session.metadata.name.as_deref() != Some(&name) {
            continue;
        }
        let phase = session.data["status"]["phase"].as_str().unwrap_or_default().to_owned();
        ensure!(phase != "Failed", "session {name} failed: {:#}", session.data["status"]);
        if phase == "Running" {
            took = Some(began.elapsed());
            break;
        }
    }
    shop.cancel(SHOP, &name)?;
    shop.ended(SHOP, &name, 60).await?;
    shop.forget(SHOP, &name).await?;
    took.with_context(|| format!("session {name} was never seen running"))
}

/// For so long a new agent looks often at what starts in its pod.
const YOUTH: Duration = Duration::from_secs(120);
/// CPU time of an agent that waits is measured for so long, which is two heartbeats.
const IDLE: Duration = Duration::from_secs(60);

/// Resident memory and CPU time of the worker's sidecar at rest.
async fn idle(shop: &Shop) -> Result<()> {
    let (_, uid) = shop.pod(SHOP, "worker").await?;
    let pids = processes(&uid, &["fleetprof-agent", "sidecar"]);
    let pid = *pids.first().context("the worker's pod has no agent on this node")?;
    tokio::time::sleep(YOUTH).await;
    let before = cpu_nanos(pid)?;
    tokio::time::sleep(IDLE).await;
    let used = cpu_nanos(pid)? - before;
    let (mib, own) = (rss_kib(pid)? / 1024.0, own_kib(pid)? / 1024.0);
    let percent = used as f64 / IDLE.as_nanos() as f64 * 100.0;
    println!(
        "| idle agent: memory | RSS {mib:.1} MB, of which {own:.1} MB are its own (RssAnon) | ≤ 5 MB: {} | the \
         agents of a node share the pages of their program |\n| idle agent: CPU | {percent:.3} % of a core over \
         {} s | ≤ 0.01 %: {} | |",
        met(mib <= 5.0),
        IDLE.as_secs(),
        met(percent <= 0.01)
    );
    Ok(())
}
