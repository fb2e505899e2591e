//! `GET /v1/orders?wait=25&agent=INSTANCE&have=7`: what is an agent to do?

use std::time::Duration;

use axum::Json;
use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use fleetprof_crds::wire::OrderList;
use jiff::Timestamp;
use serde::Deserialize;

use super::limits::holder;
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
    Caller(agent): Caller,
    poll: Result<Query<Poll>, QueryRejection>,
) -> Result<Json<OrderList>, Refusal> {
    let Query(poll) =
        poll.map_err(|_| Refusal::malformed("?wait= and ?have= must be non-negative integers."))?;
    let _place = state.limits.polls.take(&holder(&agent))?;
    let wait = Duration::from_secs(poll.wait.min(MAX_WAIT));
    let mut list = state.fleet.orders(&agent, poll.agent.as_deref(), poll.have, wait).await?;
    count_down(&mut list, state.now());
    Ok(Json(list))
}

/// The agent's clock may differ, so it is told how much time is left.
fn count_down(list: &mut OrderList, now: Timestamp) {
    for order in &mut list.orders {
        let left = Timestamp::from_second(order.start_before).map(|at| at.duration_since(now).as_millis());
        order.start_within_ms = left.ok().map(|ms| u64::try_from(ms.max(0)).unwrap_or(u64::MAX));
    }
}
