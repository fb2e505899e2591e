//! Are pods profiled that nobody may change? By the agent of their node, on the full cluster with the shop of the demo.
//! Runs one test at a time: `--test-threads=1`.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_tests::people::object;
use fleetprof_tests::shop::{Shop, kill_9, processes};
use fleetprof_tests::wait_for;
use serde_json::{Value, json};

const HARDENED: &str = "hardened";
const AGENT: [&str; 2] = ["fleetprof-agent", "node"];

/// A pod that enforces Pod Security `restricted` runs in a namespace that does.
fn security() -> Value {
    json!({
        "runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}, "readOnlyRootFilesystem": true,
    })
}

/// Workers like the shop's, of which `more` changes the pod's spec.
fn deploy(shop: &Shop, name: &str, more: &Value) -> Result<()> {
    let labels = json!({"app.kubernetes.io/name": name});
    shop.deploy_worker((HARDENED, name), &labels, 0.2, |worker| {
        let spec = &mut worker["spec"]["template"]["spec"];
        spec["containers"][0]["securityContext"] = security();
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
    })
}

async fn reason(shop: &Shop, app: &str) -> Result<Option<Value>> {
    let policy: Value =
        serde_json::from_str(&shop.kubectl(&["-n", HARDENED, "get", "ppol", "all", "-o", "json"])?)?;
    let apps = policy["status"]["linkedApps"].as_array().cloned().unwrap_or_default();
    Ok(apps.into_iter().find(|row| row["name"] == app).map(|row| row["reason"].clone()))
}

async fn is(shop: &Shop, app: &str, wanted: &str) -> Result<()> {
    let last = std::cell::RefCell::new(Value::Null);
    wait_for(&format!("{app} is {wanted}"), Duration::from_secs(60), || async {
        let reason = reason(shop, app).await?.unwrap_or_default();
        *last.borrow_mut() = reason.clone();
        Ok((reason == wanted).then_some(()))
    })
    .await
    .with_context(|| format!("{app} is {}", last.borrow()))
}

fn session(app: &str, duration: &str) -> Value {
    json!({"policyRef": {"name": "all"}, "target": {"workload": {"kind": "Deployment", "name": app}}, "duration": duration})
}

/// Profile Now of an app, and when the capture ran.
async fn profiled(shop: &Shop, app: &str) -> Result<(Value, Duration)> {
    let began = Instant::now();
    let name = shop.profile(HARDENED, session(app, "10s")).await?;
    shop.until(HARDENED, &name, 30, |s| s["phase"] == "Running").await?;
    let took = began.elapsed();
    Ok((shop.ended(HARDENED, &name, 90).await?, took))
}

fn agent() -> Option<u32> {
    let own = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = own.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let mut found = pids.filter(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&str> = line.split('\0').collect();
        AGENT.iter().enumerate().all(|(at, word)| words.get(at).is_some_and(|w| w.ends_with(word)))
    });
    found.next()
}

#[tokio::test]
async fn pods_that_nobody_may_change_are_profiled_by_the_agent_of_their_node() -> Result<()> {
    let shop = Shop::open().await?;
    let outcome = by_node(&shop).await;
    remove(&shop)?;
    outcome
}

#[tokio::test]
#[ignore = "2 min: make matrix"]
async fn an_update_of_the_node_agents_and_a_drain_keep_what_was_captured() -> Result<()> {
    let shop = Shop::open().await?;
    let outcome = updated_and_drained(&shop).await;
    remove(&shop)?;
    outcome
}

fn remove(shop: &Shop) -> Result<()> {
    shop.kubectl(&["delete", "namespace", HARDENED, "--ignore-not-found", "--timeout=90s"])?;
    shop.helm(&[])
}

/// A namespace that enforces *restricted*, with two workloads and a policy of mode `Node`.
fn prepare(shop: &Shop) -> Result<()> {
    shop.kubectl(&["delete", "namespace", HARDENED, "--ignore-not-found", "--timeout=90s"])?;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    shop.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HARDENED, "labels": labels}}),
    )?;
    deploy(shop, "plain", &json!({}))?;
    deploy(shop, "alone", &json!({"shareProcessNamespace": false}))?;
    let policy = json!({"selector": {}, "agent": {"mode": "Node"}, "schedule": {"every": "168h"}});
    shop.apply(&object("ProfilingPolicy", HARDENED, "all", &policy))?;
    shop.kubectl(&["-n", HARDENED, "rollout", "status", "deployment", "--timeout=90s"]).map(drop)
}

/// Installs the node agents, and waits until both workloads are linked.
async fn install(shop: &Shop) -> Result<()> {
    let namespace =
        ["label", "namespace", "fleetprof", "pod-security.kubernetes.io/enforce=privileged", "--overwrite"];
    shop.kubectl(&namespace)?;
    shop.helm(&["--set", "nodeAgent.enabled=true"])?;
    for app in ["plain", "alone"] {
        is(shop, app, "Linked").await?;
    }
    Ok(())
}

async fn by_node(shop: &Shop) -> Result<()> {
    prepare(shop)?;
    // An agent may still come to a pod that has just started.
    let mut impatient = session("plain", "10s");
    impatient["startDeadline"] = json!("10s");
    let refused = shop.profile(HARDENED, impatient).await?;
    let refused = shop.ended(HARDENED, &refused, 60).await?;
    ensure!(refused["targets"][0]["reason"] == "NoNodeAgent", "{refused:#}");
    ensure!(
        refused["targets"][0]["message"].as_str().is_some_and(|said| said.contains("nodeAgent.enabled")),
        "{refused:#}"
    );

    install(shop).await?;
    for app in ["plain", "alone"] {
        let (status, took) = profiled(shop, app).await?;
        ensure!(status["phase"] == "Succeeded", "{status:#}");
        let target = &status["targets"][0];
        ensure!(target["coverage"].as_i64() >= Some(50), "{target:#}");
        eprintln!(
            "{app}: created → Running in {took:.3?}, {} samples, collector {}, coverage {} %",
            target["samples"], target["collector"], target["coverage"]
        );
    }
    nothing_was_changed(shop)?;
    an_agent_that_is_killed_comes_back(shop).await?;
    what_opted_out_is_left_alone(shop).await
}

/// The pods have what their workload says, and no more.
fn nothing_was_changed(shop: &Shop) -> Result<()> {
    let pods: Value = serde_json::from_str(&shop.kubectl(&["-n", HARDENED, "get", "pods", "-o", "json"])?)?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let (spec, notes) = (&pod["spec"], pod["metadata"]["annotations"].to_string());
        let added = [&spec["initContainers"], &spec["ephemeralContainers"]];
        ensure!(added.iter().all(|list| list.is_null()) && !notes.contains("fleetprof"), "{pod:#}");
    }
    Ok(())
}

/// A capture of an app that runs, once a slice of it is stored.
async fn with_a_slice(shop: &Shop, app: &str) -> Result<String> {
    let leader = shop.leader()?;
    let before = shop.stored(&leader)?;
    let name = shop.profile(HARDENED, session(app, "60s")).await?;
    shop.until(HARDENED, &name, 30, |s| s["phase"] == "Running").await?;
    wait_for("a slice is stored", Duration::from_secs(50), || async {
        Ok((shop.stored(&leader)? > before).then_some(()))
    })
    .await?;
    Ok(name)
}

async fn updated_and_drained(shop: &Shop) -> Result<()> {
    prepare(shop)?;
    install(shop).await?;
    // A rolling update replaces the agent in the middle of a capture.
    let name = with_a_slice(shop, "plain").await?;
    let before = agent().context("no agent of a node runs here")?;
    shop.kubectl(&["-n", "fleetprof", "rollout", "restart", "daemonset/fleetprof-node-agent"])?;
    let rollout = ["-n", "fleetprof", "rollout", "status", "daemonset/fleetprof-node-agent", "--timeout=90s"];
    shop.kubectl(&rollout)?;
    let status = shop.ended(HARDENED, &name, 120).await?;
    kept(&status)?;
    eprintln!("updated: {} {}", status["targets"][0]["reason"], status["message"]);
    ensure!(agent().is_some_and(|pid| pid != before), "the agent is a new one");
    is(shop, "plain", "Linked").await?;
    let (status, _) = profiled(shop, "plain").await?;
    ensure!(status["phase"] == "Succeeded", "{status:#}");

    // The node is drained: its pods go, and the agent stays until the last of them has gone.
    let name = with_a_slice(shop, "alone").await?;
    let node = shop.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let selector = "--pod-selector=app.kubernetes.io/name=alone";
    let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", selector, "--timeout=90s"];
    let drained = shop.kubectl(&drain);
    shop.kubectl(&["uncordon", &node])?;
    drained?;
    let status = shop.ended(HARDENED, &name, 120).await?;
    kept(&status)?;
    eprintln!("drained: {} {}", status["targets"][0]["reason"], status["message"]);
    is(shop, "alone", "Linked").await
}

/// What came before the end of a capture is there, and the target says why there is no more.
fn kept(status: &Value) -> Result<()> {
    let target = &status["targets"][0];
    let reason = target["reason"].as_str().unwrap_or_default();
    ensure!(["AgentGone", "TargetExited", "PodGone"].contains(&reason), "{status:#}");
    ensure!(target["samples"].as_i64() > Some(0), "{status:#}");
    ensure!(target["profiles"].as_array().is_some_and(|profiles| !profiles.is_empty()), "{status:#}");
    Ok(())
}

/// The capture that it made ends as `AgentGone` or with what there is; the target goes on, and the next one runs.
async fn an_agent_that_is_killed_comes_back(shop: &Shop) -> Result<()> {
    let (_, pod) = shop.pod(HARDENED, "plain").await?;
    let targets = processes(&pod, &[]);
    let name = with_a_slice(shop, "plain").await?;
    let killed = agent().context("no agent of a node runs here")?;
    kill_9(killed)?;
    let status = shop.ended(HARDENED, &name, 180).await?;
    ensure!(status["targets"][0]["reason"] == "AgentGone", "{status:#}");
    ensure!(status["targets"][0]["samples"].as_i64() > Some(0), "a slice was uploaded before: {status:#}");
    ensure!(processes(&pod, &[]) == targets, "the target goes on");
    is(shop, "plain", "Linked").await?;
    let (status, _) = profiled(shop, "plain").await?;
    ensure!(status["phase"] == "Succeeded", "{status:#}");
    Ok(())
}

async fn what_opted_out_is_left_alone(shop: &Shop) -> Result<()> {
    shop.kubectl(&["-n", HARDENED, "label", "pods", "--all", "fleetprof.dev/profiling=disabled"])?;
    is(shop, "plain", "OptedOut").await?;
    let name = shop.profile(HARDENED, session("plain", "10s")).await?;
    let status = shop.ended(HARDENED, &name, 60).await?;
    ensure!(status["phase"] != "Succeeded" && status.to_string().contains("OptedOut"), "{status:#}");
    Ok(())
}
