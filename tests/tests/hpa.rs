//! Does a HorizontalPodAutoscaler act as it does without an agent? On the full cluster with the shop of the demo and
//! the metrics server of `tests/cluster`, which the test runs meanwhile. 6 min, so it is of the layer `matrix`.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_tests::shop::Shop;
use fleetprof_tests::{run, wait_for};
use serde_json::{Value, json};

const SPACE: &str = "scaled";
/// Without an agent, with one, and with one under an autoscaler that looks at the app's container alone.
const APPS: [&str; 3] = ["plain", "linked", "exact"];
/// Thousandths of a core that the app requests, and that it uses at rest and under load.
const REQUEST: f64 = 100.0;
const REST: f64 = 20.0;
const LOAD: f64 = 300.0;
/// Percent of the request at which the autoscalers aim.
const TARGET: u32 = 60;
/// What an autoscaler takes for noise: a tenth of the utilization. Beside it, one thousandth of a core and its rounding
/// to whole percents.
const TOLERANCE: f64 = 0.1;
const ROUNDING: f64 = 2.0;

/// An app that uses as many thousandths of a core as its file says.
fn app(name: &str) -> [Value; 2] {
    let program = format!(
        "import time\nwhile True:\n began = time.monotonic()\n try: share = float(open('/tmp/share').read())\n \
         except (OSError, ValueError): share = {REST}\n end = time.thread_time() + share / 10000\n \
         while time.thread_time() < end: pass\n time.sleep(max(0, 0.1 - (time.monotonic() - began)))\n"
    );
    let container = json!({
        "name": "app", "image": "docker.io/library/fleetprof-orders:demo", "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", program], "securityContext": {"runAsUser": 1000, "runAsGroup": 1000},
        "resources": {"requests": {"cpu": format!("{REQUEST}m"), "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
    });
    let labels =
        json!({"app.kubernetes.io/name": name, "agent": if name == "plain" { "none" } else { "sidecar" }});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    let target = json!({"type": "Utilization", "averageUtilization": TARGET});
    let metric = match name {
        "exact" => json!({"type": "ContainerResource",
            "containerResource": {"name": "cpu", "container": "app", "target": target}}),
        _ => json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}),
    };
    let metadata = json!({"namespace": SPACE, "name": name});
    let down = json!({"stabilizationWindowSeconds": 15,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
    [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": template}}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1, "maxReplicas": 3, "metrics": [metric], "behavior": {"scaleDown": down}}}),
    ]
}

/// What an autoscaler sees and wants.
#[derive(Clone, Debug, Default)]
struct Seen {
    utilization: Option<f64>,
    replicas: i64,
    is_active: bool,
    message: String,
}

fn seen(shop: &Shop, name: &str) -> Result<Seen> {
    let text = shop.kubectl(&["-n", SPACE, "get", "hpa", name, "-o", "json"])?;
    let status = serde_json::from_str::<Value>(&text)?["status"].clone();
    let current = &status["currentMetrics"][0];
    let metric = ["resource", "containerResource"].into_iter().find_map(|kind| current.get(kind));
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let active = conditions.into_iter().find(|c| c["type"] == "ScalingActive").unwrap_or_default();
    Ok(Seen {
        utilization: metric.and_then(|metric| metric["current"]["averageUtilization"].as_f64()),
        replicas: status["desiredReplicas"].as_i64().unwrap_or_default(),
        is_active: active["status"] == "True",
        message: active["message"].as_str().unwrap_or_default().to_owned(),
    })
}

/// Thousandths of a core that the agents of an app use, as the autoscaler is told, for each of its pods.
fn agents_use(shop: &Shop, name: &str) -> Result<f64> {
    let path = format!(
        "/apis/metrics.k8s.io/v1beta1/namespaces/{SPACE}/pods?labelSelector=app.kubernetes.io/name={name}"
    );
    let pods: Value = serde_json::from_str(&shop.kubectl(&["get", "--raw", &path])?)?;
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let containers = pods.iter().flat_map(|pod| pod["containers"].as_array().cloned().unwrap_or_default());
    let nanos = containers
        .filter(|c| c["name"] == "fleetprof-agent")
        .filter_map(|c| c["usage"]["cpu"].as_str()?.strip_suffix('n')?.parse::<f64>().ok());
    Ok(nanos.sum::<f64>() / 1e6 / (pods.len().max(1) as f64))
}

/// Lets the pods that each app has now use so much each.
fn load(shop: &Shop, thousandths: f64) -> Result<()> {
    let write = format!("echo {thousandths} > /tmp/share");
    let running = "--field-selector=status.phase=Running";
    for pod in shop.kubectl(&["-n", SPACE, "get", "pods", running, "-o", "name"])?.split_whitespace() {
        shop.kubectl(&["-n", SPACE, "exec", pod, "-c", "app", "--", "sh", "-c", &write])?;
    }
    Ok(())
}

/// Waits until every autoscaler passes `test`; how long that took for each, in the order of [`APPS`]. None of them may
/// lose its metric meanwhile.
async fn all(shop: &Shop, what: &str, seconds: u64, test: impl Fn(&Seen) -> bool) -> Result<Vec<Duration>> {
    let began = Instant::now();
    let mut took = [None; 3];
    wait_for(what, Duration::from_secs(seconds), || {
        let looked = APPS.iter().zip(&mut took).try_for_each(|(name, took)| {
            let seen = seen(shop, name)?;
            ensure!(seen.is_active || !seen.message.contains("missing request"), "{name}: {}", seen.message);
            if took.is_none() && test(&seen) {
                *took = Some(began.elapsed());
            }
            Ok(())
        });
        let done = took.iter().copied().collect::<Option<Vec<Duration>>>();
        async move { looked.map(|()| done) }
    })
    .await
}

#[tokio::test]
async fn an_autoscaler_acts_as_without_an_agent() -> Result<()> {
    let shop = Shop::open().await?;
    run("tests/cluster/cluster", &["metrics-server"])?;
    let outcome = scaled(&shop).await;
    shop.kubectl(&["delete", "namespace", SPACE, "--ignore-not-found", "--timeout=120s"])?;
    run("tests/cluster/cluster", &["metrics-server", "--remove"])?;
    outcome
}

async fn scaled(shop: &Shop) -> Result<()> {
    let spec = json!({"selector": {"matchLabels": {"agent": "sidecar"}}, "schedule": {"every": "168h"}});
    shop.profiled_namespace(SPACE, &[("all", spec)]).await?;
    for object in APPS.iter().flat_map(|name| app(name)) {
        shop.apply(&object)?;
    }
    all(shop, "every autoscaler reads a utilization", 120, |seen| {
        seen.is_active && seen.utilization.is_some_and(|percent| percent > 5.0)
    })
    .await?;
    // The first figures are of the start of the program.
    tokio::time::sleep(Duration::from_secs(45)).await;
    rest(shop).await?;
    captured(shop).await?;
    load(shop, LOAD)?;
    let up = all(shop, "every autoscaler scales up", 120, |seen| seen.replicas == 3).await?;
    load(shop, REST)?;
    let down = all(shop, "every autoscaler scales down", 180, |seen| seen.replicas == 1).await?;
    eprintln!("{APPS:?}: scaled up within {up:.0?}, down within {down:.0?}");
    Ok(())
}

/// An agent that waits changes nothing: what it requests is small beside what the app requests.
async fn rest(shop: &Shop) -> Result<()> {
    let mut sums = [0.0; 3];
    const LOOKS: u32 = 6;
    for _ in 0..LOOKS {
        for (name, sum) in APPS.iter().zip(&mut sums) {
            let seen = seen(shop, name)?;
            *sum += seen.utilization.with_context(|| format!("{name}: {seen:?}"))? / f64::from(LOOKS);
            ensure!(seen.replicas == 1, "{name}: {seen:?}");
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let agent = agents_use(shop, "linked")?;
    eprintln!("at rest {APPS:?} have a utilization of {sums:.1?} %, and the agent uses {agent:.2}m");
    for (name, utilization) in APPS.iter().zip(sums).skip(1) {
        let differs = (utilization - sums[0]).abs();
        ensure!(differs <= sums[0] * TOLERANCE + ROUNDING, "{name}: {sums:?}");
    }
    ensure!(agent < 1.0, "an agent that waits uses {agent}m");
    Ok(())
}

/// While its pods are captured, an autoscaler of the whole pod sees what the agent uses, one of the container nothing.
async fn captured(shop: &Shop) -> Result<()> {
    let before = seen(shop, "exact")?.utilization.context("a utilization")?;
    let mut sessions = Vec::new();
    for name in &APPS[1..] {
        let target = json!({"workload": {"kind": "Deployment", "name": name}});
        let spec = json!({"policyRef": {"name": "all"}, "target": target, "duration": "60s"});
        sessions.push(shop.profile(SPACE, spec).await?);
    }
    let (began, mut most) = (Instant::now(), [0.0_f64; 3]);
    let mut agent = 0.0_f64;
    while began.elapsed() < Duration::from_secs(85) {
        for (name, most) in APPS.iter().zip(&mut most) {
            let seen = seen(shop, name)?;
            ensure!(seen.is_active && seen.replicas == 1, "{name} while it is captured: {seen:?}");
            *most = most.max(seen.utilization.unwrap_or_default());
        }
        agent = agent.max(agents_use(shop, "linked")?);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    for session in sessions {
        let status = shop.ended(SPACE, &session, 60).await?;
        ensure!(status["phase"] == "Succeeded", "{status:#}");
    }
    eprintln!("while captured {APPS:?} have at most {most:.0?} %, and the agent uses at most {agent:.1}m");
    ensure!(agent > 0.1, "no capture was measured");
    ensure!(
        most[2] <= before * (1.0 + TOLERANCE) + ROUNDING,
        "of the container alone: {before} % before, {most:?}"
    );
    let explained = most[2] + agent / REQUEST * 100.0;
    ensure!(
        most[1] <= explained * (1.0 + TOLERANCE) + ROUNDING,
        "more than the agent uses: {most:?}, {agent}m"
    );
    Ok(())
}
