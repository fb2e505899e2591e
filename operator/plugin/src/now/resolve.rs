//! Which policy serves a target, which pods does it have, and what can its profile be compared with?

use fleetprof_core::view::Labels;
use fleetprof_crds::session::PolicyRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
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
        true => "there is none".to_owned(),
        false => format!("looked at {}", looked.iter().map(Policy::shown).collect::<Vec<_>>().join(", ")),
    };
    let hidden = match of_cluster {
        true => "",
        false => ", and at none of the cluster, which you may not list",
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
        .map_err(|error| Failure::usage(format!("the selector cannot be asked for: {error}")))
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
            "no pod of the target runs in namespace {namespace}: check kubectl get pods"
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
                "--targets does not know the pods of a {other}: use --selector instead"
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

/// The newest other session of the app that succeeded.
pub(super) fn last_good(list: &Value, name: &str, app: &str) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let good = list["items"].as_array()?.iter().filter(|item| {
        let status = &item["status"];
        status["phase"] == "Succeeded" && status["app"] == app && status["samples"].as_i64() > Some(0)
    });
    let others = good.filter(|item| item["metadata"]["name"] != name);
    others.max_by_key(|item| text(&item["status"]["endTime"])).map(|item| text(&item["metadata"]["name"]))
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

    #[test]
    fn a_session_is_compared_with_the_last_good_one_of_its_app() {
        let item = |name: &str, app: &str, phase: &str, end: &str| json!({"metadata": {"name": name}, "status": {"phase": phase, "app": app, "samples": 5, "endTime": end}});
        let list = json!({"items": [
            item("new", "Deployment/orders", "Succeeded", "2026-01-09T00:00:00Z"),
            item("old", "Deployment/orders", "Succeeded", "2026-01-02T00:00:00Z"),
            item("older", "Deployment/orders", "Succeeded", "2026-01-01T00:00:00Z"),
            item("bad", "Deployment/orders", "Failed", "2026-01-03T00:00:00Z"),
            item("other", "Deployment/worker", "Succeeded", "2026-01-03T00:00:00Z")]});
        assert_eq!(last_good(&list, "new", "Deployment/orders").as_deref(), Some("old"));
        assert_eq!(last_good(&list, "other", "Deployment/worker"), None);
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
            "no policy serves Deployment/ordres in namespace shop (looked at ppol/both, cppol/all, and at none of \
             the cluster, which you may not list): check the name, or pass --policy NAME or --policy cppol/NAME, \
             or --no-policy to profile without one"
        );
    }
}
