//! How are workloads restarted so that their pods get the agent? Looked at a few at a time, and touched one
//! at a time.
//!
//! ```text
//! looks ─► look (get workloads, list budgets) ─► decide ─► status ─► seen again by the watch ─► patch the template
//! ```

mod look;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fleetprof_core::conditions::Wanted;
use fleetprof_core::link::Observed;
use fleetprof_core::link::PodLink;
use fleetprof_core::policy::restart::{self, Decision, Key, Situation};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::policy::ExistingPods;
use fleetprof_crds::restart::{RestartState, RestartStatus};
use fleetprof_crds::{ProfilingPolicyStatus, Reason, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::json;

use super::Context;
use crate::events;
use look::{Found, Identity};

/// Least time between two looks at the workloads of one policy.
const PACE: SignedDuration = SignedDuration::from_secs(5);

/// A policy that was not looked at for so long is gone.
const FORGET: SignedDuration = SignedDuration::from_mins(10);

/// What this leader decided last for each policy, by uid: newer than any watch.
pub struct Restarts {
    /// Whether an admin lets the operator restart workloads.
    pub enabled: bool,
    since: Timestamp,
    memory: Mutex<HashMap<String, Memory>>,
}

#[derive(Clone)]
struct Memory {
    looked: Timestamp,
    decision: Decision,
    generation: Option<i64>,
    /// Changes of templates that were taken, of workloads that were not restarted yet.
    changes: HashMap<Key, u32>,
}

impl Restarts {
    /// Restarts that an admin allows, or not.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        Self { enabled, since: Timestamp::now(), memory: Mutex::default() }
    }

    fn recall(&self, uid: &str) -> Option<Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    fn remember(&self, uid: &str, known: Memory) {
        let looked = known.looked;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if !memory.contains_key(uid) {
            // Policies that are gone are looked at no more.
            memory.retain(|_, m| looked.duration_since(m.looked) < FORGET);
        }
        memory.insert(uid.to_owned(), known);
    }

    fn note_change(&self, uid: &str, key: &Key) {
        if let Some(known) = self.memory.lock().unwrap_or_else(PoisonError::into_inner).get_mut(uid) {
            *known.changes.entry(key.clone()).or_default() += 1;
        }
    }

    fn forget(&self, uid: &str) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// What comes next with a policy's restarts.
pub enum Next {
    /// Nothing is restarted, and nothing is said about it.
    Off,
    /// The API server could not be asked: all stays as it is.
    Unknown,
    /// As decided a moment ago.
    Recent(Decision),
    /// Decided now.
    Decided {
        /// What.
        decision: Decision,
        /// The workload whose pod template is changed now: that it will be is written already.
        patch: Option<(Key, Identity)>,
        /// It has come to a state that a person would ask about.
        announce: bool,
    },
}

impl Next {
    /// Writes how restarts stand.
    pub fn fill(&self, policy: &PolicyView<'_>, status: &mut ProfilingPolicyStatus, now: Timestamp) {
        match self {
            Self::Unknown => {}
            Self::Off => restart::fill(status, None, policy.generation, whole_second(now)),
            Self::Recent(decision) | Self::Decided { decision, .. } => {
                restart::fill(status, Some(decision), policy.generation, whole_second(now));
            }
        }
    }
}

/// Looks at the workloads that may be restarted, and decides. A policy goes on profiling while nothing can be
/// restarted.
pub async fn next(
    policy: &PolicyView<'_>,
    observed: &Observed<'_>,
    links: &[PodLink],
    context: &Context,
) -> Next {
    let now = whole_second(observed.now);
    let before = context.restarts.recall(policy.uid);
    if policy.spec.agent.existing_pods != ExistingPods::Restart {
        context.restarts.forget(policy.uid);
        return Next::Off;
    }
    if let Some(memory) = before.as_ref().filter(|m| now.duration_since(m.looked) < PACE) {
        return Next::Recent(memory.decision.clone());
    }
    // One in a state of a newer version is decided again, by what the pod templates say.
    let known = policy.status.and_then(|s| s.restart.as_ref()).filter(|r| r.state != RestartState::Unknown);
    let mut changes = changes(before.as_ref(), policy.generation);
    let situation = Situation {
        now,
        enabled: context.restarts.enabled,
        since: policy.created.unwrap_or(Timestamp::MIN).max(context.restarts.since),
        suspended: policy.spec.suspend,
        generation: policy.generation,
        version: observed.version,
        pinned: policy.spec.agent.image.is_some(),
        links,
        agents: observed.agents,
        failure: failure(policy.status),
        changes: &changes,
        last: before.as_ref().map_or(known, |m| m.decision.last.as_ref()),
    };
    let Some(found) = looked_at(&situation, policy.name, context).await else { return Next::Unknown };
    let decision = restart::decide(&situation, &found.seen);
    forget_restarted(&mut changes, &decision);
    let (decided, generation) = (decision.clone(), policy.generation);
    context.restarts.remember(policy.uid, Memory { looked: now, decision: decided, generation, changes });
    let announce = is_announced(before.as_ref().map(|m| &m.decision), &decision);
    Next::Decided { patch: patch_now(&decision, known, found), announce, decision }
}

async fn looked_at(situation: &Situation<'_>, policy: &str, context: &Context) -> Option<look::Found> {
    let looked = look::at(&restart::looks(situation), context).await.inspect_err(|error| {
        tracing::warn!(%error, fleetprof.policy.name = policy, "failed to look at workloads; retrying");
    });
    looked.ok()
}

/// What was changed back before does not count once a restart has succeeded.
fn forget_restarted(changes: &mut HashMap<Key, u32>, decision: &Decision) {
    if let Some(done) = decision.last.as_ref().filter(|last| last.state == RestartState::Restarted) {
        changes.remove(&Key::of(done));
    }
}

/// Times in the status are whole seconds.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The workload to patch, once the status that names it was read back.
fn patch_now(
    decision: &Decision,
    known: Option<&RestartStatus>,
    mut found: Found,
) -> Option<(Key, Identity)> {
    let written = decision.last.as_ref().zip(known).is_some_and(|(wanted, known)| same(wanted, known));
    let key = decision.patch.clone().filter(|_| written)?;
    let identity = found.identities.remove(&key)?;
    Some((key, identity))
}

/// An edit of the policy asks for another try.
fn changes(before: Option<&Memory>, generation: Option<i64>) -> HashMap<Key, u32> {
    before.filter(|m| m.generation == generation).map(|m| m.changes.clone()).unwrap_or_default()
}

/// What was said of the restart that has failed, so that its cause stays to be read.
fn failure(status: Option<&ProfilingPolicyStatus>) -> Option<&str> {
    let conditions = status.into_iter().flat_map(|status| &status.conditions);
    let mut failed =
        conditions.filter(|c| c.type_ == restart::CONDITION && c.reason == Reason::RestartFailed.as_str());
    failed.next().map(|c| c.message.as_str())
}

/// Whether both speak of the same restart; times are cut when they are stored.
fn same(a: &RestartStatus, b: &RestartStatus) -> bool {
    (Key::of(a), &a.agent_version, a.state) == (Key::of(b), &b.agent_version, b.state)
}

/// Patches the workload, and tells.
pub async fn apply(policy: &PolicyView<'_>, next: &Next, context: &Context) {
    let Next::Decided { decision, patch: patched, announce } = next else { return };
    if let Some((key, identity)) = patched {
        patch(policy, key, identity, context).await;
    }
    if *announce {
        let Wanted { reason, message, .. } = &decision.condition;
        context.events.warning(&events::policy(policy), *reason, "Restart", message.clone()).await;
    }
}

/// Changes the pod template, unless somebody else changed the workload since it was looked at. A refusal is
/// logged; the restart's deadline says it in the status.
async fn patch(policy: &PolicyView<'_>, key: &Key, identity: &Identity, context: &Context) {
    let version = env!("CARGO_PKG_VERSION");
    let annotations = json!({
        names::RESTARTED_FOR_ANNOTATION: version,
        names::RESTARTED_AT_ANNOTATION: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let body = json!({
        "metadata": {"resourceVersion": identity.resource_version},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
    });
    match look::patch(key, &body, context).await {
        Ok(()) => {
            context.restarts.note_change(policy.uid, key);
            let note =
                format!("Restarting {key} for policy {} so that its pods get agent {version}.", policy.name);
            let workload = ObjectReference {
                api_version: Some("apps/v1".into()),
                kind: Some(key.workload.kind.clone()),
                namespace: Some(key.namespace.clone()),
                name: Some(key.workload.name.clone()),
                uid: Some(identity.uid.clone()),
                ..ObjectReference::default()
            };
            for about in [&workload, &events::policy(policy)] {
                context.events.normal(about, Reason::Restarting, "Restart", note.clone()).await;
            }
        }
        Err(error) => {
            tracing::warn!(
                %error,
                fleetprof.policy.name = policy.name,
                k8s.object.name = %key,
                "failed to restart workload; retrying"
            )
        }
    }
}

/// Whether restarts came to a state that a person would ask about.
fn is_announced(before: Option<&Decision>, now: &Decision) -> bool {
    let reason = now.condition.reason;
    let loud = matches!(reason, Reason::RestartFailed | Reason::RestartBlocked | Reason::RestartDisabled);
    loud && before.is_none_or(|b| b.condition.reason != reason)
}

#[cfg(test)]
mod tests {
    use fleetprof_core::conditions::Truth;
    use fleetprof_core::time::after;

    use super::*;

    #[test]
    fn what_is_remembered_of_policies_that_are_gone_does_not_grow() {
        let restarts = Restarts::new(true);
        let condition = Wanted::new(Truth::False, Reason::UpToDate, String::new());
        for minute in 0..24 * 60 {
            let looked = after(Timestamp::UNIX_EPOCH, SignedDuration::from_mins(minute));
            let decision = Decision { last: None, patch: None, condition: condition.clone() };
            for uid in ["stays", &format!("uid-{minute}")] {
                let (decision, changes) = (decision.clone(), HashMap::new());
                restarts.remember(uid, Memory { looked, decision, generation: None, changes });
            }
        }
        let memory = restarts.memory.lock().unwrap();
        assert!(memory.len() <= 12 && memory.contains_key("stays"), "{} policies", memory.len());
    }
}
