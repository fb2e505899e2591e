//! How many pods of each workload does a round of a cluster policy pick?

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_crds::ProfileSession;
use jiff::Timestamp;

use crate::pick::Candidate;
use crate::pod::Workload;
use crate::sampling::{Goal, Past};
use crate::view::PolicyView;

/// As many as the policy says, or as its goal for samples needs.
pub(super) struct Wanted {
    replicas: usize,
    by_workload: BTreeMap<(String, String), usize>,
}

impl Wanted {
    /// What is wanted of the workloads of `candidates`, after what `earlier` sessions of the policy gave.
    pub(super) fn of(
        policy: &PolicyView,
        at: Timestamp,
        earlier: &[Arc<ProfileSession>],
        candidates: &BTreeMap<&str, Vec<Candidate>>,
    ) -> Self {
        let replicas = usize::try_from(policy.spec.sampling.replicas_per_workload).unwrap_or(1);
        let mut by_workload: BTreeMap<(String, String), usize> = BTreeMap::new();
        if let Some(goal) = Goal::of(policy.uid, policy.spec, at) {
            let key = |namespace: &str, candidate: &Candidate| {
                (namespace.to_owned(), candidate.workload.to_string())
            };
            for (namespace, candidates) in candidates {
                candidates.iter().for_each(|c| *by_workload.entry(key(namespace, c)).or_default() += 1);
            }
            let reference = policy.reference();
            let past = Past::of(&reference, earlier.iter().map(|session| &**session));
            for ((namespace, workload), pods) in &mut by_workload {
                *pods = goal.effort(*pods, past.rounds(namespace, workload)).pods;
            }
        }
        Self { replicas, by_workload }
    }

    /// How many pods of a workload are wanted.
    pub(super) fn pods(&self, namespace: &str, workload: &Workload) -> usize {
        let key = (namespace.to_owned(), workload.to_string());
        self.by_workload.get(&key).copied().unwrap_or(self.replicas)
    }
}
