//! A capture of a schedule or trigger yields to a person's session for the same container.

use crate::world::*;
use fleetprof_core::agent::AgentFacts;
use fleetprof_core::pod::AgentContainer;
use fleetprof_core::session::Action;
use fleetprof_crds::Reason;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::{CaptureState, PROTOCOL};
use serde_json::json;

/// A session of a schedule whose one target is ordered, from an agent that was injected or attached.
fn scheduled_from(injected: bool) -> World {
    let target = json!({"pods": ["a"]});
    let spec = json!({"policyRef": {"name": "p"}, "trigger": "Schedule", "target": target, "duration": "2m"});
    let mut pod = pod("a");
    if !injected {
        let state = pod.sidecar.take().unwrap();
        pod.attached = vec![AgentContainer { name: "fleetprof-agent-1".into(), target: "app".into(), state }];
    }
    let mode = if injected { "Sidecar" } else { "Ephemeral" };
    let policy = json!({"selector": {}, "agent": {"mode": mode}});
    let mut w = World::new(spec).with_policy(policy).with_pod(pod).with_agent("a");
    w.step();
    assert_eq!(w.target("a").phase, TargetPhase::Ordered);
    w
}

fn scheduled() -> World {
    scheduled_from(true)
}

/// A person requests the same container.
fn request(w: &mut World) {
    let capture = w.target("a").capture.clone();
    w.observed.yields.insert(capture, "lunch".into());
    w.step();
}

fn cancels(w: &World) -> Vec<bool> {
    w.asked_to(|a| if let Action::Open { order, .. } = a { Some(order.cancel) } else { None })
}

#[test]
fn a_capture_that_runs_stops_and_keeps_what_it_has() {
    for (protocol, injected) in (1..=PROTOCOL).flat_map(|protocol| [(protocol, true), (protocol, false)]) {
        let mut w = scheduled_from(injected);
        let agent = AgentFacts { version: "0.1.0".into(), protocol, ..AgentFacts::default() };
        w.observed.agents.insert("uid-a".into(), agent);
        w.report("a", CaptureState::Running, 2, None);
        request(&mut w);
        assert_eq!((cancels(&w), w.target("a").reason), (vec![true], Some(Reason::Yielded)), "{protocol}");
        w.observed.yields.clear();
        w.step();
        assert_eq!(cancels(&w), [true], "also when the person's capture was shorter than the answer took");
        w.report("a", CaptureState::Uploading, 2, Some(Reason::Cancelled));
        assert!(w.ledger.is_empty(), "it gives its place back as soon as the agent has stopped");
        w.report("a", CaptureState::Cancelled, 3, Some(Reason::Cancelled))
            .is(Phase::Succeeded, Reason::Completed);
        let target = w.target("a");
        assert_eq!((target.phase, target.reason), (TargetPhase::Succeeded, Some(Reason::Yielded)));
        assert_eq!(
            target.message,
            "Stopped for session lunch, in which a user requested a profile of the same container. Data \
             captured before that is kept."
        );
        assert!(
            w.status().message.ends_with("1 target stopped for a user's session."),
            "{}",
            w.status().message
        );
    }
}

#[test]
fn without_data_it_is_no_failure() {
    for running in [false, true] {
        let mut w = scheduled();
        if running {
            w.report("a", CaptureState::Running, 0, None);
        }
        request(&mut w);
        w.report("a", CaptureState::Cancelled, 0, Some(Reason::Cancelled))
            .is(Phase::Cancelled, Reason::Yielded);
        assert_eq!(w.target("a").phase, TargetPhase::Skipped);
        assert_eq!((w.status().counts.skipped, w.status().counts.failed), (1, 0));
        assert!(w.status().message.contains("Stopped for session lunch"), "{}", w.status().message);
        assert!(w.ledger.is_empty());
    }
}

#[test]
fn a_capture_that_has_not_begun_is_left_out_at_once() {
    let mut bare = pod("a");
    bare.sidecar = None;
    let spec = json!({"policyRef": {"name": "p"}, "trigger": "CPU", "target": {"pods": ["a"]}});
    let mut w = World::new(spec).with_policy(json!({"selector": {}, "agent": {"mode": "Ephemeral"}}));
    w = w.with_pod(bare);
    w.step();
    assert_eq!((w.target("a").phase, w.ledger.len()), (TargetPhase::Attaching, 1));
    request(&mut w);
    w.is(Phase::Cancelled, Reason::Yielded);
    assert!(w.ledger.is_empty());
}

#[test]
fn what_ended_otherwise_before_it_could_stop_says_so() {
    let cases = [
        (CaptureState::Finished, None, TargetPhase::Succeeded, Reason::Completed),
        (CaptureState::Failed, Some(Reason::CollectorCrashed), TargetPhase::Failed, Reason::CollectorCrashed),
    ];
    for (state, problem, phase, reason) in cases {
        let mut w = scheduled();
        w.report("a", CaptureState::Running, 1, None);
        request(&mut w);
        w.report("a", state, 1, problem);
        assert_eq!((w.target("a").phase, w.target("a").reason), (phase, Some(reason)), "{state:?}");
    }
}

#[test]
fn a_capture_whose_slices_are_on_their_way_does_not_yield() {
    let mut w = scheduled();
    w.report("a", CaptureState::Running, 1, None).after(120);
    w.report("a", CaptureState::Uploading, 12, None);
    assert!(w.ledger.is_empty(), "it holds no place that could be wanted");
    request(&mut w);
    assert_eq!((cancels(&w), w.target("a").reason), (vec![false], Some(Reason::Uploading)));
}

#[test]
fn an_agent_that_does_not_answer_keeps_no_session_open() {
    let mut w = scheduled();
    w.report("a", CaptureState::Running, 0, None);
    request(&mut w);
    w.observed.agents.clear();
    w.after(166);
    assert!(w.status().phase.is_terminal(), "{:#?}", w.status());
    assert!(w.ledger.is_empty());
}
