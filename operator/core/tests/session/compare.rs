//! Comparisons of two revisions: which captures are compared, and what the status says of the verdict.

use std::sync::Arc;

use fleetprof_core::session::{Action, Answers, Comparing, Outcome, compare, fold, step};
use fleetprof_crds::session_status::TargetStatus;
use fleetprof_crds::{ProfileSession, Reason};
use fleetprof_profile::verdict::{
    Enough, FunctionChange, Outcome as Judged, Revision, Side, Verdict, What, Why,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn time(second: i64) -> String {
    Timestamp::from_second(NOW.as_second() + second).unwrap().to_string()
}

/// A target of `Deployment/orders` that left a CPU profile.
fn target(pod: &str, revision: &str) -> Value {
    json!({"pod": pod, "podUid": format!("uid-{pod}"), "workload": "Deployment/orders", "revision": revision,
        "phase": "Succeeded", "coverage": 90, "startTime": time(0), "endTime": time(30),
        "profiles": [{"type": "cpu", "uri": format!("key-{pod}"), "bytes": 1, "samples": 900}]})
}

fn session_of(name: &str, spec: &Value, targets: &[Value]) -> ProfileSession {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1},
        "spec": spec,
        "status": {"phase": "Processing", "startTime": time(0), "runningTime": time(0), "captureEndTime": time(30),
            "endTime": time(40), "targets": targets},
    }))
    .unwrap()
}

fn comparing(rules: &Value) -> Value {
    json!({"policyRef": {"name": "p"}, "trigger": "Rollout", "compare": {"revision": "new", "rules": rules}})
}

/// What is compared, as `SIDE POD@MOMENT`.
fn captures(comparing: &Comparing) -> Vec<String> {
    let name = |side| if side == Side::New { "new" } else { "old" };
    let of = |c: &fleetprof_core::session::StoredCapture| {
        format!("{} {}@{}", name(c.about.side), c.uri.trim_start_matches("key-"), c.about.moment)
    };
    comparing.captures.iter().map(of).collect()
}

fn compared(session: &ProfileSession, others: &[Arc<ProfileSession>]) -> Option<Comparing> {
    compare::comparing(session, session.status.as_ref().unwrap(), others)
}

#[test]
fn the_captures_of_both_revisions_in_a_session_are_of_one_moment() {
    let mut other_app = target("cart", "r7");
    other_app["workload"] = json!("Deployment/cart");
    let mut failed = target("n9", "new");
    failed["profiles"] = json!([]);
    let targets = [
        target("n1", "new"),
        target("o1", "old"),
        target("o2", "old"),
        target("x", "older"),
        other_app,
        failed,
    ];
    let session =
        session_of("s", &comparing(&json!({"errorRate": "1%", "effect": {"points": "0.5%"}})), &targets);
    let made = compared(&session, &[]).unwrap();
    assert_eq!(captures(&made), ["new n1@0", "old o1@0", "old o2@0"]);
    let first = &made.captures[0];
    assert_eq!((first.session_uid.as_str(), first.about.pod.as_str()), ("uid-s", "uid-n1"));
    assert_eq!((first.about.coverage, first.about.pod_seconds), (Some(90), 30.0));
    assert_eq!((made.settings.min_pods, made.settings.error_rate), (3, 0.01));
    assert!(
        (made.settings.effect.points - 0.005).abs() < 1e-9
            && (made.settings.effect.relative - 0.2).abs() < 1e-9
    );
    assert_eq!(made.base_revision, "old");
    assert_eq!(compared(&session_of("s", &json!({"target": {"pods": ["a"]}}), &targets), &[]), None);
}

#[test]
fn a_workload_of_another_name_is_the_old_revision_where_its_own_has_none() {
    let mut primary = target("p1", "promoted");
    primary["workload"] = json!("Deployment/orders-primary");
    let session = session_of("s", &comparing(&json!({})), &[primary, target("n1", "new")]);
    assert_eq!(captures(&compared(&session, &[]).unwrap()), ["new n1@0", "old p1@0"]);
}

#[test]
fn earlier_sessions_are_those_of_the_policys_clock_with_the_last_revision_before() {
    let session =
        session_of("s", &comparing(&json!({"baseline": "Sessions", "sessions": 2})), &[target("n1", "new")]);
    let round = |name: &str, ended: i64, change: fn(&mut ProfileSession), targets: &[Value]| {
        let mut other =
            session_of(name, &json!({"policyRef": {"name": "p"}, "trigger": "Schedule"}), targets);
        let status = other.status.as_mut().unwrap();
        status.phase = fleetprof_crds::session_status::Phase::Succeeded;
        status.end_time = serde_json::from_value(json!(time(ended))).unwrap();
        change(&mut other);
        Arc::new(other)
    };
    let kept = |_: &mut ProfileSession| {};
    let others = [
        round("a", -400, kept, &[target("a1", "old"), target("a2", "old")]),
        round("b", -300, kept, &[target("b1", "old")]),
        round("c", -200, kept, &[target("c1", "old"), target("c9", "new")]),
        round("before", -900, kept, &[target("e1", "older")]),
        round("later", 20, kept, &[target("l1", "old")]),
        round(
            "hot",
            -100,
            |s| s.spec.trigger = fleetprof_crds::session::Trigger::Cpu,
            &[target("h1", "old")],
        ),
        round("theirs", -100, |s| s.spec.policy_ref = None, &[target("t1", "old")]),
        round(
            "runs",
            -100,
            |s| s.status.as_mut().unwrap().phase = Default::default(),
            &[target("r1", "old")],
        ),
    ];
    let made = compared(&session, &others).unwrap();
    assert_eq!(captures(&made), ["new n1@0", "old c1@1", "old b1@2"], "the newest two");
    assert_eq!(made.base_revision, "old");
    assert_eq!(made.seed, compared(&session, &[]).unwrap().seed, "the same whatever is there");
}

#[test]
fn two_sessions_are_of_one_moment_where_their_captures_overlap() {
    let one = session_of("one", &json!({"target": {"pods": ["a"]}}), &[target("a", "r2")]);
    let mut other = session_of("other", &json!({"target": {"pods": ["b"]}}), &[target("b", "r1")]);
    assert_eq!(captures(&compare::between(&one, Some(&other))), ["new a@0", "old b@0"]);
    let status = other.status.as_mut().unwrap();
    status.running_time = serde_json::from_value(json!(time(30))).unwrap();
    status.capture_end_time = serde_json::from_value(json!(time(60))).unwrap();
    assert_eq!(captures(&compare::between(&one, Some(&other))), ["new a@0", "old b@1"]);
    let both = session_of("both", &comparing(&json!({})), &[target("n1", "new"), target("o1", "old")]);
    assert_eq!(captures(&compare::between(&both, None)), ["new n1@0", "old o1@0"]);
    assert_eq!(captures(&compare::between(&one, Some(&both))), ["new a@0", "old n1@0"], "what it stands for");
}

fn verdict(outcome: Judged) -> Verdict {
    let digest = FunctionChange {
        name: "digest\u{1b}[31m".into(),
        file: "auth.py".into(),
        cumulative: false,
        old_share: 0.05,
        new_share: 0.095,
        old_cores: Some(0.05),
        new_cores: Some(0.1),
        p: 0.014,
        what: What::Rose,
        smallest: Some(0.02),
        interval: Some((0.03, 0.06)),
    };
    let side = |pods| Revision { pods, captures: pods, samples: 4_000, coverage: Some(89.6) };
    Verdict {
        outcome,
        p: Some(0.014_28),
        arrangements: 70,
        every: true,
        smallest: Some(0.016),
        enough: Some(Enough { old_pods: 3, new_pods: 3, ..Enough::default() }),
        load: None,
        dispersion: None,
        functions: vec![digest],
        old: side(5),
        new: side(4),
    }
}

#[test]
fn a_verdict_is_a_condition_and_a_comparison() {
    let cases = [
        (Judged::Regressed, "True", Reason::Regressed, "The new revision is slower: digest"),
        (Judged::NotRegressed, "False", Reason::NotRegressed, "No function got slower"),
        (
            Judged::Inconclusive(Why::FewPods),
            "Unknown",
            Reason::FewPods,
            "Inconclusive. There are too few pods",
        ),
        (Judged::Inconclusive(Why::LowCoverage), "Unknown", Reason::LowCoverage, "Inconclusive. Too little"),
    ];
    for (outcome, status, reason, words) in cases {
        let mut session = session_of("s", &comparing(&json!({})), &[]);
        let made = Outcome::Compared {
            base_revision: "old".into(),
            verdict: Ok(Box::new(verdict(outcome))),
            unread: 0,
        };
        assert!(!fold(&mut session, &mut Answers::default(), made, NOW));
        let found = session.status.unwrap();
        let condition = found.conditions.iter().find(|c| c.type_ == "Regressed").unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), (status, reason.as_str()));
        assert!(condition.message.starts_with(words), "{}", condition.message);
        let smallest = "1.6 percentage points more would be found in 4 of 5 such comparisons.";
        assert!(condition.message.contains(smallest), "{}", condition.message);
        let comparison = serde_json::to_value(found.comparison.unwrap()).unwrap();
        assert_eq!((&comparison["reason"], &comparison["smallestChange"]), (&json!(reason), &json!("1.6")));
        assert_eq!((&comparison["revision"], &comparison["baseRevision"]), (&json!("new"), &json!("old")));
        assert_eq!(comparison["old"], json!({"pods": 5, "captures": 5, "samples": 4000, "coverage": 90}));
        assert_eq!(
            comparison["functions"][0],
            json!({"name": "digest[31m", "file": "auth.py", "change": "Rose", "oldPercent": "5.0",
                "newPercent": "9.5", "changePoints": "+4.5", "interval": "+3.0 to +6.0", "oldCores": "0.050",
                "newCores": "0.100"})
        );
    }
}

#[test]
fn why_nothing_could_be_compared_is_said_too() {
    let mut session = session_of("s", &comparing(&json!({})), &[]);
    let made = Outcome::Compared {
        base_revision: String::new(),
        verdict: Err("the volume failed".into()),
        unread: 0,
    };
    fold(&mut session, &mut Answers::default(), made, NOW);
    let status = session.status.unwrap();
    let condition = status.conditions.iter().find(|c| c.type_ == "Regressed").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("Unknown", "ComparisonFailed"));
    assert!(condition.message.starts_with("The revisions could not be compared: the volume failed; see"));
    assert_eq!(status.comparison.unwrap().reason, Some(Reason::ComparisonFailed));
}

/// Steps a session all of whose targets have ended.
fn asked(session: &ProfileSession) -> Vec<Action> {
    let mut world = World::new(json!({"target": {"pods": ["a"]}})).with_policy(json!({"selector": {}}));
    world.session = session.clone();
    step(&world.session, &world.observed, &world.settings).actions
}

#[test]
fn a_session_is_compared_once_before_it_ends_and_is_summed_up_by_the_new_revision() {
    let mut session = session_of("s", &comparing(&json!({})), &[target("n1", "new"), target("o1", "old")]);
    session.status.as_mut().unwrap().end_time = None;
    let asked_for = |session: &ProfileSession| -> Vec<String> {
        let text = |action: &Action| match action {
            Action::Compare(made) => Some(captures(made).join(", ")),
            Action::Summarize { profiles, .. } => Some(profiles.join(", ")),
            _ => None,
        };
        asked(session).iter().filter_map(text).collect()
    };
    assert_eq!(asked_for(&session), ["new n1@0, old o1@0", "key-n1"]);
    session.status.as_mut().unwrap().comparison = Some(Default::default());
    assert_eq!(asked_for(&session), ["key-n1"]);
}

#[test]
fn a_target_tells_its_revision() {
    let mut pod = pod("a");
    pod.labels = Arc::new([("controller-revision-hash".to_owned(), "orders-6d5c".to_owned())].into());
    let mut world =
        World::new(json!({"target": {"pods": ["a"]}, "duration": "10s"})).with_pod(pod).with_agent("a");
    let found: &TargetStatus = world.step().target("a");
    assert_eq!(found.revision, "orders-6d5c");
}
