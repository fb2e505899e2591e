//! Comparisons of a new revision with the one before it: when one is due, of which pods, and what Prometheus is
//! shown of it.

use fleetprof_core::trigger::regression::{Series, series};
use fleetprof_crds::compare::Baseline;

use super::sources::revised;
use super::*;

fn comparing(compare: &Value) -> World {
    let rule = json!({"delay": "1m", "duration": "20s", "wait": "10m", "compare": compare});
    let mut world = World::new(json!({"rollout": rule}), vec![]);
    world.policy.metadata.creation_timestamp = Some(Time(at(-1000)));
    world
}

/// Pods of a revision, ready since then.
fn pods(revision: &str, count: usize, created: i64) -> Vec<PodLink> {
    let name = |n| format!("shop-{revision}-{n}");
    (1..=count).map(|n| revised(&name(n), revision, created, Some(created))).collect()
}

fn look(world: &mut World, second: i64, links: &[PodLink]) -> Option<ProfileSession> {
    let revision = |label: &str, name: &str| rollout::Revision {
        namespace: "shop".into(),
        workload: Workload { kind: "Deployment".into(), name: name.into() },
        object: RevisionObject::ReplicaSet(format!("{name}-{label}")),
        label: label.into(),
    };
    let made = [
        (revision("old", "shop"), at(-5000)),
        (revision("new", "shop"), at(0)),
        (revision("promoted", "shop-primary"), at(0)),
    ];
    let view = (&world.policy).into();
    let firings = rollout::firings(&view, links, &HashMap::from(made), at(second));
    world.admit(second, firings).create.pop()
}

fn names(session: &ProfileSession) -> String {
    session.spec.target.clone().unwrap().pods.unwrap().join(" ").replace("shop-", "")
}

#[test]
fn a_comparison_captures_as_many_pods_of_both_revisions_once_enough_new_ones_are_warm() {
    let mut world = comparing(&json!({}));
    let with = |new: usize| [pods("old", 9, -900), pods("new", new, 1)].concat();
    assert_eq!(look(&mut world, 60, &with(3)), None, "the delay is not over");
    assert_eq!(look(&mut world, 61, &with(2)), None, "too few, but more may come");
    let session = look(&mut world, 61, &with(3)).unwrap();
    assert_eq!(names(&session), "new-1 new-2 new-3 old-1 old-2 old-3 old-4 old-5", "half of maxConcurrent");
    let compare = session.spec.compare.clone().unwrap();
    assert_eq!((compare.revision.as_str(), compare.rules.baseline), ("new", Baseline::Stable));
    assert_eq!(session.metadata.labels.clone().unwrap()["fleetprof.dev/revision"], "new");
    assert!(session.spec.labels.is_empty(), "profiles of both revisions: {:?}", session.spec.labels);
    let said = "(delay 1m); compared with the revision old, of which 9 pods are ready";
    assert!(session.spec.cause.ends_with(said), "{}", session.spec.cause);
    assert_eq!(look(&mut world, 500, &with(8)), None, "one look");
}

#[test]
fn a_revision_of_one_pod_is_looked_at_when_the_wait_is_over() {
    let mut world = comparing(&json!({}));
    let links = [pods("old", 1, -900), pods("new", 1, 0)].concat();
    assert_eq!(look(&mut world, 659, &links), None);
    assert_eq!(names(&look(&mut world, 660, &links).unwrap()), "new-1 old-1");
}

#[test]
fn without_an_old_pod_the_new_ones_are_captured_alone_and_that_is_said() {
    let mut world = comparing(&json!({}));
    let session = look(&mut world, 61, &pods("new", 4, 0)).unwrap();
    assert_eq!(names(&session), "new-1 new-2 new-3 new-4");
    assert!(session.spec.cause.ends_with("because no pod of one is ready"), "{}", session.spec.cause);
}

#[test]
fn the_old_revision_is_the_one_that_most_pods_are_of() {
    let mut world = comparing(&json!({"minPods": 2}));
    let mut links = [pods("older", 1, -900), pods("old", 3, -900), pods("new", 2, 0)].concat();
    let mut cold = revised("shop-old-9", "old", -900, Some(30));
    cold.linked = true;
    links.push(cold);
    links[1].linked = false;
    assert_eq!(names(&look(&mut world, 61, &links).unwrap()), "new-1 new-2 old-2 old-3");
}

#[test]
fn earlier_sessions_as_a_baseline_need_no_old_pod_and_are_kept() {
    let mut world = comparing(&json!({"baseline": "Sessions", "sessions": 3}));
    let links = [pods("old", 3, -900), pods("new", 3, 0)].concat();
    let session = look(&mut world, 61, &links).unwrap();
    assert_eq!(names(&session), "new-1 new-2 new-3");
    assert!(session.spec.cause.ends_with("compared with the last 3 sessions"), "{}", session.spec.cause);

    world.policy.spec.session.history.succeeded = 1;
    let round = |n: i64| {
        let mut session: ProfileSession = serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"name": format!("p-{n}"), "namespace": "shop", "uid": format!("uid-{n}")},
            "spec": {"trigger": "Schedule"}, "status": {"phase": "Succeeded", "targets": [{
                "pod": "old-1", "workload": "Deployment/shop", "phase": "Succeeded",
                "profiles": [{"type": "cpu", "uri": "k", "bytes": 1, "samples": 9}],
            }]},
        }))
        .unwrap();
        session.status.as_mut().unwrap().end_time = Some(Time(at(n)));
        Arc::new(session)
    };
    let rounds: Vec<_> = (0..8).map(round).collect();
    let expired = rounds::expired(&(&world.policy).into(), &rounds, at(100));
    let names: Vec<&str> = expired.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["p-3", "p-2", "p-1", "p-0"], "three for comparisons, and one by the history limit");
}

#[test]
fn another_workload_may_stand_for_the_old_revision_and_is_not_compared_itself() {
    let mut world = comparing(&json!({"baselineSuffix": "-primary"}));
    let primary = |n: usize| {
        let mut link = revised(&format!("shop-primary-{n}"), "promoted", -900, Some(-900));
        let facts = Arc::get_mut(&mut link.pod).unwrap();
        Arc::make_mut(&mut facts.workload).name = "shop-primary".into();
        let mut owner = (**facts.owner.as_ref().unwrap()).clone();
        owner.name = "shop-primary-promoted".into();
        facts.owner = Some(Arc::new(owner));
        link
    };
    let primaries: Vec<PodLink> = (1..=3).map(primary).collect();
    let session = look(&mut world, 61, &[primaries.clone(), pods("new", 3, 0)].concat()).unwrap();
    assert_eq!(names(&session), "new-1 new-2 new-3 primary-1 primary-2 primary-3");
    assert_eq!(look(&mut world, 300, &primaries), None);
}

#[test]
fn a_session_that_compares_captures_cpu_whatever_the_policy_profiles() {
    let mut world = comparing(&json!({}));
    world.policy.spec.profiles = vec![fleetprof_crds::ProfileKind::Wall];
    let session = look(&mut world, 61, &pods("new", 3, 0)).unwrap();
    let kinds: Vec<&str> = session.spec.profiles.iter().map(|kind| kind.name()).collect();
    assert_eq!(kinds, ["wall", "cpu"]);
}

#[test]
fn a_revision_is_shown_to_prometheus_from_its_first_sight_to_the_end_of_its_last_pod() {
    let mut world = comparing(&json!({}));
    let shown = |world: &World, second: i64, links: &[PodLink]| {
        let all = series(&(&world.policy).into(), links, &world.sessions, at(second));
        let text = |(of, value): (Series, f64)| {
            format!("{} {}/{} {} {value}", of.namespace, of.kind, of.workload, of.revision)
        };
        all.into_iter().map(text).collect::<Vec<_>>()
    };
    let old = pods("old", 3, -1100);
    let links = [old.clone(), pods("new", 3, 0)].concat();
    assert_eq!(shown(&world, 1, &links), ["shop Deployment/shop new NaN"], "the old one was there before");
    look(&mut world, 61, &links).unwrap();
    assert_eq!(shown(&world, 62, &links), ["shop Deployment/shop new NaN"]);
    for (status, value) in [("True", "1"), ("False", "0"), ("Unknown", "NaN")] {
        let session = Arc::make_mut(world.sessions.last_mut().unwrap());
        session.status = Some(
            serde_json::from_value(json!({"conditions": [{"type": "Regressed", "status": status,
                "reason": "Any", "message": "", "lastTransitionTime": at(90).to_string()}]}))
            .unwrap(),
        );
        let long_after = 50_000;
        assert_eq!(shown(&world, long_after, &links), [format!("shop Deployment/shop new {value}")]);
    }
    assert!(shown(&world, 100, &old).is_empty(), "no pod of it is left");

    Arc::make_mut(world.sessions.last_mut().unwrap()).spec.trigger = Trigger::OnDemand;
    assert!(shown(&world, 50_000, &links).is_empty(), "a person's session gates no rollout");
    world.policy.spec.triggers.rollout.as_mut().unwrap().compare = None;
    assert!(shown(&world, 1, &links).is_empty());
}
