//! What may the agent of a node do? It serves the pods that the API server says are bound to its node, and no other.

use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{
    AgentMode, CaptureState, ContainerReport, Heartbeat, HeartbeatReply, Order, OrderList, SliceReply, Watch,
};
use serde_json::json;

use super::rig::{Rig, beat, order, report, scope, uid};

/// A pod with one container, which has the id `id-NAME`.
fn pod(name: &str) -> Arc<PodFacts> {
    let namespace = name.split_once('.').map_or("shop", |(namespace, _)| namespace);
    let status = json!({"name": "app", "containerID": format!("containerd://id-{name}"), "image": "i", "imageID": "i",
        "ready": true, "restartCount": 0, "state": {"running": {}}});
    let pod = json!({
        "metadata": {"namespace": namespace, "name": format!("pod-{name}"), "uid": uid(name)},
        "spec": {"containers": [{"name": "app"}], "nodeName": "node-1"},
        "status": {"phase": "Running", "containerStatuses": [status]},
    });
    Arc::new(PodFacts::of(&serde_json::from_value(pod).unwrap()).unwrap())
}

/// A gateway that knows the pods `a`, `bank.b` and `kube-system.c` of `node-1`, and `d` of `node-2`.
fn rig() -> Rig {
    let rig = Rig::new();
    let mut nodes = rig.homes.nodes.lock().unwrap();
    nodes.insert("node-1".into(), ["a", "bank.b", "kube-system.c"].map(pod).to_vec());
    nodes.insert("node-2".into(), vec![pod("d")]);
    drop(nodes);
    rig
}

fn open(rig: &Rig, capture: &str, pod: &str, node: &str) {
    let container_id = format!("id-{pod}");
    let order = Order { container_id: container_id.clone(), ..order(capture) };
    rig.fleet.open(CaptureScope { node: node.into(), container_id, ..scope(capture, pod) }, order);
}

/// What the agent of a node says that sees the containers of these pods.
fn says(instance: &str, pods: &[&str]) -> Heartbeat {
    let base = beat(vec![]);
    let row = |pod: &&str| ContainerReport { id: format!("id-{pod}"), ..base.containers[0].clone() };
    let containers = pods.iter().map(row).collect();
    Heartbeat { instance: instance.into(), mode: AgentMode::Node, containers, ..base }
}

const ALL: &[&str] = &["a", "bank.b", "kube-system.c", "d"];

async fn tell(rig: &Rig, node: &str, beat: &Heartbeat) -> HeartbeatReply {
    rig.heartbeat(&format!("node-{node}"), beat).await.accepted()
}

async fn orders(rig: &Rig, caller: &str, query: &str) -> Vec<String> {
    let list: OrderList = rig.poll(caller, query).await.accepted();
    list.orders.into_iter().map(|order| order.capture).collect()
}

#[tokio::test]
async fn it_gets_the_orders_of_the_pods_of_its_node_and_uploads_for_them_alone() {
    let rig = rig();
    for (capture, pod, node) in [
        ("of-a", "a", "node-1"),
        ("of-b", "bank.b", "node-1"),
        ("of-c", "kube-system.c", "node-1"),
        ("of-d", "d", "node-2"),
    ] {
        open(&rig, capture, pod, node);
    }
    // Each says that it sees every container of the cluster.
    tell(&rig, "node-1", &says("one", ALL)).await;
    tell(&rig, "node-2", &says("two", ALL)).await;
    assert_eq!(orders(&rig, "node-node-1", "?agent=one").await, ["of-a", "of-b"]);
    assert_eq!(orders(&rig, "node-node-2", "?agent=two").await, ["of-d"]);
    let path = |capture: &str| format!("/v1/captures/{capture}/cpu/slices/0");
    for capture in ["of-a", "of-b"] {
        let stored: SliceReply = rig.upload("node-node-1", &path(capture), b"slice").await.accepted();
        assert!(!stored.duplicate);
        rig.upload("node-node-2", &path(capture), b"slice").await.refused(404, Reason::CaptureUnknown);
    }
    for foreign in ["of-c", "of-d"] {
        rig.upload("node-node-1", &path(foreign), b"slice").await.refused(404, Reason::CaptureUnknown);
    }
    assert!(rig.fleet.agents_of(&uid("kube-system.c")).is_empty(), "nobody serves an excluded namespace");
    assert_eq!(rig.fleet.agents_of(&uid("a"))[0].heartbeat.mode, AgentMode::Node);
}

#[tokio::test]
async fn an_agent_in_a_pod_that_says_it_is_a_nodes_is_none() {
    let rig = rig();
    open(&rig, "of-a", "a", "node-1");
    open(&rig, "of-b", "bank.b", "node-1");
    let _: HeartbeatReply = rig.heartbeat("a", &says("evil", ALL)).await.accepted();
    assert_eq!(orders(&rig, "a", "?agent=evil").await, ["of-a"]);
    assert_eq!(rig.fleet.agents_of(&uid("a"))[0].heartbeat.mode, AgentMode::Unknown);
    assert!(rig.fleet.agents_of(&uid("bank.b")).is_empty());
}

#[tokio::test]
async fn an_agent_in_the_pod_goes_before_it_and_what_it_has_begun_stays_its_own() {
    let rig = rig();
    tell(&rig, "node-1", &says("node", ALL)).await;
    open(&rig, "new", "a", "node-1");
    for (instance, mode) in [("attached", AgentMode::Ephemeral), ("sidecar", AgentMode::Sidecar)] {
        let _: HeartbeatReply =
            rig.heartbeat("a", &Heartbeat { mode, ..says(instance, &["a"]) }).await.accepted();
        assert_eq!(orders(&rig, "node-node-1", "?agent=node").await, Vec::<String>::new());
        assert_eq!(orders(&rig, "a", &format!("?agent={instance}")).await, ["new"]);
    }
    open(&rig, "begun", "bank.b", "node-1");
    let running = Heartbeat { captures: vec![report("begun", CaptureState::Running)], ..says("node", ALL) };
    tell(&rig, "node-1", &running).await;
    let sidecar = Heartbeat { mode: AgentMode::Sidecar, ..says("late", &["bank.b"]) };
    let _: HeartbeatReply = rig.heartbeat("bank.b", &sidecar).await.accepted();
    assert_eq!(orders(&rig, "node-node-1", "?agent=node").await, ["begun"]);
}

#[tokio::test]
async fn it_is_told_of_each_container_which_line_is_watched() {
    let rig = rig();
    let line = |cpu| Watch { cpu_percent: Some(cpu), ..Watch::default() };
    let until = rig.now() + jiff::SignedDuration::from_secs(60);
    rig.fleet.watch([(uid("a"), line(80)), (uid("d"), line(10))], until);
    let reply = tell(&rig, "node-1", &says("one", ALL)).await;
    assert_eq!(reply.watches, [("id-a".to_owned(), line(80))].into());
    assert_eq!(reply.watch, None);
}

#[tokio::test]
async fn what_it_captures_survives_a_new_leader_and_is_forgotten_once_it_is_closed() {
    let rig = rig();
    let running = |captures| Heartbeat { captures, ..says("one", ALL) };
    let reply = tell(&rig, "node-1", &running(vec![report("of-a", CaptureState::Running)])).await;
    assert_eq!(reply.settled, Vec::<String>::new(), "the session may come");
    open(&rig, "of-a", "a", "node-1");
    let known = rig.fleet.capture("of-a").unwrap();
    assert_eq!(
        (known.report.unwrap().state, known.instance.as_deref()),
        (CaptureState::Running, Some("one"))
    );
    // The container has ended since, so that the pod is not among those that are seen.
    let uploading =
        Heartbeat { containers: vec![], ..running(vec![report("of-a", CaptureState::Uploading)]) };
    tell(&rig, "node-1", &uploading).await;
    assert_eq!(rig.fleet.capture("of-a").unwrap().report.unwrap().state, CaptureState::Uploading);
    rig.fleet.close("of-a");
    let reply = tell(&rig, "node-1", &uploading).await;
    assert_eq!(reply.settled, ["of-a"]);
    let late = rig.upload("node-node-1", "/v1/captures/of-a/cpu/slices/0", b"slice").await;
    late.refused(410, Reason::CaptureSettled);
}

#[tokio::test]
async fn the_captures_of_another_node_or_of_a_namespace_that_it_does_not_serve_are_not_its_to_report() {
    let rig = rig();
    open(&rig, "of-d", "d", "node-2");
    open(&rig, "of-c", "kube-system.c", "node-1");
    let captures = ["of-c", "of-d"].map(|capture| report(capture, CaptureState::Failed)).to_vec();
    tell(&rig, "node-1", &Heartbeat { captures, ..says("one", ALL) }).await;
    for capture in ["of-c", "of-d"] {
        assert_eq!(rig.fleet.capture(capture).unwrap().report, None, "{capture}");
    }
}

/// A rolling update of the DaemonSet: the agent uploads what it has and ends, and another one takes its place.
#[tokio::test]
async fn an_agent_that_is_replaced_in_the_middle_of_a_capture_loses_nothing_that_it_uploads() {
    let rig = rig();
    let old = |captures| Heartbeat { captures, ..says("old", ALL) };
    tell(&rig, "node-1", &old(vec![])).await;
    open(&rig, "begun", "a", "node-1");
    tell(&rig, "node-1", &old(vec![report("begun", CaptureState::Running)])).await;
    let stored = |seq: u32| format!("/v1/captures/begun/cpu/slices/{seq}");
    let _: SliceReply = rig.upload("node-node-1", &stored(0), b"slice 0").await.accepted();
    // The order to stop: it reports what became of the capture, and uploads the last slice.
    let stopped =
        fleetprof_crds::wire::CaptureReport { uploaded: 1, ..report("begun", CaptureState::Uploading) };
    tell(&rig, "node-1", &old(vec![stopped])).await;
    // Its successor knows nothing of it.
    let reply = tell(&rig, "node-1", &says("new", ALL)).await;
    assert_eq!(reply.settled, Vec::<String>::new());
    let _: SliceReply = rig.upload("node-node-1", &stored(1), b"slice 1").await.accepted();
    let known = rig.fleet.capture("begun").unwrap();
    let last = (known.report.unwrap().state, known.instance.as_deref(), known.uploads);
    assert_eq!(last, (CaptureState::Uploading, Some("old"), 2), "what the old one said holds");
    assert_eq!(
        orders(&rig, "node-node-1", "?agent=new").await,
        Vec::<String>::new(),
        "it does not run it again"
    );
    assert_eq!(rig.fleet.agents_of(&uid("a")).len(), 2, "the pod is served all the time");
    // What comes next is the successor's; the old one falls silent, by the interval of an agent that captures.
    rig.pass(10);
    tell(&rig, "node-1", &says("new", ALL)).await;
    rig.pass(10);
    rig.fleet.expire(rig.now());
    open(&rig, "next", "a", "node-1");
    assert!(orders(&rig, "node-node-1", "?agent=new").await.contains(&"next".to_owned()));
    rig.poll("node-node-1", "?agent=old").await.refused(503, Reason::GatewayStarting);
}

#[tokio::test]
async fn an_order_that_the_agent_before_it_did_not_begin_goes_to_its_successor() {
    let rig = rig();
    tell(&rig, "node-1", &says("old", ALL)).await;
    open(&rig, "waits", "bank.b", "node-1");
    assert_eq!(orders(&rig, "node-node-1", "?agent=old").await, ["waits"]);
    rig.pass(10);
    tell(&rig, "node-1", &says("new", ALL)).await;
    rig.pass(85);
    tell(&rig, "node-1", &says("new", ALL)).await;
    rig.fleet.expire(rig.now());
    assert_eq!(orders(&rig, "node-node-1", "?agent=new").await, ["waits"]);
}

#[tokio::test]
async fn a_waiting_poll_is_woken_by_an_order_for_any_pod_of_the_node() {
    let rig = Arc::new(rig());
    tell(&rig, "node-1", &says("one", ALL)).await;
    let list: OrderList = rig.poll("node-node-1", "?agent=one").await.accepted();
    let (waiting, query) = (rig.clone(), format!("?agent=one&wait=20&have={}", list.version));
    let poll = tokio::spawn(async move { orders(&waiting, "node-node-1", &query).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    open(&rig, "of-b", "bank.b", "node-1");
    let woken = tokio::time::timeout(Duration::from_secs(5), poll).await;
    assert_eq!(woken.unwrap().unwrap(), ["of-b"]);
}

#[tokio::test]
async fn a_node_that_falls_silent_leaves_its_pods_without_an_agent() {
    let rig = rig();
    tell(&rig, "node-1", &says("one", ALL)).await;
    rig.pass(91);
    let mut gone: Vec<String> = rig.fleet.expire(rig.now()).into_iter().map(|pod| pod.uid).collect();
    gone.sort();
    assert_eq!(gone, [uid("a"), uid("bank.b")]);
    rig.poll("node-node-1", "?agent=one").await.refused(503, Reason::GatewayStarting);
}

#[tokio::test]
async fn it_counts_as_one_agent_however_many_pods_it_serves() {
    let rig = rig();
    tell(&rig, "node-1", &says("one", ALL)).await;
    tell(&rig, "node-2", &says("two", ALL)).await;
    let metrics = rig.metrics();
    let row = r#"fleetprof_agents{mode="Node",version="0.1.0"} 2"#;
    assert!(metrics.contains(row), "{metrics}");
}
