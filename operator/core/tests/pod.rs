//! What is known of a pod, and what the webhook's rules say of it later.
#![allow(missing_docs, clippy::unwrap_used)]

use fleetprof_core::pod::{PodFacts, User};
use serde_json::{Value, json};

fn facts(spec: &Value, status: &Value) -> PodFacts {
    let pod = json!({"metadata": {"name": "a", "namespace": "shop", "uid": "u"}, "spec": spec, "status": status});
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
        (json!({"runAsUser": 1}), json!({"runAsUser": 2, "runAsGroup": 20}), seen.clone(), user(Some(1), Some(20), false)),
        (json!({}), json!({"runAsNonRoot": true}), json!(null), user(None, None, true)),
        (json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), seen, user(Some(3), Some(30), true)),
        (json!({"runAsNonRoot": false}), json!({"runAsNonRoot": true}), json!(null), User::default()),
    ];
    for (container, pod, runtime, expected) in cases {
        let spec = json!({"securityContext": pod, "containers": [{"name": "app", "securityContext": container}]});
        let status = json!({"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0, "user": runtime});
        let facts = facts(&spec, &json!({"containerStatuses": [status]}));
        assert_eq!(facts.containers[0].user, expected, "{spec}");
    }
}
