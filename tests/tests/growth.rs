//! Is a function that takes more CPU time from session to session called growing, and no other one? From sessions of
//! the schedule to the event on the workload and the gauge, on a real API server; the test creates the sessions that
//! the schedule would in eight hours, and speaks for the agents of their pods.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_profile::{Frame, ProfileBuilder, ProfileKind, encode};
use fleetprof_tests::agents::Agents;
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::object;
use fleetprof_tests::{api_server, wait_for};
use serde_json::{Value, json};

/// Sessions of a look.
const SESSIONS: u32 = 8;

/// The profile of the pod of session `n`: functions with their samples, of which `find_issuer` takes `more` in each.
fn profile(n: u32, more: u32) -> Result<(Vec<u8>, i64)> {
    let functions =
        [("parse", 1_000), ("find_issuer", 300 + n * more), ("render", 900), ("query", 800), ("log", 450)];
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_000_000, 1_700_000_000_000_000_000);
    let mut samples = 0;
    for (at, (name, hits)) in (0_u32..).zip(functions) {
        let hits = hits + (at * 7 + n * 5) % 11;
        samples += i64::from(hits);
        let file = format!("/srv/app/{name}.py");
        builder.add_hits(
            &[Frame::named(name, &file, 42), Frame::named("serve", "/srv/app/serve.py", 7)],
            hits,
            &[],
        )?;
    }
    Ok((encode(&builder.finish(10_000_000_000, &[]))?, samples))
}

/// A Deployment that no controller looks after, and its pods, one for each session.
fn app(place: &Place, app: &str, more: u32) -> Result<Vec<(String, Vec<u8>, i64)>> {
    let labels = json!({"app": app, "pod-template-hash": "r1"});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
    place.apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": app, "namespace": place.namespace}, "spec": spec}))?;
    let name = format!("{app}-r1");
    let owner = place.owner("apps/v1", "Deployment", app)?;
    let metadata =
        json!({"name": name, "namespace": place.namespace, "labels": labels, "ownerReferences": [owner]});
    place
        .apply(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec}))?;
    let owner = place.owner("apps/v1", "ReplicaSet", &name)?;
    let mut pods = Vec::new();
    for n in 0..SESSIONS {
        let pod = format!("{name}-{n}");
        place.pod(&pod, &labels, Some(&owner), |_| ())?;
        let (bytes, samples) = profile(n, more)?;
        pods.push((pod, bytes, samples));
    }
    Ok(pods)
}

/// A session of the schedule of one pod of each app, once it has ended.
async fn session(place: &Place, n: u32) -> Result<Value> {
    let name = format!("all-{n}");
    let pods = json!([format!("climbs-r1-{n}"), format!("steady-r1-{n}")]);
    let spec = json!({"policyRef": {"name": "all"}, "trigger": "Schedule", "duration": "10s", "target": {"pods": pods}});
    place.apply_as_operator(&object("ProfileSession", &place.namespace, &name, &spec))?;
    wait_for(&format!("the end of session {name}"), Duration::from_secs(60), || async {
        let found = place.ours("ProfileSession").get(&name).await?;
        let ended = found.data["status"]["endTime"].is_string();
        ended.then(|| serde_json::to_value(found).context("a session is not valid JSON")).transpose()
    })
    .await
}

fn condition(session: &Value) -> Value {
    let mut all = session["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == "Growing").cloned().unwrap_or_default()
}

async fn shows(operator: &Operator, place: &Place, app: &str, value: &str) -> Result<()> {
    let namespace = &place.namespace;
    let series = format!(
        "fleetprof_growth{{namespace=\"{namespace}\",kind=\"Deployment\",workload=\"{app}\",revision=\"r1\",type=\"cpu\"}}"
    );
    wait_for(&format!("{series} {value}"), Duration::from_secs(40), || async {
        Ok((operator.shows(&series)?.as_deref() == Some(value)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_takes_more_from_session_to_session_is_called_growing_and_no_other_one() -> Result<()>
{
    let kubeconfig = api_server()?;
    let operator = Operator::start(&kubeconfig, &[], &[]).await?;
    let place = Place::new(&kubeconfig, "growth").await?;
    let mut pods = app(&place, "climbs", 90)?;
    pods.extend(app(&place, "steady", 0)?);
    let agents = Agents::start(&place, &operator, pods)?;
    let spec = json!({"selector": {}, "schedule": {"every": "168h", "duration": "10s"}, "growth": {"sessions": SESSIONS},
        "budget": {"maxConcurrent": 100}, "session": {"history": {"succeeded": 1}}});
    place.apply(&object("ProfilingPolicy", &place.namespace, "all", &spec))?;
    place.until("ProfilingPolicy", "all", 30, |s| s["linkedPodCount"] == 2 * SESSIONS).await?;
    shows(&operator, &place, "climbs", "NaN").await?;

    let mut last = Value::Null;
    for n in 0..SESSIONS {
        last = session(&place, n).await?;
        let said = condition(&last);
        ensure!(n + 1 == SESSIONS || said["reason"] == "FewSessions", "{last:#}");
    }
    let said = condition(&last);
    ensure!((&said["status"], &said["reason"]) == (&json!("True"), &json!("Growing")), "{last:#}");
    let message = said["message"].as_str().unwrap_or_default();
    ensure!(
        message.starts_with("Deployment/climbs r1, cpu: Growth in CPU time by pod: find_issuer"),
        "{message}"
    );
    let rows = &last["status"]["growth"];
    ensure!((&rows[0]["result"], &rows[0]["sessions"]) == (&json!("Growing"), &json!(SESSIONS)), "{rows:#}");
    ensure!(rows[0]["functions"][0]["name"] == "find_issuer", "{rows:#}");
    ensure!(rows[1]["workload"] == "Deployment/steady" && rows[1]["result"] == "NotGrowing", "{rows:#}");
    shows(&operator, &place, "climbs", "1.0").await?;
    shows(&operator, &place, "steady", "0.0").await?;
    wait_for("an event on the workload", Duration::from_secs(10), || async {
        let told = place.events("climbs", "Growing")?;
        Ok(told.iter().any(|note| note.contains("Revision r1") && note.contains("find_issuer")).then_some(()))
    })
    .await?;
    drop(agents);
    place.forget()
}
