//! What is known of the agents in a pod?

use std::collections::HashMap;

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
    /// The only one is that of the node: it sees every container, and serves the pods that are left to it.
    Node,
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
