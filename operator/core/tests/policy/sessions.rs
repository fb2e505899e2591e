//! What does a policy keep of its sessions, and what do they say of its health?

use std::sync::Arc;

use fleetprof_core::policy::growth;
use fleetprof_crds::Reason;
use fleetprof_crds::names::KEEP_ANNOTATION;
use serde_json::json;

use super::{CREATED, NOW, World, condition, pod, policy_of, session};

#[test]
fn history_limits_forget_the_oldest_of_the_policys_own_sessions() {
    let policy = policy_of("p", CREATED, json!({"session": {"history": {"succeeded": 1, "failed": 1}}}));
    let mut world = World::new(vec![]);
    world.sessions = vec![
        session("good-old", "Schedule", "Succeeded", NOW - 300),
        session("good-new", "Schedule", "PartiallySucceeded", NOW - 100),
        session("bad-old", "Schedule", "Failed", NOW - 300),
        session("bad-new", "Schedule", "Expired", NOW - 100),
        session("mine", "OnDemand", "Succeeded", NOW - 900),
        session("live", "Schedule", "Running", NOW),
    ];
    let step = world.step(&policy);
    let deleted: Vec<_> =
        step.delete.iter().map(|(namespace, name)| (namespace.as_str(), name.as_str())).collect();
    assert_eq!(deleted, [("shop", "good-old"), ("shop", "bad-old")]);
    assert_eq!((step.status.active_sessions.len(), step.status.recent_sessions.len()), (1, 5));
    assert_eq!(condition(&step, "ReceivingProfiles").0, "False", "the newest that ended is bad-new");
}

#[test]
fn what_somebody_wants_kept_is_beyond_the_history_limits() {
    let policy = policy_of("p", CREATED, json!({"session": {"history": {"succeeded": 1, "failed": 1}}}));
    let mut world = World::new(vec![]);
    let mut kept = session("kept", "Schedule", "Succeeded", NOW - 900);
    kept.metadata
        .annotations
        .get_or_insert_default()
        .insert(KEEP_ANNOTATION.to_owned(), "incident".to_owned());
    world.sessions = vec![
        kept,
        session("good-old", "Schedule", "Succeeded", NOW - 300),
        session("good-new", "Schedule", "Succeeded", NOW - 100),
    ];
    let deleted = world.step(&policy).delete;
    assert_eq!(deleted, [("shop".to_owned(), "good-old".to_owned())]);
}

#[test]
fn sessions_that_growth_is_looked_for_in_outlive_the_history_limits() {
    let spec = json!({"growth": {"sessions": 8}, "session": {"history": {"succeeded": 1, "failed": 1}}});
    let policy = policy_of("p", CREATED, spec);
    let mut world = World::new(vec![]);
    let captured = |n: i64, workloads: &[&str]| {
        let mut session = session(&format!("s{n}"), "Schedule", "Succeeded", NOW - n);
        let profiles = json!([{"type": "cpu", "uri": "k", "bytes": 1, "samples": 9}]);
        let target = |w: &&str| json!({"pod": w, "workload": w, "phase": "Succeeded", "profiles": profiles});
        let targets = json!(workloads.iter().map(target).collect::<Vec<_>>());
        session.status.as_mut().unwrap().targets = serde_json::from_value(targets).unwrap();
        session
    };
    let deleted = |world: &World| -> Vec<String> {
        world.step(&policy).delete.into_iter().map(|(_, name)| name).collect()
    };
    world.sessions = (1..=12).map(|n| captured(n, &["web"])).collect();
    assert_eq!(deleted(&world), ["s10", "s11", "s12"], "eight for growth, and one by the history limit");
    // Workloads that take turns have as many each.
    let turn = |n: i64| if n % 3 == 0 { captured(n, &["rare"]) } else { captured(n, &["web", "api"]) };
    world.sessions = (1..=30).map(turn).collect();
    let wanted = (13..=30).filter(|n| n % 3 != 0 || *n > 24).map(|n| format!("s{n}"));
    let kept_by_history = "s13";
    assert_eq!(deleted(&world), wanted.filter(|name| name != kept_by_history).collect::<Vec<_>>());
}

#[test]
fn growth_is_shown_as_the_newest_look_said_and_not_a_number_before_one() {
    let policy = policy_of("p", CREATED, json!({"growth": {}, "profiles": ["heap", "wall"]}));
    let mut pod = pod("a", "web");
    pod.labels = Arc::new([("pod-template-hash".to_owned(), "r2".to_owned())].into());
    let mut world = World::new(vec![pod]).heard_of(&["a"]);
    let shown = |world: &World| -> Vec<(String, f64)> {
        let links = world.step(&policy).links;
        let sessions: Vec<_> = world.sessions.iter().cloned().map(Arc::new).collect();
        let series = growth::series(&(&policy).into(), &links, &sessions);
        series.into_iter().map(|(of, value)| (format!("{of:?}"), value)).collect()
    };
    let before = shown(&world);
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(before[0].1.is_nan() && before[0].0.contains("Heap"), "{before:?}");
    let workload = world.step(&policy).links[0].pod.workload.to_string();
    let revision = world.step(&policy).links[0].pod.revision().map(|(label, _)| label.to_owned());
    let looked = |name: &str, ended: i64, result: &str, p: Option<&str>| {
        let mut session = session(name, "Schedule", "Succeeded", ended);
        let row = json!({"workload": workload, "revision": revision.clone().unwrap_or_default(), "type": "heap",
            "result": result, "p": p});
        session.status.as_mut().unwrap().growth = vec![serde_json::from_value(row).unwrap()];
        session
    };
    world.sessions = vec![
        looked("last", NOW - 1, "Inconclusive", None),
        looked("newer", NOW - 10, "Growing", Some("0.0010")),
        looked("older", NOW - 100, "NotGrowing", Some("0.9000")),
    ];
    assert_eq!(shown(&world)[0].1, 1.0);
    let mut off = policy.clone();
    off.spec.growth = None;
    let links = world.step(&off).links;
    assert!(growth::series(&(&off).into(), &links, &[]).is_empty());
}

#[test]
fn recent_sessions_outlive_their_objects_and_stay_ten() {
    let policy = policy_of("p", CREATED, json!({}));
    let mut world = World::new(vec![]);
    world.sessions = (0..8).map(|n| session(&format!("s{n}"), "OnDemand", "Succeeded", NOW - n)).collect();
    let mut later = policy.clone();
    later.status = Some(world.step(&policy).status);
    world.sessions = (8..14).map(|n| session(&format!("s{n}"), "OnDemand", "Succeeded", NOW + n)).collect();
    let recent: Vec<String> = world.step(&later).status.recent_sessions.into_iter().map(|s| s.name).collect();
    assert_eq!(recent, ["s13", "s12", "s11", "s10", "s9", "s8", "s0", "s1", "s2", "s3"]);
}

#[test]
fn a_schedule_that_cannot_be_followed_names_its_field() {
    let world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    for (schedule, words) in [
        (json!({"cron": "5-1 * * * *"}), "spec.schedule.cron: "),
        (
            json!({"cron": "0 3 * * *", "timeZone": "Europe/Atlantis"}),
            "spec.schedule.timeZone: unknown time zone \"Europe/Atlantis\"",
        ),
        (json!({"cron": "0 0 31 2 *"}), "spec.schedule.cron never matches any time"),
    ] {
        let step = world.step(&policy_of("p", CREATED, json!({"schedule": schedule})));
        assert_eq!(condition(&step, "Configured"), ("False", "InvalidSpec"), "{words}");
        let configured = step.status.conditions.iter().find(|c| c.type_ == "Configured").unwrap();
        assert!(configured.message.starts_with(words), "{}", configured.message);
        let ready = step.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(
            (condition(&step, "Ready"), &ready.message),
            (("False", "InvalidSpec"), &configured.message)
        );
        assert_eq!((step.create, step.status.next_session_time), (vec![], None));
    }
}

#[test]
fn sessions_that_captured_nothing_say_nothing_of_the_way_of_profiles() {
    let mut refused = session("typo", "OnDemand", "Failed", NOW - 10);
    refused.status.as_mut().unwrap().start_time = None;
    let mut skipped = session("busy", "OnDemand", "Failed", NOW - 20);
    skipped.status.as_mut().unwrap().counts = serde_json::from_value(
        json!({"desired": 2, "started": 0, "succeeded": 0, "failed": 0, "skipped": 2}),
    )
    .unwrap();
    let mut expired = session("late", "OnDemand", "Expired", NOW - 30);
    expired.status.as_mut().unwrap().reason = Some(Reason::ResultDeadlineExceeded);
    let good = || session("good", "Schedule", "Succeeded", NOW - 100);
    let cases = [
        (
            vec![refused.clone(), skipped.clone(), good()],
            ("True", "ProfilesArrive"),
            "Session good captured 0 samples from  targets.",
        ),
        (
            vec![refused, skipped],
            ("Unknown", "NoProfilesYet"),
            "No session of this policy has captured a profile yet.",
        ),
        (vec![expired, good()], ("False", "ResultDeadlineExceeded"), "Session late ended as Expired."),
    ];
    for (sessions, wanted, words) in cases {
        let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
        world.sessions = sessions;
        let mut p = policy_of("p", CREATED, json!({}));
        for there in [true, false] {
            let step = world.step(&p);
            let receiving = step.status.conditions.iter().find(|c| c.type_ == "ReceivingProfiles").unwrap();
            assert_eq!(
                (condition(&step, "ReceivingProfiles"), receiving.message.as_str()),
                (wanted, words),
                "objects there: {there}"
            );
            p.status = Some(step.status);
            world.sessions.clear();
        }
    }
}
