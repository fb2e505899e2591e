//! What holds for every JSON, however hostile.

use proptest::prelude::*;
use serde_json::Map;

use super::*;

/// Any JSON.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/~]{0,6}|fleetprof-agent|fleetprof-token|windows|disabled|enabled".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(member(), inner, 0..6).prop_map(|m| Value::Object(Map::from_iter(m))),
        ]
    })
}

fn member() -> impl Strategy<Value = String> {
    "name|labels|annotations|affinity|nodeAffinity|requiredDuringSchedulingIgnoredDuringExecution|securityContext|runAsUser|runAsNonRoot|kubernetes.io/os|fleetprof.dev/profiling|fleetprof.dev/injected|[a-z/~]{1,4}"
}

/// Something of the shape of a pod, whose parts may be anything.
fn pod_like() -> impl Strategy<Value = Value> {
    let part = || prop::option::weighted(0.3, json_value());
    let containers = prop::collection::vec(("[a-c]|istio-proxy|fleetprof-agent", part()), 0..4);
    let fields = prop::collection::btree_map(
        "hostPID|shareProcessNamespace|os|nodeSelector|affinity|securityContext|volumes|initContainers|other",
        prop_oneof![json_value(), Just(json!([])), Just(json!({})), Just(json!(true))],
        0..4,
    );
    let metadata = prop::collection::btree_map("labels|annotations|ownerReferences|name", json_value(), 0..3);
    (containers, fields, metadata).prop_map(|(containers, fields, metadata)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, security)| json!({"name": name, "securityContext": security}))
            .collect();
        let mut spec = Map::from_iter(fields);
        spec.insert("containers".into(), containers.into());
        json!({"metadata": Map::from_iter(metadata), "spec": spec})
    })
}

fn holds_for(pod: &Value) -> Result<(), TestCaseError> {
    let first = outcome(pod, &[], &[all()]);
    prop_assert_eq!(
        &outcome(&read(&pod.to_string()).unwrap(), &[], &[all()]),
        &first,
        "what is not read changes nothing"
    );
    let once = applied(pod, &first);
    if let Outcome::Injected { policy, container, patch } = &first {
        let names: Vec<&str> = pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str())
            .collect();
        prop_assert!(patch.is_empty() || names.contains(&container.as_str()));
        let second = outcome(&once, &[], &[all()]);
        prop_assert_eq!(
            &second,
            &Outcome::Injected { policy: policy.clone(), container: container.clone(), patch: Vec::new() }
        );
        prop_assert_eq!(applied(&once, &second), once);
    } else {
        prop_assert_eq!(&once, pod);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_json_is_decided_and_any_patch_applies_and_lasts(value in json_value()) {
        holds_for(&value)?;
    }

    #[test]
    fn anything_like_a_pod_is_decided_and_any_patch_applies_and_lasts(pod in pod_like()) {
        holds_for(&pod)?;
    }
}
