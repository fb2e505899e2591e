//! What is answered, and what is counted.

use super::*;

const PODS: &str = "/mutate/pods";
const SESSIONS: &str = "/mutate/profilesessions";

fn pod() -> Value {
    let container = json!({"name": "orders", "securityContext": {"runAsUser": 1000}});
    json!({"metadata": {"generateName": "orders-"}, "spec": {"containers": [container], "unheardOf": {"kept": true}}})
}

fn create(namespace: &str, object: Value) -> Value {
    let user = json!({"username": "eve", "uid": "1", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["x"]}});
    json!({
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": namespace,
        "userInfo": user, "object": object, "oldObject": null, "dryRun": false, "options": null,
    })
}

fn with(mut request: Value, field: &str, value: Value) -> Value {
    request[field] = value;
    request
}

#[tokio::test]
async fn a_selected_pod_is_patched_and_counted() {
    let webhook = Webhook::new();
    let response = webhook.review(PODS, create("shop", pod())).await;
    let paths: Vec<String> =
        patch(&response).iter().map(|op| op["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        paths,
        ["/metadata/annotations", "/spec/shareProcessNamespace", "/spec/volumes", "/spec/initContainers"]
    );
    assert!(
        webhook
            .metrics()
            .contains("fleetprof_admission_total{webhook=\"pods\",outcome=\"injected\",reason=\"\"} 1"),
        "{}",
        webhook.metrics()
    );
    assert!(webhook.metrics().contains("fleetprof_admission_duration_seconds_count{webhook=\"pods\"} 1"));
}

#[tokio::test]
async fn a_dry_run_is_answered_as_any_other() {
    let webhook = Webhook::new();
    let real = webhook.review(PODS, create("shop", pod())).await;
    assert_eq!(webhook.review(PODS, with(create("shop", pod()), "dryRun", json!(true))).await, real);
}

#[tokio::test]
async fn pods_that_are_left_out_are_allowed_as_they_are_and_counted_by_reason() {
    let webhook = Webhook::new();
    let host = json!({"metadata": {}, "spec": {"hostPID": true, "containers": [{"name": "a"}]}});
    for (namespace, pod, counted) in [
        ("shop", host, "outcome=\"skipped\",reason=\"HostPid\""),
        ("quiet", pod(), "outcome=\"skipped\",reason=\"OptedOut\""),
        ("tight", pod(), "outcome=\"skipped\",reason=\"ResourcesConflict\""),
        ("elsewhere", pod(), "outcome=\"not_selected\",reason=\"\""),
    ] {
        let response = webhook.review(PODS, create(namespace, pod)).await;
        assert!(patch(&response).is_empty() && warning(&response).is_empty());
        assert!(
            webhook.metrics().contains(&format!("{{webhook=\"pods\",{counted}}} 1")),
            "{counted}: {}",
            webhook.metrics()
        );
    }
}

#[tokio::test]
async fn a_pod_of_a_namespace_that_no_watch_has_brought_gets_no_agent() {
    let mut webhook = Webhook::new();
    webhook.set_policies([policy("too-new", "all", json!({}))]);
    assert!(patch(&webhook.review(PODS, create("too-new", pod())).await).is_empty());
    assert!(
        webhook.metrics().contains("{webhook=\"pods\",outcome=\"skipped\",reason=\"NamespaceUnknown\"} 1"),
        "{}",
        webhook.metrics()
    );
}

#[tokio::test]
async fn a_pod_that_opted_in_wins_over_its_namespace() {
    let mut pod = pod();
    pod["metadata"]["labels"] = json!({"fleetprof.dev/profiling": "enabled"});
    assert!(!patch(&Webhook::new().review(PODS, create("quiet", pod)).await).is_empty());
}

#[tokio::test]
async fn policies_that_come_and_go_change_the_next_answer() {
    let mut webhook = Webhook::new();
    webhook.set_policies([]);
    assert!(patch(&webhook.review(PODS, create("shop", pod())).await).is_empty());
    webhook.set_policies([policy("shop", "new", json!({}))]);
    assert!(!patch(&webhook.review(PODS, create("shop", pod())).await).is_empty());
    webhook.set_policies([policy("shop", "new", json!({"mode": "Ephemeral"}))]);
    assert!(patch(&webhook.review(PODS, create("shop", pod())).await).is_empty());
}

#[tokio::test]
async fn a_pod_that_cannot_be_read_is_admitted_with_a_warning() {
    let webhook = Webhook::new();
    for object in [
        json!(null),
        json!([]),
        json!({"metadata": {}}),
        json!({"metadata": {}, "spec": {"containers": "x"}}),
    ] {
        let response = webhook.review(PODS, create("shop", object)).await;
        assert!(patch(&response).is_empty());
        assert!(
            warning(&response).starts_with("fleetprof: ")
                && warning(&response).contains("of the pod must be"),
            "{response}"
        );
    }
    assert!(
        webhook.metrics().contains("outcome=\"malformed\",reason=\"MalformedPod\"} 4"),
        "{}",
        webhook.metrics()
    );
}

#[tokio::test]
async fn requests_of_another_shape_are_admitted_with_a_warning() {
    let webhook = Webhook::new();
    for path in [PODS, SESSIONS] {
        for request in [
            with(create("shop", pod()), "operation", json!("UPDATE")),
            with(create("shop", pod()), "operation", json!(7)),
            with(create("shop", pod()), "namespace", json!({"a": 1})),
            json!({"uid": "u-1"}),
        ] {
            let response = webhook.review(path, request.clone()).await;
            assert!(patch(&response).is_empty() && !warning(&response).is_empty(), "{path} {request}");
        }
        for body in ["", "{", "[]", "null", "\u{0}", "{\"request\": null}", "{\"request\": {\"uid\": 1}}"] {
            let (status, answer) = webhook.post(path, body).await;
            assert_eq!(
                (status, &answer["response"]["allowed"]),
                (StatusCode::OK, &json!(true)),
                "{path} {body}"
            );
        }
        let deep = format!(
            "{{\"request\": {{\"uid\": \"u\", \"operation\": \"CREATE\", \"object\": {}{}}}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let (status, answer) = webhook.post(path, deep).await;
        assert_eq!(
            (status, &answer["response"]["allowed"]),
            (StatusCode::OK, &json!(true)),
            "{path}, nested without end"
        );
    }
}

/// Whoever posts a request need not take its answer, so that one must not be as large.
#[tokio::test]
async fn an_answer_repeats_nothing_that_is_longer_than_an_api_server_sends() {
    let webhook = Webhook::new();
    let long = json!("é\u{1}".repeat(1 << 18));
    let mut named = pod();
    named["spec"]["containers"][0]["name"] = long.clone();
    for path in [PODS, SESSIONS] {
        for request in [
            with(create("shop", pod()), "uid", long.clone()),
            with(create("shop", pod()), "namespace", long.clone()),
            with(create("shop", pod()), "operation", long.clone()),
            with(create("shop", session(json!(null))), "userInfo", json!({"username": long})),
            create("shop", named.clone()),
            long.clone(),
        ] {
            let body = json!({"request": request}).to_string();
            let (status, answer) = webhook.post(path, body).await;
            assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(true)));
            assert!(answer.to_string().len() < 16 << 10, "{path}: {}", answer.to_string().len());
        }
        let broken = format!("{{\"request\": {{\"uid\": {long}}}");
        assert!(webhook.post(path, broken).await.1.to_string().len() < 16 << 10);
    }
}

#[tokio::test]
async fn a_large_answer_comes_whole() {
    let groups = vec!["g".repeat(1_000); 128];
    let request =
        with(create("shop", session(json!(null))), "userInfo", json!({"username": "eve", "groups": groups}));
    let stamp = patch(&Webhook::new().review(SESSIONS, request).await)[0]["value"].clone();
    assert_eq!(stamp["groups"], json!(groups));
}

#[tokio::test]
async fn a_request_without_end_is_refused() {
    let webhook = Webhook::new();
    let (status, _) = webhook.post(PODS, vec![b' '; 9 * 1024 * 1024]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(webhook.metrics().contains("outcome=\"malformed\",reason=\"MalformedPod\"} 1"));
}

fn session(requested_by: Value) -> Value {
    let mut session = json!({"metadata": {"name": "now"}, "spec": {"policyRef": {"name": "all"}}});
    if !requested_by.is_null() {
        session["spec"]["requestedBy"] = requested_by;
    }
    session
}

#[tokio::test]
async fn a_session_is_stamped_with_who_asked_whatever_was_sent() {
    let webhook = Webhook::new();
    for sent in [json!(null), json!({"username": "admin", "groups": ["system:masters"]}), json!("junk")] {
        let response = webhook.review(SESSIONS, create("shop", session(sent))).await;
        let expected = json!([{"op": "add", "path": "/spec/requestedBy", "value": {"username": "eve", "groups": ["dev", "system:authenticated"]}}]);
        assert_eq!(json!(patch(&response)), expected);
    }
    assert!(webhook.metrics().contains("{webhook=\"profilesessions\",outcome=\"stamped\",reason=\"\"} 3"));
}

#[tokio::test]
async fn the_operator_may_say_for_whom_it_asks() {
    let webhook = Webhook::new();
    let by = |username: &str| {
        with(create("shop", session(json!({"username": "carol"}))), "userInfo", json!({"username": username}))
    };
    assert!(
        patch(&webhook.review(SESSIONS, by("system:serviceaccount:fleetprof:fleetprof-operator")).await)
            .is_empty()
    );
    for other in [
        "system:serviceaccount:shop:fleetprof-operator",
        "system:serviceaccount:fleetprof:fleetprof-webhook",
        "fleetprof-operator",
    ] {
        assert_eq!(patch(&webhook.review(SESSIONS, by(other)).await)[0]["value"]["username"], other);
    }
}

#[tokio::test]
async fn a_stamp_stays_within_the_schema() {
    let groups: Vec<String> = (0..200).map(|n| format!("g{n}")).chain(["x".repeat(2000)]).rev().collect();
    let request =
        with(create("shop", session(json!(null))), "userInfo", json!({"username": "eve", "groups": groups}));
    let stamp = patch(&Webhook::new().review(SESSIONS, request).await)[0]["value"].clone();
    let groups = stamp["groups"].as_array().unwrap();
    assert_eq!((groups.len(), &groups[0]), (128, &json!("g199")));
}

#[tokio::test]
async fn a_session_that_cannot_be_stamped_is_left_as_it_is() {
    let webhook = Webhook::new();
    for object in [json!(null), json!({"metadata": {}}), json!({"spec": []})] {
        let response = webhook.review(SESSIONS, create("shop", object)).await;
        assert!(patch(&response).is_empty() && warning(&response).contains("requestedBy"));
    }
    let nobody = with(create("shop", session(json!(null))), "userInfo", json!(null));
    assert!(warning(&webhook.review(SESSIONS, nobody).await).contains("has no user"));
}
