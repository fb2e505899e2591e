//! Which workload is restarted next so that its pods get the current agent, and when do restarts stop?
//!
//! ```text
//! links ─► candidates ─► looks ─(facts)─► decide ─► status ─► the next step patches the workload
//!
//!            may be?           agent in every pod
//! candidate ─────► Restarting ─────────────────► Restarted ─30 s─► the next candidate
//!                      ├─10 min without progress─► Failed: none follows until policy or agent change
//!                      └─the patch is reverted twice─► Failed
//! ```
//! One workload of a policy at a time. A decision is written to the policy's status first and carried out in
//! the next step, so a leader that dies in between leaves no second workload in progress. The pod template
//! records for which agent version a workload was restarted: it is never restarted for the same version
//! again, whichever policy asks.

mod facts;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use fleetprof_crds::restart::{RestartState, RestartStatus};
use fleetprof_crds::{ProfilingPolicyStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::conditions::{self, Truth, Wanted};
use crate::link::PodLink;
use crate::selector;
use crate::text::{advised, counted};
use crate::time::after;

pub use facts::{BudgetFacts, Key, Seen, Situation, WorkloadFacts};

/// The condition that tells how restarts stand.
pub const CONDITION: &str = "Restarting";
/// Least time between the end of one restart and the start of the next; as long, nothing is restarted after a
/// policy was made or a leader has taken over, so that the webhook knows the policy and gives out the agent
/// of this version.
const INTERVAL: SignedDuration = SignedDuration::from_secs(30);
/// A restart that brings no further pod for so long has failed: the default of a Deployment's
/// `progressDeadlineSeconds`.
const DEADLINE: SignedDuration = SignedDuration::from_mins(10);
/// Most workloads that are looked at in one step.
const LOOKS: usize = 8;
/// Changes of one workload's template that the API server took, and that somebody took back, before a restart
/// has failed.
const MOST_CHANGES: u32 = 2;
/// Reasons of a pod that do not speak against the restart of its workload.
const OPEN: [Reason; 7] = [
    Reason::Linked,
    Reason::AgentStarting,
    Reason::AgentLost,
    Reason::PodNotRunning,
    Reason::StatusCheckBlocked,
    Reason::CreatedBeforePolicy,
    Reason::WebhookMissed,
];

/// What [`decide`] decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The last restart, for the status.
    pub last: Option<RestartStatus>,
    /// The workload whose template is to be changed now.
    pub patch: Option<Key>,
    /// The condition `Restarting`.
    pub condition: Wanted,
}

/// The workloads that have a pod without an agent, or with another version of it, and no pod that injection
/// refuses.
#[must_use]
pub fn candidates(situation: &Situation) -> BTreeSet<Key> {
    let mut needs: BTreeMap<Key, bool> = BTreeMap::new();
    let mut closed: BTreeSet<Key> = BTreeSet::new();
    for link in situation.links.iter().filter(|l| l.pod.workload.restarts()) {
        let key = Key { namespace: link.pod.namespace.to_string(), workload: (*link.pod.workload).clone() };
        if !OPEN.contains(&link.reason) {
            closed.insert(key.clone());
        }
        *needs.entry(key).or_default() |= needs_restart(link, situation);
    }
    needs.into_iter().filter(|(key, needs)| *needs && !closed.contains(key)).map(|(key, _)| key).collect()
}

fn needs_restart(link: &PodLink, situation: &Situation) -> bool {
    let outdated = || {
        situation
            .agents
            .get(&link.pod.uid)
            .is_some_and(|a| a.is_outdated(situation.pinned, situation.version))
    };
    matches!(link.reason, Reason::CreatedBeforePolicy | Reason::WebhookMissed)
        || (link.pod.sidecar.is_some() && outdated())
}

/// Whether one of the workload's own pods needs the restart.
fn lacks(key: &Key, facts: &WorkloadFacts, situation: &Situation) -> bool {
    let own = |l: &&PodLink| key.is_of(&l.pod) && selector::selects(&facts.selector, &l.pod.labels);
    situation.links.iter().filter(own).any(|l| needs_restart(l, situation))
}

/// Which workloads to look at before [`decide`]: the one in flight, or a few candidates, others each time.
#[must_use]
pub fn looks(situation: &Situation) -> Vec<Key> {
    match situation.last {
        Some(last) if last.state == RestartState::Restarting => vec![Key::of(last)],
        _ if !situation.enabled || situation.suspended || is_stopped(situation) || rests(situation) => {
            Vec::new()
        }
        _ => turn(candidates(situation), situation.now),
    }
}

/// A few of many, others every quarter of a minute, so that ones that wait do not hide the rest.
fn turn(all: BTreeSet<Key>, now: Timestamp) -> Vec<Key> {
    let mut all: Vec<Key> = all.into_iter().collect();
    let turns = all.len().div_ceil(LOOKS).max(1);
    let quarter = usize::try_from(now.as_second().div_euclid(15)).unwrap_or(0);
    let first = (quarter % turns * LOOKS).min(all.len());
    all.rotate_left(first);
    all.truncate(LOOKS);
    all
}

/// Whether a restart has failed that nobody has looked at since.
fn is_stopped(situation: &Situation) -> bool {
    situation.last.is_some_and(|l| {
        l.state == RestartState::Failed
            && l.agent_version == situation.version
            && l.failed_generation == situation.generation
    })
}

/// Whether nothing is restarted yet: the last restart, the policy or the leader is too young.
fn rests(situation: &Situation) -> bool {
    let ended = situation
        .last
        .and_then(|l| l.end_time.as_ref())
        .map_or(situation.since, |end| end.0.max(situation.since));
    // One that lies in the future is a clock's mistake.
    ended <= situation.now && after(ended, INTERVAL) > situation.now
}

/// What happens next, from what was seen of the workloads that [`looks`] named.
#[must_use]
pub fn decide(situation: &Situation, seen: &Seen) -> Decision {
    match situation.last {
        Some(last) if last.state == RestartState::Restarting => follow(last, situation, seen),
        Some(last) if is_stopped(situation) => {
            let message = situation.failure.map_or_else(
                || {
                    let (key, version) = (Key::of(last), &last.agent_version);
                    let cause = format!("Stopped: {key} did not become ready with agent {version}");
                    advised(cause, Reason::RestartFailed)
                },
                str::to_owned,
            );
            keep(situation, Wanted::new(Truth::False, Reason::RestartFailed, message))
        }
        _ => next(situation, seen),
    }
}

/// Writes a decision into the status of the policy. Without one nothing is restarted, and nothing said about
/// it.
pub fn fill(
    status: &mut ProfilingPolicyStatus,
    decision: Option<&Decision>,
    generation: Option<i64>,
    now: Timestamp,
) {
    status.restart = decision.and_then(|d| d.last.clone());
    match decision {
        Some(decision) => {
            conditions::set(&mut status.conditions, CONDITION, decision.condition.clone(), generation, now)
        }
        None => status.conditions.retain(|c| c.type_ != CONDITION),
    }
}

fn keep(situation: &Situation, condition: Wanted) -> Decision {
    Decision { last: situation.last.cloned(), patch: None, condition }
}

/// The restart in flight: is it begun, does it go on, has it ended?
fn follow(last: &RestartStatus, situation: &Situation, seen: &Seen) -> Decision {
    let key = Key::of(last);
    let on = |what: &str| {
        Wanted::new(
            Truth::True,
            Reason::Restarting,
            format!("Restarting {key} for agent {}: {what}.", last.agent_version),
        )
    };
    let facts = match seen.workloads.get(&key) {
        None => return keep(situation, on("its state is not known yet")),
        Some(None) => return end(last, situation, RestartState::Restarted, on("it was deleted")),
        Some(Some(facts)) => facts,
    };
    let begun = facts.restarted_for.as_deref() == Some(&last.agent_version);
    // An operator of another version has taken over and decides again for its agents.
    let ours = last.agent_version == situation.version;
    if let Some(decision) = not_begun(&key, begun, facts, situation, seen) {
        return decision;
    }
    let lacking = ours && lacks(&key, facts, situation) && candidates(situation).contains(&key);
    if begun && facts.settled && !lacking {
        return end(last, situation, RestartState::Restarted, on("all pods are ready and have the agent"));
    }
    let mut last = last.clone();
    last.progress_time = Time(last.progress_time.0.min(situation.now));
    if begun && facts.ready > last.ready {
        (last.ready, last.progress_time) = (facts.ready, Time(situation.now));
    }
    if situation.now > after(last.progress_time.0, DEADLINE) {
        return failed(&last, situation, words::no_progress(&last, facts));
    }
    let condition =
        on(&format!("{} of {} updated pods are ready", if begun { facts.ready } else { 0 }, facts.desired));
    Decision { last: Some(last), patch: (!begun).then_some(key), condition }
}

/// What becomes of a restart that is decided and not begun, where it does not just go on: something else is
/// next, it waits, or it was begun already and taken back.
fn not_begun(
    key: &Key,
    begun: bool,
    facts: &WorkloadFacts,
    situation: &Situation,
    seen: &Seen,
) -> Option<Decision> {
    let last = situation.last.filter(|_| !begun)?;
    // An operator of another version decides for its own agents.
    if situation.suspended || !situation.enabled || last.agent_version != situation.version {
        return Some(next(&Situation { last: None, ..situation.clone() }, seen));
    }
    let changes = situation.changes.get(key).copied().unwrap_or(0);
    if changes >= MOST_CHANGES {
        return Some(failed(last, situation, words::taken_back(key, facts, changes)));
    }
    let why = fit(key, facts, situation, seen).err()?;
    let condition = Wanted::new(Truth::False, Reason::RestartBlocked, format!("{key} is waiting: {why}."));
    Some(Decision { last: None, patch: None, condition })
}

fn end(last: &RestartStatus, situation: &Situation, state: RestartState, condition: Wanted) -> Decision {
    let last = RestartStatus { state, end_time: Some(Time(situation.now)), ..last.clone() };
    Decision { last: Some(last), patch: None, condition }
}

fn failed(last: &RestartStatus, situation: &Situation, cause: String) -> Decision {
    let message = advised(cause, Reason::RestartFailed);
    let last = RestartStatus { failed_generation: situation.generation, ..last.clone() };
    end(&last, situation, RestartState::Failed, Wanted::new(Truth::False, Reason::RestartFailed, message))
}

/// Nothing is in flight: is there work, may it be done, and which of what was looked at is fit?
fn next(situation: &Situation, seen: &Seen) -> Decision {
    let all = candidates(situation);
    let idle = |reason: Reason, message: String| keep(situation, Wanted::new(Truth::False, reason, message));
    if all.is_empty() {
        return idle(Reason::UpToDate, words::up_to_date(situation));
    }
    let n = all.len();
    if !situation.enabled {
        return idle(
            Reason::RestartDisabled,
            advised(
                format!("{} agent {}", counted(n, "workload lacks", "workloads lack"), situation.version),
                Reason::RestartDisabled,
            ),
        );
    }
    if situation.suspended {
        return idle(Reason::PolicySuspended, advised(waiting(n), Reason::PolicySuspended));
    }
    if rests(situation) {
        let message = format!("{}; the operator waits {INTERVAL:#} before each.", waiting(n));
        return keep(situation, Wanted::new(Truth::True, Reason::Restarting, message));
    }
    choose(&all, situation, seen)
}

fn choose(all: &BTreeSet<Key>, situation: &Situation, seen: &Seen) -> Decision {
    let mut blocked: Option<(&Key, String)> = None;
    for key in turn(all.clone(), situation.now).iter().filter_map(|k| all.get(k)) {
        let Some(Some(facts)) = seen.workloads.get(key) else { continue };
        match fit(key, facts, situation, seen) {
            Ok(()) => return begin(key, situation),
            Err(why) => blocked = blocked.or(Some((key, why))),
        }
    }
    let condition = match blocked {
        Some((key, why)) => Wanted::new(
            Truth::False,
            Reason::RestartBlocked,
            format!("{}; {key}: {why}.", waiting(all.len())),
        ),
        None => Wanted::new(
            Truth::True,
            Reason::Restarting,
            format!("{}; they are restarted one at a time.", waiting(all.len())),
        ),
    };
    keep(situation, condition)
}

fn begin(key: &Key, situation: &Situation) -> Decision {
    let now = Time(situation.now);
    let last = RestartStatus {
        namespace: key.namespace.clone(),
        kind: key.workload.kind.clone(),
        name: key.workload.name.clone(),
        agent_version: situation.version.to_owned(),
        state: RestartState::Restarting,
        start_time: now.clone(),
        progress_time: now,
        ready: 0,
        end_time: None,
        failed_generation: None,
    };
    let condition = Wanted::new(
        Truth::True,
        Reason::Restarting,
        format!("Restarting {key} next for agent {}.", situation.version),
    );
    Decision { last: Some(last), patch: None, condition }
}

fn waiting(n: usize) -> String {
    counted(n, "workload is waiting", "workloads are waiting")
}

/// Whether the workload may be restarted now, or why not.
fn fit(key: &Key, facts: &WorkloadFacts, situation: &Situation, seen: &Seen) -> Result<(), String> {
    if facts.restarted_for.as_deref() == Some(situation.version) {
        let version = situation.version;
        return Err(format!(
            "it was already restarted for agent {version}; to restart it again, use kubectl rollout restart"
        ));
    }
    if let Some(unfit) = &facts.unfit {
        return Err(unfit.clone());
    }
    if !lacks(key, facts, situation) {
        return Err("its pods without the agent do not match its selector".into());
    }
    if !facts.settled {
        return Err("it is rolling out, or not all of its pods are ready".into());
    }
    let protects = |b: &&BudgetFacts| {
        let mut pods = situation.links.iter().filter(|l| key.is_of(&l.pod));
        b.namespace == key.namespace && pods.any(|l| selector::selects(&b.selector, &l.pod.labels))
    };
    match seen.budgets.iter().filter(|b| b.allowed <= 0).find(protects) {
        Some(budget) => {
            Err(format!("the PodDisruptionBudget {} currently allows no disruptions", budget.name))
        }
        None => Ok(()),
    }
}
