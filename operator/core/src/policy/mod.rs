//! What should happen next with a policy? It links its pods, starts the round that is due, deletes old
//! sessions, and reports its status.
//!
//! ```text
//! pods + agents ─► link ────────┐
//! sessions ──────► rounds ──────┼─► status
//! schedule + now ─► due? ───────┴─► create / delete sessions
//! ```

mod clock;
pub mod growth;
mod keep;
mod namespaces;
pub mod news;
pub mod outcomes;
pub mod pace;
pub mod restart;
pub mod rounds;
pub mod verdict;
mod wanted;

use fleetprof_crds::{ProfileSession, ProfilingPolicyStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::link::{self, Observed};
use crate::schedule::{self, Plan, Tick};
use crate::view::PolicyView;
use pace::Pace;

/// What [`step`] decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When it was decided.
    pub now: Timestamp,
    /// The status as it should be.
    pub status: ProfilingPolicyStatus,
    /// The sessions of the round that is due: one, or under a cluster policy one for each namespace in which
    /// pods were picked.
    pub create: Vec<ProfileSession>,
    /// A tick that passed without a round: to be told once.
    pub missed: Option<Tick>,
    /// Sessions to delete, as (namespace, name): what is over the history limits.
    pub delete: Vec<(String, String)>,
    /// The policy's pods: what may be restarted is found among them.
    pub links: Vec<link::PodLink>,
    /// UIDs of pods whose attached agents are to stay.
    pub keep: Vec<String>,
    /// What to tell about apps, once the status is written.
    pub news: Vec<news::News>,
    /// When to look again although nothing was heard.
    pub requeue: SignedDuration,
}

/// The next step of a policy.
#[must_use]
pub fn step(policy: &PolicyView, observed: &Observed) -> Step {
    let mut status = policy.status.cloned().unwrap_or_default();
    status.observed_generation = policy.generation;
    clock::tell(policy, &mut status, observed.now);
    let all = link::pods(policy, observed).into_iter();
    let (overridden, links): (Vec<_>, Vec<_>) = all.partition(|l| l.reason == Reason::Overridden);
    rounds::fill(policy, &mut status, observed.sessions);
    outcomes::fill(policy, &mut status, observed.sessions, observed.now);
    link::fill(policy, &mut status, &links, observed);
    let plan = Plan::read(policy.uid, &policy.spec.schedule);
    let created = clock::created(policy, observed.now);
    let pace = plan.as_ref().map(|plan| pace::pace(plan, created, &status, observed.now)).unwrap_or_default();
    let may_start =
        !policy.spec.suspend && policy.spec.sampling.percent > 0 && links.iter().any(|l| l.linked);
    let create = pace.due.filter(|tick| may_start && !rounds::waits(policy, observed.sessions, tick.round));
    let round = |tick| {
        let resting = namespaces::resting(&status, plan.as_ref().ok(), tick);
        let left_out = rounds::left_out(resting, observed.sessions, tick);
        rounds::sessions(policy, tick, (&links, observed.sessions), &left_out)
    };
    let sessions = create.map(round).unwrap_or_default();
    note_ticks(&mut status, pace, create, may_start);
    note_schedule(&mut status, policy, plan.as_ref().ok(), pace, observed.now);
    verdict::fill(
        &verdict::Facts { policy, links: &links, overridden: overridden.len(), observed, plan: &plan, pace },
        &mut status,
    );
    let until_next = pace.next.map_or(SignedDuration::MAX, |next| next.duration_since(observed.now));
    Step {
        now: observed.now,
        news: news::between(policy.status, &status, &links),
        status,
        create: sessions,
        missed: pace.missed.filter(|_| may_start),
        delete: rounds::expired(policy, observed.sessions, observed.now),
        keep: keep::keep(policy, &links, observed.agents),
        links,
        requeue: until_next.clamp(SignedDuration::from_secs(1), SignedDuration::from_secs(15)),
    }
}

/// Notes when the next round starts, and what the rounds cost.
fn note_schedule(
    status: &mut ProfilingPolicyStatus,
    policy: &PolicyView,
    plan: Option<&Plan>,
    pace: Pace,
    now: Timestamp,
) {
    status.next_session_time = pace.next.filter(|_| !policy.spec.suspend).map(Time);
    status.schedule = schedule::describe(&policy.spec.schedule);
    status.effective_overhead = plan.and_then(|plan| plan.overhead(now));
}

/// Notes what became of the tick that is due or was missed: a round, none, or nothing to start.
fn note_ticks(status: &mut ProfilingPolicyStatus, pace: Pace, create: Option<Tick>, may_start: bool) {
    let missed = pace.missed.filter(|_| may_start);
    // Nobody waited for this tick: when pods come or the policy goes on, it has not been missed.
    let idle = pace.due.or(pace.missed).filter(|_| !may_start);
    let note = |tick: Option<Tick>, old: &mut Option<Time>| {
        if let Some(tick) = tick {
            *old = Some(Time(tick.at));
        }
    };
    note(create, &mut status.last_session_time);
    note(missed, &mut status.last_missed_time);
    note(idle, &mut status.last_idle_time);
}
