//! Whose attached agents stay although they have nothing to do, and for how many agents is there room?

use std::collections::HashMap;

use fleetprof_core::agent::{Resident, stay};
use fleetprof_crds::wire::{AgentMode, Heartbeat, Stay};
use jiff::{SignedDuration, Timestamp};

use super::super::PodId;
use super::state::MAX_AGENTS;

/// What is known of the pods whose attached agents stay.
#[derive(Debug)]
pub(super) struct Residents {
    /// By pod uid, until when.
    kept: HashMap<String, Timestamp>,
    places: usize,
}

impl Default for Residents {
    fn default() -> Self {
        Self { kept: HashMap::new(), places: MAX_AGENTS }
    }
}

impl Residents {
    /// Lets the agents of these pods stay until `until`.
    pub(super) fn keep(&mut self, pods: impl IntoIterator<Item = String>, until: Timestamp) {
        self.kept.extend(pods.into_iter().map(|pod_uid| (pod_uid, until)));
    }

    /// How long an agent stays, if it is an attached one. `facts`: whether its pod has an open order, for how long
    /// this leader has listened, and how many agents there are.
    pub(super) fn stay(
        &self,
        pod: &PodId,
        beat: &Heartbeat,
        facts: (bool, Option<SignedDuration>, usize),
        now: Timestamp,
    ) -> Option<Stay> {
        let (has_order, led_for, agents) = facts;
        let resident = Resident {
            kept: self.kept.get(&pod.uid).is_some_and(|until| now < *until),
            working: has_order || !beat.captures.is_empty(),
            led_for,
            agents,
            places: self.places,
        };
        let idle_ms = stay(&resident).and_then(|idle| u64::try_from(idle.as_millis()).ok());
        (beat.mode == AgentMode::Ephemeral).then_some(Stay { idle_ms })
    }

    pub(super) const fn set_places(&mut self, agents: usize) {
        self.places = agents;
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        self.kept.retain(|_, until| now < *until);
    }
}
