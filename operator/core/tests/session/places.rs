//! Places in the budgets, and what a policy bounds or stops.

use crate::world::*;
use fleetprof_core::budget::Place;
use fleetprof_core::session::{Action, Settings, reopen, step};
use fleetprof_crds::Reason;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::CaptureState;
use jiff::SignedDuration;
use serde_json::{Value, json};

/// Two pods on one node and a session of them that a trigger of their policy started.
fn two_on_a_node(budget: Value) -> World {
    let target = json!({"pods": ["a", "b"]});
    World::new(json!({"policyRef": {"name": "p"}, "trigger": "CPU", "target": target, "duration": "2m", "startDeadline": "60s"}))
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
    let mut w = two_on_a_node(json!({"maxConcurrentPerNode": 1}));
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
    let mut w = two_on_a_node(json!({"maxConcurrentPerNode": 1}));
    w.step();
    w.report("a", CaptureState::Running, 0, None);
    w.after(61);
    assert_eq!((w.target("b").phase, w.target("b").reason), (TargetPhase::Skipped, Some(Reason::NodeBusy)));
    w.report("a", CaptureState::Finished, 1, None).is(Phase::PartiallySucceeded, Reason::SomeTargetsFailed);
    assert_eq!((w.status().counts.succeeded, w.status().counts.skipped), (1, 1));
    assert!(w.status().message.contains("raise the limit named in the message"), "{}", w.status().message);
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

/// A session of four pods on one node, started by `trigger`.
fn four_on_a_node(trigger: &str, budget: Value) -> World {
    let target = json!({"podSelector": {}});
    let spec = json!({"policyRef": {"name": "p"}, "trigger": trigger, "target": target, "duration": "2m"});
    let mut w =
        World::new(spec).with_policy(json!({"selector": {}, "budget": budget, "schedule": {"every": "24h"}}));
    for name in ["a", "b", "c", "d"] {
        w = w.with_pod(pod(name)).with_agent(name);
    }
    w
}

#[test]
fn a_node_has_as_many_scheduled_captures_as_cores_and_a_policy_may_ask_for_fewer() {
    // (CPU of the node, chart value budgets.node, budget.maxConcurrentPerNode, captures)
    let cases = [
        (None, None, None, 2),
        (Some(3000), None, None, 3),
        (Some(3000), None, Some(1), 1),
        (Some(3000), None, Some(100), 3),
        (Some(3000), Some(4), Some(100), 4),
        (Some(64_000), Some(1), Some(100), 1),
    ];
    for (cpu, node_budget, policy, wanted) in cases {
        let mut w =
            four_on_a_node("Schedule", policy.map_or(json!({}), |n| json!({"maxConcurrentPerNode": n})));
        w.settings.node_budget = node_budget;
        w.observed.node_cpu = cpu.map(|cpu| ("n1".to_owned(), cpu)).into_iter().collect();
        w.step();
        assert_eq!(open_orders(&w), wanted, "{cpu:?} {node_budget:?} {policy:?}");
    }
}

#[test]
fn what_a_person_requests_starts_whatever_machines_hold() {
    let mut w = four_on_a_node("OnDemand", json!({"maxConcurrent": 1, "maxConcurrentPerNode": 1}));
    (w.settings.node_budget, w.settings.namespace_budget, w.settings.fleet_budget) = (Some(1), 1, 1);
    let other = {
        let mut machines = four_on_a_node("Schedule", json!({}));
        machines.session.metadata.uid = Some("s-2".into());
        machines.step();
        machines
    };
    assert_eq!(open_orders(&other), 2);
    w.ledger = other.ledger;
    w.step();
    assert_eq!((open_orders(&w), w.ledger.len()), (4, 6), "{:#?}", w.status());
    let mut full = four_on_a_node("OnDemand", json!({}));
    full.settings.on_demand_budget = 3;
    full.step();
    assert_eq!((open_orders(&full), full.target("d").reason), (3, Some(Reason::NodeBusy)));
    assert!(full.target("d").message.contains("budgets.onDemandPerNode"), "{}", full.target("d").message);
}

#[test]
fn a_round_waits_for_slots_until_the_next_one_is_near_and_what_a_trigger_saw_does_not() {
    for (trigger, patient) in [("Schedule", true), ("CPU", false), ("OnDemand", false)] {
        let full = || {
            let mut w = four_on_a_node(trigger, json!({}));
            (w.settings.node_budget, w.settings.on_demand_budget) = (Some(1), 1);
            w
        };
        let (mut w, mut other) = (full(), full());
        other.session.metadata.uid = Some("s-2".into());
        other.step();
        w.ledger = other.ledger;
        w.step();
        assert_eq!(w.requeue, Some(SignedDuration::from_secs(1)), "{trigger}");
        w.after(61);
        assert!(!patient || w.requeue == Some(SignedDuration::from_secs(5)), "{:?}", w.requeue);
        let wanted = if patient { TargetPhase::Pending } else { TargetPhase::Skipped };
        let target = w.target("b");
        assert_eq!((target.phase, target.reason), (wanted, Some(Reason::NodeBusy)), "{trigger}");
        w.after(3600);
        assert_eq!(w.target("b").phase, TargetPhase::Skipped, "{trigger}: it does not wait for ever");
    }
}

#[test]
fn the_deadline_of_a_target_that_waited_counts_from_its_slot() {
    let mut w = four_on_a_node("Schedule", json!({"maxConcurrentPerNode": 1}));
    w.step();
    w.report("a", CaptureState::Running, 0, None);
    w.after(600).report("a", CaptureState::Finished, 1, None);
    let start_before = |w: &World| {
        w.asked_to(|a| if let Action::Open { order, .. } = a { Some(order.start_before) } else { None })
    };
    assert_eq!(w.target("b").phase, TargetPhase::Ordered, "{:#?}", w.target("b"));
    assert_eq!(start_before(&w), [w.now.as_second() + 60]);
    w.after(30);
    assert_eq!(start_before(&w), [w.now.as_second() + 30], "whenever the order is written");
}

#[test]
fn of_two_people_the_second_waits_for_the_container_and_is_told() {
    let first = {
        let mut w = one_pod();
        w.session.metadata.name = Some("lunch".into());
        w.step();
        w
    };
    let mut w = one_pod();
    w.session.metadata.uid = Some("s-2".into());
    w.ledger = first.ledger;
    w.step().is(Phase::Starting, Reason::ContainerBusy);
    let message = &w.target("a").message;
    assert!(message.starts_with("session lunch is capturing the container; waiting"), "{message}");
    assert_eq!(
        w.status().message,
        "Waiting for another session of the same container: 1 of 1 targets have not started."
    );
    w.after(400).is(Phase::Starting, Reason::ContainerBusy);
    let mut gives_up = World { ledger: w.ledger.clone(), ..one_pod() };
    (gives_up.session, gives_up.now) = (w.session.clone(), w.now);
    gives_up.after(30).is(Phase::Failed, Reason::ContainerBusy);
    w.ledger.release(&first.session.status.unwrap().targets[0].capture);
    w.after(1).is(Phase::Starting, Reason::WaitingForAgent);
    assert_eq!(open_orders(&w), 1);
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

#[test]
fn a_new_leader_places_the_orders_that_are_on_record_and_asks_nothing() {
    let mut w = one_pod();
    w.step();
    let settings = Settings { rules: rules(), ..Settings::default() };
    let again = |w: &World| reopen(&w.session, &w.observed, &settings);
    let [Action::Open { order, place: Some(claim), .. }] = &again(&w)[..] else { panic!("{:#?}", again(&w)) };
    assert_eq!((&order.capture, &claim.capture), (&w.target("a").capture, &w.target("a").capture));
    w.report("a", CaptureState::Running, 1, None);
    w.report("a", CaptureState::Uploading, 1, None);
    assert!(matches!(again(&w)[..], [Action::Open { place: None, .. }]), "it no longer takes a place");
    w.report("a", CaptureState::Finished, 1, None);
    assert_eq!(again(&w), []);
    w.session.status = None;
    assert_eq!(again(&w), []);
}
