//! What is the current state that concerns a session?

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_core::pod::PodFacts;
use fleetprof_core::session::{
    Answers, CaptureFacts, JobFacts, Observed, PolicyFacts, load, needs_earlier, pacing, repeat,
};
use fleetprof_crds::ProfileSession;
use fleetprof_crds::wire::CaptureReport;
use jiff::Timestamp;
use kube::ResourceExt;

use super::Context;
use crate::agents;

/// The session with the newest status that is known: the leader's own writes are newer than what the watch
/// brought. A session that repeats another is cancelled with it.
pub fn current(session: &ProfileSession, context: &Context) -> ProfileSession {
    let mut work = session.clone();
    if let Some(latest) = context.written.latest(&session.uid().unwrap_or_default()) {
        work.status = Some(latest);
    }
    work.spec.cancel |= root_is_cancelled(session, context);
    work
}

fn root_is_cancelled(session: &ProfileSession, context: &Context) -> bool {
    let root = repeat::root(session).and_then(|root| {
        let found = context.sessions.get(&session.namespace().unwrap_or_default(), &root.name);
        found.filter(|s| s.uid().as_ref() == Some(&root.uid))
    });
    root.is_some_and(|root| root.spec.cancel)
}

/// The sessions that were made to repeat this one, with their newest statuses.
fn follow_ups(session: &ProfileSession, context: &Context) -> Vec<Arc<ProfileSession>> {
    let (Some(_), Some(uid)) = (&session.spec.repeat, session.uid()) else { return Vec::new() };
    let near = context.sessions.of(&session.namespace().unwrap_or_default());
    near.into_iter().filter(|s| repeat::repeats(s, &uid)).collect()
}

/// How many sessions of the namespace that were created before this one have not ended, while it has not
/// begun.
fn earlier(session: &ProfileSession, context: &Context) -> usize {
    let begun = session.status.as_ref().is_some_and(|s| s.start_time.is_some() || s.phase.is_terminal());
    if begun || load::is_waiting(session) {
        return 0;
    }
    let age = |s: &ProfileSession| (s.creation_timestamp().map(|t| t.0), s.uid());
    let is_live = |s: &ProfileSession| {
        let latest = context.written.latest(&s.uid().unwrap_or_default());
        !latest.as_ref().or(s.status.as_ref()).is_some_and(|status| status.phase.is_terminal())
    };
    let near = context.sessions.of(&session.namespace().unwrap_or_default());
    near.iter().filter(|s| age(s) < age(session) && is_live(s)).count()
}

/// The sessions of the namespace, where the next step looks at them.
fn earlier_sessions(
    session: &ProfileSession,
    policy: &PolicyFacts,
    context: &Context,
) -> Vec<Arc<ProfileSession>> {
    match needs_earlier(session, policy) {
        true => context.sessions.of(&session.namespace().unwrap_or_default()),
        false => Vec::new(),
    }
}

/// Everything that the next step looks at.
pub fn observe(session: &ProfileSession, answers: &Answers, context: &Context) -> Observed {
    let pods = context.pods.namespace(&session.namespace().unwrap_or_default());
    let targets = session.status.iter().flat_map(|s| &s.targets).filter(|t| !t.capture.is_empty());
    let captures =
        targets.map(|t| (t.capture.clone(), CaptureFacts { report: report(&t.capture, context) })).collect();
    let yields = yields(session, context);
    let policy = policy(session, &pods, context);
    let mode = match &policy {
        PolicyFacts::Found { spec, .. } => Some(spec.agent.mode),
        _ => None,
    };
    let now = Timestamp::now();
    let (phase, written) = context.written.last(&session.uid().unwrap_or_default());
    Observed {
        now,
        settled: context.agents.settled(&pods, now),
        no_room: context.results.refused(&session.namespace().unwrap_or_default()),
        permission: answers.permission.clone(),
        job: job(session, context),
        places: answers.places.clone(),
        yields,
        node_cpu: node_cpu(session, context),
        recorded: phase,
        until_record: pacing::until_record(phase, now.duration_since(written)),
        follow_ups: follow_ups(session, context),
        earlier: earlier(session, context),
        sessions: earlier_sessions(session, &policy, context),
        policy,
        namespace_labels: context.namespaces.labels(&session.namespace().unwrap_or_default()),
        resources: context.resources.of(&session.namespace().unwrap_or_default()),
        agents: agents::agents(&pods, &*context.agents, mode),
        node_agents: agents::node_agents(&pods, &*context.agents, &context.rules.rules, now),
        captures,
        pods,
    }
}

/// The captures that stop for a person's, with that person's session.
fn yields(session: &ProfileSession, context: &Context) -> HashMap<String, String> {
    let captures = session.status.iter().flat_map(|s| &s.targets).map(|target| &target.capture);
    context.budgets.with(|ledger| {
        let yields = |capture: &String| Some((capture.clone(), ledger.yields_to(capture)?.to_owned()));
        captures.filter_map(yields).collect()
    })
}

/// Allocatable CPU of the nodes of the session's targets.
fn node_cpu(session: &ProfileSession, context: &Context) -> HashMap<String, i64> {
    let nodes = session.status.iter().flat_map(|s| &s.targets).map(|target| &target.node);
    nodes.filter_map(|node| Some((node.clone(), context.nodes.cpu(node)?))).collect()
}

/// The Job whose load the session waits for, or repeats with.
fn job(session: &ProfileSession, context: &Context) -> JobFacts {
    let job = session.spec.start_when.as_ref().and_then(|start| start.job_ref.as_ref());
    job.map_or(JobFacts::default(), |job| {
        context.jobs.facts(&session.namespace().unwrap_or_default(), &job.name)
    })
}

fn report(capture: &str, context: &Context) -> Option<CaptureReport> {
    context.agents.known(capture).and_then(|view| view.report)
}

/// The policy that the session names.
pub fn policy(session: &ProfileSession, pods: &[Arc<PodFacts>], context: &Context) -> PolicyFacts {
    let Some(reference) = &session.spec.policy_ref else { return PolicyFacts::Unnamed };
    let namespace = session.namespace().unwrap_or_default();
    let labels = context.namespaces.reached(&namespace);
    PolicyFacts::find(
        reference,
        &namespace,
        labels.as_ref(),
        &context.policies.near(&namespace).views(),
        pods,
    )
}
