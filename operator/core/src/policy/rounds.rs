//! Which sessions has a policy, which one is next, and which are forgotten?

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_crds::policy::SessionSummary;
use fleetprof_crds::session::{PolicyKind, PolicyRef, Trigger};
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, ProfileSessionSpec, ProfilingPolicy, ProfilingPolicyStatus, names};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::schedule::Tick;

/// Writes active and recent sessions; a recent one stays in the list after its object is gone.
pub fn fill(status: &mut ProfilingPolicyStatus, sessions: &[Arc<ProfileSession>]) {
    let (ended, active): (Vec<_>, Vec<_>) = sessions.iter().partition(|s| phase(s).is_terminal());
    let mut live: Vec<SessionSummary> = active.iter().map(|s| summary(s)).collect();
    live.sort_by(|a, b| b.start_time.cmp(&a.start_time).then_with(|| a.name.cmp(&b.name)));
    live.truncate(names::MAX_RECENT_SESSIONS);
    status.active_sessions = live;
    let mut recent: Vec<SessionSummary> = ended.iter().map(|s| summary(s)).collect();
    let gone = std::mem::take(&mut status.recent_sessions);
    recent.extend(gone.into_iter().filter(|old| !sessions.iter().any(|s| s.metadata.name.as_deref() == Some(&old.name))));
    recent.sort_by(|a, b| b.end_time.cmp(&a.end_time).then_with(|| a.name.cmp(&b.name)));
    recent.truncate(names::MAX_RECENT_SESSIONS);
    status.recent_sessions = recent;
}

fn phase(session: &ProfileSession) -> Phase {
    session.status.as_ref().map(|s| s.phase).unwrap_or_default()
}

fn summary(session: &ProfileSession) -> SessionSummary {
    let status = session.status.clone().unwrap_or_default();
    SessionSummary {
        name: session.metadata.name.clone().unwrap_or_default(),
        trigger: session.spec.trigger,
        phase: status.phase,
        reason: status.reason,
        targets: status.targets_summary,
        samples: status.samples,
        start_time: status.start_time,
        end_time: status.end_time,
    }
}

/// Whether a round of the schedule still captures: the next one does not start meanwhile.
#[must_use]
pub fn capturing(sessions: &[Arc<ProfileSession>]) -> bool {
    sessions.iter().any(|s| s.spec.trigger == Trigger::Schedule && matches!(phase(s), Phase::Pending | Phase::Starting | Phase::Running))
}

/// The session of a round. Its name is made of policy and round, so that a round is never started twice.
#[must_use]
pub fn session(policy: &ProfilingPolicy, tick: Tick) -> ProfileSession {
    let name = policy.metadata.name.clone().unwrap_or_default();
    let spec = ProfileSessionSpec {
        policy_ref: Some(PolicyRef { kind: PolicyKind::ProfilingPolicy, name: name.clone() }),
        target: None,
        container: String::new(),
        duration: policy.spec.schedule.duration,
        profiles: policy.spec.profiles.clone(),
        frequency_hz: policy.spec.frequency_hz,
        start_deadline: policy.spec.session.start_deadline,
        start_when: None,
        repeat: None,
        result_timeout: policy.spec.session.result_timeout,
        result_deadline: policy.spec.session.result_deadline,
        ttl: policy.spec.session.ttl,
        labels: BTreeMap::new(),
        context: None,
        cancel: false,
        trigger: Trigger::Schedule,
        requested_by: None,
    };
    let text = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    let metadata = ObjectMeta {
        name: Some(format!("{name}-{}", tick.round)),
        namespace: policy.metadata.namespace.clone(),
        labels: Some([text(names::POLICY_LABEL, &name), text(names::TRIGGER_LABEL, Trigger::Schedule.as_str())].into()),
        annotations: Some([text(names::ROUND_ANNOTATION, &tick.round.to_string())].into()),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", names::GROUP, names::VERSION),
            kind: "ProfilingPolicy".into(),
            name,
            uid: policy.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    };
    ProfileSession { metadata, spec, status: None }
}

/// Sessions to delete: of the policy's own, what is over the history limits; ttl is kept by the session itself.
#[must_use]
pub fn expired(policy: &ProfilingPolicy, sessions: &[Arc<ProfileSession>], now: Timestamp) -> Vec<String> {
    let history = &policy.spec.session.history;
    let own = |good: bool| {
        let mut ended: Vec<&Arc<ProfileSession>> = sessions
            .iter()
            .filter(|s| s.spec.trigger == Trigger::Schedule && phase(s).is_terminal())
            .filter(|s| matches!(phase(s), Phase::Succeeded | Phase::PartiallySucceeded) == good)
            .collect();
        ended.sort_by_key(|s| std::cmp::Reverse(s.status.as_ref().and_then(|s| s.end_time.as_ref()).map_or(now, |t| t.0)));
        ended
    };
    let over = |good: bool, keep: i32| {
        own(good).into_iter().skip(usize::try_from(keep).unwrap_or(0)).filter_map(|s| s.metadata.name.clone()).collect::<Vec<_>>()
    };
    [over(true, history.succeeded), over(false, history.failed)].concat()
}
