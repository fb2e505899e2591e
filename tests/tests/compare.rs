//! Is a new revision that got slower called so, with the function, and no other one? From the first pod to the event
//! on the workload and the gauge, on a real API server; the test moves pods as a kubelet would, and speaks for
//! their agents.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_profile::{Frame, ProfileBuilder, ProfileKind, encode};
use fleetprof_tests::agents::Agents;
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::object;
use fleetprof_tests::{api_server, wait_for};
use kube::api::ListParams;
use serde_json::{Value, json};

/// Functions with their samples, each called by `serve`.
type Functions = &'static [(&'static str, u32)];

const BEFORE: Functions = &[
    ("serve", 150),
    ("parse", 1_000),
    ("find_issuer", 200),
    ("render", 900),
    ("query", 800),
    ("encode", 500),
    ("log", 450),
];
/// `find_issuer` takes three times as long.
const SLOWER: Functions = &[
    ("serve", 150),
    ("parse", 1_000),
    ("find_issuer", 600),
    ("render", 900),
    ("query", 800),
    ("encode", 500),
    ("log", 450),
];
/// `render` has another name, and `log` got cheaper.
const ELSEWHERE: Functions = &[
    ("serve", 150),
    ("parse", 1_000),
    ("find_issuer", 200),
    ("paint", 900),
    ("query", 800),
    ("encode", 500),
    ("log", 250),
];

/// The profile of a pod; pods differ a little.
fn profile(functions: Functions, pod: u32) -> Result<(Vec<u8>, i64)> {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_000_000, 1_700_000_000_000_000_000);
    let mut samples = 0;
    for (at, (name, hits)) in (0_u32..).zip(functions) {
        let hits = hits + (at * 7 + pod * 5) % 11;
        samples += i64::from(hits);
        let file = format!("/srv/app/{name}.py");
        let serve = Frame::named("serve", "/srv/app/serve.py", 7);
        let stack = if *name == "serve" { vec![serve] } else { vec![Frame::named(name, &file, 42), serve] };
        builder.add_hits(&stack, hits, &[])?;
    }
    Ok((encode(&builder.finish(10_000_000_000, &[]))?, samples))
}

/// A Deployment that no controller looks after.
fn deployment(place: &Place, app: &str) -> Result<()> {
    let labels = json!({"app": app});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    place.apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app, "namespace": place.namespace},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}}))
}

/// Pods of a revision of a Deployment, and what their agents tell of them.
fn revision(
    place: &Place,
    app: &str,
    label: &str,
    count: u32,
    functions: Functions,
) -> Result<Vec<(String, Vec<u8>, i64)>> {
    let labels = json!({"app": app, "pod-template-hash": label});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    let name = format!("{app}-{label}");
    let owner = place.owner("apps/v1", "Deployment", app)?;
    let metadata =
        json!({"name": name, "namespace": place.namespace, "labels": labels, "ownerReferences": [owner]});
    place.apply(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata,
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}}))?;
    let owner = place.owner("apps/v1", "ReplicaSet", &name)?;
    let mut pods = Vec::new();
    for n in 1..=count {
        let pod = format!("{name}-{n}");
        place.pod(&pod, &labels, Some(&owner), |_| ())?;
        let (bytes, samples) = profile(functions, n)?;
        pods.push((pod, bytes, samples));
    }
    Ok(pods)
}

/// The pods are ready since now.
fn ready(place: &Place, pods: &[String]) -> Result<()> {
    for pod in pods {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let ready = json!([{"type": "Ready", "status": "True", "lastTransitionTime": now}]);
        place.status("pod", pod, &json!({"conditions": ready}))?;
    }
    Ok(())
}

/// The ended session of a new revision of an app.
async fn judged(place: &Place, app: &str) -> Result<Value> {
    wait_for(&format!("a verdict on {app}"), Duration::from_secs(60), || async {
        let all = place.ours("ProfileSession").list(&ListParams::default()).await?;
        let of_app = |s: &kube::api::DynamicObject| {
            let workload = s.metadata.annotations.as_ref().and_then(|all| all.get("fleetprof.dev/workload"));
            workload == Some(&format!("Deployment/{app}")) && s.data["status"]["endTime"].is_string()
        };
        let found = all.items.into_iter().find(of_app);
        found.map(|s| serde_json::to_value(s).context("a session is not valid JSON")).transpose()
    })
    .await
}

fn condition(session: &Value) -> Value {
    let mut all = session["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == "Regressed").cloned().unwrap_or_default()
}

fn has_words(condition: &Value, words: &str) -> bool {
    condition["message"].as_str().is_some_and(|message| message.contains(words))
}

fn gauge(place: &Place, app: &str) -> String {
    let namespace = &place.namespace;
    format!(
        "fleetprof_regression{{namespace=\"{namespace}\",kind=\"Deployment\",workload=\"{app}\",revision=\"new\"}}"
    )
}

/// Waits until the gauge of an app's new revision has this value.
async fn shows(operator: &Operator, place: &Place, app: &str, value: &str) -> Result<()> {
    let series = gauge(place, app);
    wait_for(&format!("{series} {value}"), Duration::from_secs(40), || async {
        Ok((operator.shows(&series)?.as_deref() == Some(value)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slower_revision_is_called_so_and_one_that_differs_elsewhere_is_not() -> Result<()> {
    let kubeconfig = api_server()?;
    let operator = Operator::start(&kubeconfig, &[], &[]).await?;
    let place = Place::new(&kubeconfig, "compare").await?;
    let apps = [("slower", 4, SLOWER), ("moved", 4, ELSEWHERE), ("single", 1, SLOWER)];
    let mut pods = Vec::new();
    for (app, count, _) in apps {
        deployment(&place, app)?;
        pods.extend(revision(&place, app, "old", count, BEFORE)?);
    }
    let names =
        |pods: &[(String, Vec<u8>, i64)]| pods.iter().map(|(pod, ..)| pod.clone()).collect::<Vec<_>>();
    let of_old = names(&pods);
    let old = Agents::start(&place, &operator, pods)?;
    ready(&place, &of_old)?;
    let rollout = json!({"delay": "5s", "duration": "10s", "wait": "10s", "compare": {}});
    let spec = json!({"selector": {}, "schedule": {"every": "168h", "duration": "10s"}, "budget": {"maxConcurrent": 100},
        "sampling": {"replicasPerWorkload": 4}, "triggers": {"rollout": rollout}});
    // The policy is made in a later second than the old revisions, and in an earlier one than the new ones.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    place.apply(&object("ProfilingPolicy", &place.namespace, "all", &spec))?;
    place.until("ProfilingPolicy", "all", 30, |s| s["linkedPodCount"] == 9).await?;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut pods = Vec::new();
    for (app, count, functions) in apps {
        pods.extend(revision(&place, app, "new", count, functions)?);
    }
    // Their agents are there when they get ready, so that the delay does not pass before three of them can be captured.
    let of_new = names(&pods);
    let new = Agents::start(&place, &operator, pods)?;
    ready(&place, &of_new)?;
    shows(&operator, &place, "single", "NaN").await?;

    let session = judged(&place, "slower").await?;
    let said = condition(&session);
    ensure!((&said["status"], &said["reason"]) == (&json!("True"), &json!("Regressed")), "{session:#}");
    ensure!(has_words(&said, "find_issuer") && has_words(&said, "of the old revision (p = 0.0"), "{said:#}");
    let comparison = &session["status"]["comparison"];
    ensure!(comparison["result"] == "Regressed" && comparison["baseRevision"] == "old", "{comparison:#}");
    // It begins when three new pods, the least for a verdict, have been ready for the delay.
    let pods = |side: &str| comparison[side]["pods"].as_i64().unwrap_or_default();
    ensure!((3..=4).contains(&pods("new")) && pods("old") == 4, "{comparison:#}");
    let first = &comparison["functions"][0];
    ensure!((&first["name"], &first["change"]) == (&json!("find_issuer"), &json!("Rose")), "{comparison:#}");
    ensure!(first["interval"].as_str().is_some_and(|text| text.starts_with('+')), "{comparison:#}");
    let top = &session["status"]["topFunctions"];
    ensure!(
        top.as_array().is_some_and(|rows| rows.iter().any(|row| row["name"] == "find_issuer")),
        "{top:#}"
    );
    shows(&operator, &place, "slower", "1.0").await?;
    wait_for("an event on the workload", Duration::from_secs(10), || async {
        let told = place.events("slower", "Regressed")?;
        Ok(told
            .iter()
            .any(|note| note.contains("Revision new") && note.contains("find_issuer"))
            .then_some(()))
    })
    .await?;

    let session = judged(&place, "moved").await?;
    let said = condition(&session);
    ensure!((&said["status"], &said["reason"]) == (&json!("False"), &json!("NotRegressed")), "{session:#}");
    ensure!(has_words(&said, "would be found in 4 of 5 such comparisons"), "{said:#}");
    shows(&operator, &place, "moved", "0.0").await?;

    let session = judged(&place, "single").await?;
    let said = condition(&session);
    ensure!((&said["status"], &said["reason"]) == (&json!("Unknown"), &json!("FewPods")), "{session:#}");
    ensure!(has_words(&said, "Inconclusive") && has_words(&said, "3 pods of the new revision"), "{said:#}");
    shows(&operator, &place, "single", "NaN").await?;
    drop((old, new));
    place.forget()
}
