//! How does a policy stand, in conditions?

use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfilingPolicy, ProfilingPolicyStatus, Reason};

use super::Observed;
use super::link::PodLink;
use crate::session::conditions::{self, Truth, Wanted};

/// Writes the conditions `Configured`, `AgentsReachable`, `ReceivingProfiles` and `Ready`.
pub fn fill(policy: &ProfilingPolicy, status: &mut ProfilingPolicyStatus, links: &[PodLink], observed: &Observed) {
    let all = [
        ("Configured", configured(links)),
        ("AgentsReachable", agents(links)),
        ("ReceivingProfiles", receiving(status)),
        ("Ready", ready(policy, links)),
    ];
    for (type_, wanted) in all {
        conditions::set(&mut status.conditions, type_, wanted, policy.metadata.generation, observed.now);
    }
}

fn count(links: &[PodLink], reason: Reason) -> usize {
    links.iter().filter(|l| l.reason == reason).count()
}

fn configured(links: &[PodLink]) -> Wanted {
    match count(links, Reason::Conflict) {
        0 => Wanted::new(Truth::True, Reason::Valid, "The policy is in order."),
        n => Wanted::new(Truth::False, Reason::Conflict, format!("{n} pods are served by an older policy; {}.", Reason::Conflict.advice())),
    }
}

fn agents(links: &[PodLink]) -> Wanted {
    let heard = count(links, Reason::Linked);
    let starting = count(links, Reason::AgentStarting);
    match count(links, Reason::AgentLost) {
        0 if heard > 0 => Wanted::new(Truth::True, Reason::AgentsAnswer, format!("{heard} agents answer, {starting} are starting.")),
        0 => Wanted::new(
            Truth::Unknown,
            Reason::StatusCheckBlocked,
            format!("No agent was heard of yet, {starting} are starting; this stops nothing."),
        ),
        lost => Wanted::new(Truth::False, Reason::AgentsSilent, format!("{lost} agents do not answer; {}.", Reason::AgentLost.advice())),
    }
}

/// What the newest ended session says.
fn receiving(status: &ProfilingPolicyStatus) -> Wanted {
    let newest = status.recent_sessions.iter().find(|s| s.phase != Phase::Cancelled);
    match newest {
        None => Wanted::new(Truth::Unknown, Reason::NoProfilesYet, "No session of this policy has ended yet."),
        Some(s) if matches!(s.phase, Phase::Succeeded | Phase::PartiallySucceeded) => Wanted::new(
            Truth::True,
            Reason::ProfilesArrive,
            format!("Session {} brought {} samples of {} targets.", s.name, s.samples, s.targets),
        ),
        Some(s) => {
            let reason =
                if s.reason == Some(Reason::NoSamples) { Reason::NoActivity } else { s.reason.unwrap_or(Reason::AllTargetsFailed) };
            Wanted::new(Truth::False, reason, format!("Session {} ended {}; {}.", s.name, s.phase.as_str(), reason.advice()))
        }
    }
}

fn ready(policy: &ProfilingPolicy, links: &[PodLink]) -> Wanted {
    let linked = links.iter().filter(|l| l.linked).count();
    if policy.spec.suspend {
        return Wanted::new(Truth::False, Reason::PolicySuspended, format!("No new sessions; {}.", Reason::PolicySuspended.advice()));
    }
    if links.is_empty() {
        return Wanted::new(Truth::False, Reason::NoMatchingPods, format!("No pod is selected; {}.", Reason::NoMatchingPods.advice()));
    }
    if linked == 0 {
        let reason = links.iter().map(|l| l.reason).min().unwrap_or(Reason::NoMatchingPods);
        return Wanted::new(
            Truth::False,
            reason,
            format!("None of {} selected pods can be profiled now; see status.linkedApps.", links.len()),
        );
    }
    Wanted::new(Truth::True, Reason::Active, format!("{linked} of {} selected pods can be profiled.", links.len()))
}
