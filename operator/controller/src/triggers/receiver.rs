//! How are alerts received? The receiver of Alertmanager's webhook, with authentication.
//!
//! ```text
//! POST /v1/alerts ─► client certificate or bearer token? 401 ─► one of 8 permits
//!                 ─► at most 1 MiB? 413 ─► version 4? 400 ─► sessions ─► 200
//! ```
//! A sender without credentials is known by the headers, and gets no permit. A request that is refused changes
//! nothing, and says nothing but why. Sessions are created before the answer, so that Alertmanager tries again
//! (503) where that may help. What the API server rejects now it would reject again at once: then the
//! answer is 200 and says so, as it does of alerts that lead nowhere.

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
use fleetprof_core::text::counted;
use fleetprof_core::trigger::alert::{self, Malformed};
use fleetprof_core::trigger::reach;
use http_body_util::BodyExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::credentials::Credentials;
use super::memory::Memory;
use super::nowhere::Nowhere;
use super::recheck::{Arrival, Recheck, Rechecked};
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
    /// Reports alerts that lead nowhere.
    pub nowhere: Nowhere,
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
    outcome.map_or_else(IntoResponse::into_response, IntoResponse::into_response)
}

impl ReceiverState {
    async fn take(&self, body: Body) -> Result<String, Refusal> {
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

async fn take(receiver: &Receiver, body: Body) -> Result<String, Refusal> {
    let body = read(body).await?;
    let now = Timestamp::now();
    let notification = alert::parse(&body, now).map_err(Refusal::Malformed)?;
    receiver.metrics.alerts_ignored(&notification);
    let too_large = notification.says_too_large();
    if let Some(words) = &too_large {
        tracing::warn!("{words}");
    }
    let arrival = Arrival::Alerts(notification.firing.clone());
    receiver.memory.take_alerts(notification, now);
    let rechecked = receiver.recheck.recheck(arrival).await;
    receiver.nowhere.tell(&rechecked.reached, &receiver.memory).await;
    if rechecked.again { Err(Refusal::TryAgain) } else { Ok(answer(&rechecked, too_large)) }
}

/// What Alertmanager's debug log shows.
fn answer(rechecked: &Rechecked, too_large: Option<String>) -> String {
    let refused = match rechecked.refused {
        0 => String::new(),
        n => format!(
            "; the API server refused {}, see the events of the policies",
            counted(n, "session", "sessions")
        ),
    };
    let too_large = too_large.map(|words| format!("; {words}")).unwrap_or_default();
    format!("{}{refused}{too_large}\n", reach::summary(&rechecked.reached))
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
mod tests;
