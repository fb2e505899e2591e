//! A policy, step by step: what is linked and why not, when rounds start, what is forgotten.
#![allow(missing_docs, clippy::unwrap_used)]

mod arbitrary;
#[path = "../common/mod.rs"]
mod common;
mod pace;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::agent::PodSecurity;
use fleetprof_core::agent::{AgentFacts, Skip};
use fleetprof_core::link::Observed;
use fleetprof_core::pod::{Owner, PodFacts, User};
use fleetprof_core::policy::{Step, step};
use fleetprof_core::schedule;
use fleetprof_core::view::{Policies, PolicyView};
use fleetprof_crds::policy::LinkState;
use fleetprof_crds::{ProfileSession, ProfilingPolicy, Reason};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const CREATED: i64 = 1_799_990_000;
const NOW: i64 = 1_800_000_000;

fn policy_of(name: &str, created: i64, spec: Value) -> ProfilingPolicy {
    let mut full = json!({"selector": {}});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    let created = Timestamp::from_second(created).unwrap().to_string();
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "spec": full,
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 3, "creationTimestamp": created},
    }))
    .unwrap()
}

fn pod(name: &str, app: &str) -> PodFacts {
    common::pod("shop", name, app, CREATED + 60)
}

fn bare(mut pod: PodFacts) -> PodFacts {
    pod.sidecar = None;
    pod
}

struct World {
    now: Timestamp,
    settled: bool,
    pods: Vec<PodFacts>,
    agents: HashMap<String, AgentFacts>,
    sessions: Vec<ProfileSession>,
    others: Vec<ProfilingPolicy>,
    refusal: Option<Reason>,
    pod_security: PodSecurity,
}

impl World {
    fn new(pods: Vec<PodFacts>) -> Self {
        let now = Timestamp::from_second(NOW).unwrap();
        Self {
            now,
            settled: true,
            pods,
            agents: HashMap::new(),
            sessions: vec![],
            others: vec![],
            refusal: None,
            pod_security: PodSecurity::default(),
        }
    }
    fn heard_of(mut self, pods: &[&str]) -> Self {
        for name in pods {
            let runtimes = [(format!("{name}-c"), "Python 3.11".to_owned())].into();
            self.agents.insert(
                format!("uid-{name}"),
                AgentFacts { version: "0.1.0".into(), protocol: 1, runtimes, attached_only: false },
            );
        }
        self
    }
    fn step(&self, policy: &ProfilingPolicy) -> Step {
        let refusal = |_: &PodFacts, _: &Policies<'_>| {
            self.refusal.map(|reason| Skip::new(reason, "the LimitRange small leaves no room"))
        };
        let policies = self.others.iter().chain([policy]).map(PolicyView::from).collect();
        step(
            &policy.into(),
            &Observed {
                now: self.now,
                pods: &self.pods.iter().cloned().map(Arc::new).collect::<Vec<_>>(),
                agents: &self.agents,
                settled: self.settled,
                sessions: &self.sessions.iter().cloned().map(Arc::new).collect::<Vec<_>>(),
                policies,
                namespaces: &[("shop".to_owned(), BTreeMap::new())].into(),
                version: "0.1.0",
                images: common::images(),
                attach_disabled: false,
                pod_security: self.pod_security,
                refusal: &refusal,
            },
        )
    }
}

fn session(name: &str, trigger: &str, phase: &str, ended: i64) -> ProfileSession {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"policyRef": {"name": "p"}, "trigger": trigger},
        "status": {"phase": phase, "startTime": Timestamp::from_second(ended - 60).unwrap().to_string(),
            "endTime": Timestamp::from_second(ended).unwrap().to_string()},
    }))
    .unwrap()
}

fn condition<'a>(step: &'a Step, type_: &str) -> (&'a str, &'a str) {
    let c = step.status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    assert_eq!(c.observed_generation, Some(3));
    (&c.status, &c.reason)
}

#[test]
fn each_pod_is_linked_or_says_why_not() {
    let older = |mut p: PodFacts| {
        p.created = Some(Timestamp::from_second(CREATED - 60).unwrap());
        p
    };
    let young = |mut p: PodFacts| {
        p.created = Some(Timestamp::from_second(NOW - 30).unwrap());
        p
    };
    let opted_out = |mut p: PodFacts| {
        Arc::make_mut(&mut p.labels).insert("fleetprof.dev/profiling".into(), "disabled".into());
        p
    };
    let waiting = |mut p: PodFacts| {
        p.running = false;
        p
    };
    let p = || pod("a", "web");
    let sidecar = json!({});
    let wait = json!({"agent": {"existingPods": "Wait"}});
    let ephemeral = json!({"agent": {"mode": "Ephemeral"}});
    let cases = [
        (p(), true, None, &sidecar, true, Reason::Linked),
        (p(), false, None, &sidecar, false, Reason::AgentLost),
        (young(p()), false, None, &sidecar, false, Reason::AgentStarting),
        (bare(older(p())), false, None, &sidecar, true, Reason::CreatedBeforePolicy),
        (bare(older(p())), false, None, &wait, false, Reason::CreatedBeforePolicy),
        (bare(p()), false, None, &sidecar, true, Reason::WebhookMissed),
        (bare(p()), false, Some(Reason::HostPid), &sidecar, true, Reason::HostPid),
        (bare(p()), false, Some(Reason::UnknownUser), &wait, false, Reason::UnknownUser),
        (bare(p()), false, Some(Reason::WindowsNode), &sidecar, false, Reason::WindowsNode),
        (bare(p()), false, None, &ephemeral, true, Reason::AttachedOnDemand),
        (bare(p()), false, Some(Reason::AttachedOnDemand), &ephemeral, true, Reason::AttachedOnDemand),
        (bare(p()), false, Some(Reason::HostPid), &ephemeral, true, Reason::AttachedOnDemand),
        (bare(p()), false, Some(Reason::StaticPod), &ephemeral, false, Reason::StaticPod),
        (bare(p()), false, Some(Reason::WindowsNode), &ephemeral, false, Reason::WindowsNode),
        (bare(p()), false, Some(Reason::NamespaceExcluded), &ephemeral, false, Reason::NamespaceExcluded),
        (bare(p()), false, Some(Reason::NamespaceExcluded), &sidecar, false, Reason::NamespaceExcluded),
        (opted_out(p()), true, None, &sidecar, false, Reason::OptedOut),
        (waiting(p()), false, None, &sidecar, false, Reason::PodNotRunning),
    ];
    for (pod, heard, refusal, spec, linked, reason) in cases {
        let mut world = World::new(vec![pod]).heard_of(if heard { &["a"] } else { &[] });
        world.refusal = refusal;
        let app = &world.step(&policy_of("p", CREATED, spec.clone())).status.linked_apps[0];
        assert_eq!((app.linked == 1, app.reason), (linked, reason), "{spec}");
    }
}

#[test]
fn a_rule_that_keeps_the_agent_out_is_named_in_the_row_and_the_event() {
    let mut world = World::new(vec![bare(common::pod("shop", "a", "web", CREATED + 60))]);
    world.refusal = Some(Reason::ResourcesConflict);
    let step = world.step(&policy_of("p", CREATED, json!({})));
    let app = &step.status.linked_apps[0];
    assert_eq!((app.linked, app.reason), (1, Reason::ResourcesConflict), "a session attaches one");
    assert_eq!(app.message, "the LimitRange small leaves no room");
    assert!(step.news[0].note.contains("; the LimitRange small leaves no room; "), "{}", step.news[0].note);
    world.refusal = Some(Reason::InjectionRefused);
    let app = &world.step(&policy_of("p", CREATED, json!({}))).status.linked_apps[0];
    assert_eq!((app.linked, app.reason, app.message.is_empty()), (1, Reason::InjectionRefused, false));
    world.refusal = Some(Reason::UnknownUser);
    let app = &world.step(&policy_of("p", CREATED, json!({}))).status.linked_apps[0];
    assert_eq!((app.reason, app.message.as_str()), (Reason::UnknownUser, ""), "the reason says it all");
}

#[test]
fn a_pod_to_which_no_agent_may_be_attached_is_not_linked() {
    let user = |uid, non_root| User { uid, gid: None, non_root };
    let (sidecar, ephemeral) = (json!({}), json!({"agent": {"mode": "Ephemeral"}}));
    let refused = Some(Reason::UnknownUser);
    // (user, the level of the cluster, why the webhook leaves the pod out, policy, linked, reason)
    let cases = [
        (user(None, true), PodSecurity::Privileged, refused, &sidecar, false, Reason::UnknownUser),
        (user(None, true), PodSecurity::Privileged, None, &ephemeral, false, Reason::UnknownUser),
        (user(None, false), PodSecurity::Restricted, refused, &sidecar, false, Reason::UnknownUser),
        (
            user(None, false),
            PodSecurity::Restricted,
            Some(Reason::HostPid),
            &sidecar,
            false,
            Reason::UnknownUser,
        ),
        (user(None, false), PodSecurity::Restricted, None, &ephemeral, false, Reason::UnknownUser),
        (user(Some(0), false), PodSecurity::Restricted, None, &ephemeral, false, Reason::UnknownUser),
        (user(None, false), PodSecurity::Baseline, None, &ephemeral, true, Reason::AttachedOnDemand),
        // The runtime reports the user, which the webhook could not know.
        (user(Some(7), true), PodSecurity::Restricted, refused, &sidecar, true, Reason::UnknownUser),
        (user(Some(7), true), PodSecurity::Restricted, None, &ephemeral, true, Reason::AttachedOnDemand),
    ];
    for (user, level, refusal, spec, linked, reason) in cases {
        let mut pod = bare(pod("a", "web"));
        pod.containers[0].user = user;
        let mut world = World::new(vec![pod]);
        (world.refusal, world.pod_security) = (refusal, level);
        let app = &world.step(&policy_of("p", CREATED, spec.clone())).status.linked_apps[0];
        assert_eq!((app.linked == 1, app.reason), (linked, reason), "{user:?} {level:?} {spec}");
    }
}

#[test]
fn a_new_leader_does_not_call_agents_lost_before_they_could_report() {
    let mut world = World::new(vec![pod("a", "web")]);
    world.settled = false;
    let step = world.step(&policy_of("p", CREATED, json!({})));
    assert_eq!(
        (step.status.linked_pod_count, step.status.linked_apps[0].reason),
        (1, Reason::StatusCheckBlocked)
    );
    assert_eq!(condition(&step, "AgentsReachable"), ("Unknown", "StatusCheckBlocked"));
}

#[test]
fn apps_are_counted_by_workload_and_the_list_is_cut_openly() {
    let mut pods: Vec<PodFacts> = (0..150).map(|n| pod(&format!("p{n}"), &format!("app{n:03}"))).collect();
    pods.push(pod("p0b", "app000"));
    let names: Vec<String> = pods.iter().skip(1).map(|p| p.name.clone()).collect();
    let world = World::new(pods).heard_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let step = world.step(&policy_of("p", CREATED, json!({})));
    let s = &step.status;
    assert_eq!((s.linked_app_count, s.linked_pod_count, s.linked_apps_truncated), (150, 150, true));
    assert!((60..=100).contains(&s.linked_apps.len()), "{} rows", s.linked_apps.len());
    let first = &s.linked_apps[0];
    assert_eq!(
        (first.name.as_str(), first.pods, first.linked, first.state, first.runtime.as_deref()),
        ("app000", 2, 1, LinkState::PartiallyLinked, Some("Python 3.11"))
    );
    assert!(serde_json::to_vec(s).unwrap().len() < 20 * 1024 * 2, "the list of 100 apps alone");
}

#[test]
fn of_two_policies_the_older_serves_a_pod() {
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    world.others = vec![policy_of("older", CREATED - 1, json!({}))];
    let step = world.step(&policy_of("p", CREATED, json!({})));
    assert_eq!(
        (condition(&step, "Configured"), condition(&step, "Ready"), step.status.linked_pod_count),
        (("False", "Conflict"), ("False", "Conflict"), 0)
    );
    world.others = vec![policy_of("younger", CREATED + 1, json!({}))];
    assert_eq!(condition(&world.step(&policy_of("p", CREATED, json!({}))), "Ready"), ("True", "Active"));
}

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
fn what_a_person_would_ask_about_is_told_once() {
    let mut left_alone = bare(pod("a", "web"));
    left_alone.owner = Some(
        Owner {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: "web-1".into(),
            uid: "rs".into(),
        }
        .into(),
    );
    let world = World::new(vec![left_alone.clone(), pod("b", "api")]).heard_of(&["b"]);
    let mut p = policy_of("p", CREATED, json!({"agent": {"existingPods": "Wait"}}));
    let first = world.step(&p);
    let [news] = first.news.as_slice() else { panic!("{:?}", first.news) };
    assert_eq!(
        (news.workload.to_string().as_str(), news.reason, news.warning),
        ("Deployment/web", Reason::WebhookMissed, true)
    );
    assert_eq!(Some(&news.owner), left_alone.owner.as_deref());
    p.status = Some(first.status);
    assert_eq!(world.step(&p).news, []);
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

#[test]
fn ten_thousand_linked_workloads_fit_in_20_kilobytes() {
    let pods: Vec<PodFacts> = (0..10_000)
        .map(|n| {
            let name = format!("a-workload-with-a-name-that-people-do-give-{n:05}");
            pod(&name, &name)
        })
        .collect();
    let names: Vec<String> = pods.iter().map(|p| p.name.clone()).collect();
    let mut world = World::new(pods).heard_of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    world.sessions = (0..30)
        .map(|n| {
            session(
                &format!("a-policy-with-a-long-name-{n}"),
                "Schedule",
                if n < 15 { "Succeeded" } else { "Running" },
                NOW - n,
            )
        })
        .collect();
    let status = world.step(&policy_of("p", CREATED, json!({}))).status;
    assert_eq!(
        (status.linked_app_count, status.linked_pod_count, status.linked_apps_truncated),
        (10_000, 10_000, true)
    );
    let bytes = serde_json::to_string(&status).unwrap().len();
    assert!(
        status.linked_apps.len() >= 40 && bytes < 20_000,
        "{} rows, {bytes} bytes",
        status.linked_apps.len()
    );
}

#[test]
fn of_more_apps_than_rows_those_with_a_trouble_have_one() {
    let names: Vec<String> = (0..250).map(|n| format!("app-{n:03}")).collect();
    let pods = names.iter().map(|name| pod(name, name)).collect();
    let heard: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| *name != "app-200" && *name != "app-240").collect();
    let step = World::new(pods).heard_of(&heard).step(&policy_of("p", CREATED, json!({})));
    let rows = &step.status.linked_apps;
    assert_eq!((step.status.linked_app_count, step.status.linked_apps_truncated), (248, true));
    assert!((50..=100).contains(&rows.len()), "as many as there is room for: {}", rows.len());
    let lost: Vec<&str> =
        rows.iter().filter(|a| a.reason == Reason::AgentLost).map(|a| a.name.as_str()).collect();
    assert_eq!(lost, ["app-200", "app-240"]);
    assert!(rows.is_sorted_by_key(|a| a.name.as_str()), "rows are still found by name");
    assert_eq!(step.news.len(), 2, "and are told of");
}

#[test]
fn an_image_that_no_admin_allows_is_named_and_gets_into_no_pod() {
    let world = World::new(vec![bare(pod("a", "web")), pod("b", "web")]).heard_of(&["b"]);
    for mode in ["Sidecar", "Ephemeral"] {
        let step = world.step(&policy_of(
            "p",
            CREATED,
            json!({"agent": {"mode": mode, "image": "evil.example/agent:1"}}),
        ));
        assert_eq!(condition(&step, "Configured"), ("False", "InvalidSpec"));
        let configured = step.status.conditions.iter().find(|c| c.type_ == "Configured").unwrap();
        let words = "spec.agent.image: image \"evil.example/agent:1\" is not allowed; allowed images: \
                     agent:1, mirror.example/agent:*.";
        assert_eq!(configured.message, words);
        let app = &step.status.linked_apps[0];
        assert_eq!(
            (app.linked, app.reason, app.state),
            (1, Reason::ImageNotAllowed, LinkState::PartiallyLinked),
            "who has an agent keeps it"
        );
    }
}

#[test]
fn agents_of_an_image_that_the_policy_names_are_never_outdated() {
    let mut world = World::new(vec![pod("a", "web")]).heard_of(&["a"]);
    world.agents.get_mut("uid-a").unwrap().version = "0.0.9".into();
    for (agent, outdated) in [(json!({}), 1), (json!({"image": "mirror.example/agent:0.0.9"}), 0)] {
        let status = world.step(&policy_of("p", CREATED, json!({"agent": agent}))).status;
        assert_eq!((status.outdated_apps, status.linked_apps[0].outdated), (outdated, outdated));
    }
}

#[test]
fn attached_agents_stay_while_an_active_policy_profiles_their_pods() {
    let attached = |mut world: World| {
        world.agents.values_mut().for_each(|agent| agent.attached_only = true);
        world
    };
    let pods = || vec![bare(pod("a", "orders")), bare(pod("b", "orders"))];
    let step =
        |spec: Value| attached(World::new(pods()).heard_of(&["a"])).step(&policy_of("p", CREATED, spec));
    let cpu = json!({"cpu": {"threshold": 80}});
    let cases = [
        ("an hourly policy", json!({}), true),
        ("a weekly policy", json!({"schedule": {"every": "168h"}}), true),
        ("a suspended policy", json!({"suspend": true}), false),
        ("a policy without rounds", json!({"sampling": {"percent": 0}}), false),
        ("one that only waits for a trigger", json!({"sampling": {"percent": 0}, "triggers": cpu}), true),
        ("one that selects other pods", json!({"selector": {"matchLabels": {"app": "x"}}}), false),
    ];
    for (sentence, spec, stays) in cases {
        let wanted: &[&str] = if stays { &["uid-a"] } else { &[] };
        assert_eq!(step(spec).keep, wanted, "{sentence}");
    }
    let sidecars = World::new(vec![pod("a", "orders")]).heard_of(&["a"]);
    assert!(sidecars.step(&policy_of("p", CREATED, json!({}))).keep.is_empty(), "sidecars stay anyway");
}
