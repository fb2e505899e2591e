//! Builders for the tests of injection.

mod fitting;
mod levels;
mod patches;
mod properties;
mod serving;
mod verdicts;

use std::collections::BTreeMap;

use fleetprof_crds::ProfilingPolicySpec;
use fleetprof_crds::session::PolicyKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use super::*;

/// A policy of its own, as the tests speak of it.
pub struct Policy {
    pub name: &'static str,
    pub created: &'static str,
    pub spec: ProfilingPolicySpec,
    /// Of a policy of the cluster: the namespaces that it selects.
    pub namespaces: Option<LabelSelector>,
}

impl Policy {
    /// `spec` is merged over `{"selector": {}}`.
    pub fn new(name: &'static str, created: &'static str, spec: Value) -> Self {
        let mut full = json!({"selector": {}});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        Self { name, created, spec: serde_json::from_value(full).unwrap(), namespaces: None }
    }

    /// The same as a policy of the cluster.
    pub fn of_cluster(self, namespaces: Value) -> Self {
        Self { namespaces: Some(serde_json::from_value(namespaces).unwrap()), ..self }
    }

    /// As seen from a pod of `namespace`.
    pub fn view<'a>(&'a self, namespace: &'a str) -> PolicyView<'a> {
        PolicyView {
            kind: if self.namespaces.is_some() {
                PolicyKind::ClusterProfilingPolicy
            } else {
                PolicyKind::ProfilingPolicy
            },
            namespace: self.namespaces.is_none().then_some(namespace),
            name: self.name,
            uid: self.name,
            created: self.created.parse().ok(),
            generation: None,
            spec: &self.spec,
            namespace_selector: self.namespaces.as_ref(),
            status: None,
        }
    }
}

/// The policy that selects everything.
pub fn all() -> Policy {
    Policy::new("all", "2026-01-01T00:00:00Z", json!({}))
}

/// Where agents may run as root; what holds by default has tests of its own.
pub fn cluster() -> ClusterRules {
    ClusterRules {
        excluded_namespaces: vec!["kube-system".into(), "fleetprof".into()],
        default_pod_security: PodSecurity::Privileged,
        allow_root: true,
        images: images(),
        attach_disabled: false,
        node_agents: None,
        agent_resources: Value::Null,
    }
}

pub fn images() -> AgentImages {
    AgentImages {
        default: "fleetprof-agent:0.1.0".into(),
        allowed: vec!["mirror.example/fleetprof-agent:*".into()],
    }
}

pub fn settings() -> AgentSettings {
    AgentSettings {
        pull_policy: "IfNotPresent".into(),
        gateway: "https://fleetprof-leader.fleetprof.svc:8443".into(),
        ca_bundle: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(),
        token_ttl_seconds: 3600,
    }
}

/// A small pod of user 1000.
pub fn pod() -> Value {
    json!({
        "metadata": {"generateName": "orders-", "labels": {"app": "orders"}},
        "spec": {"containers": [{"name": "orders", "image": "orders:1", "securityContext": {"runAsUser": 1000, "runAsGroup": 2000}}]},
    })
}

/// [`pod`] with `value` at the JSON pointer `path`.
pub fn pod_with(path: &str, value: Value) -> Value {
    edit(pod(), path, value)
}

/// `pod` with `value` at the JSON pointer `path`; objects on the way are made.
pub fn edit(mut pod: Value, path: &str, value: Value) -> Value {
    let mut at = &mut pod;
    for part in path.split('/').skip(1).map(|p| p.replace("~1", "/")) {
        at = match part.parse::<usize>() {
            Ok(index) if at.is_array() => &mut at[index],
            _ => &mut at[part.as_str()],
        };
    }
    *at = value;
    pod
}

pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// What happens to `pod` in the namespace `shop` with these labels.
pub fn outcome(pod: &Value, namespace_labels: &[(&str, &str)], policies: &[Policy]) -> Outcome {
    outcome_in("shop", pod, namespace_labels, policies)
}

pub fn outcome_in(
    namespace: &str,
    pod: &Value,
    namespace_labels: &[(&str, &str)],
    policies: &[Policy],
) -> Outcome {
    let (namespace_labels, cluster) = (labels(namespace_labels), cluster());
    let facts = AdmissionFacts {
        namespace,
        namespace_labels: Some(&namespace_labels),
        resources: &ResourceRules::default(),
        cluster: &cluster,
    };
    // As the webhook does: what it does not read is not there.
    let pod = read(&pod.to_string()).unwrap();
    inject(&pod, &facts, policies.iter().map(|p| p.view(namespace)), &settings(), |_, _| None).outcome
}

/// `pod` as the API server would have it after `outcome`.
pub fn applied(pod: &Value, outcome: &Outcome) -> Value {
    let mut pod = pod.clone();
    if let Outcome::Injected { patch, .. } = outcome {
        let patch: json_patch::Patch = serde_json::from_value(serde_json::to_value(patch).unwrap()).unwrap();
        json_patch::patch(&mut pod, &patch).expect("the patch applies");
    }
    pod
}
