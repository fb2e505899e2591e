//! Which sessions belong to a policy, which is created next, and which are deleted?

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use fleetprof_crds::compare::Baseline;
use fleetprof_crds::policy::SessionSummary;
use fleetprof_crds::session::{Target, Trigger};
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, ProfilingPolicyStatus, names};
use jiff::Timestamp;

use super::wanted::Wanted;
use crate::link::PodLink;
use crate::pick::{Candidate, most_of, pick_by_namespace};
use crate::pod::Workload;
use crate::schedule::Tick;
use crate::storage::is_kept;
use crate::trigger::admit::still_counts;
use crate::view::PolicyView;

/// Writes active and recent sessions; a recent one stays in the list after its object is gone.
pub fn fill(policy: &PolicyView, status: &mut ProfilingPolicyStatus, sessions: &[Arc<ProfileSession>]) {
    let key = |s: &SessionSummary| (s.namespace.clone(), s.name.clone());
    // What people request of a cluster policy in their namespaces would crowd out everybody else's.
    let counts = |trigger: Trigger| !policy.is_cluster() || trigger != Trigger::OnDemand;
    let shown = sessions.iter().filter(|s| counts(s.spec.trigger));
    let (ended, active): (Vec<_>, Vec<_>) = shown.partition(|s| phase(s).is_terminal());
    let mut live: Vec<SessionSummary> = active.iter().map(|s| summary(policy, s)).collect();
    live.sort_by(|a, b| b.start_time.cmp(&a.start_time).then_with(|| key(a).cmp(&key(b))));
    live.truncate(names::MAX_RECENT_SESSIONS);
    status.active_sessions = live;
    let mut recent: Vec<SessionSummary> = ended.iter().map(|s| summary(policy, s)).collect();
    let there: HashSet<(String, String)> = recent.iter().chain(&status.active_sessions).map(key).collect();
    let gone = std::mem::take(&mut status.recent_sessions);
    recent.extend(gone.into_iter().filter(|old| counts(old.trigger) && !there.contains(&key(old))));
    recent.sort_by(|a, b| b.end_time.cmp(&a.end_time).then_with(|| key(a).cmp(&key(b))));
    recent.truncate(names::MAX_RECENT_SESSIONS);
    status.recent_sessions = recent;
}

fn phase(session: &ProfileSession) -> Phase {
    session.status.as_ref().map(|s| s.phase).unwrap_or_default()
}

fn summary(policy: &PolicyView, session: &ProfileSession) -> SessionSummary {
    let status = session.status.clone().unwrap_or_default();
    SessionSummary {
        namespace: policy.shown(session.metadata.namespace.as_deref().unwrap_or_default()).to_owned(),
        name: session.metadata.name.clone().unwrap_or_default(),
        trigger: session.spec.trigger,
        phase: status.phase,
        reason: status.reason,
        targets: status.targets_summary,
        skipped: status.counts.desired > 0 && status.counts.skipped == status.counts.desired,
        samples: status.samples,
        start_time: status.start_time,
        end_time: status.end_time,
    }
}

/// Whether the round must not start because an earlier one still captures. A cluster policy leaves out the
/// namespaces where one does, see [`left_out`].
#[must_use]
pub fn waits(policy: &PolicyView, sessions: &[Arc<ProfileSession>], round: u64) -> bool {
    !policy.is_cluster() && capturing(sessions, round).next().is_some()
}

/// Namespaces that a round leaves out: those that rest, and those where an earlier round still captures.
#[must_use]
pub fn left_out(
    mut resting: BTreeSet<String>,
    sessions: &[Arc<ProfileSession>],
    tick: Tick,
) -> BTreeSet<String> {
    resting.extend(capturing(sessions, tick.round).filter_map(|s| s.metadata.namespace.clone()));
    resting
}

/// Sessions of earlier rounds that still capture. What a leader has started of the same round before it went
/// does not count, so that the next leader starts the rest.
fn capturing(sessions: &[Arc<ProfileSession>], round: u64) -> impl Iterator<Item = &ProfileSession> {
    let number = round.to_string();
    let captures = |s: &ProfileSession| matches!(phase(s), Phase::Pending | Phase::Starting | Phase::Running);
    sessions
        .iter()
        .map(|s| &**s)
        .filter(move |s| s.spec.trigger == Trigger::Schedule && captures(s) && number_of(s) != Some(&number))
}

/// The number of the round that a session is of; `None` for one that the schedule did not start.
#[must_use]
pub fn number_of(session: &ProfileSession) -> Option<&str> {
    let annotations =
        session.metadata.annotations.as_ref().filter(|_| session.spec.trigger == Trigger::Schedule)?;
    annotations.get(names::ROUND_ANNOTATION).map(String::as_str)
}

/// The sessions of a round. Their names are made of policy and round, so that a round is never started twice.
///
/// A policy of a namespace has one, which picks its targets when it starts. One of the cluster picks here,
/// over all namespaces at once, so that its bounds hold for the round as a whole; each namespace with a
/// picked pod has a session of just those.
#[must_use]
pub fn sessions(
    policy: &PolicyView,
    tick: Tick,
    (links, earlier): (&[PodLink], &[Arc<ProfileSession>]),
    left_out: &BTreeSet<String>,
) -> Vec<ProfileSession> {
    let name = format!("{}-{}", policy.name, tick.round);
    let numbered = |mut session: ProfileSession| {
        session.metadata.annotations =
            Some([(names::ROUND_ANNOTATION.to_owned(), tick.round.to_string())].into());
        session
    };
    if let Some(namespace) = policy.namespace {
        return vec![numbered(policy.draft(namespace, name, Trigger::Schedule))];
    }
    let of_namespace = |(namespace, pods): (&str, Vec<String>)| {
        // The ending keeps it apart from a session of a policy with the same name in that namespace.
        let mut session = numbered(policy.draft(namespace, format!("{name}-cluster"), Trigger::Schedule));
        session.spec.target = Some(Target { pods: Some(pods), ..Target::default() });
        session
    };
    picked(policy, tick, (links, earlier), left_out).into_iter().map(of_namespace).collect()
}

/// Names of the pods that a round of a cluster policy captures, by namespace.
fn picked<'l>(
    policy: &PolicyView,
    tick: Tick,
    (links, earlier): (&'l [PodLink], &[Arc<ProfileSession>]),
    left_out: &BTreeSet<String>,
) -> BTreeMap<&'l str, Vec<String>> {
    let linked = || links.iter().filter(|l| l.linked && !left_out.contains(&*l.pod.namespace));
    let mut candidates: BTreeMap<&str, Vec<Candidate>> = BTreeMap::new();
    for link in linked() {
        let (pod_uid, workload) = (link.pod.uid.clone(), (*link.pod.workload).clone());
        let candidate = Candidate { pod_uid, workload, has_agent: link.has_agent };
        candidates.entry(&link.pod.namespace).or_default().push(candidate);
    }
    let sampling = &policy.spec.sampling;
    let most = most_of(sampling, linked().count());
    let wanted = Wanted::of(policy, tick.at, earlier, &candidates);
    let replicas = |namespace: &str, workload: &Workload| wanted.pods(namespace, workload);
    let uids: HashSet<String> =
        pick_by_namespace(policy.uid, tick.round, &candidates, replicas, most).into_iter().collect();
    let mut by_namespace: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for link in linked().filter(|l| uids.contains(&l.pod.uid)) {
        by_namespace.entry(&link.pod.namespace).or_default().push(link.pod.name.clone());
    }
    by_namespace.values_mut().for_each(|pods| pods.sort());
    by_namespace
}

/// How many sessions of the schedule are kept of each workload, because new revisions are compared with them, or
/// growth is looked for in them.
fn needed(policy: &PolicyView) -> i32 {
    let compare = policy.spec.triggers.rollout.as_ref().and_then(|rule| rule.compare.as_ref());
    let compared = compare.filter(|compare| compare.baseline == Baseline::Sessions);
    let compared = compared.map_or(0, |compare| compare.sessions);
    compared.max(policy.spec.growth.as_ref().map_or(0, |growth| growth.sessions))
}

/// Uids of the sessions that later ones are looked at with: the newest of the schedule of each workload. By namespace
/// they would be too few where workloads take turns.
fn baseline(policy: &PolicyView, sessions: &[Arc<ProfileSession>]) -> HashSet<Option<String>> {
    let needed = needed(policy);
    if needed == 0 {
        return HashSet::new();
    }
    let good = |s: &&Arc<ProfileSession>| {
        let data = matches!(phase(s), Phase::Succeeded | Phase::PartiallySucceeded);
        data && s.spec.trigger == Trigger::Schedule
    };
    let mut newest: Vec<&Arc<ProfileSession>> = sessions.iter().filter(good).collect();
    let ended = |s: &ProfileSession| Some(s.status.as_ref()?.end_time.as_ref()?.0);
    newest.sort_by_key(|s| std::cmp::Reverse(ended(s)));
    let mut left: BTreeMap<(Option<&String>, &str), i32> = BTreeMap::new();
    newest.retain(|s| {
        let namespace = s.metadata.namespace.as_ref();
        // As many are counted of each workload that the session captured.
        workloads(s).into_iter().fold(false, |is_needed, workload| {
            let left = left.entry((namespace, workload)).or_insert(needed);
            *left = left.saturating_sub(1);
            is_needed || *left >= 0
        })
    });
    newest.into_iter().map(|s| s.metadata.uid.clone()).collect()
}

/// What the session captured, each workload once.
fn workloads(session: &ProfileSession) -> BTreeSet<&str> {
    let targets = session.status.iter().flat_map(|status| &status.targets);
    targets.filter(|target| !target.profiles.is_empty()).map(|target| target.workload.as_str()).collect()
}

/// Sessions to delete, as (namespace, name): of the policy's own, in each namespace, what is over the history
/// limits; ttl is kept by the session itself.
#[must_use]
pub fn expired(
    policy: &PolicyView,
    sessions: &[Arc<ProfileSession>],
    now: Timestamp,
) -> Vec<(String, String)> {
    let history = &policy.spec.session.history;
    let mut ended: BTreeMap<(&str, bool), Vec<&ProfileSession>> = BTreeMap::new();
    let kept = baseline(policy, sessions);
    // Without one whose workload still cools down, nobody would know that it does.
    let own = |s: &Arc<ProfileSession>| {
        s.spec.trigger != Trigger::OnDemand
            && phase(s).is_terminal()
            && !is_kept(&s.metadata)
            && !still_counts(policy, s, now)
            && !kept.contains(&s.metadata.uid)
    };
    for session in sessions.iter().filter(|s| own(s)) {
        let bad = !matches!(phase(session), Phase::Succeeded | Phase::PartiallySucceeded);
        ended
            .entry((session.metadata.namespace.as_deref().unwrap_or_default(), bad))
            .or_default()
            .push(session);
    }
    let over = |((namespace, bad), mut sessions): ((&str, bool), Vec<&ProfileSession>)| {
        let keep = usize::try_from(if bad { history.failed } else { history.succeeded }).unwrap_or(0);
        sessions.sort_by_key(|s| {
            std::cmp::Reverse(s.status.as_ref().and_then(|s| s.end_time.as_ref()).map_or(now, |t| t.0))
        });
        let over = sessions.into_iter().skip(keep).filter_map(|s| s.metadata.name.clone());
        over.map(|name| (namespace.to_owned(), name)).collect::<Vec<_>>()
    };
    ended.into_iter().flat_map(over).collect()
}
