//! A session of several kinds, from its order to its status.

use fleetprof_core::session::Action;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::CaptureState;
use fleetprof_crds::{ProfileKind, Reason};
use serde_json::{Value, json};

use crate::world::{World, pod};
use ProfileKind::{Cpu, Lock, Unknown, Wall};

fn of(profiles: Value) -> World {
    let mut w = World::new(json!({"target": {"pods": ["a"]}, "duration": "10s", "profiles": profiles}))
        .with_pod(pod("a"))
        .with_agent("a");
    w.observed.agents.get_mut("uid-a").unwrap().protocol = 2;
    w
}

fn ordered(w: &World) -> Vec<(u32, Vec<ProfileKind>)> {
    w.asked_to(|action| match action {
        Action::Open { order, .. } => Some((order.protocol, order.profiles.clone())),
        _ => None,
    })
}

#[test]
fn the_order_asks_for_all_kinds_and_for_no_more_protocol_than_they_need() {
    for (profiles, protocol, wanted) in [
        (json!(["cpu"]), 1, vec![Cpu]),
        (json!(["wall", "cpu"]), 2, vec![Wall, Cpu]),
        (json!(["cpu", "energy"]), 1, vec![Cpu]),
    ] {
        let mut w = of(profiles.clone());
        w.step();
        assert_eq!(ordered(&w), [(protocol, wanted)], "{profiles}");
    }
}

#[test]
fn an_agent_of_the_first_protocol_captures_cpu_and_is_too_old_for_more() {
    let cases = [
        (json!(["cpu"]), Reason::WaitingForAgent),
        (json!(["cpu", "wall"]), Reason::AgentTooOld),
        (json!(["wall"]), Reason::UnsupportedRuntime),
    ];
    for (profiles, reason) in cases {
        let mut w = of(profiles);
        w.observed.agents.get_mut("uid-a").unwrap().protocol = 1;
        w.step();
        assert_eq!(w.target("a").reason, Some(reason));
    }
}

#[test]
fn each_kind_becomes_a_row_of_its_own() {
    let mut w = of(json!(["wall", "cpu"]));
    w.step();
    w.stored = [(Cpu, 7), (Wall, 900)].into();
    w.report("a", CaptureState::Running, 2, None);
    w.report("a", CaptureState::Finished, 4, None).is(Phase::Succeeded, Reason::Completed);
    let rows: Vec<_> = w.target("a").profiles.iter().map(|p| (p.kind, p.samples)).collect();
    assert_eq!(rows, [(Wall, 900), (Cpu, 7)]);
    assert_eq!((w.target("a").samples, w.status().samples), (900, 900), "kinds are not added up");
}

#[test]
fn a_kind_with_nothing_to_see_is_said_and_fails_nothing() {
    let mut w = of(json!(["cpu", "lock"]));
    w.step();
    w.stored = [(Lock, 0)].into();
    w.report("a", CaptureState::Finished, 2, None).is(Phase::Succeeded, Reason::Completed);
    assert_eq!(w.target("a").message, "The target waited for no lock.");
    assert_eq!(w.target("a").profiles.len(), 1);
    let mut w = of(json!(["cpu", "lock"]));
    w.step();
    w.stored = [(Cpu, 0), (Lock, 0)].into();
    w.report("a", CaptureState::Finished, 2, None).is(Phase::Failed, Reason::NoSamples);
}

#[test]
fn what_is_stored_of_one_kind_stays_while_another_is_delayed() {
    let mut w = of(json!(["cpu", "wall"]));
    w.step();
    w.delayed = vec![Cpu];
    w.report("a", CaptureState::Finished, 2, None);
    let kinds = |w: &World| w.target("a").profiles.iter().map(|p| p.kind).collect::<Vec<_>>();
    assert_eq!((w.target("a").phase, kinds(&w)), (TargetPhase::Uploading, vec![Wall]));
    assert_eq!(w.target("a").reason, Some(Reason::StorageFailed));
    w.delayed = vec![Wall];
    w.after(1);
    assert_eq!((w.target("a").phase, kinds(&w)), (TargetPhase::Uploading, vec![Cpu, Wall]));
    w.delayed.clear();
    w.after(1).is(Phase::Succeeded, Reason::Completed);
    assert_eq!(kinds(&w), [Cpu, Wall]);

    let mut w = of(json!(["cpu", "wall"]));
    w.step();
    w.delayed = vec![Wall];
    w.report("a", CaptureState::Finished, 2, None);
    w.after(25 * 3600).after(1).is(Phase::PartiallySucceeded, Reason::SomeTargetsFailed);
    assert_eq!((kinds(&w), w.target("a").reason), (vec![Cpu], Some(Reason::StorageFailed)));
}

#[test]
fn a_kind_that_the_agent_left_out_makes_the_target_no_success() {
    let mut w = of(json!(["cpu", "wall"]));
    w.step();
    w.stored = [(Wall, 0)].into();
    w.report("a", CaptureState::Finished, 2, Some(Reason::AgentTooOld))
        .is(Phase::PartiallySucceeded, Reason::SomeTargetsFailed);
    assert_eq!((w.target("a").phase, w.target("a").reason), (TargetPhase::Failed, Some(Reason::AgentTooOld)));
    assert_eq!(w.target("a").profiles.len(), 1);
}

#[test]
fn a_kind_of_a_newer_version_is_skipped_and_said() {
    let mut w = of(json!(["energy"]));
    assert_eq!(w.session.spec.profiles, [Unknown]);
    w.step();
    assert_eq!(
        (w.target("a").phase, w.target("a").reason),
        (TargetPhase::Skipped, Some(Reason::InvalidSpec))
    );
    assert_eq!(w.status().phase, Phase::Failed);
    let mut w = of(json!(["cpu", "energy"]));
    w.step();
    w.report("a", CaptureState::Finished, 2, None).is(Phase::Succeeded, Reason::Completed);
    assert!(w.status().message.ends_with("this version does not know them."), "{}", w.status().message);
}

#[test]
fn each_kind_has_no_more_samples_than_it_can_have() {
    let mut w = of(json!(["cpu", "heap"]));
    w.step();
    w.stored = [(Cpu, i64::MAX), (ProfileKind::Heap, i64::MAX)].into();
    w.report("a", CaptureState::Finished, 2, None);
    let rows: Vec<_> = w.target("a").profiles.iter().map(|p| p.samples).collect();
    assert_eq!(rows, [990 * 4_096, 1 << 53]);
}
