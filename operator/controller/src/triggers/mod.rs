//! What starts sessions beside the schedule and people? Finds out which triggers of a policy fire, and starts their sessions.
//!
//! ```text
//! heartbeats ──► firings (fleetprof_core::trigger) ──► start: one at a time ──► ProfileSession, events, metrics
//! ```

mod memory;
mod start;

use std::collections::HashMap;

use fleetprof_core::policy::link::{self, PodLink};
use fleetprof_core::policy::{Observed, PolicyView};
use fleetprof_core::trigger::level::{Level, Measure};
use fleetprof_core::trigger::{Firing, Heard};
use fleetprof_crds::wire::{ContainerReport, Watch};
use jiff::SignedDuration;

pub use memory::Triggers;

use crate::gateway::{AgentView, Fleet};
use crate::policies::{Context, Error};

/// For how long agents are asked to watch a line; asked again with every look at the policy, every 15 s.
const WATCH_FOR: SignedDuration = SignedDuration::from_secs(120);

/// Looks at every trigger of a policy and starts the sessions of those that fire.
///
/// # Errors
/// When a session could not be created; it is tried again with the next look.
pub async fn look(policy: &PolicyView<'_>, observed: &Observed<'_>, context: &Context) -> Result<(), Error> {
    if policy.spec.suspend || policy.spec.triggers.is_empty() {
        context.triggers.forget(policy);
        return Ok(());
    }
    let links = link::pods(policy, observed);
    watch(policy, &links, observed, &context.fleet);
    let firings = firings(policy, &links, context);
    start::start(policy, firings, context).await
}

fn firings(policy: &PolicyView<'_>, links: &[PodLink], context: &Context) -> Vec<Firing> {
    let heard = heard(policy, links, &context.fleet);
    context.triggers.levels(policy.uid, |levels| levels.firings(policy, links, &heard))
}

/// Asks the agents to report at once when a line is crossed.
fn watch(policy: &PolicyView<'_>, links: &[PodLink], observed: &Observed<'_>, fleet: &Fleet) {
    let triggers = &policy.spec.triggers;
    let line =
        Watch { cpu_percent: triggers.cpu.as_ref().map(|t| t.threshold), memory_percent: triggers.memory.as_ref().map(|t| t.threshold) };
    if line != Watch::default() {
        fleet.watch(links.iter().filter(|l| l.linked).map(|l| (l.pod.uid.clone(), line)), observed.now + WATCH_FOR);
    }
}

/// What the agents of these pods told last; nothing where no trigger asks for it.
fn heard(policy: &PolicyView<'_>, links: &[PodLink], fleet: &Fleet) -> HashMap<String, Heard> {
    let triggers = &policy.spec.triggers;
    if triggers.cpu.is_none() && triggers.memory.is_none() {
        return HashMap::new();
    }
    links.iter().filter_map(|l| fleet.agent(&l.pod.uid)).map(|view| (view.pod.uid.clone(), of_view(&view))).collect()
}

fn of_view(view: &AgentView) -> Heard {
    let levels = |c: &ContainerReport| {
        let level = |percent: Option<i32>, of_node| percent.map(|percent| Level { percent, of_node });
        let cpu = level(c.cpu_percent, c.cpu_of_node).map(|l| ((c.id.clone(), Measure::Cpu), l));
        let memory = level(c.memory_percent, c.memory_of_node).map(|l| ((c.id.clone(), Measure::Memory), l));
        cpu.into_iter().chain(memory)
    };
    Heard { at: view.received, levels: view.heartbeat.containers.iter().flat_map(levels).collect() }
}
