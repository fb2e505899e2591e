//! Which session is asked for?

use fleetprof_crds::names::{GROUP, VERSION};
use fleetprof_crds::session::{PolicyRef, Target, WorkloadRef};
use fleetprof_crds::{Duration, ProfileKind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use crate::target::Named;

/// What the API server adds to a generated name has 5 characters, and a name at most 63.
const LONGEST_PREFIX: usize = 58;

/// A session before it is created.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) policy: Option<PolicyRef>,
    /// Nothing: all that the policy links.
    pub(super) target: Option<Target>,
    /// What it is named after, if that has a name.
    pub(super) named: Option<String>,
    pub(super) container: Option<String>,
    pub(super) duration: Duration,
    pub(super) kinds: Vec<ProfileKind>,
    pub(super) frequency: i32,
    pub(super) note: Option<String>,
}

/// The target of the arguments.
pub(super) fn target(named: Option<&Named>, selector: Option<&LabelSelector>) -> Option<Target> {
    match (named, selector) {
        (Some(Named::Workload { kind, name }), _) => Some(Target {
            workload: Some(WorkloadRef { kind: kind.clone(), name: name.clone() }),
            ..Target::default()
        }),
        (Some(Named::Pod(name)), _) => Some(pods(vec![name.clone()])),
        (None, Some(selector)) => Some(Target { pod_selector: Some(selector.clone()), ..Target::default() }),
        (None, None) => None,
    }
}

/// Pods by name.
pub(super) fn pods(names: Vec<String>) -> Target {
    Target { pods: Some(names), ..Target::default() }
}

impl Wish {
    /// The object to create.
    pub(super) fn session(&self, namespace: &str) -> Value {
        let mut kinds = self.kinds.clone();
        kinds.dedup();
        let mut spec = json!({
            "duration": self.duration, "profiles": kinds, "frequencyHz": self.frequency,
        });
        let given = [
            ("policyRef", self.policy.as_ref().map(|policy| json!(policy))),
            ("target", self.target.as_ref().map(|target| json!(target))),
            ("container", self.container.as_ref().map(|container| json!(container))),
            ("context", self.note.as_ref().map(|note| json!({"note": note}))),
        ];
        for (field, value) in given.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            spec[field] = value;
        }
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "ProfileSession",
            "metadata": {"generateName": self.prefix(), "namespace": namespace}, "spec": spec,
        })
    }

    fn prefix(&self) -> String {
        let after = self.named.as_deref().or(self.policy.as_ref().map(|policy| policy.name.as_str()));
        let cut: String = after.unwrap_or("pods").chars().take(LONGEST_PREFIX - "-now-".len()).collect();
        // Behind a dot, what comes next would begin with a hyphen, as no part of a name may.
        format!("{}-now-", cut.trim_end_matches(['.', '-']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(target: Option<Target>, named: Option<&str>) -> Wish {
        Wish {
            policy: Some(crate::target::policy("cppol/fleet").unwrap()),
            target,
            named: named.map(str::to_owned),
            container: None,
            duration: Duration::from_secs(30),
            kinds: vec![ProfileKind::Cpu, ProfileKind::Cpu, ProfileKind::Wall],
            frequency: 99,
            note: None,
        }
    }

    #[test]
    fn a_session_says_what_was_asked_for_and_nothing_else() {
        let orders = Named::Workload { kind: "Deployment".into(), name: "orders".into() };
        let session = wish(target(Some(&orders), None), Some("orders")).session("shop");
        assert_eq!(
            session,
            json!({
                "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
                "metadata": {"generateName": "orders-now-", "namespace": "shop"},
                "spec": {
                    "policyRef": {"kind": "ClusterProfilingPolicy", "name": "fleet"},
                    "target": {"workload": {"kind": "Deployment", "name": "orders"}},
                    "duration": "30s", "profiles": ["cpu", "wall"], "frequencyHz": 99,
                },
            })
        );
        let all = wish(None, None).session("shop");
        assert_eq!(all["metadata"]["generateName"], "fleet-now-");
        assert!(all["spec"].get("target").is_none());
    }

    #[test]
    fn pods_and_selectors_are_targets_and_long_names_fit() {
        let pod = target(Some(&Named::Pod("a".into())), None);
        assert_eq!(json!(pod), json!({"pods": ["a"]}));
        let selector = crate::selector::parse("app=orders").unwrap();
        assert_eq!(
            json!(target(None, Some(&selector))),
            json!({"podSelector": {"matchLabels": {"app": "orders"}}})
        );
        let long = wish(None, Some(&"x".repeat(253))).session("shop");
        assert_eq!(long["metadata"]["generateName"].as_str().map(str::len), Some(LONGEST_PREFIX));
    }

    #[test]
    fn a_name_that_is_cut_ends_as_the_api_server_allows() {
        let after = |name: &str| {
            let session = wish(None, Some(name)).session("shop");
            session["metadata"]["generateName"].as_str().unwrap().to_owned()
        };
        // A static pod of a node with a long name.
        assert_eq!(
            after("kube-controller-manager-ip-10-0-123-45.us-gov-west-1.compute.internal"),
            "kube-controller-manager-ip-10-0-123-45.us-gov-west-1-now-"
        );
        assert_eq!(after(&format!("{}-.-b", "x".repeat(50))), format!("{}-now-", "x".repeat(50)));
    }
}
