//! How is a profile sent by OTLP? As protobuf over HTTP, compressed by gzip, in parts that servers take.
//!
//! What each answer means:
//!
//! | answer | means | so |
//! |---|---|---|
//! | 2xx | taken, but for what `partial_success` names | what was rejected is not sent again |
//! | 2xx, not OTLP | something else listens there | again: an administrator corrects it |
//! | 400, 413, 422 | not this profile | it is not sent again |
//! | 401, 403 | the credentials are wrong | again: an administrator corrects it |
//! | 404, 405, 415 | the server does not take profiles at that path | again: an administrator corrects it |
//! | 429, 5xx | too much at once, or down | again, later |
//!
//! Whether a server knows the same release of the protocol cannot be asked: one that knows another reads wrong numbers.
//! So every message names the release.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use fleetprof_core::outbox::{Attempt, busy};
use fleetprof_crds::Reason;
use fleetprof_profile::decode_valid;
use fleetprof_profile::otlp::{self, About};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request};
use http_body_util::Full;
use jiff::SignedDuration;
use tokio::sync::Semaphore;

use super::credentials::Secrets;
use super::posts::{Answer, LIMITS, Posts, authorization};
use super::{Destination, Parcel, Target};
use crate::sha256::sha256;

/// Where servers take profiles, unless an administrator says something else.
pub(super) const PATH: &str = "/v1development/profiles";
/// Most headers in a Secret.
const MOST_HEADERS: usize = 32;
/// Headers that are the client's own.
const OWN: [&str; 6] =
    ["content-type", "content-encoding", "content-length", "transfer-encoding", "host", "connection"];
/// The service of a profile that does not say of which it is; OpenTelemetry's word.
const UNKNOWN: &str = "unknown_service";

/// A server that takes profiles by OTLP.
pub(super) struct Otlp {
    /// The whole address.
    address: String,
    posts: Posts,
}

impl Otlp {
    /// The server at that address and path.
    pub(super) fn new(url: &str, path: &str, credentials: Option<PathBuf>, merges: &Arc<Semaphore>) -> Self {
        let address = format!("{}{path}", url.trim_end_matches('/'));
        let posts = Posts::new(format!("{} to {address}", otlp::PROTOCOL), credentials, merges);
        Self { address, posts }
    }

    async fn put_profile(&self, parcel: &Parcel, profile: Bytes) -> Attempt {
        let (key, target) = (parcel.key.clone(), parcel.target.clone());
        let parts = match self.posts.parts(move || parts(&profile, &key, &target)).await {
            Ok(parts) => parts,
            Err(attempt) => return attempt,
        };
        let send = |_, part: &Bytes| {
            let part = part.clone();
            async move { self.post(part).await }
        };
        self.posts.send(&parcel.key, &parts, send).await
    }

    async fn post(&self, part: Bytes) -> Result<(), Attempt> {
        let answer = self.posts.ask(|secrets| self.request(secrets, part)).await;
        self.meaning(answer.map_err(|message| Attempt::Again(message, None))?)
    }

    fn request(&self, secrets: &Secrets, part: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(&self.address)
            .body(Full::new(part))
            .map_err(|_| "its url or path has a character that a request cannot have".to_owned())?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static("fleetprof-operator"));
        headers.extend(authorization(secrets)?.map(|credentials| (AUTHORIZATION, credentials)));
        headers.extend(own_headers(secrets.get("headers").unwrap_or_default())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Ok(request)
    }

    /// What an answer means for what was sent.
    fn meaning(&self, answer: Answer) -> Result<(), Attempt> {
        let code = answer.status.as_u16();
        let said = |text: &str| self.posts.said(&hidden(text, &answer.secrets), &answer.secrets);
        // Whoever asks for fewer requests has nothing against this one, whether or not it says when.
        let after = match code {
            429 => answer.after.or(Some(SignedDuration::ZERO)),
            _ => busy(code, answer.after).or(answer.after),
        };
        let again = |text: &str| Err(Attempt::Again(said(text), after));
        if answer.status.is_success() {
            return match otlp::answer(&answer.body) {
                otlp::Answer::Taken => Ok(()),
                otlp::Answer::Remark(remark) => {
                    tracing::warn!(error = said(&remark), "the server took a profile and has a remark");
                    Ok(())
                }
                otlp::Answer::Rejected(profiles, why) => {
                    let why = said(&format!("it rejected {profiles} of the profiles: {why}"));
                    Err(Attempt::Failed(Reason::UploadRejected, why))
                }
                otlp::Answer::Foreign => {
                    again(&format!("{code}, but the answer is not OTLP: correct the url"))
                }
            };
        }
        let text = otlp::refusal(&answer.body);
        let text = text.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned());
        match code {
            400 | 413 | 422 => Err(Attempt::Failed(Reason::UploadRejected, said(&format!("{code}: {text}")))),
            404 | 405 | 415 => {
                again(&format!("{code}: the server does not take profiles at that path: {text}"))
            }
            _ => again(&format!("{code}: {text}")),
        }
    }

    /// A request without profiles: every part of the way is the same, and nothing is stored.
    async fn look(&self) -> Result<(), String> {
        let empty = packed(&[]).map(Bytes::from)?;
        let answer = self.posts.ask(|secrets| self.request(secrets, empty)).await?;
        match self.meaning(answer) {
            Err(Attempt::Again(why, _)) => Err(why),
            // Or it took the request, found no profile in it, and says so.
            Ok(()) | Err(Attempt::Failed(..) | Attempt::Stored) => Ok(()),
        }
    }
}

/// The compressed requests for a stored profile; none when it has no samples.
///
/// # Errors
/// A sentence: it is not a profile.
fn parts(stored: &[u8], key: &str, target: &Target) -> Result<Vec<Bytes>, String> {
    let mut profile = decode_valid(stored, &LIMITS).map_err(|error| error.to_string())?;
    let resource = resource(otlp::target(&mut profile), target);
    let id = |request: usize, of_type: usize| id(key, request, of_type);
    let about = About { resource: &resource, version: env!("CARGO_PKG_VERSION"), id: &id };
    let mut parts = Vec::new();
    otlp::requests(&profile, &about, |request| parts.push(packed(&request).map(Bytes::from)));
    parts.into_iter().collect()
}

fn packed(request: &[u8]) -> Result<Vec<u8>, String> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = gzip.write_all(request).and_then(|()| gzip.finish());
    packed.map_err(|error| format!("the request could not be compressed: {error}"))
}

/// What the profile is of, in the words of OpenTelemetry.
fn resource(mut attributes: Vec<(String, String)>, target: &Target) -> Vec<(String, String)> {
    if !attributes.iter().any(|(key, _)| key == "service.name") {
        attributes.insert(0, ("service.name".to_owned(), UNKNOWN.to_owned()));
    }
    let workload = target.workload.split_once('/').and_then(|(kind, name)| {
        let key = match kind {
            "Deployment" => "k8s.deployment.name",
            "StatefulSet" => "k8s.statefulset.name",
            "DaemonSet" => "k8s.daemonset.name",
            "ReplicaSet" => "k8s.replicaset.name",
            "CronJob" => "k8s.cronjob.name",
            "Job" => "k8s.job.name",
            _ => return None,
        };
        Some((key, name))
    });
    let known = [("k8s.pod.uid", &*target.pod_uid), ("container.id", &*target.container_id)];
    let known = known.into_iter().chain(workload).filter(|(_, value)| !value.is_empty());
    attributes.extend(known.map(|(key, value)| (key.to_owned(), value.to_owned())));
    attributes
}

/// The same for the same profile in the same request, so that a server can tell when it comes twice.
fn id(key: &str, request: usize, of_type: usize) -> [u8; 16] {
    let mut id = [0; 16];
    let digest = sha256(format!("{key} {request} {of_type}"));
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}

/// Headers of a Secret: lines such as `api-key: 1234`.
///
/// # Errors
/// A sentence that names the line, and nothing of its value.
fn own_headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let lines = text.lines().enumerate().map(|(n, line)| (n, line.trim()));
    for (n, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let line = n.saturating_add(1);
        let Some((name, mut value)) = parsed else {
            return Err(format!(
                "line {line} of headers in the Secret is not a header such as api-key: 1234"
            ));
        };
        if OWN.contains(&name.as_str()) {
            return Err(format!(
                "line {line} of headers in the Secret sets {name}, which fleetprof sets: remove it"
            ));
        }
        if headers.len() >= MOST_HEADERS {
            return Err(format!("headers in the Secret has more than {MOST_HEADERS} lines: remove some"));
        }
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// A text of the server without the values of the headers, should it repeat one or, as of `Basic …`, a word of one.
fn hidden(text: &str, secrets: &Secrets) -> String {
    let lines = secrets.get("headers").unwrap_or_default().lines();
    let values: Vec<&str> =
        lines.filter_map(|line| line.split_once(':')).map(|(_, value)| value.trim()).collect();
    let words = values.iter().flat_map(|value| value.split_whitespace()).filter(|word| word.len() >= 8);
    let mut secret: Vec<&str> =
        values.iter().copied().filter(|value| value.len() >= 4).chain(words).collect();
    // The longest first, so that no rest of one is left where another is a part of it.
    secret.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    secret.into_iter().fold(text.to_owned(), |text, value| text.replace(value, "…"))
}

impl Destination for Otlp {
    fn put<'a>(&'a self, parcel: &'a Parcel, profile: Bytes) -> BoxFuture<'a, Attempt> {
        self.put_profile(parcel, profile).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        self.look().boxed()
    }

    /// A collector has a queue, and answers 429 or 503 when it is full.
    fn at_once(&self) -> usize {
        4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_repeats_a_header_or_the_credentials_in_it_gives_no_secret_away() {
        let secrets = Secrets::from([("headers", "api-key: key-1234\nx-auth: Token key-1234-and-more")]);
        for (said, told) in [
            ("a Token, key-1234-and-more, is expired", "a Token, …, is expired"),
            ("who is Token key-1234-and-more with key-1234?", "who is … with …?"),
        ] {
            assert_eq!(hidden(said, &secrets), told);
        }
    }
}
