//! Places in the budgets, and what a policy bounds or stops.

use crate::world::*;
use fleetprof_core::budget::Place;
use fleetprof_core::session::{Action, Settings, step};
use fleetprof_crds::Reason;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::CaptureState;
use jiff::SignedDuration;
use serde_json::{Value, json};

/// Two pods on one node under a policy that lets one capture run on a node.
fn two_on_a_node(budget: Value) -> World {
    World::new(json!({"policyRef": {"name": "p"}, "target": {"pods": ["a", "b"]}, "duration": "2m", "startDeadline": "60s"}))
        .with_policy(json!({"selector": {}, "budget": budget}))
        .with_pod(pod("a"))
        .with_pod(pod("b"))
        .with_agent("a")
        .with_agent("b")
}

fn open_orders(w: &World) -> usize {
    w.asked_to(|a| if let Action::Open { place: Some(_), .. } = a { Some(()) } else { None }).len()
}

#[test]
fn who_finds_the_node_busy_waits_and_gets_the_place() {
    let mut w = two_on_a_node(json!({}));
    w.step();
    assert_eq!(
        (open_orders(&w), w.target("b").phase, w.target("b").reason),
        (1, TargetPhase::Pending, Some(Reason::NodeBusy))
    );
    assert!(
        w.target("b")
            .message
            .contains("the limit is 1 (budget.maxConcurrentPerNode); waiting for a slot until"),
        "{}",
        w.target("b").message
    );
    w.report("a", CaptureState::Running, 0, None).is(Phase::Running, Reason::Capturing);
    w.after(10).report("a", CaptureState::Finished, 1, None);
    w.after(1);
    assert_eq!(w.target("b").phase, TargetPhase::Ordered);
    w.report("b", CaptureState::Running, 0, None);
    w.after(10).report("b", CaptureState::Finished, 1, None).is(Phase::Succeeded, Reason::Completed);
    assert!(w.ledger.is_empty());
}

#[test]
fn who_gets_no_place_in_time_is_skipped() {
    let mut w = two_on_a_node(json!({}));
    w.step();
    w.report("a", CaptureState::Running, 0, None);
    w.after(61);
    assert_eq!((w.target("b").phase, w.target("b").reason), (TargetPhase::Skipped, Some(Reason::NodeBusy)));
    w.report("a", CaptureState::Finished, 1, None).is(Phase::PartiallySucceeded, Reason::SomeTargetsFailed);
    assert_eq!((w.status().counts.succeeded, w.status().counts.skipped), (1, 1));
    assert!(w.status().message.contains("raise budget.maxConcurrentPerNode"), "{}", w.status().message);
}

#[test]
fn a_policys_own_budget_binds() {
    let mut w = two_on_a_node(json!({"maxConcurrentPerNode": 5, "maxConcurrent": 1}));
    w.step();
    assert_eq!((open_orders(&w), w.target("b").reason), (1, Some(Reason::BudgetExhausted)));
    let mut wide = two_on_a_node(json!({"maxConcurrentPerNode": 5}));
    wide.step();
    assert_eq!(open_orders(&wide), 2);
}

#[test]
fn a_place_is_on_record_before_its_order_is_out() {
    let mut w = one_pod();
    let first = step(&w.session, &w.observed, &Settings::default());
    assert!(matches!(first.actions.as_slice(), [Action::Claim(_)]), "{:?}", first.actions);
    let capture = first.status.targets[0].capture.clone();
    w.session.status = Some(first.status);
    w.observed.places.insert(capture, Place::Granted);
    let second = step(&w.session, &w.observed, &Settings::default());
    assert_eq!(
        (second.status.targets[0].phase, second.actions.as_slice()),
        (TargetPhase::Ordered, [Action::Record].as_slice())
    );
    w.session.status = Some(second.status);
    let third = step(&w.session, &w.observed, &Settings::default());
    assert!(matches!(third.actions.as_slice(), [Action::Open { place: Some(_), .. }]), "{:?}", third.actions);
}

#[test]
fn a_place_that_may_not_be_recorded_yet_is_kept_and_nothing_waits_for_it() {
    let left = SignedDuration::from_millis(700);
    let mut w = one_pod();
    w.observed.until_record = Some(left);
    w.step();
    assert_eq!((w.target("a").phase, w.ledger.len()), (TargetPhase::Pending, 1), "the place is kept");
    assert!(w.actions.is_empty(), "neither record nor order: {:?}", w.actions);
    assert_eq!(w.requeue, Some(left), "it comes back when the record is due");
    w.step();
    assert_eq!((w.target("a").phase, w.ledger.len()), (TargetPhase::Pending, 1), "nor does a second look");
    w.observed.until_record = None;
    w.step();
    assert_eq!((w.target("a").phase, open_orders(&w), w.ledger.len()), (TargetPhase::Ordered, 1, 1));
}

#[test]
fn a_target_that_ends_before_its_place_is_on_record_gives_it_back() {
    let mut w = one_pod();
    w.observed.until_record = Some(SignedDuration::from_millis(700));
    w.step();
    assert_eq!(w.ledger.len(), 1);
    w.session.spec.cancel = true;
    w.step();
    w.step();
    assert_eq!((w.target("a").phase, w.ledger.is_empty()), (TargetPhase::Cancelled, true));
}

#[test]
fn a_small_container_is_left_alone() {
    let mut small = pod("a");
    small.containers[0].cpu_limit = Some(50);
    let mut w = World::new(json!({"policyRef": {"name": "p"}, "target": {"pods": ["a"]}}))
        .with_policy(json!({"selector": {}}))
        .with_pod(small)
        .with_agent("a");
    w.step().is(Phase::Failed, Reason::TooSmall);
    assert!(
        w.target("a").message.contains("limit of 50m, but budget.minContainerCPU is 100m"),
        "{}",
        w.target("a").message
    );
}

#[test]
fn suspending_with_cancel_stops_what_runs() {
    for (behavior, phase) in [("Finish", Phase::Running), ("Cancel", Phase::Cancelled)] {
        let mut w = two_on_a_node(json!({"maxConcurrentPerNode": 2}));
        w.step();
        w.report("a", CaptureState::Running, 0, None);
        w.report("b", CaptureState::Running, 0, None);
        let mut w = w.with_policy(json!({"selector": {}, "suspend": true, "suspendBehavior": behavior}));
        w.step();
        if behavior == "Cancel" {
            assert!(
                w.asked_to(|a| if let Action::Open { order, .. } = a { Some(order.cancel) } else { None })
                    .iter()
                    .all(|c| *c)
            );
            w.report("a", CaptureState::Cancelled, 0, None);
            w.report("b", CaptureState::Cancelled, 0, None);
        }
        assert_eq!(w.status().phase, phase, "{behavior}: {:#?}", w.status());
    }
}

#[test]
fn percent_bounds_a_round() {
    let cases = [
        ("Schedule", 100, 10),
        ("Schedule", 50, 5),
        ("Schedule", 1, 1),
        ("OnDemand", 50, 5),
        ("OnDemand", 0, 10),
        ("CPU", 0, 10),
    ];
    for (trigger, percent, wanted) in cases {
        let mut w = World::new(json!({"policyRef": {"name": "p"}, "trigger": trigger})).with_policy(
            json!({"selector": {}, "sampling": {"percent": percent, "replicasPerWorkload": 50}, "budget": {"maxConcurrentPerNode": 50}}),
        );
        for n in 0..10 {
            w = w.with_pod(pod(&format!("p{n}"))).with_agent(&format!("p{n}"));
        }
        w.step();
        assert_eq!(w.status().targets.len(), wanted, "{trigger} {percent} %");
    }
}
