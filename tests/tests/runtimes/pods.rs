//! How does a program run in a pod of the cluster, and how is it profiled there?

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fleetprof_tests::people::resource;
use fleetprof_tests::process::cpu_of_all_threads;
use fleetprof_tests::runtimes::{WAYS, Way};
use fleetprof_tests::shop::{Shop, processes};
use fleetprof_tests::wait_for;
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};

use crate::targets::Target;

/// A namespace under Pod Security restricted, with a policy for each way.
pub struct Place {
    pub shop: Shop,
    pub namespace: &'static str,
    /// Agents of nodes were installed for it.
    has_node_agents: bool,
}

impl Place {
    /// Makes the namespace for these ways: with agents of nodes where one of them needs it.
    pub async fn of(namespace: &'static str, ways: &[Way]) -> Result<Self> {
        let place = Self::new(namespace).await?;
        if !ways.contains(&Way::Node) {
            return Ok(place);
        }
        let privileged = "pod-security.kubernetes.io/enforce=privileged";
        place.shop.kubectl(&["label", "namespace", "fleetprof", privileged, "--overwrite"])?;
        place.shop.helm(&["--set", "nodeAgent.enabled=true"])?;
        Ok(Self { has_node_agents: true, ..place })
    }

    /// Makes the namespace, in place of one of the same name.
    pub async fn new(namespace: &'static str) -> Result<Self> {
        let shop = Shop::open().await?;
        let spec = |way: Way| {
            json!({"selector": {"matchLabels": {"agent": way.name()}}, "agent": {"mode": way.mode()},
                "containers": {"include": ["*"]}, "schedule": {"every": "168h", "duration": "10s"}})
        };
        let names = WAYS.map(Way::name);
        let policies: Vec<(&str, Value)> =
            names.iter().map(String::as_str).zip(WAYS).map(|(name, way)| (name, spec(way))).collect();
        shop.profiled_namespace(namespace, &policies).await?;
        let level = "pod-security.kubernetes.io/enforce=restricted";
        shop.kubectl(&["label", "namespace", namespace, level])?;
        Ok(Self { shop, namespace, has_node_agents: false })
    }

    /// Deletes the namespace without waiting for its end, and what was installed for it.
    pub fn forget(&self) -> Result<()> {
        if self.has_node_agents {
            self.shop.helm(&[])?;
        }
        self.shop.kubectl(&["delete", "namespace", self.namespace, "--wait=false"]).map(drop)
    }

    /// Starts a workload of one pod, with a container for each target, and waits until all of them do what they
    /// always do. `edit` changes the pod's spec.
    pub async fn deploy(
        &self,
        name: &str,
        way: Way,
        targets: &[(&str, &Target)],
        edit: impl Fn(&mut Value),
    ) -> Result<()> {
        let labels = json!({"app.kubernetes.io/name": name, "agent": way.name()});
        self.shop.deploy_worker((self.namespace, name), &labels, 0.0, |worker| {
            let spec = &mut worker["spec"]["template"]["spec"];
            let model = spec["containers"][0].clone();
            let own = targets.iter().flat_map(|(name, target)| containers(&model, name, target));
            spec["containers"] = json!(own.collect::<Vec<_>>());
            spec["volumes"] = json!([{"name": "tmp", "emptyDir": {}}]);
            edit(spec);
        })?;
        let warm = targets.iter().map(|(_, target)| target.warm).sum();
        self.works(name, warm).await
    }

    /// Waits until the pod of a workload has used so many seconds of CPU time.
    async fn works(&self, name: &str, seconds: u64) -> Result<()> {
        let what = format!("{name} has used {seconds} s of CPU time");
        let waited = wait_for(&what, Duration::from_secs(60), || async {
            let (_, uid) = self.shop.pod(self.namespace, name).await?;
            let used: u64 = processes(&uid, &[]).into_iter().filter_map(|p| cpu_of_all_threads(p).ok()).sum();
            Ok((used > seconds * 1_000_000_000).then_some(()))
        });
        let Err(error) = waited.await else { return Ok(()) };
        let of = format!("app.kubernetes.io/name={name}");
        let pods = ["-n", self.namespace, "get", "pods", "-l", &of, "-o", "jsonpath={.items[*].status}"];
        let logs = ["-n", self.namespace, "logs", "-l", &of, "--all-containers", "--tail=5"];
        let said = |arguments: &[&str]| self.shop.kubectl(arguments).unwrap_or_else(|e| format!("{e:#}"));
        bail!("{error:#}: {} {}", said(&pods), said(&logs))
    }

    /// Deletes a workload.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.shop.kubectl(&["-n", self.namespace, "delete", "deployment", name, "--wait=false"]).map(drop)
    }

    /// What the policy of a way says of a workload once `test` holds.
    pub async fn linked(&self, way: Way, name: &str, test: impl Fn(&Value) -> bool) -> Result<Value> {
        let policies: Api<DynamicObject> =
            Api::namespaced_with(self.shop.client.clone(), self.namespace, &resource("ProfilingPolicy"));
        let look = || async {
            let status = policies.get(&way.name()).await?.data["status"].clone();
            let apps = status["linkedApps"].as_array().cloned().unwrap_or_default();
            Ok::<_, anyhow::Error>(apps.into_iter().find(|app| app["name"] == name))
        };
        let limit = Duration::from_secs(60);
        let waited =
            wait_for("the policy links it", limit, || async { Ok(look().await?.filter(|app| test(app))) });
        match waited.await {
            Ok(app) => Ok(app),
            Err(error) => bail!("{error:#}: {:#}", look().await?.unwrap_or_default()),
        }
    }

    /// Presses Profile Now on a container for these kinds: the session's name and its status once it has
    /// succeeded.
    pub async fn profile(
        &self,
        way: Way,
        app: &str,
        container: &str,
        kinds: &[&str],
    ) -> Result<(String, Value)> {
        let (name, status) = self.session(way, app, container, kinds).await?;
        ensure!(status["phase"] == "Succeeded", "{status:#}");
        ensure!(status["targets"][0]["container"] == container, "{status:#}");
        Ok((name, status))
    }

    /// The same, however it ended.
    pub async fn session(
        &self,
        way: Way,
        app: &str,
        container: &str,
        kinds: &[&str],
    ) -> Result<(String, Value)> {
        let spec = json!({"policyRef": {"name": way.name()}, "container": container, "duration": "10s",
            "profiles": kinds, "target": {"workload": {"kind": "Deployment", "name": app}}});
        let name = self.shop.profile(self.namespace, spec).await?;
        let status = self.shop.ended(self.namespace, &name, 120).await?;
        Ok((name, status))
    }

    /// Agents of the pod of a workload: injected ones, and for which containers others were attached.
    pub async fn agents(&self, name: &str) -> Result<(usize, Vec<String>)> {
        let (pod, _) = self.shop.pod(self.namespace, name).await?;
        let found = self.shop.kubectl(&["-n", self.namespace, "get", "pod", &pod, "-o", "json"])?;
        let spec = serde_json::from_str::<Value>(&found)?["spec"].clone();
        let all = |key: &str| spec[key].as_array().cloned().unwrap_or_default();
        let injected = all("initContainers").iter().filter(|c| c["name"] == "fleetprof-agent").count();
        let targets = all("ephemeralContainers").into_iter().map(|c| c["targetContainerName"].clone());
        Ok((injected, targets.filter_map(|name| name.as_str().map(str::to_owned)).collect()))
    }

    /// What the read API answers on the hottest functions of a kind.
    pub fn top(&self, session: &str, kind: &str) -> Result<Value> {
        let sessions =
            format!("/apis/data.fleetprof.dev/v1alpha1/namespaces/{}/profilesessions", self.namespace);
        let path = format!("{sessions}/{session}/top?n=1000&format=json&type={kind}");
        serde_json::from_str(&self.shop.kubectl(&["get", "--raw", &path])?)
            .context("the answer of /top cannot be read")
    }
}

/// The container of a target, and the one beside it, made of the shop's worker.
fn containers(model: &Value, name: &str, target: &Target) -> Vec<Value> {
    let container = |name: &str, command: &[&str]| {
        let mut container = model.clone();
        container["name"] = json!(name);
        container["image"] = json!(format!("docker.io/library/{}", target.image));
        container["command"] = json!(command);
        container["env"] = json!([{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}]);
        let limits = json!({"cpu": "500m", "memory": "512Mi"});
        container["resources"] = json!({"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": limits});
        container["volumeMounts"] = json!([{"name": "tmp", "mountPath": "/tmp"}]);
        container
    };
    let mut own = container(name, target.command);
    if let (Some((name, value)), Some(all)) = (target.variable, own["env"].as_array_mut()) {
        all.push(json!({"name": name, "value": value}));
    }
    let beside = target.beside.map(|command| container("beside", command));
    std::iter::once(own).chain(beside).collect()
}
