//! What does a receiver of OTLP get, and what do its answers mean?

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use fleetprof_core::outbox::Attempt;
use fleetprof_crds::Reason;
use fleetprof_profile::otlp::proto::any_value::Value;
use fleetprof_profile::otlp::proto::{
    ExportProfilesPartialSuccess, ExportProfilesServiceRequest, ExportProfilesServiceResponse, Status,
};
use fleetprof_profile::otlp::{MOST_BYTES, RELEASE};
use jiff::SignedDuration;
use prost::Message;
use tokio::sync::Semaphore;

use super::pushes::stored;
use crate::destinations::otlp::{Otlp, PATH};
use crate::destinations::{Destination, Parcel, Target};

/// What it has, and how it answers next instead.
#[derive(Default)]
struct Server {
    requests: Vec<ExportProfilesServiceRequest>,
    next: Vec<(u16, Vec<u8>, &'static str)>,
    /// How many it takes before it is down.
    room: Option<usize>,
}

type Shared = Arc<Mutex<Server>>;

async fn serve() -> (SocketAddr, Shared) {
    let server = Shared::default();
    let router = Router::new()
        .route(PATH, post(export))
        .route("/page", post(|| async { "<!doctype html><title>Welcome</title>" }))
        .layer(axum::extract::DefaultBodyLimit::max(8 << 20))
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, server)
}

fn refuse(status: u16, message: &str) -> Response {
    let body = Status { code: 3, message: message.to_owned() }.encode_to_vec();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

/// As strict as a server can be.
async fn export(State(server): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("api-key") != "key-1234" || header("authorization") != "Bearer the-token" {
        return refuse(401, &format!("who is {} with {}?", header("api-key"), header("authorization")));
    }
    if (header("content-type"), header("content-encoding")) != ("application/x-protobuf", "gzip") {
        return refuse(415, "another type");
    }
    let mut server = server.lock().unwrap();
    if let Some((status, body, after)) = server.next.pop() {
        return (StatusCode::from_u16(status).unwrap(), [("retry-after", after)], body).into_response();
    }
    let mut raw = Vec::new();
    flate2::read::GzDecoder::new(&*body).read_to_end(&mut raw).unwrap();
    let Ok(request) = ExportProfilesServiceRequest::decode(raw.as_slice()) else {
        return refuse(400, "junk");
    };
    if raw.is_empty() {
        return Response::default();
    }
    if raw.len() > MOST_BYTES || request.dictionary.is_none() {
        return refuse(413, "too large, or without dictionary");
    }
    if server.room.is_some_and(|room| server.requests.len() >= room) {
        return refuse(503, "shutting down");
    }
    server.requests.push(request);
    ExportProfilesServiceResponse::default().encode_to_vec().into_response()
}

fn otlp(address: SocketAddr, folder: &std::path::Path) -> Otlp {
    std::fs::write(folder.join("token"), "the-token").unwrap();
    std::fs::write(folder.join("headers"), "api-key: key-1234\n\nx-tenant: team-a\n").unwrap();
    of_path(address, folder, PATH)
}

fn of_path(address: SocketAddr, folder: &std::path::Path, path: &str) -> Otlp {
    Otlp::new(&format!("http://{address}/"), path, Some(folder.to_owned()), &Arc::new(Semaphore::new(1)))
}

fn parcel(key: &str) -> Parcel {
    let target =
        Target { workload: "Deployment/orders".into(), pod_uid: "f3b0".into(), container_id: "".into() };
    Parcel { target, ..super::parcel(key) }
}

/// The sum of the counts of a request.
fn counted(request: &ExportProfilesServiceRequest) -> i64 {
    let strings = &request.dictionary.as_ref().unwrap().string_table;
    let profiles =
        request.resource_profiles.iter().flat_map(|of| &of.scope_profiles).flat_map(|of| &of.profiles);
    let of_counts = profiles.filter(|p| strings[p.sample_type.unwrap().unit_strindex as usize] == "count");
    of_counts.flat_map(|profile| &profile.samples).flat_map(|sample| &sample.values).sum()
}

fn ids(request: &ExportProfilesServiceRequest) -> impl Iterator<Item = &Vec<u8>> {
    let profiles =
        request.resource_profiles.iter().flat_map(|of| &of.scope_profiles).flat_map(|of| &of.profiles);
    profiles.map(|profile| &profile.profile_id)
}

#[tokio::test]
async fn a_large_profile_arrives_in_requests_with_its_resource() {
    let (address, server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let otlp = otlp(address, folder.path());
    otlp.check().await.unwrap();
    assert_eq!(otlp.put(&parcel("k"), stored(40_000)).await, Attempt::Stored);
    let got = &server.lock().unwrap().requests;
    assert!(got.len() > 2);
    assert_eq!(got.iter().map(counted).sum::<i64>(), 40_000);
    let all: Vec<&Vec<u8>> = got.iter().flat_map(ids).collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "each profile has an id of its own");
    for request in got {
        let attributes = &request.resource_profiles[0].resource.as_ref().unwrap().attributes;
        let text = |value: &Option<_>| match value {
            Some(fleetprof_profile::otlp::proto::AnyValue { value: Some(Value::StringValue(text)) }) => {
                text.clone()
            }
            other => panic!("{other:?}"),
        };
        let told: BTreeMap<&str, String> =
            attributes.iter().map(|a| (a.key.as_str(), text(&a.value))).collect();
        let wanted = [
            ("k8s.deployment.name", "orders"),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "orders-1"),
            ("k8s.pod.uid", "f3b0"),
            ("service.name", "orders"),
        ];
        assert!(told.iter().map(|(key, value)| (*key, value.as_str())).eq(wanted), "{told:?}");
    }
}

#[tokio::test]
async fn a_second_try_sends_only_what_is_missing_under_the_same_ids() {
    let (address, server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let otlp = otlp(address, folder.path());
    let profile = stored(40_000);
    assert_eq!(otlp.put(&parcel("k"), profile.clone()).await, Attempt::Stored);
    let whole: Vec<Vec<u8>> = server
        .lock()
        .unwrap()
        .requests
        .drain(..)
        .flat_map(|r| ids(&r).cloned().collect::<Vec<_>>())
        .collect();
    server.lock().unwrap().room = Some(1);
    let first = otlp.put(&parcel("k"), profile.clone()).await;
    server.lock().unwrap().room = None;
    assert!(matches!(&first, Attempt::Again(why, Some(_)) if why.contains("shutting down")), "{first:?}");
    assert_eq!(otlp.put(&parcel("k"), profile).await, Attempt::Stored);
    let again: Vec<Vec<u8>> =
        server.lock().unwrap().requests.iter().flat_map(|r| ids(r).cloned().collect::<Vec<_>>()).collect();
    assert_eq!(again, whole, "no part comes twice, and each is what it was");
}

#[tokio::test]
async fn a_partial_success_is_a_refusal_with_its_message() {
    let (address, server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let otlp = otlp(address, folder.path());
    let said = |rejected_profiles, message: &str| {
        let partial = ExportProfilesPartialSuccess { rejected_profiles, error_message: message.to_owned() };
        let body = ExportProfilesServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        server.lock().unwrap().next = vec![(200, body, "")];
    };
    said(2, "older than an hour");
    let attempt = otlp.put(&parcel("k"), stored(1)).await;
    let why = format!(
        "OTLP profiles {RELEASE} (alpha) to http://{address}{PATH} failed: it rejected 2 of the profiles: older than an hour"
    );
    assert_eq!(attempt, Attempt::Failed(Reason::UploadRejected, why));
    said(0, "send fewer attributes");
    assert_eq!(otlp.put(&parcel("k"), stored(1)).await, Attempt::Stored);
}

#[tokio::test]
async fn answers_mean_what_otlp_means() {
    let (address, server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let otlp = otlp(address, folder.path());
    let next = |status, after| {
        let body = Status { code: 3, message: "no".into() }.encode_to_vec();
        server.lock().unwrap().next = vec![(status, body, after)];
    };
    for status in [400, 413, 422] {
        next(status, "");
        let attempt = otlp.put(&parcel("k"), stored(1)).await;
        assert!(
            matches!(&attempt, Attempt::Failed(Reason::UploadRejected, why) if why.ends_with(&format!("{status}: no"))),
            "{attempt:?}"
        );
    }
    next(429, "7");
    let attempt = otlp.put(&parcel("k"), stored(1)).await;
    assert!(
        matches!(&attempt, Attempt::Again(_, Some(after)) if *after == SignedDuration::from_secs(7)),
        "{attempt:?}"
    );
    let at_once = Some(SignedDuration::ZERO);
    for (status, wanted) in [
        (500, None),
        (401, None),
        (403, None),
        (429, at_once),
        (502, at_once),
        (503, at_once),
        (504, at_once),
    ] {
        next(status, "");
        let attempt = otlp.put(&parcel("k"), stored(1)).await;
        assert!(matches!(&attempt, Attempt::Again(_, after) if *after == wanted), "{status}: {attempt:?}");
    }
    for status in [404, 405, 415] {
        next(status, "");
        let attempt = otlp.put(&parcel("k"), stored(1)).await;
        let told = |why: &str| why.contains("the server does not take profiles at that path");
        assert!(matches!(&attempt, Attempt::Again(why, None) if told(why)), "{attempt:?}");
    }
    let junk = otlp.put(&parcel("k"), Bytes::from_static(b"junk")).await;
    assert!(matches!(junk, Attempt::Failed(Reason::UploadRejected, _)), "{junk:?}");
    assert_eq!(otlp.put(&parcel("k"), stored(0)).await, Attempt::Stored, "there is nothing to send");
    assert!(server.lock().unwrap().requests.is_empty());
}

#[tokio::test]
async fn a_page_is_not_taken_for_a_server_of_otlp() {
    let (address, _server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let problem = of_path(address, folder.path(), "/page").check().await.unwrap_err();
    assert!(problem.contains("the answer is not OTLP: correct the url"), "{problem}");
    let problem = of_path(address, folder.path(), "/elsewhere").check().await.unwrap_err();
    assert!(problem.contains("404: the server does not take profiles at that path"), "{problem}");
}

#[tokio::test]
async fn wrong_credentials_are_told_and_not_repeated() {
    let (address, _server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let otlp = otlp(address, folder.path());
    std::fs::write(folder.path().join("headers"), "api-key: another-key").unwrap();
    let problem = otlp.check().await.unwrap_err();
    assert!(problem.contains("401") && problem.contains(RELEASE), "{problem}");
    assert!(!problem.contains("another-key") && !problem.contains("the-token"), "{problem}");
}

#[tokio::test]
async fn headers_that_are_none_are_named_by_their_line() {
    let (address, _server) = serve().await;
    for (headers, wanted) in [
        ("api-key", "line 1 of headers in the Secret is not a header"),
        ("a: b\nc d: e", "line 2 of headers in the Secret is not a header"),
        ("a: b\nContent-Type: text/plain", "line 2 of headers in the Secret sets content-type"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("headers"), headers).unwrap();
        let problem = of_path(address, folder.path(), PATH).check().await.unwrap_err();
        assert!(problem.contains(wanted), "{problem}");
    }
}
