//! `POST /v1/heartbeat`: what does an agent tell, and what is it told?

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use fleetprof_crds::wire::{Heartbeat, HeartbeatReply, MAX_HEARTBEAT_BYTES};

use super::body::Pace;
use super::refuse::Refusal;
use super::state::{Caller, GatewayState};
use super::{body, clean};

const PACE: Pace = Pace::within(Duration::from_secs(10));

pub(super) async fn heartbeat(
    State(state): State<GatewayState>,
    Caller(pod): Caller,
    body: Body,
) -> Result<Json<HeartbeatReply>, Refusal> {
    let body = body::read("heartbeat", body, MAX_HEARTBEAT_BYTES, PACE).await?;
    let beat: Heartbeat = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
    let (beat, dropped) = clean::heartbeat(beat);
    let (reply, ignored) = state.fleet.heartbeat(&pod, beat, state.now())?;
    state.metrics.ignored(dropped + ignored);
    Ok(Json(reply))
}

/// Says where, and quotes nothing of the body.
fn unreadable(error: &serde_json::Error) -> Refusal {
    let kind = if error.is_data() { "does not conform to the protocol" } else { "is not valid JSON" };
    let (line, column) = (error.line(), error.column());
    Refusal::malformed(format!(
        "The heartbeat {kind} at line {line}, column {column}; check that the agent is not newer than the \
         operator."
    ))
}
