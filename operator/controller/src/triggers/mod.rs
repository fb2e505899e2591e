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
mod nowhere;
pub mod prometheus;
pub mod receiver;
mod recheck;
pub(crate) mod revisions;
mod start;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::link::PodLink;
use fleetprof_core::time::after;
use fleetprof_core::trigger::level::{self, Rule};
use fleetprof_core::trigger::verdict::{self, Setup};
use fleetprof_core::trigger::{Firing, Heard, alert, promql, regression, rollout};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::wire::Watch;
use fleetprof_crds::{ProfileSession, ProfilingPolicyStatus};
use jiff::{SignedDuration, Timestamp};
use kube::Client;

pub use memory::Memory;
pub use nowhere::Nowhere;
pub use recheck::{Arrival, Recheck, Rechecked};

use crate::agents::Agents;
use crate::create::NotCreated;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::watched::{Cache, sessions_of};

/// What evaluating triggers needs.
#[derive(Clone)]
pub struct Context {
    /// Client with the operator's rights.
    pub client: Client,
    /// The sessions of the cluster.
    pub sessions: Cache<ProfileSession>,
    /// Agents.
    pub agents: Arc<dyn Agents>,
    /// What is remembered between two looks.
    pub memory: Memory,
    /// What the administrator has set up.
    pub setup: Setup,
    /// Writes events.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
}

/// What came of a look.
pub struct Looked {
    /// # Errors If a session could not be created, or a revision could not be read; retried at the next check.
    pub done: Result<(), NotCreated>,
    /// Sessions that the API server rejected, reported by events.
    pub refused: usize,
}

/// For how long agents are asked to watch a line; asked again with every look at the policy, every 15 s.
const WATCH_FOR: SignedDuration = SignedDuration::from_secs(120);

/// Looks at every trigger of a policy, whose pods are `links`, and starts the sessions of those that fire.
/// Whatever fails, everything else is done.
pub async fn look(policy: &PolicyView<'_>, links: &[PodLink], now: Timestamp, context: &Context) -> Looked {
    if policy.spec.suspend || policy.spec.triggers.is_empty() {
        context.memory.forget(policy);
        context.metrics.regressions(policy.uid, BTreeMap::new());
        return Looked { done: Ok(()), refused: 0 };
    }
    watch(policy, links, now, &*context.agents);
    show_regressions(policy, links, now, context);
    let mut firings = known(policy, links, now, context);
    let unknown = rollouts(policy, links, now, context, &mut firings).await;
    let looked = start::start(policy, firings, context).await;
    Looked { done: looked.done.and(unknown.map_err(NotCreated::from)), ..looked }
}

/// Shows the verdicts on revisions to Prometheus, where the policy compares them.
fn show_regressions(policy: &PolicyView<'_>, links: &[PodLink], now: Timestamp, context: &Context) {
    let compares = policy.spec.triggers.rollout.as_ref().is_some_and(|rule| rule.compare.is_some());
    let sessions = if compares { sessions_of(&context.sessions, policy) } else { Vec::new() };
    context.metrics.regressions(policy.uid, regression::series(policy, links, &sessions, now));
}

/// Writes whether the triggers can do what they say.
pub fn fill(policy: &PolicyView<'_>, status: &mut ProfilingPolicyStatus, now: Timestamp, context: &Context) {
    let Context { memory, setup, .. } = context;
    let (rules, queries, levels) = (memory.rules(policy), memory.queries(policy), memory.known(policy.uid));
    verdict::fill(policy, status, *setup, &rules, &queries, &levels, now);
}

/// What fires by what is known already.
fn known(policy: &PolicyView<'_>, links: &[PodLink], now: Timestamp, context: &Context) -> Vec<Firing> {
    let Context { memory, agents, .. } = context;
    let heard = heard(policy, links, &**agents);
    let mut firings = memory.levels(policy.uid, now, |levels| levels.firings(policy, links, &heard));
    if !policy.spec.triggers.alerts.is_empty() {
        firings.extend(alert::firings(policy, &memory.rules(policy), links, &memory.alerts(now), now));
    }
    if !policy.spec.triggers.prom_ql.is_empty() {
        firings.extend(promql::firings(policy, links, &memory.queries(policy), now));
    }
    firings
}

/// Adds new revisions; the API server is asked about each once.
async fn rollouts(
    policy: &PolicyView<'_>,
    links: &[PodLink],
    now: Timestamp,
    context: &Context,
    firings: &mut Vec<Firing>,
) -> kube::Result<()> {
    let (mut created, mut unknown) = (HashMap::new(), Ok(()));
    for revision in rollout::questions(policy, links, now) {
        let known = match context.memory.revision(&revision) {
            Some(at) => Ok(Some(at)),
            None => revisions::created(&context.client, &revision).await,
        };
        match known {
            Ok(Some(at)) => {
                context.memory.note_revision(revision.clone(), at);
                created.insert(revision, at);
            }
            Ok(None) => {}
            Err(error) => unknown = unknown.and(Err(error)),
        }
    }
    firings.extend(rollout::firings(policy, links, &created, now));
    unknown
}

/// Asks the agents to report at once when a line is crossed.
fn watch(policy: &PolicyView<'_>, links: &[PodLink], now: Timestamp, agents: &dyn Agents) {
    let line = level::watch(&Rule::all(&policy.spec.triggers));
    if line != Watch::default() {
        let lines = links.iter().filter(|l| l.linked).map(|l| (l.pod.uid.clone(), line));
        agents.watch(lines.collect(), after(now, WATCH_FOR));
    }
}

/// What the agents of these pods told last; nothing where no trigger asks for it.
fn heard(policy: &PolicyView<'_>, links: &[PodLink], agents: &dyn Agents) -> HashMap<String, Heard> {
    if Rule::all(&policy.spec.triggers).is_empty() {
        return HashMap::new();
    }
    let mut heard: HashMap<String, Heard> = HashMap::new();
    for view in links.iter().flat_map(|l| agents.serving(&l.pod.uid)) {
        let said = Heard::of(view.received, &view.heartbeat.containers);
        heard.entry(view.agent.pod.uid.clone()).or_default().join(said);
    }
    heard
}
