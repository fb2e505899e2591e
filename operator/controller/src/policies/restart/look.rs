//! How does a workload stand, and what protects its pods? Read from the API server when a restart is at hand.

use std::collections::{BTreeSet, HashMap};

use fleetprof_core::policy::restart::{BudgetFacts, Key, Seen, WorkloadFacts};
use fleetprof_crds::names;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;

use super::super::Context;
use crate::client::kept;

/// Objects of a page of a list.
const PAGE: u32 = 250;

/// Workloads and budgets as they were found.
#[derive(Default)]
pub struct Found {
    /// As the decision wants them.
    pub seen: Seen,
    /// Which objects they were.
    pub identities: HashMap<Key, Identity>,
}

/// Which object it was, in which version.
pub struct Identity {
    /// Its uid.
    pub uid: String,
    /// Its resource version: a change since then makes a patch fail.
    pub resource_version: String,
}

/// Looks at workloads, and at the budgets of their namespaces.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn at(keys: &[Key], context: &Context) -> kube::Result<Found> {
    let mut found = Found::default();
    for key in keys {
        let facts = match key.workload.kind.as_str() {
            "Deployment" => get::<Deployment>(key, context).await?.map(|d| (deployment(&d), identity(&d))),
            "StatefulSet" => {
                get::<StatefulSet>(key, context).await?.map(|s| (stateful_set(&s), identity(&s)))
            }
            _ => get::<DaemonSet>(key, context).await?.map(|d| (daemon_set(&d), identity(&d))),
        };
        let (facts, identity) = facts.unzip();
        found.seen.workloads.insert(key.clone(), facts);
        found.identities.extend(identity.map(|i| (key.clone(), i)));
    }
    let namespaces: BTreeSet<&str> = keys.iter().map(|k| k.namespace.as_str()).collect();
    for namespace in namespaces {
        let api = Api::<PodDisruptionBudget>::namespaced(context.client.clone(), namespace);
        let params = ListParams::default().limit(PAGE);
        found.seen.budgets.extend(kept(&api, params, usize::MAX, |found| budget(namespace, found)).await?);
    }
    Ok(found)
}

/// Patches a workload.
///
/// # Errors
/// What the API server answered: a conflict when the workload was changed since it was looked at.
pub async fn patch(key: &Key, body: &Value, context: &Context) -> kube::Result<()> {
    let (params, patch) = (
        PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() },
        Patch::Merge(body),
    );
    let (client, namespace, name) =
        (context.client.clone(), key.namespace.as_str(), key.workload.name.as_str());
    match key.workload.kind.as_str() {
        "Deployment" => {
            Api::<Deployment>::namespaced(client, namespace).patch(name, &params, &patch).await.map(drop)
        }
        "StatefulSet" => {
            Api::<StatefulSet>::namespaced(client, namespace).patch(name, &params, &patch).await.map(drop)
        }
        _ => Api::<DaemonSet>::namespaced(client, namespace).patch(name, &params, &patch).await.map(drop),
    }
}

async fn get<K>(key: &Key, context: &Context) -> kube::Result<Option<K>>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    Api::<K>::namespaced(context.client.clone(), &key.namespace).get_opt(&key.workload.name).await
}

fn identity<K: Resource>(object: &K) -> Identity {
    Identity {
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version().unwrap_or_default(),
    }
}

fn deployment(found: &Deployment) -> WorkloadFacts {
    let (spec, status) = (found.spec.clone().unwrap_or_default(), found.status.clone().unwrap_or_default());
    let desired = spec.replicas.unwrap_or(1);
    let n = |count: Option<i32>| count.unwrap_or(0);
    let (updated, available) = (n(status.updated_replicas), n(status.available_replicas));
    WorkloadFacts {
        unfit: unfit(found, spec.paused.unwrap_or(false).then_some("its rollout is paused")),
        settled: status.observed_generation == found.metadata.generation
            && [n(status.replicas), updated, available].iter().all(|c| *c == desired),
        ready: (updated - (n(status.replicas) - available)).max(0),
        desired,
        restarted_for: restarted_for(&spec.template),
        changed_by: changed_by(found),
        selector: spec.selector,
    }
}

fn stateful_set(found: &StatefulSet) -> WorkloadFacts {
    let (spec, status) = (found.spec.clone().unwrap_or_default(), found.status.clone().unwrap_or_default());
    let desired = spec.replicas.unwrap_or(1);
    let (updated, ready) = (status.updated_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let held = strategy.rolling_update.and_then(|r| r.partition).is_some_and(|p| p > 0);
    let why = match strategy.type_.as_deref() {
        Some("OnDelete") => Some("its updateStrategy OnDelete does not restart pods"),
        _ => held.then_some("its updateStrategy has a partition"),
    };
    let one_revision = status.current_revision == status.update_revision;
    WorkloadFacts {
        unfit: unfit(found, why),
        settled: status.observed_generation == found.metadata.generation
            && one_revision
            && [status.replicas, ready].iter().all(|c| *c == desired),
        ready: if one_revision { ready } else { (updated - (status.replicas - ready)).max(0) },
        desired,
        restarted_for: restarted_for(&spec.template),
        changed_by: changed_by(found),
        selector: spec.selector,
    }
}

fn daemon_set(found: &DaemonSet) -> WorkloadFacts {
    let (spec, status) = (found.spec.clone().unwrap_or_default(), found.status.clone().unwrap_or_default());
    let desired = status.desired_number_scheduled;
    let updated = status.updated_number_scheduled.unwrap_or(0);
    let on_delete = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("OnDelete");
    WorkloadFacts {
        unfit: unfit(found, on_delete.then_some("its updateStrategy OnDelete does not restart pods")),
        settled: status.observed_generation == found.metadata.generation
            && [updated, status.number_ready].iter().all(|c| *c == desired),
        ready: (updated - (desired - status.number_ready)).max(0),
        desired,
        restarted_for: restarted_for(&spec.template),
        changed_by: changed_by(found),
        selector: spec.selector,
    }
}

fn unfit<K: Resource>(object: &K, why: Option<&str>) -> Option<String> {
    let deleted = object.meta().deletion_timestamp.is_some().then_some("it is being deleted");
    deleted.or(why).map(str::to_owned)
}

/// Who else than fleetprof wrote the pod template last.
fn changed_by<K: Resource>(object: &K) -> Option<String> {
    let managers = object.meta().managed_fields.iter().flatten();
    let others = managers.filter(|entry| {
        entry.subresource.as_deref().unwrap_or_default().is_empty()
            && entry.manager.as_deref() != Some(names::FIELD_MANAGER)
            && entry.fields_v1.as_ref().is_some_and(|f| f.0.pointer("/f:spec/f:template").is_some())
    });
    others.max_by_key(|entry| entry.time.as_ref().map(|t| t.0))?.manager.clone()
}

fn restarted_for(template: &PodTemplateSpec) -> Option<String> {
    template.metadata.as_ref()?.annotations.as_ref()?.get(names::RESTARTED_FOR_ANNOTATION).cloned()
}

/// A budget without a selector protects nothing; one that its controller has not seen yet allows nothing.
fn budget(namespace: &str, found: PodDisruptionBudget) -> Option<BudgetFacts> {
    let generation = found.metadata.generation;
    let current =
        |s: &k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus| s.observed_generation >= generation;
    Some(BudgetFacts {
        namespace: namespace.to_owned(),
        name: found.name_any(),
        selector: found.spec?.selector?,
        allowed: found.status.filter(current).map_or(0, |s| s.disruptions_allowed),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    fn a_deployment(spec: Value, status: Value) -> WorkloadFacts {
        let mut spec = spec;
        (spec["selector"], spec["template"]) =
            (json!({}), json!({"metadata": {"annotations": {"fleetprof.dev/restarted-for": "2"}}}));
        deployment(&of(json!({"metadata": {"name": "a", "generation": 3}, "spec": spec, "status": status})))
    }

    #[test]
    fn a_deployment_is_settled_when_all_pods_are_new_and_available_and_nothing_is_left_over() {
        let status = |seen: i64, all: i32, updated: i32, available: i32| json!({"observedGeneration": seen, "replicas": all, "updatedReplicas": updated, "availableReplicas": available});
        let cases = [
            (status(3, 2, 2, 2), true, 2),
            (status(2, 2, 2, 2), false, 2),
            (status(3, 3, 1, 2), false, 0),
            (status(3, 3, 2, 3), false, 2),
            (status(3, 2, 2, 1), false, 1),
            (json!({}), false, 0),
        ];
        for (status, settled, ready) in cases {
            let facts = a_deployment(json!({"replicas": 2}), status.clone());
            assert_eq!((facts.settled, facts.ready, facts.desired), (settled, ready, 2), "{status}");
            assert_eq!((facts.unfit, facts.restarted_for.as_deref()), (None, Some("2")));
        }
        assert!(a_deployment(json!({"paused": true}), json!({})).unfit.unwrap().contains("paused"));
    }

    #[test]
    fn a_stateful_set_or_daemon_set_that_does_not_restart_its_pods_is_unfit() {
        let set = |strategy: Value, status: Value| {
            stateful_set(&of(
                json!({"metadata": {"generation": 1}, "spec": {"replicas": 2, "serviceName": "a", "selector": {}, "template": {}, "updateStrategy": strategy}, "status": status}),
            ))
        };
        let good = json!({"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "currentRevision": "r", "updateRevision": "r"});
        let halfway = json!({"observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 1, "currentRevision": "r", "updateRevision": "s"});
        let rolling = json!({"type": "RollingUpdate"});
        assert!(set(rolling.clone(), good.clone()).settled);
        let facts = set(rolling, halfway);
        assert_eq!((facts.settled, facts.ready), (false, 1));
        assert!(set(json!({"type": "OnDelete"}), good.clone()).unfit.unwrap().contains("OnDelete"));
        assert!(
            set(json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}), good)
                .unfit
                .unwrap()
                .contains("partition")
        );
        let daemon = |strategy: &str| {
            daemon_set(&of(
                json!({"metadata": {"generation": 1}, "spec": {"selector": {}, "template": {}, "updateStrategy": {"type": strategy}},
                "status": {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberReady": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0}}),
            ))
        };
        assert!(
            daemon("RollingUpdate").settled
                && daemon("RollingUpdate").unfit.is_none()
                && daemon("OnDelete").unfit.is_some()
        );
    }

    #[test]
    fn who_else_changed_a_workload_last_is_known_by_name() {
        let entry = |manager: &str, time: &str, subresource: &str| json!({"manager": manager, "time": time, "subresource": subresource, "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {}}}});
        let managers = json!([
            entry("helm", "2026-01-01T00:00:00Z", ""),
            entry("db-operator", "2026-01-02T00:00:00Z", ""),
            entry(names::FIELD_MANAGER, "2026-01-03T00:00:00Z", ""),
            entry("kube-controller-manager", "2026-01-04T00:00:00Z", "status"),
            {"manager": "autoscaler", "time": "2026-01-05T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        ]);
        let found: Deployment = of(json!({
            "metadata": {"name": "a", "managedFields": managers},
            "spec": {"selector": {}, "template": {}},
        }));
        assert_eq!(deployment(&found).changed_by.as_deref(), Some("db-operator"));
    }

    #[test]
    fn a_budget_that_is_not_known_allows_nothing() {
        let a = |spec: Value, status: Value| {
            budget(
                "shop",
                of(json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status})),
            )
        };
        let counts = |seen: i64| json!({"observedGeneration": seen, "disruptionsAllowed": 1, "currentHealthy": 1, "desiredHealthy": 0, "expectedPods": 1});
        let selector = json!({"selector": {"matchLabels": {"app": "a"}}});
        assert_eq!(a(selector.clone(), counts(2)).unwrap().allowed, 1);
        assert_eq!(a(selector.clone(), counts(1)).unwrap().allowed, 0);
        assert_eq!(a(selector, Value::Null).unwrap().allowed, 0);
        assert!(a(json!({}), counts(2)).is_none());
    }
}
