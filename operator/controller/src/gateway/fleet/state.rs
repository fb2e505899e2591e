//! What changes in the fleet when a capture is opened or closed, and when an agent reports? Plain data: no
//! I/O, no clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::agent::PodAgent;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::{
    CaptureReport, CaptureState, Heartbeat, HeartbeatReply, MAX_SLICES, Order, OrderList, Watch,
};
use jiff::{SignedDuration, Timestamp};

use super::super::{PodId, fold, pacing};
use super::answers::{Admission, Effects, FleetFull, Heard, Look};
use super::closed::Closed;
use super::news::News;
use super::nodes::{Nodes, node_key};
use super::pod_agents::{Agent, PodAgents, bare_id, is_missing};
use super::residents::Residents;
use super::told::Told;
use super::version;
use crate::agents::{AgentView, CaptureView, Change};

/// Most agents that are remembered. An agent more is refused with 503.
pub(crate) const MAX_AGENTS: usize = 50_000;
/// How long after syncing a capture that nobody opened is told to be forgotten. Long enough for a session
/// that the last leader started to be seen by this one.
const SETTLE_IN: SignedDuration = SignedDuration::from_secs(90);
/// How often an agent gets the CA certificates although it was sent them: the reply may have been lost.
const CA_AGAIN: SignedDuration = SignedDuration::from_hours(1);

#[derive(Debug, Default)]
pub(super) struct State {
    /// By pod uid.
    pub(super) agents: HashMap<String, PodAgents>,
    pub(super) captures: HashMap<String, CaptureView>,
    /// Open orders by capture, by pod uid; no pod without one.
    pub(super) pods: HashMap<String, BTreeMap<String, Order>>,
    pub(super) closed: Closed,
    synced_since: Option<Timestamp>,
    ca: CaBundle,
    watches: HashMap<String, (Watch, Timestamp)>,
    residents: Residents,
    pub(super) nodes: Nodes,
    news: News,
}

#[derive(Debug, Default)]
struct CaBundle {
    pem: Option<String>,
    generation: u64,
}

impl State {
    pub(super) fn agents_of(&self, pod_uid: &str) -> Vec<Arc<AgentView>> {
        self.agents.get(pod_uid).into_iter().flat_map(PodAgents::views).cloned().collect()
    }

    pub(super) fn agents(&self) -> Vec<Arc<AgentView>> {
        self.agents.values().flat_map(PodAgents::views).cloned().collect()
    }

    pub(super) fn capture(&self, capture: &str) -> Option<CaptureView> {
        self.captures.get(capture).cloned()
    }

    pub(super) fn scopes(&self) -> Vec<Arc<CaptureScope>> {
        self.captures.values().map(|view| view.scope.clone()).collect()
    }

    pub(super) fn synced(&self) -> bool {
        self.synced_since.is_some()
    }

    pub(super) fn set_synced(&mut self, synced: bool, now: Timestamp) {
        self.synced_since = synced.then(|| self.synced_since.unwrap_or(now));
    }

    pub(super) fn settled_in(&self, now: Timestamp) -> bool {
        // A clock that went back further than that tells nothing of a start that was just now.
        self.synced_since.is_some_and(|since| now.duration_since(since).abs() >= SETTLE_IN)
    }

    pub(super) fn set_ca_bundle(&mut self, pem: &str) {
        if self.ca.pem.as_deref() != Some(pem) {
            self.ca = CaBundle { pem: Some(pem.to_owned()), generation: self.ca.generation + 1 };
        }
    }

    /// Sets the lines that agents of these pods are asked to watch, until `until`.
    pub(super) fn watch(&mut self, lines: impl IntoIterator<Item = (String, Watch)>, until: Timestamp) {
        self.watches.extend(lines.into_iter().map(|(pod_uid, watch)| (pod_uid, (watch, until))));
    }

    pub(super) fn residents(&mut self) -> &mut Residents {
        &mut self.residents
    }

    /// The list of an agent: orders of what it speaks for, none of a session of another namespace. An agent
    /// that does not say who it is, as those of earlier versions, gets each of them.
    pub(super) fn look(&self, agent: &PodAgent, instance: Option<&str>) -> Look {
        if !self.synced() {
            return Look::NotSynced;
        }
        let agents = self.agents.get(&agent.pod.uid);
        let is_known = |instance| agents.is_some_and(|all| all.get(agent, instance).is_some());
        if !instance.is_none_or(is_known) {
            return Look::Stranger;
        }
        let named = instance.zip(agents);
        let is_own = |order: &&Order| {
            let capture = self.captures.get(&order.capture).filter(|known| agent.captures(&known.scope));
            capture.is_some_and(|c| named.is_none_or(|(name, all)| all.is_for(agent, name, order, c)))
        };
        let all = self.pods.get(&agent.pod.uid).into_iter().flat_map(BTreeMap::values);
        let own: BTreeMap<_, _> = all.filter(is_own).map(|o| (o.capture.clone(), o.clone())).collect();
        Look::Orders(OrderList { version: version::of(&own), orders: own.into_values().collect() })
    }

    #[cfg(test)]
    pub(super) fn list(&self, pod_uid: &str) -> OrderList {
        self.pods.get(pod_uid).map_or_else(OrderList::default, |orders| OrderList {
            version: version::of(orders),
            orders: orders.values().cloned().collect(),
        })
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> super::inspect::Held {
        super::inspect::Held {
            agents: self.agents.values().map(PodAgents::len).sum(),
            captures: self.captures.len(),
            pods: self.pods.len(),
            closed: self.closed.len(),
            watches: self.watches.len(),
        }
    }

    /// `None` where the capture belongs to another session, whose it stays.
    pub(super) fn open(&mut self, scope: CaptureScope, mut order: Order) -> Option<Effects> {
        let mut effects = Effects::default();
        let known = self.captures.get(&scope.capture);
        if known.is_some_and(|known| known.scope.session_uid != scope.session_uid) {
            return None;
        }
        order.capture.clone_from(&scope.capture);
        self.closed.forget(&scope.capture);
        if let Some(elsewhere) =
            self.captures.get(&scope.capture).filter(|c| c.scope.pod_uid != scope.pod_uid)
        {
            let pod_uid = elsewhere.scope.pod_uid.clone();
            self.captures.remove(&scope.capture);
            self.withdraw(&pod_uid, &scope.capture, &mut effects);
        }
        self.place(&scope.pod_uid, order, &mut effects);
        effects.wake.extend((!effects.wake.is_empty()).then(|| node_key(&scope.node)));
        match self.captures.get_mut(&scope.capture) {
            Some(known) if *known.scope == scope => {}
            Some(known) => known.scope = Arc::new(scope),
            None => self.begin(scope, &mut effects),
        }
        Some(effects)
    }

    /// A capture that is new to this leader may be known to the agent: its last heartbeat tells.
    fn begin(&mut self, scope: CaptureScope, effects: &mut Effects) {
        let views = self.agents.get(&scope.pod_uid).into_iter().flat_map(PodAgents::views);
        let views = views.filter(|view| view.agent.captures(&scope));
        let of_pod = views.flat_map(|view| {
            view.heartbeat.captures.iter().map(|report| (report, view.received, &*view.heartbeat.instance))
        });
        let found = of_pod.chain(self.nodes.reports(&scope.node)).find(|(r, ..)| r.capture == scope.capture);
        let capture = CaptureView {
            report: found.map(|(report, ..)| report.clone()),
            reported: found.map(|(_, received, _)| received),
            instance: found.map(|(.., instance)| instance.to_owned()),
            uploads: 0,
            scope: Arc::new(scope),
        };
        if capture.report.is_some() {
            effects.changes.push(session_of(&capture.scope));
        }
        self.captures.insert(capture.scope.capture.clone(), capture);
    }

    pub(super) fn close(&mut self, capture: &str) -> Effects {
        let mut effects = Effects::default();
        if let Some(closed) = self.captures.remove(capture) {
            self.withdraw(&closed.scope.pod_uid, capture, &mut effects);
            effects.wake.push(node_key(&closed.scope.node));
            self.closed.remember(capture, &closed.scope.pod_uid);
        }
        effects
    }

    pub(super) fn note_stored(&mut self, capture: &str) -> Effects {
        let mut effects = Effects::default();
        if let Some(known) = self.captures.get_mut(capture) {
            known.uploads = known.uploads.saturating_add(1);
            effects.changes.push(session_of(&known.scope));
        }
        effects
    }

    pub(super) fn admit(&self, capture: &str, agent: &PodAgent) -> Admission {
        match self.captures.get(capture) {
            Some(known) if agent.captures(&known.scope) => {
                let order = self.pods.get(&agent.pod.uid).and_then(|orders| orders.get(capture));
                Admission::Open(known.scope.clone(), order.map_or(MAX_SLICES, Order::max_slices))
            }
            _ if self.closed.was_of(capture, &agent.pod.uid) => Admission::Settled,
            _ if self.synced() => Admission::Unknown,
            _ => Admission::NotSynced,
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        agent: &PodAgent,
        told: Told,
        now: Timestamp,
    ) -> Result<Heard, FleetFull> {
        if !self.agents.contains_key(&agent.pod.uid) && self.callers() >= MAX_AGENTS {
            return Err(FleetFull);
        }
        let holds = told.beat.number;
        let mut heard = self.take(agent, told, now);
        heard.reply.holds = holds;
        Ok(heard)
    }

    /// Takes what an agent says of a pod.
    pub(super) fn take(&mut self, agent: &PodAgent, told: impl Into<Told>, now: Timestamp) -> Heard {
        let (pod, Told { mut beat, left_out }) = (&agent.pod, told.into());
        let before = self.agents.get(&pod.uid).and_then(|agents| agents.get(agent, &beat.instance));
        let mut heard = Heard::default();
        let differs = before.is_none_or(|known| fold::looks_different(&known.view.heartbeat, &beat));
        // What an agent is to do depends on what each of the pod's agents sees.
        heard.effects.wake.extend(differs.then(|| pod.uid.clone()));
        heard.reply.watch = self.watched(&pod.uid, now);
        let over = |beat: &Heartbeat| heard.reply.watch.is_some_and(|w| w.reached(&beat.containers));
        let is_news = differs || over(&beat) || before.is_some_and(|known| over(&known.view.heartbeat));
        if is_news && self.news.tell(pod, now) {
            heard.effects.changes.push(Change::Agent(pod.clone()));
        }
        let ca_sent = before.and_then(|a| a.ca_sent);
        let instance = beat.instance.clone();
        beat.captures.retain(|report| self.report(agent, &instance, report, now, &mut heard));
        self.pace(pod, &beat, now, &mut heard.reply);
        let ca_sent = self.offer_ca(ca_sent, now, &mut heard.reply);
        if beat.leaving {
            self.leave(agent, &beat.instance, &mut heard.effects);
        } else {
            let view = Arc::new(AgentView { agent: agent.clone(), heartbeat: beat, received: now });
            let known = Agent { view, interval_ms: heard.reply.next_ms, ca_sent, left_out };
            self.agents.entry(pod.uid.clone()).or_default().put(known);
        }
        heard
    }

    /// How many agents send heartbeats.
    pub(super) fn callers(&self) -> usize {
        self.agents.len().saturating_sub(self.nodes.pods()) + self.nodes.len()
    }

    /// How long this leader has known which captures are open.
    pub(super) fn led_for(&self, now: Timestamp) -> Option<SignedDuration> {
        self.synced_since.map(|since| now.duration_since(since))
    }

    /// When the agent is to report again, and how long it stays.
    fn pace(&self, pod: &PodId, beat: &Heartbeat, now: Timestamp, reply: &mut HeartbeatReply) {
        let has_open = self.pods.contains_key(&pod.uid);
        let agents = self.callers() + usize::from(!self.agents.contains_key(&pod.uid));
        reply.next_ms = pacing::next_ms(agents, self.pods.len(), has_open);
        reply.stay = self.residents.stay(pod, beat, (has_open, self.led_for(now), agents), now);
    }

    /// The lines that the agents of a pod are asked to watch.
    pub(super) fn watched(&self, pod_uid: &str, now: Timestamp) -> Option<Watch> {
        self.watches.get(pod_uid).filter(|(_, until)| now < *until).map(|(watch, _)| *watch)
    }

    /// An attached agent says that it ends: nobody waits for it.
    fn leave(&mut self, agent: &PodAgent, instance: &str, effects: &mut Effects) {
        let pod = &agent.pod;
        if let Some(agents) = self.agents.get_mut(&pod.uid) {
            agents.remove(agent, instance);
            if agents.len() == 0 {
                self.agents.remove(&pod.uid);
            }
        }
        effects.changes.push(Change::Agent(pod.clone()));
        effects.wake.push(pod.uid.clone());
    }

    /// Takes one report; whether it is worth keeping in the agent's view.
    pub(super) fn report(
        &mut self,
        agent: &PodAgent,
        instance: &str,
        new: &CaptureReport,
        now: Timestamp,
        heard: &mut Heard,
    ) -> bool {
        if self.is_of_another(agent, instance, new) {
            heard.reply.settled.push(new.capture.clone());
            return false;
        }
        if let Some(known) = self.captures.get_mut(&new.capture).filter(|c| agent.captures(&c.scope)) {
            let folded = fold::report(known.report.as_ref(), new);
            if known.report.as_ref() != Some(&folded) {
                heard.effects.changes.push(session_of(&known.scope));
            }
            known.report = Some(folded);
            known.reported = Some(now);
            known.instance = Some(instance.to_owned());
            return true;
        }
        let closed = self.closed.was_of(&new.capture, &agent.pod.uid);
        heard.ignored += usize::from(!closed);
        let forget = closed || self.settled_in(now);
        if forget {
            heard.reply.settled.push(new.capture.clone());
        }
        !forget && !self.captures.contains_key(&new.capture)
    }

    /// Whether an agent could not find a container that another agent of its pod sees: then it is the other
    /// one's to capture, and the report ends nothing.
    fn is_of_another(&self, agent: &PodAgent, instance: &str, report: &CaptureReport) -> bool {
        let missed = report.state == CaptureState::Failed
            && report.started_at.is_none()
            && report.problem.as_ref().is_some_and(|p| is_missing(p.reason));
        let known = || self.captures.get(&report.capture).filter(|c| agent.captures(&c.scope));
        let container = || known().map(|c| bare_id(&c.scope.container_id));
        let agents = self.agents.get(&agent.pod.uid);
        missed
            && agents
                .zip(container())
                .is_some_and(|(agents, container)| agents.is_seen_by_another(agent, instance, container))
    }

    pub(super) fn offer_ca(
        &self,
        sent: Option<(u64, Timestamp)>,
        now: Timestamp,
        reply: &mut HeartbeatReply,
    ) -> Option<(u64, Timestamp)> {
        let fresh = sent.filter(|(generation, at)| {
            *generation == self.ca.generation && now.duration_since(*at) < CA_AGAIN
        });
        if fresh.is_some() {
            return fresh;
        }
        reply.ca_bundle.clone_from(&self.ca.pem);
        self.ca.pem.is_some().then_some((self.ca.generation, now))
    }

    /// Pods whose agents are gone, and those of which there is something to tell.
    pub(super) fn expire(&mut self, now: Timestamp) -> (Vec<PodId>, Vec<PodId>) {
        self.watches.retain(|_, (_, until)| now < *until);
        self.residents.expire(now);
        self.nodes.expire(now);
        let mut gone = Vec::new();
        self.agents.retain(|_, agents| {
            let pod = agents.views().next().map(|view| view.agent.pod.clone());
            if agents.expire(now) {
                gone.extend(pod);
            }
            agents.len() > 0
        });
        (gone, self.news.late())
    }

    fn place(&mut self, pod_uid: &str, order: Order, effects: &mut Effects) {
        let orders = self.pods.entry(pod_uid.to_owned()).or_default();
        if orders.get(&order.capture) == Some(&order) {
            return;
        }
        orders.insert(order.capture.clone(), order);
        effects.wake.push(pod_uid.to_owned());
    }

    fn withdraw(&mut self, pod_uid: &str, capture: &str, effects: &mut Effects) {
        let Some(orders) = self.pods.get_mut(pod_uid) else { return };
        if orders.remove(capture).is_some() {
            effects.wake.push(pod_uid.to_owned());
        }
        if orders.is_empty() {
            self.pods.remove(pod_uid);
        }
    }
}

fn session_of(scope: &CaptureScope) -> Change {
    Change::Session { namespace: scope.session_namespace.clone(), name: scope.session_name.clone() }
}
