//! Are workloads whose pods lack the agent restarted one after another, where an admin allows it and no
//! budget forbids it? On a real API server; the test moves the workloads as their controllers would, the
//! operator has the rights of the chart.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{create, object};
use fleetprof_tests::{api_server, wait_for};
use serde_json::{Value, json};

const POLICY: &str = "ProfilingPolicy";

struct Apps(Place);

impl Apps {
    /// A Deployment of one pod without an agent, settled.
    fn deploy(&self, name: &str) -> Result<()> {
        let labels = json!({"app": name, "pod-template-hash": "old"});
        let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}});
        let metadata = |name: &str, owners: &[Value]| json!({"name": name, "namespace": self.0.namespace, "ownerReferences": owners});
        self.0.apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(name, &[]), "spec": spec}))?;
        for hash in ["old", "new"] {
            let set = format!("{name}-{hash}");
            let owner = self.0.owner("apps/v1", "Deployment", name)?;
            self.0.apply(&json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata(&set, &[owner]), "spec": spec}))?;
        }
        self.0.pod(
            &format!("{name}-old-1"),
            &labels,
            Some(&self.0.owner("apps/v1", "ReplicaSet", &format!("{name}-old"))?),
            // Without a known user its pods get no sidecar, and no restart.
            |pod| pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000}),
        )?;
        self.settle(name)
    }

    /// The Deployment's controller has seen its newest spec, and its pod is ready.
    fn settle(&self, name: &str) -> Result<()> {
        let generation: i64 =
            self.0.kubectl(&["get", "deployment", name, "-o", "jsonpath={.metadata.generation}"])?.parse()?;
        let one = json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1});
        self.0.status("deployment", name, &one)
    }

    /// The new pod, with the sidecar that the webhook would have put in, takes the place of the old one.
    fn roll_out(&self, name: &str) -> Result<()> {
        let labels = json!({"app": name, "pod-template-hash": "new"});
        let owner = self.0.owner("apps/v1", "ReplicaSet", &format!("{name}-new"))?;
        self.0.pod(&format!("{name}-new-1"), &labels, Some(&owner), |pod| {
            pod["spec"]["initContainers"] =
                json!([{"name": "fleetprof-agent", "image": "agent:1", "restartPolicy": "Always"}]);
        })?;
        self.0.end(&format!("{name}-old-1"))?;
        self.settle(name)
    }

    fn restarted(&self, name: &str) -> Result<bool> {
        let template = self.0.kubectl(&[
            "get",
            "deployment",
            name,
            "-o",
            "jsonpath={.spec.template.metadata.annotations}",
        ])?;
        Ok(template.contains("fleetprof.dev/restarted-for") && template.contains(env!("CARGO_PKG_VERSION")))
    }

    async fn condition(&self, seconds: u64, status: &str, reason: &str, words: &str) -> Result<Value> {
        self.0
            .until(POLICY, "all", seconds, |s| {
                s["conditions"].as_array().into_iter().flatten().any(|c| {
                    c["type"] == "Restarting"
                        && c["status"] == status
                        && c["reason"] == reason
                        && c["message"].as_str().is_some_and(|m| m.contains(words))
                })
            })
            .await
    }

    /// Whether the annotation was there; it is not any more then, as if the owner of the whole template had
    /// written it again, and the Deployment's controller has seen that.
    fn take_back(&self, name: &str) -> Result<bool> {
        let was = self.restarted(name)?;
        if was {
            let patch = r#"{"spec":{"template":{"metadata":{"annotations":null}}}}"#;
            self.0.kubectl(&["patch", "deployment", name, "--type=merge", "-p", patch])?;
            self.settle(name)?;
        }
        Ok(was)
    }
}

/// Every change is a rollout of the workload: two are made, and then it is said who takes them back.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_somebody_else_writes_again_is_changed_twice_at_most() -> Result<()> {
    let kubeconfig = api_server()?;
    let _operator = Operator::start(&kubeconfig, &["--set", "restart.enabled=true"], &["--restart"]).await?;
    let apps = Apps(Place::new(&kubeconfig, "restarts-taken-back").await?);
    apps.deploy("owned")?;
    let spec = json!({"selector": {}, "agent": {"existingPods": "Restart"}, "schedule": {"every": "168h"}});
    create(&apps.0.client, &object(POLICY, &apps.0.namespace, "all", &spec), false).await?;
    let mut changes = 0;
    wait_for("the operator gives up", Duration::from_secs(120), || {
        changes += apps.take_back("owned").map_or(0, usize::from);
        async {
            let status = apps.0.ours(POLICY).get("all").await?.data["status"]["restart"].clone();
            Ok((status["state"] == "Failed").then_some(()))
        }
    })
    .await?;
    let words = "something else, probably kubectl, changes its pod template";
    let status = apps.condition(10, "False", "RestartFailed", words).await?;
    ensure!(status["restart"]["name"] == "owned", "{status:#}");
    let told = apps.0.events("all", "RestartFailed")?;
    ensure!(told.iter().any(|note| note.contains(words)), "{told:?}");
    // Until somebody edits the policy.
    tokio::time::sleep(Duration::from_secs(15)).await;
    changes += usize::from(apps.take_back("owned")?);
    ensure!((1..=2).contains(&changes), "{changes} rollouts");
    apps.0.forget()
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_without_the_agent_are_restarted_one_after_another() -> Result<()> {
    let kubeconfig = api_server()?;
    let without_rights = Operator::start(&kubeconfig, &[], &[]).await?;
    let apps = Apps(Place::new(&kubeconfig, "restarts").await?);
    for name in ["a-guarded", "b", "c"] {
        apps.deploy(name)?;
    }
    let budget = json!({"selector": {"matchLabels": {"app": "a-guarded"}}, "maxUnavailable": 0});
    let metadata = json!({"name": "keep", "namespace": apps.0.namespace});
    apps.0.apply(&json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": budget}))?;
    let spec = json!({"selector": {}, "agent": {"existingPods": "Restart"}, "schedule": {"every": "168h"}});
    create(&apps.0.client, &object(POLICY, &apps.0.namespace, "all", &spec), false).await?;
    apps.condition(20, "False", "RestartDisabled", "3 workloads lack agent").await?;
    drop(without_rights);

    let operator = Operator::start(&kubeconfig, &["--set", "restart.enabled=true"], &["--restart"]).await?;
    wait_for("the first is restarted", Duration::from_secs(70), || async {
        Ok(apps.restarted("b")?.then_some(()))
    })
    .await?;
    let status = apps.condition(20, "True", "Restarting", "Deployment/b for agent").await?;
    ensure!(status["restart"]["name"] == "b" && status["restart"]["state"] == "Restarting", "{status:#}");
    ensure!(!apps.restarted("a-guarded")?, "a budget is respected");
    ensure!(!apps.restarted("c")?, "one at a time");
    apps.roll_out("b")?;
    apps.0.until(POLICY, "all", 30, |s| s["restart"]["state"] == "Restarted").await?;
    ensure!(!apps.restarted("c")?, "there is a pause between two");
    wait_for("the second is restarted", Duration::from_secs(60), || async {
        Ok(apps.restarted("c")?.then_some(()))
    })
    .await?;

    // A new leader goes on where the old one stopped.
    drop(operator);
    let _operator = Operator::start(&kubeconfig, &["--set", "restart.enabled=true"], &["--restart"]).await?;
    apps.roll_out("c")?;
    apps.0
        .until(POLICY, "all", 30, |s| s["restart"]["name"] == "c" && s["restart"]["state"] == "Restarted")
        .await?;
    apps.0.forget()
}
