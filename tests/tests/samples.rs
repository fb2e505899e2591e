//! Do rounds of a policy with a goal for samples differ by what their workloads gave before? On a real API server,
//! whose pods are written by the test as a kubelet would.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::{ACCOUNT, Operator};
use fleetprof_tests::people::{create, object};
use fleetprof_tests::{api_server, chart, wait_for};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

const POLICY: &str = "sampled";

/// A target of an ended round with so many samples in 40 s.
fn target(workload: &str, samples: i64) -> Value {
    let now = jiff::Timestamp::now().as_second();
    let at = |ago| jiff::Timestamp::from_second(now - ago).map(|time| time.to_string()).ok();
    json!({"pod": "gone", "workload": workload, "phase": "Succeeded", "startTime": at(100), "endTime": at(60),
        "profiles": [{"type": "cpu", "uri": "k", "bytes": 1, "samples": samples}]})
}

/// Three pods of a StatefulSet, which is there so that the garbage collector leaves them alone.
fn stateful_set(place: &Place, name: &str) -> Result<()> {
    let labels = json!({"app": name});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    let spec = json!({"replicas": 0, "serviceName": name, "selector": {"matchLabels": labels}, "template": template});
    let metadata = json!({"name": name, "namespace": place.namespace});
    place.apply(
        &json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}),
    )?;
    let owner = place.owner("apps/v1", "StatefulSet", name)?;
    (0..3).try_for_each(|n| place.pod(&format!("{name}-{n}"), &labels, Some(&owner), |_| ()))
}

/// A round that has ended, in which one workload kept two cores busy, and another one next to none.
fn past_round(place: &Place) -> Result<()> {
    let spec = json!({"policyRef": {"name": POLICY}, "trigger": "Schedule", "duration": "40s"});
    let session = object("ProfileSession", &place.namespace, "before", &spec).to_string();
    let as_operator = ["--as", ACCOUNT, "--as-group", "system:masters"];
    let apply = [&["apply", "--server-side", "-f", "-"][..], &as_operator].concat();
    chart::kubectl(&place.kubeconfig, &apply, Some(&session))?;
    let targets = [target("StatefulSet/busy", 8000), target("StatefulSet/quiet", 40)];
    let times = targets.first().context("a target")?;
    let status = json!({"phase": "Succeeded", "startTime": times["startTime"], "endTime": times["endTime"],
        "counts": {"desired": 2, "started": 2, "succeeded": 2, "failed": 0, "skipped": 0}, "targets": targets});
    place.status("profilesession", "before", &status)
}

/// The session of the next round, once its targets are picked.
async fn next_round(place: &Place) -> Result<Value> {
    wait_for("a round with targets", Duration::from_secs(100), || async {
        let all = place.ours("ProfileSession").list(&ListParams::default()).await?;
        let picked = all.items.into_iter().filter(|session| session.name_any() != "before");
        Ok(picked.map(|session| session.data["status"].clone()).find(|status| status["targets"].is_array()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_capture_busy_workloads_less_and_quiet_ones_more() -> Result<()> {
    let kubeconfig = api_server()?;
    chart::crds(&kubeconfig)?;
    let place = Place::new(&kubeconfig, "samples").await?;
    past_round(&place)?;
    stateful_set(&place, "busy")?;
    stateful_set(&place, "quiet")?;
    let _operator = Operator::start(&kubeconfig, &[], &[]).await?;
    // 1000 samples of each round.
    let spec = json!({"selector": {}, "agent": {"mode": "Ephemeral"}, "schedule": {"every": "1m", "duration": "40s"},
        "sampling": {"samplesPerHour": 60_000, "replicasPerWorkload": 3}});
    create(&place.client, &object("ProfilingPolicy", &place.namespace, POLICY, &spec), false).await?;

    let status = next_round(&place).await?;
    let of = |workload: &str| -> Vec<Value> {
        let targets = status["targets"].as_array().into_iter().flatten();
        targets.filter(|target| target["workload"] == workload).cloned().collect()
    };
    let (busy, quiet) = (of("StatefulSet/busy"), of("StatefulSet/quiet"));
    ensure!((busy.len(), quiet.len()) == (1, 2), "twice as many pods of the quiet one: {status:#}");
    for target in &busy {
        ensure!(target["effectiveDuration"] == "30s" && target["effectiveFrequencyHz"] == 23, "{target:#}");
        ensure!(target["workloadPods"] == 3, "{target:#}");
    }
    for target in &quiet {
        let less = [&target["effectiveDuration"], &target["effectiveFrequencyHz"]];
        ensure!(less.iter().all(|field| field.is_null()), "all that the policy allows: {target:#}");
    }
    let row = |workload: &str, targets: i32| json!({"workload": workload, "pods": 3, "targets": targets, "captured": 0, "podSeconds": 0, "samples": 0});
    let rows = json!([row("StatefulSet/busy", 1), row("StatefulSet/quiet", 2)]);
    ensure!(status["workloads"] == rows, "{status:#}");
    let shown = place.until("ProfilingPolicy", POLICY, 20, |status| {
        status["linkedApps"].as_array().is_some_and(|apps| !apps.is_empty())
    });
    let apps = shown.await?["linkedApps"].clone();
    ensure!(apps[0]["effectiveSamplesPerHour"].as_i64().is_some_and(|samples| samples > 60_000), "{apps:#}");
    place.forget()
}
