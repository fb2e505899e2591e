//! Who is profiled in this round? A stateless rotating pick, reproducible from (policy uid, round).

use std::collections::BTreeMap;

use fleetprof_crds::policy::Sampling;

use crate::hash::hash;
use crate::pod::Workload;

/// A pod that may be picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Uid of the pod.
    pub pod_uid: String,
    /// Workload of the pod.
    pub workload: Workload,
}

/// Picks `replicas` pods of each workload and at most `max_targets` in all, as pod uids.
///
/// Pods of a workload are put into an order by hash, and round `n` takes the next `replicas` of them, so that with an
/// unchanged set every pod has its turn after `ceil(pods / replicas)` rounds. Workloads take turns the same way where
/// `max_targets` does not reach for all.
#[must_use]
pub fn pick(seed: &str, round: u64, candidates: &[Candidate], replicas: usize, max_targets: usize) -> Vec<String> {
    let mut by_workload: BTreeMap<&Workload, Vec<&str>> = BTreeMap::new();
    for c in candidates {
        by_workload.entry(&c.workload).or_default().push(&c.pod_uid);
    }
    let mut picks: Vec<(u64, Vec<String>)> = by_workload
        .into_iter()
        .map(|(workload, pods)| (hash(&[seed, &workload.kind, &workload.name]), rotate(seed, round, pods, replicas)))
        .collect();
    picks.sort();
    let picks: Vec<Vec<String>> = picks.into_iter().map(|(_, pods)| pods).collect();
    // A round that cannot serve every workload starts where the one before it ended.
    let per_round = max_targets.div_euclid(replicas.max(1)).max(1);
    let start = if picks.len() > per_round { offset(round, per_round, picks.len()) } else { 0 };
    let mut picked: Vec<String> = picks.iter().cycle().skip(start).take(picks.len()).flatten().cloned().collect();
    picked.truncate(max_targets);
    picked
}

/// Most targets of a round among so many pods: `maxTargets`, and no more than `percent` of them.
#[must_use]
pub fn most_of(sampling: &Sampling, pods: usize) -> usize {
    let share = (pods * usize::try_from(sampling.percent).unwrap_or(100)).div_ceil(100);
    usize::try_from(sampling.max_targets).unwrap_or(1).min(share)
}

fn rotate(seed: &str, round: u64, mut pods: Vec<&str>, replicas: usize) -> Vec<String> {
    pods.sort_by_key(|uid| (hash(&[seed, uid]), *uid));
    pods.dedup();
    let take = replicas.min(pods.len());
    let start = offset(round, replicas, pods.len());
    pods.iter().cycle().skip(start).take(take).map(|uid| (*uid).to_owned()).collect()
}

/// `(round × step) mod len`, without overflow.
fn offset(round: u64, step: usize, len: usize) -> usize {
    if len == 0 {
        return 0;
    }
    let n = u128::from(round) * step as u128 % len as u128;
    usize::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn candidates(workloads: usize, pods: usize) -> Vec<Candidate> {
        (0..workloads)
            .flat_map(|w| {
                (0..pods).map(move |p| Candidate {
                    pod_uid: format!("{w}-{p}"),
                    workload: Workload { kind: "Deployment".into(), name: format!("app{w}") },
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_pod_has_its_turn(pods in 1usize..60, replicas in 1usize..8, first in 0u64..1_000_000) {
            let all = candidates(2, pods);
            let rounds = pods.div_ceil(replicas) as u64;
            let seen: HashSet<String> = (first..first + rounds).flat_map(|r| pick("p", r, &all, replicas, 1000)).collect();
            prop_assert_eq!(seen.len(), all.len());
        }

        #[test]
        fn every_workload_has_its_turn_under_max_targets(workloads in 1usize..40, max in 1usize..10) {
            let all = candidates(workloads, 1);
            let rounds = workloads.div_ceil(max) as u64;
            let seen: HashSet<String> = (7..7 + rounds).flat_map(|r| pick("p", r, &all, 1, max)).collect();
            prop_assert_eq!(seen.len(), workloads);
        }

        #[test]
        fn bounds_hold_and_nobody_is_picked_twice(workloads in 0usize..9, pods in 1usize..20, replicas in 1usize..30, max in 1usize..50, round: u64) {
            let picked = pick("p", round, &candidates(workloads, pods), replicas, max);
            prop_assert!(picked.len() <= max);
            prop_assert_eq!(picked.iter().collect::<HashSet<_>>().len(), picked.len());
            prop_assert_eq!(picked.len(), max.min(workloads * replicas.min(pods)));
        }

        #[test]
        fn the_pick_does_not_depend_on_the_order_of_pods(round: u64) {
            let mut all = candidates(3, 7);
            let one = pick("p", round, &all, 2, 50);
            all.reverse();
            prop_assert_eq!(one, pick("p", round, &all, 2, 50));
        }
    }
}
