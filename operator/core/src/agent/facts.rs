//! What is known of the agent in a pod?

use std::collections::HashMap;

use super::{Offer, unnamed};

/// What is known of the agent in a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentFacts {
    /// Version of the agent.
    pub version: String,
    /// Protocol that it speaks.
    pub protocol: u32,
    /// Runtime by container id.
    pub runtimes: HashMap<String, String>,
}

impl AgentFacts {
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
