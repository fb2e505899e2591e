//! What does `deploy/orders` mean? The words of kubectl for what is profiled.

use fleetprof_crds::policy_status::LinkedApp;
use fleetprof_crds::session::{PolicyKind, PolicyRef};

use crate::paths;

/// One thing in the namespace that can be profiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// All pods of a workload, or as many as the policy samples.
    Workload {
        /// As in `status.linkedApps`, such as `Deployment`.
        kind: String,
        /// Its name.
        name: String,
    },
    /// One pod.
    Pod(String),
}

/// Kinds of workloads under kubectl's names.
const KINDS: [(&str, &[&str]); 7] = [
    ("Deployment", &["deploy", "deployment", "deployments", "deployment.apps", "deployments.apps"]),
    ("StatefulSet", &["sts", "statefulset", "statefulsets", "statefulset.apps", "statefulsets.apps"]),
    ("DaemonSet", &["ds", "daemonset", "daemonsets", "daemonset.apps", "daemonsets.apps"]),
    ("ReplicaSet", &["rs", "replicaset", "replicasets", "replicaset.apps", "replicasets.apps"]),
    ("Job", &["job", "jobs", "job.batch", "jobs.batch"]),
    ("CronJob", &["cj", "cronjob", "cronjobs", "cronjob.batch", "cronjobs.batch"]),
    ("Rollout", &["ro", "rollout", "rollouts", "rollout.argoproj.io", "rollouts.argoproj.io"]),
];

/// Reads `TYPE/NAME`, or the name of a pod.
pub(crate) fn named(text: &str) -> Result<Named, String> {
    let Some((kind, of_kind)) = text.split_once('/') else { return paths::name(text).map(Named::Pod) };
    let name = paths::name(of_kind)?;
    let word = kind.to_lowercase();
    if ["po", "pod", "pods"].contains(&word.as_str()) {
        return Ok(Named::Pod(name));
    }
    if let Some((known, _)) = KINDS.iter().find(|(_, words)| words.contains(&word.as_str())) {
        return Ok(Named::Workload { kind: (*known).to_owned(), name });
    }
    // Any other kind by its own name, as `status.linkedApps` lists it.
    let own =
        kind.starts_with(|c: char| c.is_ascii_uppercase()) && kind.chars().all(|c| c.is_ascii_alphanumeric());
    match own {
        true => Ok(Named::Workload { kind: kind.to_owned(), name }),
        false => Err(format!(
            "{kind:?} is not a kind that can be profiled: use deploy, sts, ds, rs, job, cronjob, pod, or a \
             kind as kubectl fleetprof apps lists it"
        )),
    }
}

impl Named {
    /// The name alone.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Workload { name, .. } | Self::Pod(name) => name,
        }
    }
}

/// Reads `NAME` or `cppol/NAME`.
pub(crate) fn policy(text: &str) -> Result<PolicyRef, String> {
    let (kind, name) = match text.split_once('/') {
        None => (PolicyKind::ProfilingPolicy, text),
        Some((kind, name)) => {
            let kind = kind.to_lowercase();
            match kind.split('.').next().unwrap_or_default() {
                "ppol" | "profilingpolicy" | "profilingpolicies" => (PolicyKind::ProfilingPolicy, name),
                "cppol" | "clusterprofilingpolicy" | "clusterprofilingpolicies" => {
                    (PolicyKind::ClusterProfilingPolicy, name)
                }
                _ => return Err(format!("{kind:?} is not a kind of policy: use ppol/NAME or cppol/NAME")),
            }
        }
    };
    Ok(PolicyRef { kind, name: paths::name(name)? })
}

/// The policy that serves a workload, of those that list it. One in the namespace comes before one of the
/// cluster, and one that can profile it before one that cannot.
pub(crate) fn serving<'a>(
    listed: impl Iterator<Item = (&'a PolicyRef, &'a LinkedApp)>,
    kind: &str,
    name: &str,
) -> Option<PolicyRef> {
    let of_workload = listed.filter(|(_, app)| app.kind == kind && app.name == name);
    let best = of_workload.min_by_key(|(policy, app)| {
        let linked = if app.linked > 0 { 0 } else { 1 };
        (linked, policy.kind == PolicyKind::ClusterProfilingPolicy)
    });
    best.map(|(policy, _)| policy.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn targets_are_named_as_for_kubectl() {
        let workload = |kind: &str| Ok(Named::Workload { kind: kind.into(), name: "x".into() });
        let cases = [
            ("deploy/x", workload("Deployment")),
            ("Deployment/x", workload("Deployment")),
            ("statefulsets.apps/x", workload("StatefulSet")),
            ("ds/x", workload("DaemonSet")),
            ("cj/x", workload("CronJob")),
            ("DeploymentConfig/x", workload("DeploymentConfig")),
            ("pod/x", Ok(Named::Pod("x".into()))),
            ("x", Ok(Named::Pod("x".into()))),
        ];
        for (text, wanted) in cases {
            assert_eq!(named(text), wanted, "{text}");
        }
        for bad in ["svc/x", "deploy/", "deploy/x/y", "", "deploy/X"] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn policies_are_of_the_namespace_unless_said_otherwise() {
        let kind = |text| policy(text).map(|policy| (policy.kind, policy.name));
        assert_eq!(kind("shop"), Ok((PolicyKind::ProfilingPolicy, "shop".into())));
        assert_eq!(kind("ppol/shop"), Ok((PolicyKind::ProfilingPolicy, "shop".into())));
        assert_eq!(
            kind("clusterprofilingpolicies.fleetprof.dev/fleet"),
            Ok((PolicyKind::ClusterProfilingPolicy, "fleet".into()))
        );
        assert!(kind("pod/shop").is_err() && kind("a/../b").is_err());
    }

    #[test]
    fn the_policy_of_the_namespace_serves_before_that_of_the_cluster() {
        let app = |name: &str, linked: i32| -> LinkedApp {
            serde_json::from_value(json!({"kind": "Deployment", "name": name, "pods": 1, "linked": linked, "state": "Linked", "reason": "Linked"})).unwrap()
        };
        let of = |text| policy(text).unwrap();
        let chosen = |rows: &[(PolicyRef, LinkedApp)]| {
            serving(rows.iter().map(|(policy, app)| (policy, app)), "Deployment", "orders")
                .map(|policy| policy.name)
        };
        let (cluster, own) = ((of("cppol/fleet"), app("orders", 1)), (of("shop"), app("orders", 1)));
        assert_eq!(chosen(&[cluster.clone(), own]).as_deref(), Some("shop"));
        let overridden = (of("shop"), app("orders", 0));
        assert_eq!(chosen(&[overridden, cluster]).as_deref(), Some("fleet"), "it can profile it");
        assert_eq!(chosen(&[(of("shop"), app("worker", 1))]), None);
    }
}
