//! How is a request of the page answered? The router is a value: tests call it without a port.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::allow::allowed;
use super::assets;
use super::guard::{self, Purpose, Site};
use super::keys::Keys;
use super::upstream::Upstream;

/// The largest request: a session is much smaller.
const LARGEST: usize = 64 << 10;

/// What the page is told of where it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    /// The namespace of the flags or the context.
    pub(super) namespace: String,
    /// Whether to begin with all namespaces.
    pub(super) all_namespaces: bool,
    /// The context of the flags or the kubeconfig.
    pub(super) context: String,
    /// The flags that a command takes to act on the cluster that the page shows, word by word.
    pub(super) flags: Vec<String>,
    /// The version of the plugin.
    pub(super) version: &'static str,
    /// Whether it has speedscope.
    pub(super) speedscope: bool,
}

/// The server of the page.
#[derive(Clone)]
pub(super) struct Console {
    site: Arc<Site>,
    keys: Arc<Keys>,
    about: Arc<About>,
    upstream: Arc<dyn Upstream>,
    last: Arc<Mutex<Instant>>,
}

impl Console {
    /// A server for the page on this site.
    pub(super) fn new(site: Site, keys: Arc<Keys>, about: About, upstream: Arc<dyn Upstream>) -> Self {
        let last = Arc::new(Mutex::new(Instant::now()));
        Self { site: Arc::new(site), keys, about: Arc::new(about), upstream, last }
    }

    /// When the page last asked for anything.
    pub(super) fn last_request(&self) -> Arc<Mutex<Instant>> {
        Arc::clone(&self.last)
    }
}

/// The console as a router.
pub(super) fn router(console: Console) -> Router {
    Router::new().fallback(answer).with_state(console)
}

async fn answer(State(console): State<Console>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = match checked(&console, &parts) {
        Ok(Purpose::Asset) => asset(&parts),
        Ok(Purpose::Session) => session(&console, &parts, body).await,
        Ok(Purpose::Api) => api(&console, &parts, body).await,
        Err((code, why)) => refuse(code, why),
    };
    assets::secure(response.headers_mut());
    response
}

fn checked(console: &Console, parts: &Parts) -> Result<Purpose, (StatusCode, &'static str)> {
    let path = parts.uri.path();
    let purpose = match path {
        "/session" => Purpose::Session,
        _ if path.starts_with("/api/") => Purpose::Api,
        _ => Purpose::Asset,
    };
    guard::check(&console.site, &console.keys, purpose, &parts.method, &parts.headers)?;
    *console.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    Ok(purpose)
}

fn asset(parts: &Parts) -> Response {
    if parts.method != Method::GET {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "the files of the page are read with GET");
    }
    let Some(asset) = assets::find(parts.uri.path()) else {
        return refuse(StatusCode::NOT_FOUND, "the page has no such file");
    };
    let mut response = Response::new(Body::from(asset.content));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media));
    response.headers_mut().extend(asset.own);
    response
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

/// Exchanges a code for the token.
async fn session(console: &Console, parts: &Parts, body: Body) -> Response {
    if parts.method != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "codes are exchanged with POST");
    }
    let code = to_bytes(body, LARGEST).await.ok().and_then(|body| serde_json::from_slice::<Code>(&body).ok());
    let token = code.and_then(|Code { code }| console.keys.exchange(&code, Instant::now()));
    let Some(token) = token else {
        let why = "this link was used already, or is older than two minutes: press Enter in the terminal of the \
                   console for another one";
        return refuse(StatusCode::UNAUTHORIZED, why);
    };
    let mut told = json!(*console.about);
    told["token"] = json!(token);
    json_of(StatusCode::OK, &told)
}

/// Passes a request on to the API server.
async fn api(console: &Console, parts: &Parts, body: Body) -> Response {
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the request has more than 64 KiB");
    };
    let path = parts.uri.path().strip_prefix("/api").unwrap_or_default();
    let ask = match allowed(&parts.method, path, parts.uri.query(), &body) {
        Ok(ask) => ask,
        Err(why) => return refuse(StatusCode::FORBIDDEN, &why),
    };
    match console.upstream.send(&ask).await {
        Ok(answer) => passed(answer),
        Err(why) => refuse(StatusCode::BAD_GATEWAY, &format!("{why} ({} was asked for)", ask.path())),
    }
}

/// The headers of the API server that the page needs.
const KEPT: [header::HeaderName; 3] = [header::CONTENT_TYPE, header::DATE, header::RETRY_AFTER];

/// An answer of the API server. What is not JSON is a file to save, never something to show.
fn passed(answer: http::Response<Body>) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    for name in KEPT {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    response
}

/// A refusal as the API server words its own.
fn refuse(code: StatusCode, why: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": why, "code": code.as_u16(),
    });
    json_of(code, &status)
}

fn json_of(code: StatusCode, value: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
