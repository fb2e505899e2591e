//! What is known of the agents in a pod?

use std::collections::HashMap;

use fleetprof_crds::policy::AgentMode;
use fleetprof_crds::wire;

use super::{Offer, unnamed};

/// What is known of the agents in a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentFacts {
    /// Version of the agent.
    pub version: String,
    /// Protocol that it speaks.
    pub protocol: u32,
    /// Runtime by container id, of the containers that they see.
    pub runtimes: HashMap<String, String>,
    /// What can be captured, by container id; of containers for which an agent names offers.
    pub offers: HashMap<String, Vec<Offer>>,
    /// What they see of the pod.
    pub reach: Reach,
}

/// What the agents of a pod see of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// One is a sidecar, which sees every container.
    #[default]
    Pod,
    /// All of them were attached: each sees the container that it was attached to, where the pod does not share
    /// its process namespace.
    Attached,
    /// The only one is that of the node, which sees every container.
    Node,
}

/// Whether an agent that came so serves the pods of a policy with this `agent.mode`; `None` for a session without a
/// policy. The agent of a node sees every pod there, but serves those alone that are, or may be, left to it.
#[must_use]
pub fn serves(came: wire::AgentMode, wanted: Option<AgentMode>) -> bool {
    came != wire::AgentMode::Node
        || wanted.is_none_or(|mode| matches!(mode, AgentMode::Node | AgentMode::Auto))
}

impl AgentFacts {
    /// Whether one of them captures a container. One that has not started is awaited.
    #[must_use]
    pub fn see(&self, container_id: &str) -> bool {
        self.reach == Reach::Pod || container_id.is_empty() || self.runtimes.contains_key(container_id)
    }

    /// Whether one of them has reported a container. One that has just started is reported soon.
    #[must_use]
    pub fn know(&self, container_id: &str) -> bool {
        self.runtimes.contains_key(container_id)
    }

    /// What they can capture of a container.
    #[must_use]
    pub fn offers(&self, container_id: &str) -> Vec<Offer> {
        let named = self.offers.get(container_id).filter(|offers| !offers.is_empty());
        named.cloned().unwrap_or_else(unnamed)
    }

    /// Whether it is of another version than new pods get. A policy that names an image has `pinned` its
    /// version.
    #[must_use]
    pub fn is_outdated(&self, pinned: bool, version: &str) -> bool {
        !pinned && self.version != version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_of_a_node_serves_the_pods_that_are_left_to_it() {
        use AgentMode::{Auto, Ephemeral, Node, Sidecar};
        let all = [None, Some(Node), Some(Auto), Some(Sidecar), Some(Ephemeral)];
        let by = |came| all.map(|wanted| serves(came, wanted));
        assert_eq!(by(wire::AgentMode::Node), [true, true, true, false, false]);
        for came in [wire::AgentMode::Sidecar, wire::AgentMode::Ephemeral, wire::AgentMode::Unknown] {
            assert_eq!(by(came), [true; 5], "{came:?}");
        }
    }
}
