//! Does a session wait for a load test, and do others repeat it while the load runs? On a real API server, whose pods are moved
//! by the test as a kubelet would; the operator runs with the rights that the chart gives it.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{create, object, resource};
use fleetprof_tests::{admin, api_server, chart, wait_for};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};

struct Rig {
    client: Client,
    kubeconfig: PathBuf,
    namespace: String,
    me: String,
    _operator: Operator,
}

impl Rig {
    async fn new(name: &str) -> Result<Self> {
        let kubeconfig = api_server()?;
        let operator = Operator::start(&kubeconfig, &[], &[]).await?;
        let namespace = format!("{name}-{}", std::process::id());
        let rig = Self {
            client: admin(&kubeconfig).await?,
            me: chart::kubectl(&kubeconfig, &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"], None)?,
            kubeconfig,
            namespace,
            _operator: operator,
        };
        rig.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": rig.namespace}}))?;
        wait_for("the namespace has its service account", Duration::from_secs(20), || async {
            rig.kubectl(&["get", "serviceaccount", "default"], None).map(Some)
        })
        .await?;
        // A capture of a pod that has opted out ends at once, which is all that is needed of it here.
        rig.pod("orders-1", json!({"app": "orders", "fleetprof.dev/profiling": "disabled"}), None)?;
        rig.pod("worker-1", json!({"app": "worker"}), None)?;
        Ok(rig)
    }

    fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        chart::kubectl(&self.kubeconfig, &[&["-n", &self.namespace], arguments].concat(), input)
    }

    fn apply(&self, object: Value) -> Result<()> {
        chart::kubectl(&self.kubeconfig, &["apply", "--server-side", "-f", "-"], Some(&object.to_string())).map(drop)
    }

    /// A pod that is running and ready.
    fn pod(&self, name: &str, labels: Value, owner: Option<Value>) -> Result<()> {
        self.apply(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels, "ownerReferences": owner.into_iter().collect::<Vec<_>>()},
            "spec": {"nodeName": "nowhere", "containers": [{"name": "app", "image": "app:1"}]}}))?;
        self.status("pod", name, json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}))
    }

    fn status(&self, kind: &str, name: &str, status: Value) -> Result<()> {
        let patch = json!({"status": status}).to_string();
        self.kubectl(&["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch], None).map(drop)
    }

    /// A Job without a controller: its pods and its end come from the test.
    fn job(&self) -> Result<Value> {
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "load", "image": "load:1"}]}});
        self.apply(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "load", "namespace": self.namespace},
            "spec": {"template": template}}))?;
        let uid = self.kubectl(&["get", "job", "load", "-o", "jsonpath={.metadata.uid}"], None)?;
        Ok(json!({"apiVersion": "batch/v1", "kind": "Job", "name": "load", "uid": uid, "controller": true}))
    }

    fn job_ends(&self) -> Result<()> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = |type_: &str| json!({"type": type_, "status": "True", "lastTransitionTime": now, "lastProbeTime": now});
        self.status("job", "load", json!({"startTime": now, "completionTime": now, "succeeded": 1, "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}))
    }

    fn sessions(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource("ProfileSession"))
    }

    async fn session(&self, name: &str, extra: Value) -> Result<()> {
        let mut spec = json!({"target": {"pods": ["orders-1"]}, "duration": "10s", "startDeadline": "5s",
            "requestedBy": {"username": self.me, "groups": ["system:masters"]}});
        extra.as_object().into_iter().flatten().for_each(|(k, v)| spec[k] = v.clone());
        create(&self.client, &object("ProfileSession", &self.namespace, name, &spec), false).await?;
        Ok(())
    }

    async fn until(&self, name: &str, seconds: u64, test: impl Fn(&Value) -> bool) -> Result<Value> {
        let look = || async { Ok(self.sessions().get(name).await?.data["status"].clone()) };
        match wait_for(name, Duration::from_secs(seconds), || async { look().await.map(|s: Value| test(&s).then_some(s)) }).await {
            Ok(status) => Ok(status),
            Err(error) => bail!("{error:#}: {:#}", look().await?),
        }
    }

    async fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> =
            self.sessions().list(&ListParams::default()).await?.items.into_iter().filter_map(|s| s.metadata.name).collect();
        names.sort();
        Ok(names)
    }

    fn forget(&self) -> Result<()> {
        chart::kubectl(&self.kubeconfig, &["delete", "namespace", &self.namespace, "--wait=false"], None).map(drop)
    }
}

fn waiting(status: &Value, words: &str) -> bool {
    status["phase"] == "Pending" && status["reason"] == "WaitingForLoad" && status["message"].as_str().is_some_and(|m| m.contains(words))
}

/// Every answer of one life of a Job: not there, without a pod, running, ended; and what repeats while it runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_waits_for_a_job_and_repeats_until_it_ends() -> Result<()> {
    let rig = Rig::new("load").await?;
    let load = json!({"jobRef": {"name": "load"}});
    rig.session("peak", json!({"startWhen": load, "repeat": {"untilLoadEnds": true, "interval": "10s"}})).await?;
    rig.session("short", json!({"startWhen": {"jobRef": {"name": "other"}, "deadline": "10s"}})).await?;
    rig.session("gone", json!({"startWhen": load})).await?;
    rig.until("peak", 15, |s| waiting(s, "for the load, the Job load: there is no such Job")).await?;
    rig.kubectl(&["patch", "psess", "gone", "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#], None)?;
    rig.until("gone", 10, |s| s["phase"] == "Cancelled").await?;
    let late = rig.until("short", 30, |s| s["phase"] == "Failed").await?;
    ensure!(
        late["reason"] == "LoadNotStarted" && late["message"].as_str().is_some_and(|m| m.contains("raise spec.startWhen.deadline")),
        "{late:#}"
    );

    let owner = rig.job()?;
    rig.until("peak", 15, |s| waiting(s, "the Job has no pod yet")).await?;
    rig.pod("load-1", json!({"job-name": "load"}), Some(owner))?;
    // The pod itself wakes the session, which would look again by itself only every 10 s.
    let started = rig.until("peak", 5, |s| s["startTime"].is_string()).await?;
    ensure!(started["targets"][0]["pod"] == "orders-1", "{started:#}");
    let series = rig.until("peak", 60, |s| s["repeat"]["made"].as_i64() >= Some(3)).await?;
    ensure!(series["phase"] == "Failed" && series["reason"] == "OptedOut", "{series:#}");
    let follow_up = rig.sessions().get("peak-2").await?;
    ensure!(follow_up.metadata.labels.unwrap_or_default()["fleetprof.dev/repeats"] == "peak");
    ensure!(follow_up.data["spec"]["requestedBy"]["username"] == rig.me.as_str(), "{:#}", follow_up.data);

    rig.status("pod", "load-1", json!({"phase": "Succeeded"}))?;
    rig.job_ends()?;
    let ended = rig.until("peak", 45, |s| s["repeat"]["endTime"].is_string()).await?;
    ensure!(
        ended["repeat"]["reason"] == "LoadEnded" && ended["repeat"]["message"].as_str().is_some_and(|m| m.contains("has completed")),
        "{ended:#}"
    );
    ensure!(ended["repeat"]["made"] == ended["repeat"]["failed"] && ended["repeat"]["captures"][0]["name"] == "peak-2", "{ended:#}");
    rig.kubectl(&["wait", "psess/peak", "--for=condition=RepeatsComplete", "--timeout=5s"], None)?;

    rig.session("after", json!({"startWhen": load})).await?;
    let after = rig.until("after", 10, |s| s["phase"] == "Failed").await?;
    ensure!(after["reason"] == "LoadEnded" && after["targets"].is_null(), "{after:#}");

    rig.kubectl(&["delete", "psess", "peak"], None)?;
    wait_for("what repeated it goes with it", Duration::from_secs(30), || async {
        Ok(rig.names().await?.iter().all(|n| !n.starts_with("peak")).then_some(()))
    })
    .await?;
    rig.forget()
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_the_first_session_cancels_what_repeats_it() -> Result<()> {
    let rig = Rig::new("cancel").await?;
    let load = json!({"podSelector": {"matchLabels": {"app": "orders"}}});
    rig.session("twice", json!({"repeat": {"count": 9, "interval": "10s"}, "startWhen": load, "target": {"pods": ["worker-1"]}})).await?;
    rig.until("twice", 10, |s| s["phase"] == "Starting").await?;
    rig.kubectl(&["delete", "pod", "worker-1", "--force", "--grace-period=0"], None)?;
    rig.until("twice", 20, |s| s["targets"][0]["reason"] == "PodGone" && s["endTime"].is_string()).await?;
    rig.pod("worker-1", json!({"app": "worker"}), None)?;
    rig.until("twice-2", 30, |s| s["phase"] == "Starting").await?;
    rig.kubectl(&["patch", "psess", "twice", "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#], None)?;
    let second = rig.until("twice-2", 5, |s| s["endTime"].is_string()).await?;
    ensure!(second["phase"] == "Cancelled", "{second:#}");
    let ended = rig.until("twice", 30, |s| s["repeat"]["endTime"].is_string()).await?;
    ensure!(ended["repeat"]["reason"] == "Cancelled" && ended["repeat"]["made"] == 2, "{ended:#}");
    rig.forget()
}
