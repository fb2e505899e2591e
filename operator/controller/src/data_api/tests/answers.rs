//! Requests in, answers out.

use axum::body::Body;
use fleetprof_profile::total;
use http::Request;
use http_body_util::BodyExt;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tower::ServiceExt;

use super::fixtures::World;
use crate::data_api::views::VIEWS;
use crate::data_api::{DataApiMetrics, standby_router};
use crate::results::tests::fixtures::decoded;

const NOW: &str = "/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions";

#[tokio::test]
async fn a_profile_comes_as_a_pprof_file() {
    let world = World::new().await;
    let answer = world.get(&format!("{NOW}/now/profile")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["content-type"]),
        (200, &"application/octet-stream".parse().unwrap())
    );
    assert_eq!(answer.headers["content-disposition"], "attachment; filename=\"shop-now.pb.gz\"");
    assert!(!answer.headers.contains_key("content-encoding"), "the gzip is the file's own");
    assert_eq!(total(&decoded(&answer.body), 0), 11);
    let one = world.get(&format!("{NOW}/now/profile?pod=orders-2")).await;
    assert_eq!(total(&decoded(&one.body), 0), 4);
}

#[tokio::test]
async fn a_table_comes_as_text_or_json() {
    let world = World::new().await;
    let text = world.get(&format!("{NOW}/now/top?n=1")).await;
    assert_eq!(
        (text.status.as_u16(), text.headers["content-type"].to_str().unwrap()),
        (200, "text/plain; charset=utf-8")
    );
    assert!(
        text.text().contains("work /srv/app/work.py:42") && !text.text().contains("wait"),
        "{}",
        text.text()
    );
    let json = world.get(&format!("{NOW}/now/top?format=json&pod=orders-1")).await.json();
    assert_eq!(
        (&json["kind"], &json["apiVersion"]),
        (&"ProfileTop".into(), &"data.fleetprof.dev/v1alpha1".into())
    );
    assert_eq!(
        (&json["rows"][0]["name"], &json["rows"][0]["line"], &json["metadata"]["name"]),
        (&"work".into(), &42.into(), &"now".into())
    );
}

#[tokio::test]
async fn wall_time_is_shown_without_idle_threads_unless_they_are_asked_for() {
    let world = World::new().await;
    let rows = async |query: &str| {
        let answer = world.get(&format!("{NOW}/now/top?format=json&type=wall{query}")).await.json();
        assert_eq!((&answer["sampleType"], &answer["unit"]), (&"wall".into(), &"nanoseconds".into()));
        let names =
            answer["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(rows("").await, ["recv", "pay", "[idle]"]);
    assert_eq!(rows("&idle=true").await, ["_worker", "recv", "pay"]);
    let whole = world.get(&format!("{NOW}/now/profile?type=wall")).await;
    assert_eq!(total(&decoded(&whole.body), 1), 200_000_000);
}

/// Whoever adds a view need not add it here.
#[tokio::test]
async fn every_view_answers_with_its_media_type() {
    let world = World::new().await;
    for view in VIEWS {
        let answer = world.get(&format!("{NOW}/now/{}", view.name)).await;
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let media = answer.headers["content-type"].to_str().unwrap();
        assert_eq!((answer.status.as_u16(), media.split(';').next()), (200, view.media.first().copied()));
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let world = World::new().await;
    let cases = [
        ("missing/profile", 404, "NotFound", "kubectl get profilesessions -n shop"),
        ("running/profile", 409, "Conflict", "kubectl wait --for=condition=Complete"),
        ("lost/profile", 410, "Gone", "the volume was replaced"),
        ("broken/profile", 503, "ServiceUnavailable", "try again"),
        ("now/profile?pod=orders", 404, "NotFound", "orders-1, orders-2"),
        ("now/top?n=0", 400, "BadRequest", "1 to 1000"),
        ("now/top?type=CPU", 400, "BadRequest", "use one of cpu, wall"),
        ("now/top?n=many", 400, "BadRequest", "n=20"),
        ("now/top?n=1&n=2", 400, "BadRequest", "give it once"),
        ("now/top?idle=yes", 400, "BadRequest", "idle=false or true"),
        ("now/top?format=svg", 400, "BadRequest", "format=text or json"),
        ("now/graph", 404, "NotFound", "VIEW is one of profile, top, flamegraph, folded, diff"),
        ("now", 404, "NotFound", "VIEW is one of profile, top"),
        ("now/top?pods=orders-1", 400, "BadRequest", "use pod, type, process, n, format, idle"),
        ("now/top?process=web", 404, "NotFound", "do not tell processes apart"),
        ("mixed/top?process=cron", 404, "NotFound", "use one of job, web"),
        ("now/flamegraph?nodes=400001", 400, "BadRequest", "1 to 400000"),
        ("now/flamegraph?root=main", 400, "BadRequest", "root=0.2"),
        ("now/flamegraph?root=9", 404, "NotFound", "no such node"),
        ("now/profile?pgo=true", 404, "NotFound", "net/http/pprof"),
        ("now/profile?pgo=true&type=wall", 400, "BadRequest", "type=cpu"),
        ("mixed/diff", 400, "BadRequest", "base=NAME"),
        ("before/diff", 404, "NotFound", "base=NAME"),
        ("now/diff?base=missing", 404, "NotFound", "not found"),
        ("now/diff?base=running", 409, "Conflict", "kubectl wait"),
        ("now/diff?base=secret", 403, "Forbidden", "profilesessions/diff"),
        ("now/diff?base=../x", 404, "NotFound", "invalid name of a session"),
        ("now/diff?base=before&type=wall", 404, "NotFound", "use one of type=cpu"),
        ("now/diff?base=before&basePod=orders-1", 404, "NotFound", "use one of orders-0"),
        ("now/diff?basis=rate", 400, "BadRequest", "auto or perPodSecond or share or absolute"),
        ("..%2f..%2fsecrets%2fx/profile", 404, "NotFound", "invalid name of a session"),
    ];
    for (path, code, reason, advice) in cases {
        let answer = world.get(&format!("{NOW}/{path}")).await;
        let status = answer.json();
        assert_eq!(answer.status.as_u16(), code, "{path} {status}");
        assert_eq!(
            (&status["kind"], &status["apiVersion"], &status["status"]),
            (&"Status".into(), &"v1".into(), &"Failure".into())
        );
        assert_eq!((&status["code"], &status["reason"]), (&code.into(), &reason.into()), "{path}");
        assert!(status["message"].as_str().unwrap().contains(advice), "{path} {status}");
    }
}

#[tokio::test]
async fn only_the_api_server_is_believed_and_only_the_allowed_may_read() {
    let world = World::new().await;
    let path = format!("{NOW}/now/profile");
    let ann = [("x-remote-user", "ann"), ("x-remote-group", "devs")];
    let bob = [("x-remote-user", "bob"), ("x-remote-group", "guests")];
    #[allow(clippy::type_complexity)] // A table; its rows are read, not passed on.
    let cases: [(&str, &[(&str, &str)], Option<&str>, u16); 5] = [
        ("as it should be", &ann, Some("front-proxy-client"), 200),
        ("straight to the port", &ann, None, 401),
        ("with another certificate", &ann, Some("kubelet"), 401),
        ("nobody named", &[], Some("front-proxy-client"), 401),
        ("no right", &bob, Some("front-proxy-client"), 403),
    ];
    for (case, headers, certificate, code) in cases {
        assert_eq!(world.send("GET", &path, headers, certificate).await.status, code, "{case}");
    }
    assert_eq!(world.send("GET", "/apis", &ann, None).await.status, 401, "documents too");
    let missing =
        world.send("GET", &format!("{NOW}/missing/profile"), &bob, Some("front-proxy-client")).await;
    assert_eq!(missing.status, 403, "who may not read does not learn what there is");
    assert!(
        world.send("GET", &path, &bob, Some("front-proxy-client")).await.text().contains("fleetprof-viewer")
    );
    assert_eq!(world.send("DELETE", &path, &ann, Some("front-proxy-client")).await.status, 405);
}

#[tokio::test]
async fn discovery_lists_nothing_of_namespaces_that_could_be_deleted() {
    let world = World::new().await;
    let groups = world.get("/apis").await.json();
    assert_eq!(
        (&groups["kind"], &groups["groups"][0]["name"]),
        (&"APIGroupList".into(), &"data.fleetprof.dev".into())
    );
    let group = world.get("/apis/data.fleetprof.dev").await.json();
    assert_eq!(
        (&group["kind"], &group["preferredVersion"]["groupVersion"]),
        (&"APIGroup".into(), &"data.fleetprof.dev/v1alpha1".into())
    );
    let list = world.get("/apis/data.fleetprof.dev/v1alpha1").await;
    assert_eq!(list.headers["content-type"], "application/json");
    let list: k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList =
        serde_json::from_slice(&list.body).unwrap();
    let listed: Vec<(&str, &[String])> = list
        .resources
        .iter()
        .filter(|r| r.namespaced)
        .map(|r| (r.name.as_str(), r.verbs.as_slice()))
        .collect();
    let symbols: Vec<(&str, String)> = list
        .resources
        .iter()
        .filter(|r| !r.namespaced)
        .map(|r| (r.name.as_str(), r.verbs.join(",")))
        .collect();
    assert_eq!(symbols, [("symbols", "delete,get,list".into()), ("symbols/content", "create".into())]);
    let get: &[String] = &["get".to_owned()];
    let views = ["profile", "top", "flamegraph", "folded", "diff"];
    let wanted: Vec<String> = views.iter().map(|view| format!("profilesessions/{view}")).collect();
    assert_eq!(listed, wanted.iter().map(|name| (name.as_str(), get)).collect::<Vec<_>>());
    for other in ["/apis/apps", "/apis/data.fleetprof.dev/v1"] {
        assert_eq!(world.get(other).await.status, 404, "{other}");
    }
}

#[tokio::test]
async fn the_api_is_described() {
    let world = World::new().await;
    let v2 = world.get("/openapi/v2").await.json();
    assert_eq!(v2["swagger"], "2.0");
    let index = world.get("/openapi/v3").await.json();
    let url =
        index["paths"]["apis/data.fleetprof.dev/v1alpha1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let v3 = world.get(&url).await.json();
    assert_eq!(v3["openapi"], "3.0.0");
    let top = &v3["paths"][format!("{}/top", NOW.replace("/shop/", "/{namespace}/") + "/{name}")]["get"];
    let parameters = top["parameters"].as_array().unwrap();
    let n = parameters.iter().find(|parameter| parameter["name"] == "n").unwrap();
    assert_eq!((&n["in"], &n["schema"]["maximum"]), (&"query".into(), &1_000.into()));
    let media: Vec<&String> = top["responses"]["200"]["content"].as_object().unwrap().keys().collect();
    assert_eq!(media, ["application/json", "text/plain"]);
}

/// Paths and methods of a description.
fn described(document: &Value) -> Vec<(String, Vec<String>)> {
    let methods = |value: &Value| value.as_object().unwrap().keys().map(|key| key.to_uppercase()).collect();
    document["paths"].as_object().unwrap().iter().map(|(path, of)| (path.clone(), methods(of))).collect()
}

#[tokio::test]
async fn what_is_described_is_what_is_served() {
    let world = World::with_uploads("true", 1 << 20).await;
    let v2 = world.get("/openapi/v2").await.json();
    let all = described(&v2);
    assert_eq!(all, described(&world.get("/openapi/v3/apis/data.fleetprof.dev/v1alpha1").await.json()));
    assert_eq!(all.len(), VIEWS.len() + 3, "views, all symbols, one of them, and its content: {all:?}");
    for (path, methods) in &all {
        let path = path.replace("{namespace}", "shop").replace("{name}", "abcdef01");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let answer =
                world.send(method, &path, &[("x-remote-user", "ann")], Some("front-proxy-client")).await;
            let is_served = answer.status != 405 && !answer.text().contains("where VIEW is one of");
            assert_eq!(is_served, methods.contains(&method.to_owned()), "{method} {path}: {}", answer.text());
        }
    }
    let content = &v2["paths"]["/apis/data.fleetprof.dev/v1alpha1/symbols/{name}/content"]["post"];
    let names: Vec<&str> =
        content["parameters"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["name", "offset", "size", "sha256", "name", "body"]);
    let mut ids: Vec<&str> = v2["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), count), (VIEWS.len() + 4, VIEWS.len() + 4), "each has an id of its own");
}

#[tokio::test]
async fn requests_are_counted_by_what_they_were_for() {
    let mut world = World::new().await;
    let mut registry = Registry::default();
    world.api.metrics = DataApiMetrics::register(&mut registry);
    world.get(&format!("{NOW}/now/profile")).await;
    world.get(&format!("{NOW}/missing/top")).await;
    world.get("/any/thing").await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"{resource="profile",code="200"} 1"#,
        r#"{resource="top",code="404"} 1"#,
        r#"{resource="other",code="404"} 1"#,
    ] {
        assert!(text.contains(&format!("fleetprof_data_api_requests_total{line}")), "{text}");
    }
}

#[tokio::test]
async fn the_standby_serves_only_the_documents() {
    let ask = |path: &'static str| async move {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = standby_router().oneshot(request).await.unwrap();
        (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
    };
    let world = World::new().await;
    for path in [
        "/apis",
        "/apis/data.fleetprof.dev",
        "/apis/data.fleetprof.dev/v1alpha1",
        "/openapi/v2",
        "/openapi/v3",
    ] {
        assert_eq!(ask(path).await, (200, world.get(path).await.body), "{path}");
    }
    let (code, body) =
        ask("/apis/data.fleetprof.dev/v1alpha1/namespaces/shop/profilesessions/now/profile").await;
    assert!(code == 503 && String::from_utf8_lossy(&body).contains("no leader"), "{code} {body:?}");
}
