//! `POST /v1/enroll`: how does an attached agent get its credential, and keep it?

use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use fleetprof_core::agent::PodAgent;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{Enroll, EnrollReply};
use http::{Extensions, StatusCode};

use super::refuse::Refusal;
use super::state::{GatewayState, address, peer};
use crate::server::{Holder, Pace};
use crate::tickets::{Exchanged, RENEW_AFTER, TicketError, Tickets};

const MAX_BYTES: usize = 8 * 1024;
const PACE: Pace = Pace::within(Duration::from_secs(10));

pub(super) async fn enroll(
    State(state): State<GatewayState>,
    extensions: Extensions,
    body: Body,
) -> Result<Json<EnrollReply>, Refusal> {
    let from = address(&extensions).ok_or_else(no_peer)?;
    state.auth.may_ask(Some(from), state.now())?;
    let refused = |error| Refusal::of_body("enrolment", MAX_BYTES, error);
    let body =
        state.limits.enrolments.read(&Holder::of(from), body, MAX_BYTES, PACE).await.map_err(refused)?;
    let enroll: Enroll = serde_json::from_slice(&body.bytes).map_err(|_| {
        Refusal::malformed("The body must be a JSON object with the string field \"ticket\".")
    })?;
    let (agent, reply) = exchange(&state, &enroll.ticket, from)?;
    peer(&extensions).map_or(Ok(()), |peer| peer.proof.is_pod(&agent.pod.uid))?;
    Ok(Json(reply))
}

/// A credential for a ticket, or a new one for one that is to be renewed.
fn exchange(state: &GatewayState, shown: &str, from: IpAddr) -> Result<(PodAgent, EnrollReply), TicketError> {
    let now = state.now();
    let renews = Tickets::is_credential(shown);
    let exchanged = match renews {
        true => state.tickets.renew(shown, now, |pod| state.pods.has_address(pod, from)),
        false => state.tickets.redeem(shown, from, now),
    };
    let Exchanged { agent, credential, expires_at } = exchanged.inspect_err(|error| {
        // The address tells whether traffic to Services is masqueraded, which no ticket survives.
        tracing::warn!(client.address = %from, %error, "failed to enroll attached agent");
        if *error != TicketError::Busy {
            state.auth.note_refused(Some(from), now);
        }
    })?;
    let message = if renews { "credential of attached agent renewed" } else { "attached agent enrolled" };
    tracing::info!(
        k8s.namespace.name = agent.pod.namespace,
        k8s.pod.name = agent.pod.name,
        k8s.container.name = agent.container,
        "{message}"
    );
    let renew_after_ms = u64::try_from(RENEW_AFTER.as_millis()).ok();
    Ok((agent, EnrollReply { credential, expires_at, renew_after_ms }))
}

fn no_peer() -> Refusal {
    let message = "The address of the client is unknown.";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, Reason::Internal, message)
}
