//! Rounds of a policy with a goal for samples: each workload is captured as much as its earlier rounds say.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common;
use crate::world::*;
use fleetprof_core::capture::{Weight, rate};
use fleetprof_core::session::{Action, needs_earlier};
use fleetprof_crds::session_status::{Phase, StoredProfile, TargetPhase, TargetStatus};
use fleetprof_crds::wire::CaptureState;
use fleetprof_crds::{Duration, ProfileKind, ProfileSession, ProfileSessionStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

const START: i64 = 1_800_000_000;

/// Pods of two workloads: four of the busy one, forty of the quiet one.
fn world(trigger: &str, sampling: &Value) -> World {
    let spec = json!({"policyRef": {"name": "p"}, "trigger": trigger});
    let mut w = World::new(spec).with_policy(json!({"selector": {}, "sampling": sampling}));
    for (app, pods) in [("busy", 4), ("quiet", 40)] {
        for n in 0..pods {
            let name = format!("{app}-{n}");
            w = w.with_pod(common::pod("shop", &name, app, 2000)).with_agent(&name);
        }
    }
    w
}

/// The session of the next hour, its targets picked.
fn round(number: i64, sampling: &Value, past: &[Arc<ProfileSession>]) -> World {
    let mut w = world("Schedule", sampling);
    w.session.metadata.name = Some(format!("p-{number}"));
    w.session.metadata.uid = Some(format!("uid-{number}"));
    w.session.metadata.annotations = Some([("fleetprof.dev/round".to_owned(), number.to_string())].into());
    w.now = Timestamp::from_second(START + 3600 * number).unwrap();
    w.observed.now = w.now;
    w.observed.sessions = past.to_vec();
    w.step();
    w
}

/// The same session as it ends when each pod keeps so many cores busy.
fn ended(w: &World, cores: impl Fn(&TargetStatus) -> f64) -> Arc<ProfileSession> {
    let mut session = w.session.clone();
    let status = session.status.as_mut().unwrap();
    status.phase = Phase::Succeeded;
    for target in &mut status.targets {
        let rate = rate(&w.session, target);
        let length = SignedDuration::from_secs(rate.seconds.into());
        let gives = f64::from(rate.seconds) * f64::from(rate.frequency_hz) * cores(target);
        #[allow(clippy::cast_possible_truncation)]
        let samples = gives.round() as i64;
        let (uri, destinations, failed) = ("k".into(), vec![], vec![]);
        let profile = StoredProfile { kind: ProfileKind::Cpu, uri, bytes: 1, samples, destinations, failed };
        target.phase = TargetPhase::Succeeded;
        target.start_time = Some(Time(w.now));
        target.end_time = Some(Time(w.now.checked_add(length).unwrap()));
        target.profiles = vec![profile];
    }
    Arc::new(session)
}

/// Pods, seconds and Hz of each workload.
fn efforts(w: &World) -> BTreeMap<String, (usize, u32, u32)> {
    let mut efforts = BTreeMap::new();
    for target in &w.status().targets {
        let rate = rate(&w.session, target);
        let row = efforts.entry(target.workload.clone()).or_insert((0, rate.seconds, rate.frequency_hz));
        row.0 += 1;
    }
    efforts
}

#[test]
fn rounds_take_as_many_samples_of_each_workload_as_the_policy_wants() {
    let sampling = json!({"samplesPerHour": 2000, "replicasPerWorkload": 20});
    let busy = |target: &TargetStatus| target.workload == "Deployment/busy";
    let mut past = Vec::new();
    for number in 0..6 {
        let w = round(number, &sampling, &past);
        if number == 0 {
            assert!(efforts(&w).values().all(|effort| *effort == (1, 120, 99)), "the first round is careful");
        }
        past.push(ended(&w, |target| if busy(target) { 2.0 } else { 0.03 }));
    }
    let w = round(6, &sampling, &past);
    let efforts = efforts(&w);
    assert_eq!((efforts["Deployment/busy"], efforts["Deployment/quiet"]), ((1, 30, 47), (8, 110, 99)));
    let shown: Vec<_> =
        w.status().targets.iter().map(|t| (t.effective_duration, t.effective_frequency_hz)).collect();
    assert!(shown.contains(&(Some(Duration::from_secs(30)), Some(47))), "{shown:?}");
    assert!(shown.contains(&(Some(Duration::from_secs(110)), None)), "what the session says is not repeated");
}

/// A round of a cluster policy names its pods.
#[test]
fn a_target_that_is_left_out_says_the_same_of_its_round_as_the_others() {
    let sampling = json!({"samplesPerHour": 100, "replicasPerWorkload": 20});
    let past = vec![ended(&round(0, &sampling, &[]), |_| 4.0)];
    let mut w = world("Schedule", &sampling);
    w.session.spec.target = serde_json::from_value(json!({"pods": ["busy-0", "busy-1"]})).unwrap();
    w.observed.sessions = past;
    for pod in &mut w.observed.pods {
        if pod.name == "busy-0" {
            Arc::make_mut(pod).running = false;
        }
    }
    w.step();
    let shown: Vec<_> = w.status().targets.iter().map(|t| (t.phase, t.effective_frequency_hz)).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown.iter().any(|(phase, _)| *phase == TargetPhase::Skipped), "{shown:?}");
    assert!(shown.iter().all(|(_, hz)| *hz == Some(11)), "{shown:?}");
}

#[test]
fn only_rounds_follow_the_goal_and_only_rounds_are_learned_from() {
    let sampling = json!({"samplesPerHour": 100, "replicasPerWorkload": 20});
    let first = round(0, &sampling, &[]);
    let past = vec![ended(&first, |_| 4.0)];
    let spared = round(1, &sampling, &past);
    assert_eq!(efforts(&spared)["Deployment/busy"], (1, 30, 11));
    for trigger in ["OnDemand", "CPU", "Rollout"] {
        let mut w = world(trigger, &sampling);
        w.observed.sessions = past.clone();
        w.step();
        assert_eq!(efforts(&w)["Deployment/busy"], (4, 120, 99), "{trigger}");

        let mut others = (*past[0]).clone();
        others.spec.trigger = w.session.spec.trigger;
        let w = round(1, &sampling, &[Arc::new(others)]);
        assert_eq!(efforts(&w)["Deployment/busy"], (1, 120, 99), "{trigger}");
    }
    let mut foreign = (*past[0]).clone();
    foreign.spec.policy_ref.as_mut().unwrap().name = "another".into();
    let w = round(1, &sampling, &[Arc::new(foreign)]);
    assert_eq!(efforts(&w)["Deployment/busy"], (1, 120, 99), "of another policy");
}

#[test]
fn an_order_follows_the_effort_and_a_profile_says_of_how_many_pods_it_is() {
    let sampling = json!({"samplesPerHour": 2000, "replicasPerWorkload": 20});
    let past = vec![ended(&round(0, &sampling, &[]), |_| 2.0)];
    let mut w = round(1, &sampling, &past);
    w.after(1);
    let opened = w.asked_to(|action| match action {
        Action::Open { scope, order, .. } => Some((scope.clone(), order.clone())),
        _ => None,
    });
    let (scope, order) = opened.iter().find(|(scope, _)| scope.workload == "Deployment/quiet").unwrap();
    assert_eq!((order.duration_ms, order.frequency_hz), (30_000, 47));
    assert_eq!(scope.weight, Weight { pods: 40, targets: 1 });
    let rows: Vec<_> =
        w.status().workloads.iter().map(|row| (&*row.workload, row.pods, row.targets)).collect();
    assert_eq!(rows, [("Deployment/busy", 4, 1), ("Deployment/quiet", 40, 1)]);
    let pods: Vec<String> = w.status().targets.iter().map(|target| target.pod.clone()).collect();
    for pod in &pods {
        w.report(pod, CaptureState::Running, 0, None);
    }
    assert_eq!(w.status().message, "Capturing 2 targets for 30s.");
    w.after(30 + 44).is(Phase::Running, Reason::Capturing);
    w.after(2);
    let reasons: Vec<_> = w.status().targets.iter().map(|target| target.reason).collect();
    assert_eq!(reasons, [Some(Reason::CaptureTimedOut); 2], "45 s after the 30 s that were ordered");
}

#[test]
fn idle_apps_are_known_to_give_nothing_and_failed_captures_tell_nothing() {
    let sampling = json!({"samplesPerHour": 2000, "replicasPerWorkload": 20});
    let with = |reason: Value| {
        let mut session = (*ended(&round(0, &sampling, &[]), |_| 1.0)).clone();
        for target in &mut session.status.as_mut().unwrap().targets {
            target.profiles.clear();
            target.phase = TargetPhase::Failed;
            target.reason = Some(serde_json::from_value(reason.clone()).unwrap());
        }
        efforts(&round(1, &sampling, &[Arc::new(session)]))["Deployment/quiet"]
    };
    assert_eq!(with(json!("NoSamples")), (2, 120, 99));
    assert_eq!(with(json!("AgentGone")), (1, 120, 99));
}

#[test]
fn only_sessions_that_go_by_others_look_at_them() {
    let needs = |trigger, sampling: Value, growth: Value, phase: Phase| {
        let spec = json!({"policyRef": {"name": "p"}, "trigger": trigger});
        let policy = json!({"selector": {}, "sampling": sampling, "growth": growth});
        let mut w = World::new(spec).with_policy(policy);
        w.session.status = Some(ProfileSessionStatus { phase, ..Default::default() });
        needs_earlier(&w.session, &w.observed.policy)
    };
    let goal = || json!({"samplesPerHour": 100});
    assert!(needs("Schedule", goal(), Value::Null, Phase::Pending));
    assert!(needs("Schedule", json!({}), json!({"sessions": 8}), Phase::Running));
    assert!(!needs("Schedule", json!({}), Value::Null, Phase::Pending));
    assert!(
        !needs("Manual", goal(), json!({"sessions": 8}), Phase::Pending),
        "a person asks for what is written"
    );
    assert!(!needs("Schedule", goal(), json!({"sessions": 8}), Phase::Succeeded));
}
