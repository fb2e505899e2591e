//! Does `agent.mode: Auto` take what the cluster allows, and the same for links, sessions and the webhook?
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, HashMap};

use fleetprof_core::agent::{
    AgentFacts, Container, NodeAgent, NodeAgents, PodSecurity, Presence, Reach, ServedNamespaces, Terms,
    World, presence,
};
use fleetprof_core::inject::{AdmissionFacts, ClusterRules, ResourceRules, Verdict, judge, refusal};
use fleetprof_core::pod::PodFacts;
use fleetprof_core::view::PolicyView;
use fleetprof_crds::policy::ExistingPods;
use fleetprof_crds::{ProfilingPolicy, Reason};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What one pod is like, and the cluster that it is in.
#[derive(Clone, Debug)]
struct Case {
    spec: Value,
    annotations: Value,
    labels: Value,
    namespace: &'static str,
    /// What `nodeAgent.namespaces` names; `None` where there are no agents of nodes.
    installed: Option<Vec<&'static str>>,
    /// The agent of the pod's node answers.
    answers: bool,
    /// The leader is new, so that an agent may not have reported yet.
    new_leader: bool,
    /// Agents that report the pod's container.
    reports: Option<Reach>,
    existing: ExistingPods,
}

impl Case {
    fn plain() -> Self {
        Self {
            spec: json!({}),
            annotations: json!({}),
            labels: json!({}),
            namespace: "shop",
            installed: Some(vec![]),
            answers: true,
            new_leader: false,
            reports: None,
            existing: ExistingPods::AttachOnDemand,
        }
    }

    fn json(&self) -> Value {
        let mut spec = self.spec.clone();
        spec["nodeName"] = json!("n1");
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "app", "securityContext": {"runAsUser": 1000}}]);
        }
        let app = json!({"name": "app", "containerID": "containerd://c-1", "image": "app:1", "imageID": "",
            "ready": true, "restartCount": 0, "state": {"running": {}}});
        json!({
            "metadata": {"namespace": self.namespace, "name": "a", "uid": "uid-a", "labels": self.labels,
                "annotations": self.annotations},
            "spec": spec,
            "status": {"phase": "Running", "containerStatuses": [app]},
        })
    }

    fn rules(&self) -> ClusterRules {
        let excluded = vec!["kube-system".to_owned()];
        let owned = |named: &Vec<&str>| named.iter().map(|name| (*name).to_owned()).collect();
        ClusterRules {
            images: common::images().clone(),
            node_agents: self.installed.as_ref().map(|n| ServedNamespaces::new(owned(n), excluded.clone())),
            excluded_namespaces: excluded,
            default_pod_security: PodSecurity::Baseline,
            ..ClusterRules::default()
        }
    }

    fn policy(&self, mode: &str) -> ProfilingPolicy {
        let existing = serde_json::to_value(self.existing).unwrap();
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
            "metadata": {"name": "p", "namespace": self.namespace, "uid": "p-1"},
            "spec": {"selector": {}, "agent": {"mode": mode, "existingPods": existing}},
        }))
        .unwrap()
    }

    fn agents(&self) -> HashMap<String, AgentFacts> {
        let agent = |reach| AgentFacts {
            version: "0.1.0".into(),
            protocol: 2,
            runtimes: [("c-1".to_owned(), "Native".to_owned())].into(),
            offers: HashMap::new(),
            reach,
        };
        self.reports.map(|reach| ("uid-a".to_owned(), agent(reach))).into_iter().collect()
    }

    fn node_agent(&self, pod: &PodFacts) -> NodeAgent {
        let answering = self.answers.then(|| "n1".to_owned()).into_iter().collect();
        NodeAgents { served: self.rules().node_agents, answering, settled: !self.new_leader }.of(pod)
    }

    /// Asks of the pod under a policy of this mode.
    fn under<T>(&self, mode: &str, ask: impl Fn(&Presence<'_>) -> T) -> T {
        let (pod, rules, policy) = (
            PodFacts::of(&serde_json::from_value(self.json()).unwrap()).unwrap(),
            self.rules(),
            self.policy(mode),
        );
        let (agents, labels) = (self.agents(), BTreeMap::new());
        let world = World {
            agents: &agents,
            images: &rules.images,
            attach_disabled: false,
            level: PodSecurity::Baseline,
            node_agent: self.node_agent(&pod),
            policy: Some(Terms { spec: &policy.spec, created: None }),
        };
        let refusal = |pod: &PodFacts| {
            let facts = AdmissionFacts {
                namespace: self.namespace,
                namespace_labels: Some(&labels),
                resources: &ResourceRules::default(),
                cluster: &rules,
            };
            refusal(pod, &facts, Some(&policy.spec))
        };
        ask(&presence(&pod, Container { name: "app", attached_as: "" }, &world, &refusal))
    }

    /// What the webhook does with the pod under a policy of this mode: nothing said where it injects.
    fn webhook(&self, mode: &str) -> Option<Reason> {
        let (pod, rules, policy, labels) = (self.json(), self.rules(), self.policy(mode), BTreeMap::new());
        let facts = AdmissionFacts {
            namespace: self.namespace,
            namespace_labels: Some(&labels),
            resources: &ResourceRules::default(),
            cluster: &rules,
        };
        match judge(&pod, &facts, [PolicyView::from(&policy)]) {
            Verdict::Inject { .. } => None,
            Verdict::Skip(skip) => Some(skip.reason),
            verdict => panic!("{verdict:?}"),
        }
    }
}

/// The answer in a word.
fn word(presence: &Presence<'_>) -> String {
    match presence {
        Presence::Answers(agents) => format!("{:?} answers", agents.reach),
        Presence::Comes(_) => "comes".into(),
        Presence::AwaitsNode(otherwise) => format!("awaits the node's, else {}", word(otherwise)),
        Presence::Attached { lacks } => format!("attached: {lacks}"),
        Presence::CanBeAttached { lacks, .. } => format!("attaches: {lacks}"),
        Presence::Never(skip) => format!("never: {}", skip.reason),
    }
}

#[test]
fn the_agent_of_the_node_goes_first_and_another_way_is_taken_where_there_is_none() {
    let plain = Case::plain;
    let mirror = json!({"kubernetes.io/config.mirror": "x"});
    let away = || Case { answers: false, ..plain() };
    let out = json!({"fleetprof.dev/profiling": "disabled"});
    let windows = json!({"nodeSelector": {"kubernetes.io/os": "windows"}});
    let waits = ExistingPods::Wait;
    let cases = [
        (Case { reports: Some(Reach::Node), ..plain() }, "Node answers"),
        (Case { reports: Some(Reach::Pod), ..plain() }, "Pod answers"),
        (plain(), "awaits the node's, else attaches: NoNodeAgent"),
        (Case { existing: waits, ..plain() }, "awaits the node's, else never: NoNodeAgent"),
        (away(), "attaches: NoNodeAgent"),
        (Case { new_leader: true, ..away() }, "awaits the node's, else attaches: NoNodeAgent"),
        (Case { existing: waits, ..away() }, "never: NoNodeAgent"),
        (Case { installed: None, ..away() }, "attaches: WebhookMissed"),
        (Case { installed: Some(vec!["team-*"]), ..plain() }, "attaches: WebhookMissed"),
        (Case { annotations: mirror.clone(), reports: Some(Reach::Node), ..plain() }, "Node answers"),
        (Case { annotations: mirror.clone(), ..plain() }, "awaits the node's, else never: NoNodeAgent"),
        (Case { annotations: mirror.clone(), ..away() }, "never: NoNodeAgent"),
        (Case { annotations: mirror, installed: None, ..away() }, "never: StaticPod"),
        (Case { labels: out.clone(), ..plain() }, "never: OptedOut"),
        (Case { labels: out, reports: Some(Reach::Node), ..plain() }, "never: OptedOut"),
        (Case { spec: windows, ..plain() }, "never: WindowsNode"),
    ];
    for (case, wanted) in cases {
        assert_eq!(case.under("Auto", word), wanted, "{case:?}");
    }
}

#[test]
fn the_webhook_goes_by_what_is_installed_not_by_who_answers() {
    let served = |namespaces: Vec<&'static str>, answers| Case {
        installed: Some(namespaces),
        answers,
        ..Case::plain()
    };
    for answers in [true, false] {
        assert_eq!(served(vec![], answers).webhook("Auto"), Some(Reason::ServedByNode));
        assert_eq!(served(vec!["shop"], answers).webhook("Auto"), Some(Reason::ServedByNode));
        assert_eq!(served(vec!["bank"], answers).webhook("Auto"), None);
    }
    assert_eq!(Case { installed: None, ..Case::plain() }.webhook("Auto"), None);
}

fn spec() -> impl Strategy<Value = Value> {
    let root = json!({"containers": [{"name": "app", "securityContext": {"runAsNonRoot": true}}]});
    prop_oneof![
        3 => Just(json!({})),
        1 => Just(root),
        1 => Just(json!({"hostPID": true})),
        1 => Just(json!({"shareProcessNamespace": false})),
        1 => Just(json!({"nodeSelector": {"kubernetes.io/os": "windows"}})),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let annotations =
        prop_oneof![4 => Just(json!({})), 1 => Just(json!({"kubernetes.io/config.mirror": "x"}))];
    let labels = prop_oneof![4 => Just(json!({})), 1 => Just(json!({"fleetprof.dev/profiling": "disabled"}))];
    let installed = prop_oneof![
        Just(None),
        Just(Some(vec![])),
        Just(Some(vec!["team-*"])),
        Just(Some(vec!["shop", "kube-system"])),
    ];
    let reports = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Reach::Node)),
        1 => Just(Some(Reach::Pod)),
        1 => Just(Some(Reach::Attached)),
    ];
    let existing = prop_oneof![Just(ExistingPods::AttachOnDemand), Just(ExistingPods::Wait)];
    let namespace = prop_oneof![4 => Just("shop"), 1 => Just("kube-system")];
    (spec(), annotations, labels, namespace, installed, any::<bool>(), reports, existing).prop_map(
        |(spec, annotations, labels, namespace, installed, answers, reports, existing)| Case {
            spec,
            annotations,
            labels,
            namespace,
            installed,
            answers,
            new_leader: false,
            reports,
            existing,
        },
    )
}

proptest! {
    #[test]
    fn where_no_agent_of_a_node_serves_it_is_sidecar(case in case()) {
        prop_assume!(case.rules().node_agents.is_none_or(|served| !served.has(case.namespace)));
        prop_assume!(case.reports != Some(Reach::Node));
        prop_assert_eq!(case.under("Auto", word), case.under("Sidecar", word));
        prop_assert_eq!(case.webhook("Auto"), case.webhook("Sidecar"));
    }

    #[test]
    fn where_one_serves_no_pod_is_injected_and_whoever_node_mode_serves_is_served(case in case()) {
        prop_assume!(case.rules().node_agents.is_some_and(|served| served.has(case.namespace)));
        prop_assert!(case.webhook("Auto").is_some());
        let (by_auto, by_node) = (case.under("Auto", word), case.under("Node", word));
        if by_node.ends_with("answers") || by_node.contains("OptedOut") || by_node.contains("WindowsNode") {
            prop_assert_eq!(by_auto, by_node);
        } else {
            prop_assert!(by_auto.contains("NoNodeAgent") || by_auto.contains("UnknownUser"), "{by_auto}");
        }
    }

    #[test]
    fn an_agent_is_attached_only_where_a_session_could_attach_one_by_itself(case in case()) {
        let attaches = |word: String| word.contains("attaches");
        if attaches(case.under("Auto", word)) {
            prop_assert!(attaches(case.under("Ephemeral", word)));
        }
    }

    /// While the agent of a node is replaced, its pods are reported for three of its intervals: nothing changes.
    #[test]
    fn who_answers_changes_nothing_for_a_pod_that_is_reported(case in case()) {
        prop_assume!(case.reports.is_some());
        let [here, away] = [true, false].map(|answers| Case { answers, ..case.clone() }.under("Auto", word));
        prop_assert_eq!(here, away);
    }

    #[test]
    fn the_webhook_never_asks_who_answers(case in case()) {
        let [here, away] = [true, false].map(|answers| Case { answers, ..case.clone() });
        prop_assert_eq!(here.webhook("Auto"), away.webhook("Auto"));
    }

    /// A new leader has heard no agent yet: it waits, and attaches nothing that it would have to leave in the pod.
    #[test]
    fn a_new_leader_attaches_nothing_where_agents_of_nodes_serve(case in case()) {
        prop_assume!(case.rules().node_agents.is_some_and(|served| served.has(case.namespace)));
        let first = Case { new_leader: true, answers: false, reports: None, ..case }.under("Auto", word);
        prop_assert!(!first.starts_with("attaches"), "{first}");
    }

    /// Waiting ends in what holds on a node without an agent.
    #[test]
    fn what_is_awaited_in_vain_is_what_holds_without_it(case in case()) {
        let awaited = Case { answers: true, ..case.clone() }.under("Auto", |p| word(&p.clone().without_node()));
        prop_assert_eq!(awaited, Case { answers: false, ..case }.under("Auto", word));
    }
}
