//! Do links and sessions give one answer to whether a pod will have an agent, and if not why?
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, NodeAgents, PodSecurity, Reach};
use fleetprof_core::inject::{AdmissionFacts, ClusterRules, ResourceRules, refusal};
use fleetprof_core::link::{self, Observed as PolicyObserved};
use fleetprof_core::pod::{AgentContainer, AgentContainerState, PodFacts, Workload};
use fleetprof_core::session::{self, JobFacts, Observed, Permission, PolicyFacts, Settings};
use fleetprof_core::view::{Labels, Policies, PolicyView};
use fleetprof_crds::session_status::{Phase, TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileSession, ProfilingPolicy, Reason};
use jiff::Timestamp;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A running pod without an agent, older than the policy.
fn pod(namespace: &str, mut spec: Value, annotations: &Value) -> PodFacts {
    spec["nodeName"] = json!("n1");
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "app", "securityContext": {"runAsUser": 1000}}]);
    }
    let app = json!({"name": spec["containers"][0]["name"], "containerID": "containerd://c-1", "image": "app:1",
        "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let pod = json!({
        "metadata": {"namespace": namespace, "name": "a", "uid": "uid-a", "annotations": annotations,
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
        "status": {"phase": "Running", "containerStatuses": [app]},
    });
    PodFacts::of(&serde_json::from_value(pod).unwrap()).unwrap()
}

fn rules() -> ClusterRules {
    ClusterRules {
        excluded_namespaces: vec!["kube-system".into()],
        default_pod_security: PodSecurity::Baseline,
        allow_root: false,
        images: common::images().clone(),
        ..ClusterRules::default()
    }
}

fn policy(namespace: &str, agent: &Value) -> ProfilingPolicy {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
        "metadata": {"name": "p", "namespace": namespace, "uid": "p-1", "creationTimestamp": "2026-06-01T00:00:00Z"},
        "spec": {"selector": {}, "agent": agent},
    }))
    .unwrap()
}

/// Whether the policy links the pod, and why.
fn linked(pod: &PodFacts, policy: &ProfilingPolicy, agents: &HashMap<String, AgentFacts>) -> (bool, Reason) {
    linked_by(&rules(), pod, policy, agents)
}

fn linked_by(
    rules: &ClusterRules,
    pod: &PodFacts,
    policy: &ProfilingPolicy,
    agents: &HashMap<String, AgentFacts>,
) -> (bool, Reason) {
    let labels = Labels::new();
    let view = PolicyView::from(policy);
    let refusal = |pod: &PodFacts, _: &Policies<'_>| {
        let facts = AdmissionFacts {
            namespace: &pod.namespace,
            namespace_labels: Some(&labels),
            resources: &ResourceRules::default(),
            cluster: rules,
        };
        refusal(pod, &facts, Some(&policy.spec))
    };
    let links = link::pods(
        &view,
        &PolicyObserved {
            now: NOW,
            pods: &[Arc::new(pod.clone())],
            agents,
            node_agents: &NodeAgents::default(),
            settled: true,
            sessions: &[],
            policies: [view].into_iter().collect(),
            namespaces: &[(pod.namespace.to_string(), labels.clone())].into(),
            version: "0.1.0",
            images: &rules.images,
            pod_security: rules.default_pod_security,
            attach_disabled: rules.attach_disabled,
            destinations: &["default".to_owned()],
            refusal: &refusal,
        },
    );
    (links[0].linked, links[0].reason)
}

/// How a target stands after the first steps of a session.
fn target(pod: &PodFacts, policy: PolicyFacts, agents: &HashMap<String, AgentFacts>) -> TargetStatus {
    target_by(rules(), pod, policy, agents)
}

fn target_by(
    rules: ClusterRules,
    pod: &PodFacts,
    policy: PolicyFacts,
    agents: &HashMap<String, AgentFacts>,
) -> TargetStatus {
    let mut session: ProfileSession = serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
        "metadata": {"name": "now", "namespace": &*pod.namespace, "uid": "s-1"},
        "spec": {"target": {"pods": ["a"]}},
    }))
    .unwrap();
    let observed = Observed {
        now: NOW,
        settled: true,
        no_room: None,
        permission: Permission::Allowed,
        policy,
        namespace_labels: BTreeMap::new(),
        resources: ResourceRules::default(),
        pods: vec![Arc::new(pod.clone())],
        agents: agents.clone(),
        node_agents: NodeAgents::default(),
        captures: HashMap::new(),
        places: HashMap::new(),
        yields: HashMap::new(),
        node_cpu: HashMap::new(),
        until_record: None,
        recorded: Phase::Pending,
        job: JobFacts::Unlisted,
        earlier: 0,
        sessions: vec![],
        follow_ups: vec![],
    };
    let settings = Settings { rules, ..Settings::default() };
    session.status = Some(session::step(&session, &observed, &settings).status);
    session.status.unwrap().targets.remove(0)
}

fn found(policy: &ProfilingPolicy) -> PolicyFacts {
    PolicyFacts::Found {
        uid: "p-1".into(),
        created: PolicyView::from(policy).created,
        spec: Box::new(policy.spec.clone()),
        yielded: HashMap::new(),
    }
}

#[test]
fn links_and_sessions_agree_on_every_pod() {
    let mirror = json!({"kubernetes.io/config.mirror": "x"});
    let (none, windows) = (json!({}), json!({"nodeSelector": {"kubernetes.io/os": "windows"}}));
    let sidecar = json!({"mode": "Sidecar"});
    let (wait, alone) = (json!({"existingPods": "Wait"}), json!({"mode": "Ephemeral"}));
    let root = json!({"containers": [{"name": "app", "securityContext": {"runAsNonRoot": true}}]});
    let host_pid = json!({"hostPID": true});
    let evil = json!({"mode": "Ephemeral", "image": "evil.example/agent:7"});
    // (namespace, pod's spec, its annotations, the policy's agent, linked, reason)
    let cases = [
        ("shop", &none, &none, &sidecar, true, Reason::CreatedBeforePolicy),
        ("shop", &none, &none, &wait, false, Reason::CreatedBeforePolicy),
        ("shop", &none, &none, &alone, true, Reason::AttachedOnDemand),
        ("shop", &none, &mirror, &sidecar, false, Reason::StaticPod),
        ("shop", &none, &mirror, &alone, false, Reason::StaticPod),
        ("shop", &windows, &none, &sidecar, false, Reason::WindowsNode),
        ("shop", &windows, &none, &alone, false, Reason::WindowsNode),
        ("shop", &host_pid, &none, &sidecar, true, Reason::HostPid),
        ("shop", &host_pid, &none, &wait, false, Reason::HostPid),
        ("shop", &root, &none, &sidecar, false, Reason::UnknownUser),
        ("shop", &root, &none, &alone, false, Reason::UnknownUser),
        ("shop", &none, &none, &evil, false, Reason::ImageNotAllowed),
        ("kube-system", &none, &none, &sidecar, false, Reason::NamespaceExcluded),
        ("kube-system", &none, &none, &alone, false, Reason::NamespaceExcluded),
    ];
    for (namespace, spec, annotations, agent, is_linked, reason) in cases {
        let case = format!("{namespace} {spec} {annotations} {agent}");
        let (pod, policy, agents) =
            (pod(namespace, spec.clone(), annotations), policy(namespace, agent), HashMap::new());
        assert_eq!(linked(&pod, &policy, &agents), (is_linked, reason), "{case}");
        let target = target(&pod, found(&policy), &agents);
        if is_linked {
            assert_eq!((target.phase, target.reason), (TargetPhase::Pending, None), "{case}");
        } else {
            assert_eq!((target.phase, target.reason), (TargetPhase::Skipped, Some(reason)), "{case}");
            assert!(target.message.ends_with('.') && target.message.len() > 30, "{case}: {}", target.message);
        }
    }
}

#[test]
fn a_pod_with_an_agent_is_linked_and_captured_whatever_keeps_agents_out_otherwise() {
    let agent = AgentFacts {
        version: "0.1.0".into(),
        protocol: 1,
        runtimes: HashMap::new(),
        offers: HashMap::new(),
        reach: Reach::Pod,
    };
    let agents: HashMap<_, _> = [("uid-a".to_owned(), agent)].into();
    let policy = policy("shop", &json!({"existingPods": "Wait"}));
    let pod = pod("shop", json!({"hostPID": true}), &json!({}));
    assert_eq!(linked(&pod, &policy, &agents), (true, Reason::Linked));
    assert_eq!(target(&pod, found(&policy), &agents).phase, TargetPhase::Pending);
}

#[test]
fn what_no_restart_gives_an_agent_has_one_attached() {
    let policy = policy("shop", &json!({"existingPods": "Restart"}));
    for (kind, attached) in [
        ("Deployment", false),
        ("StatefulSet", false),
        ("DaemonSet", false),
        ("Pod", true),
        ("Job", true),
        ("CronJob", true),
        ("ReplicaSet", true),
        ("Rollout", true),
    ] {
        let mut pod = pod("shop", json!({}), &json!({}));
        pod.workload = Arc::new(Workload { kind: kind.into(), name: "a".into() });
        assert_eq!(linked(&pod, &policy, &HashMap::new()), (attached, Reason::CreatedBeforePolicy), "{kind}");
    }
}

#[test]
fn where_attaching_is_disabled_only_pods_with_an_agent_are_linked_and_captured() {
    let rules = || ClusterRules { attach_disabled: true, ..rules() };
    let (bare, none) = (pod("shop", json!({}), &json!({})), HashMap::new());
    for agent in [json!({"mode": "Sidecar"}), json!({"mode": "Ephemeral"})] {
        let policy = policy("shop", &agent);
        assert_eq!(linked_by(&rules(), &bare, &policy, &none), (false, Reason::AttachDisabled), "{agent}");
        let target = target_by(rules(), &bare, found(&policy), &none);
        assert_eq!((target.phase, target.reason), (TargetPhase::Skipped, Some(Reason::AttachDisabled)));
        assert!(target.message.contains("attach.enabled"), "{}", target.message);
    }
    let target = target_by(rules(), &bare, PolicyFacts::Unnamed, &none);
    assert_eq!(target.reason, Some(Reason::AttachDisabled));
    let agent = AgentFacts {
        version: "0.1.0".into(),
        protocol: 1,
        runtimes: HashMap::new(),
        offers: HashMap::new(),
        reach: Reach::Pod,
    };
    let agents: HashMap<_, _> = [("uid-a".to_owned(), agent)].into();
    let policy = policy("shop", &json!({"mode": "Ephemeral"}));
    assert_eq!(linked_by(&rules(), &bare, &policy, &agents), (true, Reason::Linked));
}

#[test]
fn without_a_policy_a_session_attaches_but_never_to_static_and_windows_pods_and_excluded_namespaces() {
    let agents = HashMap::new();
    let state = |pod: &PodFacts| {
        let target = target(pod, PolicyFacts::Unnamed, &agents);
        (target.phase, target.reason)
    };
    let mirror = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(state(&pod("shop", json!({}), &json!({}))), (TargetPhase::Pending, None));
    let excluded = (TargetPhase::Skipped, Some(Reason::NamespaceExcluded));
    assert_eq!(state(&pod("kube-system", json!({}), &json!({}))), excluded);
    assert_eq!(state(&pod("shop", json!({}), &mirror)), (TargetPhase::Skipped, Some(Reason::StaticPod)));
    let windows = json!({"os": {"name": "windows"}});
    assert_eq!(state(&pod("shop", windows, &json!({}))), (TargetPhase::Skipped, Some(Reason::WindowsNode)));
}

/// A pod without a sidecar to which so many agents were attached; the last one is in this state.
fn attached(count: usize, last: AgentContainerState) -> PodFacts {
    let agent = |n: usize| AgentContainer {
        name: format!("fleetprof-agent-{n}"),
        target: "app".into(),
        state: AgentContainerState::Ended("Completed".into()),
    };
    let mut pod = pod("shop", json!({}), &json!({}));
    pod.attached = (0..count).map(agent).collect();
    if let Some(agent) = pod.attached.last_mut() {
        agent.state = last;
    }
    pod
}

#[test]
fn a_pod_gets_no_more_agents_than_it_may_have_and_that_is_said() {
    let ended = || AgentContainerState::Ended("Completed".into());
    for agent in [json!({"mode": "Sidecar"}), json!({"mode": "Ephemeral"})] {
        let (policy, none) = (policy("shop", &agent), HashMap::new());
        let (almost, full) = (attached(9, ended()), attached(10, ended()));
        assert!(linked(&almost, &policy, &none).0, "{agent}");
        assert_eq!(target(&almost, found(&policy), &none).phase, TargetPhase::Pending);
        assert_eq!(linked(&full, &policy, &none), (false, Reason::AttachLimit), "{agent}");
        for policy in [found(&policy), PolicyFacts::Unnamed] {
            let target = target(&full, policy, &none);
            assert_eq!((target.phase, target.reason), (TargetPhase::Skipped, Some(Reason::AttachLimit)));
            let told = "The pod a had 10 agents attached, and may have 10 in its lifetime; recreate the pod, or use \
                        agent.mode Sidecar with agent.existingPods Restart.";
            assert_eq!(target.message, told);
        }
    }
}

#[test]
fn a_pod_at_its_limit_is_captured_while_its_last_agent_lives() {
    let policy = policy("shop", &json!({"mode": "Ephemeral"}));
    let full = attached(10, AgentContainerState::Running);
    assert_eq!(
        linked(&full, &policy, &HashMap::new()),
        (true, Reason::AttachedOnDemand),
        "it has not reported yet"
    );
    let agent = AgentFacts {
        version: "0.1.0".into(),
        protocol: 1,
        runtimes: [("c-1".to_owned(), "Native".to_owned())].into(),
        offers: HashMap::new(),
        reach: Reach::Attached,
    };
    let agents: HashMap<_, _> = [("uid-a".to_owned(), agent)].into();
    assert_eq!(linked(&full, &policy, &agents), (true, Reason::Linked));
    assert_eq!(target(&full, found(&policy), &agents).phase, TargetPhase::Pending);
}

/// The agent of the node reports the pod.
fn by_node() -> HashMap<String, AgentFacts> {
    let agent = AgentFacts {
        version: "0.1.0".into(),
        protocol: 2,
        runtimes: [("c-1".to_owned(), "Native".to_owned())].into(),
        offers: HashMap::new(),
        reach: Reach::Node,
    };
    [("uid-a".to_owned(), agent)].into()
}

#[test]
fn the_agent_of_a_node_serves_pods_whatever_keeps_agents_out_of_them() {
    let policy = |namespace| policy(namespace, &json!({"mode": "Node"}));
    let mirror = json!({"kubernetes.io/config.mirror": "x"});
    let root = json!({"containers": [{"name": "app", "securityContext": {"runAsNonRoot": true}}]});
    let alone = json!({"shareProcessNamespace": false});
    for (namespace, spec, annotations) in [
        ("shop", json!({}), json!({})),
        ("shop", json!({}), mirror),
        ("shop", root, json!({})),
        ("shop", alone, json!({})),
        ("shop", json!({"hostPID": true}), json!({})),
        ("kube-system", json!({}), json!({})),
    ] {
        let (pod, policy, agents) = (pod(namespace, spec, &annotations), policy(namespace), by_node());
        assert_eq!(linked(&pod, &policy, &agents), (true, Reason::Linked), "{namespace} {annotations}");
        let target = target(&pod, found(&policy), &agents);
        assert_eq!((target.phase, target.reason), (TargetPhase::Pending, None), "{}", target.message);
    }
    let mut out = pod("shop", json!({}), &json!({}));
    out.labels = Arc::new([("fleetprof.dev/profiling".to_owned(), "disabled".to_owned())].into());
    assert_eq!(linked(&out, &policy("shop"), &by_node()), (false, Reason::OptedOut));
}

#[test]
fn without_an_agent_of_its_node_a_pod_that_is_left_to_it_has_none() {
    let (policy, none) = (policy("shop", &json!({"mode": "Node"})), HashMap::new());
    let bare = pod("shop", json!({}), &json!({}));
    assert_eq!(linked(&bare, &policy, &none), (false, Reason::NoNodeAgent));
    let target = target(&bare, found(&policy), &none);
    assert_eq!((target.phase, target.reason), (TargetPhase::Skipped, Some(Reason::NoNodeAgent)));
    let told = "No agent of the node n1 reports the container; set nodeAgent.enabled";
    assert!(target.message.starts_with(told), "{}", target.message);
    let windows = pod("shop", json!({"nodeSelector": {"kubernetes.io/os": "windows"}}), &json!({}));
    assert_eq!(linked(&windows, &policy, &none), (false, Reason::WindowsNode));
}
