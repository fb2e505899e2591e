//! What does the fleet remember, and for how long?

use std::time::Duration;

use fleetprof_core::agent::AgentId;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::{CaptureState, Heartbeat, HeartbeatReply};
use jiff::Timestamp;

use super::rig::{START, beat, order, pod, report, scope};
use crate::agents::{Change, Changes};
use crate::gateway::fleet::Admission;
use crate::gateway::{Fleet, PodId};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

fn synced() -> Fleet {
    let fleet = Fleet::new();
    fleet.set_synced(true, at(0));
    fleet
}

fn heard(fleet: &Fleet, name: &str, beat: Heartbeat, seconds: i64) -> HeartbeatReply {
    fleet.heartbeat(&pod(name).into(), beat, at(seconds)).unwrap().0
}

fn session() -> Change {
    Change::Session { namespace: "shop".into(), name: "session".into() }
}

/// The changes so far.
async fn told(changes: &mut Changes, fleet: &Fleet) -> Vec<Change> {
    fleet.tell_for_test(Change::Everything);
    let mut told = Vec::new();
    while let Some(change) = changes.next().await.filter(|change| *change != Change::Everything) {
        told.push(change);
    }
    told
}

#[tokio::test]
async fn an_agent_is_gone_after_three_of_its_intervals() {
    let fleet = synced();
    heard(&fleet, "idle", beat(vec![]), 0);
    fleet.open(scope("c", "busy"), order("c"));
    heard(&fleet, "busy", beat(vec![]), 0);
    let mut changes = fleet.subscribe();
    assert!(fleet.expire(at(15)).is_empty());
    assert_eq!(fleet.expire(at(16)), [pod("busy")]);
    assert!(fleet.expire(at(90)).is_empty());
    assert_eq!(fleet.expire(at(91)), [pod("idle")]);
    assert!(fleet.agents().is_empty());
    assert_eq!(told(&mut changes, &fleet).await, [Change::Agent(pod("busy")), Change::Agent(pod("idle"))]);
    assert!(fleet.scope("c").is_some(), "a capture outlives its agent");
}

#[tokio::test]
async fn a_pod_whose_agents_change_all_the_time_is_told_of_once_a_second_and_at_last() {
    let fleet = synced();
    let mut changes = fleet.subscribe();
    let flip = |n: i64| Heartbeat { instance: format!("instance-{n}"), ..beat(vec![]) };
    for n in 0..100 {
        heard(&fleet, "hostile", flip(n), n / 10);
    }
    heard(&fleet, "quiet", beat(vec![]), 9);
    let of = |name: &str, all: &[Change]| all.iter().filter(|c| **c == Change::Agent(pod(name))).count();
    let all = told(&mut changes, &fleet).await;
    assert_eq!((of("hostile", &all), of("quiet", &all)), (8 + 9, 1));
    fleet.expire(at(10));
    let all = told(&mut changes, &fleet).await;
    assert_eq!((of("hostile", &all), of("quiet", &all)), (1, 0), "the last word is told");
    fleet.expire(at(11));
    assert_eq!(told(&mut changes, &fleet).await, []);
}

#[tokio::test]
async fn an_agent_that_appears_restarts_or_sees_other_containers_is_told_of_and_a_busy_one_is_not() {
    let fleet = synced();
    let mut changes = fleet.subscribe();
    heard(&fleet, "a", beat(vec![]), 0);
    assert_eq!(told(&mut changes, &fleet).await, [Change::Agent(pod("a"))]);
    let mut busier = beat(vec![]);
    busier.containers[0].cpu_percent = Some(99);
    heard(&fleet, "a", busier.clone(), 1);
    assert_eq!(told(&mut changes, &fleet).await, []);
    busier.instance = "instance-2".into();
    heard(&fleet, "a", busier.clone(), 2);
    busier.containers.clear();
    heard(&fleet, "a", busier, 3);
    assert_eq!(told(&mut changes, &fleet).await, [Change::Agent(pod("a")), Change::Agent(pod("a"))]);
}

#[tokio::test]
async fn a_changed_report_is_told_of_and_a_repeated_one_is_not() {
    let fleet = synced();
    fleet.open(scope("c", "a"), order("c"));
    heard(&fleet, "a", beat(vec![]), 0);
    let mut changes = fleet.subscribe();
    heard(&fleet, "a", beat(vec![report("c", CaptureState::Running)]), 1);
    assert_eq!(told(&mut changes, &fleet).await, [session()]);
    heard(&fleet, "a", beat(vec![report("c", CaptureState::Running)]), 2);
    assert_eq!(told(&mut changes, &fleet).await, []);
    let view = fleet.capture("c").unwrap();
    assert_eq!((view.reported, view.instance.as_deref()), (Some(at(2)), Some("instance-1")));
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_to_look_at_everything() {
    let fleet = synced();
    let mut changes = fleet.subscribe();
    fleet.open(scope("c", "a"), order("c"));
    (0..10_000).for_each(|_| fleet.note_stored("c"));
    assert_eq!(changes.next().await, Some(Change::Everything));
    assert_eq!(changes.next().await, Some(session()));
    drop(fleet);
    while changes.next().await.is_some() {}
}

#[test]
fn a_final_report_never_goes_back_but_its_uploads_go_on() {
    let fleet = synced();
    fleet.open(scope("c", "a"), order("c"));
    heard(&fleet, "a", beat(vec![report("c", CaptureState::Failed)]), 0);
    for state in
        [CaptureState::Running, CaptureState::Accepted, CaptureState::Finished, CaptureState::Skipped]
    {
        let mut later = report("c", state);
        later.uploaded = 1;
        later.samples = 5;
        heard(&fleet, "a", beat(vec![later]), 1);
        let kept = fleet.report("c").unwrap();
        assert_eq!((kept.state, kept.uploaded, kept.samples), (CaptureState::Failed, 1, 10));
    }
}

#[test]
fn what_an_agent_reported_before_its_capture_was_opened_again_counts() {
    let fleet = Fleet::new();
    heard(&fleet, "a", beat(vec![report("c", CaptureState::Uploading)]), 7);
    fleet.open(scope("c", "a"), order("c"));
    let view = fleet.capture("c").unwrap();
    assert_eq!(view.report, Some(report("c", CaptureState::Uploading)));
    assert_eq!((view.reported, view.instance.as_deref()), (Some(at(7)), Some("instance-1")));
    fleet.open(scope("d", "b"), order("d"));
    assert_eq!(fleet.report("d"), None);
}

#[test]
fn opening_again_changes_nothing_but_what_differs() {
    let fleet = synced();
    fleet.open(scope("c", "a"), order("c"));
    heard(&fleet, "a", beat(vec![report("c", CaptureState::Running)]), 0);
    fleet.note_stored("c");
    let before = fleet.capture("c").unwrap();
    fleet.open(scope("c", "a"), order("c"));
    assert_eq!(fleet.capture("c").unwrap(), before);
    let mut relabelled = scope("c", "a");
    relabelled.labels.insert("team".into(), "shop".into());
    fleet.open(relabelled.clone(), order("c"));
    let after = fleet.capture("c").unwrap();
    assert_eq!((*after.scope).clone(), relabelled);
    assert_eq!((after.report, after.uploads), (before.report, 1));
}

#[test]
fn an_order_carries_the_name_of_its_scope() {
    let fleet = synced();
    fleet.open(scope("c", "a"), order("another"));
    assert_eq!(fleet.orders_now("uid-a").orders, [order("c")]);
}

#[test]
fn a_capture_that_moves_to_another_pod_leaves_the_first() {
    let fleet = synced();
    fleet.open(scope("c", "a"), order("c"));
    heard(&fleet, "a", beat(vec![report("c", CaptureState::Finished)]), 0);
    fleet.open(scope("c", "b"), order("c"));
    assert!(fleet.orders_now("uid-a").orders.is_empty());
    assert_eq!(fleet.orders_now("uid-b").orders, [order("c")]);
    assert_eq!(fleet.report("c"), None, "the first pod's report says nothing of the second");
}

#[test]
fn closing_what_is_not_open_is_nothing() {
    let fleet = synced();
    fleet.close("c");
    fleet.note_stored("c");
    assert!(fleet.open_captures().is_empty() && fleet.capture("c").is_none());
}

#[test]
fn a_leader_has_settled_in_a_while_after_syncing() {
    let fleet = Fleet::new();
    assert!(!fleet.settled_in(at(1_000)));
    fleet.set_synced(true, at(1_000));
    fleet.set_synced(true, at(1_050));
    assert!(!fleet.settled_in(at(1_089)) && fleet.settled_in(at(1_090)));
    fleet.set_synced(false, at(2_000));
    assert!(!fleet.settled_in(at(3_000)) && !fleet.synced());
}

#[test]
fn the_number_of_agents_is_bounded_and_known_ones_are_still_served() {
    let fleet = synced();
    for n in 0..50_000 {
        heard(&fleet, &n.to_string(), Heartbeat { containers: vec![], ..beat(vec![]) }, 0);
    }
    assert!(fleet.heartbeat(&pod("one more").into(), beat(vec![]), at(0)).is_err());
    assert_eq!(heard(&fleet, "7", beat(vec![]), 0).next_ms, 300_000);
}

#[tokio::test]
async fn a_capture_belongs_to_one_session_and_a_pod_to_its_namespace() {
    let fleet = synced();
    let own = scope("c", "a");
    fleet.open(own.clone(), order("c"));
    let thief = CaptureScope { session_uid: "another".into(), ..scope("c", "b") };
    fleet.open(thief, order("c"));
    assert_eq!(fleet.scope("c").as_deref(), Some(&own), "it stays with its session");
    let orders = async |pod: &PodId| {
        fleet
            .orders(&AgentId::Pod(pod.clone().into()), None, None, Duration::ZERO)
            .await
            .unwrap()
            .orders
            .len()
    };
    assert_eq!((orders(&pod("a")).await, orders(&pod("b")).await), (1, 0));

    // The status of a session names the uid of a pod of another namespace.
    let foreign = PodId { namespace: "payments".into(), ..pod("a") };
    let mut beat = beat(vec![report("c", CaptureState::Running)]);
    beat.instance = "foreign".into();
    fleet.heartbeat(&foreign.clone().into(), beat, at(1)).unwrap();
    assert_eq!(orders(&foreign).await, 0, "it is not ordered");
    assert_eq!(fleet.report("c"), None, "it is not heard");
    assert!(
        matches!(fleet.admit("c", &AgentId::Pod(foreign.clone().into())), Admission::Unknown),
        "it may not upload"
    );
}
