//! What do decisions know of an agent?

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_core::agent::AgentFacts;
use fleetprof_core::pod::PodFacts;

use super::{AgentView, Agents};

/// The agents of these pods, by pod uid.
#[must_use]
pub fn agents(pods: &[Arc<PodFacts>], agents: &dyn Agents) -> HashMap<String, AgentFacts> {
    pods.iter().filter_map(|p| agents.serving(&p.uid).map(|view| (p.uid.clone(), facts(&view)))).collect()
}

fn facts(view: &AgentView) -> AgentFacts {
    let heartbeat = &view.heartbeat;
    AgentFacts {
        version: heartbeat.version.clone(),
        protocol: heartbeat.protocol,
        runtimes: heartbeat.containers.iter().map(|c| (c.id.clone(), c.runtime.clone())).collect(),
    }
}
