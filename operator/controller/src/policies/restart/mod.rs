//! How are workloads restarted so that their pods get the agent? Looked at a few at a time, and touched one
//! at a time.
//!
//! ```text
//! looks ─► look (get workloads, list budgets) ─► decide ─► status ─► seen again by the watch ─► patch the template
//! ```

mod look;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fleetprof_core::policy::restart::{self, Decision, Key, Situation};
use fleetprof_core::policy::{Observed, PolicyView, Step};
use fleetprof_crds::policy::ExistingPods;
use fleetprof_crds::restart::RestartStatus;
use fleetprof_crds::{Reason, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::json;

use super::Context;
use crate::events;
use look::Found;

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

    fn remember(&self, uid: &str, looked: Timestamp, decision: Decision) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if !memory.contains_key(uid) {
            // Policies that are gone are looked at no more.
            memory.retain(|_, m| looked.duration_since(m.looked) < FORGET);
        }
        memory.insert(uid.to_owned(), Memory { looked, decision });
    }

    fn forget(&self, uid: &str) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Decides about restarts, does what was decided and written before, and writes how it stands into the step's
/// status. When the API server cannot be asked, all stays as it is: a policy profiles on although nothing can
/// be restarted.
pub async fn run(policy: &PolicyView<'_>, observed: &Observed<'_>, step: &mut Step, context: &Context) {
    let now = Timestamp::from_second(observed.now.as_second()).unwrap_or(observed.now);
    let before = context.restarts.recall(policy.uid);
    if policy.spec.agent.existing_pods != ExistingPods::Restart {
        context.restarts.forget(policy.uid);
        restart::fill(&mut step.status, None, policy.generation, now);
        return;
    }
    if let Some(memory) = before.as_ref().filter(|m| now.duration_since(m.looked) < PACE) {
        restart::fill(&mut step.status, Some(&memory.decision), policy.generation, now);
        return;
    }
    let known = policy.status.and_then(|s| s.restart.as_ref());
    let last = before.as_ref().map_or(known, |m| m.decision.last.as_ref());
    let situation = Situation {
        now,
        enabled: context.restarts.enabled,
        since: policy.created.unwrap_or(Timestamp::MIN).max(context.restarts.since),
        suspended: policy.spec.suspend,
        generation: policy.generation,
        version: observed.version,
        pinned: policy.spec.agent.image.is_some(),
        links: &step.links,
        agents: &observed.agents,
        last,
    };
    let found = match look::at(&restart::looks(&situation), context).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, fleetprof.policy.name = policy.name, "workloads could not be looked at; \
                it is tried again");
            return;
        }
    };
    let decision = restart::decide(&situation, &found.seen);
    let written = decision.last.as_ref().zip(known).is_some_and(|(wanted, known)| same(wanted, known));
    if let Some(key) = decision.patch.as_ref().filter(|_| written) {
        patch(policy, key, &found, observed.version, context).await;
    }
    tell(policy, before.as_ref().map(|m| &m.decision), &decision, context).await;
    restart::fill(&mut step.status, Some(&decision), policy.generation, now);
    context.restarts.remember(policy.uid, now, decision);
}

/// Whether both speak of the same restart; times are cut when they are stored.
fn same(a: &RestartStatus, b: &RestartStatus) -> bool {
    (Key::of(a), &a.agent_version, a.state) == (Key::of(b), &b.agent_version, b.state)
}

/// Changes the pod template, unless somebody else changed the workload since it was looked at. A refusal is
/// logged; the restart's deadline says it in the status.
async fn patch(policy: &PolicyView<'_>, key: &Key, found: &Found, version: &str, context: &Context) {
    let Some(identity) = found.identities.get(key) else { return };
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
            let note = format!(
                "{key} is restarted for the policy {}, so that its pods get the agent {version}.",
                policy.name
            );
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
                "a workload could not be restarted; it is tried again"
            )
        }
    }
}

/// An event when restarts came to a state that a person would ask about.
async fn tell(policy: &PolicyView<'_>, before: Option<&Decision>, now: &Decision, context: &Context) {
    let reason = now.condition.reason;
    let loud = matches!(reason, Reason::RestartFailed | Reason::RestartBlocked | Reason::RestartDisabled);
    if loud && before.is_none_or(|b| b.condition.reason != reason) {
        context
            .events
            .warning(&events::policy(policy), reason, "Restart", now.condition.message.clone())
            .await;
    }
}
