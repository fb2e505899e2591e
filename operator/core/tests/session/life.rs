//! From Pending to every end.

use std::sync::Arc;

use crate::world::*;
use fleetprof_core::pod::{AgentContainer, AgentContainerState, PodFacts};
use fleetprof_core::session::{Action, CaptureFacts, Permission, Settings, step};
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::{CaptureState, Problem};
use fleetprof_crds::{Reason, names};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn walks_from_pending_to_succeeded() {
    let mut w = one_pod();
    w.step().is(Phase::Starting, Reason::WaitingForAgent);
    assert_eq!(
        w.asked_to(|a| if let Action::Open { order, .. } = a {
            Some((order.container_id.clone(), order.duration_ms))
        } else {
            None
        }),
        [("a-c".to_owned(), 10_000)]
    );
    w.report("a", CaptureState::Running, 0, None).is(Phase::Running, Reason::Capturing);
    w.after(10).report("a", CaptureState::Uploading, 1, None).is(Phase::Uploading, Reason::Uploading);
    w.report("a", CaptureState::Finished, 1, None).is(Phase::Succeeded, Reason::Completed);
    let s = w.status();
    assert_eq!(
        (s.samples, s.counts.succeeded, s.targets_summary.as_str(), s.cpu_percent, s.memory_percent),
        (42, 1, "1/1", Some(80), Some(30))
    );
    let linked = |w: &World| w.status().links.iter().map(|link| link.name.clone()).collect::<Vec<_>>();
    assert_eq!(linked(&w), ["profile", "top", "flamegraph", "folded"]);
    w.step();
    assert_eq!(
        w.asked_to(|a| matches!(a, Action::Close { .. }).then_some(())).len(),
        1,
        "an ended session closes its captures"
    );
}

#[test]
fn a_profile_of_little_of_its_container_says_so_and_an_agent_that_cannot_tell_says_nothing() {
    // (CPU time in the profile and used, the agent's words, reason, coverage, condition)
    let because = || Some("The agent got too little CPU.".to_owned());
    let cases = [
        (Some((950, 1000)), None, Reason::Completed, Some(95), Some("True")),
        (Some((950, 1000)), because(), Reason::Completed, Some(95), Some("True")),
        (Some((190, 1000)), None, Reason::LowCoverage, Some(19), Some("False")),
        (None, None, Reason::Completed, None, None),
    ];
    for (times, note, reason, coverage, condition) in cases {
        let mut w = one_pod();
        w.step();
        w.report("a", CaptureState::Running, 0, None);
        w.after(10).report_with("a", CaptureState::Finished, 1, None, |report| {
            report.processes = times.map(|_| 3);
            (report.profiled_ms, report.used_ms) = (times.map(|t| t.0), times.map(|t| t.1));
            report.throttled_percent = times.map(|_| 40);
            report.note.clone_from(&note);
        });
        w.is(Phase::Succeeded, Reason::Completed);
        let (target, status) = (w.target("a"), w.status());
        assert_eq!((target.reason, target.coverage), (Some(reason), coverage), "{target:#?}");
        assert_eq!((target.processes, target.throttled_percent), (times.map(|_| 3), times.map(|_| 40)));
        let representative = status.conditions.iter().find(|c| c.type_ == "Representative");
        assert_eq!(representative.map(|c| c.status.as_str()), condition, "{status:#?}");
        let low = reason == Reason::LowCoverage;
        assert_eq!(status.message.contains("Coverage is low for a (19 %)."), low, "{}", status.message);
        assert!(note.is_none_or(|note| target.message == note), "{}", target.message);
    }
}

#[test]
fn a_busy_container_without_samples_is_not_called_idle() {
    for (used, reason) in [(20, Reason::NoSamples), (5_700, Reason::LowCoverage)] {
        let mut w = one_pod();
        w.step();
        w.report("a", CaptureState::Running, 0, None);
        w.after(10).report_with("a", CaptureState::Finished, 0, Some(Reason::NoSamples), |report| {
            (report.profiled_ms, report.used_ms) = (Some(0), Some(used));
        });
        w.is(Phase::Failed, reason);
    }
}

#[test]
fn asks_before_anything_starts() {
    let mut w = one_pod();
    w.observed.permission = Permission::Unchecked;
    w.step();
    assert_eq!((w.actions.clone(), w.status().start_time.is_some()), (vec![Action::CheckPermission], false));
    w.observed.permission = Permission::Denied("eve may not profile".into());
    w.step().is(Phase::Failed, Reason::Forbidden);
    assert!(w.status().message.contains("eve"));
}

#[test]
fn nobody_is_asked_about_sessions_that_the_operator_made() {
    for trigger in ["Schedule", "CPU", "Memory", "Alert", "PromQL", "Rollout"] {
        let mut w = World::new(json!({"policyRef": {"name": "p"}, "trigger": trigger}))
            .with_policy(json!({"selector": {}}))
            .with_pod(pod("a"))
            .with_agent("a");
        w.observed.permission = Permission::Unchecked;
        w.step().is(Phase::Starting, Reason::WaitingForAgent);
    }
}

#[test]
fn a_pod_that_goes_mid_session_keeps_what_it_sent() {
    for (slices, phase) in [(0, Phase::Failed), (2, Phase::PartiallySucceeded)] {
        let mut w = one_pod();
        w.step();
        w.report("a", CaptureState::Running, slices, None);
        w.observed.pods.clear();
        w.step();
        assert_eq!(
            (w.status().phase, w.target("a").reason),
            (phase, Some(Reason::PodGone)),
            "{:#?}",
            w.status()
        );
    }
}

#[test]
fn a_new_leader_waits_for_agents_before_it_gives_them_up() {
    let mut w = one_pod();
    w.step();
    w.observed.settled = false;
    w.after(120).is(Phase::Starting, Reason::WaitingForAgent);
    w.observed.settled = true;
    w.observed.agents.clear();
    w.after(1).is(Phase::Failed, Reason::StartDeadlineExceeded);
}

#[test]
fn a_new_leader_waits_for_no_agent_that_does_not_run() {
    let mut bare = pod("a");
    bare.sidecar = None;
    let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(bare.clone());
    w.step();
    assert_eq!(w.target("a").phase, TargetPhase::Attaching);
    let attached =
        |state| AgentContainer { name: w.target("a").attached_as.clone(), target: "app".into(), state };
    let (running, waiting) = (attached(AgentContainerState::Running), attached(AgentContainerState::Unknown));
    w.observed.settled = false;
    bare.attached = vec![running];
    w.observed.pods = vec![Arc::new(bare.clone())];
    w.after(61).is(Phase::Starting, Reason::Attaching);
    bare.attached = vec![waiting];
    w.observed.pods = vec![Arc::new(bare)];
    w.step().is(Phase::Failed, Reason::StartDeadlineExceeded);
}

#[test]
fn an_agent_that_answers_is_not_called_unreachable() {
    let mut w = one_pod();
    w.step();
    w.after(70).is(Phase::Starting, Reason::WaitingForAgent);
    w.report("a", CaptureState::Skipped, 0, Some(Reason::StartDeadlineExceeded))
        .is(Phase::Failed, Reason::StartDeadlineExceeded);
    let mut silent = one_pod();
    silent.step();
    silent.after(200).is(Phase::Failed, Reason::StartDeadlineExceeded);
    assert!(silent.target("a").message.contains("another session"), "{}", silent.target("a").message);
}

#[test]
fn slices_that_were_all_refused_are_no_profile() {
    let mut w = one_pod();
    w.step();
    let capture = w.target("a").capture.clone();
    w.report("a", CaptureState::Running, 2, None);
    let mut report = w.observed.captures[&capture].report.clone().unwrap();
    (report.state, report.uploaded) = (CaptureState::Failed, 0);
    report.problem =
        Some(Problem { reason: Reason::UploadRejected, message: "422: the profile has no samples".into() });
    w.observed.captures.insert(capture, CaptureFacts { report: Some(report) });
    w.step().is(Phase::Failed, Reason::UploadRejected);
}

#[test]
fn an_idle_target_is_no_success() {
    let mut w = one_pod();
    w.step();
    w.report("a", CaptureState::Running, 0, None).after(10);
    w.report("a", CaptureState::Failed, 0, Some(Reason::NoSamples)).is(Phase::Failed, Reason::NoSamples);
}

#[test]
fn samples_that_cannot_be_are_not_counted() {
    let mut w = World::new(json!({"target": {"podSelector": {}}, "duration": "10s"}));
    for name in ["a", "b", "c"] {
        w = w.with_pod(PodFacts { node: name.into(), ..pod(name) }).with_agent(name);
    }
    w.step();
    for (name, samples) in [("a", i64::MAX), ("b", i64::MAX), ("c", -7)] {
        w.report(name, CaptureState::Running, 1, None);
        let capture = w.target(name).capture.clone();
        w.observed.captures.get_mut(&capture).unwrap().report.as_mut().unwrap().samples = samples;
    }
    w.step();
    let most = 10 * 99 * 4096;
    assert_eq!((w.status().samples, w.target("a").samples, w.target("c").samples), (2 * most, most, 0));
}

#[test]
fn late_results_are_delayed_then_complete_late() {
    let mut w = one_pod();
    w.step();
    w.report("a", CaptureState::Running, 1, None).after(10).report("a", CaptureState::Uploading, 2, None);
    w.after(899).is(Phase::Uploading, Reason::Uploading);
    w.after(2).is(Phase::Processing, Reason::ResultsDelayed);
    assert!(w.status().conditions.iter().any(|c| c.type_ == "ResultsDelayed" && c.status == "True"));
    w.after(3600).report("a", CaptureState::Finished, 2, None).is(Phase::Succeeded, Reason::Completed);
    assert!(w.status().completed_late);
}

#[test]
fn cancel_keeps_what_was_captured() {
    let mut w = one_pod();
    w.step();
    w.report("a", CaptureState::Running, 1, None);
    w.session.spec.cancel = true;
    w.step().is(Phase::Running, Reason::Cancelled);
    assert_eq!(
        w.asked_to(|a| if let Action::Open { order, .. } = a { Some(order.cancel) } else { None }),
        [true]
    );
    w.report("a", CaptureState::Cancelled, 1, None).is(Phase::Cancelled, Reason::Cancelled);
    assert_eq!((w.target("a").phase, w.target("a").profiles.len()), (TargetPhase::Cancelled, 1));
}

#[test]
fn some_targets_may_fail() {
    let mut w = World::new(json!({"target": {"podSelector": {}}}))
        .with_pod(pod("a"))
        .with_pod(pod("b"))
        .with_agent("a")
        .with_agent("b");
    w.step();
    w.report("a", CaptureState::Running, 0, None).report(
        "b",
        CaptureState::Failed,
        0,
        Some(Reason::PermissionDenied),
    );
    w.report("a", CaptureState::Finished, 3, None).is(Phase::PartiallySucceeded, Reason::SomeTargetsFailed);
    assert_eq!(w.status().targets_summary, "1/2");
    assert!(w.status().message.contains("PermissionDenied"));
}

#[derive(Clone, Debug)]
enum Event {
    Time(i64),
    Report(usize, CaptureState, u32),
    PodGone(usize),
    AgentGone(usize),
    AgentBack(usize),
    Cancel,
    Full(bool),
}

fn event() -> impl Strategy<Value = Event> {
    use CaptureState as S;
    let states = prop::sample::select(vec![
        S::Accepted,
        S::Running,
        S::Uploading,
        S::Finished,
        S::Failed,
        S::Cancelled,
        S::Skipped,
    ]);
    prop_oneof![
        (1i64..400).prop_map(Event::Time),
        (0usize..3, states, 0u32..4).prop_map(|(p, s, n)| Event::Report(p, s, n)),
        (0usize..3).prop_map(Event::PodGone),
        (0usize..3).prop_map(Event::AgentGone),
        (0usize..3).prop_map(Event::AgentBack),
        Just(Event::Cancel),
        any::<bool>().prop_map(Event::Full),
    ]
}

proptest! {
    #[test]
    fn every_session_ends_and_its_phase_never_goes_back(events in prop::collection::vec(event(), 0..30)) {
        let names = ["a", "b", "c"];
        let mut w = World::new(json!({"target": {"podSelector": {}}, "duration": "10s", "resultTimeout": "15m", "resultDeadline": "1h"}));
        for name in names {
            w = w.with_pod(pod(name)).with_agent(name);
        }
        w.step();
        let mut before = w.status().phase;
        for event in events {
            match event {
                Event::Time(seconds) => { w.after(seconds); }
                Event::Report(p, state, slices) if !w.target(names[p]).capture.is_empty() => { w.report(names[p], state, slices, None); }
                Event::Report(..) => {}
                Event::PodGone(p) => w.observed.pods.retain(|pod| pod.name != names[p]),
                Event::AgentGone(p) => { w.observed.agents.remove(&format!("uid-{}", names[p])); }
                Event::AgentBack(p) => w = w.with_agent(names[p]),
                Event::Cancel => w.session.spec.cancel = true,
                Event::Full(full) => w.results_full = full,
            }
            w.step();
            prop_assert!(w.status().phase >= before, "{:?} after {before:?}", w.status().phase);
            before = w.status().phase;
        }
        for _ in 0..5 {
            w.after(3601);
        }
        let status = w.status();
        prop_assert!(status.phase.is_terminal(), "{status:#?}");
        prop_assert!(status.targets.iter().all(|t| t.phase.is_terminal()));
        prop_assert!(status.end_time.is_some() && status.reason.is_some() && !status.message.is_empty());
        let good = status.targets.iter().filter(|t| !t.profiles.is_empty()).count();
        prop_assert_eq!(matches!(status.phase, Phase::Succeeded | Phase::PartiallySucceeded), good > 0 && status.cancel_time.is_none() || status.phase == Phase::Succeeded);
        prop_assert!(status.phase != Phase::Succeeded || good == status.targets.len());
    }
}

#[test]
fn an_ended_session_is_kept_for_its_ttl() {
    let mut w = World::new(json!({"target": {"pods": ["a"]}, "duration": "10s", "ttl": "1h"}));
    w.step().is(Phase::Failed, Reason::TargetNotFound);
    let requeue = |w: &World| step(&w.session, &w.observed, &Settings::default()).requeue;
    assert_eq!(
        (w.actions.contains(&Action::Forget), requeue(&w)),
        (false, Some(SignedDuration::from_secs(3600)))
    );
    w.after(3599);
    assert_eq!(
        (w.actions.contains(&Action::Forget), requeue(&w)),
        (false, Some(SignedDuration::from_secs(1)))
    );
    w.after(1);
    assert_eq!((w.actions.contains(&Action::Forget), requeue(&w)), (true, None));
}

#[test]
fn pods_that_have_no_place_are_said() {
    let mut w =
        World::new(json!({"target": {"podSelector": {"matchLabels": {"app": "orders"}}}, "duration": "10s"}));
    for n in 0..120 {
        w = w.with_pod(pod(&format!("p{n}"))).with_agent(&format!("p{n}"));
    }
    w.step().is(Phase::Starting, Reason::WaitingForAgent);
    assert_eq!(w.status().targets.len(), 50);
    let limited = w.status().conditions.iter().find(|c| c.type_ == "TargetsLimited").unwrap();
    assert_eq!((limited.status.as_str(), limited.reason.as_str()), ("True", "TooManyTargets"));
    assert!(limited.message.starts_with("70 of 120 selected pods are left out"), "{}", limited.message);
    let mut all = World::new(json!({"target": {"podSelector": {"matchLabels": {"app": "orders"}}}}))
        .with_pod(pod("a"))
        .with_agent("a");
    assert!(all.step().status().conditions.iter().all(|c| c.type_ != "TargetsLimited"));
}

#[test]
fn a_target_that_ended_early_is_said() {
    let mut w = one_pod();
    w.step();
    w.report("a", CaptureState::Running, 0, None);
    w.after(3)
        .report("a", CaptureState::Finished, 1, Some(Reason::TargetExited))
        .is(Phase::Succeeded, Reason::Completed);
    assert_eq!(w.target("a").reason, Some(Reason::TargetExited));
    assert!(w.status().message.ends_with("1 target exited early."), "{}", w.status().message);
}

#[test]
fn a_namespace_has_so_many_sessions_at_most_and_those_that_were_there_first_go_on() {
    for (earlier, refused) in [(199, false), (200, true), (5000, true)] {
        let mut w = one_pod();
        w.observed.earlier = earlier;
        w.step();
        assert_eq!(w.status().reason == Some(Reason::TooManySessions), refused, "{earlier}");
        assert_eq!(w.status().phase == Phase::Failed, refused, "{earlier}");
        assert_eq!(w.status().message.contains("the limit is 200 (chart value budgets.sessions)"), refused);
    }
}

#[test]
fn a_session_of_a_rollout_links_its_comparison() {
    let mut w = one_pod();
    w.session.metadata.labels = Some([(names::REVISION_LABEL.to_owned(), "r-2".to_owned())].into());
    w.step();
    w.report("a", CaptureState::Running, 0, None);
    w.after(10).report("a", CaptureState::Finished, 1, None);
    assert!(w.status().links.iter().any(|link| link.name == "diff"));
}
