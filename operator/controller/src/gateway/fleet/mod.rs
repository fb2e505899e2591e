//! Which agents are there, what are they ordered to do, and what do they report?
//!
//! ```text
//!            open ──► [order in the pod's list] ──► agent polls ──► reports ──┐
//! sessions ◄──────────────── Change::Session ◄────────────────────────────────┘
//!            close ─► [order gone; uploads get 410] ──► next heartbeat lists it as settled
//! ```
//! Everything is a level: an order stays in the list until it is closed, a report is repeated until it is
//! settled. A [`Fleet`] is a cheap handle; the state behind it is changed under one short lock and never does
//! I/O.

mod answers;
mod closed;
#[cfg(test)]
mod inspect;
mod news;
mod nodes;
mod pod_agents;
mod poll;
mod port;
mod residents;
mod state;
mod told;
mod version;
mod wakeups;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleetprof_core::agent::{AgentId, PodAgent};
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::{ContainerReport, Heartbeat, HeartbeatReply, Order, Watch};
use jiff::Timestamp;
use tokio::sync::broadcast;

use self::answers::Effects;
pub(super) use self::answers::{Admission, FleetFull, Heard};
pub(super) use self::poll::NotSynced;
pub(crate) use self::state::MAX_AGENTS;
use self::state::State;
pub(super) use self::told::Told;
use self::wakeups::Wakeups;
use super::{Clock, PodId};
use crate::agents::{AgentView, CaptureView, Change, Changes};

/// Changes that a slow reader may lag behind before it is told to look at everything.
const CHANGES_KEPT: usize = 4096;
/// How often [`expire_forever`] looks for agents that fell silent, or change all the time.
const EXPIRE_EVERY: Duration = Duration::from_secs(2);

/// Agents, open captures and orders, in memory.
#[derive(Clone, Debug)]
pub struct Fleet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    wakeups: Wakeups,
    changes: broadcast::Sender<Change>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    /// An empty fleet that is not synced.
    #[must_use]
    pub fn new() -> Self {
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        Self(Arc::new(Inner { state: Mutex::default(), wakeups: Wakeups::default(), changes }))
    }

    /// The agents of a pod, while they report; the one that was seen first is first.
    #[must_use]
    pub fn agents_of(&self, pod_uid: &str) -> Vec<Arc<AgentView>> {
        self.state().agents_of(pod_uid)
    }

    /// All agents that report, in no particular order. Cheap: the views are shared.
    #[must_use]
    pub fn agents(&self) -> Vec<Arc<AgentView>> {
        self.state().agents()
    }

    /// Opens a capture, or replaces its order and scope; the same again changes nothing. Wakes the pod's long
    /// poll. The order's `capture` is taken from the scope. A capture of another session stays as it is.
    pub fn open(&self, scope: CaptureScope, order: Order) {
        let (capture, session) = (scope.capture.clone(), scope.session_uid.clone());
        let opened = self.state().open(scope, order);
        match opened {
            Some(effects) => self.spread(effects),
            None => tracing::error!(
                fleetprof.capture = capture,
                fleetprof.session.uid = session,
                "a session asks for the capture of another session; not opened"
            ),
        }
    }

    /// Closes a capture whose outcome is recorded. Its order leaves the list, further uploads are refused
    /// with 410, and the agent is told to forget it as soon as it reports it again.
    pub fn close(&self, capture: &str) {
        let effects = self.state().close(capture);
        self.spread(effects);
    }

    /// All that is known of an open capture.
    #[must_use]
    pub fn capture(&self, capture: &str) -> Option<CaptureView> {
        self.state().capture(capture)
    }

    /// Notes that a slice of the capture was stored.
    pub fn note_stored(&self, capture: &str) {
        let effects = self.state().note_stored(capture);
        self.spread(effects);
    }

    /// Changes from now on. A reader that falls behind gets [`Change::Everything`].
    #[must_use]
    pub fn subscribe(&self) -> Changes {
        self.0.changes.subscribe().into()
    }

    /// Says whether the captures of all live sessions were opened. Until then polls and uploads of unknown
    /// captures are refused with 503, since the answer could be wrong. `false` sends every hanging poll home.
    pub fn set_synced(&self, synced: bool, now: Timestamp) {
        self.state().set_synced(synced, now);
        self.0.wakeups.wake_all();
    }

    /// Whether [`Self::set_synced`] was called with `true`.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.state().synced()
    }

    /// Whether this leader has listened for so long that an agent of which nothing was heard is not there.
    #[must_use]
    pub fn settled_in(&self, now: Timestamp) -> bool {
        self.state().settled_in(now)
    }

    /// Sets the CA certificates (PEM) that agents are to trust. Each agent gets them with its next heartbeat.
    pub fn set_ca_bundle(&self, pem: &str) {
        self.state().set_ca_bundle(pem);
    }

    /// Sets the lines that agents of these pods, by uid, are asked to watch, until `until`. They learn it
    /// with their next heartbeat; a heartbeat over a line is a [`Change::Agent`].
    pub fn watch(&self, lines: impl IntoIterator<Item = (String, Watch)>, until: Timestamp) {
        self.state().watch(lines, until);
    }

    /// Lets the attached agents of these pods, by uid, stay until `until`, although they have nothing to do. They
    /// learn it with their next heartbeat.
    pub fn keep(&self, pods: impl IntoIterator<Item = String>, until: Timestamp) {
        self.state().residents().keep(pods, until);
    }

    /// Sets how many agents there is room for: attached ones without work leave before it is used up.
    pub fn set_places(&self, agents: usize) {
        self.state().residents().set_places(agents);
    }

    /// Removes agents that did not report for three of their intervals, and returns them. Tells what was not
    /// told yet.
    pub fn expire(&self, now: Timestamp) -> Vec<PodId> {
        let (gone, late) = self.state().expire(now);
        for pod in gone.iter().chain(&late) {
            self.tell(Change::Agent(pod.clone()));
        }
        gone
    }

    /// Takes a cleaned heartbeat of an authenticated agent.
    pub(super) fn heartbeat(
        &self,
        agent: &PodAgent,
        told: impl Into<Told>,
        now: Timestamp,
    ) -> Result<(HeartbeatReply, usize), FleetFull> {
        let Heard { reply, ignored, effects } = self.state().heartbeat(agent, told.into(), now)?;
        self.spread(effects);
        Ok((reply, ignored))
    }

    /// The same of the agent of a node, taken apart: what it says of each pod, and the rest, with its captures. `agent`
    /// is the name of its node, and its own pod.
    pub(super) fn heartbeat_of_node(
        &self,
        agent: (&str, &PodId),
        pods: Vec<(PodAgent, Heartbeat)>,
        rest: Told,
        now: Timestamp,
    ) -> Result<(HeartbeatReply, usize), FleetFull> {
        let Heard { reply, ignored, effects } = self.state().heartbeat_of_node(agent, pods, rest, now)?;
        self.spread(effects);
        Ok((reply, ignored))
    }

    /// The containers that an agent told in its heartbeat of this number, where they are held.
    pub(super) fn told(&self, agent: &AgentId, instance: &str, number: u64) -> Option<Vec<ContainerReport>> {
        self.state().told(agent, instance, number)
    }

    /// Whether the agent may upload for the capture.
    pub(super) fn admit(&self, capture: &str, agent: &AgentId) -> Admission {
        match agent {
            AgentId::Pod(agent) => self.state().admit(capture, agent),
            AgentId::Node { name, .. } => self.state().admit_of_node(capture, name),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug; the state stays usable, since every change is a plain map update.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spread(&self, effects: Effects) {
        for pod_uid in &effects.wake {
            self.0.wakeups.wake(pod_uid);
        }
        for change in effects.changes {
            self.tell(change);
        }
    }

    fn tell(&self, change: Change) {
        // An error only means that nobody listens.
        let _ = self.0.changes.send(change);
    }
}

/// Forgets silent agents for as long as it is polled.
pub async fn expire_forever(fleet: Fleet, clock: Clock) {
    let mut tick = tokio::time::interval(EXPIRE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = clock();
    loop {
        tick.tick().await;
        let now = clock();
        let overslept = overslept(last, now);
        last = now;
        // Heartbeats came while nobody could take them; they are taken before the next pass.
        if overslept {
            continue;
        }
        for pod in fleet.expire(now) {
            tracing::info!(k8s.namespace.name = pod.namespace, k8s.pod.name = pod.name, "agent fell silent");
        }
    }
}

/// Whether this process, not an agent, was silent: it was paused, or the clock was set.
fn overslept(last: Timestamp, now: Timestamp) -> bool {
    let gap = now.duration_since(last);
    gap.is_negative() || gap.unsigned_abs() > EXPIRE_EVERY * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_was_paused_does_not_take_its_agents_for_dead() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        assert!(!overslept(at(0), at(0)) && !overslept(at(0), at(2_000)) && !overslept(at(0), at(6_000)));
        assert!(overslept(at(0), at(6_001)) && overslept(at(0), at(3_600_000)) && overslept(at(1), at(0)));
    }
}
