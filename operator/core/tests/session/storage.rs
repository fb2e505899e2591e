//! What a session says of the results volume: full, over the share, lost.

use crate::world::*;
use fleetprof_core::session::Action;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::{CaptureState, Problem};
use fleetprof_crds::{Reason, names};
use serde_json::json;

#[test]
fn a_full_volume_delays_and_never_loses() {
    let mut w = one_pod();
    w.results_full = true;
    w.step();
    w.report("a", CaptureState::Running, 0, None)
        .after(10)
        .report("a", CaptureState::Finished, 1, None)
        .is(Phase::Uploading, Reason::StorageFull);
    w.results_full = false;
    w.after(5).is(Phase::Succeeded, Reason::Completed);
}

fn no_room(reason: Reason, message: &str) -> Option<Problem> {
    Some(Problem { reason, message: message.into() })
}

#[test]
fn a_full_volume_is_told_while_slices_wait() {
    let mut w = one_pod();
    w.step();
    w.report("a", CaptureState::Running, 0, None).after(10).report("a", CaptureState::Uploading, 1, None);
    w.observed.no_room = no_room(Reason::StorageFull, "the results volume is full: 1 MiB are free of 9 MiB");
    w.after(2).is(Phase::Uploading, Reason::StorageFull);
    w.after(900).is(Phase::Processing, Reason::StorageFull);
    w.observed.no_room = None;
    w.after(2).is(Phase::Processing, Reason::ResultsDelayed);
    w.report("a", CaptureState::Finished, 1, None).is(Phase::Succeeded, Reason::Completed);
}

#[test]
fn a_namespace_over_its_share_is_told_whose_it_is() {
    let mut w = one_pod();
    w.step();
    w.report("a", CaptureState::Running, 0, None).after(10).report("a", CaptureState::Uploading, 1, None);
    w.observed.no_room = no_room(Reason::NamespaceStorageFull, "namespace shop keeps 70 MiB");
    w.after(2).is(Phase::Uploading, Reason::NamespaceStorageFull);
    assert!(
        w.target("a")
            .message
            .starts_with("Namespace shop keeps 70 MiB; the agent keeps its data; delete old")
    );
    w.observed.no_room = no_room(Reason::NamespaceStorageFull, "namespace shop keeps 71 MiB");
    let before = w.status().clone();
    assert_eq!(w.after(1).status(), &before, "a number that moves is not worth a write");
    w.observed.no_room = no_room(Reason::StorageFull, "the results volume is full");
    w.after(2).is(Phase::Uploading, Reason::StorageFull);
    w.observed.no_room = None;
    w.after(2).is(Phase::Uploading, Reason::Uploading);
}

#[test]
fn a_profile_of_fewer_slices_than_were_uploaded_is_no_success() {
    let mut w = one_pod();
    w.step();
    w.lost = 2;
    w.report("a", CaptureState::Running, 1, None).after(10);
    w.report("a", CaptureState::Finished, 6, None).is(Phase::PartiallySucceeded, Reason::SomeTargetsFailed);
    let target = w.target("a");
    assert_eq!((target.phase, target.reason), (TargetPhase::Failed, Some(Reason::SlicesLost)));
    assert!(
        target.message.starts_with("2 of 6 uploaded slices are gone from the results volume"),
        "{}",
        target.message
    );
    assert_eq!((target.profiles.len(), target.samples), (1, 42), "what is left is kept");
    assert!(w.status().message.contains("SlicesLost"), "{}", w.status().message);
}

#[test]
fn slices_that_do_not_fit_into_the_profile_are_said() {
    let mut w = one_pod();
    w.step();
    w.left_out = 3;
    w.report("a", CaptureState::Finished, 5, None).is(Phase::PartiallySucceeded, Reason::SomeTargetsFailed);
    let target = w.target("a");
    assert_eq!(target.reason, Some(Reason::SlicesLost));
    assert_eq!(target.message, "3 of 5 slices were too large to merge. The profile covers the rest.");
}

#[test]
fn a_volume_that_lost_everything_is_not_an_idle_target() {
    for late in [false, true] {
        let mut w = one_pod();
        w.step();
        w.lost = u32::MAX;
        w.report("a", CaptureState::Running, 1, None).after(10);
        w.report("a", if late { CaptureState::Uploading } else { CaptureState::Finished }, 6, None);
        w.after(if late { 25 * 3600 } else { 1 }).after(1);
        w.is(Phase::Failed, Reason::StorageLost);
        assert_eq!((w.target("a").phase, w.target("a").profiles.len()), (TargetPhase::Failed, 0));
        assert!(
            w.target("a").message.starts_with("6 of 6 uploaded slices are gone"),
            "{}",
            w.target("a").message
        );
    }
}

#[test]
fn what_ended_a_capture_stays_the_reason_when_slices_are_lost_too() {
    let lossy = |state, reason| {
        let mut w = one_pod();
        w.step();
        w.lost = 1;
        w.report("a", CaptureState::Running, 1, None);
        if state == CaptureState::Cancelled {
            w.session.spec.cancel = true;
        }
        w.report("a", state, 4, reason);
        (w.target("a").phase, w.target("a").reason, w.target("a").message.clone(), w.status().phase)
    };
    let cases = [
        (CaptureState::Finished, Some(Reason::TargetExited), TargetPhase::Failed, Reason::SlicesLost),
        (CaptureState::Finished, Some(Reason::LowCoverage), TargetPhase::Failed, Reason::SlicesLost),
        (CaptureState::Failed, Some(Reason::CollectorCrashed), TargetPhase::Failed, Reason::CollectorCrashed),
        (CaptureState::Cancelled, None, TargetPhase::Cancelled, Reason::Cancelled),
    ];
    for (state, problem, phase, reason) in cases {
        let (got, because, message, session) = lossy(state, problem);
        assert_eq!((got, because), (phase, Some(reason)));
        assert!(message.contains("1 of 4 uploaded slices are gone"), "{message}");
        assert_ne!(session, Phase::Succeeded);
    }
}

#[test]
fn what_somebody_wants_kept_has_no_ttl_until_the_annotation_goes() {
    let mut w = World::new(json!({"target": {"pods": ["a"]}, "duration": "10s", "ttl": "99999h"}));
    let annotations = [(names::KEEP_ANNOTATION.to_owned(), "incident 4711".to_owned())].into();
    w.step();
    w.after(1);
    assert!(w.status().conditions.iter().any(|c| c.type_ == "TtlLimited"));
    w.session.metadata.annotations = Some(annotations);
    w.after(1);
    let kept = w.status().conditions.iter().find(|c| c.type_ == "Kept").unwrap();
    assert_eq!((kept.status.as_str(), kept.reason.as_str()), ("True", "Kept"));
    assert!(w.status().conditions.iter().all(|c| c.type_ != "TtlLimited"));
    w.after(400 * 24 * 3600);
    assert!(!w.actions.contains(&Action::Forget));
    w.session.metadata.annotations = None;
    w.after(1);
    assert!(w.actions.contains(&Action::Forget));
    assert!(w.status().conditions.iter().all(|c| c.type_ != "Kept"));
}

#[test]
fn a_session_stays_for_those_that_repeat_it_and_says_so() {
    let mut w = World::new(json!({"target": {"pods": ["a"]}, "duration": "10s", "ttl": "99999h"}));
    let mut repeat = w.session.clone();
    repeat.metadata.annotations = Some([(names::KEEP_ANNOTATION.to_owned(), String::new())].into());
    w.step();
    w.after(1);
    w.observed.follow_ups = vec![repeat.into()];
    w.after(400 * 24 * 3600);
    assert!(!w.actions.contains(&Action::Forget));
    let types: Vec<&str> = w.status().conditions.iter().map(|c| c.type_.as_str()).collect();
    assert!(types.contains(&"Kept") && !types.contains(&"TtlLimited"), "{types:?}");
    w.observed.follow_ups.clear();
    w.after(1);
    assert!(w.actions.contains(&Action::Forget));
}

#[test]
fn a_ttl_over_the_maximum_is_cut_and_said() {
    let mut w = World::new(json!({"target": {"pods": ["a"]}, "duration": "10s", "ttl": "99999h"}));
    w.step();
    w.after(1);
    let limited = w.status().conditions.iter().find(|c| c.type_ == "TtlLimited").unwrap();
    assert_eq!((limited.status.as_str(), limited.reason.as_str()), ("True", "TtlLimited"));
    assert!(limited.message.contains("720h after its end instead of 99999h"), "{}", limited.message);
    w.after(30 * 24 * 3600 - 2);
    assert!(!w.actions.contains(&Action::Forget));
    w.after(2);
    assert!(w.actions.contains(&Action::Forget));
    let mut w = World::new(json!({"target": {"pods": ["a"]}, "duration": "10s", "ttl": "720h"}));
    w.step();
    assert!(w.after(1).status().conditions.iter().all(|c| c.type_ != "TtlLimited"));
}
