//! How do pods and workloads live beside an API server that has no node? A namespace in which the test writes
//! what a kubelet and the workload controllers would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use kube::api::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::operator::ACCOUNT;
use crate::people::resource;
use crate::{admin, chart, wait_for};

/// A namespace of one test.
pub struct Place {
    /// A client with all rights.
    pub client: Client,
    /// How the API server is reached.
    pub kubeconfig: PathBuf,
    /// The namespace.
    pub namespace: String,
}

impl Place {
    /// Makes the namespace, whose name begins with `name`, and waits until pods can be made in it.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn new(kubeconfig: &Path, name: &str) -> Result<Self> {
        let namespace = format!("{name}-{}", std::process::id());
        let place = Self { client: admin(kubeconfig).await?, kubeconfig: kubeconfig.to_owned(), namespace };
        place.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace}}),
        )?;
        let account = || async { place.kubectl(&["get", "serviceaccount", "default"]).map(Some) };
        wait_for("the namespace has its service account", Duration::from_secs(20), account).await?;
        Ok(place)
    }

    /// Runs kubectl in the namespace.
    ///
    /// # Errors
    /// What it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        chart::kubectl(&self.kubeconfig, &[&["-n", &self.namespace], arguments].concat(), None)
    }

    /// Applies an object.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply(&self, object: &Value) -> Result<()> {
        chart::kubectl(
            &self.kubeconfig,
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            Some(&object.to_string()),
        )
        .map(drop)
    }

    /// The same in the operator's name: only it may create sessions of the schedule.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn apply_as_operator(&self, object: &Value) -> Result<()> {
        let account = ["--as", ACCOUNT, "--as-group", "system:masters"];
        chart::kubectl(
            &self.kubeconfig,
            &[&["apply", "--server-side", "--force-conflicts", "-f", "-"][..], &account].concat(),
            Some(&object.to_string()),
        )
        .map(drop)
    }

    /// A pod that is running and ready, changed by `edit` before it is made.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn pod(
        &self,
        name: &str,
        labels: &Value,
        owner: Option<&Value>,
        edit: impl Fn(&mut Value),
    ) -> Result<()> {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels, "ownerReferences": owner.into_iter().collect::<Vec<_>>()},
            "spec": {"nodeName": "nowhere", "containers": [{"name": "app", "image": "app:1"}]}});
        edit(&mut pod);
        self.apply(&pod)?;
        let containers =
            pod["spec"]["containers"].as_array().into_iter().flatten().map(|c| running(name, &c["name"]));
        let containers: Vec<Value> = containers.collect();
        let ready = json!([{"type": "Ready", "status": "True"}]);
        self.status(
            "pod",
            name,
            &json!({"phase": "Running", "conditions": ready, "containerStatuses": containers}),
        )
    }

    /// Ends a pod as if it had never been.
    ///
    /// # Errors
    /// When there is none.
    pub fn end(&self, pod: &str) -> Result<()> {
        self.kubectl(&["delete", "pod", pod, "--force", "--grace-period=0"]).map(drop)
    }

    /// Writes a status. Those of fleetprof's kinds are written as the operator: nobody else may.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn status(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        let patch = json!({"status": status}).to_string();
        let account = ["--as", ACCOUNT, "--as-group", "system:masters"];
        let write = ["patch", kind, name, "--subresource=status", "--type=merge", "-p", &patch];
        self.kubectl(&[&write[..], &account].concat()).map(drop)
    }

    /// Lets no further session be made here.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn fill_quota(&self) -> Result<()> {
        let hard = json!({"count/profilesessions.fleetprof.dev": "0"});
        let metadata = json!({"name": "full", "namespace": self.namespace});
        self.apply(&json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}))?;
        self.status("resourcequota", "full", &json!({"hard": hard, "used": hard}))
    }

    /// What events with a reason say that are about an object of this name, in any namespace.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn events(&self, about: &str, reason: &str) -> Result<Vec<String>> {
        let of = format!("involvedObject.name={about},reason={reason}");
        let found = self.kubectl(&["get", "events", "-A", "--field-selector", &of, "-o", "json"])?;
        let found: Value = serde_json::from_str(&found)?;
        let items = found["items"].as_array().into_iter().flatten();
        Ok(items.filter_map(|event| event["message"].as_str().map(str::to_owned)).collect())
    }

    /// How a pod names its controller.
    ///
    /// # Errors
    /// When the controller is not there.
    pub fn owner(&self, api_version: &str, kind: &str, name: &str) -> Result<Value> {
        let uid = self.kubectl(&["get", kind, name, "-o", "jsonpath={.metadata.uid}"])?;
        Ok(json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true}))
    }

    /// Objects of fleetprof in the namespace.
    #[must_use]
    pub fn ours(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource(kind))
    }

    /// Waits until the status of a fleetprof object passes `test`.
    ///
    /// # Errors
    /// When it does not within `seconds`; the error holds the last status.
    pub async fn until(
        &self,
        kind: &str,
        name: &str,
        seconds: u64,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let look = || async { Ok(self.ours(kind).get(name).await?.data["status"].clone()) };
        match wait_for(name, Duration::from_secs(seconds), || async {
            look().await.map(|s: Value| test(&s).then_some(s))
        })
        .await
        {
            Ok(status) => Ok(status),
            Err(error) => bail!("{error:#}: {:#}", look().await?),
        }
    }

    /// Deletes the namespace without waiting for its end.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn forget(&self) -> Result<()> {
        self.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]).map(drop)
    }
}

/// What a kubelet reports of a container that runs.
fn running(pod: &str, container: &Value) -> Value {
    let id = format!("containerd://{pod}-{}", container.as_str().unwrap_or_default());
    json!({"name": container, "containerID": id, "image": "app:1", "imageID": "i", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
}
