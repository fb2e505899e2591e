//! Which pods are profiled in a round? A stateless rotation, reproducible from policy UID and round.

mod namespaces;

use std::collections::BTreeMap;

use fleetprof_crds::policy::Sampling;

use crate::hash::hash;
use crate::pod::Workload;
pub use namespaces::pick_by_namespace;

/// A candidate pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// UID of the pod.
    pub pod_uid: String,
    /// Workload of the pod.
    pub workload: Workload,
    /// It has an agent; to others one has to be attached.
    pub has_agent: bool,
}

/// Of this many turns of a workload, one goes to a pod to which an agent has to be attached.
const ATTACH_EVERY: u64 = 8;

/// A pod of a workload, and whether it has an agent.
type Pod<'c> = (&'c str, bool);

/// Picks as many pods of each workload as `replicas` says, and at most `max_targets` in total, as pod UIDs.
///
/// The pods of a workload are ordered by hash, and each round takes the next `replicas` of them, so that
/// every pod is picked within [`cycle`] rounds as long as that number stays the same. If `max_targets` is not
/// sufficient for all workloads, they rotate in the same way, and the pods of a workload advance whenever it
/// was picked. If `max_targets` is lower than `replicas`, it is used as the step: otherwise pods cut off by
/// the limit would count as picked and never be profiled.
///
/// Where only some pods of a workload have an agent, these rotate among themselves, so that few agents are
/// attached; every [`ATTACH_EVERY`]th turn the next pod of all is picked. An agent that was attached stays, so
/// in the end all pods have one, and rotate.
///
/// Nothing is remembered, so pods that come and go move the others by a place: now and then one loses its
/// turn, and has it in the next cycle.
#[must_use]
pub fn pick(
    seed: &str,
    round: u64,
    candidates: &[Candidate],
    replicas: impl Fn(&Workload) -> usize,
    max_targets: usize,
) -> Vec<String> {
    let mut by_workload: BTreeMap<&Workload, Vec<Pod>> = BTreeMap::new();
    for c in candidates {
        by_workload.entry(&c.workload).or_default().push((&c.pod_uid, c.has_agent));
    }
    let mut workloads: Vec<(u64, usize, Vec<Pod>)> = by_workload
        .into_iter()
        .map(|(workload, pods)| {
            let place = hash(&[seed, &workload.kind, &workload.name]);
            (place, replicas(workload).min(max_targets.max(1)), pods)
        })
        .collect();
    workloads.sort();
    let per_round = fit(workloads.iter().map(|(_, replicas, _)| *replicas), max_targets);
    let all_served = workloads.len() <= per_round;
    let turn = if all_served { round } else { round / cycle(workloads.len(), per_round) };
    let start = if all_served { 0 } else { start(round, workloads.len(), per_round) };
    let order = workloads.iter().cycle().skip(start).take(workloads.len());
    order
        .flat_map(|(_, replicas, pods)| next(seed, turn, pods.clone(), *replicas))
        .take(max_targets)
        .collect()
}

/// How many workloads fit into a round with all the pods that are wanted of them, whichever workloads they are:
/// as many as of those that want the most. At least 1.
fn fit(replicas: impl Iterator<Item = usize>, mut places: usize) -> usize {
    let mut largest_first: Vec<usize> = replicas.map(|n| n.max(1)).collect();
    largest_first.sort_unstable_by(|a, b| b.cmp(a));
    let fits = |n: &usize| {
        let left = places.checked_sub(*n);
        places = left.unwrap_or(0);
        left.is_some()
    };
    largest_first.into_iter().take_while(fits).count().max(1)
}

/// Number of rounds in which each of `len` pods is picked, with `step` pods per round: `len / step`, rounded
/// up, and for more than 16 up to an eighth more, so that the cycle stays stable while a few pods come and
/// go.
#[must_use]
pub fn cycle(len: usize, step: usize) -> u64 {
    let bits = usize::BITS - len.leading_zeros();
    let grain = 1usize << bits.saturating_sub(4);
    u64::try_from(len.next_multiple_of(grain).div_ceil(step.max(1))).unwrap_or(1).max(1)
}

/// Start position of a round in an order of `len` pods: each cycle goes from first to last in equal steps.
fn start(round: u64, len: usize, step: usize) -> usize {
    let cycle = u128::from(cycle(len, step));
    usize::try_from(u128::from(round) % cycle * len as u128 / cycle).unwrap_or(0)
}

/// The pods to pick.
fn next(seed: &str, turn: u64, mut pods: Vec<Pod>, replicas: usize) -> Vec<String> {
    pods.sort_by_cached_key(|(uid, _)| (hash(&[seed, uid]), *uid));
    pods.dedup_by_key(|(uid, _)| *uid);
    let (with, without): (Vec<Pod>, Vec<Pod>) = pods.iter().partition(|(_, has_agent)| *has_agent);
    let order = if with.is_empty() || without.is_empty() {
        rotated(&pods, turn, replicas)
    } else if turn.is_multiple_of(ATTACH_EVERY) {
        rotated(&pods, turn / ATTACH_EVERY, replicas)
    } else {
        let missing = replicas.saturating_sub(with.len()).max(1);
        let rest = rotated(&without, turn / ATTACH_EVERY, missing);
        rotated(&with, turn, replicas).into_iter().chain(rest).collect()
    };
    order.into_iter().take(replicas).map(|(uid, _)| uid.to_owned()).collect()
}

/// All pods, those whose turn it is first.
fn rotated<'c>(pods: &[Pod<'c>], turn: u64, replicas: usize) -> Vec<Pod<'c>> {
    let start = start(turn, pods.len(), replicas);
    pods.iter().cycle().skip(start).take(pods.len()).copied().collect()
}

/// The candidates of a pick outside of a schedule: those to whom an agent would have to be attached are left out
/// where `replicas` others of their workload have one.
#[must_use]
pub fn with_agents_first(candidates: Vec<Candidate>, replicas: usize) -> Vec<Candidate> {
    let mut ready: BTreeMap<Workload, usize> = BTreeMap::new();
    for candidate in candidates.iter().filter(|c| c.has_agent) {
        *ready.entry(candidate.workload.clone()).or_default() += 1;
    }
    let enough = |c: &Candidate| ready.get(&c.workload).is_some_and(|n| *n >= replicas);
    candidates.into_iter().filter(|c| c.has_agent || !enough(c)).collect()
}

/// Maximum number of targets of a round among `pods` pods: `maxTargets`, and no more than `percent` of them.
#[must_use]
pub fn most_of(sampling: &Sampling, pods: usize) -> usize {
    let share = (pods * usize::try_from(sampling.percent).unwrap_or(100)).div_ceil(100);
    usize::try_from(sampling.max_targets).unwrap_or(1).min(share)
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
                    has_agent: true,
                })
            })
            .collect()
    }

    /// A workload of so many pods, of which so many have an agent.
    fn partly(pods: usize, with: usize) -> Vec<Candidate> {
        let mut all = candidates(1, pods);
        all.iter_mut().skip(with).for_each(|candidate| candidate.has_agent = false);
        all
    }

    proptest! {
        #[test]
        fn every_pod_has_its_turn(pods in 1usize..200, replicas in 1usize..8, first in 0u64..1_000_000) {
            let all = candidates(2, pods);
            let rounds = cycle(pods, replicas);
            prop_assert!(rounds <= (pods + pods / 8 + 1).div_ceil(replicas) as u64);
            let seen: HashSet<String> = (first..first + rounds).flat_map(|r| pick("p", r, &all, |_| replicas, 1000)).collect();
            prop_assert_eq!(seen.len(), all.len());
        }

        #[test]
        fn every_workload_has_its_turn_under_max_targets(workloads in 1usize..40, max in 1usize..10) {
            let all = candidates(workloads, 1);
            let rounds = cycle(workloads, max);
            let seen: HashSet<String> = (7..7 + rounds).flat_map(|r| pick("p", r, &all, |_| 1, max)).collect();
            prop_assert_eq!(seen.len(), workloads);
        }

        /// The workloads' turns and their pods' turns do not fall into step.
        #[test]
        fn every_pod_of_every_workload_has_its_turn(workloads in 1usize..24, pods in 1usize..6, max in 1usize..10, first in 0u64..1_000_000) {
            let all = candidates(workloads, pods);
            let of_workloads = if workloads <= max { 1 } else { cycle(workloads, max) };
            // A cycle that has begun is not counted.
            let rounds = of_workloads * (cycle(pods, 1) + 1);
            let seen: HashSet<String> = (first..first + rounds).flat_map(|r| pick("p", r, &all, |_| 1, max)).collect();
            prop_assert_eq!(seen.len(), all.len());
        }

        /// `maxTargets` or `percent` may leave less than `replicasPerWorkload`.
        #[test]
        fn every_pod_has_its_turn_where_the_bound_is_below_the_replicas(
            workloads in 1usize..4, pods in 1usize..50, replicas in 2usize..60, max in 1usize..12, first in 0u64..1_000_000
        ) {
            let max = max.min(replicas);
            let all = candidates(workloads, pods);
            let of_workloads = if workloads == 1 { 1 } else { cycle(workloads, 1) };
            let rounds = of_workloads * (cycle(pods, max) + 1);
            let seen: HashSet<String> = (first..first + rounds).flat_map(|r| pick("p", r, &all, |_| replicas, max)).collect();
            prop_assert_eq!(seen.len(), all.len());
        }

        #[test]
        fn bounds_hold_and_nobody_is_picked_twice(workloads in 0usize..9, pods in 1usize..20, replicas in 1usize..30, max in 1usize..50, round: u64) {
            let picked = pick("p", round, &candidates(workloads, pods), |_| replicas, max);
            prop_assert!(picked.len() <= max);
            prop_assert_eq!(picked.iter().collect::<HashSet<_>>().len(), picked.len());
            prop_assert_eq!(picked.len(), max.min(workloads * replicas.min(pods)));
        }

        /// In all rounds but each eighth, an agent is attached only where those that have one are too few.
        #[test]
        fn pods_with_an_agent_are_picked_first(pods in 1usize..30, with in 0usize..30, replicas in 1usize..8, round: u64) {
            prop_assume!(!round.is_multiple_of(ATTACH_EVERY));
            let all = partly(pods, with);
            let picked = pick("p", round, &all, |_| replicas, 1000);
            let attached = picked.iter().filter(|uid| all.iter().any(|c| c.pod_uid == **uid && !c.has_agent)).count();
            prop_assert_eq!(attached, replicas.min(pods).saturating_sub(with.min(pods)));
            prop_assert_eq!(picked.iter().collect::<HashSet<_>>().len(), replicas.min(pods));
        }

        /// Also the pods that never get an agent.
        #[test]
        fn every_pod_has_its_turn_where_only_some_have_an_agent(pods in 1usize..40, with in 0usize..40, replicas in 1usize..4, first in 0u64..1_000_000) {
            let all = partly(pods, with);
            let rounds = ATTACH_EVERY * (cycle(pods, replicas) + 1);
            let seen: HashSet<String> = (first..first + rounds).flat_map(|r| pick("p", r, &all, |_| replicas, 1000)).collect();
            prop_assert_eq!(seen.len(), pods);
        }

        /// Outside of a schedule nobody gets an agent while there are others; all that were asked for are picked.
        #[test]
        fn a_pick_outside_of_a_schedule_attaches_as_few_agents_as_it_can(pods in 1usize..30, with in 0usize..30, replicas in 1usize..8, round: u64) {
            let all = with_agents_first(partly(pods, with), replicas);
            let picked: HashSet<String> = pick("p", round, &all, |_| replicas, 1000).into_iter().collect();
            prop_assert_eq!(picked.len(), replicas.min(pods));
            let attached = all.iter().filter(|c| !c.has_agent && picked.contains(&c.pod_uid)).count();
            prop_assert!(with < replicas.min(pods) || attached == 0);
        }

        /// Also where workloads want different numbers of pods, and not all have place.
        #[test]
        fn every_workload_has_its_turn_however_many_pods_it_wants(
            wanted in prop::collection::vec(1usize..20, 1..24), pods in 1usize..20, max in 1usize..51, first in 0u64..1_000_000
        ) {
            let all = candidates(wanted.len(), pods);
            let replicas = |workload: &Workload| wanted[workload.name[3..].parse::<usize>().unwrap()];
            let per_round = fit(wanted.iter().map(|n| (*n).min(max)), max);
            let mut seen: HashSet<String> = HashSet::new();
            for round in first..first + cycle(wanted.len(), per_round) {
                let picked = pick("p", round, &all, replicas, max);
                prop_assert!(picked.len() <= max);
                for (workload, n) in wanted.iter().enumerate() {
                    let of = picked.iter().filter(|uid| uid.starts_with(&format!("{workload}-"))).count();
                    prop_assert!(of <= *n);
                }
                seen.extend(picked.iter().map(|uid| uid.split('-').next().unwrap().to_owned()));
            }
            prop_assert_eq!(seen.len(), wanted.len());
        }

        #[test]
        fn the_pick_does_not_depend_on_the_order_of_pods(round: u64) {
            let mut all = candidates(3, 7);
            let one = pick("p", round, &all, |_| 2, 50);
            all.reverse();
            prop_assert_eq!(one, pick("p", round, &all, |_| 2, 50));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        /// 500 replicas, of which one in ten rounds is replaced, and which are scaled up and down by up to
        /// 20.
        #[test]
        fn every_pod_that_stays_has_its_turn_while_others_come_and_go(seed in 0u64..40, replicas in 2usize..6) {
            let chance = |what: &str, round: u64, of: u64| hash(&[what, &seed.to_string(), &round.to_string()]) % of;
            let mut pods = candidates(1, 500);
            let born = pods.clone();
            let cycle = cycle(500, replicas);
            let mut seen: HashSet<String> = HashSet::new();
            let mut after_one = 0;
            for round in 0..3 * cycle {
                if chance("replaced", round, 10) == 0 {
                    let gone = usize::try_from(chance("who", round, pods.len() as u64)).unwrap();
                    pods[gone].pod_uid = format!("new-{round}");
                }
                if chance("scaled", round, 50) == 0 {
                    let scaled = 490 + usize::try_from(chance("to", round, 21)).unwrap();
                    let workload = pods[0].workload.clone();
                    while pods.len() < scaled {
                        let pod_uid = format!("more-{round}-{}", pods.len());
                        pods.push(Candidate { pod_uid, workload: workload.clone(), has_agent: true });
                    }
                    pods.truncate(scaled);
                }
                seen.extend(pick("p", round + seed * 1000 * cycle, &pods, |_| replicas, 50));
                if round + 1 == cycle {
                    after_one = seen.iter().filter(|uid| uid.starts_with("0-")).count();
                }
            }
            let stayed: Vec<_> = pods.iter().filter(|p| born.contains(p)).collect();
            prop_assert!(stayed.iter().all(|p| seen.contains(&p.pod_uid)), "within three cycles");
            prop_assert!(after_one * 100 >= 85 * 500, "{} of 500 within one cycle", after_one);
        }
    }
}
