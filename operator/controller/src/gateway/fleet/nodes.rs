//! Which nodes have an agent, what do those agents say, and what may they do?
//!
//! What the agent of a node reports of a pod is kept like the report of an agent in that pod, so that the rest of
//! the leader need not tell them apart. The agent's own state is kept here.

use std::collections::{BTreeMap, HashMap};

use fleetprof_core::agent::PodAgent;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::{
    CaptureReport, ContainerReport, Heartbeat, HeartbeatReply, MAX_SLICES, Order, OrderList,
};
use jiff::Timestamp;

use super::super::{PodId, pacing};
use super::answers::{Admission, FleetFull, Heard, Look};
use super::pod_agents::is_silent;
use super::state::State;
use super::told::Told;
use super::version;

/// Most pods that are served by agents of nodes. With more, a node's heartbeat is refused with 503.
const MAX_PODS: usize = 200_000;

/// What a hanging poll of a node's agent is woken by. No pod's uid holds a slash.
pub(super) fn node_key(node: &str) -> String {
    format!("node/{node}")
}

/// The agent of a node.
#[derive(Debug)]
struct NodeAgent {
    instance: String,
    received: Timestamp,
    interval_ms: u64,
    ca_sent: Option<(u64, Timestamp)>,
    /// Uids of the pods that it serves.
    pods: Vec<String>,
    /// The heartbeat that is held, as the agent counts them, and its containers that are of none of these
    /// pods.
    number: Option<u64>,
    left_out: Vec<ContainerReport>,
    /// Captures that it makes and that nobody has opened.
    unopened: Vec<CaptureReport>,
}

/// The agents of nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// By the name of the node.
    agents: HashMap<String, NodeAgent>,
    /// How many pods they serve together; it is asked for with each pod of each heartbeat.
    pods: usize,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.agents.len()
    }

    /// How many pods they serve together.
    pub(super) const fn pods(&self) -> usize {
        self.pods
    }

    fn put(&mut self, node: &str, agent: NodeAgent) {
        self.remove(node);
        self.pods += agent.pods.len();
        self.agents.insert(node.to_owned(), agent);
    }

    fn remove(&mut self, node: &str) {
        self.pods -= self.agents.remove(node).map_or(0, |agent| agent.pods.len());
    }

    /// What the agent of a node said of captures that nobody had opened, when, and which process of it.
    pub(super) fn reports(&self, node: &str) -> impl Iterator<Item = (&CaptureReport, Timestamp, &str)> {
        let agent = self.agents.get(node).into_iter();
        agent.flat_map(|agent| agent.unopened.iter().map(|report| (report, agent.received, &*agent.instance)))
    }

    /// Where the containers are of a heartbeat of this number: the pods that have them, and the rest.
    pub(super) fn told(
        &self,
        node: &str,
        instance: &str,
        number: u64,
    ) -> Option<(&[String], &[ContainerReport])> {
        let agent = self.agents.get(node).filter(|agent| agent.instance == instance)?;
        (agent.number == Some(number)).then_some((&agent.pods, &agent.left_out))
    }

    /// Whether the agent of this node reports.
    pub(super) fn answers(&self, node: &str) -> bool {
        self.agents.contains_key(node)
    }

    fn is(&self, node: &str, instance: &str) -> bool {
        self.agents.get(node).is_some_and(|agent| agent.instance == instance)
    }

    /// Forgets those that fell silent. After a clock went back, they are silent since now.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.agents.values_mut().for_each(|agent| agent.received = agent.received.min(now));
        self.agents.retain(|_, agent| !is_silent(agent.received, agent.interval_ms, now));
        self.pods = self.agents.values().map(|agent| agent.pods.len()).sum();
    }
}

impl State {
    /// Takes the heartbeat of a node's agent; `agent` is the name of its node, and its own pod.
    pub(super) fn heartbeat_of_node(
        &mut self,
        agent: (&str, &PodId),
        pods: Vec<(PodAgent, Heartbeat)>,
        rest: Told,
        now: Timestamp,
    ) -> Result<Heard, FleetFull> {
        let (node, own) = agent;
        let new = pods.iter().filter(|(pod, _)| !self.agents.contains_key(&pod.pod.uid)).count();
        if self.agents.len().saturating_add(new) > MAX_PODS {
            return Err(FleetFull);
        }
        let served: Vec<String> = pods.iter().map(|(pod, _)| pod.pod.uid.clone()).collect();
        let Told { beat: mut rest, left_out } = rest;
        let (mut all, mut has_open) = (Heard::default(), false);
        for (pod, beat) in pods {
            let beat = Heartbeat { leaving: rest.leaving, number: rest.number, ..beat };
            let ids: Vec<String> = beat.containers.iter().map(|row| row.id.clone()).collect();
            let heard = self.take(&pod, beat, now);
            has_open |= self.pods.contains_key(&pod.pod.uid);
            all.reply.watches.extend(
                heard.reply.watch.into_iter().flat_map(|watch| ids.iter().map(move |id| (id.clone(), watch))),
            );
            all.effects.wake.extend(heard.effects.wake);
            all.effects.changes.extend(heard.effects.changes);
        }
        let instance = rest.instance.clone();
        rest.captures.retain(|report| {
            let whose = self.whose(node, &report.capture).unwrap_or_else(|| own.clone().into());
            self.report(&whose, &instance, report, now, &mut all)
        });
        all.effects.wake.push(node_key(node));
        all.reply.next_ms = pacing::next_ms(self.callers().max(1), self.pods.len(), has_open);
        all.reply.holds = rest.number;
        self.note(node, Told { beat: rest, left_out }, served, now, &mut all.reply);
        Ok(all)
    }

    fn note(
        &mut self,
        node: &str,
        told: Told,
        pods: Vec<String>,
        now: Timestamp,
        reply: &mut HeartbeatReply,
    ) {
        let Told { beat: rest, left_out } = told;
        if rest.leaving {
            self.nodes.remove(node);
            return;
        }
        let before = self.nodes.agents.get(node).filter(|agent| agent.instance == rest.instance);
        let ca_sent = self.offer_ca(before.and_then(|agent| agent.ca_sent), now, reply);
        let agent = NodeAgent {
            instance: rest.instance,
            received: now,
            interval_ms: reply.next_ms,
            ca_sent,
            pods,
            number: rest.number,
            left_out,
            unopened: rest.captures,
        };
        self.nodes.put(node, agent);
    }

    /// The pod that a capture is, or was, of, where it is one of this node.
    fn whose(&self, node: &str, capture: &str) -> Option<PodAgent> {
        let gone = |uid: &str| {
            PodAgent::from(PodId { namespace: String::new(), name: String::new(), uid: uid.into() })
        };
        match self.captures.get(capture) {
            Some(known) => (known.scope.node == node).then(|| agent_of(&known.scope)),
            // Whose it was does not matter any more: it is only told to be forgotten.
            None => self.closed.pod_of(capture).map(gone),
        }
    }

    /// The list of a node's agent: orders of every pod there that it captures.
    pub(super) fn look_of_node(&self, node: &str, instance: Option<&str>) -> Look {
        if !self.synced() {
            return Look::NotSynced;
        }
        let Some(instance) = instance.filter(|instance| self.nodes.is(node, instance)) else {
            return Look::Stranger;
        };
        let is_own = |pod_uid: &str, order: &Order| {
            let capture = self.captures.get(&order.capture).filter(|known| known.scope.node == node);
            let agents = self.agents.get(pod_uid);
            capture.zip(agents).is_some_and(|(c, all)| all.is_for(&agent_of(&c.scope), instance, order, c))
        };
        let orders = self.pods.iter().flat_map(|(uid, orders)| orders.values().map(move |o| (uid, o)));
        let own: BTreeMap<String, Order> = orders
            .filter(|(uid, order)| is_own(uid, order))
            .map(|(_, order)| (order.capture.clone(), order.clone()))
            .collect();
        Look::Orders(OrderList { version: version::of(&own), orders: own.into_values().collect() })
    }

    /// Whether a node's agent may upload for a capture: one of a pod there.
    pub(super) fn admit_of_node(&self, capture: &str, node: &str) -> Admission {
        match self.captures.get(capture) {
            Some(known) if known.scope.node == node && !node.is_empty() => {
                let order = self.pods.get(&known.scope.pod_uid).and_then(|orders| orders.get(capture));
                Admission::Open(known.scope.clone(), order.map_or(MAX_SLICES, Order::max_slices))
            }
            None if self.closed.pod_of(capture).is_some() => Admission::Settled,
            _ if self.synced() => Admission::Unknown,
            _ => Admission::NotSynced,
        }
    }
}

/// The agent that speaks for the pod of a capture.
fn agent_of(scope: &CaptureScope) -> PodAgent {
    PodAgent::from(PodId {
        namespace: scope.session_namespace.clone(),
        name: scope.pod_name.clone(),
        uid: scope.pod_uid.clone(),
    })
}
