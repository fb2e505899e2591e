//! What starts sessions beside the schedule and people? Finds out which triggers of a policy fire, and starts
//! their sessions.
//!
//! ```text
//! Alertmanager ─► receiver ─► inbox ─┐
//! Prometheus ◄─ asked every 15 s ─────┤
//! heartbeats, pods ──────────────────┴─► firings (fleetprof_core::trigger) ──► start: one at a time ──► ProfileSession, events, metrics
//! ```

pub mod credentials;
mod memory;
pub mod prometheus;
pub mod receiver;
mod revisions;
mod start;

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_core::policy::link::{self, PodLink};
use fleetprof_core::policy::{Observed, PolicyView};
use fleetprof_core::trigger::level::{Level, Measure};
use fleetprof_core::trigger::{Firing, Heard, alert, promql, rollout, verdict};
use fleetprof_crds::ProfilingPolicyStatus;
use fleetprof_crds::wire::{ContainerReport, Watch};
use futures::future::BoxFuture;
use jiff::SignedDuration;

pub use memory::Triggers;

use crate::gateway::{AgentView, Fleet};
use crate::policies::{self, Context, Error};

/// For how long agents are asked to watch a line; asked again with every look at the policy, every 15 s.
const WATCH_FOR: SignedDuration = SignedDuration::from_secs(120);

/// Looks at every trigger of a policy and starts the sessions of those that fire.
///
/// # Errors
/// When a session could not be created, or a revision not be looked up; it is tried again with the next look.
/// Everything else was done.
pub async fn look(policy: &PolicyView<'_>, observed: &Observed<'_>, context: &Context) -> Result<(), Error> {
    if policy.spec.suspend || policy.spec.triggers.is_empty() {
        context.triggers.forget(policy);
        return Ok(());
    }
    let links = link::pods(policy, observed);
    watch(policy, &links, observed, &context.fleet);
    let mut firings = now(policy, &links, observed, context);
    let unknown = rollouts(policy, &links, observed, context, &mut firings).await;
    start::start(policy, firings, context).await.and(unknown)
}

/// Says in the status whether the triggers can do what they say.
pub fn report(
    policy: &PolicyView<'_>,
    status: &mut ProfilingPolicyStatus,
    observed: &Observed<'_>,
    context: &Context,
) {
    verdict::fill(policy, status, context.trigger_setup, &context.triggers.queries(policy), observed.now);
}

/// Looks at the policies that alerts of some namespaces may concern.
pub struct OfAlerts(pub Arc<Context>);

impl receiver::Look for OfAlerts {
    fn look(&self, namespaces: Vec<String>) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let concerned = |p: &PolicyView<'_>| {
                !p.spec.triggers.alerts.is_empty()
                    && namespaces.iter().any(|n| p.namespace.is_none_or(|own| own == n))
            };
            policies::triggered(&self.0, concerned).await
        })
    }
}

/// What fires by what is known already.
fn now(
    policy: &PolicyView<'_>,
    links: &[PodLink],
    observed: &Observed<'_>,
    context: &Context,
) -> Vec<Firing> {
    let heard = heard(policy, links, &context.fleet);
    let mut firings = context.triggers.levels(policy.uid, |levels| levels.firings(policy, links, &heard));
    if !policy.spec.triggers.alerts.is_empty() {
        firings.extend(alert::firings(policy, links, &context.triggers.alerts(observed.now), observed.now));
    }
    if !policy.spec.triggers.prom_ql.is_empty() {
        firings.extend(promql::firings(policy, links, &context.triggers.queries(policy), observed.now));
    }
    firings
}

/// Adds new revisions; the API server is asked about each once.
async fn rollouts(
    policy: &PolicyView<'_>,
    links: &[PodLink],
    observed: &Observed<'_>,
    context: &Context,
    firings: &mut Vec<Firing>,
) -> Result<(), Error> {
    let (mut created, mut unknown) = (HashMap::new(), Ok(()));
    for revision in rollout::questions(policy, links, observed.now) {
        let known = match context.triggers.revision(&revision) {
            Some(at) => Ok(Some(at)),
            None => revisions::created(&context.client, &revision).await,
        };
        match known {
            Ok(Some(at)) => {
                context.triggers.note_revision(revision.clone(), at);
                created.insert(revision, at);
            }
            Ok(None) => {}
            Err(error) => unknown = unknown.and(Err(error.into())),
        }
    }
    firings.extend(rollout::firings(policy, links, &created, observed.now));
    unknown
}

/// Asks the agents to report at once when a line is crossed.
fn watch(policy: &PolicyView<'_>, links: &[PodLink], observed: &Observed<'_>, fleet: &Fleet) {
    let triggers = &policy.spec.triggers;
    let line = Watch {
        cpu_percent: triggers.cpu.as_ref().map(|t| t.threshold),
        memory_percent: triggers.memory.as_ref().map(|t| t.threshold),
    };
    if line != Watch::default() {
        fleet.watch(
            links.iter().filter(|l| l.linked).map(|l| (l.pod.uid.clone(), line)),
            observed.now + WATCH_FOR,
        );
    }
}

/// What the agents of these pods told last; nothing where no trigger asks for it.
fn heard(policy: &PolicyView<'_>, links: &[PodLink], fleet: &Fleet) -> HashMap<String, Heard> {
    let triggers = &policy.spec.triggers;
    if triggers.cpu.is_none() && triggers.memory.is_none() {
        return HashMap::new();
    }
    links
        .iter()
        .filter_map(|l| fleet.agent(&l.pod.uid))
        .map(|view| (view.pod.uid.clone(), of_view(&view)))
        .collect()
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
