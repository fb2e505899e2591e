//! How are alerts received? The receiver of Alertmanager's webhook, with authentication.
//!
//! ```text
//! POST /v1/alerts ─► client certificate or bearer token? 401 ─► one of 8 permits
//!                 ─► at most 1 MiB? 413 ─► version 4? 400 ─► sessions ─► 200
//! ```
//! A sender without credentials is known by the headers, and gets no permit. A request that is refused changes
//! nothing, and says nothing but why. Sessions are created before the answer, so that Alertmanager tries again (503) where
//! they could not be.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use bytes::{Bytes, BytesMut};
use fleetprof_core::trigger::alert::{self, Alert, Malformed};
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::credentials::Credentials;
use super::memory::Memory;
use super::recheck::{Arrival, Recheck};
use crate::metrics::Metrics;
use crate::server::PeerInfo;
use crate::sha256::sha256;

/// How long a body may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of a body that is too large so many bytes are read at most: what Alertmanager makes of some ten thousand
/// alerts.
const MOST_DRAINED: usize = 16 * 1024 * 1024;

/// So long at most the body of somebody who may not tell is read before it is refused.
const UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_secs(1);

/// Notifications that are worked on at once; more of those who may tell wait.
const AT_ONCE: usize = 8;
/// Unauthenticated requests whose bodies are read at once; more are answered and cut short. It costs them an
/// answer that they may not see.
const UNAUTHENTICATED_AT_ONCE: usize = 32;

/// What the receiver works with.
#[derive(Clone)]
pub struct Receiver {
    /// Who may tell.
    pub credentials: Credentials,
    /// Where alerts go.
    pub memory: Memory,
    /// Evaluates the triggers that they concern.
    pub recheck: Arc<dyn Recheck>,
    /// Counts.
    pub metrics: Metrics,
}

/// The receiver with its limits.
#[derive(Clone)]
struct ReceiverState {
    receiver: Receiver,
    permits: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
}

/// The router with `/v1/alerts`.
pub fn router(receiver: Receiver) -> Router {
    let semaphore = |n| Arc::new(Semaphore::new(n));
    Router::new().route("/v1/alerts", post(alerts)).with_state(ReceiverState {
        receiver,
        permits: semaphore(AT_ONCE),
        unauthenticated: semaphore(UNAUTHENTICATED_AT_ONCE),
    })
}

async fn alerts(
    State(state): State<ReceiverState>,
    peer: Option<Extension<PeerInfo>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let certified = peer.as_ref().is_some_and(|peer| !peer.client_certs.is_empty());
    let outcome = if certified || may(&state.receiver.credentials, &headers) {
        peer.inspect(|peer| peer.proof.is_expected());
        state.take(body).await
    } else {
        Err(state.refuse(body).await)
    };
    state.receiver.metrics.notification(outcome.as_ref().map_or_else(Refusal::code, |_| "200"));
    outcome.map_or_else(IntoResponse::into_response, |n| format!("{n} alerts accepted\n").into_response())
}

impl ReceiverState {
    async fn take(&self, body: Body) -> Result<usize, Refusal> {
        // It is never closed.
        let _permit = self.permits.acquire().await;
        take(&self.receiver, body).await
    }

    async fn refuse(&self, body: Body) -> Refusal {
        if let Ok(_permit) = self.unauthenticated.try_acquire() {
            let _ = tokio::time::timeout(UNAUTHENTICATED_TIMEOUT, drain(body, alert::MAX_BYTES)).await;
        }
        Refusal::Unauthenticated
    }
}

/// Compares the hashes in constant time, so that the time reveals neither the token nor its length.
fn may(credentials: &Credentials, headers: &HeaderMap) -> bool {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let (Some(shown), Some(token)) = (shown, credentials.token()) else { return false };
    verify_slices_are_equal(&sha256(shown.trim()), &sha256(token)).is_ok()
}

async fn take(receiver: &Receiver, body: Body) -> Result<usize, Refusal> {
    let body = read(body).await?;
    let now = Timestamp::now();
    let notification = alert::parse(&body, now).map_err(Refusal::Malformed)?;
    receiver.metrics.alerts_ignored(&notification);
    let namespaces = namespaces(&notification.firing);
    let taken = notification.firing.len();
    receiver.memory.take_alerts(notification, now);
    if receiver.recheck.recheck(Arrival::Alerts(namespaces)).await {
        Ok(taken)
    } else {
        Err(Refusal::TryAgain)
    }
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    tokio::time::timeout(TIMEOUT, collect(body)).await.unwrap_or(Err(Refusal::Slow))
}

async fn collect(mut body: Body) -> Result<Bytes, Refusal> {
    let mut taken = BytesMut::new();
    while let Some(frame) = body.frame().await {
        taken.extend_from_slice(&frame.map_err(|_| Refusal::Broken)?.into_data().unwrap_or_default());
        if taken.len() > alert::MAX_BYTES {
            drain(body, MOST_DRAINED).await;
            return Err(Refusal::TooLarge);
        }
    }
    Ok(taken.freeze())
}

/// Reads a body that is refused, and forgets it: a sender that is cut short sees a broken connection, and
/// never learns why.
async fn drain(mut body: Body, most: usize) {
    let mut size = 0;
    while let Some(Ok(frame)) = body.frame().await {
        size += frame.into_data().unwrap_or_default().len();
        if size > most {
            return;
        }
    }
}

fn namespaces(alerts: &[Alert]) -> Vec<String> {
    let mut named: Vec<String> = alerts.iter().filter_map(|a| a.labels.get("namespace").cloned()).collect();
    named.sort();
    named.dedup();
    named
}

/// Why a request is refused.
#[derive(Debug)]
enum Refusal {
    Unauthenticated,
    TooLarge,
    Malformed(Malformed),
    Broken,
    Slow,
    TryAgain,
}

impl Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "401",
            Self::TooLarge => "413",
            Self::Malformed(_) | Self::Broken => "400",
            Self::Slow => "408",
            Self::TryAgain => "503",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, text) = match self {
            Self::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "send the token in the Secret of the alert receiver as Authorization: Bearer, or a client \
                 certificate signed by its CA"
                    .to_owned(),
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!(
                    "the notification exceeds {} bytes; set max_alerts of the receiver",
                    alert::MAX_BYTES
                ),
            ),
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, why.to_string()),
            Self::Broken => (StatusCode::BAD_REQUEST, "incomplete body".to_owned()),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "timeout while reading the body".to_owned()),
            Self::TryAgain => {
                (StatusCode::SERVICE_UNAVAILABLE, "failed to create a session; retry later".to_owned())
            }
        };
        (code, text + "\n").into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use futures::StreamExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;

    struct Fine(bool);

    impl Recheck for Fine {
        fn recheck(&self, _: Arrival) -> futures::future::BoxFuture<'_, bool> {
            Box::pin(std::future::ready(self.0))
        }
    }

    fn receiver(fine: bool) -> Receiver {
        Receiver {
            credentials: Credentials::fixed("secret"),
            memory: Memory::default(),
            recheck: Arc::new(Fine(fine)),
            metrics: Metrics::default(),
        }
    }

    fn payload() -> Value {
        let since = (Timestamp::now() - jiff::SignedDuration::from_hours(1)).to_string();
        let alert = |status: &str, print: &str| json!({"status": status, "labels": {"alertname": "Slow", "namespace": "shop"}, "annotations": {}, "startsAt": since, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": print});
        json!({"version": "4", "status": "firing", "receiver": "fleetprof", "alerts": [alert("firing", "00ff"), alert("resolved", "00fe")]})
    }

    async fn send(receiver: &Receiver, token: Option<&str>, body: impl Into<Body>) -> (u16, usize) {
        let mut request = Request::post("/v1/alerts");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let answer = router(receiver.clone()).oneshot(request.body(body.into()).unwrap()).await.unwrap();
        (answer.status().as_u16(), receiver.memory.alerts(Timestamp::now()).len())
    }

    #[tokio::test]
    async fn what_is_forged_oversized_malformed_or_of_another_version_changes_nothing() {
        let good = payload().to_string();
        let large = format!("{}{}", " ".repeat(alert::MAX_BYTES), good);
        let many =
            json!({"version": "4", "alerts": vec![payload()["alerts"][0].clone(); alert::MAX_ALERTS + 1]})
                .to_string();
        let mut wrong = payload();
        wrong["version"] = json!("5");
        let cases = [
            (None, good.clone(), 401),
            (Some("guess"), good.clone(), 401),
            (Some(""), good.clone(), 401),
            (Some("secret"), large, 413),
            (Some("secret"), "[1, 2".into(), 400),
            (Some("secret"), "{}".into(), 400),
            (Some("secret"), String::new(), 400),
            (Some("secret"), wrong.to_string(), 400),
            (Some("secret"), many, 400),
            (Some("secret"), good.replace("\"alerts\":[", "\"alerts\":[7,"), 400),
        ];
        for (token, body, code) in cases {
            let what = body.chars().take(60).collect::<String>();
            assert_eq!(send(&receiver(true), token, body).await, (code, 0), "{token:?} {what}");
        }
    }

    fn never() -> Body {
        Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>())
    }

    fn post_of(token: &str, body: Body) -> Request<Body> {
        Request::post("/v1/alerts").header("Authorization", format!("Bearer {token}")).body(body).unwrap()
    }

    #[tokio::test]
    async fn unauthenticated_requests_keep_nobody_waiting() {
        let router = router(receiver(true));
        let ask = async |token: &str, body: Body| {
            let begun = std::time::Instant::now();
            let answer = router.clone().oneshot(post_of(token, body)).await.unwrap();
            (answer.status().as_u16(), begun.elapsed() < UNAUTHENTICATED_TIMEOUT / 2)
        };
        let unauthenticated =
            futures::future::join_all((0..UNAUTHENTICATED_AT_ONCE + 5).map(|_| ask("guess", never())));
        let known = async {
            tokio::task::yield_now().await;
            ask("secret", payload().to_string().into()).await
        };
        let (unauthenticated, known) = tokio::join!(unauthenticated, known);
        assert_eq!(known, (200, true));
        assert_eq!(
            unauthenticated.iter().filter(|answer| **answer == (401, false)).count(),
            UNAUTHENTICATED_AT_ONCE,
            "read to be told"
        );
        assert_eq!(
            unauthenticated.iter().filter(|answer| **answer == (401, true)).count(),
            5,
            "told at once"
        );
    }

    #[tokio::test]
    async fn those_who_may_tell_take_turns() {
        let router = router(receiver(true));
        let slow = futures::future::join_all(
            (0..AT_ONCE).map(|_| router.clone().oneshot(post_of("secret", never()))),
        );
        let next = async {
            tokio::task::yield_now().await;
            let next = router.clone().oneshot(post_of("secret", payload().to_string().into()));
            assert!(tokio::time::timeout(Duration::from_millis(50), next).await.is_err(), "it waits");
        };
        tokio::select! {
            _ = slow => unreachable!("they never end"),
            () = next => {}
        }
        let next = router.oneshot(post_of("secret", payload().to_string().into())).await.unwrap();
        assert_eq!(next.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_read_to_its_end_within_reason() {
        for (chunks, wanted) in [(3, 3), (64, 19)] {
            let chunk = Bytes::from(vec![b' '; 1 << 20]);
            let stream = futures::stream::iter((0..chunks).map(move |_| chunk.clone()));
            let (sender, receiver) = std::sync::mpsc::channel();
            let stream = stream.map(move |chunk| {
                let _ = sender.send(());
                Ok::<_, std::io::Error>(chunk)
            });
            assert!(matches!(collect(Body::from_stream(stream)).await, Err(Refusal::TooLarge)));
            assert_eq!(receiver.try_iter().count(), wanted);
        }
    }

    #[tokio::test]
    async fn an_alert_is_kept_once_and_gone_when_it_is_resolved() {
        let receiver = receiver(true);
        let mut body = payload();
        assert_eq!(send(&receiver, Some("secret"), body.to_string()).await, (200, 1));
        assert_eq!(send(&receiver, Some("secret"), body.to_string()).await, (200, 1), "repeated");
        body["alerts"][0]["status"] = json!("resolved");
        assert_eq!(send(&receiver, Some("secret"), body.to_string()).await, (200, 0));
    }

    #[tokio::test]
    async fn alertmanager_is_asked_to_try_again_when_a_session_could_not_be_created() {
        assert_eq!(send(&receiver(false), Some("secret"), payload().to_string()).await, (503, 1));
    }

    #[tokio::test]
    async fn a_client_certificate_that_was_verified_needs_no_token() {
        let receiver = Receiver { credentials: Credentials::none(), ..receiver(true) };
        let send = async |certificates: Vec<rustls_pki_types::CertificateDer<'static>>| {
            let peer = PeerInfo::new(([127, 0, 0, 1], 1).into(), certificates);
            let request =
                Request::post("/v1/alerts").extension(peer).body(Body::from(payload().to_string())).unwrap();
            router(receiver.clone()).oneshot(request).await.unwrap().status().as_u16()
        };
        assert_eq!((send(vec![]).await, send(vec![vec![1].into()]).await), (401, 200));
    }

    #[tokio::test]
    async fn nobody_may_tell_while_there_is_no_token() {
        let receiver = Receiver { credentials: Credentials::none(), ..receiver(true) };
        assert_eq!(send(&receiver, Some(""), payload().to_string()).await, (401, 0));
    }

    proptest::proptest! {
        #[test]
        fn no_body_breaks_it(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), cut in 0usize..400) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let good = payload().to_string().into_bytes();
            let mut mixed = good[..cut.min(good.len())].to_vec();
            mixed.extend(&body);
            for body in [body, mixed] {
                let (code, _) = runtime.block_on(send(&receiver(true), Some("secret"), body));
                proptest::prop_assert!([200, 400].contains(&code), "{}", code);
            }
        }
    }
}
