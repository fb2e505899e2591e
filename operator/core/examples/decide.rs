//! What do the decisions of a whole fleet cost? 10,000 policies and 150,000 pods in memory: bytes of each
//! pod, time of one pass over all policies, and how evenly their rounds start. Prints rows of the table of
//! `make bench`.
//!
//! `cargo run --release -p fleetprof-core --example decide`
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use fleetprof_core::agent::{AgentFacts, NodeAgents, PodSecurity, Reach};
use fleetprof_core::image::AgentImages;
use fleetprof_core::link::Observed;
use fleetprof_core::pod::{PodFacts, SharedFacts};
use fleetprof_core::policy;
use fleetprof_core::schedule::Plan;
use fleetprof_core::view::{Labels, PolicyView};
use fleetprof_crds::{ClusterProfilingPolicy, ProfilingPolicy};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

const POLICIES: usize = 10_000;
const PODS_EACH: usize = 15;

fn main() {
    let before = resident();
    let mut shared = SharedFacts::default();
    let mut known = |n, p| {
        let mut facts = PodFacts::of(&pod(n, p)).unwrap();
        shared.share(&mut facts);
        Arc::new(facts)
    };
    let namespaces: Vec<Vec<Arc<PodFacts>>> =
        (0..POLICIES).map(|n| (0..PODS_EACH).map(|p| known(n, p)).collect()).collect();
    let pods = POLICIES * PODS_EACH;
    println!(
        "| memory per watched pod, {pods} pods | {} bytes | about 1 KB | |",
        (resident() - before) / pods
    );
    let mut policies: Vec<ProfilingPolicy> = (0..POLICIES).map(policy).collect();
    let (first, second) = (pass(&mut policies, &namespaces, 0), pass(&mut policies, &namespaces, 15));
    println!(
        "| one pass over {POLICIES} policies and {pods} pods | {first:.2} s initially, {second:.2} s with \
         existing statuses, {:.0} µs per policy | – | one core; policies are reconciled when their pods \
         change, and every 15 s |",
        second * 1e6 / POLICIES as f64
    );
    evenness(&policies);
    cluster_pass(&policies, &namespaces);
}

/// One policy of the cluster over all pods, of which policies of every other namespace take half.
fn cluster_pass(policies: &[ProfilingPolicy], namespaces: &[Vec<Arc<PodFacts>>]) {
    let policy: ClusterProfilingPolicy = serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ClusterProfilingPolicy",
        "metadata": {"name": "fleet", "uid": "fleet", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"selector": {}, "namespaceSelector": {"matchLabels": {"profiling": "on"}}},
    }))
    .unwrap();
    let images = AgentImages::default();
    let labels = Labels::from([("profiling".to_owned(), "on".to_owned())]);
    let view = PolicyView::from(&policy);
    let plan = Plan::read(view.uid, &view.spec.schedule).unwrap();
    let pods: Vec<_> = namespaces.iter().flatten().cloned().collect();
    let agents = pods.iter().map(agent).collect();
    let all_labels = (0..POLICIES).map(|n| (format!("team-{n}"), labels.clone())).collect();
    let observed = Observed {
        now: plan.ticks(Timestamp::from_second(1_800_000_000).unwrap()).1.unwrap().at,
        pods: &pods,
        agents: &agents,
        node_agents: &NodeAgents::default(),
        settled: true,
        sessions: &[],
        policies: policies.iter().step_by(2).map(PolicyView::from).chain([view]).collect(),
        namespaces: &all_labels,
        version: "0.1.0",
        images: &images,
        destinations: &["default".to_owned()],
        pod_security: PodSecurity::default(),
        attach_disabled: false,
        refusal: &|_, _| None,
    };
    let began = Instant::now();
    let step = policy::step(&view, &observed);
    let took = began.elapsed().as_secs_f64();
    let status = serde_json::to_vec(&step.status).unwrap().len();
    let targets: usize =
        step.create.iter().flat_map(|s| s.spec.target.iter().flat_map(|t| &t.pods)).map(Vec::len).sum();
    assert_eq!((step.status.linked_pod_count, targets), (75_000, 50));
    println!(
        "| one cluster policy over {} pods in {POLICIES} namespaces | {took:.2} s with a round, {} \
         sessions, status of {status} bytes | under 20 KB | one core; reconciled at most every 5 s |",
        POLICIES * PODS_EACH,
        step.create.len()
    );
}

fn pass(policies: &mut [ProfilingPolicy], namespaces: &[Vec<Arc<PodFacts>>], seconds: i64) -> f64 {
    let now = Timestamp::from_second(1_800_000_000 + seconds).unwrap();
    let agents: Vec<HashMap<String, AgentFacts>> =
        namespaces.iter().map(|pods| pods.iter().map(agent).collect()).collect();
    let began = Instant::now();
    for ((policy, pods), agents) in policies.iter_mut().zip(namespaces).zip(agents) {
        let view = PolicyView::from(&*policy);
        let images = AgentImages::default();
        let observed = Observed {
            now,
            pods,
            agents: &agents,
            node_agents: &NodeAgents::default(),
            settled: true,
            sessions: &[],
            policies: [view].into_iter().collect(),
            namespaces: &BTreeMap::new(),
            version: "0.1.0",
            images: &images,
            destinations: &["default".to_owned()],
            pod_security: PodSecurity::default(),
            attach_disabled: false,
            refusal: &|_, _| None,
        };
        let status = policy::step(&view, &observed).status;
        assert_eq!(status.linked_pod_count, i32::try_from(PODS_EACH).unwrap());
        policy.status = Some(status);
    }
    began.elapsed().as_secs_f64()
}

fn evenness(policies: &[ProfilingPolicy]) {
    let from = Timestamp::from_second(1_800_000_000).unwrap();
    let mut starts = vec![0u32; 3600];
    for policy in policies {
        let plan = Plan::read(policy.metadata.uid.as_deref().unwrap(), &policy.spec.schedule).unwrap();
        let mut tick = plan.ticks(from).1.unwrap().at;
        while tick < from + SignedDuration::from_hours(1) {
            starts[usize::try_from(tick.duration_since(from).as_secs()).unwrap()] += 1;
            tick = plan.ticks(tick).1.unwrap().at;
        }
    }
    let (most, mean) = (*starts.iter().max().unwrap(), f64::from(starts.iter().sum::<u32>()) / 3600.0);
    println!(
        "| session starts of {POLICIES} hourly policies | at most {most} per second, mean {mean:.2}, max/mean \
         {:.1} | – | random offsets give 10 to 13 |",
        f64::from(most) / mean
    );
}

fn agent(pod: &Arc<PodFacts>) -> (String, AgentFacts) {
    let runtimes = pod.containers.iter().map(|c| (c.id.clone(), "Python 3.11".to_owned())).collect();
    (
        pod.uid.clone(),
        AgentFacts {
            version: "0.1.0".into(),
            protocol: 1,
            runtimes,
            offers: HashMap::new(),
            reach: Reach::Pod,
        },
    )
}

fn policy(n: usize) -> ProfilingPolicy {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
        "metadata": {"name": "team", "namespace": format!("team-{n}"), "uid": uid(n, 99), "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"selector": {"matchLabels": {"app.kubernetes.io/part-of": "shop"}}},
    }))
    .unwrap()
}

fn uid(n: usize, p: usize) -> String {
    format!("{n:08x}-5026-485d-9c63-{p:012x}")
}

/// A pod as a cluster has them: a Deployment's, with a sidecar, two containers, volumes and a status.
fn pod(n: usize, p: usize) -> Pod {
    let (id, name) =
        (format!("containerd://{:064x}", n * 100 + p), format!("orders-{:02}-766597549f-{n:05x}", p / 3));
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("{name}{p}"), "namespace": format!("team-{n}"), "uid": uid(n, p), "creationTimestamp": "2026-01-02T00:00:00Z",
            "labels": {"app.kubernetes.io/name": format!("orders-{:02}", p / 3), "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/version": "1.7.3", "pod-template-hash": "766597549f"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("orders-{:02}-766597549f", p / 3), "uid": uid(n, 50), "controller": true}],
        },
        "spec": {
            "nodeName": format!("ip-10-0-{}-{}.eu-central-1.compute.internal", n % 250, p),
            "initContainers": [{"name": "fleetprof-agent", "image": "fleetprof-agent:0.1.0", "restartPolicy": "Always"}],
            "containers": [{"name": "orders", "image": "orders:1.7.3", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}, {"name": "envoy", "image": "envoy:1.30"}],
        },
        "status": {
            "phase": "Running", "podIPs": [{"ip": format!("10.244.{}.{}", n % 250, p)}],
            "containerStatuses": [{"name": "orders", "image": "x", "imageID": "y", "ready": true, "restartCount": 0, "containerID": id, "state": {"running": {"startedAt": "2026-01-02T00:00:05Z"}}}],
            "initContainerStatuses": [{"name": "fleetprof-agent", "image": "x", "imageID": "y", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-02T00:00:05Z"}}}],
        },
    }))
    .unwrap()
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
