//! Does a person wait for a machine? Profile Now on containers that the schedule captures, on the full cluster
//! of the demo, in a namespace of its own with copies of the shop's worker. Runs one test at a time:
//! `--test-threads=1`.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_core::schedule::Plan;
use fleetprof_tests::people::resource;
use fleetprof_tests::shop::{Shop, kill_9, processes};
use fleetprof_tests::{run, wait_for};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

const SPACE: &str = "people";
/// Goal for creating a session until its target runs, and what a loaded machine is allowed.
const GOAL: Duration = Duration::from_secs(1);
const ALLOWED: Duration = Duration::from_secs(2);
/// Workloads with a sidecar; the last one's agent is attached.
const WITH_SIDECAR: [&str; 4] = ["one", "two", "three", "four"];
const ATTACHED: &str = "five";

struct People(Shop);

impl People {
    /// The namespace with its policies, and a copy of the shop's worker for each workload.
    async fn open() -> Result<Self> {
        let people = Self(Shop::open().await?);
        let policies = [("sidecar", "Sidecar"), ("attached", "Ephemeral")].map(|(name, mode)| {
            let spec = json!({"selector": {"matchLabels": {"agent": name}}, "agent": {"mode": mode},
                "schedule": {"every": "168h", "duration": "10s"}});
            (name, spec)
        });
        people.0.profiled_namespace(SPACE, &policies).await?;
        let sidecars = WITH_SIDECAR.map(|app| (app, "sidecar"));
        for (app, agent) in sidecars.into_iter().chain([(ATTACHED, "attached")]) {
            people.deploy(app, agent)?;
        }
        people.linked("sidecar", "Linked", WITH_SIDECAR.len()).await?;
        people.linked("attached", "AttachedOnDemand", 1).await?;
        Ok(people)
    }

    fn deploy(&self, app: &str, agent: &str) -> Result<()> {
        let labels = json!({"app.kubernetes.io/name": app, "agent": agent});
        self.0.deploy_worker((SPACE, app), &labels, 0.1, |_| ())
    }

    async fn linked(&self, policy: &str, reason: &str, wanted: usize) -> Result<()> {
        let policies: Api<DynamicObject> =
            Api::namespaced_with(self.0.client.clone(), SPACE, &resource("ProfilingPolicy"));
        wait_for(&format!("{wanted} workloads are {reason}"), Duration::from_secs(90), || async {
            let apps = policies.get(policy).await?.data["status"]["linkedApps"].clone();
            let linked = apps.as_array().into_iter().flatten().filter(|app| app["reason"] == reason).count();
            Ok((linked == wanted).then_some(()))
        })
        .await
    }

    /// By the API, since a program that is waited for would stop what is measured beside it.
    async fn patch(&self, policy: &str, spec: &Value) -> Result<()> {
        let policies: Api<DynamicObject> =
            Api::namespaced_with(self.0.client.clone(), SPACE, &resource("ProfilingPolicy"));
        let patch = Patch::Merge(json!({"spec": spec}));
        policies.patch(policy, &PatchParams::default(), &patch).await.context("the policy is not patched")?;
        Ok(())
    }

    /// A schedule by which the policy's next round comes in 5 to 20 s: when it comes depends on the interval.
    async fn soon(&self, policy: &str, duration: &str) -> Result<Value> {
        let policies: Api<DynamicObject> =
            Api::namespaced_with(self.0.client.clone(), SPACE, &resource("ProfilingPolicy"));
        let uid = policies.get(policy).await?.metadata.uid.context("a policy has a uid")?;
        let now = Timestamp::now();
        let schedules = (60..3600).map(|every| json!({"every": format!("{every}s"), "duration": duration}));
        for schedule in schedules {
            let (_, next) = Plan::read(&uid, &serde_json::from_value(schedule.clone())?)
                .map_err(|invalid| anyhow::anyhow!("{invalid:?}"))?
                .ticks(now);
            let seconds = next.map(|tick| tick.at.duration_since(now).as_secs());
            if seconds.is_some_and(|seconds| (5..20).contains(&seconds)) {
                return Ok(schedule);
            }
        }
        anyhow::bail!("no interval of up to an hour has a round in 5 to 20 s")
    }

    async fn scheduled(&self, policy: &str) -> Result<Vec<(String, Value)>> {
        let sessions: Api<DynamicObject> =
            Api::namespaced_with(self.0.client.clone(), SPACE, &resource("ProfileSession"));
        let all = sessions.list(&ListParams::default()).await?;
        let is_round = |s: &DynamicObject| {
            s.data["spec"]["trigger"] == "Schedule" && s.data["spec"]["policyRef"]["name"] == policy
        };
        let round = |s: DynamicObject| (s.metadata.name.unwrap_or_default(), s.data["status"].clone());
        Ok(all.items.into_iter().filter(is_round).map(round).collect())
    }

    async fn start_round(&self, policy: &str, workload: Option<&str>, duration: &str) -> Result<String> {
        self.0.start_round((SPACE, policy), workload, duration).await
    }

    async fn press(&self, app: &str) -> Result<String> {
        let policy = if app == ATTACHED { "attached" } else { "sidecar" };
        let target = json!({"workload": {"kind": "Deployment", "name": app}});
        let spec = json!({"policyRef": {"name": policy}, "target": target, "duration": "10s", "startDeadline": "3m"});
        self.0.profile(SPACE, spec).await
    }

    /// Presses Profile Now; the session, and how long until it was seen running.
    async fn pressed(&self, app: &str) -> Result<(String, Duration)> {
        let began = Instant::now();
        let name = self.press(app).await?;
        while began.elapsed() < Duration::from_secs(30) {
            let status = self.0.status(SPACE, &name).await?;
            if status["phase"] == "Running" {
                return Ok((name, began.elapsed()));
            }
            ensure!(status["endTime"].is_null(), "{app} did not run: {status:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("{app} does not run: {:#}", self.0.status(SPACE, &name).await?)
    }

    async fn succeeded(&self, name: &str) -> Result<Value> {
        let status = self.0.ended(SPACE, name, 120).await?;
        ensure!(status["phase"] == "Succeeded" && status["samples"].as_i64() > Some(0), "{status:#}");
        Ok(status)
    }
}

fn time(value: &Value) -> Result<Timestamp> {
    value.as_str().with_context(|| format!("{value} is not a time"))?.parse().context("no time")
}

fn running(status: &Value) -> bool {
    status["phase"] == "Running"
}

/// That a target gave way with the data it had.
fn yielded(status: &Value, to: &str) -> Result<()> {
    let target = &status["targets"][0];
    let is_kept = target["phase"] == "Succeeded" && target["samples"].as_i64() > Some(0);
    ensure!(target["reason"] == "Yielded" && is_kept, "{status:#}");
    ensure!(target["message"].as_str().is_some_and(|m| m.contains(to)), "{status:#}");
    ensure!(status["phase"] == "Succeeded", "{status:#}");
    Ok(())
}

#[tokio::test]
async fn people_do_not_wait_for_machines() -> Result<()> {
    let people = People::open().await?;
    let outcome = async {
        let rounds =
            ["sidecar", "attached"].map(|policy| a_scheduled_capture_yields_at_once(&people, policy));
        futures::future::try_join_all(rounds).await?;
        the_leader_is_killed_between_the_yield_and_the_start(&people).await?;
        people.0.node_budget(Some(1))?;
        nobody_is_skipped_where_the_node_has_one_slot(&people).await
    }
    .await;
    people.0.node_budget(None)?;
    people.0.kubectl(&["delete", "namespace", SPACE, "--wait=false"])?;
    outcome
}

/// The next round of a policy captures a container when somebody presses.
async fn a_scheduled_capture_yields_at_once(people: &People, policy: &str) -> Result<()> {
    let schedule = people.soon(policy, "45s").await?;
    people.patch(policy, &json!({"schedule": schedule, "sampling": {"maxTargets": 1}})).await?;
    let look = || async { Ok(people.scheduled(policy).await?.into_iter().find(|(_, s)| running(s))) };
    let (round, status) = wait_for("a round captures", Duration::from_secs(110), look).await?;
    let rarely = json!({"schedule": {"every": "168h", "duration": "10s"}, "sampling": null});
    people.patch(policy, &rarely).await?;
    let app = status["targets"][0]["workload"].as_str().unwrap_or_default();
    let app = app.trim_start_matches("Deployment/");
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(running(&people.0.status(SPACE, &round).await?), "the round of {app} captures");
    let (name, took) = people.pressed(app).await?;
    eprintln!(
        "created → Running in {took:.3?} while a round captures the container, agent: {policy}; goal {GOAL:?}"
    );
    ensure!(took <= ALLOWED, "Profile Now of {app} took {took:?}");
    yielded(&people.0.ended(SPACE, &round, 60).await?, &name)?;
    people.succeeded(&name).await?;
    Ok(())
}

/// The agent is stopped for a moment, so that the person's capture cannot start before the leader is gone.
async fn the_leader_is_killed_between_the_yield_and_the_start(people: &People) -> Result<()> {
    let shop = &people.0;
    let round = people.start_round("sidecar", Some("one"), "45s").await?;
    shop.until(SPACE, &round, 30, running).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (_, pod) = shop.pod(SPACE, "one").await?;
    let agents = processes(&pod, &["fleetprof-agent", "sidecar"]);
    let agent = agents.first().context("one has an agent on this node")?.to_string();
    run("kill", &["-STOP", &agent])?;
    let killed = async {
        let name = people.press("one").await?;
        shop.until(SPACE, &round, 10, |s| s["targets"][0]["reason"] == "Yielded").await?;
        let status = shop.status(SPACE, &name).await?;
        ensure!(!running(&status), "the person's capture cannot have started: {status:#}");
        let leader = processes(&leader(shop)?, &["fleetprof-operator", "run"]);
        kill_9(*leader.first().context("the leader runs on this node")?)?;
        Ok(name)
    }
    .await;
    run("kill", &["-CONT", &agent])?;
    let (name, began) = (killed?, Instant::now());
    shop.until(SPACE, &name, 120, |s| s["phase"] == "Running" || s["endTime"].is_string()).await?;
    eprintln!("the leader was killed between the yield and the start: Running {:.1?} later", began.elapsed());
    let (session, scheduled) = (people.succeeded(&name).await?, shop.ended(SPACE, &round, 60).await?);
    yielded(&scheduled, &name)?;
    let (end, start) =
        (time(&scheduled["targets"][0]["endTime"])?, time(&session["targets"][0]["startTime"])?);
    ensure!(end <= start, "the round's capture ended at {end}, the person's started at {start}");
    ensure!(scheduled["counts"]["desired"] == 1 && people.scheduled("sidecar").await?.len() <= 3);
    let again = processes(&pod, &["fleetprof-worker"]);
    ensure!(again.is_empty(), "the container is captured once more by {again:?}");
    Ok(())
}

/// Uid of the pod that leads.
fn leader(shop: &Shop) -> Result<String> {
    shop.kubectl(&["-n", "fleetprof", "get", "pod", &shop.leader()?, "-o", "jsonpath={.metadata.uid}"])
}

/// Rounds of five workloads share one slot; people have their own.
async fn nobody_is_skipped_where_the_node_has_one_slot(people: &People) -> Result<()> {
    people.linked("sidecar", "Linked", WITH_SIDECAR.len()).await?;
    let mut rounds = Vec::new();
    for policy in ["sidecar", "attached"] {
        rounds.push(people.start_round(policy, None, "10s").await?);
    }
    people.0.until(SPACE, &rounds[0], 30, running).await?;
    let waits = people.0.status(SPACE, &rounds[0]).await?["targets"].clone();
    let busy = waits.as_array().into_iter().flatten().filter(|t| t["reason"] == "NodeBusy").count();
    ensure!(busy == WITH_SIDECAR.len() - 1, "one slot for {} targets: {waits:#}", WITH_SIDECAR.len());
    let apps: Vec<&str> = WITH_SIDECAR.into_iter().chain([ATTACHED]).collect();
    let pressed = futures::future::try_join_all(apps.iter().map(|app| people.pressed(app))).await?;
    let slowest = pressed.iter().map(|(_, took)| *took).max().unwrap_or_default();
    eprintln!(
        "five sessions created at once on a node with one slot for machines: Running within {slowest:.3?}"
    );
    for (name, _) in &pressed {
        people.succeeded(name).await?;
    }
    for round in &rounds {
        let status = people.0.ended(SPACE, round, 150).await?;
        let lost = |t: &&Value| t["phase"] != "Succeeded" && t["reason"] != "Yielded";
        let lost: Vec<&Value> = status["targets"].as_array().into_iter().flatten().filter(lost).collect();
        ensure!(lost.is_empty(), "{lost:#?}");
    }
    Ok(())
}
