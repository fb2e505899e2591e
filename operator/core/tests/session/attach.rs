//! How a target comes to its agent, or why it has none.

use std::sync::Arc;

use crate::world::*;
use fleetprof_core::agent::{AgentUser, Reach};
use fleetprof_core::pod::{AgentContainer, AgentContainerState, User};
use fleetprof_core::session::Action;
use fleetprof_crds::Reason;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use jiff::Timestamp;
use serde_json::json;

#[test]
fn attaches_to_a_pod_without_an_agent() {
    let mut bare = pod("a");
    bare.sidecar = None;
    let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(bare.clone());
    w.step().is(Phase::Starting, Reason::Attaching);
    let names = w.asked_to(|a| {
        if let Action::Attach { name, user, .. } = a { Some((name.clone(), *user)) } else { None }
    });
    assert!(
        names[0].0.starts_with("fleetprof-agent-")
            && names[0].1 == AgentUser::Target { uid: 1000, gid: None },
        "{names:?}"
    );
    bare.attached.push(AgentContainer {
        name: names[0].0.clone(),
        target: "app".into(),
        state: AgentContainerState::Running,
    });
    w.observed.pods = vec![Arc::new(bare)];
    w.step();
    assert!(w.actions.is_empty(), "it is attached once: {:?}", w.actions);
    w = w.with_agent("a");
    w.step().is(Phase::Starting, Reason::WaitingForAgent);
    assert_eq!(w.target("a").phase, TargetPhase::Ordered);
}

/// An agent that is attached to a container between two runs never starts, and cannot be taken back.
#[test]
fn a_container_that_does_not_run_is_waited_for() {
    let mut bare = pod("a");
    bare.sidecar = None;
    let mut stopped = bare.clone();
    stopped.containers[0].running = false;
    let attach = |w: &World| w.asked_to(|a| matches!(a, Action::Attach { .. }).then_some(())).len();
    let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(stopped.clone());
    w.step().is(Phase::Starting, Reason::WaitingForAgent);
    assert_eq!(attach(&w), 0);
    assert!(w.target("a").message.contains("The container app does not run"), "{}", w.target("a").message);
    w.observed.pods = vec![Arc::new(bare.clone())];
    w.step();
    assert_eq!(attach(&w), 1);
    // It stops once more, just before the runtime starts the agent.
    let words =
        "spec: invalid target container: container \"a-c\" is not running - in state CONTAINER_EXITED";
    stopped.attached.push(AgentContainer {
        name: w.target("a").attached_as.clone(),
        target: "app".into(),
        state: AgentContainerState::Waiting("CreateContainerError".into(), words.into()),
    });
    bare.attached = stopped.attached.clone();
    for pod in [stopped.clone(), bare] {
        w.observed.pods = vec![Arc::new(pod)];
        w.step();
        assert_eq!((w.target("a").phase, attach(&w)), (TargetPhase::Attaching, 0));
    }
    stopped.attached.clear();
    let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(stopped);
    w.step();
    w.after(61).step();
    assert_eq!(w.target("a").phase, TargetPhase::Failed);
    assert_eq!(w.target("a").reason, Some(Reason::StartDeadlineExceeded));
}

#[test]
fn an_attached_agent_is_told_whose_network_its_pod_has() {
    for host_network in [false, true] {
        let mut bare = pod("a");
        (bare.sidecar, bare.host_network) = (None, host_network);
        let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(bare);
        w.step();
        let told = w.asked_to(|a| match a {
            Action::Attach { host_network, .. } => Some(*host_network),
            _ => None,
        });
        assert_eq!(told, [host_network]);
    }
}

#[test]
fn an_agent_that_is_attached_to_another_container_is_not_the_targets() {
    let attached = |target: &str| AgentContainer {
        name: "fleetprof-agent-other".into(),
        target: target.into(),
        state: AgentContainerState::Running,
    };
    // (whose container the agent that reports sees, is the pod's process namespace shared, is one attached)
    for (target, sees, attaches) in [("app", "a-c", false), ("other", "o-c", true), ("other", "a-c", false)] {
        let mut bare = pod("a");
        (bare.sidecar, bare.attached) = (None, vec![attached(target)]);
        let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(bare).with_agent("a");
        let agents = w.observed.agents.get_mut("uid-a").unwrap();
        agents.reach = Reach::Attached;
        agents.runtimes = [(sees.to_owned(), "Python 3.11".to_owned())].into();
        w.step();
        let attach = w.asked_to(|a| matches!(a, Action::Attach { .. }).then_some(()));
        assert_eq!(attach.len(), usize::from(attaches), "{target} {sees}: {:?}", w.actions);
        let phase = if attaches { TargetPhase::Attaching } else { TargetPhase::Ordered };
        assert_eq!(w.target("a").phase, phase, "{target} {sees}");
    }
}

#[test]
fn no_agent_is_attached_as_root_where_that_is_forbidden() {
    const ATTACHED: Result<AgentUser, &str> = Ok(AgentUser::Root);
    let unknown = Err("The user of the container app is unknown, and it sets runAsNonRoot");
    let restricted =
        Err("The user of the container app is unknown, and the namespace enforces Pod Security restricted");
    // (sentence, uid, runAsNonRoot, the level that the namespace enforces, outcome)
    let cases = [
        ("a known user", Some(1000), true, "restricted", Ok(AgentUser::Target { uid: 1000, gid: None })),
        ("an unknown user", None, false, "baseline", ATTACHED),
        ("an unknown user that must not be root", None, true, "privileged", unknown),
        ("an unknown user under restricted", None, false, "restricted", restricted),
        ("root", Some(0), false, "baseline", ATTACHED),
        (
            "root under restricted",
            Some(0),
            false,
            "restricted",
            Err("The container app runs as root, and the namespace enforces"),
        ),
    ];
    for (sentence, uid, non_root, level, expected) in cases {
        let mut bare = pod("a");
        bare.sidecar = None;
        bare.containers[0].user = User { uid, gid: None, non_root };
        let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(bare.clone());
        w.observed.namespace_labels.insert("pod-security.kubernetes.io/enforce".into(), level.into());
        w.step();
        let attached = w.asked_to(|a| if let Action::Attach { user, .. } = a { Some(*user) } else { None });
        match expected {
            Ok(user) => assert_eq!(attached, [user], "{sentence}"),
            Err(words) => {
                w.is(Phase::Failed, Reason::UnknownUser);
                let target = w.target("a");
                assert_eq!((target.phase, attached.len()), (TargetPhase::Skipped, 0), "{sentence}");
                assert!(target.message.starts_with(words), "{sentence}: {}", target.message);
                assert!(
                    target.message.ends_with("; set securityContext.runAsUser on the container or the pod."),
                    "{}",
                    target.message
                );
            }
        }
        bare.attached.push(AgentContainer {
            name: "other".into(),
            target: "app".into(),
            state: AgentContainerState::Running,
        });
        let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(bare);
        w.step().is(Phase::Starting, Reason::Attaching);
    }
}

#[test]
fn attaches_the_image_that_the_policy_names_where_an_admin_allows_it() {
    let mut bare = pod("a");
    bare.sidecar = None;
    for (image, allowed) in [("mirror.example/agent:7", true), ("evil.example/agent:7", false)] {
        let spec = json!({"selector": {}, "agent": {"mode": "Ephemeral", "image": image}});
        let mut w = World::new(json!({"policyRef": {"name": "p"}})).with_policy(spec).with_pod(bare.clone());
        w.step();
        if allowed {
            let attached = w.asked_to(|a| match a {
                Action::Attach { image, .. } => Some(image.clone()),
                _ => None,
            });
            assert_eq!(attached, [image]);
        } else {
            assert_eq!(
                (w.target("a").phase, w.target("a").reason),
                (TargetPhase::Skipped, Some(Reason::ImageNotAllowed))
            );
            assert!(
                w.target("a").message.contains("image \"evil.example/agent:7\" is not allowed"),
                "{}",
                w.target("a").message
            );
            assert_eq!(w.status().phase, Phase::Failed);
        }
    }
}

#[test]
fn waits_or_skips_as_existing_pods_says() {
    let mut bare = pod("a");
    bare.sidecar = None;
    bare.created = Some(Timestamp::from_second(1).unwrap());
    let wait = json!({"selector": {}, "agent": {"existingPods": "Wait"}});
    let mut w = World::new(json!({"policyRef": {"name": "p"}})).with_policy(wait).with_pod(bare);
    w.step().is(Phase::Failed, Reason::CreatedBeforePolicy);
    assert_eq!(w.target("a").phase, TargetPhase::Skipped);
}

#[test]
fn an_agent_that_is_too_old_is_skipped_with_what_to_do() {
    let mut w = one_pod();
    w.observed.agents.get_mut("uid-a").unwrap().protocol = 0;
    w.step().is(Phase::Failed, Reason::NoCapableAgents);
    assert_eq!(
        (w.target("a").phase, w.target("a").reason),
        (TargetPhase::Skipped, Some(Reason::AgentTooOld))
    );
    let message = &w.target("a").message;
    assert!(
        message.starts_with("The agent 0.1.0 speaks protocol 0, the order needs 1; restart the pod"),
        "{message}"
    );
}

#[test]
fn an_agent_of_the_first_protocol_still_gets_a_cpu_order() {
    let mut w = one_pod();
    w.observed.agents.get_mut("uid-a").unwrap().protocol = 1;
    w.step();
    let needed = w.asked_to(|a| if let Action::Open { order, .. } = a { Some(order.protocol) } else { None });
    // Whatever PROTOCOL this build speaks: the number stands here as such.
    assert_eq!((w.target("a").phase, needed), (TargetPhase::Ordered, vec![1]));
}

#[test]
fn no_agent_by_the_start_deadline_fails_with_what_was_awaited() {
    let mut w = World::new(json!({"target": {"pods": ["a"]}})).with_pod(pod("a"));
    w.step().is(Phase::Starting, Reason::WaitingForAgent);
    w.after(61).is(Phase::Failed, Reason::StartDeadlineExceeded);
    assert!(
        w.target("a").message.contains("running, but cannot reach the gateway"),
        "{}",
        w.target("a").message
    );
}

#[test]
fn what_may_pass_is_tried_until_the_start_deadline_and_the_last_answer_is_told() {
    let mut bare = pod("a");
    bare.sidecar = None;
    let mut w = World::new(json!({"target": {"pods": ["a"]}, "startDeadline": "60s"})).with_pod(bare);
    w.attach_delayed = Some("The API server did not attach the agent yet: too many requests".into());
    let tries = |w: &World| w.asked_to(|a| matches!(a, Action::Attach { .. }).then_some(())).len();
    w.step();
    for _ in 0..5 {
        assert_eq!((w.target("a").phase, tries(&w)), (TargetPhase::Attaching, 1));
        assert!(w.target("a").message.contains("too many requests"), "{}", w.target("a").message);
        w.after(10);
    }
    w.after(11);
    let target = w.target("a");
    assert_eq!((target.phase, target.reason), (TargetPhase::Failed, Some(Reason::StartDeadlineExceeded)));
    assert!(target.message.contains("too many requests"), "{}", target.message);
}

#[test]
fn whoever_asks_for_a_workload_gets_pods_that_have_an_agent() {
    for name in ["a", "b", "c", "d"] {
        let spec = json!({"policyRef": {"name": "p"}, "target": {"workload": {"kind": "Deployment", "name": "orders"}}});
        let mut w = World::new(spec).with_policy(json!({"selector": {}})).with_agent(name);
        for pod in ["a", "b", "c", "d"].map(pod) {
            w.observed.pods.push(Arc::new(fleetprof_core::pod::PodFacts { sidecar: None, ..pod }));
        }
        w.step();
        let targets: Vec<&str> = w.status().targets.iter().map(|target| target.pod.as_str()).collect();
        assert_eq!(targets, [name]);
    }
}

/// A sidecar answers before the containers of its pod have started.
#[test]
fn a_container_that_has_not_started_is_awaited_and_ordered_by_its_id_once_it_has() {
    let with_id = |id: &str| {
        let mut pod = pod("a");
        pod.containers[0].id = id.into();
        pod
    };
    let orders = |w: &World| {
        w.asked_to(
            |a| if let Action::Open { order, .. } = a { Some(order.container_id.clone()) } else { None },
        )
    };
    let world = || {
        let spec = json!({"target": {"pods": ["a"]}, "duration": "10s"});
        World::new(spec).with_pod(with_id("")).with_agent("a")
    };
    let mut w = world();
    w.step().is(Phase::Starting, Reason::WaitingForAgent);
    assert_eq!((orders(&w), w.target("a").phase), (vec![], TargetPhase::Pending));
    assert_eq!(w.target("a").message, "The container app has not started yet.");
    w.after(3);
    assert_eq!(orders(&w), Vec::<String>::new());
    w.observed.pods = vec![Arc::new(with_id("a-c"))];
    w.step();
    assert_eq!((orders(&w), w.target("a").phase), (vec!["a-c".to_owned()], TargetPhase::Ordered));
    let mut late = world();
    late.step();
    late.after(3600);
    let target = late.target("a");
    assert_eq!((target.phase, target.reason), (TargetPhase::Failed, Some(Reason::StartDeadlineExceeded)));
    assert!(target.message.contains("container app did not run within"), "{}", target.message);
}
