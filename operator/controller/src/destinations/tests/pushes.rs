//! What does a receiver with Pyroscope's limits and answers get?

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleetprof_core::outbox::Attempt;
use fleetprof_crds::{ProfileKind, Reason};
use fleetprof_profile::{Frame, Merger, Overlap, ProfileBuilder, encode, set_labels, total};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::parcel;
use crate::destinations::Destination;
use crate::destinations::pyroscope::Pyroscope;
use crate::results::tests::fixtures::decoded;

/// What it has, and how it answers next instead.
#[derive(Default)]
struct Server {
    series: Vec<(BTreeMap<String, String>, Vec<u8>, String)>,
    next: Vec<(u16, &'static str, &'static str)>,
    /// How many it takes before it is down.
    room: Option<usize>,
}

type Shared = Arc<Mutex<Server>>;

async fn serve() -> (SocketAddr, Shared) {
    let server = Shared::default();
    let router = Router::new()
        .route("/push.v1.PusherService/Push", post(push))
        .layer(axum::extract::DefaultBodyLimit::max(8 << 20))
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, server)
}

fn refuse(status: u16, message: impl Into<String>) -> Response {
    let code = StatusCode::from_u16(status).unwrap();
    (code, Json(json!({"code": "invalid_argument", "message": message.into()}))).into_response()
}

async fn push(State(server): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("x-scope-orgid") != "team-a" || header("authorization") != "Bearer the-token" {
        return refuse(401, format!("no org id, or {}", header("authorization")));
    }
    if let Some((status, message, after)) = server.lock().unwrap().next.pop() {
        let mut response = refuse(status, message);
        if !after.is_empty() {
            response.headers_mut().insert("retry-after", after.parse().unwrap());
        }
        return response;
    }
    let full = {
        let server = server.lock().unwrap();
        server.room.is_some_and(|room| server.series.len() >= room)
    };
    if full {
        return refuse(503, "shutting down");
    }
    let series = body["series"].as_array().cloned().unwrap_or_default();
    if series.is_empty() {
        return refuse(400, "no profiles received");
    }
    for series in series {
        match take(&series) {
            Ok(taken) => server.lock().unwrap().series.push(taken),
            Err((status, message)) => return refuse(status, message),
        }
    }
    Json(json!({})).into_response()
}

/// Labels, profile and id of a series that was taken.
type Taken = (BTreeMap<String, String>, Vec<u8>, String);

/// Pyroscope's limits.
fn take(series: &Value) -> Result<Taken, (u16, String)> {
    let labels: BTreeMap<String, String> = series["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (l["name"].as_str().unwrap().to_owned(), l["value"].as_str().unwrap().to_owned()))
        .collect();
    if !labels.contains_key("__name__") || !labels.contains_key("service_name") {
        return Err((400, "__name__ or service_name is missing".into()));
    }
    if labels.len() > 30 || labels.values().any(|value| value.len() > 2048) {
        return Err((400, "too many labels, or too long".into()));
    }
    let packed = STANDARD.decode(series["samples"][0]["rawProfile"].as_str().unwrap()).unwrap();
    let mut raw = Vec::new();
    let unpacked = flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut raw);
    if unpacked.is_err() {
        return Err((500, "junk".into()));
    }
    if raw.len() > 2_000_000 {
        return Err((429, "the burst is 2 MB".into()));
    }
    let profile = decoded(&packed);
    if profile.sample.len() > 16_000 || profile.sample.is_empty() {
        return Err((400, format!("{} samples", profile.sample.len())));
    }
    Ok((labels, packed, series["samples"][0]["ID"].as_str().unwrap().to_owned()))
}

pub(super) fn stored(stacks: usize) -> Bytes {
    let mut merger = Merger::new(Overlap::Sequential);
    for first in (0..stacks.max(1)).step_by(5_000) {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_101_010, 1_700_000_000_000_000_000);
        for n in first..stacks.min(first + 5_000) {
            builder.add_hits(&[Frame::named(&format!("function_{n}"), "main.rs", 1)], 1, &[]).unwrap();
        }
        let part = builder.finish(10_000_000_000, &[]);
        if stacks == 0 {
            return encode(&part).unwrap().into();
        }
        merger.add(&part).unwrap();
    }
    let mut profile = merger.finish().unwrap();
    set_labels(&mut profile, &[("service_name", "orders"), ("namespace", "shop"), ("pod", "orders-1")]);
    encode(&profile).unwrap().into()
}

fn pyroscope(address: SocketAddr, folder: &std::path::Path) -> Pyroscope {
    std::fs::write(folder.join("token"), "the-token").unwrap();
    let url = format!("http://{address}/");
    Pyroscope::new(&url, "team-a", Some(folder.to_owned()), &Arc::new(Semaphore::new(1)))
}

#[tokio::test]
async fn a_large_profile_arrives_in_parts_that_the_server_takes() {
    let (address, server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let pyroscope = pyroscope(address, folder.path());
    pyroscope.check().await.unwrap();
    assert_eq!(pyroscope.put(&parcel("k"), stored(40_000)).await, Attempt::Stored);
    let got = &server.lock().unwrap().series;
    assert!(got.len() > 2);
    assert_eq!(got.iter().map(|(_, body, _)| total(&decoded(body), 0)).sum::<i64>(), 40_000);
    let ids: std::collections::BTreeSet<&String> = got.iter().map(|(_, _, id)| id).collect();
    assert_eq!(ids.len(), got.len());
    assert!(ids.iter().all(|id| id.len() == 36));
    let wanted =
        [("__name__", "process_cpu"), ("namespace", "shop"), ("pod", "orders-1"), ("service_name", "orders")];
    assert!(got.iter().all(|(labels, ..)| labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(wanted)));
}

#[tokio::test]
async fn a_second_try_sends_only_what_is_missing() {
    let (address, server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let pyroscope = pyroscope(address, folder.path());
    let profile = stored(40_000);
    assert_eq!(pyroscope.put(&parcel("whole"), profile.clone()).await, Attempt::Stored);
    let parts = server.lock().unwrap().series.len();
    server.lock().unwrap().series.clear();
    server.lock().unwrap().room = Some(1);
    let first = pyroscope.put(&parcel("k"), profile.clone()).await;
    server.lock().unwrap().room = None;
    assert!(matches!(first, Attempt::Again(..)), "{first:?}");
    assert_eq!(pyroscope.put(&parcel("k"), profile).await, Attempt::Stored);
    assert_eq!(server.lock().unwrap().series.len(), parts, "no part counts twice");
}

#[tokio::test]
async fn answers_mean_what_pyroscope_means() {
    let (address, server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let pyroscope = pyroscope(address, folder.path());
    let window = "profile is outside of ingestion window";
    server.lock().unwrap().next = vec![(400, window, "")];
    let attempt = pyroscope.put(&parcel("k"), stored(1)).await;
    let why = format!("Pyroscope at http://{address} failed: 400: {window}");
    assert_eq!(attempt, Attempt::Failed(Reason::UploadRejected, why));
    server.lock().unwrap().next = vec![(429, "rate limit", "7")];
    let attempt = pyroscope.put(&parcel("k"), stored(1)).await;
    assert!(
        matches!(&attempt, Attempt::Again(why, Some(after)) if why.contains("429") && *after == SignedDuration::from_secs(7)),
        "{attempt:?}"
    );
    // A proxy or the server is busy. That says nothing about the profile, so it does not count against it.
    let at_once = Some(SignedDuration::ZERO);
    for (status, wanted) in
        [(500, None), (429, None), (403, None), (404, None), (502, at_once), (503, at_once), (504, at_once)]
    {
        server.lock().unwrap().next = vec![(status, "down", "")];
        let attempt = pyroscope.put(&parcel("k"), stored(1)).await;
        assert!(matches!(&attempt, Attempt::Again(_, after) if *after == wanted), "{status}: {attempt:?}");
    }
    let junk = pyroscope.put(&parcel("k"), Bytes::from_static(b"junk")).await;
    assert!(matches!(junk, Attempt::Failed(Reason::UploadRejected, _)), "{junk:?}");
    assert_eq!(pyroscope.put(&parcel("k"), stored(0)).await, Attempt::Stored, "there is nothing to send");
    assert!(server.lock().unwrap().series.is_empty());
}

#[tokio::test]
async fn wrong_credentials_are_told_and_not_repeated() {
    let (address, _server) = serve().await;
    let folder = tempfile::tempdir().unwrap();
    let pyroscope = pyroscope(address, folder.path());
    std::fs::write(folder.path().join("token"), "another-token").unwrap();
    let problem = pyroscope.check().await.unwrap_err();
    assert!(problem.contains("401") && !problem.contains("another-token"), "{problem}");
}
