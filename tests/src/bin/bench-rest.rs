//! What does a leader cost at rest, how much CPU does a session take until it waits, and how much memory a pod?
//!
//! `cargo run -p fleetprof-tests --bin bench-rest [PODS] [SESSIONS]`: on an API server that runs alone. Prints
//! rows of the table of `make bench`. `FLEETPROF_OPERATOR` names the operator to measure; the debug build
//! without it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{object, resource};
use fleetprof_tests::process::{cpu_of_all_threads, rss_kib};
use fleetprof_tests::{admin, api_server, chart, wait_for};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

/// Pods of a namespace.
const PODS_EACH: usize = 500;
/// Most sessions of a namespace, which the operator's `--session-budget` allows by default.
const SESSIONS_EACH: usize = 200;
/// Pods of a ReplicaSet, and its hash.
const REPLICAS: usize = 10;
const HASH: &str = "7d9c5b8f6";
/// Requests at once.
const AT_ONCE: usize = 32;
/// For how long memory must not fall by a hundredth before it is believed.
const SETTLED: Duration = Duration::from_secs(15);
/// For how long the leader is watched at rest.
const REST: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let size = |n: usize, default: usize| {
        std::env::args()
            .nth(n)
            .map_or(Ok(default), |n| n.parse())
            .context("the arguments are PODS and SESSIONS")
    };
    let (pods, sessions) = (size(1, 5000)?, size(2, 1000)?);
    let kubeconfig = api_server()?;
    let client = admin(&kubeconfig).await?;
    let spaces = pods.div_ceil(PODS_EACH).max(sessions.div_ceil(SESSIONS_EACH)).max(1);
    let namespaces: Vec<String> = (0..spaces).map(|n| format!("rest-{}-{n}", std::process::id())).collect();
    let operator = Operator::start(&kubeconfig, &[], &[]).await?;
    let me =
        chart::kubectl(&kubeconfig, &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"], None)?;
    let fleet = Fleet { client, namespaces, pid: operator.pid(), me };
    let measured = fleet.measure(pods, sessions).await;
    fleet.forget().await?;
    measured
}

struct Fleet {
    client: Client,
    namespaces: Vec<String>,
    pid: u32,
    me: String,
}

impl Fleet {
    async fn measure(&self, pods: usize, sessions: usize) -> Result<()> {
        self.memory(pods).await?;
        self.cost_of_waiting(sessions).await?;
        self.at_rest(pods, sessions).await
    }

    /// Memory of the leader for each of so many linked pods.
    async fn memory(&self, pods: usize) -> Result<()> {
        futures::stream::iter(&self.namespaces)
            .map(|n| self.namespace(n))
            .buffer_unordered(8)
            .try_collect::<()>()
            .await?;
        // Each namespace has as many pods, so that it has as many ReplicaSets.
        let sets = pods.div_ceil(self.namespaces.len()).div_ceil(REPLICAS) * self.namespaces.len();
        self.many(sets, |n| self.replica_set(n)).await?;
        self.quiet().await?;
        let empty = self.settled_kib().await?;
        self.many(pods, |n| self.pod(n)).await?;
        let linked = wait_for("every pod is linked", Duration::from_secs(120), || async {
            Ok((self.linked().await? >= pods).then_some(()))
        });
        linked.await?;
        self.quiet().await?;
        let full = self.settled_kib().await?;
        let each = (full - empty) / pods as f64;
        ensure!(
            each > 0.0,
            "the leader has {full:.0} KiB with the pods and {empty:.0} KiB without: run it again"
        );
        println!(
            "| memory of the leader for a linked pod, {pods} pods | {each:.2} KiB RSS | ≤ 1.5 KiB: {} | {:.0} MiB in all |",
            met(each <= 1.5),
            full / 1024.0
        );
        Ok(())
    }

    /// CPU time of the leader for each of so many sessions, until it waits.
    async fn cost_of_waiting(&self, sessions: usize) -> Result<()> {
        let before = cpu_of_all_threads(self.pid)?;
        self.many(sessions, |n| self.session(n)).await?;
        let waiting = wait_for("every session waits", Duration::from_secs(900), || async {
            self.waiting(sessions).await
        });
        waiting.await?;
        self.quiet().await?;
        let each = (cpu_of_all_threads(self.pid)? - before) as f64 / 1e6 / sessions as f64;
        println!(
            "| CPU of the leader for a session, created → waits for its load, {sessions} sessions | {each:.2} ms | ≤ 3 ms: {} | |",
            met(each <= 3.0)
        );
        Ok(())
    }

    /// CPU of the leader while nothing happens.
    async fn at_rest(&self, pods: usize, sessions: usize) -> Result<()> {
        let (before, began) = (cpu_of_all_threads(self.pid)?, Instant::now());
        tokio::time::sleep(REST).await;
        let percent =
            (cpu_of_all_threads(self.pid)? - before) as f64 / began.elapsed().as_nanos() as f64 * 100.0;
        println!(
            "| CPU of the leader at rest, {pods} linked pods, {sessions} sessions that wait | {percent:.2} % of a core | ≤ 2 %: {} | over {} s |",
            met(percent <= 2.0),
            REST.as_secs()
        );
        Ok(())
    }

    /// Resident memory, once the allocator gives none back any more: what the start took is not of the pods.
    async fn settled_kib(&self) -> Result<f64> {
        let mut least = rss_kib(self.pid)?;
        let mut since = Instant::now();
        while since.elapsed() < SETTLED {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = rss_kib(self.pid)?;
            if now < least * 0.99 {
                (least, since) = (now, Instant::now());
            }
        }
        Ok(least)
    }

    /// Does something `n` times, some at once.
    async fn many<F: Future<Output = Result<()>>>(&self, n: usize, work: impl Fn(usize) -> F) -> Result<()> {
        futures::stream::iter(0..n).map(work).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        let body = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), &body).await?;
        let spec = json!({"selector": {}, "agent": {"mode": "Ephemeral"}, "schedule": {"every": "168h"}});
        let policy: DynamicObject = serde_json::from_value(object("ProfilingPolicy", name, "all", &spec))?;
        let policies: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), name, &resource("ProfilingPolicy"));
        policies.create(&PostParams::default(), &policy).await?;
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), name);
        wait_for("the service account", Duration::from_secs(30), || async {
            Ok(accounts.get_opt("default").await?)
        })
        .await?;
        Ok(())
    }

    fn of(&self, n: usize) -> (&str, usize) {
        (&self.namespaces[n % self.namespaces.len()], n / self.namespaces.len())
    }

    /// The ReplicaSet of ten pods.
    async fn replica_set(&self, n: usize) -> Result<()> {
        let (namespace, n) = self.of(n);
        let labels = json!({"app": format!("app-{n}"), "pod-template-hash": HASH});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
        let set = json!({
            "metadata": {"name": format!("app-{n}-{HASH}")},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        });
        let api = Api::<ReplicaSet>::namespaced(self.client.clone(), namespace);
        api.create(&PostParams::default(), &serde_json::from_value(set)?).await?;
        Ok(())
    }

    /// A pod that runs, one of ten replicas.
    async fn pod(&self, n: usize) -> Result<()> {
        let (namespace, n) = self.of(n);
        let (name, app) = (format!("app-{}-{n}", n / REPLICAS), format!("app-{}", n / REPLICAS));
        // Pods whose owner does not exist are garbage.
        let sets = Api::<ReplicaSet>::namespaced(self.client.clone(), namespace);
        let set = sets.get(&format!("{app}-{HASH}")).await?;
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set.metadata.name, "uid": set.metadata.uid, "controller": true});
        let labels = json!({"app": app, "pod-template-hash": HASH, "team": namespace});
        let pod = json!({
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "spec": {"nodeName": format!("node-{}", n % 50), "containers": [
                {"name": "app", "image": "app:1", "env": [{"name": "A", "value": "b"}], "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "1Gi"}}},
                {"name": "proxy", "image": "proxy:1"},
            ]},
        });
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        api.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        let status = json!({"status": {
            "phase": "Running", "podIP": format!("10.{}.{}.7", n / 250, n % 250),
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [
                {"name": "app", "image": "app:1", "imageID": "", "ready": true, "restartCount": 0, "containerID": format!("containerd://{n:064x}"), "state": {"running": {}}},
            ],
        }});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }

    /// A session that waits for a Job which never comes.
    async fn session(&self, n: usize) -> Result<()> {
        let (namespace, n) = self.of(n);
        let spec = json!({
            "target": {"workload": {"kind": "Deployment", "name": format!("app-{}", n / 10)}}, "duration": "30s",
            "startWhen": {"jobRef": {"name": format!("load-{n}")}, "deadline": "24h"},
            "requestedBy": {"username": self.me, "groups": ["system:masters"]},
        });
        let session: DynamicObject =
            serde_json::from_value(object("ProfileSession", namespace, &format!("wait-{n}"), &spec))?;
        self.sessions(namespace).create(&PostParams::default(), &session).await?;
        Ok(())
    }

    fn sessions(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource("ProfileSession"))
    }

    async fn waiting(&self, wanted: usize) -> Result<Option<()>> {
        // To list thousands of them keeps the API server busy, which the sessions wait for.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource("ProfileSession"));
        let waits = |s: &DynamicObject| s.data["status"]["reason"] == "WaitingForLoad";
        let waiting = all.list(&ListParams::default()).await?.items.iter().filter(|s| waits(s)).count();
        Ok((waiting >= wanted).then_some(()))
    }

    /// Pods that the policies say are linked.
    async fn linked(&self) -> Result<usize> {
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource("ProfilingPolicy"));
        let policies = all.list(&ListParams::default()).await?.items;
        let linked = policies.iter().filter_map(|p| p.data["status"]["linkedPodCount"].as_u64());
        Ok(usize::try_from(linked.sum::<u64>())?)
    }

    /// Waits until the leader has worked off what happened.
    async fn quiet(&self) -> Result<()> {
        let mut last = cpu_of_all_threads(self.pid)?;
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let now = cpu_of_all_threads(self.pid)?;
            if now - last < 100_000_000 {
                break;
            }
            last = now;
        }
        Ok(())
    }

    async fn forget(&self) -> Result<()> {
        let api = Api::<Namespace>::all(self.client.clone());
        for namespace in &self.namespaces {
            self.sessions(namespace)
                .delete_collection(&DeleteParams::default(), &ListParams::default())
                .await?;
            let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
            let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            pods.delete_collection(&now, &ListParams::default()).await?;
            api.delete(namespace, &DeleteParams::default()).await?;
        }
        Ok(())
    }
}

/// The word for a goal.
fn met(yes: bool) -> &'static str {
    if yes { "met" } else { "missed" }
}
