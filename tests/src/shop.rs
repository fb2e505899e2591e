//! How is the example shop profiled and disturbed? Sessions of it, and the processes of a pod on this node.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::people::{create, object, resource};
use crate::{admin, chart, cluster, person, wait_for};

/// Namespace of the shop.
pub const SHOP: &str = "shop";

/// The shop on the full cluster.
pub struct Shop {
    /// Who tests.
    pub client: Client,
    /// How the cluster is reached.
    pub kubeconfig: PathBuf,
}

impl Shop {
    /// The shop as `tests/demo.sh` left it, with its policy not starting rounds of its own.
    ///
    /// # Errors
    /// When there is no cluster with fleetprof and the shop.
    pub async fn open() -> Result<Self> {
        let kubeconfig = cluster()?;
        let shop = Self { client: admin(&kubeconfig).await?, kubeconfig };
        shop.kubectl(&[
            "-n",
            SHOP,
            "patch",
            "ppol",
            "shop",
            "--type=merge",
            "-p",
            r#"{"spec":{"schedule":{"every":"168h"},"suspend":false}}"#,
        ])
        .context("fleetprof and the shop are not there; run make demo first")?;
        Ok(shop)
    }

    /// Runs kubectl.
    ///
    /// # Errors
    /// What it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        chart::kubectl(&self.kubeconfig, arguments, None)
    }

    /// Applies an object.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply(&self, object: &Value) -> Result<()> {
        chart::kubectl(&self.kubeconfig, &["apply", "--server-side", "-f", "-"], Some(&object.to_string()))
            .map(drop)
    }

    /// Upgrades fleetprof with these arguments beside the chart's own values, and waits for it.
    ///
    /// # Errors
    /// What Helm said.
    pub fn helm(&self, arguments: &[&str]) -> Result<()> {
        let kubeconfig = self.kubeconfig.to_string_lossy();
        let mut all = vec![
            "--kubeconfig",
            &kubeconfig,
            "upgrade",
            "fleetprof",
            "charts/fleetprof",
            "-n",
            "fleetprof",
            "--reset-values",
            "--wait",
            "--timeout",
            "2m",
        ];
        all.extend(arguments);
        crate::run(&chart::tool("helm")?, &all)?;
        self.rolled_out()
    }

    /// Waits until the operator runs as its Deployment says.
    ///
    /// # Errors
    /// When it does not within 90 s.
    pub fn rolled_out(&self) -> Result<()> {
        let status =
            ["-n", "fleetprof", "rollout", "status", "deployment/fleetprof-operator", "--timeout=90s"];
        self.kubectl(&status).map(drop)
    }

    /// Sets how many scheduled captures a node may have at a time, or leaves it to the chart again, and
    /// waits until the operator goes by it.
    ///
    /// # Errors
    /// What kubectl said.
    pub fn node_budget(&self, captures: Option<usize>) -> Result<()> {
        let variable = captures.map_or("FLEETPROF_NODE_BUDGET-".to_owned(), |captures| {
            format!("FLEETPROF_NODE_BUDGET={captures}")
        });
        self.kubectl(&["-n", "fleetprof", "set", "env", "deployment/fleetprof-operator", &variable])?;
        self.rolled_out()
    }

    /// Makes a namespace with these policies, by name and spec, in place of one of the same name, and waits
    /// until pods that are created there get their sidecars.
    ///
    /// # Errors
    /// When the API server refuses one, or the webhook is not registered within 30 s.
    pub async fn profiled_namespace(&self, name: &str, policies: &[(&str, Value)]) -> Result<()> {
        self.kubectl(&["delete", "namespace", name, "--ignore-not-found", "--timeout=120s"])?;
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
        for (policy, spec) in policies {
            self.apply(&object("ProfilingPolicy", name, policy, spec))?;
        }
        self.registered(name).await
    }

    /// Waits until pods of a namespace with a policy are sent to the webhook.
    ///
    /// # Errors
    /// When they are not within 30 s.
    pub async fn registered(&self, namespace: &str) -> Result<()> {
        let path = "jsonpath={.items[*].webhooks[*].namespaceSelector}";
        let registered = ["get", "mutatingwebhookconfigurations", "-o", path];
        wait_for("the webhook is registered for the namespace", Duration::from_secs(30), || async {
            Ok(self.kubectl(&registered)?.contains(&format!("\"{namespace}\"")).then_some(()))
        })
        .await?;
        // The API server takes a moment to read the registration.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// The operator's pod that holds the lease.
    ///
    /// # Errors
    /// When there is no lease.
    pub fn leader(&self) -> Result<String> {
        let holder = "jsonpath={.spec.holderIdentity}";
        let pod = self.kubectl(&["-n", "fleetprof", "get", "lease", "fleetprof-operator", "-o", holder])?;
        Ok(pod.trim().to_owned())
    }

    /// How many slices of CPU profiles this operator has stored since it was started.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn stored(&self, operator: &str) -> Result<u64> {
        let path = format!("/api/v1/namespaces/fleetprof/pods/{operator}:8080/proxy/metrics");
        let metrics = self.kubectl(&["get", "--raw", &path])?;
        let series = "fleetprof_slices_total{outcome=\"stored\",kind=\"cpu\"} ";
        Ok(metrics.lines().find_map(|line| line.strip_prefix(series)).map_or(Ok(0), str::parse)?)
    }

    /// Applies a Deployment like that of the shop's worker, with these labels; `change` makes it another
    /// one. Its pods use `share` of a core each.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn deploy_worker(
        &self,
        (namespace, name): (&str, &str),
        labels: &Value,
        share: f64,
        change: impl FnOnce(&mut Value),
    ) -> Result<()> {
        let file = crate::root().join("examples/orders/manifests/worker.yaml");
        let text =
            self.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", &file.to_string_lossy()])?;
        let mut worker: Value = serde_json::from_str(&text)?;
        worker["metadata"] = json!({"name": name, "namespace": namespace, "labels": labels});
        worker["spec"]["selector"]["matchLabels"] = labels.clone();
        worker["spec"]["template"]["metadata"]["labels"] = labels.clone();
        let env =
            json!([{"name": "THREADS", "value": "1"}, {"name": "CPU_SHARE", "value": share.to_string()}]);
        worker["spec"]["template"]["spec"]["containers"][0]["env"] = env;
        change(&mut worker);
        self.apply(&worker)
    }

    /// Starts at once what a policy's schedule would start at its next tick: only the operator's account may.
    /// Returns the session's name.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn start_round(
        &self,
        (namespace, policy): (&str, &str),
        workload: Option<&str>,
        duration: &str,
    ) -> Result<String> {
        let account = "system:serviceaccount:fleetprof:fleetprof-operator";
        let operator = person(&self.kubeconfig, Some(account), &["system:serviceaccounts"]).await?;
        let mut spec = json!({"policyRef": {"name": policy}, "trigger": "Schedule", "duration": duration});
        if let Some(name) = workload {
            spec["target"] = json!({"workload": {"kind": "Deployment", "name": name}});
        }
        let mut session = object("ProfileSession", namespace, "", &spec);
        session["metadata"] = json!({"generateName": "round-", "namespace": namespace});
        create(&operator, &session, false).await?.metadata.name.context("the session has no name")
    }

    fn sessions(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource("ProfileSession"))
    }

    /// Presses Profile Now and returns the session's name.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn profile(&self, namespace: &str, spec: Value) -> Result<String> {
        let mut session = object("ProfileSession", namespace, "", &spec);
        session["metadata"] = json!({"generateName": "test-", "namespace": namespace});
        create(&self.client, &session, false).await?.metadata.name.context("the session has no name")
    }

    /// The status of a session.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn status(&self, namespace: &str, name: &str) -> Result<Value> {
        Ok(self.sessions(namespace).get(name).await?.data["status"].clone())
    }

    /// Waits until the session's status passes `test`.
    ///
    /// # Errors
    /// When it does not within `seconds`; the error holds the last status.
    pub async fn until(
        &self,
        namespace: &str,
        name: &str,
        seconds: u64,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let waited = wait_for("the session", Duration::from_secs(seconds), || async {
            let status = self.status(namespace, name).await?;
            Ok(test(&status).then_some(status))
        });
        match waited.await {
            Ok(status) => Ok(status),
            Err(error) => bail!("{error:#}: {:#}", self.status(namespace, name).await.unwrap_or_default()),
        }
    }

    /// Waits for the end of a session.
    ///
    /// # Errors
    /// When it does not end within `seconds`.
    pub async fn ended(&self, namespace: &str, name: &str, seconds: u64) -> Result<Value> {
        self.until(namespace, name, seconds, |s| s["endTime"].is_string()).await
    }

    /// The running pod of an app: name and uid.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pod(&self, namespace: &str, app: &str) -> Result<(String, String)> {
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.client.clone(), namespace);
        let found =
            pods.list(&ListParams::default().labels(&format!("app.kubernetes.io/name={app}"))).await?;
        let live = found.items.into_iter().find(|p| {
            p.metadata.deletion_timestamp.is_none()
                && p.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"))
        });
        let pod = live.with_context(|| format!("no pod of {app} runs"))?;
        Ok((pod.metadata.name.unwrap_or_default(), pod.metadata.uid.unwrap_or_default()))
    }

    /// Waits until the policy says of a workload that it is linked.
    ///
    /// # Errors
    /// When it is not within a minute.
    pub async fn linked(&self, app: &str, reason: &str) -> Result<Value> {
        let policies: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), SHOP, &resource("ProfilingPolicy"));
        wait_for(&format!("{app} is {reason}"), Duration::from_secs(90), || async {
            let policy = policies.get("shop").await?;
            let apps = policy.data["status"]["linkedApps"].as_array().cloned().unwrap_or_default();
            Ok(apps.into_iter().find(|a| a["name"] == app && a["reason"] == reason))
        })
        .await
    }

    /// Deletes a session.
    ///
    /// # Errors
    /// When the API server does not.
    pub async fn forget(&self, namespace: &str, name: &str) -> Result<()> {
        self.sessions(namespace).delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Cancels a session.
    ///
    /// # Errors
    /// When the API server does not.
    pub fn cancel(&self, namespace: &str, name: &str) -> Result<()> {
        let cancel = r#"{"spec":{"cancel":true}}"#;
        self.kubectl(&["-n", namespace, "patch", "psess", name, "--type=merge", "-p", cancel])?;
        Ok(())
    }

    /// Stops every replica of the webhook, and waits until none is left.
    ///
    /// # Errors
    /// When one is left after a minute.
    pub fn stop_webhook(&self) -> Result<()> {
        self.kubectl(&["-n", "fleetprof", "scale", "deployment/fleetprof-webhook", "--replicas=0"])?;
        let of_webhook = "app.kubernetes.io/component=webhook";
        self.kubectl(&[
            "-n",
            "fleetprof",
            "wait",
            "pods",
            "-l",
            of_webhook,
            "--for=delete",
            "--timeout=60s",
        ])?;
        Ok(())
    }
}

/// Processes of a pod on this node whose command line starts with these words.
#[must_use]
pub fn processes(pod_uid: &str, words: &[&str]) -> Vec<u32> {
    let cgroup_names = [format!("pod{pod_uid}"), format!("pod{}", pod_uid.replace('-', "_"))];
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line: Vec<&str> = line.split('\0').collect();
            cgroup_names.iter().any(|n| cgroup.contains(n))
                && words.iter().enumerate().all(|(i, w)| line.get(i).is_some_and(|l| l.ends_with(w)))
        })
        .collect()
}

/// Kills a process without asking it.
///
/// # Errors
/// When it is not there.
pub fn kill_9(pid: u32) -> Result<()> {
    crate::run("kill", &["-9", &pid.to_string()]).map(drop)
}
