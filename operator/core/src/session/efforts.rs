//! How much of each workload is a round to capture, where its policy has a goal for samples?

use std::collections::HashMap;
use std::sync::Arc;

use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::TargetStatus;
use fleetprof_crds::{Duration, ProfileSession};

use super::observed::{Observed, PolicyFacts};
use crate::pod::{PodFacts, Workload};
use crate::sampling::{Effort, Goal, Past};

/// Whether the session is a round of a policy with a goal, so that earlier sessions decide how much it captures.
/// What a trigger or a user asks for is captured as it was asked for.
pub(super) fn has_goal(session: &ProfileSession, policy: &PolicyFacts) -> bool {
    let PolicyFacts::Found { spec, .. } = policy else { return false };
    session.spec.trigger == Trigger::Schedule && spec.sampling.samples_per_hour.is_some()
}

fn goal(session: &ProfileSession, observed: &Observed) -> Option<Goal> {
    let PolicyFacts::Found { uid, spec, .. } = &observed.policy else { return None };
    has_goal(session, &observed.policy).then(|| Goal::of(uid, spec, observed.now)).flatten()
}

/// The efforts of a round, by workload; none for other sessions, and for policies without a goal.
pub(super) struct Efforts(HashMap<String, Effort>);

impl Efforts {
    /// Those for the pods that can be captured, of what earlier rounds gave.
    pub(super) fn of(session: &ProfileSession, observed: &Observed, live: &[Arc<PodFacts>]) -> Self {
        let (Some(goal), Some(reference)) = (goal(session, observed), &session.spec.policy_ref) else {
            return Self(HashMap::new());
        };
        let past = Past::of(reference, observed.sessions.iter().map(|session| &**session));
        let mut pods: HashMap<String, usize> = HashMap::new();
        for pod in live {
            *pods.entry(pod.workload.to_string()).or_default() += 1;
        }
        let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
        let effort = |(workload, pods): (String, usize)| {
            let effort = goal.effort(pods, past.rounds(namespace, &workload));
            (workload, effort)
        };
        Self(pods.into_iter().map(effort).collect())
    }

    /// How many pods of a workload are captured, if that is for the goal to say.
    pub(super) fn pods(&self, workload: &Workload) -> Option<usize> {
        self.0.get(&workload.to_string()).map(|effort| effort.pods)
    }

    /// Notes for how long and how often the targets are sampled, where that is less than the session asks for.
    pub(super) fn set(&self, session: &ProfileSession, targets: &mut [TargetStatus]) {
        let spec = &session.spec;
        for target in targets {
            let Some(effort) = self.0.get(&target.workload) else { continue };
            let duration = Duration::from_secs(effort.seconds);
            let hz = i32::try_from(effort.frequency_hz).unwrap_or(i32::MAX);
            target.effective_duration = (duration < spec.duration).then_some(duration);
            target.effective_frequency_hz = (hz < spec.frequency_hz).then_some(hz);
        }
    }
}
