//! How is a profile pushed to Pyroscope? By `PusherService/Push`, as JSON.
//!
//! The other way, `/ingest`, answers 422 to everything. What each answer of `Push` means:
//!
//! | answer | means | so |
//! |---|---|---|
//! | 200 | stored, if the profile had samples and a service name, which it has | done |
//! | 400, 413, 422 | not this profile: too old (an hour), too large, malformed | it is not sent again |
//! | 401, 403, 404 | the address, the credentials or the tenant are wrong | again: an administrator corrects it |
//! | 429 | too much at once | again, later |
//! | 5xx | down; also the answer to some malformed profiles | again; given up where others are accepted |

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fleetprof_core::outbox::{Attempt, busy};
use fleetprof_crds::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::Full;
use jiff::SignedDuration;
use serde_json::json;
use tokio::sync::Semaphore;

use super::credentials::Secrets;
use super::posts::{LIMITS, Posts, authorization};
use super::push::{Part, parts};
use super::{Destination, Parcel};
use crate::sha256::sha256;

/// A Pyroscope server, or Grafana Cloud Profiles.
pub(super) struct Pyroscope {
    url: String,
    tenant: String,
    posts: Posts,
}

/// An answer that is not 200.
struct Refused {
    status: StatusCode,
    after: Option<SignedDuration>,
    message: String,
}

/// Why there is no good answer.
enum NotPushed {
    Refused(Refused),
    NoAnswer(String),
}

impl Pyroscope {
    /// The server at that address.
    pub(super) fn new(
        url: &str,
        tenant: &str,
        credentials: Option<PathBuf>,
        merges: &Arc<Semaphore>,
    ) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        let posts = Posts::new(format!("Pyroscope at {url}"), credentials, merges);
        Self { url, tenant: tenant.to_owned(), posts }
    }

    async fn put_profile(&self, parcel: &Parcel, profile: Bytes) -> Attempt {
        let kind = parcel.kind;
        let pieces = match self.posts.parts(move || parts(&profile, kind, &LIMITS)).await {
            Ok(pieces) => pieces,
            Err(attempt) => return attempt,
        };
        let send = |n, part: &Part| {
            let body = body(&parcel.key, n, part);
            async move { self.push(&body).await.map_err(attempt) }
        };
        self.posts.send(&parcel.key, &pieces, send).await
    }

    async fn push(&self, body: &serde_json::Value) -> Result<(), NotPushed> {
        let answer = self.posts.ask(|secrets| self.request(secrets, body)).await;
        let answer = answer.map_err(NotPushed::NoAnswer)?;
        if answer.status == StatusCode::OK {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&answer.body);
        let message = format!("{}: {}", answer.status.as_u16(), meaning(&text));
        Err(NotPushed::Refused(Refused {
            status: answer.status,
            after: answer.after,
            message: self.posts.said(&message, &answer.secrets),
        }))
    }

    fn request(&self, secrets: &Secrets, body: &serde_json::Value) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(format!("{}/push.v1.PusherService/Push", self.url))
            .header(CONTENT_TYPE, "application/json");
        if let Some(credentials) = authorization(secrets)? {
            request = request.header(AUTHORIZATION, credentials);
        }
        if !self.tenant.is_empty() {
            request = request.header("X-Scope-OrgID", &self.tenant);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string())));
        request.map_err(|_| "its url or tenant has a character that a request cannot have".to_owned())
    }

    /// A push of nothing: every part of the way is the same, and nothing is stored.
    async fn look(&self) -> Result<(), String> {
        match self.push(&json!({ "series": [] })).await {
            Ok(()) => Ok(()),
            // It took the request, found no profile in it, and says so.
            Err(NotPushed::Refused(refused)) if refused.status == StatusCode::BAD_REQUEST => Ok(()),
            Err(NotPushed::Refused(Refused { message, .. }) | NotPushed::NoAnswer(message)) => Err(message),
        }
    }
}

fn body(key: &str, n: usize, part: &Part) -> serde_json::Value {
    let labels: Vec<_> =
        part.labels.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let sample = json!({ "rawProfile": STANDARD.encode(&part.profile), "ID": id(key, n) });
    json!({ "series": [{ "labels": labels, "samples": [sample] }] })
}

/// The same for the same part of the same profile, in the form of a UUID.
fn id(key: &str, n: usize) -> String {
    let hex: String =
        sha256(format!("{key} {n}")).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The message of an answer in JSON, else the answer.
fn meaning(text: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let message =
        parsed.as_ref().and_then(|answer| answer.get("message")).and_then(|message| message.as_str());
    message.unwrap_or(text).to_owned()
}

fn attempt(error: NotPushed) -> Attempt {
    let refused = match error {
        NotPushed::NoAnswer(message) => return Attempt::Again(message, None),
        NotPushed::Refused(refused) => refused,
    };
    match refused.status.as_u16() {
        400 | 413 | 422 => Attempt::Failed(Reason::UploadRejected, refused.message),
        // It answers 429 to what is too large as well, for ever: that counts unless it says when to come back.
        code => Attempt::Again(refused.message, busy(code, refused.after).or(refused.after)),
    }
}

impl Destination for Pyroscope {
    fn put<'a>(&'a self, parcel: &'a Parcel, profile: Bytes) -> BoxFuture<'a, Attempt> {
        self.put_profile(parcel, profile).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        self.look().boxed()
    }

    /// The server limits what a tenant sends in a second.
    fn at_once(&self) -> usize {
        2
    }
}
