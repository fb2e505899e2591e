//! Do an alert and a rollout start one session each, whoever leads? On a real API server, whose pods are
//! moved by the test as a kubelet would; the operator runs with the rights that the chart gives it. CPU,
//! Prometheus and Alertmanager: tests/triggers.sh.
#![allow(missing_docs)]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::{self, Operator};
use fleetprof_tests::people::{cluster_policy, object};
use fleetprof_tests::{api_server, chart, run, wait_for};
use kube::api::ListParams;
use serde_json::{Value, json};

struct Receiver {
    port: u16,
    token: String,
    folder: std::path::PathBuf,
}

impl Receiver {
    /// The credentials as the operator made them.
    fn new(place: &Place, port: u16) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("fleetprof-triggers-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let secret = |name: &str, key: &str| {
            let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
            chart::kubectl(
                &place.kubeconfig,
                &["-n", "fleetprof", "get", "secret", name, "-o", &template],
                None,
            )
        };
        std::fs::write(folder.join("ca.crt"), secret("fleetprof-tls", "ca.crt")?)?;
        Ok(Self { port, token: secret("fleetprof-alerts", "token")?, folder })
    }

    /// The code of the answer to a notification.
    fn post(&self, token: &str, body: &Value) -> Result<String> {
        let file = self.folder.join("body.json");
        std::fs::write(&file, body.to_string())?;
        let host = "fleetprof-alerts.fleetprof.svc";
        let (resolve, ca) = (format!("{host}:{}:127.0.0.1", self.port), self.folder.join("ca.crt"));
        let (data, authorization) =
            (format!("@{}", file.display()), format!("Authorization: Bearer {token}"));
        let url = format!("https://{host}:{}/v1/alerts", self.port);
        let ca = ca.to_string_lossy();
        run(
            "curl",
            &[
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--cacert",
                &ca,
                "--resolve",
                &resolve,
                "-H",
                &authorization,
                "--data-binary",
                &data,
                &url,
            ],
        )
    }
}

/// An operator that receives alerts, and its port: one that was used before, else a free one.
async fn with_alerts(kubeconfig: &Path, port: Option<u16>) -> Result<(Operator, u16)> {
    let port = match port {
        Some(port) => port,
        None => operator::port()?,
    };
    let flags = ["--alerts-secret", "fleetprof-alerts", "--alerts-port", &port.to_string()];
    let operator = Operator::start(kubeconfig, &["--set", "alerts.enabled=true"], &flags).await?;
    Ok((operator, port))
}

/// The policy `all` of the place, which has an alert trigger, serves one pod.
async fn waits_for_alerts(place: &Place, matcher: &str) -> Result<()> {
    let triggers = json!({"alerts": [{"matchers": [matcher], "duration": "10s", "cooldown": "1h"}]});
    let spec = json!({"selector": {}, "agent": {"mode": "Ephemeral"}, "schedule": {"every": "168h", "duration": "10s"}, "triggers": triggers});
    place.apply(&object("ProfilingPolicy", &place.namespace, "all", &spec))?;
    place.until("ProfilingPolicy", "all", 20, |s| s["linkedPodCount"] == 1).await.map(drop)
}

fn alert(place: &Place, starts_at: &str) -> Value {
    let fingerprint: String = place.namespace.bytes().map(|b| format!("{b:02x}")).collect();
    json!({"status": "firing", "startsAt": starts_at, "fingerprint": fingerprint, "annotations": {},
        "labels": {"alertname": "Slow", "namespace": place.namespace, "deployment": "web"}})
}

fn minutes_ago(minutes: i64) -> String {
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn notification(place: &Place, starts_at: &str) -> Value {
    json!({"version": "4", "alerts": [alert(place, starts_at)]})
}

/// A pod of a revision of the Deployment `web`, ready since now.
fn revision(place: &Place, label: &str) -> Result<()> {
    revision_of(place, "pod-template-hash", "web", label)
}

/// A pod of a revision of `app`, ready since now; the key of the label tells what owns the ReplicaSet.
fn revision_of(place: &Place, key: &str, app: &str, label: &str) -> Result<()> {
    let labels = json!({"app": app, key: label});
    let template =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    let name = format!("{app}-{label}");
    place.apply(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": place.namespace},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}}))?;
    let owner = place.owner("apps/v1", "ReplicaSet", &name)?;
    let pod = format!("{name}-1");
    place.pod(&pod, &labels, Some(&owner), |_| ())?;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    place.status("pod", &pod, &json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]}))
}

/// A Job that the CronJob `tick` owns, with a pod.
fn run_of_tick(place: &Place, name: &str) -> Result<()> {
    let template =
        json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "app:1"}]}});
    let cron_job = place.owner("batch/v1", "CronJob", "tick")?;
    let metadata = json!({"name": name, "namespace": place.namespace, "ownerReferences": [cron_job]});
    place.apply(&json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}))?;
    let owner = place.owner("batch/v1", "Job", name)?;
    place.pod(&format!("{name}-x"), &json!({"app": "tick"}), Some(&owner), |_| ())
}

async fn sessions(place: &Place, trigger: &str) -> Result<Vec<Value>> {
    let all = place.ours("ProfileSession").list(&ListParams::default()).await?;
    let of = all.items.into_iter().filter(|s| s.data["spec"]["trigger"] == trigger);
    of.map(|s| serde_json::to_value(s).context("a session is not valid JSON")).collect()
}

async fn one(place: &Place, trigger: &str) -> Result<Value> {
    wait_for(trigger, Duration::from_secs(30), || async { Ok(sessions(place, trigger).await?.pop()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_and_a_rollout_start_one_session_each_whoever_leads() -> Result<()> {
    let kubeconfig = api_server()?;
    let (operator, port) = with_alerts(&kubeconfig, None).await?;
    let place = Place::new(&kubeconfig, "triggers").await?;
    revision(&place, "old")?;
    waits_for_alerts(&place, "alertname=~\"Sl.w\"").await?;

    let receiver = Receiver::new(&place, port)?;
    let since = minutes_ago(60);
    let first = notification(&place, &since);
    ensure!(receiver.post("0123456789abcdef0123456789abcdef", &first)? == "401");
    ensure!(receiver.post(&receiver.token, &json!({"version": "3"}))? == "400");
    ensure!(sessions(&place, "Alert").await?.is_empty(), "a refused notification started a session");
    ensure!(receiver.post(&receiver.token, &first)? == "200");
    let session = one(&place, "Alert").await?;
    let cause = format!(
        "an alert is firing since {since}: alertname=Slow, deployment=web, namespace={}",
        place.namespace
    );
    ensure!(
        session["spec"]["cause"] == cause && session["spec"]["target"]["workload"]["name"] == "web",
        "{session:#}"
    );

    drop(operator);
    let (_operator, _) = with_alerts(&kubeconfig, Some(port)).await?;
    ensure!(receiver.post(&receiver.token, &first)? == "200", "repeated to the next leader");
    ensure!(
        receiver.post(&receiver.token, &notification(&place, &minutes_ago(30)))? == "200",
        "again, within the cooldown"
    );
    ensure!(sessions(&place, "Alert").await?.len() == 1, "the next leader forgot the cooldown");

    // Two minutes lie between triggers of one workload, so its session goes, but not before the alert that
    // waits for its cooldown is asked for no more. The present leader did not create it.
    let rollout = r#"{"spec":{"triggers":{"alerts":null,"rollout":{"delay":"2s","duration":"10s"}}}}"#;
    place.kubectl(&["patch", "ppol", "all", "--type=merge", "-p", rollout])?;
    place.until("ProfilingPolicy", "all", 20, |s| s["observedGeneration"] == 2).await?;
    place.kubectl(&["delete", "psess", "--all"])?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(
        sessions(&place, "Rollout").await?.is_empty(),
        "the revision that was there before the policy was profiled"
    );
    revision(&place, "new")?;
    let session = one(&place, "Rollout").await?;
    ensure!(
        session["metadata"]["labels"]["fleetprof.dev/revision"] == "new"
            && session["spec"]["labels"]["revision"] == "new",
        "{session:#}"
    );
    ensure!(session["spec"]["target"]["pods"] == json!(["web-new-1"]), "{session:#}");
    place.forget()
}

/// Of two namespaces under one policy the first in their order takes no session: the second has its own, and
/// the policy says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_takes_no_session_keeps_no_other_from_having_its_own() -> Result<()> {
    let kubeconfig = api_server()?;
    let (_operator, port) = with_alerts(&kubeconfig, None).await?;
    let (full, open) = (Place::new(&kubeconfig, "a-full").await?, Place::new(&kubeconfig, "b-open").await?);
    let name = full.namespace.clone();
    for place in [&full, &open] {
        place.kubectl(&["label", "namespace", &place.namespace, &format!("profiled={name}")])?;
        revision(place, "one")?;
    }
    full.fill_quota()?;
    let triggers = json!({"alerts": [{"matchers": ["alertname=Slow"], "duration": "10s", "cooldown": "1h"}]});
    let spec = json!({"selector": {}, "namespaceSelector": {"matchLabels": {"profiled": name}}, "agent": {"mode": "Ephemeral"},
        "schedule": {"every": "168h", "duration": "10s"}, "triggers": triggers});
    full.apply(&cluster_policy(&name, &spec))?;
    let status = |test: fn(&Value) -> bool| {
        let (full, name) = (&full, &name);
        wait_for("the policy's status", Duration::from_secs(30), move || async move {
            let status: Value =
                serde_json::from_str(&full.kubectl(&["get", "cppol", name, "-o", "jsonpath={.status}"])?)?;
            Ok(test(&status).then_some(()))
        })
    };
    status(|s| s["linkedPodCount"] == 2).await?;
    let receiver = Receiver::new(&full, port)?;
    let starts_at = &minutes_ago(60);
    let told = json!({"version": "4", "alerts": [alert(&full, starts_at), alert(&open, starts_at)]});
    ensure!(receiver.post(&receiver.token, &told)? == "200", "Alertmanager is asked for what cannot succeed");
    one(&open, "Alert").await?;
    ensure!(sessions(&full, "Alert").await?.is_empty(), "a session over the quota");
    // The policy is still reconciled while the rejected firing goes on.
    full.kubectl(&["patch", "cppol", &name, "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#])?;
    status(|s| s["observedGeneration"] == 2).await?;
    let events = full.kubectl(&[
        "get",
        "events",
        "-A",
        "--field-selector",
        &format!("involvedObject.name={name},reason=SessionRefused"),
        "-o",
        "jsonpath={.items[*].message}",
    ])?;
    ensure!(events.contains("exceeded quota") && events.contains(&full.namespace), "{events}");
    full.kubectl(&["delete", "cppol", &name])?;
    full.forget()?;
    open.forget()
}

/// Alertmanager repeats what fires, and nobody reads its log: what leads nowhere is an event on the operator,
/// one for each cause, and a count.
#[tokio::test(flavor = "multi_thread")]
async fn alerts_that_lead_nowhere_are_told_to_the_administrator() -> Result<()> {
    let kubeconfig = api_server()?;
    let (operator, port) = with_alerts(&kubeconfig, None).await?;
    let place = Place::new(&kubeconfig, "nowhere").await?;
    let before = place.events("fleetprof-operator", "AlertUnmatched")?.len();
    revision(&place, "old")?;
    waits_for_alerts(&place, "alertname=Slow").await?;

    let receiver = Receiver::new(&place, port)?;
    let alert = |of: &str, labels: Value| {
        let fingerprint: String = of.bytes().map(|b| format!("{b:02x}")).collect();
        json!({"status": "firing", "startsAt": minutes_ago(5), "fingerprint": fingerprint, "annotations": {}, "labels": labels})
    };
    let namespace = &place.namespace;
    let cases = [
        ("no_namespace", json!({"alertname": "Slow"}), "has no label for a namespace"),
        (
            "no_policy",
            json!({"alertname": "Slow", "namespace": "kube-public"}),
            "no policy has alert triggers",
        ),
        ("no_matcher", json!({"alertname": "Full", "namespace": namespace}), "matches no alert trigger"),
        (
            "no_pod",
            json!({"alertname": "Slow", "namespace": namespace, "deployment": "gone"}),
            "name no linked pod",
        ),
    ];
    for (outcome, labels, words) in cases {
        let told = json!({"version": "4", "alerts": [alert(outcome, labels)]});
        for n in 1..=2 {
            ensure!(
                receiver.post(&receiver.token, &told)? == "200",
                "{outcome}: Alertmanager is asked to retry"
            );
            let counted = operator.counts(&format!("fleetprof_alerts_total{{outcome=\"{outcome}\"}}"))?;
            ensure!(counted == n, "{outcome}: {counted} instead of {n}");
        }
        wait_for(words, Duration::from_secs(5), || async {
            let events = place.events("fleetprof-operator", "AlertUnmatched")?;
            Ok(events.iter().any(|note| note.contains(words)).then_some(()))
        })
        .await?;
    }
    let events = place.events("fleetprof-operator", "AlertUnmatched")?;
    ensure!(events.len() == before + 4, "one for each cause, however often it comes: {events:#?}");
    ensure!(sessions(&place, "Alert").await?.is_empty(), "an alert that leads nowhere started a session");
    place.forget()
}

/// Runs that the CronJob made at their minute, and one that a person started from it; a policy that is older
/// than the Argo Rollout's revision.
#[tokio::test(flavor = "multi_thread")]
async fn runs_of_a_cron_job_are_one_workload_and_a_rollout_of_argo_has_revisions() -> Result<()> {
    let kubeconfig = api_server()?;
    let _operator = Operator::start(&kubeconfig, &[], &[]).await?;
    let place = Place::new(&kubeconfig, "owners").await?;
    let spec = json!({"selector": {}, "agent": {"mode": "Ephemeral"}, "schedule": {"every": "168h", "duration": "10s"},
        "triggers": {"rollout": {"delay": "2s", "duration": "10s"}}});
    place.apply(&object("ProfilingPolicy", &place.namespace, "all", &spec))?;
    let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "app:1"}]}}}});
    let metadata = json!({"name": "tick", "namespace": place.namespace});
    place.apply(&json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata,
        "spec": {"schedule": "* * * * *", "jobTemplate": template}}))?;
    let minute = jiff::Timestamp::now().as_second() / 60;
    for run in [format!("tick-{minute}"), format!("tick-{}", minute - 1), "by-hand".to_owned()] {
        run_of_tick(&place, &run)?;
    }
    // The policy is made in an earlier second than the revision.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    revision_of(&place, "rollouts-pod-template-hash", "pay", "66")?;
    let rows = json!([["CronJob", "tick", 3], ["Rollout", "pay", 1]]);
    wait_for("one row a workload", Duration::from_secs(30), || async {
        let apps = place.kubectl(&["get", "ppol", "all", "-o", "jsonpath={.status.linkedApps}"])?;
        let apps: Vec<Value> = serde_json::from_str(&apps).unwrap_or_default();
        let found: Vec<Value> = apps.iter().map(|a| json!([a["kind"], a["name"], a["pods"]])).collect();
        Ok((json!(found) == rows).then_some(()))
    })
    .await?;
    let session = one(&place, "Rollout").await?;
    ensure!(
        session["metadata"]["annotations"]["fleetprof.dev/workload"] == "Rollout/pay"
            && session["spec"]["labels"]["revision"] == "66",
        "{session:#}"
    );
    let me = place.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    for (kind, name, pods) in [("CronJob", "tick", 3), ("Rollout", "pay", 1)] {
        let spec = json!({"target": {"workload": {"kind": kind, "name": name}}, "duration": "10s", "startDeadline": "5s",
            "requestedBy": {"username": me, "groups": ["system:masters"]}});
        let session = format!("of-{name}");
        place.apply(&object("ProfileSession", &place.namespace, &session, &spec))?;
        let workload = format!("{kind}/{name}");
        let all_of_it = |s: &Value| {
            s["targets"].as_array().is_some_and(|targets| {
                targets.len() == pods && targets.iter().all(|target| target["workload"] == workload.as_str())
            })
        };
        place.until("ProfileSession", &session, 20, all_of_it).await?;
    }
    place.forget()
}
