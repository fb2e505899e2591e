//! What happens next with one target? A state machine, driven by its pod, its agent and the reports of its
//! capture.
//!
//! ```text
//!              agent?           report          final report        assembled
//! Pending ─► Attaching ─► Ordered ─► Running ─────► Uploading ────────► Succeeded
//!    └─agent there──────────►┘          (no data, or an error: Failed; never started: Skipped)
//! ```

mod act;
mod coverage;
mod follow;
mod prepare;
mod turn;

use std::collections::HashMap;

use fleetprof_crds::session_status::{ProfileSessionStatus, TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileSession, Reason, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::observed::{Action, Observed, PolicyFacts, Settings};
use crate::agent::{Container, PodSecurity, Presence, Terms, World, presence};
use crate::inject::{self, AdmissionFacts};
use crate::pod::PodFacts;
use crate::text::{cut, sentence};
use crate::time::after;
use act::actions;
pub use act::reopen;
use follow::follow;
use prepare::prepare;
pub use turn::claim;

/// How long after its end a capture may stay silent.
const GRACE: SignedDuration = SignedDuration::from_secs(45);
/// How long a cancelled target's agent may take to answer.
const CANCEL_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// What all targets of a step have in common.
pub struct Context<'a> {
    session: &'a ProfileSession,
    observed: &'a Observed,
    settings: &'a Settings,
    started: Timestamp,
    cancelled_at: Option<Timestamp>,
    results_until: Option<Timestamp>,
    /// Targets of each workload.
    targets: HashMap<String, i32>,
}

impl<'a> Context<'a> {
    /// The context of this step.
    #[must_use]
    pub fn new(
        session: &'a ProfileSession,
        status: &ProfileSessionStatus,
        observed: &'a Observed,
        settings: &'a Settings,
    ) -> Self {
        let started = status.start_time.as_ref().map_or(observed.now, |t| t.0);
        let mut targets: HashMap<String, i32> = HashMap::new();
        for target in &status.targets {
            *targets.entry(target.workload.clone()).or_default() += 1;
        }
        Self {
            targets,
            session,
            observed,
            settings,
            started,
            cancelled_at: status.cancel_time.as_ref().map(|t| t.0),
            results_until: status
                .capture_end_time
                .as_ref()
                .map(|t| after(t.0, session.spec.result_deadline.as_signed())),
        }
    }

    /// Whether the target's pod has, or can have, an agent.
    fn presence(&self, target: &TargetStatus, pod: &'a PodFacts) -> Presence<'a> {
        let rules = &self.settings.rules;
        let policy = match &self.observed.policy {
            PolicyFacts::Found { spec, created, .. } => Some(Terms { spec, created: *created }),
            _ => None,
        };
        let labels = &self.observed.namespace_labels;
        let world = World {
            agents: &self.observed.agents,
            images: &rules.images,
            attach_disabled: rules.attach_disabled,
            level: PodSecurity::enforced(labels, rules.default_pod_security),
            node_agent: self.observed.node_agents.of(pod),
            policy,
        };
        let refusal = |pod: &PodFacts| {
            let facts = AdmissionFacts {
                namespace: &pod.namespace,
                namespace_labels: Some(labels),
                resources: &self.observed.resources,
                cluster: rules,
            };
            inject::refusal(pod, &facts, policy.map(|terms| terms.spec))
        };
        let container = Container { name: &target.container, attached_as: &target.attached_as };
        presence(pod, container, &world, &refusal)
    }

    /// When the agent of a target must have started: the time to wait for a slot does not count.
    fn start_before(&self, target: &TargetStatus) -> Timestamp {
        let from = target.slot_time.as_ref().map_or(self.started, |slot| slot.0);
        after(from, self.session.spec.start_deadline.as_signed())
    }

    /// The session of a person to which the target's capture yields.
    fn yields_to(&self, target: &TargetStatus) -> Option<&'a str> {
        self.observed.yields.get(&target.capture).map(String::as_str)
    }

    /// Whether an agent that sees the target's container reports.
    fn has_agent(&self, target: &TargetStatus) -> bool {
        self.observed.agents.get(&target.pod_uid).is_some_and(|agents| agents.see(&target.container_id))
    }

    fn pod(&self, target: &TargetStatus) -> Option<&'a PodFacts> {
        self.observed.pods.iter().find(|p| p.uid == target.pod_uid).map(|p| &**p)
    }
}

/// Moves `target` on and says what to do for it.
#[must_use]
pub fn step(index: usize, target: &mut TargetStatus, context: &Context) -> Vec<Action> {
    use TargetPhase as P;
    let was = target.phase;
    let asked = match was {
        P::Succeeded | P::Failed | P::Skipped | P::Cancelled | P::Unknown => None,
        P::Pending | P::Attaching => prepare(target, context),
        P::Ordered | P::Running | P::Uploading => {
            follow(target, context);
            None
        }
    };
    match (was, target.phase, asked) {
        (_, _, Some(claim)) => vec![Action::Claim(Box::new(claim))],
        // The place has to be on record before anything is done with it.
        (P::Pending, P::Attaching | P::Ordered, None) => vec![Action::Record],
        _ => actions(index, target, context),
    }
}

/// What is said of a target that yields to a session of a person.
fn gives_way(to: &str) -> String {
    format!("Stopped for session {to}, in which a user requested a profile of the same container.")
}

/// Sets reason and message; an empty message becomes the reason's advice.
pub fn explain(target: &mut TargetStatus, reason: Reason, message: String) {
    target.reason = Some(reason);
    let text = if message.is_empty() { sentence(reason.advice()) } else { message };
    target.message = cut(&text, names::MAX_MESSAGE);
}

/// Ends a target.
pub fn finish(
    target: &mut TargetStatus,
    phase: TargetPhase,
    reason: Reason,
    message: String,
    now: Timestamp,
) {
    target.phase = phase;
    explain(target, reason, message);
    target.end_time = target.end_time.clone().or(Some(Time(now)));
}
