//! Several agents of one pod: each captures what it sees.

use std::time::Instant;

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::time::after;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{
    AgentMode, CaptureState, ContainerReport, Heartbeat, HeartbeatReply, Order, OrderList, Problem,
};
use jiff::SignedDuration;

use super::rig::{Rig, beat, order, report, scope};
use crate::agents::Change;

/// What an agent of pod `a` says that sees these containers.
fn agent(instance: &str, mode: AgentMode, containers: &[&str]) -> Heartbeat {
    let base = beat(vec![]);
    let row = |id: &&str| ContainerReport { id: (*id).to_owned(), ..base.containers[0].clone() };
    let containers = containers.iter().map(row).collect();
    Heartbeat { instance: instance.into(), mode, containers, ..base }
}

fn open(rig: &Rig, capture: &str, container_id: &str) {
    let scope = CaptureScope { container_id: container_id.into(), ..scope(capture, "a") };
    let order = Order { container_id: format!("containerd://{container_id}"), ..order(capture) };
    rig.fleet.open(scope, order);
}

/// The captures that an agent is told of.
async fn told(rig: &Rig, instance: &str) -> Vec<String> {
    let list: OrderList = rig.poll("a", &format!("?agent={instance}")).await.accepted();
    list.orders.into_iter().map(|order| order.capture).collect()
}

async fn says(rig: &Rig, beat: &Heartbeat) -> HeartbeatReply {
    rig.heartbeat("a", beat).await.accepted()
}

#[tokio::test]
async fn each_attached_agent_is_told_the_orders_of_the_container_that_it_sees() {
    let rig = Rig::new();
    says(&rig, &agent("one", AgentMode::Ephemeral, &["c1"])).await;
    says(&rig, &agent("two", AgentMode::Ephemeral, &["c2"])).await;
    open(&rig, "first", "c1");
    open(&rig, "second", "c2");
    open(&rig, "unseen", "c3");
    assert_eq!(
        (told(&rig, "one").await, told(&rig, "two").await),
        (vec!["first".into()], vec!["second".into()])
    );
    let all: OrderList = rig.poll("a", "").await.accepted();
    assert_eq!(all.orders.len(), 3, "an agent that does not say who it is gets every order");
    assert_eq!(rig.fleet.agents_of("uid-a").len(), 2, "neither hides the other");
}

#[tokio::test]
async fn one_agent_of_several_that_see_a_container_captures_it_and_goes_on_with_it() {
    let rig = Rig::new();
    says(&rig, &agent("attached", AgentMode::Ephemeral, &["c1"])).await;
    open(&rig, "c", "c1");
    assert_eq!(told(&rig, "attached").await, ["c"]);
    let mut running = agent("attached", AgentMode::Ephemeral, &["c1"]);
    running.captures = vec![report("c", CaptureState::Running)];
    says(&rig, &running).await;
    says(&rig, &agent("sidecar", AgentMode::Sidecar, &["c1", "c2"])).await;
    assert_eq!(
        (told(&rig, "attached").await.len(), told(&rig, "sidecar").await.len()),
        (1, 0),
        "no handover"
    );
    open(&rig, "d", "c1");
    assert_eq!(told(&rig, "sidecar").await, ["d"], "a sidecar comes before an attached agent");
    open(&rig, "e", "c9");
    assert_eq!(told(&rig, "sidecar").await, ["d", "e"], "it would see any container of the pod");
}

#[tokio::test]
async fn an_agent_that_was_not_heard_of_is_asked_to_introduce_itself() {
    let rig = Rig::new();
    open(&rig, "c", "c1");
    rig.poll("a", "?agent=one").await.refused(503, Reason::GatewayStarting);
    let started = Instant::now();
    let beat = agent("one", AgentMode::Ephemeral, &["c1"]);
    let (answer, _) = tokio::join!(rig.poll("a", "?wait=25&agent=one"), says(&rig, &beat));
    assert_eq!(answer.accepted::<OrderList>().orders.len(), 1);
    assert!(started.elapsed().as_millis() < 900, "the heartbeat wakes the poll");
}

#[tokio::test]
async fn an_agent_that_cannot_see_a_container_ends_no_capture_of_one_that_can() {
    let rig = Rig::new();
    let missing = |instance, containers: &[&str], reason| {
        let problem = Some(Problem { reason, message: "Gone.".into() });
        let mut beat = agent(instance, AgentMode::Ephemeral, containers);
        let mut report = report("c", CaptureState::Failed);
        (report.problem, report.started_at) = (problem, None);
        beat.captures = vec![report];
        beat
    };
    open(&rig, "c", "c2");
    says(&rig, &agent("two", AgentMode::Ephemeral, &["c2"])).await;
    for reason in [Reason::ContainerRestarted, Reason::ProcessNamespaceConflict] {
        let reply = says(&rig, &missing("one", &["c1"], reason)).await;
        assert_eq!((reply.settled, rig.fleet.report("c")), (vec!["c".to_owned()], None), "{reason}");
    }
    says(&rig, &missing("one", &["c1"], Reason::PermissionDenied)).await;
    assert!(rig.fleet.report("c").is_some(), "any other reason is the capture's");
    let alone = Rig::new();
    open(&alone, "c", "c2");
    says(&alone, &missing("one", &["c1"], Reason::ContainerRestarted)).await;
    assert!(alone.fleet.report("c").is_some(), "nobody else is there");
}

#[tokio::test]
async fn a_restarted_sidecar_is_the_same_agent_and_the_names_of_a_pod_are_bounded() {
    let rig = Rig::new();
    for n in 0..50 {
        says(&rig, &agent(&format!("sidecar-{n}"), AgentMode::Sidecar, &["c1"])).await;
    }
    assert_eq!(rig.fleet.held().agents, 1);
    for n in 0..50 {
        rig.pass(1);
        says(&rig, &agent(&format!("attached-{n}"), AgentMode::Ephemeral, &["c1"])).await;
    }
    assert_eq!(rig.fleet.held().agents, 8);
    open(&rig, "c", "c1");
    assert_eq!(told(&rig, "attached-42").await, ["c"], "of those that are left, the one that came first");
    assert!(told(&rig, "attached-49").await.is_empty());
}

#[tokio::test]
async fn an_attached_agent_stays_while_a_policy_profiles_its_pod_or_it_has_work() {
    let rig = Rig::new();
    let attached = agent("one", AgentMode::Ephemeral, &["c1"]);
    let idle_hours = |reply: HeartbeatReply| reply.stay.unwrap().idle_ms.map(|ms| ms / 3_600_000);
    assert_eq!(idle_hours(says(&rig, &attached).await), None, "the policies have not told yet");
    rig.pass(15 * 60);
    assert_eq!(idle_hours(says(&rig, &attached).await), Some(2));
    rig.fleet.keep(["uid-a".to_owned()], after(rig.now(), SignedDuration::from_secs(60)));
    assert_eq!(idle_hours(says(&rig, &attached).await), None);
    rig.pass(60);
    assert_eq!(idle_hours(says(&rig, &attached).await), Some(2), "nobody says so any more");
    open(&rig, "c", "c1");
    assert_eq!(idle_hours(says(&rig, &attached).await), None);
    let sidecar = agent("two", AgentMode::Sidecar, &["c1"]);
    assert_eq!(says(&rig, &sidecar).await.stay, None, "it stays with its pod");
}

#[tokio::test]
async fn attached_agents_without_work_make_room_before_it_is_used_up() {
    let rig = Rig::new();
    rig.pass(15 * 60);
    let until = after(rig.now(), SignedDuration::from_hours(1));
    rig.fleet.keep(["uid-a".to_owned()], until);
    rig.fleet.set_places(4);
    for name in ["b", "c"] {
        rig.heartbeat(name, &beat(vec![])).await.accepted::<HeartbeatReply>();
    }
    let attached = agent("one", AgentMode::Ephemeral, &["c1"]);
    assert_eq!(says(&rig, &attached).await.stay.unwrap().idle_ms, None);
    rig.heartbeat("d", &beat(vec![])).await.accepted::<HeartbeatReply>();
    assert_eq!(says(&rig, &attached).await.stay.unwrap().idle_ms, Some(2 * 3_600_000));
}

#[tokio::test]
async fn an_agent_that_takes_its_leave_is_gone_at_once_and_what_it_reports_counts() {
    let rig = Rig::new();
    open(&rig, "c", "c1");
    says(&rig, &agent("one", AgentMode::Ephemeral, &["c1"])).await;
    says(&rig, &agent("two", AgentMode::Ephemeral, &["c2"])).await;
    let mut changes = rig.fleet.subscribe();
    let mut last = agent("one", AgentMode::Ephemeral, &["c1"]);
    (last.leaving, last.captures) = (true, vec![report("c", CaptureState::Finished)]);
    says(&rig, &last).await;
    let left: Vec<String> =
        rig.fleet.agents_of("uid-a").iter().map(|view| view.heartbeat.instance.clone()).collect();
    assert_eq!(left, ["two"]);
    assert_eq!(rig.fleet.report("c").unwrap().state, CaptureState::Finished);
    let mut told = [changes.next().await.unwrap(), changes.next().await.unwrap()];
    told.sort_by_key(|change| matches!(change, Change::Agent(_)));
    assert!(matches!(&told[..], [Change::Session { .. }, Change::Agent(pod)] if pod.uid == "uid-a"));
}
