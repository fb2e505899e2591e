//! A session of several kinds, from its order to its status.

use std::sync::Arc;

use fleetprof_core::session::Action;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::{CaptureState, Offer, Problem};
use fleetprof_crds::{ProfileKind, Reason};
use serde_json::{Value, json};

use crate::world::{World, pod};
use ProfileKind::{Cpu, Lock, Unknown, Wall};

fn of(profiles: Value) -> World {
    let mut w = World::new(json!({"target": {"pods": ["a"]}, "duration": "10s", "profiles": profiles}))
        .with_pod(pod("a"))
        .with_agent("a");
    offer(&mut w, &ProfileKind::ALL.map(|kind| Offer::good(kind, "all")));
    w
}

/// What the pod's agent says that it can capture.
fn offer(w: &mut World, offers: &[Offer]) {
    let agent = w.observed.agents.get_mut("uid-a").unwrap();
    agent.protocol = 2;
    agent.runtimes = [("a-c".to_owned(), "Go 1.26".to_owned())].into();
    agent.offers = [("a-c".to_owned(), offers.to_vec())].into();
}

fn refused(kind: ProfileKind) -> Offer {
    let message = "no listener of the process serves /debug/pprof".to_owned();
    Offer::refused(kind, "go-pprof", Problem { reason: Reason::UnsupportedRuntime, message })
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
fn an_agent_that_names_no_offers_captures_cpu_and_the_rest_is_named() {
    let cases = [
        (json!(["cpu"]), 1, Reason::WaitingForAgent, ""),
        (
            json!(["cpu", "wall"]),
            1,
            Reason::WaitingForAgent,
            "Not captured: wall (the agent does not support it",
        ),
        (
            json!(["cpu", "wall"]),
            2,
            Reason::WaitingForAgent,
            "Not captured: wall (the agent does not support it",
        ),
        (
            json!(["wall"]),
            1,
            Reason::UnsupportedRuntime,
            "The agent supports cpu for this container, but wall",
        ),
    ];
    for (profiles, protocol, reason, said) in cases {
        let mut w = of(profiles.clone());
        offer(&mut w, &[]);
        w.observed.agents.get_mut("uid-a").unwrap().protocol = protocol;
        w.step();
        assert_eq!(w.target("a").reason, Some(reason), "{profiles} {protocol}");
        assert!(w.target("a").message.contains(said), "{}", w.target("a").message);
        if reason == Reason::WaitingForAgent {
            assert_eq!(ordered(&w), [(1, vec![Cpu])], "{profiles} {protocol}");
        }
    }
}

#[test]
fn an_agent_of_the_first_protocol_is_too_old_for_what_it_offers_by_mistake() {
    let mut w = of(json!(["wall"]));
    w.observed.agents.get_mut("uid-a").unwrap().protocol = 1;
    w.step();
    assert_eq!(
        (w.target("a").phase, w.target("a").reason),
        (TargetPhase::Skipped, Some(Reason::AgentTooOld))
    );
}

#[test]
fn what_cannot_be_captured_is_skipped_with_its_reason_before_anything_starts() {
    let mut w = of(json!(["heap", "lock"]));
    offer(&mut w, &[Offer::good(Cpu, "native"), refused(ProfileKind::Heap), refused(Lock)]);
    w.step();
    assert_eq!(ordered(&w), []);
    assert_eq!(
        (w.target("a").phase, w.target("a").reason),
        (TargetPhase::Skipped, Some(Reason::UnsupportedRuntime))
    );
    assert!(w.target("a").message.contains("listener of the process serves"), "{}", w.target("a").message);
    w.after(1).is(Phase::Failed, Reason::UnsupportedRuntime);
}

#[test]
fn kinds_that_cannot_be_captured_while_others_can_are_named_and_fail_nothing() {
    let mut w = of(json!(["heap", "cpu"]));
    offer(&mut w, &[Offer::good(Cpu, "native"), refused(ProfileKind::Heap)]);
    w.step();
    let named = "Not captured: heap (no listener of the process serves /debug/pprof).";
    assert_eq!(ordered(&w), [(1, vec![Cpu])]);
    assert_eq!(w.target("a").message, format!("The capture is ordered. {named}"));
    // What was planned stays, whatever the agent says later: the order is out.
    offer(&mut w, &ProfileKind::ALL.map(|kind| Offer::good(kind, "all")));
    w.after(1);
    assert_eq!(ordered(&w), [(1, vec![Cpu])]);
    w.report("a", CaptureState::Finished, 2, None).is(Phase::Succeeded, Reason::Completed);
    let target = w.target("a");
    assert_eq!(target.profiles.iter().map(|p| p.kind).collect::<Vec<_>>(), [Cpu]);
    assert!(
        target.message.ends_with(named) && !target.message.contains("held no memory"),
        "{}",
        target.message
    );
}

#[test]
fn wall_time_is_captured_with_cpu_where_threads_wait_and_named_with_a_reason_elsewhere() {
    let mut w = of(json!(["cpu", "wall"]));
    offer(&mut w, &[Offer::good(Cpu, "py-spy"), Offer::good(Wall, "py-spy")]);
    w.step();
    assert_eq!(ordered(&w), [(2, vec![Cpu, Wall])]);
    w.stored = [(Cpu, 70), (Wall, 900)].into();
    w.report("a", CaptureState::Finished, 2, None).is(Phase::Succeeded, Reason::Completed);
    let rows: Vec<_> = w.target("a").profiles.iter().map(|p| (p.kind, p.samples)).collect();
    assert_eq!(rows, [(Cpu, 70), (Wall, 900)]);

    let of_go = [Offer::good(Cpu, "go-pprof")];
    let mut w = of(json!(["cpu", "wall"]));
    offer(&mut w, &of_go);
    w.step();
    assert_eq!(ordered(&w), [(1, vec![Cpu])]);
    let said = "Not captured: wall (the agent does not support it for this container).";
    assert!(w.target("a").message.contains(said), "{}", w.target("a").message);
    let mut w = of(json!(["wall"]));
    offer(&mut w, &of_go);
    w.step();
    assert_eq!(
        (w.target("a").phase, w.target("a").reason),
        (TargetPhase::Skipped, Some(Reason::UnsupportedRuntime))
    );
}

#[test]
fn a_container_that_the_agent_has_not_reported_is_waited_for_where_more_than_cpu_is_wanted() {
    let unreported = |profiles: Value| {
        let mut w = of(profiles);
        let agent = w.observed.agents.get_mut("uid-a").unwrap();
        (agent.runtimes, agent.offers) = Default::default();
        w.step();
        w
    };
    assert_eq!(ordered(&unreported(json!(["cpu"]))), [(1, vec![Cpu])]);
    let mut w = unreported(json!(["cpu", "heap"]));
    assert_eq!((w.target("a").phase, ordered(&w)), (TargetPhase::Pending, vec![]));
    offer(&mut w, &[Offer::good(Cpu, "native"), Offer::good(ProfileKind::Heap, "go-pprof")]);
    w.after(5);
    assert_eq!(ordered(&w), [(2, vec![Cpu, ProfileKind::Heap])]);
    let mut never = unreported(json!(["cpu", "heap"]));
    never.after(3600);
    assert_eq!(ordered(&never), [(1, vec![Cpu])], "after the deadline it is ordered as of an old agent");
}

#[test]
fn what_the_agent_says_of_an_empty_kind_is_kept() {
    let mut w = of(json!(["cpu", "lock"]));
    w.step();
    w.stored = [(Lock, 0)].into();
    let note = "No lock samples: call runtime.SetMutexProfileFraction.";
    w.report_with("a", CaptureState::Finished, 2, None, |report| report.note = Some(note.into()))
        .is(Phase::Succeeded, Reason::Completed);
    assert_eq!(w.target("a").message, note);
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
    // What could not be read again now is there already.
    w.delayed = vec![Wall];
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

/// The first look at a container may see the program of the runtime that starts it, which nobody may look into.
#[test]
fn a_refusal_of_a_container_that_has_just_started_is_not_believed() {
    let started = || {
        let mut w = of(json!(["cpu"]));
        let mut young = pod("a");
        young.containers[0].since = Some(w.now);
        w.observed.pods = vec![Arc::new(young)];
        offer(&mut w, &[refused(Cpu)]);
        w.step();
        assert_eq!(w.target("a").reason, Some(Reason::WaitingForAgent), "{}", w.target("a").message);
        assert!(w.target("a").message.starts_with("The container app has just started: "));
        w
    };
    let mut w = started();
    offer(&mut w, &[Offer::good(Cpu, "perf")]);
    w.step();
    assert_eq!(ordered(&w), [(1, vec![Cpu])]);

    let mut w = started();
    w.after(21).step();
    let target = w.target("a");
    assert_eq!((target.phase, target.reason), (TargetPhase::Skipped, Some(Reason::UnsupportedRuntime)));
}

/// A session of two kinds whose destination, the archive, says this of their profiles, one after the other.
fn told(turns: [(ProfileKind, Vec<fleetprof_core::destination::Delivery>); 2]) -> World {
    let session = json!({"target": {"pods": ["a"]}, "duration": "10s", "profiles": ["cpu", "wall"], "destinations": ["archive"]});
    let mut w = World::new(session).with_pod(pod("a")).with_agent("a");
    w.settings.destinations = vec!["archive".to_owned()];
    offer(&mut w, &ProfileKind::ALL.map(|kind| Offer::good(kind, "all")));
    w.turns.get_mut().extend(turns.map(|(kind, turns)| (kind, turns.into())));
    w.step();
    w.report("a", CaptureState::Running, 0, None);
    w.after(10).report("a", CaptureState::Finished, 2, None);
    for _ in 0..4 {
        w.after(10);
    }
    w
}

/// An outbox tells once that a profile has arrived: asked again, it takes it in again.
#[test]
fn a_kind_that_has_arrived_is_not_sent_again_while_another_one_is_on_its_way() {
    use fleetprof_core::destination::Delivery::{Failed, Stored, Underway};
    let refused = Failed(Reason::UploadRejected, "400: too old".into());
    // (what is said of wall at last, the target's phase)
    for (last, phase) in [(Stored, TargetPhase::Succeeded), (refused, TargetPhase::Failed)] {
        let w = told([
            (Cpu, vec![Underway(None), Stored]),
            (Wall, vec![Underway(None), Underway(None), Underway(None), last]),
        ]);
        let target = w.target("a");
        assert_eq!(target.phase, phase, "{target:?}");
        let held = |kind| target.profiles.iter().find(|p| p.kind == kind).unwrap().destinations.clone();
        assert_eq!(held(Cpu), ["archive"], "{target:?}");
        assert_eq!(held(Wall).is_empty(), phase == TargetPhase::Failed, "{target:?}");
    }
}

/// The other way round: the refusal comes first, and is not forgotten.
#[test]
fn a_kind_that_was_refused_fails_its_target_although_another_one_arrives_later() {
    use fleetprof_core::destination::Delivery::{Failed, Stored, Underway};
    let refused = Failed(Reason::UploadRejected, "400: too old".into());
    let w = told([(Cpu, vec![refused]), (Wall, vec![Underway(None), Underway(None), Stored])]);
    let target = w.target("a");
    assert_eq!(
        (target.phase, target.reason),
        (TargetPhase::Failed, Some(Reason::UploadRejected)),
        "{target:?}"
    );
    assert!(target.message.contains("did not take the cpu profile"), "{target:?}");
    assert_eq!(target.profiles.len(), 2, "both can be read: {target:?}");
}
