//! How many bytes are kept of objects that somebody made as large as can be, and is everything kept of usual ones?

use std::fmt::Debug;

use fleetprof_core::pod::{OptOut, PodFacts};
use fleetprof_crds::{ClusterProfilingPolicy, ProfilingPolicy};
use k8s_openapi::api::core::v1::Pod;
use kube_runtime::watcher::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::watched::{Cache, Guarded, Pods, WatchMetrics};

/// Objects of each kind.
const NUMBER: usize = 20;

/// Metadata of about 1 MB.
fn large(n: usize) -> Value {
    let text = "x".repeat(240_000);
    let mut meta = json!({
        "name": format!("o{n}"), "namespace": "shop", "uid": format!("u{n}"), "resourceVersion": "7", "generation": 2,
        "finalizers": (0..1000).map(|i| format!("example.com/{i}-{}", "f".repeat(200))).collect::<Vec<_>>(),
        "annotations": {"example.com/note": text, "fleetprof.dev/keep": text, "fleetprof.dev/any": text},
        "labels": (0..2000).map(|i| (format!("example.com/{i}"), json!("v".repeat(60)))).collect::<Map<_, _>>(),
        "managedFields": [{"manager": text}],
    });
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name});
    meta["ownerReferences"] = (0..1000).map(|i| owner(&format!("owner-{i}"))).collect();
    meta["ownerReferences"].as_array_mut().unwrap().push(owner(&text));
    meta
}

/// Bytes of what a cache keeps of large objects.
fn held<K>(spec: Value, prune: fn(&mut K)) -> usize
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let (cache, mut writer) = Cache::<K>::new(WatchMetrics::default());
    for n in 0..NUMBER {
        let object = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": large(n), "spec": spec});
        let mut object: Guarded<K> = serde_json::from_str(&object.to_string()).unwrap();
        prune(object.0.as_mut().unwrap());
        writer.take(Event::Apply(object), &|_| {});
    }
    let all = cache.all();
    assert_eq!(all.len(), NUMBER, "{}", K::kind(&()));
    all.iter().map(|object| serde_json::to_vec(&**object).unwrap().len()).sum()
}

#[test]
fn of_large_objects_a_few_kilobytes_are_kept() {
    let most = NUMBER * 4096;
    let selector = json!({"selector": {}, "namespaceSelector": {}});
    let cases = [
        ("policies", held::<ProfilingPolicy>(json!({"selector": {}}), policy)),
        ("cluster policies", held::<ClusterProfilingPolicy>(selector, policy)),
        ("sessions", held::<ProfileSession>(json!({}), session)),
        ("namespaces", held::<PartialObjectMeta<Namespace>>(json!({}), namespace)),
    ];
    for (what, bytes) in cases {
        assert!(bytes <= most, "{bytes} bytes of {NUMBER} {what}");
    }
}

#[test]
fn of_large_pods_nothing_is_kept_but_that_they_exist() {
    let (changes, _told) = unbounded_channel();
    let pods = Pods::default();
    let mut writer = crate::watched::pods::Writer::new(pods.clone(), changes, WatchMetrics::default());
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": vec!["z".repeat(60); 5000]}]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
    let container = |i: usize| json!({"name": format!("c{i}"), "image": "a"});
    let spec = |containers: usize, affinity: &Value| json!({"containers": (0..containers).map(container).collect::<Vec<_>>(), "affinity": affinity});
    let small = json!({"name": "o", "namespace": "shop", "uid": "o"});
    let pods_of = [
        (large(1), spec(1, &json!(null))),
        (small.clone(), spec(3000, &json!(null))),
        (small.clone(), spec(1, &affinity)),
    ];
    for (n, (mut meta, spec)) in pods_of.into_iter().enumerate() {
        meta["uid"] = json!(format!("u{n}"));
        let pod = json!({"metadata": meta, "spec": spec}).to_string();
        writer.take(Event::Apply(serde_json::from_str::<Guarded<Pod>>(&pod).unwrap()));
    }
    assert_eq!(pods.namespace("shop").iter().map(|pod| pod.bytes()).sum::<usize>(), 0);
    let usual = json!({"metadata": small, "spec": spec(110, &json!(null))}).to_string();
    writer.take(Event::Apply(serde_json::from_str::<Guarded<Pod>>(&usual).unwrap()));
    assert_eq!(pods.namespace("shop").len(), 1, "many containers are no fault");
}

/// A usual pod, as an API server sends it.
fn usual() -> Value {
    json!({
        "metadata": {
            "name": "web-5d8f-x", "generateName": "web-5d8f-", "namespace": "shop", "uid": "u", "resourceVersion": "7",
            "creationTimestamp": "2026-12-01T00:00:00Z",
            "labels": {"app": "web", "pod-template-hash": "5d8f", "fleetprof.dev/profiling": "enabled"},
            "annotations": {
                "kubectl.kubernetes.io/default-container": "web", "kubernetes.io/config.source": "api",
                "fleetprof.dev/injection-refused": "words", "kubernetes.io/config.mirror": "m",
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "prometheus.io/scrape": "true",
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "x"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f", "uid": "r", "controller": true},
            ],
            "finalizers": ["example.com/a"], "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"containers": [{"name": "web"}, {"name": "proxy"}], "nodeName": "n1"},
        "status": {"phase": "Running"},
    })
}

#[test]
fn of_a_usual_pod_everything_is_kept_that_is_read() {
    let whole: Pod = serde_json::from_value(usual()).unwrap();
    let kept: Guarded<Pod> = serde_json::from_str(&usual().to_string()).unwrap();
    assert_eq!(PodFacts::of(&kept.0.unwrap()), PodFacts::of(&whole));
}

#[test]
fn of_a_usual_session_labels_owners_and_what_is_read_stay() {
    let meta = json!({
        "name": "s", "namespace": "shop", "uid": "u", "generation": 1, "labels": {"team": "a", "fleetprof.dev/policy": "p"},
        "annotations": {
            "fleetprof.dev/round": "7", "fleetprof.dev/workload": "Deployment/web", "fleetprof.dev/source": "cpu",
            "fleetprof.dev/keep": "incident 12",
        },
        "ownerReferences": [{"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "name": "p", "uid": "p"}],
    });
    let object = json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": meta, "spec": {}});
    let whole: ProfileSession = serde_json::from_value(object.clone()).unwrap();
    let mut kept = serde_json::from_str::<Guarded<ProfileSession>>(&object.to_string()).unwrap().0.unwrap();
    session(&mut kept);
    assert_eq!(kept.metadata, whole.metadata);
}

#[test]
fn a_session_is_kept_whatever_is_said_of_why() {
    let long = "w".repeat(100_000);
    let meta = json!({"name": "s", "namespace": "shop", "annotations": {"fleetprof.dev/keep": long}});
    let object = json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": meta, "spec": {}});
    let kept = serde_json::from_str::<Guarded<ProfileSession>>(&object.to_string()).unwrap().0.unwrap();
    assert!(fleetprof_core::storage::is_kept(&kept.metadata));
}

#[test]
fn the_controller_of_an_object_stays_after_many_other_owners() {
    let mut meta = large(1);
    let controller =
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": "c", "controller": true});
    meta["ownerReferences"].as_array_mut().unwrap().push(controller.clone());
    keep(meta.as_object_mut().unwrap());
    let owners = meta["ownerReferences"].as_array().unwrap();
    assert_eq!((owners.len(), owners.last()), (MOST_OWNERS + 1, Some(&controller)));
}

#[test]
fn a_namespace_whose_labels_are_forgotten_is_not_profiled() {
    let object = json!({"metadata": large(1)});
    let mut kept: PartialObjectMeta<Namespace> = serde_json::from_value(object).unwrap();
    namespace(&mut kept);
    let kept = kept.labels().get(names::OPT_LABEL).map(String::as_str);
    assert_eq!(OptOut::by_labels(None, kept), Some(OptOut::Oversized), "and it is said why");
}
