//! What should happen next with a policy? Link its pods, start a round that is due, forget old sessions, say how it stands.
//!
//! ```text
//! pods + agents ─► link::apps ──┐
//! sessions ──────► rounds ──────┼─► status
//! schedule + now ─► due? ───────┴─► create / delete sessions
//! ```

pub mod link;
pub mod news;
pub mod rounds;
pub mod verdict;

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_crds::{ProfileSession, ProfilingPolicy, ProfilingPolicyStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::PodFacts;
use crate::schedule;
use crate::session::AgentFacts;

/// Everything that a step of a policy looks at beside the policy itself.
pub struct Observed<'a> {
    /// The time.
    pub now: Timestamp,
    /// The pods of the policy's namespace.
    pub pods: Vec<Arc<PodFacts>>,
    /// Agents that were heard of lately, by pod uid.
    pub agents: HashMap<String, AgentFacts>,
    /// Whether every agent has had the time to report since this leader took over.
    pub settled: bool,
    /// Sessions that name this policy.
    pub sessions: Vec<Arc<ProfileSession>>,
    /// Every policy of the namespace, this one too.
    pub policies: Vec<Arc<ProfilingPolicy>>,
    /// Version of the operator: other agents are outdated.
    pub version: &'a str,
    /// Why the webhook would leave out a pod that has no sidecar; `None` where it would inject it.
    pub refusal: &'a (dyn Fn(&PodFacts) -> Option<fleetprof_crds::Reason> + Sync),
}

/// What [`step`] decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The status as it should be.
    pub status: ProfilingPolicyStatus,
    /// The session of the round that is due.
    pub create: Option<ProfileSession>,
    /// Names of sessions to delete: history and ttl.
    pub delete: Vec<String>,
    /// What to tell about apps, once the status is written.
    pub news: Vec<news::News>,
    /// When to look again although nothing was heard.
    pub requeue: SignedDuration,
}

/// The next step of a policy.
#[must_use]
pub fn step(policy: &ProfilingPolicy, observed: &Observed) -> Step {
    let mut status = policy.status.clone().unwrap_or_default();
    status.observed_generation = policy.metadata.generation;
    let links = link::pods(policy, observed);
    link::fill(&mut status, &links, observed);
    rounds::fill(&mut status, &observed.sessions);
    let uid = policy.metadata.uid.as_deref().unwrap_or_default();
    let create = round_due(policy, &status, &links, observed);
    if let Some(tick) = &create {
        status.last_session_time = Some(Time(tick.at));
    }
    let next = schedule::ticks(uid, &policy.spec.schedule, observed.now).1;
    status.next_session_time = (!policy.spec.suspend).then_some(Time(next.at));
    status.effective_overhead = Some(schedule::effective_overhead(&policy.spec.schedule));
    verdict::fill(policy, &mut status, &links, observed);
    let until_next = next.at.duration_since(observed.now);
    Step {
        news: news::between(policy.status.as_ref(), &status, &links),
        status,
        create: create.map(|tick| rounds::session(policy, tick)),
        delete: rounds::expired(policy, &observed.sessions, observed.now),
        requeue: until_next.clamp(SignedDuration::from_secs(1), SignedDuration::from_secs(15)),
    }
}

fn round_due(
    policy: &ProfilingPolicy,
    status: &ProfilingPolicyStatus,
    links: &[link::PodLink],
    observed: &Observed,
) -> Option<schedule::Tick> {
    let uid = policy.metadata.uid.as_deref().unwrap_or_default();
    let created = policy.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0);
    if policy.spec.suspend || !links.iter().any(|l| l.linked) || rounds::capturing(&observed.sessions) {
        return None;
    }
    let last = status.last_session_time.as_ref().map(|t| t.0);
    schedule::due(uid, &policy.spec.schedule, created, last, observed.now)
}
