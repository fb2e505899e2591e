//! Growth from session to session: which sessions are looked at and when, and what the status says of it.

use std::sync::Arc;

use fleetprof_core::session::needs_earlier;
use fleetprof_core::session::trend::Subject;
use fleetprof_core::session::{Action, Answers, Outcome, StoredCapture, Watching, fold, step};
use fleetprof_crds::growth::WorkloadGrowth;
use fleetprof_crds::{ProfileKind, ProfileSession, Reason};
use fleetprof_profile::trend::{Growth, Outcome as Found, Trend, What, Why};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::*;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn time(second: i64) -> String {
    Timestamp::from_second(NOW.as_second() + second).unwrap().to_string()
}

/// A target of `Deployment/orders` that left these profiles.
fn target(pod: &str, revision: &str, kinds: &[&str]) -> Value {
    let profile =
        |kind: &&str| json!({"type": kind, "uri": format!("{kind}-{pod}"), "bytes": 1, "samples": 900});
    let profiles: Vec<Value> = kinds.iter().map(profile).collect();
    json!({"pod": pod, "podUid": format!("uid-{pod}"), "workload": "Deployment/orders", "revision": revision,
        "phase": "Succeeded", "startTime": time(0), "endTime": time(30), "profiles": profiles})
}

/// A session of the schedule that ends; with an `ended`, one that has.
fn round(name: &str, ended: Option<i64>, targets: &[Value]) -> ProfileSession {
    let phase = if ended.is_some() { "Succeeded" } else { "Processing" };
    let mut status =
        json!({"phase": phase, "startTime": time(0), "captureEndTime": time(30), "targets": targets});
    if let Some(ended) = ended {
        status["endTime"] = json!(time(ended));
    }
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 1},
        "spec": {"policyRef": {"name": "p"}, "trigger": "Schedule", "profiles": ["cpu", "heap"]},
        "status": status,
    }))
    .unwrap()
}

/// So many earlier sessions, an hour apart, the newest first.
fn earlier(count: i64, targets: impl Fn(i64) -> Vec<Value>) -> Vec<Arc<ProfileSession>> {
    let of = |n: i64| Arc::new(round(&format!("s{n}"), Some(-3_600 * (count - n)), &targets(n)));
    (0..count).rev().map(of).collect()
}

fn one(kinds: &'static [&'static str]) -> impl Fn(i64) -> Vec<Value> {
    move |n| vec![target(&format!("p{n}"), "r2", kinds)]
}

/// What is asked for when the session ends, and its status then.
fn asked(
    session: &ProfileSession,
    rules: Value,
    sessions: Vec<Arc<ProfileSession>>,
) -> (Vec<Watching>, ProfileSession) {
    let policy = json!({"selector": {}, "growth": rules});
    let mut world = World::new(json!({"target": {"pods": ["a"]}})).with_policy(policy);
    world.session = session.clone();
    world.observed.sessions = sessions;
    let step = step(&world.session, &world.observed, &world.settings);
    let ended = ProfileSession { status: Some(step.status), ..session.clone() };
    let watching = step.actions.into_iter().filter_map(|action| match action {
        Action::Watch(watching) => Some(*watching),
        _ => None,
    });
    (watching.collect(), ended)
}

fn named(captures: &[StoredCapture]) -> Vec<String> {
    captures.iter().map(|c| format!("{}@{}", c.uri, c.about.moment)).collect()
}

fn condition(session: &ProfileSession) -> (String, String, String) {
    let conditions = &session.status.as_ref().unwrap().conditions;
    let found = conditions.iter().find(|c| c.type_ == "Growing").unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

fn subject(kind: ProfileKind) -> Subject {
    Subject { workload: "Deployment/orders".into(), revision: "r2".into(), kind }
}

#[test]
fn sessions_are_looked_at_once_there_are_as_many_as_the_policy_says() {
    let session = round("now", None, &[target("p7", "r2", &["cpu", "heap"])]);
    let rules = || json!({"sessions": 8, "errorRate": "2%", "effect": {"relative": "50%"}});
    let (watching, ended) = asked(&session, rules(), earlier(6, one(&["cpu", "heap"])));
    assert_eq!(watching, []);
    let rows = &ended.status.as_ref().unwrap().growth;
    assert!(rows.iter().all(|row| row.sessions == 7 && row.p.is_none()), "{rows:#?}");
    let (status, reason, message) = condition(&ended);
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "FewSessions"));
    assert!(message.starts_with("7 sessions since the last look. The next look"), "{message}");

    let (watching, ended) = asked(&session, rules(), earlier(7, one(&["cpu", "heap"])));
    assert_eq!(ended.status.unwrap().growth, []);
    let [cpu, heap] = watching.as_slice() else { panic!("{watching:#?}") };
    assert_eq!((&cpu.subject, &heap.subject), (&subject(ProfileKind::Cpu), &subject(ProfileKind::Heap)));
    assert_eq!(named(&cpu.captures)[..2], ["cpu-p0@0", "cpu-p1@1"]);
    assert_eq!(named(&heap.captures)[6..], ["heap-p6@6", "heap-p7@7"]);
    assert_eq!((named(&cpu.loads), named(&heap.loads)), (vec![], named(&cpu.captures)));
    assert_eq!((heap.sessions, heap.settings.relative, heap.settings.least), (8, 0.5, 0.01));
    assert_eq!(heap.settings.error_rate, 0.01, "both kinds together are wrong in 2 %");
    assert_ne!(cpu.seed, heap.seed);
}

#[test]
fn other_revisions_policies_and_triggers_are_not_looked_at() {
    let session = round("now", None, &[target("p7", "r2", &["heap"])]);
    let mut sessions =
        earlier(7, |n| vec![target(&format!("p{n}"), "r2", &["heap"]), target("old", "r1", &["heap"])]);
    let mut other = |n: usize, change: fn(&mut ProfileSession)| {
        let mut session = (*sessions[n]).clone();
        (session.metadata.uid, session.metadata.name) = (Some(format!("u{n}")), Some(format!("other{n}")));
        change(&mut session);
        sessions.push(Arc::new(session));
    };
    other(0, |s| s.spec.trigger = fleetprof_crds::session::Trigger::Memory);
    other(1, |s| s.spec.policy_ref = None);
    other(2, |s| s.status.as_mut().unwrap().phase = Default::default());
    other(3, |s| s.status.as_mut().unwrap().targets[0].revision = "r3".into());
    other(4, |s| s.status.as_mut().unwrap().targets[0].workload = "Deployment/cart".into());
    let (watching, _) = asked(&session, json!({"sessions": 8}), sessions);
    let [heap] = watching.as_slice() else { panic!("{watching:#?}") };
    let wanted: Vec<String> = (0..8).map(|n| format!("heap-p{n}@{n}")).collect();
    assert_eq!(named(&heap.captures), wanted);
    assert_eq!(heap.loads, [], "without CPU profiles the load is not known");
}

#[test]
fn an_older_session_that_has_not_ended_may_be_part_of_a_look_of_its_own() {
    let mut session = round("now", None, &[target("p7", "r2", &["heap"])]);
    let mut sessions = earlier(7, one(&["heap"]));
    let started = |second: i64| {
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            NOW + jiff::SignedDuration::from_secs(second),
        ))
    };
    session.status.as_mut().unwrap().start_time = started(60);
    for (second, looks) in [(0, 0), (120, 1)] {
        let mut other = round("slow", None, &[target("p8", "r2", &[])]);
        other.status.as_mut().unwrap().start_time = started(second);
        sessions.push(Arc::new(other));
        let (watching, ended) = asked(&session, json!({"sessions": 8}), sessions.clone());
        assert_eq!(watching.len(), looks, "{second}");
        assert_eq!(ended.status.unwrap().growth.len(), 1 - looks, "it is said what is waited for");
        sessions.pop();
    }
}

#[test]
fn of_many_workloads_those_that_waited_longest_are_looked_at_first() {
    let of = |pod: &str, app: usize| {
        let mut target = target(pod, "r2", &["heap"]);
        target["workload"] = json!(format!("Deployment/app-{app:02}"));
        target
    };
    let all: Vec<Value> = (0..30).map(|app| of(&format!("now-{app}"), app)).collect();
    let session = round("now", None, &all);
    // The last of them, by name, has been captured more often.
    let sessions = earlier(7, |n| vec![of(&format!("p{n}"), 29)]);
    let (watching, ended) = asked(&session, json!({"sessions": 8}), sessions);
    let [last] = watching.as_slice() else { panic!("{watching:#?}") };
    assert_eq!(last.subject.workload, "Deployment/app-29");
    assert_eq!(ended.status.unwrap().growth.len(), 19, "the others say how many sessions they have");

    // Of more than four that are due, the others say that they were not looked at.
    let sessions = earlier(7, |n| (0..6).map(|app| of(&format!("p{n}-{app}"), app)).collect());
    let (watching, ended) = asked(&session, json!({"sessions": 8}), sessions);
    assert_eq!(watching.len(), 4);
    let rows = ended.status.unwrap().growth;
    let due: Vec<&str> = rows.iter().filter(|row| row.sessions == 8).map(|row| &*row.workload).collect();
    assert_eq!(due, ["Deployment/app-04", "Deployment/app-05"]);
    assert!(rows.iter().all(|row| row.p.is_none()), "the next session looks at them: {rows:#?}");
}

#[test]
fn no_session_is_part_of_two_looks() {
    let session = round("now", None, &[target("p20", "r2", &["heap"])]);
    let mut sessions = earlier(20, one(&["heap"]));
    let look = |sessions: &mut Vec<Arc<ProfileSession>>, n: usize, p: Option<&str>| {
        let row: WorkloadGrowth =
            serde_json::from_value(json!({"workload": "Deployment/orders", "revision": "r2",
            "type": "heap", "result": "NotGrowing", "p": p}))
            .unwrap();
        let at = sessions.len() - 1 - n;
        Arc::make_mut(&mut sessions[at]).status.as_mut().unwrap().growth = vec![row];
    };
    look(&mut sessions, 12, Some("0.3000"));
    look(&mut sessions, 15, None);
    let due = |sessions| asked(&session, json!({"sessions": 8}), sessions).0.len();
    assert_eq!(due(sessions.clone()), 1, "13 to 20, since a row without p is not a look");
    look(&mut sessions, 13, Some("1.0000"));
    assert_eq!(due(sessions), 0);
}

#[test]
fn only_sessions_of_the_schedule_look_and_only_once() {
    let mut session = round("now", None, &[target("p7", "r2", &["heap"])]);
    let sessions = earlier(7, one(&["heap"]));
    let due = |session: &ProfileSession, rules: Value| asked(session, rules, sessions.clone()).0.len();
    assert_eq!((due(&session, json!({"sessions": 8})), due(&session, Value::Null)), (1, 0));
    assert!(!needs_earlier(&session, &fleetprof_core::session::PolicyFacts::Missing));
    let made = Outcome::Watched {
        subject: subject(ProfileKind::Heap),
        sessions: 8,
        trend: Err("x".into()),
        unread: 0,
    };
    fold(&mut session, &mut Answers::default(), made, NOW);
    assert_eq!(due(&session, json!({"sessions": 8})), 0);
    let mut person = round("mine", None, &[target("p7", "r2", &["heap"])]);
    person.spec.trigger = fleetprof_crds::session::Trigger::OnDemand;
    assert_eq!(due(&person, json!({"sessions": 8})), 0);
}

#[test]
fn a_look_reads_a_bounded_number_of_profiles_however_many_there_are() {
    let many = |n: i64| {
        (0..50).map(|pod| target(&format!("p{n}-{pod}"), "r2", &["cpu", "heap"])).collect::<Vec<Value>>()
    };
    let session = round("now", None, &many(60));
    let (watching, _) = asked(&session, json!({"sessions": 60}), earlier(59, many));
    assert_eq!(watching.len(), 2);
    for one in watching {
        let profiles = one.captures.len() + one.loads.len();
        assert!((60..=128).contains(&profiles) && one.sessions == 60, "{profiles} of {}", one.sessions);
    }
}

fn trend(outcome: Found) -> Trend {
    let grown = |name: &str, what| Growth {
        name: name.into(),
        file: "cache.py".into(),
        cumulative: false,
        from: 12.0 * 1_048_576.0,
        to: 31.5 * 1_048_576.0,
        p: 0.002,
        what,
    };
    let what = if outcome == Found::Growing { What::Grows } else { What::Noise };
    Trend {
        kind: ProfileKind::Heap,
        outcome,
        p: (outcome != Found::Inconclusive(Why::FewSessions)).then_some(0.002),
        sessions: 24,
        captures: 48,
        smallest: Some(0.013),
        enough: None,
        load: Some(1.02),
        dispersion: Some(3.0),
        total: 4e8,
        functions: ["put\u{1b}[31m", "b", "c", "d"].map(|name| grown(name, what)).to_vec(),
    }
}

#[test]
fn a_look_is_a_row_and_the_worst_row_is_the_condition() {
    let mut session = round("now", None, &[]);
    let mut watched = |kind, made: Result<Trend, String>, unread| {
        let made =
            Outcome::Watched { subject: subject(kind), sessions: 24, trend: made.map(Box::new), unread };
        assert!(!fold(&mut session, &mut Answers::default(), made, NOW));
        condition(&session)
    };
    let (status, reason, message) = watched(ProfileKind::Cpu, Ok(trend(Found::NotGrowing)), 3);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NotGrowing"));
    assert!(message.starts_with("Deployment/orders r2, cpu: No growth in"), "{message}");
    assert!(message.ends_with("3 stored profiles could not be read; see the operator log."), "{message}");
    let (status, reason, message) = watched(ProfileKind::Heap, Ok(trend(Found::Growing)), 0);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Growing"));
    assert!(message.starts_with("Deployment/orders r2, heap: Growth in memory by pod: put"), "{message}");
    assert!(message.contains("cpu: No growth"), "{message}");
    let (status, reason, message) = watched(ProfileKind::Alloc, Err("the volume\nfailed".into()), 0);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Growing"));
    assert!(message.contains("could not be looked at for growth: the volume"), "{message}");

    let row = serde_json::to_value(&session.status.unwrap().growth[1]).unwrap();
    assert_eq!(
        (&row["result"], &row["p"], &row["sessions"]),
        (&json!("Growing"), &json!("0.0020"), &json!(24))
    );
    assert_eq!((&row["type"], &row["smallestGrowth"]), (&json!("heap"), &json!("1.3")));
    assert_eq!(row["functions"].as_array().unwrap().len(), 3);
    assert_eq!(
        row["functions"][0],
        json!({"name": "put[31m", "file": "cache.py", "change": "Grows", "from": "12.0 MiB", "to": "31.5 MiB"})
    );
}

#[test]
fn what_cannot_be_told_is_unknown_with_its_reason() {
    let cases = [
        (Why::FewSessions, Reason::FewSessions),
        (Why::NotSteady, Reason::NotSteady),
        (Why::DifferentLoad, Reason::DifferentLoad),
        (Why::NotEnoughSamples, Reason::NotEnoughSamples),
    ];
    for (why, reason) in cases {
        let mut session = round("now", None, &[]);
        let made = Outcome::Watched {
            subject: subject(ProfileKind::Heap),
            sessions: 24,
            trend: Ok(Box::new(trend(Found::Inconclusive(why)))),
            unread: 0,
        };
        fold(&mut session, &mut Answers::default(), made, NOW);
        let (status, said, message) = condition(&session);
        assert_eq!((status.as_str(), said.as_str()), ("Unknown", reason.as_str()));
        assert!(message.starts_with("Deployment/orders r2, heap: "), "{message}");
    }
}
