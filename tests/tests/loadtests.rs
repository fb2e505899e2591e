//! Does a session wait for a load test, and do others repeat it while the load runs? On a real API server,
//! whose pods are moved by the test as a kubelet would; the operator runs with the rights that the chart
//! gives it.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{create, object};
use fleetprof_tests::{api_server, wait_for};
use kube::api::ListParams;
use serde_json::{Value, json};

struct Rig {
    place: Place,
    me: String,
    _operator: Operator,
}

impl Rig {
    async fn new(name: &str) -> Result<Self> {
        let kubeconfig = api_server()?;
        let operator = Operator::start(&kubeconfig, &[], &[]).await?;
        let place = Place::new(&kubeconfig, name).await?;
        let me = place.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
        // A capture of a pod that has opted out ends at once, which is all that is needed of it here.
        place.pod(
            "orders-1",
            &json!({"app": "orders", "fleetprof.dev/profiling": "disabled"}),
            None,
            |_| (),
        )?;
        place.pod("worker-1", &json!({"app": "worker"}), None, |_| ())?;
        Ok(Self { place, me, _operator: operator })
    }

    /// A Job without a controller: its pods and its end come from the test.
    fn job(&self) -> Result<Value> {
        let template =
            json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "load", "image": "load:1"}]}});
        let metadata = json!({"name": "load", "namespace": self.place.namespace});
        self.place.apply(&json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}))?;
        self.place.owner("batch/v1", "Job", "load")
    }

    fn job_ends(&self) -> Result<()> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now, "lastProbeTime": now});
        let conditions = [condition("SuccessCriteriaMet"), condition("Complete")];
        self.place.status(
            "job",
            "load",
            &json!({"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions}),
        )
    }

    async fn session(&self, name: &str, extra: Value) -> Result<()> {
        let mut spec = json!({"target": {"pods": ["orders-1"]}, "duration": "10s", "startDeadline": "5s",
            "requestedBy": {"username": self.me, "groups": ["system:masters"]}});
        extra.as_object().into_iter().flatten().for_each(|(k, v)| spec[k] = v.clone());
        create(&self.place.client, &object("ProfileSession", &self.place.namespace, name, &spec), false)
            .await?;
        Ok(())
    }

    async fn until(&self, name: &str, seconds: u64, test: impl Fn(&Value) -> bool) -> Result<Value> {
        self.place.until("ProfileSession", name, seconds, test).await
    }

    fn cancel(&self, name: &str) -> Result<String> {
        self.place.kubectl(&["patch", "psess", name, "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#])
    }
}

fn waiting(status: &Value, words: &str) -> bool {
    status["phase"] == "Pending"
        && status["reason"] == "WaitingForLoad"
        && status["message"].as_str().is_some_and(|m| m.contains(words))
}

/// Every answer of one life of a Job: not there, without a pod, running, ended; and what repeats while it
/// runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_waits_for_a_job_and_repeats_until_it_ends() -> Result<()> {
    let rig = Rig::new("load").await?;
    let load = json!({"jobRef": {"name": "load"}});
    rig.session("peak", json!({"startWhen": load, "repeat": {"untilLoadEnds": true, "interval": "10s"}}))
        .await?;
    rig.session("short", json!({"startWhen": {"jobRef": {"name": "other"}, "deadline": "10s"}})).await?;
    rig.session("gone", json!({"startWhen": load})).await?;
    rig.until("peak", 15, |s| waiting(s, "for the load (the Job load): the Job does not exist")).await?;
    rig.cancel("gone")?;
    rig.until("gone", 10, |s| s["phase"] == "Cancelled").await?;
    let late = rig.until("short", 30, |s| s["phase"] == "Failed").await?;
    ensure!(
        late["reason"] == "LoadNotStarted"
            && late["message"].as_str().is_some_and(|m| m.contains("raise spec.startWhen.deadline")),
        "{late:#}"
    );

    let owner = rig.job()?;
    rig.until("peak", 15, |s| waiting(s, "the Job has no pod yet")).await?;
    rig.place.pod("load-1", &json!({"job-name": "load"}), Some(&owner), |_| ())?;
    // The pod itself wakes the session, which would look again by itself only every 10 s.
    let started = rig.until("peak", 5, |s| s["startTime"].is_string()).await?;
    ensure!(started["targets"][0]["pod"] == "orders-1", "{started:#}");
    let series = rig.until("peak", 60, |s| s["repeat"]["made"].as_i64() >= Some(3)).await?;
    ensure!(series["phase"] == "Failed" && series["reason"] == "OptedOut", "{series:#}");
    let follow_up = rig.place.ours("ProfileSession").get("peak-2").await?;
    ensure!(follow_up.metadata.labels.unwrap_or_default()["fleetprof.dev/repeats"] == "peak");
    ensure!(follow_up.data["spec"]["requestedBy"]["username"] == rig.me.as_str(), "{:#}", follow_up.data);

    rig.place.status("pod", "load-1", &json!({"phase": "Succeeded"}))?;
    rig.job_ends()?;
    let ended = rig.until("peak", 45, |s| s["repeat"]["endTime"].is_string()).await?;
    ensure!(
        ended["repeat"]["reason"] == "LoadEnded"
            && ended["repeat"]["message"].as_str().is_some_and(|m| m.contains("has completed")),
        "{ended:#}"
    );
    ensure!(
        ended["repeat"]["made"] == ended["repeat"]["failed"]
            && ended["repeat"]["captures"][0]["name"] == "peak-2",
        "{ended:#}"
    );
    rig.place.kubectl(&["wait", "psess/peak", "--for=condition=RepeatsComplete", "--timeout=5s"])?;

    rig.session("after", json!({"startWhen": load})).await?;
    let after = rig.until("after", 10, |s| s["phase"] == "Failed").await?;
    ensure!(after["reason"] == "LoadEnded" && after["targets"].is_null(), "{after:#}");

    rig.place.kubectl(&["delete", "psess", "peak"])?;
    wait_for("what repeated it goes with it", Duration::from_secs(30), || async {
        let left = rig.place.ours("ProfileSession").list(&ListParams::default()).await?;
        Ok(left
            .items
            .iter()
            .all(|s| s.metadata.name.as_deref().is_some_and(|n| !n.starts_with("peak")))
            .then_some(()))
    })
    .await?;
    rig.place.forget()
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_the_first_session_cancels_what_repeats_it() -> Result<()> {
    let rig = Rig::new("cancel").await?;
    let load = json!({"podSelector": {"matchLabels": {"app": "orders"}}});
    rig.session("twice", json!({"repeat": {"count": 9, "interval": "10s"}, "startWhen": load, "startDeadline": "1m", "target": {"pods": ["worker-1"]}})).await?;
    rig.until("twice", 10, |s| s["phase"] == "Starting").await?;
    rig.place.end("worker-1")?;
    rig.until("twice", 20, |s| s["targets"][0]["reason"] == "PodGone" && s["endTime"].is_string()).await?;
    rig.place.pod("worker-1", &json!({"app": "worker"}), None, |_| ())?;
    rig.until("twice-2", 30, |s| s["phase"] == "Starting").await?;
    rig.cancel("twice")?;
    let second = rig.until("twice-2", 5, |s| s["endTime"].is_string()).await?;
    ensure!(second["phase"] == "Cancelled", "{second:#}");
    let ended = rig.until("twice", 30, |s| s["repeat"]["endTime"].is_string()).await?;
    ensure!(ended["repeat"]["reason"] == "Cancelled" && ended["repeat"]["made"] == 2, "{ended:#}");
    rig.place.forget()
}

/// A quota is full when the second capture is due: it is told, the others get their turn, and the series
/// ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_is_refused_ends_its_series_in_time() -> Result<()> {
    let rig = Rig::new("refused").await?;
    rig.session("thrice", json!({"repeat": {"count": 3, "interval": "30s"}})).await?;
    rig.until("thrice", 15, |s| s["startTime"].is_string()).await?;
    rig.place.fill_quota()?;
    let ended = rig.until("thrice", 120, |s| s["repeat"]["endTime"].is_string()).await?;
    let rows = &ended["repeat"]["captures"];
    ensure!(
        rows[0]["reason"] == "SessionRefused" && rows[1]["phase"] == "Failed" && ended["repeat"]["made"] == 3,
        "{ended:#}"
    );
    let events = rig.place.kubectl(&[
        "get",
        "events",
        "-o",
        "jsonpath={.items[?(@.reason=='SessionRefused')].message}",
    ])?;
    ensure!(
        events.contains("Failed to create a session for repeat 2") && events.contains("exceeded quota"),
        "{events}"
    );
    rig.place.forget()
}
