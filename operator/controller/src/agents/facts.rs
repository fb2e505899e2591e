//! What do decisions know of an agent?

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, NodeAgents, Reach, serves};
use fleetprof_core::inject::ClusterRules;
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::policy;
use fleetprof_crds::wire::{AgentMode, Offer};
use jiff::Timestamp;

use super::{AgentView, Agents};

/// The agents that serve these pods, by pod uid, where their policy's `agent.mode` is this one.
#[must_use]
pub fn agents(
    pods: &[Arc<PodFacts>],
    agents: &dyn Agents,
    mode: Option<policy::AgentMode>,
) -> HashMap<String, AgentFacts> {
    let of = |pod: &Arc<PodFacts>| {
        let mut views = agents.serving(&pod.uid);
        views.retain(|view| serves(view.heartbeat.mode, mode));
        Some((pod.uid.clone(), facts(&views)?))
    };
    pods.iter().filter_map(of).collect()
}

/// The agents of the nodes that these pods are on.
#[must_use]
pub fn node_agents(
    pods: &[Arc<PodFacts>],
    agents: &dyn Agents,
    rules: &ClusterRules,
    now: Timestamp,
) -> NodeAgents {
    let Some(served) = &rules.node_agents else { return NodeAgents::default() };
    let answering = agents.answering(&mut pods.iter().map(|pod| &*pod.node));
    NodeAgents { served: Some(served.clone()), answering, settled: agents.settled(pods, now) }
}

/// What a pod's agents know together. Where they differ in age, the newest one speaks: an order that an older
/// one cannot obey is refused by that one itself.
fn facts(views: &[Arc<AgentView>]) -> Option<AgentFacts> {
    let newest = views.iter().map(|view| &view.heartbeat).max_by_key(|beat| beat.protocol)?;
    let containers = || views.iter().flat_map(|view| &view.heartbeat.containers);
    let mut offers: HashMap<String, Vec<Offer>> = HashMap::new();
    for container in containers() {
        offers.entry(container.id.clone()).or_default().extend_from_slice(&container.offers);
    }
    Some(AgentFacts {
        version: newest.version.clone(),
        protocol: newest.protocol,
        runtimes: containers().map(|c| (c.id.clone(), c.runtime.clone())).collect(),
        offers,
        reach: reach(views),
    })
}

fn reach(views: &[Arc<AgentView>]) -> Reach {
    let all_are = |mode| views.iter().all(|view| view.heartbeat.mode == mode);
    let of_pod =
        |view: &Arc<AgentView>| !matches!(view.heartbeat.mode, AgentMode::Ephemeral | AgentMode::Node);
    match () {
        () if all_are(AgentMode::Node) => Reach::Node,
        () if views.iter().any(of_pod) => Reach::Pod,
        () => Reach::Attached,
    }
}
