//! Which conditions does a policy have?

use std::collections::HashSet;

use fleetprof_crds::policy::SessionSummary;
use fleetprof_crds::session_status::{Phase, TargetStatus};
use fleetprof_crds::{ProfilingPolicyStatus, Reason};

use super::namespaces;
use super::outcomes;
use super::pace::Pace;
use crate::conditions::{self, Truth, Wanted};
use crate::destination;
use crate::link::{Observed, PodLink};
use crate::schedule::{Invalid, Plan};
use crate::text::advised;
use crate::view::PolicyView;

/// What the conditions are made of.
pub struct Facts<'a> {
    /// The policy.
    pub policy: &'a PolicyView<'a>,
    /// Its pods.
    pub links: &'a [PodLink],
    /// How many pods it leaves to policies of their own namespaces: as it should be, so it is said, and no
    /// more.
    pub overridden: usize,
    /// What was seen.
    pub observed: &'a Observed<'a>,
    /// Its schedule, or what is wrong with it.
    pub plan: &'a Result<Plan, Invalid>,
    /// How its rounds stand.
    pub pace: Pace,
}

/// Writes the conditions `Configured`, `AgentsReachable`, `ReceivingProfiles`, `WithinBudget` and `Ready`.
pub fn fill(facts: &Facts, status: &mut ProfilingPolicyStatus) {
    let configured = configured(facts);
    let ready = ready(facts, &configured, status);
    let all = [
        ("Configured", configured),
        ("AgentsReachable", agents(facts.links)),
        ("ReceivingProfiles", receiving(facts.policy, status)),
        ("WithinBudget", within_budget(facts.policy, facts.observed)),
        ("Ready", ready),
    ];
    for (type_, wanted) in all {
        conditions::set(&mut status.conditions, type_, wanted, facts.policy.generation, facts.observed.now);
    }
}

fn count(links: &[PodLink], reason: Reason) -> usize {
    links.iter().filter(|l| l.reason == reason).count()
}

fn configured(facts: &Facts) -> Wanted {
    if let Some(fault) = facts.policy.fault() {
        return Wanted::new(Truth::False, Reason::InvalidSpec, format!("{fault}."));
    }
    if let Err(cause) = facts.observed.images.of(facts.policy.spec) {
        return Wanted::new(Truth::False, Reason::InvalidSpec, format!("spec.agent.image: {cause}."));
    }
    if let Some(message) = destination::unknown(&facts.policy.spec.destinations, facts.observed.destinations)
    {
        return Wanted::new(Truth::False, Reason::InvalidSpec, message);
    }
    if let Err(invalid) = facts.plan {
        return Wanted::new(
            Truth::False,
            Reason::InvalidSpec,
            format!("{}: {}.", invalid.field, invalid.message),
        );
    }
    if facts.pace.next.is_none() {
        return Wanted::new(Truth::False, Reason::InvalidSpec, "spec.schedule.cron never matches any time.");
    }
    match count(facts.links, Reason::Conflict) {
        0 if facts.overridden > 0 => {
            let n = facts.overridden;
            let message =
                format!("The spec is valid; policies in their namespaces apply to {n} of the selected pods.");
            Wanted::new(Truth::True, Reason::Valid, message)
        }
        0 => Wanted::new(Truth::True, Reason::Valid, "The spec is valid."),
        n => Wanted::new(
            Truth::False,
            Reason::Conflict,
            advised(format!("an older policy applies to {n} pods"), Reason::Conflict),
        ),
    }
}

fn agents(links: &[PodLink]) -> Wanted {
    let heard = count(links, Reason::Linked);
    let starting = count(links, Reason::AgentStarting);
    match count(links, Reason::AgentLost) {
        0 if heard > 0 => Wanted::new(
            Truth::True,
            Reason::AgentsAnswer,
            format!("{heard} agents report, {starting} are starting."),
        ),
        0 => Wanted::new(
            Truth::Unknown,
            Reason::StatusCheckBlocked,
            format!("No agent has reported yet, {starting} are starting; profiling is not blocked."),
        ),
        lost => Wanted::new(
            Truth::False,
            Reason::AgentsSilent,
            advised(format!("{lost} agents do not report"), Reason::AgentLost),
        ),
    }
}

/// What the newest ended session says of those that tried to capture something: one that was refused, or
/// whose targets were all skipped, tells nothing of the way that profiles take.
///
/// For a cluster policy, the newest of each namespace does: profiles arrive where one of them says so.
fn receiving(policy: &PolicyView, status: &ProfilingPolicyStatus) -> Wanted {
    let tried = |s: &&SessionSummary| s.phase != Phase::Cancelled && s.start_time.is_some() && !s.skipped;
    let mut namespaces = HashSet::new();
    let newest = status.recent_sessions.iter().filter(tried);
    let mut newest = newest.filter(|s| policy.is_cluster() && namespaces.insert(&s.namespace));
    let good = newest.find(|s| matches!(s.phase, Phase::Succeeded | Phase::PartiallySucceeded));
    let newest = good.or_else(|| status.recent_sessions.iter().find(tried));
    match newest {
        None => Wanted::new(
            Truth::Unknown,
            Reason::NoProfilesYet,
            "No session of this policy has captured a profile yet.",
        ),
        Some(s) if matches!(s.phase, Phase::Succeeded | Phase::PartiallySucceeded) => Wanted::new(
            Truth::True,
            Reason::ProfilesArrive,
            format!("Session {} captured {} samples from {} targets.", s.name, s.samples, s.targets),
        ),
        Some(s) => {
            let reason = if s.reason == Some(Reason::NoSamples) {
                Reason::NoActivity
            } else {
                s.reason.unwrap_or(Reason::AllTargetsFailed)
            };
            Wanted::new(
                Truth::False,
                reason,
                advised(format!("Session {} ended as {}", s.name, s.phase.as_str()), reason),
            )
        }
    }
}

/// What the newest ended session says; of a cluster policy, the newest that no person requested.
fn within_budget(policy: &PolicyView, observed: &Observed) -> Wanted {
    let shown = observed.sessions.iter().filter(|s| !policy.is_cluster() || namespaces::is_own(s));
    let ended = shown.filter_map(|s| Some((s.status.as_ref()?.end_time.as_ref()?.0, s)));
    let Some((_, newest)) = ended.max_by_key(|(at, _)| *at) else {
        return Wanted::new(Truth::True, Reason::Valid, "No target was denied a slot.");
    };
    let gave_way = |t: &&TargetStatus| matches!(t.reason, Some(Reason::NodeBusy | Reason::BudgetExhausted));
    let targets = newest.status.as_ref().map(|s| s.targets.as_slice()).unwrap_or_default();
    let name = newest.metadata.name.as_deref().unwrap_or_default();
    match targets.iter().find(gave_way) {
        None => Wanted::new(Truth::True, Reason::Valid, format!("All targets of session {name} got a slot.")),
        Some(first) => Wanted::new(
            Truth::False,
            first.reason.unwrap_or(Reason::BudgetExhausted),
            format!(
                "{} of {} targets of session {name} got no slot; {}",
                targets.iter().filter(gave_way).count(),
                targets.len(),
                first.message
            ),
        ),
    }
}

/// Whether the policy does what it says; with a spec that cannot be obeyed it does not.
fn ready(facts: &Facts, configured: &Wanted, status: &ProfilingPolicyStatus) -> Wanted {
    if facts.policy.spec.suspend {
        return Wanted::new(
            Truth::False,
            Reason::PolicySuspended,
            advised("No new sessions", Reason::PolicySuspended),
        );
    }
    if configured.reason == Reason::InvalidSpec {
        return configured.clone();
    }
    without_pods(facts).or_else(|| failing(facts, status)).unwrap_or_else(|| active(facts, status))
}

/// Why there is no pod to profile, if so.
fn without_pods(facts: &Facts) -> Option<Wanted> {
    let links = facts.links;
    if links.is_empty() && facts.overridden > 0 {
        let message = format!(
            "Policies in their namespaces apply to all {} selected pods; this policy has no effect.",
            facts.overridden
        );
        return Some(Wanted::new(Truth::False, Reason::Overridden, message));
    }
    if links.is_empty() {
        return Some(Wanted::new(
            Truth::False,
            Reason::NoMatchingPods,
            advised("No pod is selected", Reason::NoMatchingPods),
        ));
    }
    if !links.iter().any(|l| l.linked) {
        let reason = links.iter().map(|l| l.reason).min().unwrap_or(Reason::NoMatchingPods);
        return Some(Wanted::new(
            Truth::False,
            reason,
            format!("None of {} selected pods can be profiled; see status.linkedApps.", links.len()),
        ));
    }
    None
}

/// That rounds are further apart while targets fail.
fn failing(facts: &Facts, status: &ProfilingPolicyStatus) -> Option<Wanted> {
    if facts.pace.stretch > 1 {
        let failed = outcomes::failed(&status.outcomes);
        let (last, stretch) = (status.outcomes.len(), facts.pace.stretch);
        let what = if facts.policy.is_cluster() { "sessions of its rounds" } else { "targets" };
        let cause = format!(
            "{failed} of the last {last} {what} failed; the interval between rounds is {stretch} times \
             longer until one succeeds"
        );
        return Some(Wanted::new(Truth::False, Reason::FailureRate, advised(cause, Reason::FailureRate)));
    }
    None
}

fn active(facts: &Facts, status: &ProfilingPolicyStatus) -> Wanted {
    let (linked, all) = (facts.links.iter().filter(|l| l.linked).count(), facts.links.len());
    let rest = namespaces::sentence(status);
    Wanted::new(
        Truth::True,
        Reason::Active,
        format!("{linked} of {all} selected pods can be profiled.{rest}"),
    )
}
