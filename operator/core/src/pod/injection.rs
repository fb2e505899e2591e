//! What do the injection rules read of a pod?

use fleetprof_crds::names;
use k8s_openapi::api::core::v1::{
    Container, Pod, PodAffinityTerm, PodSpec, ResourceRequirements, WeightedPodAffinityTerm,
};
use serde_json::{Map, Value, json};

/// The fields of a pod that the injection rules read, in the structure of the pod. Names are only kept if
/// they belong to fleetprof; others, such as those of service account token volumes, differ for each pod.
pub(super) fn view(pod: &Pod) -> Value {
    let Some(spec) = &pod.spec else { return Value::Null };
    let ours = |name: &&String| [names::SIDECAR_NAME, names::TOKEN_VOLUME].contains(&name.as_str());
    let named = |all: Vec<&String>| {
        all.into_iter().filter(ours).map(|name| json!({"name": name})).collect::<Vec<_>>()
    };
    let init = |c: &Container| json!({"name": Some(&c.name).filter(ours), "restartPolicy": c.restart_policy, "resources": amounts(c.resources.as_ref())});
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|k, _| {
        k == names::DEFAULT_CONTAINER_ANNOTATION
            || k == names::MIRROR_ANNOTATION
            || k == names::REFUSED_ANNOTATION
            || k == "kubernetes.io/config.source"
    });
    json!({
        "metadata": {
            "labels": pod.metadata.labels.clone().unwrap_or_default(), "annotations": annotations,
            "ownerReferences": pod.metadata.owner_references.iter().flatten().map(|o| json!({"kind": o.kind})).collect::<Vec<_>>(),
        },
        "spec": {
            "hostPID": spec.host_pid, "hostIPC": spec.host_ipc, "shareProcessNamespace": spec.share_process_namespace, "os": spec.os,
            "nodeSelector": spec.node_selector, "affinity": affinity(spec), "securityContext": spec.security_context,
            "containers": spec.containers.iter().map(|c| json!({"name": c.name, "securityContext": c.security_context, "resources": amounts(c.resources.as_ref())})).collect::<Vec<_>>(),
            "initContainers": spec.init_containers.iter().flatten().map(init).collect::<Vec<_>>(),
            "resources": amounts(spec.resources.as_ref()), "overhead": spec.overhead,
            "activeDeadlineSeconds": spec.active_deadline_seconds,
            "priorityClassName": spec.priority_class_name,
            "volumes": named(spec.volumes.iter().flatten().map(|v| &v.name).collect()),
        }
    })
    .as_object()
    .map(|o| drop_nulls(Value::Object(o.clone())))
    .unwrap_or_default()
}

fn affinity(spec: &PodSpec) -> Option<Value> {
    let affinity = spec.affinity.as_ref()?;
    let nodes = affinity.node_affinity.as_ref();
    let nodes = nodes.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
    let near = affinity.pod_affinity.as_ref().and_then(|near| {
        let required = near.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = near.preferred_during_scheduling_ignored_during_execution.as_deref();
        terms(required.unwrap_or_default(), preferred.unwrap_or_default())
    });
    let far = affinity.pod_anti_affinity.as_ref().and_then(|far| {
        let required = far.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = far.preferred_during_scheduling_ignored_during_execution.as_deref();
        terms(required.unwrap_or_default(), preferred.unwrap_or_default())
    });
    let nodes = nodes.map(|nodes| json!({"requiredDuringSchedulingIgnoredDuringExecution": nodes}));
    let all = [("nodeAffinity", nodes), ("podAffinity", near), ("podAntiAffinity", far)];
    let known: Map<String, Value> =
        all.into_iter().filter_map(|(kind, terms)| Some((kind.to_owned(), terms?))).collect();
    (!known.is_empty()).then_some(Value::Object(known))
}

/// The terms that name namespaces: no rule asks for the others, nor which of them are required.
fn terms(required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm]) -> Option<Value> {
    let all = required.iter().chain(preferred.iter().map(|item| &item.pod_affinity_term));
    let named = all.filter(|term| term.namespace_selector.is_some() || term.namespaces.is_some());
    let named: Vec<Value> = named
        .map(|term| json!({"namespaces": term.namespaces, "namespaceSelector": term.namespace_selector}))
        .collect();
    (!named.is_empty()).then(|| json!({"requiredDuringSchedulingIgnoredDuringExecution": named}))
}

fn amounts(resources: Option<&ResourceRequirements>) -> Option<Value> {
    let resources = resources?;
    Some(json!({"requests": resources.requests, "limits": resources.limits}))
}

fn drop_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, drop_nulls(v))).collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(drop_nulls).collect()),
        other => other,
    }
}
