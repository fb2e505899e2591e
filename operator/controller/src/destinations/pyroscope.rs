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

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fleetprof_core::outbox::{Attempt, busy};
use fleetprof_core::text::{cut, printable};
use fleetprof_crds::Reason;
use fleetprof_profile::{Limits, ProfileKind};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use jiff::SignedDuration;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::client::{Connector, chain, client, connector};
use super::credentials::{Made, Secrets};
use super::push::{Part, parts};
use super::{Destination, Parcel};
use crate::sha256::sha256;

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const MOST: usize = 64 << 10;
/// Longest text of the server in a message, in bytes.
const MAX_CAUSE: usize = 240;
/// Most profiles whose parts are remembered.
const MOST_BEGUN: usize = 1_000;

/// What a profile may hold: as much as a merge of slices can make.
const LIMITS: Limits = Limits {
    compressed_bytes: 64 << 20,
    uncompressed_bytes: 128 << 20,
    samples: 1_000_000,
    strings: 2_000_000,
    string_length: 32 << 10,
    entries: 4_000_000,
    list_length: 8_192,
    memory_bytes: 256 << 20,
};

type Http = Client<Connector, Full<Bytes>>;

/// A Pyroscope server, or Grafana Cloud Profiles.
pub(super) struct Pyroscope {
    url: String,
    tenant: String,
    made: Made<Http>,
    /// How many parts of a profile were stored, where not all were: what is sent twice counts twice until the
    /// server compacts it.
    begun: Mutex<HashMap<String, usize>>,
    /// What takes as much memory as a merge of profiles waits for it.
    merges: Arc<Semaphore>,
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
        Self {
            url: url.trim_end_matches('/').to_owned(),
            tenant: tenant.to_owned(),
            made: Made::of(credentials),
            begun: Mutex::default(),
            merges: Arc::clone(merges),
        }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put_profile(&self, parcel: &Parcel, profile: Bytes) -> Attempt {
        let pieces = match self.pieces(profile, parcel.kind).await {
            Some(Ok(pieces)) => pieces,
            Some(Err(error)) => return Attempt::Failed(Reason::UploadRejected, error),
            None => return Attempt::Again("preparing the profile was interrupted".to_owned(), None),
        };
        let stored = self.begun().get(&parcel.key).copied().unwrap_or(0);
        for (n, part) in pieces.iter().enumerate().skip(stored) {
            if let Err(error) = self.push(&body(&parcel.key, n, part)).await {
                let mut begun = self.begun();
                if n > 0 && begun.len() < MOST_BEGUN {
                    begun.insert(parcel.key.clone(), n);
                }
                return attempt(error);
            }
        }
        self.begun().remove(&parcel.key);
        Attempt::Stored
    }

    /// The parts of a profile, which are made where it may block. `None`: the process is stopping.
    async fn pieces(&self, profile: Bytes, kind: ProfileKind) -> Option<Result<Vec<Part>, String>> {
        let permit = Arc::clone(&self.merges).acquire_owned().await.ok()?;
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            parts(&profile, kind, &LIMITS)
        });
        made.await.ok()
    }

    async fn push(&self, body: &serde_json::Value) -> Result<(), NotPushed> {
        let (http, secrets) =
            self.made.get(|secrets| Ok(client(connector(secrets)?))).map_err(NotPushed::NoAnswer)?;
        let request = self.request(&secrets, body).map_err(NotPushed::NoAnswer)?;
        let ask = async {
            let answer = http.request(request).await.map_err(|error| chain(&error))?;
            let (head, body) = answer.into_parts();
            let text = Limited::new(body, MOST).collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((head, text.to_bytes()))
        };
        let late = |_| Err(format!("no answer within {} s", ANSWER.as_secs()));
        let answer = timeout(ANSWER, ask).await.unwrap_or_else(late);
        let (head, text) = answer.map_err(|error| NotPushed::NoAnswer(self.said(&error, &secrets)))?;
        if head.status == StatusCode::OK {
            return Ok(());
        }
        let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = String::from_utf8_lossy(&text);
        let message = self.said(&format!("{}: {}", head.status.as_u16(), meaning(&text)), &secrets);
        Err(NotPushed::Refused(Refused {
            status: head.status,
            after: after.map(SignedDuration::from_secs),
            message,
        }))
    }

    fn request(&self, secrets: &Secrets, body: &serde_json::Value) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(format!("{}/push.v1.PusherService/Push", self.url))
            .header(CONTENT_TYPE, "application/json");
        if let Some(credentials) = authorization(secrets) {
            request = request.header(AUTHORIZATION, credentials);
        }
        if !self.tenant.is_empty() {
            request = request.header("X-Scope-OrgID", &self.tenant);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string())));
        request.map_err(|_| format!("Pyroscope at {}: the credentials or the tenant are no header", self.url))
    }

    fn said(&self, error: &str, secrets: &Secrets) -> String {
        let error = cut(&printable(&secrets.hide(error)), MAX_CAUSE);
        format!("Pyroscope at {} failed: {error}", self.url)
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

/// The header by which the credentials prove who asks; none without any.
pub(crate) fn authorization(secrets: &Secrets) -> Option<String> {
    if let Some(token) = secrets.get("token") {
        return Some(format!("Bearer {token}"));
    }
    let (user, password) = (secrets.get("username")?, secrets.get("password")?);
    Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
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
