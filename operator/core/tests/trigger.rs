//! Triggers, sample by sample: what fires, what becomes a session, what is held back, and what a new leader would do.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::pod::{ContainerFacts, PodFacts, User, Workload};
use fleetprof_core::policy::link::PodLink;
use fleetprof_core::policy::rounds;
use fleetprof_core::trigger::admit::GLOBAL_COOLDOWN;
use fleetprof_core::trigger::alert::Alert;
use fleetprof_core::trigger::level::{Level, Measure};
use fleetprof_core::trigger::place::places;
use fleetprof_core::trigger::{Admitted, Firing, Heard, Levels, admit, alert, promql, rollout, verdict};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::{Duration, ProfileSession, ProfilingPolicy, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn policy(triggers: Value) -> ProfilingPolicy {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
        "metadata": {"name": "p", "namespace": "shop", "uid": "uid-p"},
        "spec": {"selector": {}, "triggers": triggers},
    }))
    .unwrap()
}

fn link(pod: &str, app: &str) -> PodLink {
    let facts: PodFacts = serde_pod(pod, app);
    PodLink { pod: Arc::new(facts), container: "app".into(), linked: true, reason: Reason::Linked }
}

fn serde_pod(pod: &str, app: &str) -> PodFacts {
    let made: k8s_openapi::api::core::v1::Pod = serde_json::from_value(json!({
        "metadata": {"name": pod, "namespace": "shop", "uid": format!("uid-{pod}")}, "spec": {"containers": []},
    }))
    .unwrap();
    PodFacts {
        workload: Workload { kind: "Deployment".into(), name: app.into() },
        containers: vec![ContainerFacts {
            name: "app".into(),
            id: format!("{pod}-c"),
            running: true,
            user: User::default(),
            cpu_limit: None,
        }],
        ..PodFacts::of(&made).unwrap()
    }
}

/// What agents tell: CPU and memory of each pod.
fn heard(second: i64, levels: &[(&str, i32, i32)]) -> HashMap<String, Heard> {
    let of = |percent| Level { percent, of_node: false };
    let one = |(pod, cpu, memory): &(&str, i32, i32)| {
        let id = format!("{pod}-c");
        let levels = [((id.clone(), Measure::Cpu), of(*cpu)), ((id, Measure::Memory), of(*memory))].into();
        (format!("uid-{pod}"), Heard { at: at(second), levels })
    };
    levels.iter().map(one).collect()
}

/// The cluster: sessions that were created, and a leader that can be replaced.
struct World {
    policy: ProfilingPolicy,
    links: Vec<PodLink>,
    levels: Levels,
    sessions: Vec<Arc<ProfileSession>>,
}

impl World {
    fn new(triggers: Value, links: Vec<PodLink>) -> Self {
        Self { policy: policy(triggers), links, levels: Levels::default(), sessions: vec![] }
    }
    fn tell(&mut self, second: i64, levels: &[(&str, i32, i32)]) -> Admitted {
        let firings = self.levels.firings(&(&self.policy).into(), &self.links, &heard(second, levels));
        self.admit(second, firings)
    }
    fn admit(&mut self, second: i64, firings: Vec<Firing>) -> Admitted {
        let admitted = admit(&(&self.policy).into(), firings, &self.sessions, at(second));
        for session in &admitted.create {
            let mut created = session.clone();
            created.metadata.creation_timestamp = Some(Time(at(second)));
            self.sessions.push(Arc::new(created));
        }
        admitted
    }
    fn restart(&mut self) {
        self.levels = Levels::default();
    }
}

fn firing(source: &str, app: &str, key: &str, cooldown: u32) -> Firing {
    Firing {
        trigger: Trigger::Cpu,
        source: source.into(),
        namespace: "shop".into(),
        workload: Workload { kind: "Deployment".into(), name: app.into() },
        pods: vec![],
        cause: "it was so".into(),
        key: key.into(),
        duration: Duration::from_secs(30),
        cooldown: Duration::from_secs(cooldown),
        labels: BTreeMap::new(),
    }
}

#[test]
fn a_container_over_the_line_for_the_window_starts_one_session_that_says_why() {
    let mut world = World::new(json!({"cpu": {"window": "30s", "duration": "20s"}}), vec![link("shop-x", "shop")]);
    for (second, cpu) in [(0, 95), (10, 93), (20, 91)] {
        assert!(world.tell(second, &[("shop-x", cpu, 99)]).create.is_empty(), "too early at {second}");
    }
    let created = world.tell(30, &[("shop-x", 93, 99)]).create.remove(0);
    assert_eq!(created.spec.cause, "CPU of container app in pod shop-x was 93 % of its limit for 30 s (threshold 80 %)");
    assert_eq!((created.spec.trigger, created.spec.duration.as_secs(), created.spec.ttl.as_secs()), (Trigger::Cpu, 20, 604_800));
    assert_eq!(created.spec.target.clone().unwrap().pods.unwrap(), ["shop-x"]);
    assert!(created.metadata.name.unwrap().starts_with("p-cpu-"));
    let again = world.tell(40, &[("shop-x", 93, 99)]);
    assert_eq!((again.create.len(), again.held.len()), (0, 0), "the same run is no second firing");
}

#[test]
fn the_line_is_crossed_again_only_after_the_cooldown() {
    let mut world = World::new(json!({"memory": {"threshold": 50, "window": "10s", "cooldown": "10m"}}), vec![link("a", "shop")]);
    let mut starts = vec![];
    for second in (0..1500).step_by(10) {
        // It comes and goes: 60 s over the line, 60 s far below.
        let memory = if second / 60 % 2 == 0 { 70 } else { 10 };
        starts.extend(world.tell(second, &[("a", 0, memory)]).create.iter().map(|_| second));
    }
    assert_eq!(starts, [10, 610, 1210]);
}

#[test]
fn many_replicas_that_cross_together_start_one_session_of_the_hottest() {
    let mut world = World::new(json!({"cpu": {"window": "10s"}}), vec![link("a", "shop"), link("b", "shop"), link("c", "other")]);
    world.tell(0, &[("a", 85, 0), ("b", 99, 0), ("c", 90, 0)]);
    let created = world.tell(10, &[("a", 85, 0), ("b", 99, 0), ("c", 90, 0)]).create;
    let targets: Vec<_> = created.iter().map(|s| s.spec.target.clone().unwrap().pods.unwrap().join(",")).collect();
    assert_eq!(targets, ["c", "b"], "one for each workload");
    assert!(created[1].spec.cause.ends_with("; 2 pods crossed it together"), "{}", created[1].spec.cause);
}

#[test]
fn silence_a_short_drop_and_a_missing_limit() {
    let rule = json!({"cpu": {"window": "30s"}});
    let mut world = World::new(rule.clone(), vec![link("a", "shop")]);
    world.tell(0, &[("a", 90, 0)]);
    assert!(world.tell(200, &[("a", 90, 0)]).create.is_empty(), "nothing was heard in between");
    assert_eq!(world.tell(230, &[("a", 90, 0)]).create.len(), 1);
    let mut world = World::new(rule.clone(), vec![link("a", "shop")]);
    let dips: Vec<usize> = [(0, 90), (10, 76), (20, 90), (30, 90)].map(|(s, cpu)| world.tell(s, &[("a", cpu, 0)]).create.len()).into();
    assert_eq!(dips, [0, 0, 0, 1], "less than 5 points below the line");
    let mut world = World::new(rule.clone(), vec![link("a", "shop")]);
    for second in (0..600).step_by(10) {
        assert!(world.tell(second, &[("a", if second == 0 { 80 } else { 76 }, 0)]).create.is_empty(), "below the line as a whole");
    }
    let after: Vec<usize> = [600, 610, 620, 630].map(|s| world.tell(s, &[("a", 81, 0)]).create.len()).into();
    assert_eq!(after, [0, 0, 0, 1], "what was long ago does not count");
    let mut world = World::new(rule, vec![link("a", "shop")]);
    let free = |s| {
        heard(s, &[("a", 90, 0)])
            .into_iter()
            .map(|(k, mut h)| {
                (k, {
                    h.levels.values_mut().for_each(|l| l.of_node = true);
                    h
                })
            })
            .collect()
    };
    world.levels.firings(&(&world.policy).into(), &world.links, &free(0));
    let firings = world.levels.firings(&(&world.policy).into(), &world.links, &free(30));
    assert!(firings[0].cause.contains("was 90 % of the node's cores, since it has no CPU limit, for 30 s"), "{}", firings[0].cause);
}

#[test]
fn two_minutes_lie_between_sessions_of_different_triggers() {
    let mut world = World::new(json!({"cpu": {}}), vec![]);
    assert_eq!(world.admit(0, vec![firing("cpu", "a", "1", 7200), firing("memory", "a", "1", 7200)]).create.len(), 1, "together");
    let held = world.admit(119, vec![firing("memory", "a", "1", 7200)]).held.remove(0);
    assert_eq!((held.after.starts_with("p-cpu-"), held.until), (true, at(120)));
    assert_eq!(world.admit(120, vec![firing("memory", "a", "1", 7200), firing("cpu", "b", "1", 7200)]).create.len(), 2);
    assert_eq!(world.admit(7199, vec![firing("cpu", "a", "2", 7200)]).held[0].until, at(7200));
}

#[test]
fn a_session_is_kept_until_its_cooldown_is_over() {
    let mut world = World::new(json!({"cpu": {"window": "10s", "cooldown": "168h"}}), vec![link("a", "shop")]);
    world.policy.spec.session.history.succeeded = 0;
    world.policy.spec.session.ttl = Duration::from_secs(60);
    world.tell(0, &[("a", 90, 0)]);
    let mut session = world.tell(10, &[("a", 90, 0)]).create.remove(0);
    assert_eq!(session.spec.ttl.as_secs(), 168 * 3600, "its ttl is not shorter than its cooldown");
    session.metadata.creation_timestamp = Some(Time(at(10)));
    session.status = Some(serde_json::from_value(json!({"phase": "Succeeded", "endTime": at(60).to_string()})).unwrap());
    let session = [Arc::new(session)];
    let week = SignedDuration::from_hours(168);
    assert!(rounds::expired(&(&world.policy).into(), &session, at(9) + week).is_empty());
    assert_eq!(rounds::expired(&(&world.policy).into(), &session, at(11) + week).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is measured, and however often the leader changes: the cooldown holds.
    #[test]
    fn never_two_sessions_of_a_workload_within_its_cooldown(
        steps in prop::collection::vec((1i64..90, 60i32..100, 60i32..100, prop::bool::weighted(0.1)), 1..300)
    ) {
        let triggers = json!({"cpu": {"window": "20s", "cooldown": "9m"}, "memory": {"window": "20s", "cooldown": "7m"}});
        let mut world = World::new(triggers, vec![link("a", "shop"), link("b", "shop")]);
        let mut second = 0;
        for (pause, cpu, memory, restart) in steps {
            second += pause;
            if restart {
                world.restart();
            }
            world.tell(second, &[("a", cpu, memory), ("b", memory, cpu)]);
        }
        for (n, one) in world.sessions.iter().enumerate() {
            for other in &world.sessions[n + 1..] {
                let created = |s: &ProfileSession| s.metadata.creation_timestamp.clone().unwrap().0;
                let same = one.spec.trigger == other.spec.trigger;
                let least = match one.spec.trigger {
                    Trigger::Cpu if same => SignedDuration::from_secs(540),
                    _ if same => SignedDuration::from_secs(420),
                    _ => GLOBAL_COOLDOWN,
                };
                prop_assert!(created(other).duration_since(created(one)) >= least);
                prop_assert!(one.metadata.name != other.metadata.name);
            }
        }
    }

    /// A level that dances on the line is over it as a whole or not at all.
    #[test]
    fn no_flapping_around_the_threshold(levels in prop::collection::vec(76i32..90, 60..300)) {
        let mut world = World::new(json!({"cpu": {"window": "20s", "cooldown": "1h"}}), vec![link("a", "shop")]);
        for (n, cpu) in levels.iter().enumerate() {
            world.tell(i64::try_from(n).unwrap() * 10, &[("a", *cpu, 0)]);
        }
        prop_assert!(world.sessions.len() <= 1 + levels.len() * 10 / 3600);
    }

    /// A new leader has the sessions alone, and decides the same about everything that fires.
    #[test]
    fn a_new_leader_decides_the_same(
        fired in prop::collection::vec((0i64..400, 0usize..3, 0usize..3), 1..60)
    ) {
        let (mut old, mut new) = (World::new(json!({"cpu": {}}), vec![]), World::new(json!({"cpu": {}}), vec![]));
        let mut second = 0;
        for (pause, source, app) in fired {
            second += pause;
            let what = firing(["cpu", "memory", "rollout"][source], ["a", "b", "c"][app], &second.to_string(), 600);
            new.restart();
            new.sessions = old.sessions.clone();
            prop_assert_eq!(new.admit(second, vec![what.clone()]), old.admit(second, vec![what]));
        }
    }
}

fn alert_of(name: &str, labels: &[(&str, &str)], print: &str) -> Alert {
    let labels = [("alertname", name)].iter().chain(labels).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Alert { labels, fingerprint: print.into(), starts_at: at(0) }
}

#[test]
fn an_alert_finds_its_workload_by_namespace_and_pod_workload_or_app() {
    let mut labelled = link("web-1", "web");
    Arc::get_mut(&mut labelled.pod).unwrap().labels = Arc::new([("app.kubernetes.io/name".to_owned(), "front".to_owned())].into());
    let mut unlinked = link("old-1", "old");
    unlinked.linked = false;
    let links = [link("shop-x", "shop"), link("shop-y", "shop"), labelled, unlinked];
    let found = |labels: &[(&str, &str)]| {
        let places = places(&alert_of("A", labels, "0").labels, None, &links);
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
    let triggers =
        json!({"alerts": [{"matchers": ["alertname=\"Slow\"", "severity=~\"page|warn\""], "cooldown": "2m", "duration": "15s"}]});
    let mut world = World::new(triggers, vec![link("shop-x", "shop")]);
    let labels = [("namespace", "shop"), ("pod", "shop-x"), ("severity", "page"), ("evil", "\u{1b}[31m\u{202e}x")];
    let tell = |world: &mut World, second, alert: Alert| {
        let firings = alert::firings(&(&world.policy).into(), &world.links, &[alert]);
        world.admit(second, firings)
    };
    assert!(tell(&mut world, 0, alert_of("Fast", &labels, "a1")).create.is_empty(), "another alert");
    let created = tell(&mut world, 0, alert_of("Slow", &labels, "a1")).create.remove(0);
    assert_eq!((created.spec.trigger, created.spec.duration.as_secs()), (Trigger::Alert, 15));
    assert_eq!(
        created.spec.cause,
        "an alert fires since 2027-01-15T08:00:00Z: alertname=Slow, evil=[31mx, namespace=shop, pod=shop-x, severity=page"
    );
    for second in [1, 100, 121, 100_000] {
        assert_eq!(tell(&mut world, second, alert_of("Slow", &labels, "a1")), Admitted::default(), "repeated after {second} s");
    }
    let mut later = alert_of("Slow", &labels, "a1");
    later.starts_at = at(110);
    assert_eq!(tell(&mut world, 110, later.clone()).held.len(), 1, "a new firing within the cooldown");
    assert_eq!(tell(&mut world, 121, later).create.len(), 1, "and after it");
}

#[test]
fn matchers_that_cannot_be_read_are_named_with_their_field() {
    let world = World::new(json!({"alerts": [{"matchers": ["a=b"]}, {"matchers": ["a=b", "c=~\"(\""]}]}), vec![]);
    let problems = alert::problems(&(&world.policy).into());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("spec.triggers.alerts[1].matchers[1]: \"(\" is no pattern: "), "{problems:?}");
    let mut status = fleetprof_crds::ProfilingPolicyStatus::default();
    verdict::fill(&(&world.policy).into(), &mut status, verdict::Setup { receiver: true, prometheus: true }, &HashMap::new(), at(0));
    assert_eq!((status.conditions[0].type_.as_str(), status.conditions[0].reason.as_str()), ("TriggersReady", "InvalidSpec"));
}

/// A pod of a revision; times are seconds after now, the policy is of -1000.
fn revised(pod: &str, revision: &str, created: i64, ready: Option<i64>) -> PodLink {
    let mut link = link(pod, "shop");
    let facts = Arc::get_mut(&mut link.pod).unwrap();
    facts.labels = Arc::new([("pod-template-hash".to_owned(), revision.to_owned())].into());
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
        object: format!("shop-{label}"),
        label: label.into(),
    };
    let made: HashMap<_, _> = [("old", -5000), ("new", 0), ("back", -4000)].map(|(l, s)| (revision(l), at(s))).into();
    let look = |world: &mut World, second: i64, links: Vec<PodLink>| {
        let view = (&world.policy).into();
        assert!(rollout::questions(&view, &links, at(second)).iter().all(|q| made.contains_key(q)));
        let firings = rollout::firings(&view, &links, &made, at(second));
        world.admit(second, firings).create
    };
    let old = || revised("shop-old-1", "old", -4900, Some(-4890));
    assert!(look(&mut world, 0, vec![old()]).is_empty(), "it was there before the policy");
    assert!(look(&mut world, 0, vec![revised("shop-old-2", "old", -100, Some(-90))]).is_empty(), "a pod of it was replaced");
    assert!(look(&mut world, 0, vec![revised("shop-back-1", "back", -100, Some(-90))]).is_empty(), "a rollback");
    assert!(look(&mut world, 69, vec![old(), revised("shop-new-1", "new", 1, None)]).is_empty(), "it is not ready");
    assert!(look(&mut world, 69, vec![old(), revised("shop-new-1", "new", 1, Some(10))]).is_empty(), "the delay is not over");
    let created = look(&mut world, 70, vec![old(), revised("shop-new-1", "new", 1, Some(10))]).remove(0);
    assert_eq!(created.metadata.labels.unwrap()["fleetprof.dev/revision"], "new");
    assert_eq!(
        (created.spec.labels["revision"].as_str(), created.spec.target.unwrap().pods.unwrap()),
        ("new", vec!["shop-new-1".to_owned()])
    );
    assert_eq!(created.spec.cause, "Deployment/shop has the new revision new, whose first pod shop-new-1 was ready for 60 s (delay 1m)");
    for second in [71, 500, 3000, 50_000] {
        assert!(look(&mut world, second, vec![revised("shop-new-2", "new", second - 70, Some(second - 65))]).is_empty(), "once");
    }
}

#[test]
fn revisions_of_stateful_sets_and_daemon_sets_have_objects_of_their_own_names() {
    let of = |kind: &str, label: &str| {
        let mut link = revised("shop-0", "x", 1, Some(2));
        let facts = Arc::get_mut(&mut link.pod).unwrap();
        facts.workload.kind = kind.into();
        facts.labels = Arc::new([("controller-revision-hash".to_owned(), label.to_owned())].into());
        let policy = policy(json!({"rollout": {"delay": "0s"}}));
        rollout::questions(&(&policy).into(), &[link], at(3)).into_iter().map(|q| q.object).collect::<Vec<_>>()
    };
    assert_eq!(of("StatefulSet", "shop-6c5f9b"), ["shop-6c5f9b"]);
    assert_eq!(of("DaemonSet", "6c5f9b"), ["shop-6c5f9b"]);
    assert!(of("Job", "6c5f9b").is_empty());
}

#[test]
fn a_query_fires_once_its_series_is_there_for_long_enough_and_its_problem_names_the_field() {
    let rule =
        json!({"promQL": [{"name": "ok", "query": "a"}, {"name": "slow", "query": "latency > 0.5", "for": "1m", "cooldown": "10m"}]});
    let mut world = World::new(rule, vec![link("shop-x", "shop")]);
    let series = |pod: &str| [("__name__", "latency"), ("pod", pod)].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let mut known: HashMap<String, promql::Known> = HashMap::new();
    let mut starts = vec![];
    for second in (0..900).step_by(15) {
        let answer = Ok(vec![series("shop-x"), series("elsewhere")]);
        known.insert("slow".into(), promql::follow(known.get("slow"), "latency > 0.5", answer, at(second)));
        let firings = promql::firings(&(&world.policy).into(), &world.links, &known, at(second));
        starts.extend(world.admit(second, firings).create.into_iter().map(|s| (second, s.spec.cause, s.spec.trigger)));
    }
    let cause = "query slow gives {pod=shop-x} for 60 s".to_owned();
    assert_eq!(starts, [(60, cause, Trigger::PromQl)], "the same series fires once, however long it is there");
    known.insert("slow".into(), promql::follow(None, "latency > 0.5", Err(promql::Problem::Invalid("1:3: parse error".into())), at(0)));
    assert!(promql::firings(&(&world.policy).into(), &world.links, &known, at(900)).is_empty());
    let mut status = fleetprof_crds::ProfilingPolicyStatus::default();
    let mut said = |setup, known: &HashMap<String, promql::Known>| {
        verdict::fill(&(&world.policy).into(), &mut status, setup, known, at(0));
        (status.conditions[0].reason.clone(), status.conditions[0].message.clone())
    };
    let there = verdict::Setup { receiver: false, prometheus: true };
    assert_eq!(said(there, &known), ("InvalidSpec".into(), "spec.triggers.promQL[1].query: 1:3: parse error.".into()));
    assert_eq!(said(verdict::Setup::default(), &HashMap::new()).0, "PrometheusUnset");
    known.insert("slow".into(), promql::follow(None, "latency > 0.5", Err(promql::Problem::Failed("down".into())), at(0)));
    assert_eq!(said(there, &known).0, "PrometheusFailed");
    assert_eq!(said(there, &HashMap::new()).0, "Valid");
}
