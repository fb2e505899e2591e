//! Which pods does a policy link, and what does it say of the others?

use std::sync::Arc;

use fleetprof_core::agent::{PodSecurity, Reach};
use fleetprof_core::pod::{AgentContainerState, Owner, PodFacts, User};
use fleetprof_crds::Reason;
use fleetprof_crds::policy::LinkState;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{CREATED, NOW, World, bare, common, condition, pod, policy_of};

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
fn a_pod_that_waits_for_its_sidecar_says_why() {
    let waiting = |why: &str| AgentContainerState::Waiting(why.into(), "exec format error".into());
    let cases = [
        (waiting("CrashLoopBackOff"), Reason::AgentImageFailed, "CrashLoopBackOff: exec format error"),
        (waiting("RunContainerError"), Reason::AgentImageFailed, "RunContainerError: exec format error"),
        (
            AgentContainerState::Ended("StartError (exit code 128)".into()),
            Reason::AgentImageFailed,
            "StartError",
        ),
        (waiting("PodInitializing"), Reason::PodNotRunning, ""),
        (AgentContainerState::Running, Reason::PodNotRunning, ""),
    ];
    for (state, reason, words) in cases {
        let mut pod = pod("a", "web");
        (pod.running, pod.sidecar) = (false, Some(state.clone()));
        let status = World::new(vec![pod]).step(&policy_of("p", CREATED, json!({}))).status;
        let app = &status.linked_apps[0];
        assert_eq!((app.linked, app.reason), (0, reason), "{state:?}");
        assert!(app.message.contains(words) && app.message.is_empty() == words.is_empty(), "{}", app.message);
    }
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
        world.agents.values_mut().for_each(|agent| agent.reach = Reach::Attached);
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
