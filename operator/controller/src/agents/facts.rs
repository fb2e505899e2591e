//! What do decisions know of an agent?

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, Reach};
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::wire::{AgentMode, Offer};

use super::{AgentView, Agents};

/// The agents of these pods, by pod uid.
#[must_use]
pub fn agents(pods: &[Arc<PodFacts>], agents: &dyn Agents) -> HashMap<String, AgentFacts> {
    pods.iter().filter_map(|p| Some((p.uid.clone(), facts(&agents.serving(&p.uid))?))).collect()
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
