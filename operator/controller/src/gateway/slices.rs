//! `PUT /v1/captures/{capture}/{kind}/slices/{seq}`: is a slice the pod's to upload, and is it whole?

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use bytes::Bytes;
use fleetprof_core::agent::AgentId;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::{DIGEST_HEADER, MAX_SLICE_BYTES, SliceId, SliceReply};
use fleetprof_crds::{ProfileKind, Reason};
use http::{HeaderMap, StatusCode};

use super::fleet::Admission;
use super::limits::UploadPlace;
use super::metrics::SliceOutcome;
use super::refuse::Refusal;
use super::sink::{SinkError, Stored};
use super::state::{Caller, GatewayState};
use crate::server::{Pace, body_size, read_body};
use crate::sha256::sha256;

/// How fast a slice must arrive. Its place and its memory are taken meanwhile, and agents send what lies on
/// their disk: 64 KiB a second is the slowest line that one would profile over; the largest slice takes 74 s
/// there.
const PACE: Pace = Pace { grace: Duration::from_secs(10), bytes_per_second: 64 * 1024 };

pub(super) async fn put(
    State(state): State<GatewayState>,
    Caller(agent): Caller,
    Path((capture, kind, seq)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SliceReply>, Refusal> {
    let kind = kind.parse().unwrap_or(ProfileKind::Unknown);
    take(state, agent, Address { capture, kind, seq }, headers, body).await
}

/// The path of protocol 1, which knows CPU alone.
pub(super) async fn put_cpu(
    State(state): State<GatewayState>,
    Caller(agent): Caller,
    Path((capture, seq)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SliceReply>, Refusal> {
    take(state, agent, Address { capture, kind: ProfileKind::Cpu, seq }, headers, body).await
}

/// Which slice a path names.
struct Address {
    capture: String,
    kind: ProfileKind,
    seq: String,
}

async fn take(
    state: GatewayState,
    agent: AgentId,
    address: Address,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SliceReply>, Refusal> {
    let Address { capture, kind, seq } = address;
    let checked = async {
        let (scope, slices) = scope(&state, &capture, &agent)?;
        let slice = SliceId::new(ordered(kind, &scope)?, sequence(&seq, slices)?);
        let announced = digest(&headers)?;
        let place =
            state.limits.uploads.take(&agent, &scope.session_namespace, body_size(&body, MAX_SLICE_BYTES))?;
        let refused = |error| Refusal::of_body("slice", MAX_SLICE_BYTES, error);
        let body = read_body(body, MAX_SLICE_BYTES, PACE).await.map_err(refused)?;
        whole(&body, announced)?;
        Ok::<_, Refusal>((Upload { scope, slice, body, sha256: announced }, place))
    };
    let (upload, place) =
        checked.await.inspect_err(|_| state.metrics.slice(SliceOutcome::Refused, kind, 0))?;
    let stored = store(state, upload, place).await?;
    Ok(Json(SliceReply { duplicate: stored.duplicate }))
}

/// A slice that may be stored.
struct Upload {
    scope: Arc<CaptureScope>,
    slice: SliceId,
    body: Bytes,
    sha256: [u8; 32],
}

/// What is captured, and how many slices of each kind are taken.
fn scope(state: &GatewayState, capture: &str, agent: &AgentId) -> Result<(Arc<CaptureScope>, u32), Refusal> {
    let is_served = |scope: &CaptureScope| match agent {
        AgentId::Pod(_) => true,
        AgentId::Node { .. } => state.nodes.has(&scope.session_namespace),
    };
    match state.fleet.admit(capture, agent) {
        Admission::Open(scope, _) if !is_served(&scope) => Err(Refusal::unknown_capture()),
        Admission::Open(scope, slices) => Ok((scope, slices)),
        Admission::Settled => Err(Refusal::settled_capture()),
        Admission::Unknown => Err(Refusal::unknown_capture()),
        Admission::NotSynced => Err(Refusal::starting()),
    }
}

/// A kind that the capture's order names.
fn ordered(kind: ProfileKind, scope: &CaptureScope) -> Result<ProfileKind, Refusal> {
    if scope.profiles.contains(&kind) {
        return Ok(kind);
    }
    let ordered: Vec<&str> = scope.profiles.iter().map(|kind| kind.name()).collect();
    Err(Refusal::rejected(format!("This capture takes slices of {}, not of {kind}.", ordered.join(", "))))
}

fn sequence(text: &str, slices: u32) -> Result<u32, Refusal> {
    let digits = !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    let seq = text.parse::<u32>().ok().filter(|_| digits);
    let seq = seq.ok_or_else(|| Refusal::malformed("The sequence number of a slice must be an integer."))?;
    if seq >= slices {
        return Err(Refusal::rejected(format!(
            "This capture has at most {slices} slices of a kind, numbered from 0."
        )));
    }
    Ok(seq)
}

fn digest(headers: &HeaderMap) -> Result<[u8; 32], Refusal> {
    let text = headers.get(DIGEST_HEADER).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let wrong = || {
        Refusal::malformed(format!(
            "The header {DIGEST_HEADER} must be the SHA-256 of the body in lower-case hex."
        ))
    };
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return Err(wrong());
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0]).zip(nibble(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?;
    }
    Ok(digest)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn whole(body: &[u8], announced: [u8; 32]) -> Result<(), Refusal> {
    if body.is_empty() {
        return Err(Refusal::rejected("The slice is empty."));
    }
    if sha256(body) != announced {
        return Err(Refusal::rejected(format!("The SHA-256 of the slice does not match {DIGEST_HEADER}.")));
    }
    Ok(())
}

/// Stores in a task of its own: it ends, and is noted, even when the agent hangs up, and holds its place
/// until then.
async fn store(state: GatewayState, upload: Upload, place: UploadPlace) -> Result<Stored, Refusal> {
    let task = tokio::spawn(async move {
        let Upload { scope, slice, body, sha256 } = upload;
        let bytes = body.len() as u64;
        let outcome = state.sink.put_slice(&scope, slice, body, sha256).await;
        match &outcome {
            Ok(stored) => {
                state.metrics.slice(SliceOutcome::of(stored), slice.kind, bytes);
                state.fleet.note_stored(&scope.capture);
            }
            Err(error) => failed(&state, &scope, slice, error),
        }
        drop(place);
        outcome
    });
    let crashed =
        |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal, "Storing the slice failed.");
    Ok(task.await.map_err(crashed)??)
}

fn failed(state: &GatewayState, scope: &CaptureScope, slice: SliceId, error: &SinkError) {
    state.metrics.slice(SliceOutcome::failed(error), slice.kind, 0);
    tracing::warn!(
        k8s.namespace.name = scope.session_namespace,
        k8s.pod.name = scope.pod_name,
        fleetprof.capture = scope.capture,
        fleetprof.profile.kind = slice.kind.name(),
        fleetprof.slice = slice.seq,
        %error,
        "failed to store slice"
    );
}
