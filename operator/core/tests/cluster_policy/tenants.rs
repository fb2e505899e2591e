//! What happens in one namespace changes nothing for a cluster policy in the others.

use fleetprof_crds::session_status::Phase;

use super::*;

const SCHEDULE: &str = "10m";

fn policy(sampling: Value) -> ClusterProfilingPolicy {
    cluster("all", CREATED, json!({"schedule": {"every": SCHEDULE, "duration": "30s"}, "sampling": sampling}))
}

/// So many workloads of one pod in each of the three namespaces.
fn world(workloads: usize) -> World {
    let all = ["shop", "bank", "other"].into_iter();
    let pod = |namespace: &'static str| {
        (0..workloads).map(move |n| pod(namespace, &format!("p{n}"), &format!("app{n}")))
    };
    World::new(all.flat_map(pod).collect())
}

/// The session as it is when it has ended, with a profile of each target or none.
fn ended(session: &ProfileSession, good: bool, at: Timestamp) -> ProfileSession {
    let pods = session.spec.target.as_ref().and_then(|t| t.pods.clone()).unwrap_or_else(|| vec!["p".into()]);
    let phase = if good { "Succeeded" } else { "Failed" };
    let target = |pod: &String| {
        let reason = if good { "Completed" } else { "AgentGone" };
        json!({"pod": pod, "node": "n", "container": "c", "workload": "Deployment/web", "phase": phase, "reason": reason})
    };
    let targets: Vec<Value> = pods.iter().map(target).collect();
    let times =
        json!({"startTime": (at - SignedDuration::from_secs(40)).to_string(), "endTime": at.to_string()});
    let mut status = json!({"phase": phase, "reason": if good { "Completed" } else { "AllTargetsFailed" }, "targets": targets});
    status.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
    ProfileSession { status: Some(serde_json::from_value(status).unwrap()), ..session.clone() }
}

/// Runs the next round; in the namespaces of `failing` no target returns a profile. Gives back the namespaces
/// that took part.
fn round(world: &mut World, policy: &mut ClusterProfilingPolicy, failing: &[&str]) -> Vec<String> {
    let (_, step) = world.at_tick(policy);
    policy.status = Some(step.status);
    let (began, over) = (world.now, world.now + SignedDuration::from_secs(40));
    let mut took_part = Vec::new();
    for mut session in step.create {
        let namespace = session.metadata.namespace.clone().unwrap();
        session.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(began));
        session.metadata.uid = Some(format!("{namespace}-{}", session.metadata.name.clone().unwrap()));
        world.sessions.push(ended(&session, !failing.contains(&namespace.as_str()), over));
        took_part.push(namespace);
    }
    world.now = over + SignedDuration::from_secs(5);
    policy.status = Some(world.step(policy).status);
    took_part
}

#[test]
fn a_namespace_that_fails_rests_and_the_others_go_on() {
    let (mut world, mut policy) = (world(6), policy(json!({})));
    let mut rounds_of_shop = Vec::new();
    for n in 0..50 {
        let took_part = round(&mut world, &mut policy, &["shop"]);
        assert!(
            took_part.contains(&"bank".into()) && took_part.contains(&"other".into()),
            "{n}: {took_part:?}"
        );
        if took_part.contains(&"shop".into()) {
            rounds_of_shop.push(n);
        }
        world.sessions.retain(|s| {
            s.status.as_ref().unwrap().end_time.as_ref().unwrap().0
                > world.now - SignedDuration::from_hours(2)
        });
    }
    assert_eq!(
        rounds_of_shop,
        [0, 1, 5, 13, 29, 45],
        "6 targets each: apart 4, 8, 16 rounds from the second on"
    );
    let step = world.step(&policy);
    let (status, reason, message) = condition(&step, "Ready");
    assert_eq!((status, reason), ("True", "Active"));
    assert!(
        message.ends_with("Most targets in namespace shop fail, so it is left out of some rounds."),
        "{message}"
    );
    assert_eq!(condition(&step, "ReceivingProfiles").1, "ProfilesArrive");
    let failing = &step.status.failing_namespaces;
    assert_eq!((failing.len(), failing[0].namespace.as_str(), failing[0].failed_rounds), (1, "shop", 6));
    // It is well again: of its next round every target returns a profile.
    while !round(&mut world, &mut policy, &[]).contains(&"shop".into()) {}
    assert!((0..5).all(|_| round(&mut world, &mut policy, &[]).contains(&"shop".into())));
    assert_eq!(policy.status.unwrap().failing_namespaces, [], "and its failures are forgotten");
}

#[test]
fn a_policy_most_of_whose_namespaces_fail_backs_off_as_a_whole() {
    let (mut world, mut policy) = (world(1), policy(json!({})));
    for _ in 0..4 {
        round(&mut world, &mut policy, &["shop", "bank", "other"]);
    }
    let step = world.step(&policy);
    let (status, reason, message) = condition(&step, "Ready");
    assert_eq!((status, reason), ("False", "FailureRate"));
    assert!(
        message.starts_with("12 of the last 12 sessions of its rounds failed; the interval"),
        "{message}"
    );
    assert_eq!(step.status.failed_rounds, 4);
}

#[test]
fn one_namespace_never_outweighs_the_others_however_many_targets_it_has() {
    let pods = (0..50).map(|n| pod("shop", &format!("p{n}"), &format!("app{n}")));
    let few = ["bank", "other"].map(|namespace| pod(namespace, "p0", "web"));
    let (mut world, mut policy) = (World::new(pods.chain(few).collect()), policy(json!({"maxTargets": 10})));
    for _ in 0..30 {
        let took_part = round(&mut world, &mut policy, &["shop"]);
        assert!(took_part.contains(&"bank".into()) && took_part.contains(&"other".into()), "{took_part:?}");
    }
    assert_eq!(condition(&world.step(&policy), "Ready").1, "Active");
}

#[test]
fn what_people_request_says_nothing_of_the_policy() {
    let mut world = world(1);
    let policy = policy(json!({}));
    let request = |n: i64| -> ProfileSession {
        let object = json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"name": format!("mine-{n}"), "namespace": "shop", "uid": format!("mine-{n}")},
            "spec": {"policyRef": {"kind": "ClusterProfilingPolicy", "name": "all"}, "trigger": "OnDemand"},
        });
        ended(&serde_json::from_value(object).unwrap(), false, at(NOW - 100 + n))
    };
    world.sessions = (0..30).map(request).collect();
    world.sessions[29].status.as_mut().unwrap().phase = Phase::Running;
    let step = world.step(&policy);
    assert_eq!((step.status.outcomes.as_str(), step.status.failing_namespaces.len()), ("", 0));
    assert_eq!((step.status.recent_sessions.len(), step.status.active_sessions.len()), (0, 0));
    assert_eq!(condition(&step, "Ready").1, "Active");
    assert_eq!(condition(&step, "ReceivingProfiles").1, "NoProfilesYet");
    assert_eq!(condition(&step, "WithinBudget").2, "No target was denied a slot.");
}

#[test]
fn a_namespace_that_still_captures_is_left_out_and_keeps_no_other_from_its_round() {
    let (mut world, policy) = (world(1), policy(json!({})));
    let (_, first) = world.at_tick(&policy);
    let stuck = first.create.into_iter().find(|s| s.metadata.namespace.as_deref() == Some("shop")).unwrap();
    let running = json!({"phase": "Running"});
    world.sessions = vec![ProfileSession { status: Some(serde_json::from_value(running).unwrap()), ..stuck }];
    let (_, next) = world.at_tick(&policy);
    let took_part: Vec<String> = targets(&next).into_iter().map(|(namespace, _)| namespace).collect();
    assert_eq!((took_part, next.missed), (vec!["bank".to_owned(), "other".to_owned()], None));
}

#[test]
fn a_status_with_many_failing_namespaces_is_still_small() {
    let name = |n: usize| format!("a-namespace-with-a-name-as-long-as-names-of-namespaces-get-{n:03}");
    let pods = (0..150).map(|n| pod(&name(n), "a-pod", "a-workload-with-a-name-that-people-do-give"));
    let (mut world, mut policy) = (World::new(pods.collect()), policy(json!({"maxTargets": 50})));
    world.namespaces = (0..150).map(|n| (name(n), Labels::new())).collect();
    let all: Vec<String> = (0..150).map(name).collect();
    let failing: Vec<&str> = all.iter().map(String::as_str).collect();
    for _ in 0..6 {
        round(&mut world, &mut policy, &failing);
    }
    let status = policy.status.unwrap();
    assert_eq!(status.failing_namespaces.len(), 20);
    let bytes = serde_json::to_vec(&status).unwrap().len();
    assert!(
        status.linked_apps.len() >= 20 && bytes < 20_000,
        "{} rows, {bytes} bytes",
        status.linked_apps.len()
    );
}
