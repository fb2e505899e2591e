//! What should happen next with a policy? Link its pods, start a round that is due, forget old sessions, say how it stands.
//!
//! ```text
//! pods + agents ─► link::apps ──┐
//! sessions ──────► rounds ──────┼─► status
//! schedule + now ─► due? ───────┴─► create / delete sessions
//! ```

pub mod link;
pub mod news;
pub mod outcomes;
pub mod pace;
pub mod rounds;
pub mod verdict;

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_crds::{ProfileSession, ProfilingPolicy, ProfilingPolicyStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod::PodFacts;
use crate::schedule::{self, Plan, Tick};
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
    /// A tick that passed without a round: to be told once.
    pub missed: Option<Tick>,
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
    outcomes::fill(&mut status, &observed.sessions);
    let uid = policy.metadata.uid.as_deref().unwrap_or_default();
    let plan = Plan::read(uid, &policy.spec.schedule);
    let pace = plan.as_ref().map(|plan| pace::pace(plan, created(policy), &status, observed.now)).unwrap_or_default();
    let may_start = !policy.spec.suspend && links.iter().any(|l| l.linked);
    let create = pace.due.filter(|_| may_start && !rounds::capturing(&observed.sessions));
    let missed = pace.missed.filter(|_| may_start);
    status.last_session_time = create.map(|tick| Time(tick.at)).or(status.last_session_time);
    status.last_missed_time = missed.map(|tick| Time(tick.at)).or(status.last_missed_time);
    status.next_session_time = pace.next.filter(|_| !policy.spec.suspend).map(Time);
    status.schedule = schedule::describe(&policy.spec.schedule);
    status.effective_overhead = plan.as_ref().ok().and_then(|plan| plan.overhead(observed.now));
    verdict::fill(&verdict::Facts { policy, links: &links, observed, plan: &plan, pace }, &mut status);
    let until_next = pace.next.map_or(SignedDuration::MAX, |next| next.duration_since(observed.now));
    Step {
        news: news::between(policy.status.as_ref(), &status, &links),
        status,
        create: create.map(|tick| rounds::session(policy, tick)),
        missed,
        delete: rounds::expired(policy, &observed.sessions, observed.now),
        requeue: until_next.clamp(SignedDuration::from_secs(1), SignedDuration::from_secs(15)),
    }
}

fn created(policy: &ProfilingPolicy) -> Timestamp {
    policy.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0)
}
