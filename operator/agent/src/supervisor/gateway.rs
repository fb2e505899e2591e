//! How does the agent talk to the gateway? HTTP/1.1 over TLS 1.3, trusting the given CA alone, with every
//! answer bounded.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use bytes::Bytes;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::{
    DIGEST_HEADER, Enroll, EnrollReply, ErrorReply, HeartbeatReply, MAX_HEARTBEAT_BYTES, OrderList, SliceId,
    slice_path,
};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::agent::chance;
use super::credential::{Credential, CredentialError};
use super::spool::hex;
use super::told::Message;
use crate::capture::protocol::bounded;

/// Most bytes of an answer: 64 orders, or a CA bundle.
const MAX_REPLY_BYTES: usize = 512 * 1024;
/// How long the gateway may hold a poll, seconds.
const POLL_WAIT: u64 = 25;
/// How long a short call may take.
const SHORT: Duration = Duration::from_secs(10);
/// How long an upload may take.
const UPLOAD: Duration = Duration::from_secs(60);

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why a call brought no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer at all.
    #[error("failed to reach the gateway: {0}")]
    Transport(String),
    /// An answer other than a success.
    #[error("the gateway responded with {status}: {message}")]
    Refused {
        /// The HTTP status code.
        status: u16,
        /// When to come back, where the gateway says so.
        retry_after: Option<Duration>,
        /// Its sentence.
        message: String,
    },
    /// A success with an unexpected body.
    #[error("unexpected response from gateway: {0}")]
    Nonsense(String),
    /// There is no credential to call with.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

impl CallError {
    /// The gateway's `Retry-After`.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The gateway, as the agent sees it.
pub struct Gateway {
    base: String,
    http: RefCell<Http>,
    ca: RefCell<String>,
    credential: Credential,
    /// Counts lost connections, so that a poll on a dead one is given up as soon as anything else finds out.
    losses: watch::Sender<u64>,
}

impl Gateway {
    /// A gateway at `url` that is trusted by `ca` (PEM). Errors when the URL is not https or no certificate
    /// is in the PEM.
    pub fn new(url: &str, ca: &str, credential: Credential) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        if !base.starts_with("https://") || base.parse::<http::Uri>().is_err() {
            anyhow::bail!(
                "invalid FLEETPROF_GATEWAY {base:?}; set it to a URL such as \
                 https://fleetprof-leader.fleetprof.svc:8443"
            );
        }
        let http = RefCell::new(client(ca)?);
        Ok(Self { base, http, ca: RefCell::new(ca.to_owned()), credential, losses: watch::Sender::new(0) })
    }

    /// Trusts other certificates from now on; says whether that is a change. Errors leave the present ones in
    /// force.
    pub fn trust(&self, ca: &str) -> anyhow::Result<bool> {
        if *self.ca.borrow() == ca {
            return Ok(false);
        }
        *self.http.borrow_mut() = client(ca)?;
        ca.clone_into(&mut self.ca.borrow_mut());
        Ok(true)
    }

    /// Tells when a connection was lost.
    #[must_use]
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// Sends a heartbeat.
    pub async fn tell(&self, message: &Message) -> Result<HeartbeatReply, CallError> {
        let (path, body) = match message {
            Message::Whole(heartbeat) => ("/v1/heartbeat", encode(heartbeat)?),
            Message::Changes(changes) => ("/v1/heartbeat/changes", encode(changes)?),
        };
        parse(&self.authorized(Method::POST, path, body, None, SHORT).await?)
    }

    /// Waits up to 25 s until the orders of this process of the agent are no longer those of version `have`.
    pub async fn orders(&self, instance: &str, have: Option<u64>) -> Result<Option<OrderList>, CallError> {
        let have = have.map(|v| format!("&have={v}")).unwrap_or_default();
        let path = format!("/v1/orders?wait={POLL_WAIT}&agent={}{have}", path_segment(instance));
        let limit = Duration::from_secs(POLL_WAIT) + SHORT;
        let body = self.authorized(Method::GET, &path, Bytes::new(), None, limit).await?;
        if body.is_empty() { Ok(None) } else { parse(&body).map(Some) }
    }

    /// Uploads a slice of a capture of these kinds; the answer is a success when the gateway has stored it.
    pub async fn upload(
        &self,
        capture: &str,
        profiles: &[ProfileKind],
        slice: SliceId,
        body: Bytes,
    ) -> Result<(), CallError> {
        let digest = hex(digest::digest(&SHA256, &body).as_ref());
        let path = slice_path(&path_segment(capture), profiles, slice);
        self.authorized(Method::PUT, &path, body, Some(&digest), UPLOAD).await.map(drop)
    }

    async fn authorized(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        digest: Option<&str>,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let bearer = self.credential.bearer(|enroll| self.enroll(enroll), chance()).await?;
        let result = self.call(method, path, body, digest, Some(&bearer), limit).await;
        if matches!(result, Err(CallError::Refused { status: 401, .. })) {
            self.credential.refused(&bearer);
        }
        result
    }

    async fn enroll(&self, enroll: Enroll) -> Result<EnrollReply, CallError> {
        parse(&self.call(Method::POST, "/v1/enroll", encode(&enroll)?, None, None, SHORT).await?)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        digest: Option<&str>,
        bearer: Option<&str>,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let request = request(method, format!("{}{path}", self.base), body, digest, bearer)?;
        let http = self.http.borrow().clone();
        let answer = tokio::time::timeout(limit, async {
            let response = http.request(request).await.map_err(|e| CallError::Transport(chain(&e)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_REPLY_BYTES).collect().await;
            body.map(|b| (head, b.to_bytes())).map_err(|e| CallError::Transport(e.to_string()))
        });
        let late = || CallError::Transport(format!("no response within {} s", limit.as_secs()));
        match answer.await.unwrap_or_else(|_| Err(late())) {
            Ok((head, body)) if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED => {
                Ok(body)
            }
            Ok((head, body)) => Err(refusal(&head, &body)),
            Err(error) => {
                self.lost();
                Err(error)
            }
        }
    }

    /// A connection was lost: the others may lead to the same dead place, so that none is used again.
    fn lost(&self) {
        match client(&self.ca.borrow()) {
            Ok(fresh) => *self.http.borrow_mut() = fresh,
            Err(error) => tracing::error!(%error, "failed to rebuild the connections to the gateway"),
        }
        self.losses.send_modify(|n| *n = n.wrapping_add(1));
    }
}

/// A client with its own pool of connections, small and quick to notice a dead peer.
fn client(ca: &str) -> anyhow::Result<Http> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()).take(64) {
        let certificate = certificate.map_err(|e| {
            anyhow::anyhow!("FLEETPROF_CA is not valid PEM: {e:?}; set it to the CA certificates")
        })?;
        roots.add(certificate)?;
    }
    if roots.is_empty() {
        anyhow::bail!("FLEETPROF_CA contains no certificate; set it to the CA certificates in PEM");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.resumption = Resumption::in_memory_sessions(2);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(5)));
    tcp.set_keepalive(Some(Duration::from_secs(15)));
    tcp.set_keepalive_interval(Some(Duration::from_secs(5)));
    tcp.set_keepalive_retries(Some(3));
    tcp.set_tcp_user_timeout(Some(Duration::from_secs(20)));
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(Duration::from_secs(90))
        .pool_max_idle_per_host(2)
        .pool_timer(TokioTimer::new());
    builder.http1_max_buf_size(64 * 1024);
    Ok(builder.build(connector))
}

fn request(
    method: Method,
    uri: String,
    body: Bytes,
    digest: Option<&str>,
    bearer: Option<&str>,
) -> Result<Request<Full<Bytes>>, CallError> {
    let invalid = |e: http::Error| CallError::Nonsense(format!("failed to build the request: {e}"));
    let kind = if digest.is_some() { "application/gzip" } else { "application/json" };
    let mut builder = Request::builder().method(method).uri(uri);
    builder = builder.header(header::USER_AGENT, concat!("fleetprof-agent/", env!("CARGO_PKG_VERSION")));
    if !body.is_empty() {
        builder = builder.header(header::CONTENT_TYPE, kind);
    }
    if let Some(digest) = digest {
        builder = builder.header(DIGEST_HEADER, digest);
    }
    if let Some(bearer) = bearer {
        let mut value = HeaderValue::try_from(format!("Bearer {bearer}")).map_err(|e| invalid(e.into()))?;
        value.set_sensitive(true);
        builder = builder.header(header::AUTHORIZATION, value);
    }
    builder.body(Full::new(body)).map_err(invalid)
}

fn encode(body: &impl serde::Serialize) -> Result<Bytes, CallError> {
    let bytes = serde_json::to_vec(body).map_err(|e| CallError::Nonsense(e.to_string()))?;
    debug_assert!(bytes.len() <= MAX_HEARTBEAT_BYTES);
    Ok(Bytes::from(bytes))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|e| CallError::Nonsense(e.to_string()))
}

fn refusal(head: &http::response::Parts, body: &[u8]) -> CallError {
    let retry_after = head
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let said = serde_json::from_slice::<ErrorReply>(body).ok().map(|r| r.message);
    let message =
        said.unwrap_or_else(|| head.status.canonical_reason().unwrap_or("no reason given").to_owned());
    CallError::Refused { status: head.status.as_u16(), retry_after, message: bounded(message, 400) }
}

/// An error with its causes: the outermost alone only says "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source()).take(6);
    bounded(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "), 400)
}

/// A capture's name as one segment of a path.
fn path_segment(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let byte = |b: u8| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    // A segment of dots alone would be taken for a way up.
    if text.bytes().all(|b| b == b'.') { text.replace('.', "%2E") } else { text.bytes().map(byte).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captures_name_cannot_leave_its_segment() {
        for (name, wanted) in
            [("a-1.b_c~", "a-1.b_c~"), ("../x?y#z", "..%2Fx%3Fy%23z"), ("..", "%2E%2E"), ("é", "%C3%A9")]
        {
            assert_eq!(path_segment(name), wanted);
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_at_the_start() {
        let credential = || Credential::token_file("/nonexistent".into());
        for (url, ca, word) in [
            ("http://x:1", "", "FLEETPROF_GATEWAY"),
            ("https://x:1", "", "no certificate"),
            ("https://x y", "", "GATEWAY"),
        ] {
            let error = Gateway::new(url, ca, credential()).err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_refusal_says_its_sentence_and_when_to_come_back() {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = StatusCode::SERVICE_UNAVAILABLE;
        head.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        let error = refusal(&head, br#"{"reason":"StorageFull","message":"the volume is full"}"#);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(error.to_string(), "the gateway responded with 503: the volume is full");
        head.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT"));
        assert_eq!(
            refusal(&head, b"<html>").to_string(),
            "the gateway responded with 503: Service Unavailable"
        );
    }
}
