//! Which policy serves a target, which pods does it have, and what can its profile be compared with?

use fleetprof_core::view::Labels;
use fleetprof_crds::ProfileSession;
use fleetprof_crds::session::PolicyRef;
use fleetprof_crds::session_status::Phase;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Ask, Cluster};
use crate::exit::Failure;
use crate::paths;
use crate::policies::{self, Policy};
use crate::target::{self, Named};

/// The policy that serves the target.
///
/// # Errors
/// None does as far as the caller can see, or what is needed to tell cannot be read.
pub(super) async fn policy(
    cluster: &Cluster,
    namespace: &str,
    named: Option<&Named>,
    selector: Option<&LabelSelector>,
) -> Result<PolicyRef, Failure> {
    let (all, of_cluster) = policies::seen(cluster, Some(namespace)).await?;
    let found = find(cluster, namespace, (named, selector), &all).await?;
    found.ok_or_else(|| unserved(named, namespace, &all, of_cluster))
}

async fn find(
    cluster: &Cluster,
    namespace: &str,
    (named, selector): (Option<&Named>, Option<&LabelSelector>),
    all: &[Policy],
) -> Result<Option<PolicyRef>, Failure> {
    if let Some(Named::Workload { kind, name }) = named {
        let apps =
            all.iter().flat_map(|policy| policy.apps().map(move |(of, app)| (&policy.reference, of, app)));
        let here = apps.filter(|(_, of, _)| *of == namespace).map(|(policy, _, app)| (policy, app));
        return Ok(target::serving(here, kind, name));
    }
    let pods = matching(cluster, namespace, named, selector).await.map_err(|error| match error.status() {
        Some(403) => Failure::error(format!(
            "{error}\nor name the policy with --policy, which needs no right to read pods"
        )),
        _ => error,
    })?;
    let labels = policies::labels(cluster, namespace).await?;
    Ok(selecting(all, namespace, labels.as_ref(), &pods))
}

/// A session without a policy has other limits and needs other rights, so nobody gets one by a typing error.
fn unserved(named: Option<&Named>, namespace: &str, looked: &[Policy], of_cluster: bool) -> Failure {
    let what = match named {
        Some(Named::Workload { kind, name }) => format!("{kind}/{name}"),
        Some(Named::Pod(name)) => format!("pod/{name}"),
        None => "all of the selected pods".to_owned(),
    };
    let looked = match looked.is_empty() {
        true => "there are none".to_owned(),
        false => format!("looked at {}", looked.iter().map(Policy::shown).collect::<Vec<_>>().join(", ")),
    };
    let hidden = match of_cluster {
        true => "",
        false => "; you may not list ClusterProfilingPolicies",
    };
    Failure::usage(format!(
        "no policy serves {what} in namespace {namespace} ({looked}{hidden}): check the name, or pass --policy NAME \
         or --policy cppol/NAME, or --no-policy to profile without one"
    ))
}

/// The policy of the operator's choice that selects all of the pods.
fn selecting(all: &[Policy], namespace: &str, labels: Option<&Labels>, pods: &[Value]) -> Option<PolicyRef> {
    let label = |pod: &Value, key: &str| pod["metadata"]["labels"][key].as_str().map(str::to_owned);
    let selects = |selector: &LabelSelector, pod: &Value| {
        let labels = pod["metadata"]["labels"].as_object();
        let labels =
            labels.into_iter().flatten().filter_map(|(key, _)| Some((key.clone(), label(pod, key)?)));
        fleetprof_core::selector::selects(selector, &labels.collect())
    };
    if pods.is_empty() {
        return None;
    }
    let all_of_them = |selector: &LabelSelector| pods.iter().all(|pod| selects(selector, pod));
    policies::serving(all, namespace, labels, all_of_them).map(|(policy, _)| policy.reference.clone())
}

async fn matching(
    cluster: &Cluster,
    namespace: &str,
    named: Option<&Named>,
    selector: Option<&LabelSelector>,
) -> Result<Vec<Value>, Failure> {
    let all = format!("/api/v1/namespaces/{namespace}/pods");
    match (named, selector) {
        (Some(Named::Pod(name)), _) => Ok(vec![cluster.json(&Ask::get(format!("{all}/{name}"))).await?]),
        (_, Some(selector)) => {
            let text = query(selector)?;
            let list = cluster.json(&Ask::get(paths::with(&all, &[("labelSelector", &text)]))).await?;
            Ok(list["items"].as_array().cloned().unwrap_or_default())
        }
        _ => Ok(Vec::new()),
    }
}

fn query(selector: &LabelSelector) -> Result<String, Failure> {
    Selector::try_from(selector.clone())
        .map(|selector| selector.to_string())
        .map_err(|error| Failure::usage(format!("the selector cannot be used: {error}")))
}

/// Names of at most `most` pods of the target, for `--targets`.
///
/// # Errors
/// The target has no pods that run, is one pod, or is not of a kind whose pods are known.
pub(super) async fn pods(
    cluster: &Cluster,
    namespace: &str,
    named: Option<&Named>,
    selector: Option<&LabelSelector>,
    most: usize,
) -> Result<Vec<String>, Failure> {
    let of_workload = match named {
        Some(Named::Workload { kind, name }) => Some(selector_of(cluster, namespace, kind, name).await?),
        Some(Named::Pod(_)) => {
            return Err(Failure::usage("--targets is for several pods, and the target is one: omit it"));
        }
        None if selector.is_none() => {
            return Err(Failure::usage(
                "--targets needs a workload or a selector: with --policy alone, its sampling decides",
            ));
        }
        None => None,
    };
    let found = matching(cluster, namespace, None, of_workload.as_ref().or(selector)).await?;
    let names = running(&found, most);
    match names.is_empty() {
        true => Err(Failure::error(format!(
            "no pod of the target is running in namespace {namespace}: check kubectl get pods"
        ))),
        false => Ok(names),
    }
}

async fn selector_of(
    cluster: &Cluster,
    namespace: &str,
    kind: &str,
    name: &str,
) -> Result<LabelSelector, Failure> {
    let plural = match kind {
        "Deployment" => "deployments",
        "StatefulSet" => "statefulsets",
        "DaemonSet" => "daemonsets",
        "ReplicaSet" => "replicasets",
        other => {
            return Err(Failure::usage(format!(
                "--targets cannot find the pods of a {other}: use --selector instead"
            )));
        }
    };
    let object =
        cluster.json(&Ask::get(format!("/apis/apps/v1/namespaces/{namespace}/{plural}/{name}"))).await?;
    serde_json::from_value(object["spec"]["selector"].clone())
        .map_err(|error| Failure::error(format!("{kind}/{name} has no selector that can be read: {error}")))
}

/// Pods that run and are not being deleted, ready ones first, then by name.
fn running(pods: &[Value], most: usize) -> Vec<String> {
    let runs =
        |pod: &&Value| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null();
    let ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
    };
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<(bool, String)> = pods.iter().filter(runs).map(|pod| (!ready(pod), name(pod))).collect();
    all.sort();
    all.into_iter().take(most).map(|(_, name)| name).collect()
}

/// The newest other session that succeeded and that this one can be compared with: of the same workload, and with a
/// profile of the kind that is compared unless another is asked for, which is the first one. Sessions of several
/// workloads are compared with none: that both are of "3 apps" does not make them the same three.
pub(super) fn last_good(list: &Value, session: &ProfileSession) -> Option<String> {
    let (workload, kind) = (workload(session)?, session.spec.profiles.first()?);
    // What cannot be read, such as a session of a newer version, is passed over.
    let all = list["items"].as_array()?.iter().filter_map(|item| ProfileSession::deserialize(item).ok());
    let alike = all.filter(|other| {
        other.metadata.name != session.metadata.name
            && has_data(other)
            && other.spec.profiles.contains(kind)
            && self::workload(other) == Some(workload)
    });
    alike.max_by_key(end).and_then(|other| other.metadata.name)
}

/// Whether a session succeeded, and not with nothing.
fn has_data(session: &ProfileSession) -> bool {
    session.status.as_ref().is_some_and(|status| status.phase == Phase::Succeeded && status.samples > 0)
}

fn end(session: &ProfileSession) -> Option<Timestamp> {
    session.status.as_ref()?.end_time.as_ref().map(|time| time.0)
}

/// The workload of all targets of a session, as `Kind/name`; nothing if they are of several, or of an unknown one.
fn workload(session: &ProfileSession) -> Option<&str> {
    let targets = &session.status.as_ref()?.targets;
    let first = targets.first().map(|target| target.workload.as_str()).filter(|name| !name.is_empty())?;
    targets.iter().all(|target| target.workload == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ready_pods_come_first_and_ended_ones_never() {
        let pod = |name: &str, phase: &str, ready: &str| json!({"metadata": {"name": name}, "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
        let mut leaving = pod("a", "Running", "True");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let pods = [
            leaving,
            pod("d", "Running", "False"),
            pod("c", "Running", "True"),
            pod("b", "Succeeded", "True"),
            pod("e", "Running", "True"),
        ];
        assert_eq!(running(&pods, 2), ["c", "e"]);
        assert_eq!(running(&pods, 50), ["c", "e", "d"]);
    }

    fn item(name: &str, workloads: &[&str], phase: &str, end: &str, kinds: &Value) -> Value {
        let target = |workload| json!({"pod": "p", "container": "app", "workload": workload, "phase": phase});
        let targets: Vec<Value> = workloads.iter().map(target).collect();
        let status = json!({"phase": phase, "app": "orders", "samples": 5, "endTime": end, "targets": targets,
            "counts": {"desired": 1, "started": 1, "succeeded": 1, "failed": 0, "skipped": 0}});
        json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": {"name": name},
            "spec": {"policyRef": {"name": "shop"}, "duration": "30s", "profiles": kinds}, "status": status})
    }

    #[test]
    fn a_session_is_compared_with_the_last_good_one_of_its_workload_and_kind() {
        let cpu = json!(["cpu"]);
        let (orders, both) = (["Deployment/orders"; 2], ["Deployment/orders", "Deployment/cart"]);
        let good =
            |name: &str, workloads: &[&str], end, kinds| item(name, workloads, "Succeeded", end, kinds);
        let list = json!({"items": [
            good("new", &orders, "2026-01-09T00:00:00Z", &json!(["cpu", "wall"])),
            good("heap", &orders, "2026-01-08T00:00:00Z", &json!(["heap"])),
            good("old", &orders, "2026-01-02T00:00:00Z", &json!(["wall", "cpu"])),
            good("older", &orders[1..], "2026-01-01T00:00:00Z", &cpu),
            item("bad", &orders, "Failed", "2026-01-03T00:00:00Z", &cpu),
            good("other", &["StatefulSet/orders"], "2026-01-03T00:00:00Z", &cpu),
            good("many", &both, "2026-01-03T00:00:00Z", &cpu),
            good("more", &both, "2026-01-04T00:00:00Z", &cpu),
            good("none", &[], "2026-01-04T00:00:00Z", &cpu)]});
        let base = |name: &str| {
            let all = list["items"].as_array().unwrap();
            let session = all.iter().find(|item| item["metadata"]["name"] == name).unwrap();
            last_good(&list, &serde_json::from_value(session.clone()).unwrap())
        };
        assert_eq!(base("new").as_deref(), Some("old"));
        assert_eq!(base("older").as_deref(), Some("new"));
        for alone in ["other", "heap", "many", "none"] {
            assert_eq!(base(alone), None, "{alone}");
        }
    }

    /// As the operator writes it: what many targets have in common stands beside them.
    fn written(name: &str, end: &str, workloads: &[&str]) -> Value {
        let session = item(name, workloads, "Succeeded", end, &json!(["cpu"]));
        serde_json::to_value(ProfileSession::deserialize(session).unwrap()).unwrap()
    }

    #[test]
    fn sessions_of_many_targets_have_their_workload_in_common() {
        let (orders, mut mixed) = (["Deployment/orders"; 6], ["Deployment/orders"; 6]);
        mixed[5] = "Deployment/cart";
        let now = written("now", "2026-01-09T00:00:00Z", &orders);
        assert_eq!(now["status"]["targets"][0]["workload"], Value::Null, "{now}");
        let mut unreadable = written("unreadable", "2026-01-08T00:00:00Z", &orders);
        unreadable["status"]["samples"] = json!("many");
        let old = written("old", "2026-01-02T00:00:00Z", &orders);
        let few = written("few", "2026-01-01T00:00:00Z", &orders[..2]);
        let carts = written("carts", "2026-01-07T00:00:00Z", &["Deployment/cart"; 6]);
        let both = written("both", "2026-01-08T00:00:00Z", &mixed);
        let session = |object: &Value| ProfileSession::deserialize(object).unwrap();
        let list = json!({"items": [unreadable, few, old, carts, both, {}, now]});
        assert_eq!(last_good(&list, &session(&now)).as_deref(), Some("old"));
        assert_eq!(last_good(&list, &session(&few)).as_deref(), Some("now"));
        assert_eq!(last_good(&list, &session(&both)), None, "of several workloads");
        assert_eq!(last_good(&list, &session(&carts)), None, "the only one of its workload");
    }

    #[test]
    fn a_policy_serves_pods_that_it_selects_all() {
        let policy = |name: &str, selector: &str, created: &str| Policy {
            reference: target::policy(name).unwrap(),
            namespace: "shop".into(),
            spec: serde_json::from_value(json!({"selector": crate::selector::parse(selector).unwrap()})).ok(),
            namespaces: LabelSelector::default(),
            created: created.parse().ok(),
            status: fleetprof_crds::ProfilingPolicyStatus::default(),
        };
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let of_cluster = Policy { namespace: String::new(), ..policy("cppol/all", "kind=batch", old) };
        let policies = [
            policy("a-new", "app=orders", new),
            policy("one", "app=orders", old),
            policy("both", "tier=front", new),
            of_cluster,
        ];
        let pod = |app: &str| json!({"metadata": {"labels": {"app": app, "tier": "front"}}});
        let chosen = |pods: &[Value]| selecting(&policies, "shop", None, pods).map(|policy| policy.name);
        assert_eq!(chosen(&[pod("orders")]).as_deref(), Some("one"), "the oldest, as the operator takes it");
        let batch = json!({"metadata": {"labels": {"kind": "batch"}}});
        assert_eq!(chosen(&[batch]).as_deref(), Some("all"), "one of the cluster");
        assert_eq!(chosen(&[pod("orders"), pod("cart")]).as_deref(), Some("both"));
        assert_eq!(chosen(&[json!({"metadata": {}})]), None);
        assert_eq!(chosen(&[]), None, "no pods tell nothing");
        let typo = Named::Workload { kind: "Deployment".into(), name: "ordres".into() };
        let said = unserved(Some(&typo), "shop", &policies[2..], false);
        assert_eq!(said.exit(), crate::exit::Exit::Usage);
        assert_eq!(
            said.to_string(),
            "no policy serves Deployment/ordres in namespace shop (looked at ppol/both, cppol/all; you may not \
             list ClusterProfilingPolicies): check the name, or pass --policy NAME or --policy cppol/NAME, or \
             --no-policy to profile without one"
        );
    }
}
