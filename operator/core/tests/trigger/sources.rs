//! Alerts, queries and rollouts: which workloads they mean, and what each starts once.

use super::*;

fn alert_of(name: &str, labels: &[(&str, &str)], print: &str) -> Alert {
    let labels =
        [("alertname", name)].iter().chain(labels).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Alert { labels, fingerprint: print.into(), starts_at: at(0) }
}

fn rules(world: &World) -> alert::Rules {
    alert::Rules::of(&(&world.policy).into())
}

#[test]
fn an_alert_finds_its_workload_by_namespace_and_pod_workload_or_app() {
    let mut labelled = link("web-1", "web");
    Arc::get_mut(&mut labelled.pod).unwrap().labels =
        Arc::new([("app.kubernetes.io/name".to_owned(), "front".to_owned())].into());
    let mut unlinked = link("old-1", "old");
    unlinked.linked = false;
    let links = [link("shop-x", "shop"), link("shop-y", "shop"), labelled, unlinked];
    let found = |labels: &[(&str, &str)]| {
        let labels = alert_of("A", labels, "0").labels;
        let places = places(|name| labels.get(name).map(String::as_str), None, &links);
        places.iter().map(|p| format!("{}:{}", p.workload, p.pods.join(","))).collect::<Vec<_>>().join(" ")
    };
    let cases = [
        (vec![("namespace", "shop"), ("pod", "shop-y"), ("deployment", "web")], "Deployment/shop:shop-y"),
        (vec![("namespace", "shop"), ("pod", "gone"), ("deployment", "web")], "Deployment/web:"),
        (vec![("namespace", "shop"), ("deployment", "shop")], "Deployment/shop:"),
        (vec![("namespace", "shop"), ("statefulset", "shop")], ""),
        (vec![("namespace", "shop"), ("service", "shop")], "Deployment/shop:"),
        (vec![("namespace", "shop"), ("app", "front")], "Deployment/web:"),
        (vec![("namespace", "other"), ("pod", "shop-y")], ""),
        (vec![("pod", "shop-y")], ""),
        (vec![("namespace", "shop"), ("pod", "old-1")], ""),
        (vec![("namespace", "shop")], ""),
    ];
    for (labels, wanted) in cases {
        assert_eq!(found(&labels), wanted, "{labels:?}");
    }
}

#[test]
fn an_alert_that_is_repeated_starts_no_second_session_even_after_the_cooldown() {
    let triggers = json!({"alerts": [{"matchers": ["alertname=\"Slow\"", "severity=~\"page|warn\""], "cooldown": "2m", "duration": "15s"}]});
    let mut world = World::new(triggers, vec![link("shop-x", "shop")]);
    let labels =
        [("namespace", "shop"), ("pod", "shop-x"), ("severity", "page"), ("evil", "\u{1b}[31m\u{202e}x")];
    let tell = |world: &mut World, second, alert: Alert| {
        let firings = alert::firings(
            &(&world.policy).into(),
            &rules(world),
            &world.links,
            &[Told { at: at(second), alert: alert.into() }],
            at(second),
        );
        world.admit(second, firings)
    };
    assert!(tell(&mut world, 0, alert_of("Fast", &labels, "a1")).create.is_empty(), "another alert");
    let created = tell(&mut world, 0, alert_of("Slow", &labels, "a1")).create.remove(0);
    assert_eq!((created.spec.trigger, created.spec.duration.as_secs()), (Trigger::Alert, 15));
    assert_eq!(
        created.spec.cause,
        "an alert is firing since 2027-01-15T08:00:00Z: alertname=Slow, evil=[31mx, namespace=shop, \
         pod=shop-x, severity=page"
    );
    for second in [1, 100, 121, 100_000] {
        assert_eq!(
            tell(&mut world, second, alert_of("Slow", &labels, "a1")),
            Admitted::default(),
            "repeated after {second} s"
        );
    }
    let mut later = alert_of("Slow", &labels, "a1");
    later.starts_at = at(110);
    assert_eq!(tell(&mut world, 110, later.clone()).held.len(), 1, "a new firing within the cooldown");
    assert_eq!(tell(&mut world, 121, later).create.len(), 1, "and after it");
}

#[test]
fn alerts_of_several_pods_are_one_firing_that_captures_as_many_as_the_policy_says() {
    let triggers = json!({"alerts": [{"matchers": ["alertname=~\"Slow.*\""], "cooldown": "2m"}]});
    let links =
        ["a", "b", "c"].map(|pod| link(pod, "shop")).into_iter().chain([link("d", "other")]).collect();
    let mut world = World::new(triggers, links);
    world.policy.spec.sampling.replicas_per_workload = 2;
    // The pods' alerts begin, and are told, a minute apart; each is told once.
    let alert = |pod: &str, print: &str, second: i64| {
        let mut alert = alert_of("Slow", &[("namespace", "shop"), ("pod", pod)], print);
        alert.starts_at = at(second);
        Told { at: at(second + 5), alert: alert.into() }
    };
    let told = [alert("b", "b2", 0), alert("c", "c3", 1), alert("a", "a1", 60), alert("d", "d4", 60)];
    let (mut starts, mut held) = (vec![], 0);
    for second in (5..700).step_by(5) {
        let known: Vec<Told> = told.iter().filter(|t| t.at <= at(second)).cloned().collect();
        let firings =
            alert::firings(&(&world.policy).into(), &rules(&world), &world.links, &known, at(second));
        let admitted = world.admit(second, firings);
        held += admitted.held.len();
        starts.extend(
            admitted.create.into_iter().map(|s| (second, s.spec.target.unwrap().pods.unwrap().join(","))),
        );
    }
    assert_eq!(
        (starts, held),
        (vec![(5, "b".to_owned()), (65, "d".to_owned())], 0),
        "5 s: the second one was not known yet"
    );
    let firings = alert::firings(&(&world.policy).into(), &rules(&world), &world.links, &told, at(70));
    let shop = firings.iter().find(|f| f.workload.name == "shop").unwrap();
    assert_eq!(shop.pods, ["b", "c"]);
    assert!(
        shop.cause.starts_with("an alert is firing since 2027-01-15T08:00:00Z: ")
            && shop.cause.ends_with("; 3 alerts are firing together")
    );
    assert!(
        alert::firings(&(&world.policy).into(), &rules(&world), &world.links, &told, at(700)).is_empty(),
        "not before Alertmanager repeats it"
    );
    let later = [&told[..], &[alert("c", "c3", 400)]].concat();
    let firings = alert::firings(&(&world.policy).into(), &rules(&world), &world.links, &later, at(405));
    assert_eq!(
        world.admit(405, firings).create.len(),
        1,
        "what began after a cooldown is another firing, though the first goes on"
    );
}

#[test]
fn matchers_that_cannot_be_read_are_named_with_their_field() {
    let world =
        World::new(json!({"alerts": [{"matchers": ["a=b"]}, {"matchers": ["a=b", "c=~\"(\""]}]}), vec![]);
    let problems = rules(&world).problems;
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("spec.triggers.alerts[1].matchers[1]: invalid regular expression \"(\": "),
        "{problems:?}"
    );
    let mut status = fleetprof_crds::ProfilingPolicyStatus::default();
    verdict::fill(
        &(&world.policy).into(),
        &mut status,
        verdict::Setup { receiver: true, prometheus: true },
        &rules(&world),
        &HashMap::new(),
        &BTreeMap::new(),
        at(0),
    );
    assert_eq!(
        (status.conditions[0].type_.as_str(), status.conditions[0].reason.as_str()),
        ("TriggersReady", "InvalidSpec")
    );
}

/// A pod of a revision; times are seconds after now, the policy is of -1000.
pub(super) fn revised(pod: &str, revision: &str, created: i64, ready: Option<i64>) -> PodLink {
    let mut link = link(pod, "shop");
    let facts = Arc::get_mut(&mut link.pod).unwrap();
    let replica_set = Owner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: format!("shop-{revision}"),
        uid: revision.into(),
    };
    facts.owner = Some(Arc::new(replica_set));
    (facts.created, facts.ready_since) = (Some(at(created)), ready.map(at));
    link
}

#[test]
fn a_new_revision_is_profiled_once_after_its_delay_and_the_first_one_never() {
    let mut world = World::new(json!({"rollout": {"delay": "1m", "duration": "20s"}}), vec![]);
    world.policy.metadata.creation_timestamp = Some(Time(at(-1000)));
    let revision = |label: &str| rollout::Revision {
        namespace: "shop".into(),
        workload: Workload { kind: "Deployment".into(), name: "shop".into() },
        object: RevisionObject::ReplicaSet(format!("shop-{label}")),
        label: label.into(),
    };
    let made: HashMap<_, _> =
        [("old", -5000), ("new", 0), ("back", -4000)].map(|(l, s)| (revision(l), at(s))).into();
    let look = |world: &mut World, second: i64, links: Vec<PodLink>| {
        let view = (&world.policy).into();
        assert!(rollout::questions(&view, &links, at(second)).iter().all(|q| made.contains_key(q)));
        let firings = rollout::firings(&view, &links, &made, at(second));
        world.admit(second, firings).create
    };
    let old = || revised("shop-old-1", "old", -4900, Some(-4890));
    assert!(look(&mut world, 0, vec![old()]).is_empty(), "it was there before the policy");
    assert!(
        look(&mut world, 0, vec![revised("shop-old-2", "old", -100, Some(-90))]).is_empty(),
        "a pod of it was replaced"
    );
    assert!(
        look(&mut world, 0, vec![revised("shop-back-1", "back", -100, Some(-90))]).is_empty(),
        "a rollback"
    );
    assert!(
        look(&mut world, 69, vec![old(), revised("shop-new-1", "new", 1, None)]).is_empty(),
        "it is not ready"
    );
    assert!(
        look(&mut world, 69, vec![old(), revised("shop-new-1", "new", 1, Some(10))]).is_empty(),
        "the delay is not over"
    );
    let created = look(&mut world, 70, vec![old(), revised("shop-new-1", "new", 1, Some(10))]).remove(0);
    assert_eq!(created.metadata.labels.unwrap()["fleetprof.dev/revision"], "new");
    assert_eq!(
        (created.spec.labels["revision"].as_str(), created.spec.target.unwrap().pods.unwrap()),
        ("new", vec!["shop-new-1".to_owned()])
    );
    assert_eq!(
        created.spec.cause,
        "Deployment/shop has the new revision new; its first pod shop-new-1 has been ready for 60 s (delay \
         1m)"
    );
    for second in [71, 500, 3000, 50_000] {
        assert!(
            look(&mut world, second, vec![revised("shop-new-2", "new", second - 70, Some(second - 65))])
                .is_empty(),
            "once"
        );
    }
}

#[test]
fn a_session_of_a_rollout_is_kept_while_its_revision_is_new() {
    let session = |triggers, trigger| {
        let mut world = World::new(triggers, vec![]);
        world.policy.spec.session.ttl = Duration::from_secs(60);
        let firing = Firing { trigger, ..firing("any", "shop", "new", 0) };
        world.admit(0, vec![firing]).create.remove(0).spec.ttl.as_secs()
    };
    let rollout = || json!({"rollout": {"delay": "30m"}, "cpu": {}});
    assert_eq!(
        session(rollout(), Trigger::Rollout),
        3600 + 1800,
        "gone sooner, the same revision would fire again"
    );
    assert_eq!(session(rollout(), Trigger::Cpu), 60);
}

#[test]
fn a_new_revision_counts_whatever_the_kind_of_its_workload() {
    let of = |kind: &str, owner: bool, label: &str| {
        let mut link = revised("shop-0", "66", 1, Some(2));
        let facts = Arc::get_mut(&mut link.pod).unwrap();
        Arc::make_mut(&mut facts.workload).kind = kind.into();
        facts.owner = facts.owner.take().filter(|_| owner);
        facts.labels = Arc::new([("controller-revision-hash".to_owned(), label.to_owned())].into());
        let policy = policy(json!({"rollout": {"delay": "0s"}}));
        let questions = rollout::questions(&(&policy).into(), &[link], at(3));
        questions.into_iter().map(|q| (q.object, q.label)).next()
    };
    let replica_set = RevisionObject::ReplicaSet("shop-66".into());
    let controller = RevisionObject::ControllerRevision("shop-6c5f9b".into());
    assert_eq!(of("Rollout", true, ""), Some((replica_set, "66".into())));
    assert_eq!(of("StatefulSet", false, "shop-6c5f9b"), Some((controller.clone(), "shop-6c5f9b".into())));
    assert_eq!(of("DaemonSet", false, "6c5f9b"), Some((controller, "6c5f9b".into())));
}

#[test]
fn a_query_fires_once_its_series_is_there_for_long_enough_and_its_problem_names_the_field() {
    let rule = json!({"promQL": [{"name": "ok", "query": "a"}, {"name": "slow", "query": "latency > 0.5", "for": "1m", "cooldown": "10m"}]});
    let mut world = World::new(rule, vec![link("shop-x", "shop")]);
    let series = |pod: &str| {
        promql::Series::of(&[("secret", "x"), ("pod", pod)].map(|(k, v)| (k.to_owned(), v.to_owned())).into())
    };
    let mut known: HashMap<String, promql::Known> = HashMap::new();
    let mut starts = vec![];
    for second in (0..900).step_by(15) {
        let answer = Ok(vec![series("shop-x"), series("elsewhere")]);
        known.insert("slow".into(), promql::follow(known.get("slow"), "latency > 0.5", answer, at(second)));
        let firings = promql::firings(&(&world.policy).into(), &world.links, &known, at(second));
        starts.extend(
            world.admit(second, firings).create.into_iter().map(|s| (second, s.spec.cause, s.spec.trigger)),
        );
    }
    let cause = "query slow has returned pod shop-x of Deployment/shop in namespace shop for 60 s".to_owned();
    assert_eq!(
        starts,
        [(60, cause, Trigger::PromQl)],
        "the same series fires once, however long it is there"
    );
    known.insert(
        "slow".into(),
        promql::follow(
            None,
            "latency > 0.5",
            Err(promql::Problem::Invalid("1:3: parse error".into())),
            at(0),
        ),
    );
    assert!(promql::firings(&(&world.policy).into(), &world.links, &known, at(900)).is_empty());
    let mut status = fleetprof_crds::ProfilingPolicyStatus::default();
    let mut said = |setup, known: &HashMap<String, promql::Known>| {
        verdict::fill(
            &(&world.policy).into(),
            &mut status,
            setup,
            &rules(&world),
            known,
            &BTreeMap::new(),
            at(0),
        );
        (status.conditions[0].reason.clone(), status.conditions[0].message.clone())
    };
    let there = verdict::Setup { receiver: false, prometheus: true };
    assert_eq!(
        said(there, &known),
        ("InvalidSpec".into(), "spec.triggers.promQL[1].query: 1:3: parse error.".into())
    );
    assert_eq!(said(verdict::Setup::default(), &HashMap::new()).0, "PrometheusUnset");
    known.insert(
        "slow".into(),
        promql::follow(None, "latency > 0.5", Err(promql::Problem::Failed("down".into())), at(0)),
    );
    assert_eq!(said(there, &known).0, "PrometheusFailed");
    assert_eq!(said(there, &HashMap::new()).0, "Valid");
}

#[test]
fn series_of_several_pods_are_one_firing_whose_key_does_not_change_by_chance() {
    let rule = json!({"promQL": [{"name": "slow", "query": "q", "for": "0s", "cooldown": "2m"}]});
    let mut world = World::new(rule, vec![link("a", "shop"), link("b", "shop"), link("c", "shop")]);
    world.policy.spec.sampling.replicas_per_workload = 2;
    // Several series on each pod, which come one after another.
    let series = |pod: &str, path: usize| {
        let labels = [("pod", pod.to_owned()), ("path", path.to_string())];
        promql::Series::of(&labels.map(|(k, v)| (k.to_owned(), v)).into())
    };
    let (mut known, mut admitted) = (HashMap::new(), vec![]);
    for second in (0..105).step_by(15) {
        let there = usize::try_from(second / 15).unwrap() + 1;
        let all = (0..5).flat_map(|path| ["c", "a", "b"].map(|pod| series(pod, path))).take(there).collect();
        known.insert("slow".to_owned(), promql::follow(known.get("slow"), "q", Ok(all), at(second)));
        let firings = promql::firings(&(&world.policy).into(), &world.links, &known, at(second));
        assert_eq!(firings.len(), 1);
        admitted.push((firings[0].key.clone(), firings[0].cause.clone(), firings[0].pods.join(",")));
        let step = world.admit(second, firings);
        assert_eq!((step.create.len(), step.held.len()), (usize::from(second == 0), 0), "at {second}");
    }
    assert!(admitted.iter().all(|(key, ..)| *key == NOW.to_string()));
    let last = (
        "query slow has returned pod c of Deployment/shop in namespace shop for 90 s; 7 of its series match",
        "c,a",
    );
    assert_eq!((admitted[6].1.as_str(), admitted[6].2.as_str()), last);
}

#[test]
fn an_alert_of_an_impossible_time_is_ignored_and_counted() {
    let now: Timestamp = "2026-05-01T00:00:00Z".parse().unwrap();
    let read = |status: &str, since: &str| {
        let alert = json!({"status": status, "labels": {}, "startsAt": since, "fingerprint": "a1"});
        let body = json!({"version": "4", "alerts": [alert]}).to_string();
        let read = alert::parse(body.as_bytes(), now).unwrap();
        (read.firing.len(), read.resolved.len(), read.unusable, read.out_of_range)
    };
    let (taken, ignored) = ((1, 0, 0, 0), (0, 0, 0, 1));
    let cases = [
        ("2026-05-01T00:00:00Z", taken),
        ("2026-05-01T00:05:00Z", taken),
        ("2026-05-01T00:05:01Z", ignored),
        ("9999-12-30T21:00:00Z", ignored),
        ("2025-04-30T00:00:00Z", taken),
        ("2025-04-29T23:59:59Z", ignored),
        ("0001-01-01T00:00:00Z", ignored),
        ("9999-12-31T23:59:59Z", (0, 0, 1, 0)),
        ("soon", (0, 0, 1, 0)),
    ];
    for (since, wanted) in cases {
        assert_eq!(read("firing", since), wanted, "{since}");
    }
    // What was taken once can be taken back whatever the clocks say since.
    assert_eq!(read("resolved", "9999-12-30T21:00:00Z"), (0, 1, 0, 0));
}
