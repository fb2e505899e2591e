//! What came of an action, and what it changes.

use crate::world::*;
use fleetprof_core::budget::Place;
use fleetprof_core::session::{Answers, Assembled, Outcome, Permission, Slices, fold, fold_all};
use fleetprof_crds::session_status::{
    Phase, ProfileSessionStatus, StoredProfile, TargetPhase, TargetStatus, TopFunction,
};
use fleetprof_crds::{ProfileKind, ProfileSession, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A session with one target in this phase, for this reason.
fn session_with(phase: TargetPhase, reason: Option<Reason>) -> ProfileSession {
    let target = TargetStatus { pod: "a".into(), phase, reason, ..TargetStatus::default() };
    let mut session = session(json!({"resultTimeout": "10s", "resultDeadline": "1m"}));
    session.status = Some(ProfileSessionStatus { targets: vec![target], ..ProfileSessionStatus::default() });
    session
}

fn target(session: &ProfileSession) -> &TargetStatus {
    &session.status.as_ref().unwrap().targets[0]
}

fn profile() -> Assembled {
    Assembled::Profile(StoredProfile {
        kind: ProfileKind::Cpu,
        uri: "k".into(),
        bytes: 1,
        samples: 42,
        destinations: vec![],
        failed: vec![],
    })
}

#[test]
fn answers_are_for_the_next_step_and_leave_the_status_alone() {
    let mut session = session_with(TargetPhase::Pending, None);
    let (before, mut answers) = (session.status.clone(), Answers::default());
    let outcomes = vec![
        Outcome::Permission(Permission::Allowed),
        Outcome::Place { capture: "c".into(), place: Place::Granted },
        Outcome::Recorded,
    ];
    for outcome in outcomes {
        assert!(fold(&mut session, &mut answers, outcome.clone(), NOW), "{outcome:?} is worth another step");
    }
    assert_eq!(session.status, before);
    let places = [("c".to_owned(), Place::Granted)].into();
    assert_eq!(answers, Answers { permission: Permission::Allowed, places });
    assert!(!fold(&mut session, &mut answers, Outcome::Done, NOW));
    assert_eq!(session.status, before);
}

#[test]
fn one_outcome_that_changes_something_is_enough_for_another_step() {
    let mut session = session_with(TargetPhase::Attaching, None);
    let refused =
        Outcome::NotAttached { target: 0, reason: Reason::AttachFailed, message: "refused.".into() };
    let fold = |session: &mut ProfileSession, all| fold_all(session, &mut Answers::default(), all, NOW);
    assert!(fold(&mut session, vec![refused, Outcome::Done]), "the first of two");
    assert_eq!(
        (target(&session).phase, target(&session).reason),
        (TargetPhase::Failed, Some(Reason::AttachFailed))
    );
    assert_eq!(
        (target(&session).message.as_str(), &target(&session).end_time),
        ("refused.", &Some(Time(NOW)))
    );
    assert!(!fold(&mut session, vec![Outcome::Done, Outcome::Done]));
    let gone = Outcome::NotAttached { target: 7, reason: Reason::AttachFailed, message: String::new() };
    assert!(!fold(&mut session, vec![gone]), "there is no such target");
}

#[test]
fn what_was_assembled_ends_its_target() {
    let delayed = || Assembled::Delayed(Reason::StorageFull, "full.".into());
    let (up, full) = (Some(Reason::Uploading), Some(Reason::StorageFull));
    // (before, what came of it, the result deadline is over, phase, reason, again)
    let cases = [
        (up, profile(), false, TargetPhase::Succeeded, Some(Reason::Completed), true),
        (up, Assembled::Nothing, false, TargetPhase::Failed, Some(Reason::NoSamples), true),
        (up, Assembled::Nothing, true, TargetPhase::Failed, Some(Reason::ResultDeadlineExceeded), true),
        (up, delayed(), false, TargetPhase::Uploading, full, true),
        (full, delayed(), false, TargetPhase::Uploading, full, false),
        (full, delayed(), true, TargetPhase::Failed, full, true),
        (full, profile(), false, TargetPhase::Succeeded, Some(Reason::Completed), true),
        (up, Assembled::Sending, false, TargetPhase::Uploading, up, false),
        (up, Assembled::Sending, true, TargetPhase::Uploading, up, false),
    ];
    for (before, assembled, late, phase, reason, again) in cases {
        let mut session = session_with(TargetPhase::Uploading, before);
        let outcome = Outcome::Assembled {
            target: 0,
            assembled: vec![(ProfileKind::Cpu, assembled)],
            slices: Slices::default(),
            overdue: late,
            symbols: Vec::new(),
        };
        let case = format!("{before:?} {outcome:?} {late}");
        assert_eq!(fold(&mut session, &mut Answers::default(), outcome, NOW), again, "{case}");
        assert_eq!((target(&session).phase, target(&session).reason), (phase, reason), "{case}");
    }
}

#[test]
fn a_capture_that_was_refused_counts_as_one_without_data() {
    let mut session = session_with(TargetPhase::Succeeded, None);
    let row = json!({"name": "now-2", "createdTime": "2027-01-15T08:00:00Z"});
    let series = json!({"made": 2, "succeeded": 0, "failed": 0, "captures": [row]});
    session.status.as_mut().unwrap().repeat = serde_json::from_value(series).unwrap();
    assert!(fold(&mut session, &mut Answers::default(), Outcome::RepeatRefused("now-2".into()), NOW));
    let row = session.status.unwrap().repeat.unwrap().captures.remove(0);
    assert_eq!((row.phase, row.reason), (Phase::Failed, Some(Reason::SessionRefused)));
}

#[test]
fn a_session_ends_with_its_summary_also_without_hottest_functions() {
    let hot = TopFunction { name: "hot".into(), location: String::new(), self_percent: "87.3".into() };
    for top in [vec![hot], vec![]] {
        let mut session = session_with(TargetPhase::Succeeded, Some(Reason::Completed));
        session.status.as_mut().unwrap().phase = Phase::Processing;
        assert!(fold(&mut session, &mut Answers::default(), Outcome::Summarized(top.clone()), NOW));
        let status = session.status.unwrap();
        assert_eq!((status.phase, status.end_time), (Phase::Succeeded, Some(Time(NOW))));
        assert_eq!((status.top_functions, status.message.contains("hot")), (top.clone(), !top.is_empty()));
    }
}
