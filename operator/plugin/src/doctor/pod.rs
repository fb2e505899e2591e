//! Can this pod be profiled, and if not, why? By the rules that the operator itself decides with, as far as
//! they need nothing that only the operator knows: which agents report, and the administrator's settings.

use std::collections::{BTreeMap, HashMap};

use fleetprof_core::agent::{Container, NodeAgent, PodSecurity, Presence, Skip, Terms, World, presence};
use fleetprof_core::image::AgentImages;
use fleetprof_core::inject::{AdmissionFacts, ClusterRules, ResourceRules, refusal};
use fleetprof_core::pod::{AgentContainerState, PodFacts, Workload, are_oversized};
use fleetprof_crds::policy::{AgentMode, ProfilingPolicySpec};
use fleetprof_crds::policy_status::LinkedApp;
use fleetprof_crds::{Reason, names};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::check::{Check, Level};
use super::statuses::of_app;
use crate::policies::{Policy, serving};

const POD: &str = "Pod";
const AGENT: &str = "Agent";
const POLICY: &str = "Policy";

/// The checks of a pod in a namespace with these labels; `None` where the caller may not see them.
pub(super) fn checks(
    pod: &Pod,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
    policies: &[Policy],
) -> Vec<Check> {
    let Some(facts) = PodFacts::of(pod) else {
        return vec![Check::of(POD, Level::Failed, "the pod has no spec or no name", "")];
    };
    let mut checks = Vec::new();
    let selected = |selector: &LabelSelector| fleetprof_core::selector::selects(selector, &facts.labels);
    match serving(policies, namespace, labels, selected) {
        None => checks.push(Check::reason(Reason::NotSelected, Level::Warning, not_selected(&facts))),
        Some((policy, spec)) => {
            checks.push(Check::passed(POLICY, format!("policy {} selects the pod", policy.reference.name)));
            checks.extend(under(&facts, namespace, labels, policy, spec));
        }
    }
    let rows =
        policies.iter().flat_map(|policy| rows(policy, namespace, &facts).map(move |app| (policy, app)));
    checks.extend(rows.map(|(policy, app)| of_app(&policy.reference.name, app)));
    checks
}

/// What a policy's status says of the pod's app.
fn rows<'p>(policy: &'p Policy, namespace: &str, pod: &PodFacts) -> impl Iterator<Item = &'p LinkedApp> {
    let Workload { kind, name } = &*pod.workload;
    let apps =
        policy.apps().filter(move |(of, app)| *of == namespace && *app.kind == **kind && *app.name == **name);
    apps.map(|(_, app)| app)
}

fn not_selected(facts: &PodFacts) -> String {
    format!("no policy that you may list selects pod {}", facts.name)
}

/// What the operator keeps in place of labels that are too large.
fn oversized() -> BTreeMap<String, String> {
    [(names::OPT_LABEL.to_owned(), names::OPT_OVERSIZED.to_owned())].into()
}

fn under(
    facts: &PodFacts,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
    policy: &Policy,
    spec: &ProfilingPolicySpec,
) -> Vec<Check> {
    // The operator keeps no labels that are too large, so it does not see this one either.
    let instead = labels.is_some_and(are_oversized).then(oversized);
    if let Some(out) = facts.opted_out_by(instead.as_ref().or(labels)) {
        let check = Check::reason(Reason::OptedOut, Level::Failed, out.why());
        return vec![Check { advice: out.advice(), ..check }];
    }
    let container = match facts.choose("", &spec.containers) {
        Ok(container) => container,
        Err(message) => return vec![Check::reason(Reason::NoSelectedContainer, Level::Failed, message)],
    };
    if let Some(limit) = container.below(&spec.budget) {
        let message = format!("the CPU limit of container {} is {limit}m", container.name);
        return vec![Check::reason(Reason::TooSmall, Level::Failed, message)];
    }
    if !facts.running {
        return vec![Check::reason(Reason::PodNotRunning, Level::Failed, "the pod is not running")];
    }
    let mut checks = vec![Check::passed(POD, format!("container {} would be profiled", container.name))];
    checks.push(agent(facts, &container.name, (namespace, labels), policy, spec));
    checks
}

/// Whether the pod has, or can have, an agent. What only the operator knows is taken as the chart sets it by
/// default: agents may be attached, and no image of the policy is refused. Whether agents of nodes serve the app, the
/// policy's status tells.
fn agent(
    facts: &PodFacts,
    container: &str,
    (namespace, labels): (&str, Option<&BTreeMap<String, String>>),
    policy: &Policy,
    spec: &ProfilingPolicySpec,
) -> Check {
    let images = AgentImages { default: "agent".into(), allowed: vec!["*".into()] };
    let rules = ClusterRules {
        excluded_namespaces: vec!["kube-system".into()],
        images: images.clone(),
        ..ClusterRules::default()
    };
    let resources = ResourceRules::default();
    let admission =
        AdmissionFacts { namespace, namespace_labels: labels, resources: &resources, cluster: &rules };
    let by_node = rows(policy, namespace, facts).any(|app| app.agent_modes.contains(&AgentMode::Node));
    let none = HashMap::new();
    let level = labels
        .map_or(PodSecurity::Restricted, |labels| PodSecurity::enforced(labels, PodSecurity::default()));
    let world = World {
        agents: &none,
        images: &images,
        attach_disabled: false,
        level,
        node_agent: if by_node { NodeAgent::Answers } else { NodeAgent::Unserved },
        policy: Some(Terms { spec, created: policy.created }),
    };
    let why = |pod: &PodFacts| refusal(pod, &admission, Some(spec));
    said(&presence(facts, Container { name: container, attached_as: "" }, &world, &why))
}

fn said(presence: &Presence<'_>) -> Check {
    match presence {
        Presence::Comes(state) if state.cannot_start() => {
            Check::reason(Reason::AgentImageFailed, Level::Failed, waiting(state))
        }
        Presence::Comes(_) | Presence::Answers(_) => {
            Check::passed(AGENT, "the pod has the sidecar; the app's line below says whether it reports")
        }
        Presence::AwaitsNode(_) => Check::passed(
            AGENT,
            "the agent of the node profiles the pod; the app's line below says whether it reports",
        ),
        Presence::Attached { lacks } => Check::passed(
            AGENT,
            format!("a session attached an agent because the pod has no sidecar ({lacks})"),
        ),
        Presence::CanBeAttached { user, lacks, .. } => Check::passed(
            AGENT,
            format!("the pod has no sidecar ({lacks}); sessions attach an agent, which runs as {user}"),
        ),
        Presence::Never(skip) => never(skip),
    }
}

fn never(skip: &Skip) -> Check {
    Check::reason(skip.reason, Level::Failed, format!("no agent can profile the pod: {}", skip.cause))
}

fn waiting(state: &AgentContainerState) -> String {
    match state {
        AgentContainerState::Waiting(why, message) => format!("the sidecar cannot start: {why} {message}"),
        _ => "the sidecar cannot start".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(spec: &Value) -> Policy {
        Policy {
            reference: crate::target::policy("shop").unwrap(),
            namespace: "shop".into(),
            spec: Some(serde_json::from_value(spec.clone()).unwrap()),
            namespaces: LabelSelector::default(),
            created: None,
            status: fleetprof_crds::ProfilingPolicyStatus::default(),
        }
    }

    fn pod(change: impl Fn(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "orders-1", "namespace": "shop", "uid": "u", "labels": {"app": "orders"}},
            "spec": {"containers": [{"name": "app", "securityContext": {"runAsUser": 1000, "runAsGroup": 1000}}]},
            "status": {"phase": "Running"},
        });
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    fn ids(pod: &Pod, policy: &Policy) -> Vec<(&'static str, Level)> {
        let labels = BTreeMap::new();
        let all = checks(pod, "shop", Some(&labels), std::slice::from_ref(policy));
        all.iter().map(|check| (check.id, check.level)).collect()
    }

    #[test]
    fn a_pod_is_judged_by_the_rules_of_the_operator() {
        let all = policy(&json!({"selector": {}}));
        assert_eq!(
            ids(&pod(|_| ()), &all),
            [("Policy", Level::Passed), ("Pod", Level::Passed), ("Agent", Level::Passed)]
        );
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 3] = [
            (|pod| pod["metadata"]["labels"]["fleetprof.dev/profiling"] = json!("disabled"), "OptedOut"),
            (|pod| pod["status"]["phase"] = json!("Pending"), "PodNotRunning"),
            (|pod| pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "50m"}}), "TooSmall"),
        ];
        for (change, id) in cases {
            assert_eq!(ids(&pod(change), &all).last(), Some(&(id, Level::Failed)), "{id}");
        }
        let other = policy(&json!({"selector": {"matchLabels": {"app": "cart"}}}));
        assert_eq!(ids(&pod(|_| ()), &other), [("NotSelected", Level::Warning)]);
    }

    #[test]
    fn a_namespace_whose_labels_are_too_large_is_said_to_have_too_many() {
        let labels = (0..300).map(|n| (format!("example.com/{n}"), "v".repeat(60))).collect();
        let all = checks(&pod(|_| ()), "shop", Some(&labels), &[policy(&json!({"selector": {}}))]);
        let last = all.last().unwrap();
        assert_eq!((last.id, last.level), ("OptedOut", Level::Failed), "{all:?}");
        assert!(last.message.contains("more than 16 KiB of labels"), "{last:?}");
        assert!(last.advice.starts_with("remove labels of the namespace"), "{last:?}");
    }

    #[test]
    fn a_pod_that_the_agent_of_its_node_profiles_is_not_said_to_have_none() {
        let labels = [("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned())].into();
        let unknown = pod(|pod| pod["spec"]["containers"][0]["securityContext"] = json!({}));
        let of_kubelet =
            pod(|pod| pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"}));
        let linked = |modes: &[&str]| {
            let app = json!([{"kind": "Pod", "name": "orders-1", "pods": 1, "linked": 1, "state": "Linked",
                "reason": "Linked", "agentModes": modes}]);
            let status = json!({"linkedApps": app, "linkedAppCount": 1});
            let status = serde_json::from_value(status).unwrap();
            Policy { status, ..policy(&json!({"selector": {}, "agent": {"mode": "Auto"}})) }
        };
        for pod in [&unknown, &of_kubelet] {
            let failed = |modes: &[&str]| {
                let all = checks(pod, "shop", Some(&labels), &[linked(modes)]);
                assert_eq!(all.last().map(|check| check.id), Some("Linked"), "{all:?}");
                all.iter().any(|check| check.level == Level::Failed)
            };
            assert!(!failed(&["Node"]), "as the status says");
            assert!(failed(&["Sidecar"]), "that would be another pod's");
        }
    }

    #[test]
    fn an_unknown_user_under_restricted_is_named() {
        let labels = [("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned())].into();
        let unknown = pod(|pod| pod["spec"]["containers"][0]["securityContext"] = json!({}));
        let all = checks(&unknown, "shop", Some(&labels), &[policy(&json!({"selector": {}}))]);
        let last = all.last().unwrap();
        assert_eq!((last.id, last.level), ("UnknownUser", Level::Failed), "{all:?}");
        assert!(last.hint.starts_with("docs/known-issues.md#"), "{last:?}");
    }
}
