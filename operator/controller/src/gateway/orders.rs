//! `GET /v1/orders?wait=25&agent=INSTANCE&have=7`: what is an agent to do?

use std::time::Duration;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use fleetprof_crds::wire::OrderList;
use serde::Deserialize;

use super::refuse::Refusal;
use super::state::{Caller, GatewayState};

/// Longest that a poll hangs, in seconds; longer wishes are cut. Below the idle timeouts of usual load
/// balancers.
pub(super) const MAX_WAIT: u64 = 25;

#[derive(Deserialize)]
pub(super) struct Poll {
    /// Seconds.
    #[serde(default)]
    wait: u64,
    /// The version that the agent has.
    have: Option<u64>,
    /// Which agent of the pod asks, see [`fleetprof_crds::wire::Heartbeat::instance`].
    agent: Option<String>,
}

pub(super) async fn orders(
    State(state): State<GatewayState>,
    Caller(pod): Caller,
    poll: Result<Query<Poll>, QueryRejection>,
) -> Result<Json<OrderList>, Refusal> {
    let Query(poll) =
        poll.map_err(|_| Refusal::malformed("?wait= and ?have= must be non-negative integers."))?;
    let _place = state.limits.polls.take(&pod.uid)?;
    let wait = Duration::from_secs(poll.wait.min(MAX_WAIT));
    Ok(Json(state.fleet.orders(&pod, poll.agent.as_deref(), poll.have, wait).await?))
}
