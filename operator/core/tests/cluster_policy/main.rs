//! A policy of the cluster, step by step: which pods it serves beside others, how a round is spread over
//! namespaces.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod tenants;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, NodeAgents, PodSecurity};
use fleetprof_core::link::Observed;
use fleetprof_core::pod::PodFacts;
use fleetprof_core::policy::{Step, step};
use fleetprof_core::schedule::Plan;
use fleetprof_core::session::PolicyFacts;
use fleetprof_core::view::serving;
use fleetprof_core::view::{Labels, Policies, PolicyView};
use fleetprof_crds::session::{PolicyKind, PolicyRef};
use fleetprof_crds::{ClusterProfilingPolicy, ProfileSession, ProfilingPolicy, Reason};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

const CREATED: i64 = 1_799_990_000;
const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn object<K: serde::de::DeserializeOwned>(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    created: i64,
    spec: Value,
) -> K {
    let mut full = json!({"selector": {}, "namespaceSelector": {}});
    full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let uid = format!("uid-{}-{name}", namespace.unwrap_or("cluster"));
    let meta = json!({"name": name, "namespace": namespace, "uid": uid, "generation": 1, "creationTimestamp": at(created).to_string()});
    serde_json::from_value(
        json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": full}),
    )
    .unwrap()
}

fn cluster(name: &str, created: i64, spec: Value) -> ClusterProfilingPolicy {
    object("ClusterProfilingPolicy", None, name, created, spec)
}

fn namespaced(namespace: &str, name: &str, created: i64, spec: Value) -> ProfilingPolicy {
    object("ProfilingPolicy", Some(namespace), name, created, spec)
}

fn pod(namespace: &str, name: &str, app: &str) -> PodFacts {
    PodFacts { uid: format!("uid-{namespace}-{name}"), ..common::pod(namespace, name, app, CREATED + 60) }
}

/// Three namespaces covered by cluster policies; all agents report.
struct World {
    now: Timestamp,
    pods: Vec<PodFacts>,
    sessions: Vec<ProfileSession>,
    cluster: Vec<ClusterProfilingPolicy>,
    namespaced: Vec<ProfilingPolicy>,
    namespaces: BTreeMap<String, Labels>,
}

impl World {
    fn new(pods: Vec<PodFacts>) -> Self {
        let team = |team: &str| Labels::from([("team".to_owned(), team.to_owned())]);
        let namespaces =
            [("shop".to_owned(), team("a")), ("bank".to_owned(), team("a")), ("other".to_owned(), team("b"))];
        Self {
            now: at(NOW),
            pods,
            sessions: vec![],
            cluster: vec![],
            namespaced: vec![],
            namespaces: namespaces.into(),
        }
    }

    fn step(&self, policy: &ClusterProfilingPolicy) -> Step {
        let agent = |p: &PodFacts| {
            (p.uid.clone(), AgentFacts { version: "0.1.0".into(), protocol: 1, ..AgentFacts::default() })
        };
        let cluster = self.cluster.iter().chain([policy]).map(PolicyView::from);
        step(
            &policy.into(),
            &Observed {
                now: self.now,
                pods: &self.pods.iter().cloned().map(Arc::new).collect::<Vec<_>>(),
                agents: &self.pods.iter().map(agent).collect::<HashMap<_, _>>(),
                node_agents: &NodeAgents::default(),
                settled: true,
                sessions: &self.sessions.iter().cloned().map(Arc::new).collect::<Vec<_>>(),
                policies: cluster.chain(self.namespaced.iter().map(PolicyView::from)).collect(),
                namespaces: &self.namespaces,
                version: "0.1.0",
                images: common::images(),
                destinations: &["default".to_owned()],
                pod_security: PodSecurity::default(),
                attach_disabled: false,
                refusal: &|_: &PodFacts, _: &Policies<'_>| None,
            },
        )
    }

    /// The step one second after the policy's next tick, and the number of that round.
    fn at_tick(&mut self, policy: &ClusterProfilingPolicy) -> (u64, Step) {
        let plan = Plan::read(policy.metadata.uid.as_deref().unwrap(), &policy.spec.policy.schedule).unwrap();
        let tick = plan.ticks(self.now).1.unwrap();
        self.now = tick.at + SignedDuration::from_secs(1);
        (tick.round, self.step(policy))
    }
}

fn apps(step: &Step) -> Vec<(&str, &str, i32)> {
    step.status.linked_apps.iter().map(|a| (a.namespace.as_str(), a.name.as_str(), a.linked)).collect()
}

fn condition<'a>(step: &'a Step, type_: &str) -> (&'a str, &'a str, &'a str) {
    let c = step.status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    (&c.status, &c.reason, &c.message)
}

fn targets(step: &Step) -> Vec<(String, Vec<String>)> {
    let of = |s: &ProfileSession| {
        (s.metadata.namespace.clone().unwrap(), s.spec.target.clone().unwrap().pods.unwrap())
    };
    step.create.iter().map(of).collect()
}

#[test]
fn apps_are_linked_in_every_selected_namespace_and_told_apart() {
    let pods = vec![
        pod("shop", "a", "web"),
        pod("bank", "a", "web"),
        pod("other", "a", "web"),
        pod("kube-system", "dns", "dns"),
    ];
    let world = World::new(pods);
    let all = world.step(&cluster("all", CREATED, json!({})));
    assert_eq!(
        apps(&all),
        [("bank", "web", 1), ("other", "web", 1), ("shop", "web", 1)],
        "kube-system is not reached"
    );
    assert_eq!((all.status.linked_app_count, all.status.linked_pod_count), (3, 3));
    let team =
        world.step(&cluster("team", CREATED, json!({"namespaceSelector": {"matchLabels": {"team": "a"}}})));
    assert_eq!(apps(&team), [("bank", "web", 1), ("shop", "web", 1)]);
    let nobody =
        world.step(&cluster("nobody", CREATED, json!({"namespaceSelector": {"matchLabels": {"team": "z"}}})));
    assert_eq!(condition(&nobody, "Ready").1, "NoMatchingPods");
}

#[test]
fn a_namespace_opts_out_and_a_pod_in_again() {
    let mut back = pod("shop", "b", "back");
    Arc::make_mut(&mut back.labels).insert("fleetprof.dev/profiling".into(), "enabled".into());
    let mut world = World::new(vec![pod("shop", "a", "web"), back]);
    world.namespaces.get_mut("shop").unwrap().insert("fleetprof.dev/profiling".into(), "disabled".into());
    for mode in ["Sidecar", "Ephemeral"] {
        let step = world.step(&cluster("all", CREATED, json!({"agent": {"mode": mode}})));
        assert_eq!(apps(&step), [("shop", "back", 1), ("shop", "web", 0)]);
        assert_eq!(step.status.linked_apps[1].reason, Reason::OptedOut);
    }
}

#[test]
fn the_list_is_cut_openly_and_the_counts_are_exact() {
    let mut world = World::new(
        (0..150)
            .map(|n| pod(["shop", "bank", "other"][n % 3], &format!("p{n}"), &format!("app{n}")))
            .collect(),
    );
    world.pods.push(pod("shop", "again", "app0"));
    let status = world.step(&cluster("all", CREATED, json!({}))).status;
    assert_eq!((status.linked_app_count, status.linked_pod_count), (150, 151));
    assert!(status.linked_apps_truncated && status.linked_apps.len() <= 100);
    assert!(serde_json::to_vec(&status).unwrap().len() < 20 * 1024, "small, whatever the size of the fleet");
}

#[test]
fn a_policy_of_the_namespace_wins_and_that_is_no_conflict() {
    let mut world =
        World::new(vec![pod("shop", "a", "web"), pod("shop", "b", "api"), pod("bank", "a", "web")]);
    // Younger than the cluster's, and of a mode of its own.
    let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "agent": {"mode": "Ephemeral"}});
    world.namespaced = vec![namespaced("shop", "own", CREATED + 50, spec)];
    let step = world.step(&cluster("all", CREATED, json!({})));
    assert_eq!(apps(&step), [("bank", "web", 1), ("shop", "api", 1)]);
    let (status, reason, message) = condition(&step, "Configured");
    assert_eq!((status, reason), ("True", "Valid"));
    assert!(message.contains("policies in their namespaces apply to 1 of the selected pods"), "{message}");
    assert_eq!(step.news, [], "nothing that a person would have to look at");
}

#[test]
fn a_policy_whose_pods_are_all_served_by_their_namespaces_says_so() {
    let mut world = World::new(vec![pod("shop", "a", "web")]);
    world.namespaced = vec![namespaced("shop", "own", CREATED + 50, json!({}))];
    let step = world.step(&cluster("all", CREATED, json!({})));
    let (status, reason, message) = condition(&step, "Ready");
    assert_eq!((status, reason), ("False", "Overridden"));
    assert!(message.contains("apply to all 1 selected pods"), "{message}");
}

#[test]
fn of_two_policies_of_the_cluster_the_older_serves_and_the_other_says_so() {
    let mut world = World::new(vec![pod("shop", "a", "web"), pod("other", "a", "web")]);
    world.cluster =
        vec![cluster("older", CREATED - 1, json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}))];
    let step = world.step(&cluster("all", CREATED, json!({})));
    assert_eq!(apps(&step), [("other", "web", 1), ("shop", "web", 0)]);
    assert_eq!((condition(&step, "Configured").0, condition(&step, "Configured").1), ("False", "Conflict"));
    let mut same_age = World::new(vec![pod("shop", "a", "web")]);
    same_age.cluster = vec![cluster("b", CREATED, json!({}))];
    assert_eq!(
        apps(&same_age.step(&cluster("a", CREATED, json!({})))),
        [("shop", "web", 1)],
        "of the same age the first by name"
    );
    assert_eq!(apps(&same_age.step(&cluster("c", CREATED, json!({})))), [("shop", "web", 0)]);
}

#[test]
fn a_selector_that_the_api_server_does_not_understand_is_named() {
    let world = World::new(vec![pod("shop", "a", "web")]);
    let step =
        world.step(&cluster("all", CREATED, json!({"namespaceSelector": {"matchLabels": {"no key": "x"}}})));
    assert_eq!(
        condition(&step, "Configured"),
        ("False", "InvalidSpec", "spec.namespaceSelector.matchLabels: \"no key\" is not a valid label.")
    );
    assert_eq!(step.status.linked_pod_count, 0);
}

#[test]
fn a_round_takes_its_share_of_all_pods() {
    let mut world = World::new(
        (0..20).map(|n| pod(["shop", "bank"][n % 2], &format!("p{n}"), &format!("app{n}"))).collect(),
    );
    let spec = json!({"schedule": {"every": "10m", "duration": "30s"}, "sampling": {"percent": 25}});
    let picked = targets(&world.at_tick(&cluster("all", CREATED, spec)).1);
    assert_eq!(picked.iter().map(|(_, pods)| pods.len()).sum::<usize>(), 5);
}

#[test]
fn a_round_is_one_session_of_exactly_the_picked_pods_in_each_namespace() {
    let schedule = json!({"every": "10m", "duration": "30s"});
    let pods = vec![
        pod("shop", "a", "web"),
        pod("shop", "b", "web"),
        pod("shop", "c", "api"),
        pod("bank", "a", "web"),
    ];
    let mut world = World::new(pods);
    let policy = cluster("all", CREATED, json!({"schedule": schedule, "frequencyHz": 49}));
    let (round, step) = world.at_tick(&policy);
    let picked = targets(&step);
    assert_eq!(
        picked.iter().map(|(n, pods)| (n.as_str(), pods.len())).collect::<Vec<_>>(),
        [("bank", 1), ("shop", 2)]
    );
    for session in &step.create {
        let meta = &session.metadata;
        assert_eq!(meta.name, Some(format!("all-{round}-cluster")));
        assert_eq!(meta.labels.as_ref().unwrap()["fleetprof.dev/cluster-policy"], "all");
        let owner = &meta.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("ClusterProfilingPolicy", "uid-cluster-all"));
        let named = PolicyRef { kind: PolicyKind::ClusterProfilingPolicy, name: "all".into() };
        assert_eq!((session.spec.policy_ref.as_ref(), session.spec.frequency_hz), (Some(&named), 49));
    }
    // The leader went after the first session, before it could note the round: the next one makes the others,
    // under the same names.
    world.sessions = vec![step.create[0].clone()];
    assert_eq!(world.step(&policy).create, step.create);
    let mut again = policy.clone();
    again.status = Some(step.status);
    assert_eq!(world.step(&again).create, [], "once");
}

#[test]
fn the_bounds_of_a_round_hold_over_all_namespaces_and_each_has_its_turn() {
    let namespaces = ["shop", "bank", "other"];
    let mut world = World::new((0..12).map(|n| pod(namespaces[n % 3], &format!("p{n}"), "web")).collect());
    let spec = json!({"schedule": {"every": "10m", "duration": "30s"}, "sampling": {"replicasPerWorkload": 2, "maxTargets": 4}});
    let policy = cluster("all", CREATED, spec);
    let mut seen = HashSet::new();
    for _ in 0..6 {
        let picked = targets(&world.at_tick(&policy).1);
        assert_eq!(picked.iter().map(|(_, pods)| pods.len()).sum::<usize>(), 4);
        assert_eq!(picked.len(), 2, "two of the three workloads of the same name");
        seen.extend(
            picked
                .into_iter()
                .flat_map(|(namespace, pods)| pods.into_iter().map(move |p| (namespace.clone(), p))),
        );
    }
    assert_eq!(seen.len(), 12);
}

#[test]
fn a_round_picks_as_many_pods_of_each_workload_as_its_samples_take() {
    let of = |namespace: &'static str, app: &'static str, pods: usize| {
        (0..pods).map(move |n| pod(namespace, &format!("{app}-{n}"), app))
    };
    let pods = of("shop", "web", 20).chain(of("bank", "web", 20)).collect();
    let mut world = World::new(pods);
    // Of the same name in both namespaces: busy in one, quiet in the other.
    let ended = |namespace: &str, pods: usize, samples: i64| -> ProfileSession {
        let target = json!({"pod": "web-0", "workload": "Deployment/web", "phase": "Succeeded",
            "startTime": at(NOW - 3600).to_string(), "endTime": at(NOW - 3480).to_string(),
            "profiles": [{"type": "cpu", "uri": "k", "bytes": 1, "samples": samples}]});
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"name": "all-1-cluster", "namespace": namespace, "uid": namespace},
            "spec": {"policyRef": {"kind": "ClusterProfilingPolicy", "name": "all"}, "trigger": "Schedule"},
            "status": {"phase": "Succeeded", "startTime": at(NOW - 3600).to_string(), "endTime": at(NOW - 3480).to_string(),
                "targets": vec![target; pods]},
        }))
        .unwrap()
    };
    world.sessions = vec![ended("shop", 1, 11_880), ended("bank", 5, 300)];
    let sampling = json!({"samplesPerHour": 2000, "replicasPerWorkload": 10, "maxTargets": 20});
    let policy = cluster("all", CREATED, json!({"sampling": sampling}));
    let rows = world.step(&policy).status.linked_apps;
    let given: Vec<_> = rows.iter().map(|app| (&*app.namespace, app.effective_samples_per_hour)).collect();
    assert_eq!(given, [("bank", Some(1500)), ("shop", Some(11_880))]);
    let (_, step) = world.at_tick(&policy);
    let picked = targets(&step);
    let picked: Vec<_> = picked.iter().map(|(namespace, pods)| (namespace.as_str(), pods.len())).collect();
    assert_eq!(picked, [("bank", 9), ("shop", 1)]);
    let without = cluster("all", CREATED, json!({"sampling": {"replicasPerWorkload": 3}}));
    let rows = world.step(&without).status.linked_apps;
    assert!(rows.iter().all(|app| app.effective_samples_per_hour.is_none()));
}

#[test]
fn history_is_kept_in_each_namespace_and_rows_name_theirs() {
    let ended = |namespace: &str, name: &str, ago: i64| -> ProfileSession {
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": {"name": name, "namespace": namespace, "uid": name},
            "spec": {"policyRef": {"kind": "ClusterProfilingPolicy", "name": "all"}, "trigger": "Schedule"},
            "status": {"phase": "Succeeded", "endTime": at(NOW - ago).to_string()},
        }))
        .unwrap()
    };
    let mut world = World::new(vec![]);
    world.sessions = vec![ended("shop", "s", 300), ended("shop", "t", 100), ended("bank", "s", 300)];
    let mut policy = cluster("all", CREATED, json!({"session": {"history": {"succeeded": 1}}}));
    let step = world.step(&policy);
    assert_eq!(step.delete, [("shop".to_owned(), "s".to_owned())]);
    policy.status = Some(step.status);
    world.sessions.retain(|s| {
        s.metadata.name.as_deref() != Some("s") || s.metadata.namespace.as_deref() == Some("bank")
    });
    let recent = world.step(&policy).status.recent_sessions;
    let rows: HashSet<_> = recent.iter().map(|s| (s.namespace.as_str(), s.name.as_str())).collect();
    assert_eq!(
        rows,
        [("shop", "s"), ("shop", "t"), ("bank", "s")].into(),
        "one of the same name elsewhere is another"
    );
}

#[test]
fn a_session_finds_its_policy_as_the_links_do() {
    let pods = [Arc::new(pod("shop", "a", "web")), Arc::new(pod("shop", "b", "api"))];
    let all = cluster("all", CREATED, json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}));
    let own = namespaced("shop", "all", CREATED, json!({"selector": {"matchLabels": {"app": "web"}}}));
    let policies: Policies = [PolicyView::from(&all), PolicyView::from(&own)].into_iter().collect();
    let labels = |team: &str| Labels::from([("team".to_owned(), team.to_owned())]);
    let find = |kind, name: &str, labels: Option<&Labels>| {
        PolicyFacts::find(&PolicyRef { kind, name: name.into() }, "shop", labels, &policies, &pods)
    };
    let PolicyFacts::Found { uid, yielded, .. } =
        find(PolicyKind::ClusterProfilingPolicy, "all", Some(&labels("a")))
    else {
        panic!()
    };
    assert_eq!(
        (uid.as_str(), yielded),
        ("uid-cluster-all", [("uid-shop-a".to_owned(), Reason::Overridden)].into())
    );
    let PolicyFacts::Found { uid, yielded, .. } = find(PolicyKind::ProfilingPolicy, "all", None) else {
        panic!()
    };
    assert_eq!((uid.as_str(), yielded), ("uid-shop-all", HashMap::new()));
    assert!(matches!(
        find(PolicyKind::ClusterProfilingPolicy, "all", Some(&labels("b"))),
        PolicyFacts::Elsewhere
    ));
    assert!(
        matches!(find(PolicyKind::ClusterProfilingPolicy, "all", None), PolicyFacts::Elsewhere),
        "not reached at all"
    );
    assert!(matches!(
        find(PolicyKind::ClusterProfilingPolicy, "gone", Some(&labels("a"))),
        PolicyFacts::Missing
    ));
}

/// A policy of either kind with a name and an age of which there are few, so that ages tie.
fn any_policy() -> impl Strategy<Value = (Option<&'static str>, String, i64, Option<&'static str>)> {
    let namespace = prop::option::of(prop::sample::select(vec!["shop", "bank"]));
    (namespace, "[a-d]", 0i64..3, prop::option::of(prop::sample::select(vec!["web", "api"])))
}

proptest! {
    /// Precedence is total (exactly one policy serves a pod that any selects) and stable (the order of
    /// policies does not matter), and what a policy yields agrees with who serves.
    #[test]
    fn one_policy_serves_a_pod_whatever_the_order(mut wanted in prop::collection::vec(any_policy(), 0..12), turn in 0usize..12, app in "web|api") {
        let mut names = HashSet::new();
        wanted.retain(|(namespace, name, ..)| names.insert((*namespace, name.clone())));
        let spec = |app: &Option<&str>| app.map_or(json!({}), |a| json!({"selector": {"matchLabels": {"app": a}}}));
        let own: Vec<_> = wanted.iter().filter_map(|(n, name, age, app)| Some(namespaced((*n)?, name, CREATED + age, spec(app)))).collect();
        let of_cluster: Vec<_> =
            wanted.iter().filter(|w| w.0.is_none()).map(|(_, name, age, app)| cluster(name, CREATED + age, spec(app))).collect();
        let mut views: Vec<PolicyView> = own.iter().map(PolicyView::from).chain(of_cluster.iter().map(PolicyView::from)).collect();
        let pod = pod("shop", "a", &app);
        let labels = Labels::new();
        let label = |key: &str| pod.labels.get(key).map(String::as_str);
        let server = serving(views.iter().copied(), "shop", Some(&labels), label).map(|p| p.uid.to_owned());
        let by_turn = turn % views.len().max(1);
        views.rotate_left(by_turn);
        let index: Policies = views.iter().copied().collect();
        prop_assert_eq!(&serving(index.near("shop"), "shop", Some(&labels), label).map(|p| p.uid.to_owned()), &server);
        let selects = |p: &&PolicyView| p.covers("shop", Some(&labels)) && fleetprof_core::selector::selects(&p.spec.selector, &pod.labels);
        let serves: Vec<&str> = views.iter().filter(selects).filter(|p| p.yields(&pod, Some(&labels), &index).is_none()).map(|p| p.uid).collect();
        prop_assert_eq!(serves, server.as_deref().into_iter().collect::<Vec<_>>());
        let has_own = views.iter().any(|p| p.namespace == Some("shop") && selects(&p));
        prop_assert!(!has_own || server.is_some_and(|s| s.starts_with("uid-shop")));
    }
}
