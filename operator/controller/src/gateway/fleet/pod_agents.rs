//! Which agents does a pod have, and which of them captures a container?
//!
//! A sidecar sees every container of its pod. An attached agent may see others where the pod shares its
//! process namespace, but counts for the one that it was attached to. A pod can have several at a time.

use std::sync::Arc;

use fleetprof_core::agent::PodAgent;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{AgentMode, ContainerReport, Heartbeat, Order};
use jiff::{SignedDuration, Timestamp};

use crate::agents::{AgentView, CaptureView};

/// Most agents of a pod that are remembered: how many there are is their own word.
const MOST: usize = 8;
/// The same of those that were attached to one container: the one that ends, and the one that follows.
const MOST_ATTACHED: usize = 2;
/// How many of its intervals an agent may be silent.
const SILENT_INTERVALS: i64 = 3;

/// An agent that reports.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) view: Arc<AgentView>,
    pub(super) interval_ms: u64,
    pub(super) ca_sent: Option<(u64, Timestamp)>,
    /// Containers that it told beside those in its view.
    pub(super) left_out: Vec<ContainerReport>,
}

impl Agent {
    /// What an agent says its name is holds among those that speak for the same.
    fn is(&self, agent: &PodAgent, instance: &str) -> bool {
        self.view.agent.container == agent.container && self.view.heartbeat.instance == instance
    }

    fn is_silent(&self, now: Timestamp) -> bool {
        is_silent(self.view.received, self.interval_ms, now)
    }
}

/// Whether an agent that was heard last at `received` has missed three of its intervals.
pub(super) fn is_silent(received: Timestamp, interval_ms: u64, now: Timestamp) -> bool {
    let interval = i64::try_from(interval_ms).unwrap_or(i64::MAX);
    let limit = SignedDuration::from_millis(interval.saturating_mul(SILENT_INTERVALS));
    now.duration_since(received) > limit
}

/// The agents of one pod, in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct PodAgents(Vec<Agent>);

impl PodAgents {
    pub(super) fn get(&self, agent: &PodAgent, instance: &str) -> Option<&Agent> {
        self.0.iter().find(|known| known.is(agent, instance))
    }

    pub(super) fn views(&self) -> impl Iterator<Item = &Arc<AgentView>> {
        self.0.iter().map(|agent| &agent.view)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes what an agent said last. A sidecar that was restarted takes the place of the one before it; of
    /// too many that speak for the same, the one that was silent for longest goes.
    pub(super) fn put(&mut self, agent: Agent) {
        let (who, instance) = (&agent.view.agent, &agent.view.heartbeat.instance);
        if let Some(known) = self.0.iter_mut().find(|known| known.is(who, instance)) {
            *known = agent;
            return;
        }
        if is_sidecar(&agent.view.heartbeat) {
            self.0.retain(|known| !is_sidecar(&known.view.heartbeat));
        }
        let most = if who.container.is_some() { MOST_ATTACHED } else { MOST };
        let same = self.0.iter().enumerate().filter(|(_, known)| known.view.agent.container == who.container);
        if same.clone().count() >= most
            && let Some((at, _)) = same.min_by_key(|(_, known)| known.view.received)
        {
            self.0.remove(at);
        }
        self.0.push(agent);
    }

    /// Forgets an agent that has ended.
    pub(super) fn remove(&mut self, agent: &PodAgent, instance: &str) {
        self.0.retain(|known| !known.is(agent, instance));
    }

    /// Removes agents that did not report for three of their intervals; whether there were any. After a clock
    /// went back, agents are silent since now.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        for agent in self.0.iter_mut().filter(|agent| agent.view.received > now) {
            agent.view = Arc::new(AgentView { received: now, ..(*agent.view).clone() });
        }
        let before = self.0.len();
        self.0.retain(|agent| !agent.is_silent(now));
        self.0.len() < before
    }

    /// The agent that makes a capture: the one that reports it already, else one that says it sees the
    /// container, a sidecar before an attached one, and that of the node last; else the sidecar, which would see
    /// it. `None` where no agent can.
    fn owner(&self, scope: &CaptureScope, container_id: &str, reporter: Option<&str>) -> Option<&Agent> {
        let rank = |agent: &&Agent| {
            let beat = &agent.view.heartbeat;
            let lists = sees(beat, container_id);
            let can = lists || is_sidecar(beat) || container_id.is_empty();
            let can = can && agent.view.agent.captures(scope);
            can.then_some((reporter == Some(beat.instance.as_str()), lists, preference(beat.mode)))
        };
        // Of equals the one that was seen first, so that one that appears takes nothing over.
        let ranked = self.0.iter().rev().filter_map(|agent| Some((rank(&agent)?, agent)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, agent)| agent)
    }

    /// Whether it is this agent that obeys an order, see [`PodAgents::owner`].
    pub(super) fn is_for(
        &self,
        agent: &PodAgent,
        instance: &str,
        order: &Order,
        capture: &CaptureView,
    ) -> bool {
        let owner = self.owner(&capture.scope, bare_id(&order.container_id), capture.instance.as_deref());
        owner.is_some_and(|owner| owner.is(agent, instance))
    }

    /// Whether another agent than this one sees the container.
    pub(super) fn is_seen_by_another(&self, agent: &PodAgent, instance: &str, container_id: &str) -> bool {
        self.0.iter().any(|known| !known.is(agent, instance) && sees(&known.view.heartbeat, container_id))
    }
}

fn sees(beat: &Heartbeat, container_id: &str) -> bool {
    beat.containers.iter().any(|container| container.id == container_id)
}

/// What was put into the pod goes before the agent of its node: its policy, or a person, wanted it there.
const fn preference(mode: AgentMode) -> u8 {
    match mode {
        AgentMode::Sidecar => 2,
        AgentMode::Ephemeral | AgentMode::Unknown => 1,
        AgentMode::Node => 0,
    }
}

fn is_sidecar(beat: &Heartbeat) -> bool {
    beat.mode == AgentMode::Sidecar
}

/// The id of a container, without a `containerd://` that an order may put before it.
pub(super) fn bare_id(id: &str) -> &str {
    id.split_once("://").map_or(id, |(_, id)| id)
}

/// Whether an agent that sees too little may say so of a container that is there.
pub(super) const fn is_missing(reason: Reason) -> bool {
    matches!(reason, Reason::ContainerRestarted | Reason::ProcessNamespaceConflict)
}
