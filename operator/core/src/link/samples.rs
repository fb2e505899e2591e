//! How many samples per hour do the rounds of a policy give of each app, where it has a goal for them?

use jiff::SignedDuration;

use super::{Observed, PodLink};
use crate::sampling::Past;
use crate::schedule::Plan;
use crate::view::PolicyView;

/// What the last rounds gave.
pub(super) struct Samples {
    past: Past,
    /// Time between two rounds.
    gap: SignedDuration,
}

impl Samples {
    /// `None` for a policy without a goal, or without a next round.
    pub(super) fn of(policy: &PolicyView, observed: &Observed) -> Option<Self> {
        policy.spec.sampling.samples_per_hour?;
        let gap = Plan::read(policy.uid, &policy.spec.schedule).ok()?.gap(observed.now)?;
        let sessions = observed.sessions.iter().map(|session| &**session);
        Some(Self { past: Past::of(&policy.reference(), sessions), gap: SignedDuration::from_secs(gap) })
    }

    /// Samples per hour of the app with these pods; `None` before its first round has ended.
    pub(super) fn of_app(&self, pods: &[&PodLink]) -> Option<i64> {
        let pod = &pods.first()?.pod;
        self.past.per_hour((&pod.namespace, &pod.workload.to_string()), self.gap)
    }
}
