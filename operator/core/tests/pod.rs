//! What is known of a pod, and what the webhook's rules say of it later.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_core::agent::PodSecurity;
use fleetprof_core::inject::{AdmissionFacts, ClusterRules, ResourceRules, Verdict, judge};
use fleetprof_core::pod::{PodFacts, SharedFacts, User};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::{ProfilingPolicy, Reason};
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

fn facts(spec: &Value, status: &Value) -> PodFacts {
    let pod =
        json!({"metadata": {"name": "a", "namespace": "shop", "uid": "u"}, "spec": spec, "status": status});
    PodFacts::of(&serde_json::from_value(pod).unwrap()).unwrap()
}

#[test]
fn the_container_says_its_user_before_the_pod_and_the_pod_before_the_runtime() {
    let seen = json!({"linux": {"uid": 3, "gid": 30}});
    let user = |uid, gid, non_root| User { uid, gid, non_root };
    // (container, pod, runtime, user)
    let cases = [
        (json!({}), json!({}), json!(null), User::default()),
        (json!({}), json!({}), seen.clone(), user(Some(3), Some(30), false)),
        (
            json!({"runAsUser": 1}),
            json!({"runAsUser": 2, "runAsGroup": 20}),
            seen.clone(),
            user(Some(1), Some(20), false),
        ),
        (json!({}), json!({"runAsNonRoot": true}), json!(null), user(None, None, true)),
        (json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), seen, user(Some(3), Some(30), true)),
        (json!({"runAsNonRoot": false}), json!({"runAsNonRoot": true}), json!(null), User::default()),
    ];
    for (container, pod, runtime, expected) in cases {
        let spec =
            json!({"securityContext": pod, "containers": [{"name": "app", "securityContext": container}]});
        let status = json!({"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0, "user": runtime});
        let facts = facts(&spec, &json!({"containerStatuses": [status]}));
        assert_eq!(facts.containers[0].user, expected, "{spec}");
    }
}

#[test]
fn an_attached_agent_keeps_a_share_of_what_the_pod_may_store() {
    let container = |limit: Option<&str>| json!({"name": "a", "resources": {"limits": limit.map(|l| json!({"ephemeral-storage": l}))}});
    for (containers, mib) in [
        (vec![container(None)], 64),
        (vec![container(Some("60Mi"))], 6),
        (vec![container(Some("60Mi")), container(Some("140Mi")), container(None)], 20),
        (vec![container(Some("9Gi"))], 64),
    ] {
        let spec = json!({"containers": containers});
        assert_eq!(facts(&spec, &json!({})).spool_limit(), mib << 20, "{spec}");
    }
}

/// Two quotas on memory limits of which nothing is left, for pods with a deadline and for those of a class.
fn quotas() -> Vec<Arc<ResourceQuota>> {
    let class = json!([{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]);
    let specs = [json!({"scopes": ["Terminating"]}), json!({"scopeSelector": {"matchExpressions": class}})];
    let quota = |spec: Value| json!({"spec": spec, "status": {"hard": {"limits.memory": "0"}}});
    specs.map(|spec| Arc::new(serde_json::from_value(quota(spec)).unwrap())).into()
}

/// What the webhook's rules say of what is kept of a pod without an agent.
fn refusal(spec: &Value) -> Option<Reason> {
    let facts = facts(spec, &json!({}));
    let view = serde_json::from_str(facts.uninjected.as_deref().unwrap()).unwrap();
    let policy = json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "metadata": {"name": "p", "namespace": "shop"}, "spec": {"selector": {}}});
    let policy: ProfilingPolicy = serde_json::from_value(policy).unwrap();
    let cluster = ClusterRules {
        excluded_namespaces: vec![],
        default_pod_security: PodSecurity::Privileged,
        allow_root: true,
        ..ClusterRules::default()
    };
    let (labels, resources) =
        (BTreeMap::new(), ResourceRules { quotas: quotas(), ..ResourceRules::default() });
    let facts = AdmissionFacts {
        namespace: "shop",
        namespace_labels: Some(&labels),
        resources: &resources,
        cluster: &cluster,
    };
    let verdict = judge(&view, &facts, [PolicyView::from(&policy)]);
    assert!(matches!(verdict, Verdict::Skip(_) | Verdict::Inject { .. }), "{verdict:?}");
    if let Verdict::Skip(skip) = verdict { Some(skip.reason) } else { None }
}

#[test]
fn what_is_kept_of_a_pod_tells_why_it_has_no_agent() {
    let of_windows =
        json!({"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["windows"]}]});
    let of_windows =
        json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [of_windows]}});
    let cases = [
        (json!({}), None),
        (json!({"hostPID": true}), Some(Reason::HostPid)),
        (json!({"os": {"name": "windows"}}), Some(Reason::WindowsNode)),
        (json!({"nodeSelector": {"kubernetes.io/os": "windows"}}), Some(Reason::WindowsNode)),
        (json!({"affinity": {"nodeAffinity": of_windows}}), Some(Reason::WindowsNode)),
        (json!({"affinity": {"podAffinity": {}}}), None),
        (json!({"securityContext": {"runAsNonRoot": true}}), Some(Reason::UnknownUser)),
        (json!({"volumes": [{"name": "fleetprof-token"}]}), Some(Reason::NameConflict)),
        (json!({"activeDeadlineSeconds": 60}), Some(Reason::ResourcesConflict)),
        (json!({"priorityClassName": "high"}), Some(Reason::ResourcesConflict)),
        (json!({"priorityClassName": "low"}), None),
    ];
    for (mut spec, reason) in cases {
        spec["containers"] = json!([{"name": "app"}]);
        assert_eq!(refusal(&spec), reason, "{spec}");
    }
}

#[test]
fn replicas_have_in_common_what_is_the_same_for_all_of_them() {
    let mut shared = SharedFacts::default();
    let mut replica = |name: &str| {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5f", "uid": "rs", "controller": true});
        let pod = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": "web"}, "ownerReferences": [owner]},
            "spec": {"nodeName": "n1", "containers": [{"name": "app"}], "volumes": [{"name": format!("kube-api-access-{name}")}]},
        });
        let mut facts = PodFacts::of(&serde_json::from_value(pod).unwrap()).unwrap();
        shared.share(&mut facts);
        facts
    };
    let (a, b) = (replica("a"), replica("b"));
    assert_ne!(a.name, b.name);
    assert!(
        Arc::ptr_eq(&a.namespace, &b.namespace)
            && Arc::ptr_eq(&a.node, &b.node)
            && Arc::ptr_eq(&a.workload, &b.workload)
    );
    assert!(Arc::ptr_eq(&a.labels, &b.labels) && Arc::ptr_eq(&a.containers[0].name, &b.containers[0].name));
    assert!(
        Arc::ptr_eq(&a.owner.unwrap(), &b.owner.unwrap())
            && Arc::ptr_eq(&a.uninjected.unwrap(), &b.uninjected.unwrap())
    );
}
