//! `POST /v1/heartbeat`, and `/v1/heartbeat/changes`: what does an agent tell, and what is it told?

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use fleetprof_core::agent::{AgentId, PodAgent};
use fleetprof_crds::wire::{
    AgentMode, ContainerReport, Heartbeat, HeartbeatChanges, HeartbeatReply, MAX_HEARTBEAT_BYTES,
    MAX_NODE_HEARTBEAT_BYTES,
};
use serde::de::DeserializeOwned;

use super::fleet::Told;
use super::nodes::{self, Parts};
use super::refuse::Refusal;
use super::state::{Caller, GatewayState, KnownPods};
use super::{PodId, clean};
use crate::server::{Holder, Pace};

const PACE: Pace = Pace::within(Duration::from_secs(10));

pub(super) async fn heartbeat(
    State(state): State<GatewayState>,
    Caller(agent): Caller,
    body: Body,
) -> Result<Json<HeartbeatReply>, Refusal> {
    let beat = read(&state, &agent, body).await?;
    answer(&state, agent, beat)
}

/// A heartbeat of which the containers are told as what changed since an earlier one. Where that one is not
/// held, the agent tells everything.
pub(super) async fn changes(
    State(state): State<GatewayState>,
    Caller(agent): Caller,
    body: Body,
) -> Result<Json<HeartbeatReply>, Refusal> {
    let changes: HeartbeatChanges = read(&state, &agent, body).await?;
    let instance = clean::instance(&changes.heartbeat.instance);
    let before = state.fleet.told(&agent, &instance, changes.since).ok_or_else(Refusal::not_held)?;
    answer(&state, agent, changes.applied_to(before))
}

/// The body of a request.
async fn read<T: DeserializeOwned>(state: &GatewayState, agent: &AgentId, body: Body) -> Result<T, Refusal> {
    let holder = Holder::Pod(agent.own_pod().uid.clone());
    let (bodies, most) = match agent {
        AgentId::Pod(_) => (&state.limits.heartbeats, MAX_HEARTBEAT_BYTES),
        AgentId::Node { .. } => (&state.limits.heartbeats_of_nodes, MAX_NODE_HEARTBEAT_BYTES),
    };
    let refused = |error| Refusal::of_body("heartbeat", most, error);
    let body = bodies.read(&holder, body, most, PACE).await.map_err(refused)?;
    serde_json::from_slice(&body.bytes).map_err(|error| unreadable(&error))
}

fn answer(state: &GatewayState, agent: AgentId, beat: Heartbeat) -> Result<Json<HeartbeatReply>, Refusal> {
    let (reply, ignored) = match agent {
        AgentId::Pod(agent) => of_pod(state, &agent, beat)?,
        AgentId::Node { name, pod } => of_node(state, &name, &pod, beat)?,
    };
    state.metrics.ignored(ignored);
    Ok(Json(reply))
}

fn of_pod(
    state: &GatewayState,
    agent: &PodAgent,
    beat: Heartbeat,
) -> Result<(HeartbeatReply, usize), Refusal> {
    let now = state.now();
    let (mut beat, dropped) = clean::heartbeat(beat, now);
    let left_out = keep_own(agent, &mut beat, &*state.pods);
    let (reply, ignored) = state.fleet.heartbeat(agent, Told { beat, left_out }, now)?;
    Ok((reply, dropped + ignored))
}

fn of_node(
    state: &GatewayState,
    node: &str,
    own: &PodId,
    beat: Heartbeat,
) -> Result<(HeartbeatReply, usize), Refusal> {
    let now = state.now();
    let pods = state.pods.on_node(node);
    let Parts { pods, mut rest, left_out, dropped } = nodes::parts(beat, &pods, &state.nodes, now);
    let is_served = |capture: &str| {
        let known = state.fleet.capture(capture);
        known.is_none_or(|known| state.nodes.has(&known.scope.session_namespace))
    };
    rest.captures.retain(|row| is_served(&row.capture));
    let rest = Told { beat: rest, left_out };
    let (reply, ignored) = state.fleet.heartbeat_of_node((node, own), pods, rest, now)?;
    Ok((reply, dropped + ignored))
}

/// What an agent that was attached to a container says of others does not count: it was let in by a word
/// that the processes of that container can read. Nor does it count where an agent in a pod says that it is a
/// node's. Gives back what is left out: its own container may not be known yet.
fn keep_own(agent: &PodAgent, beat: &mut Heartbeat, pods: &dyn KnownPods) -> Vec<ContainerReport> {
    if beat.mode == AgentMode::Node {
        beat.mode = AgentMode::Unknown;
    }
    let Some(container) = &agent.container else { return Vec::new() };
    let own = pods.container_id(&agent.pod, container);
    beat.mode = AgentMode::Ephemeral;
    let is_other = |row: &mut ContainerReport| own.as_ref() != Some(&row.id);
    beat.containers.extract_if(.., is_other).collect()
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
