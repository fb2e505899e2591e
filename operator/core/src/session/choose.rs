//! Which pods does a session capture? They are chosen once, when it starts, and recorded in its status.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fleetprof_crds::policy::{Containers, Sampling};
use fleetprof_crds::session::{Target, Trigger};
use fleetprof_crds::session_status::{TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileSession, Reason, names};

use super::efforts::Efforts;
use super::observed::{Observed, PolicyFacts};
use crate::agent::has_agent;
use crate::hash::{hash, short_name};
use crate::pick::{Candidate, most_of, pick, with_agents_first};
use crate::pod::{ContainerFacts, OptOut, PodFacts, Workload};
use crate::selector;
use crate::text::advised;

/// The targets of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// One workload, or how many.
    pub app: String,
    /// The targets, ordered by pod name; of a session that compares, one of each revision after the other.
    pub targets: Vec<TargetStatus>,
    /// Pods that were asked for, but have no place in the session.
    pub left_out: usize,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// Human-readable message.
    pub message: String,
}

/// The targets of `session`, or why there is none. Pods that were asked for by name but cannot be captured
/// are targets that are `Skipped` with the reason.
///
/// # Errors
/// A [`Refusal`] when nothing that runs is selected.
pub fn targets(session: &ProfileSession, observed: &Observed) -> Result<Chosen, Refusal> {
    let named = select(session, observed)?;
    let allowed = |pod: &PodFacts| foreign_by(pod, observed).is_none();
    let by_name = session.spec.target.as_ref().is_some_and(|t| t.pods.is_some());
    let (mine, foreign): (Vec<_>, Vec<_>) = named.into_iter().partition(|p| allowed(p));
    let opted_out = |p: &PodFacts| p.opted_out(Some(&observed.namespace_labels));
    let (live, rest): (Vec<_>, Vec<_>) = mine.into_iter().partition(|p| p.running && !opted_out(p));
    let efforts = Efforts::of(session, observed, &live);
    let picks = live_picks(session, observed, &live, &efforts);
    let mut targets: Vec<TargetStatus> = picks.iter().map(|pod| target(session, observed, pod)).collect();
    let picked = targets.len();
    if by_name {
        targets.extend(gone(session, observed).map(absent));
        targets.extend(
            foreign.iter().map(|p| skipped(p, foreign_by(p, observed).unwrap_or(Reason::NotSelected))),
        );
        targets.extend(
            rest.iter()
                .map(|p| skipped(p, if opted_out(p) { Reason::OptedOut } else { Reason::PodNotRunning })),
        );
    }
    // Of all targets, since the next round goes by what this one was to do.
    efforts.set(session, &mut targets);
    if targets.is_empty() {
        return Err(opted_out_all(&rest, observed)
            .unwrap_or_else(|| nothing(session, rest.len() + live.len(), foreign.len())));
    }
    let places = names::MAX_TARGETS.min(targets.len());
    let asked =
        if wants_all(session, observed) { targets.len() + live.len() - picked } else { targets.len() };
    weigh(&mut targets, observed);
    targets.sort_by(|a, b| a.pod.cmp(&b.pod));
    if session.spec.compare.is_some() {
        targets = by_turns(targets);
    }
    targets.truncate(places);
    Ok(Chosen { app: app(&targets), targets, left_out: asked - places })
}

/// Notes of how many pods each target is one: those of its workload that run, whatever the policy selects.
fn weigh(targets: &mut [TargetStatus], observed: &Observed) {
    let mut pods: HashMap<String, i32> = HashMap::new();
    for pod in observed.pods.iter().filter(|pod| pod.running && !pod.ending) {
        let count = pods.entry(pod.workload.to_string()).or_default();
        *count = count.saturating_add(1);
    }
    for target in targets {
        target.workload_pods = pods.get(&target.workload).copied();
    }
}

/// One target of each revision after the other: slots are granted in this order, so that a lack of them leaves as
/// many of each.
fn by_turns(targets: Vec<TargetStatus>) -> Vec<TargetStatus> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut turns: Vec<(usize, TargetStatus)> = Vec::with_capacity(targets.len());
    for target in targets {
        let turn = seen.entry(target.revision.clone()).or_default();
        *turn += 1;
        turns.push((*turn, target));
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, target)| target).collect()
}

/// Why the policy has no say over the pod; `None` where it has, or where the session names no policy.
fn foreign_by(pod: &PodFacts, observed: &Observed) -> Option<Reason> {
    let PolicyFacts::Found { spec, yielded, .. } = &observed.policy else { return None };
    if !selector::selects(&spec.selector, &pod.labels) {
        return Some(Reason::NotSelected);
    }
    yielded.get(&pod.uid).copied()
}

/// Every pod that the session's target names, running or not.
fn select(session: &ProfileSession, observed: &Observed) -> Result<Vec<Arc<PodFacts>>, Refusal> {
    let all = || observed.pods.iter().filter(|p| !p.ending).cloned();
    let Some(Target { workload, pod_selector, pods }) = &session.spec.target else {
        return Ok(all().collect());
    };
    if let Some(w) = workload {
        let found: Vec<_> = all().filter(|p| p.is_of(&w.kind, &w.name)).collect();
        if found.is_empty() {
            let message = advised(
                format!("No pod in this namespace belongs to {}/{}", w.kind, w.name),
                Reason::TargetNotFound,
            );
            return Err(Refusal { reason: Reason::TargetNotFound, message });
        }
        return Ok(found);
    }
    if let Some(s) = pod_selector {
        return Ok(all().filter(|p| selector::selects(s, &p.labels)).collect());
    }
    let wanted: HashSet<&String> = pods.iter().flatten().collect();
    let missing: Vec<&str> = gone(session, observed).collect();
    if !missing.is_empty() && session.spec.trigger == Trigger::OnDemand {
        let message = advised(
            format!("Pod {} does not exist in this namespace", missing.join(", ")),
            Reason::TargetNotFound,
        );
        return Err(Refusal { reason: Reason::TargetNotFound, message });
    }
    Ok(all().filter(|p| wanted.contains(&p.name)).collect())
}

/// Pods that the session names and that are not there, or ending. A person has mistyped one; the operator
/// named it when it was there.
fn gone<'s>(session: &'s ProfileSession, observed: &'s Observed) -> impl Iterator<Item = &'s str> {
    let there: HashSet<&str> = observed.pods.iter().filter(|p| !p.ending).map(|p| p.name.as_str()).collect();
    let named = session.spec.target.iter().flat_map(|t| &t.pods).flatten();
    named.map(String::as_str).filter(move |name| !there.contains(name))
}

/// Whether every pod that is named was asked for: those of a policy's sampling are a pick.
fn wants_all(session: &ProfileSession, observed: &Observed) -> bool {
    is_explicit(session) || !matches!(observed.policy, PolicyFacts::Found { .. })
}

/// Whether the session names pods one by one or by labels.
fn is_explicit(session: &ProfileSession) -> bool {
    session.spec.target.as_ref().is_some_and(|t| t.workload.is_none())
}

/// Pods named one by one or by labels are all captured; of a workload, and of a whole policy, as many as the
/// policy says.
fn live_picks(
    session: &ProfileSession,
    observed: &Observed,
    live: &[Arc<PodFacts>],
    efforts: &Efforts,
) -> Vec<Arc<PodFacts>> {
    let (seed, sampling) = match &observed.policy {
        PolicyFacts::Found { uid, spec, .. } => (uid.as_str(), spec.sampling.clone()),
        _ => ("", Sampling { replicas_per_workload: i32::MAX, ..Sampling::default() }),
    };
    let explicit = is_explicit(session);
    let replicas =
        if explicit { usize::MAX } else { usize::try_from(sampling.replicas_per_workload).unwrap_or(1) };
    let max = if explicit { names::MAX_TARGETS } else { most(session, &sampling, live.len()) };
    let candidates = live.iter().map(|pod| candidate(session, observed, pod)).collect();
    let candidates = match session.spec.trigger {
        Trigger::Schedule => candidates,
        _ => with_agents_first(candidates, replicas),
    };
    let replicas = |workload: &Workload| match explicit {
        true => replicas,
        false => efforts.pods(workload).unwrap_or(replicas),
    };
    let picked: HashSet<String> =
        pick(seed, round(session), &candidates, replicas, max).into_iter().collect();
    live.iter().filter(|p| picked.contains(&p.uid)).cloned().collect()
}

fn candidate(session: &ProfileSession, observed: &Observed, pod: &PodFacts) -> Candidate {
    let container = pod.choose(&session.spec.container, &containers(observed));
    let has_agent = container.is_ok_and(|c| has_agent(pod, &c.name, &observed.agents, observed.settled));
    Candidate { pod_uid: pod.uid.clone(), workload: (*pod.workload).clone(), has_agent }
}

/// Which containers the session's policy profiles.
fn containers(observed: &Observed) -> Containers {
    match &observed.policy {
        PolicyFacts::Found { spec, .. } => spec.containers.clone(),
        _ => Containers::default(),
    }
}

/// Most targets of a pick among so many pods; a share of them is taken of whole policies alone. A share of 0
/// stops the policy's rounds, and no session that somebody asked for.
fn most(session: &ProfileSession, sampling: &Sampling, pods: usize) -> usize {
    let stops_rounds = sampling.percent == 0 && session.spec.trigger != Trigger::Schedule;
    if session.spec.target.is_some() || stops_rounds {
        usize::try_from(sampling.max_targets).unwrap_or(1)
    } else {
        most_of(sampling, pods)
    }
}

/// A round of the policy's schedule carries its number; a session made by hand picks by its own uid.
fn round(session: &ProfileSession) -> u64 {
    let annotation = session.metadata.annotations.as_ref().and_then(|a| a.get(names::ROUND_ANNOTATION));
    match (session.spec.trigger, annotation.and_then(|r| r.parse().ok())) {
        (Trigger::Schedule, Some(round)) => round,
        _ => hash(&[session.metadata.uid.as_deref().unwrap_or_default()]),
    }
}

fn target(session: &ProfileSession, observed: &Observed, pod: &PodFacts) -> TargetStatus {
    let container = match pod.choose(&session.spec.container, &containers(observed)) {
        Ok(container) => container,
        Err(why) => {
            let target = TargetStatus { container: session.spec.container.clone(), ..bare(pod) };
            return skip(target, Reason::NoSelectedContainer, why);
        }
    };
    if let Some(message) = too_small(container, &observed.policy) {
        return skip(
            TargetStatus { container: container.name.to_string(), ..bare(pod) },
            Reason::TooSmall,
            message,
        );
    }
    TargetStatus {
        container: container.name.to_string(),
        container_id: container.id.clone(),
        capture: capture(session, &pod.uid, &container.name),
        ..bare(pod)
    }
}

/// Name of the capture of a container: the same for each leader, and no other session's.
pub(super) fn capture(session: &ProfileSession, pod_uid: &str, container: &str) -> String {
    let uid = session.metadata.uid.as_deref().unwrap_or_default();
    format!("{uid}-{}", short_name(&[pod_uid, container]))
}

/// Why a container is too small for the policy, if it is.
fn too_small(container: &ContainerFacts, policy: &PolicyFacts) -> Option<String> {
    let PolicyFacts::Found { spec, .. } = policy else { return None };
    let limit = container.below(&spec.budget)?;
    let (name, least) = (&container.name, &spec.budget.min_container_cpu.0);
    Some(advised(
        format!("The container {name} has a CPU limit of {limit}m, but budget.minContainerCPU is {least}"),
        Reason::TooSmall,
    ))
}

fn bare(pod: &PodFacts) -> TargetStatus {
    TargetStatus {
        pod: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        node: pod.node.to_string(),
        workload: pod.workload.to_string(),
        revision: pod.revision().map(|(label, _)| label.to_owned()).unwrap_or_default(),
        ..TargetStatus::default()
    }
}

fn skipped(pod: &PodFacts, reason: Reason) -> TargetStatus {
    skip(bare(pod), reason, String::new())
}

/// A target whose pod went between the pick and the start.
fn absent(pod: &str) -> TargetStatus {
    skip(TargetStatus { pod: pod.to_owned(), ..TargetStatus::default() }, Reason::PodGone, String::new())
}

fn skip(mut target: TargetStatus, reason: Reason, message: String) -> TargetStatus {
    target.phase = TargetPhase::Skipped;
    super::capture::explain(&mut target, reason, message);
    target
}

/// The refusal of a session all of whose running pods are opted out; `rest` are those that run and are, and
/// those that do not run.
fn opted_out_all(rest: &[Arc<PodFacts>], observed: &Observed) -> Option<Refusal> {
    let running = || rest.iter().filter(|p| p.running);
    let outs: Vec<OptOut> =
        running().filter_map(|p| p.opted_out_by(Some(&observed.namespace_labels))).collect();
    let own = outs.iter().filter(|out| **out == OptOut::Pod).count();
    let of_namespace = *outs.iter().find(|out| **out != OptOut::Pod).unwrap_or(&OptOut::Pod);
    let (label, all) = (names::OPT_LABEL, "All selected running pods");
    let value = names::OPT_DISABLED;
    let by = match (own, running().count() - own, of_namespace) {
        (0, 0, _) => return None,
        (0, _, out @ OptOut::Oversized) => format!("count as opted out: {}; {}", out.why(), out.advice()),
        (own, others, out @ OptOut::Oversized) => format!(
            "are opted out: {own} by the label {label}={value}, and {others} because {}; remove the label, and {}",
            out.why(),
            out.advice()
        ),
        (own, others, _) => {
            let whose = match (own, others) {
                (_, 0) => "the pods".to_owned(),
                (0, _) => "the namespace".to_owned(),
                (own, others) => format!("the pods ({own}) and the namespace ({others})"),
            };
            format!("are opted out by the label {label}={value} on {whose}; {}", OptOut::Pod.advice())
        }
    };
    Some(Refusal { reason: Reason::OptedOut, message: format!("{all} {by}.") })
}

fn nothing(session: &ProfileSession, mine: usize, foreign: usize) -> Refusal {
    let policy = session.spec.policy_ref.as_ref().map_or("", |p| p.name.as_str());
    if mine == 0 && foreign > 0 && session.spec.target.is_some() {
        let message = advised(
            format!("The policy {policy:?} selects none of the {foreign} pods in spec.target"),
            Reason::NotSelected,
        );
        return Refusal { reason: Reason::NotSelected, message };
    }
    let message = if mine > 0 {
        format!("None of the {mine} selected pods is running and can be profiled; check kubectl get pods.")
    } else {
        advised("No pod matches", Reason::NoMatchingPods)
    };
    Refusal { reason: Reason::NoMatchingPods, message }
}

fn app(targets: &[TargetStatus]) -> String {
    let apps: HashSet<&str> = targets.iter().map(|t| t.workload.as_str()).collect();
    match targets.first() {
        Some(first) if apps.len() == 1 => Workload::name_of(&first.workload).to_owned(),
        _ => format!("{} apps", apps.len()),
    }
}
