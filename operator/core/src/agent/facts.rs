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
    /// All of them were attached: each sees the container that it was attached to, where the pod does not
    /// share its process namespace, and a sidecar sees all.
    pub attached_only: bool,
}

impl AgentFacts {
    /// Whether one of them captures a container. One that has not started is awaited.
    #[must_use]
    pub fn see(&self, container_id: &str) -> bool {
        !self.attached_only || container_id.is_empty() || self.runtimes.contains_key(container_id)
    }

    /// What it can capture of a container. Heartbeats name no offers yet.
    #[must_use]
    pub fn offers(&self) -> Vec<Offer> {
        unnamed()
    }

    /// Whether it is of another version than new pods get. A policy that names an image has `pinned` its
    /// version.
    #[must_use]
    pub fn is_outdated(&self, pinned: bool, version: &str) -> bool {
        !pinned && self.version != version
    }
}
