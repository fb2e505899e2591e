//! What is known of the agent in a pod?

use std::collections::HashMap;

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
    /// Whether it is of another version than new pods get. A policy that names an image has `pinned` its
    /// version.
    #[must_use]
    pub fn is_outdated(&self, pinned: bool, version: &str) -> bool {
        !pinned && self.version != version
    }
}
