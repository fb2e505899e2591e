//! What is held of a heartbeat, so that the agent's next one may tell only what changed since?
//!
//! The containers are in the views of the pods. Only those that no view has are kept beside them: of which it
//! is not known yet whose they are.

use fleetprof_core::agent::AgentId;
use fleetprof_crds::wire::{AgentMode, ContainerReport, Heartbeat};

use super::state::State;

/// A heartbeat that was taken in.
#[derive(Debug)]
pub(in crate::gateway) struct Told {
    /// What counts of it. It has a number where all that was told is held.
    pub(in crate::gateway) beat: Heartbeat,
    /// Containers that it told and that do not count now, and may later.
    pub(in crate::gateway) left_out: Vec<ContainerReport>,
}

impl From<Heartbeat> for Told {
    fn from(beat: Heartbeat) -> Self {
        Self { beat, left_out: Vec::new() }
    }
}

impl State {
    /// The containers of an agent's heartbeat of this number; `None` where they are not held any more, or
    /// never were.
    pub(super) fn told(&self, agent: &AgentId, instance: &str, number: u64) -> Option<Vec<ContainerReport>> {
        match agent {
            AgentId::Pod(agent) => {
                let known = self.agents.get(&agent.pod.uid)?.get(agent, instance)?;
                let beat = &known.view.heartbeat;
                let rows = || beat.containers.iter().chain(&known.left_out).cloned().collect();
                (beat.number == Some(number)).then(rows)
            }
            AgentId::Node { name, .. } => self.told_of_node(name, instance, number),
        }
    }

    fn told_of_node(&self, node: &str, instance: &str, number: u64) -> Option<Vec<ContainerReport>> {
        let (pods, left_out) = self.nodes.told(node, instance, number)?;
        let mut rows = left_out.to_vec();
        for uid in pods {
            // Where another took its place, or it fell silent, the agent has to tell everything.
            let is_its = |beat: &Heartbeat| {
                beat.mode == AgentMode::Node && beat.instance == instance && beat.number == Some(number)
            };
            let view = self.agents.get(uid)?.views().find(|view| is_its(&view.heartbeat))?;
            rows.extend_from_slice(&view.heartbeat.containers);
        }
        Some(rows)
    }
}
