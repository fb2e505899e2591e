//! As much of S3 as is asked for: signed requests, conditional puts, lists. What is not signed is refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

/// Objects by key, and whether credentials are accepted. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Objects(pub(super) Arc<Mutex<BTreeMap<String, Bytes>>>, pub(super) Arc<Mutex<bool>>);

/// A server with the bucket `profiles`.
pub(super) async fn serve() -> (SocketAddr, Objects) {
    let objects = Objects::default();
    let router = Router::new()
        .route("/profiles", get(list))
        .route("/profiles/{*key}", get(read).put(write).delete(remove))
        .with_state(objects.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, objects)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    (status, body).into_response()
}

/// Repeats what was sent, as some servers do.
fn check(objects: &Objects, headers: &HeaderMap) -> Result<(), Box<Response>> {
    let signature = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let signed = signature.starts_with("AWS4-HMAC-SHA256 Credential=the-id/") && !*objects.1.lock().unwrap();
    if signed {
        return Ok(());
    }
    let why = format!("{signature} the-secret-key");
    Err(Box::new(error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", &why)))
}

async fn read(State(objects): State<Objects>, Path(key): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refused) = check(&objects, &headers) {
        return *refused;
    }
    match objects.0.lock().unwrap().get(&key) {
        None => error(StatusCode::NOT_FOUND, "NoSuchKey", "no such key"),
        Some(body) => {
            let headers = [("etag", "\"e\""), ("last-modified", "Mon, 30 Nov 2026 17:00:00 GMT")];
            (headers, body.clone()).into_response()
        }
    }
}

async fn write(
    State(objects): State<Objects>,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = check(&objects, &headers) {
        return *refused;
    }
    let mut held = objects.0.lock().unwrap();
    if headers.contains_key("if-none-match") && held.contains_key(&key) {
        return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "it exists");
    }
    held.insert(key, body);
    [("etag", "\"e\"")].into_response()
}

async fn remove(State(objects): State<Objects>, Path(key): Path<String>, headers: HeaderMap) -> Response {
    if let Err(refused) = check(&objects, &headers) {
        return *refused;
    }
    objects.0.lock().unwrap().remove(&key);
    StatusCode::NO_CONTENT.into_response()
}

async fn list(
    State(objects): State<Objects>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = check(&objects, &headers) {
        return *refused;
    }
    if query.get("list-type").map(String::as_str) != Some("2") {
        return (StatusCode::BAD_REQUEST, Json("only lists of version 2")).into_response();
    }
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let held = objects.0.lock().unwrap();
    let contents: String = held
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(key, body)| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-30T10:00:00.000Z</LastModified><ETag>e</ETag>\
                 <Size>{}</Size></Contents>",
                body.len()
            )
        })
        .collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>").into_response()
}
