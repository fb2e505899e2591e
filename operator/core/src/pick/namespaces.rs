//! Which pods of many namespaces are profiled in a round? Namespaces first, then workloads, then pods: one
//! with many workloads keeps no other from its turn.

use std::collections::BTreeMap;

use super::{Candidate, Pod, cycle, fit, next, start};
use crate::hash::hash;
use crate::pod::Workload;

/// How many pods of a workload are wanted, and those that it has.
type Wanted<'c> = (usize, Vec<Pod<'c>>);

/// A namespace with its workloads and their pods, in the order of their turns.
struct Namespace<'c> {
    workloads: Vec<Wanted<'c>>,
    /// The workload that goes first in this round.
    first: usize,
    /// How many times each workload was picked before.
    turn: u64,
}

/// Picks as many pods of each workload as `replicas` says, by namespace and workload, and at most `max_targets`
/// in total, as pod UIDs.
///
/// Each namespace picks a workload, then each another one, until there are enough targets; namespaces with
/// few workloads are done early, and leave the rest to the others. Where there are more namespaces than
/// targets they rotate, as do the workloads of a namespace and the pods of a workload, see [`super::pick`].
#[must_use]
pub fn pick_by_namespace(
    seed: &str,
    round: u64,
    namespaces: &BTreeMap<&str, Vec<Candidate>>,
    replicas: impl Fn(&str, &Workload) -> usize,
    max_targets: usize,
) -> Vec<String> {
    let mut ordered: Vec<(u64, &str, Vec<Wanted>)> = namespaces
        .iter()
        .map(|(name, candidates)| {
            let replicas = |workload: &Workload| replicas(name, workload).min(max_targets.max(1));
            (hash(&[seed, name]), *name, workloads(seed, name, candidates, replicas))
        })
        .collect();
    let wanted = ordered.iter().flat_map(|(.., workloads)| workloads).map(|(replicas, _)| *replicas);
    let per_round = fit(wanted, max_targets);
    ordered.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    let count = ordered.len();
    let rotates = count > per_round;
    let turn = if rotates { round / cycle(count, per_round) } else { round };
    let level = level(ordered.iter().map(|(.., workloads)| workloads.len()), per_round);
    let all: Vec<Namespace> =
        ordered.into_iter().map(|(.., workloads)| Namespace::at(workloads, turn, level)).collect();
    let from = start(round, count, if rotates { per_round } else { 1 });
    let turns = || all.iter().cycle().skip(from).take(count);
    let most = all.iter().map(|n| n.workloads.len()).max().unwrap_or(0);
    let order = (0..most).flat_map(|n| turns().filter_map(move |of| Some((of.nth(n)?, of.turn))));
    order
        .flat_map(|((replicas, pods), turn)| next(seed, turn, pods.clone(), *replicas))
        .take(max_targets)
        .collect()
}

impl<'c> Namespace<'c> {
    /// How it stands after so many turns, in each of which at least `level` of its workloads were picked.
    fn at(workloads: Vec<Wanted<'c>>, turn: u64, level: usize) -> Self {
        let count = workloads.len();
        if count <= level {
            return Self { workloads, first: 0, turn };
        }
        Self { workloads, first: start(turn, count, level), turn: turn / cycle(count, level) }
    }

    /// The workload that is picked after `n` others of the namespace.
    fn nth(&self, n: usize) -> Option<&Wanted<'c>> {
        let count = self.workloads.len();
        (n < count).then(|| self.workloads.get((self.first + n) % count)).flatten()
    }
}

/// The pods of each workload, workloads in the order of their hashes.
fn workloads<'c>(
    seed: &str,
    namespace: &str,
    candidates: &'c [Candidate],
    replicas: impl Fn(&Workload) -> usize,
) -> Vec<Wanted<'c>> {
    let mut by_workload: BTreeMap<(u64, &Workload), Vec<Pod>> = BTreeMap::new();
    for candidate in candidates {
        let workload = &candidate.workload;
        let place = hash(&[seed, namespace, &workload.kind, &workload.name]);
        by_workload.entry((place, workload)).or_default().push((&candidate.pod_uid, candidate.has_agent));
    }
    by_workload.into_iter().map(|((_, workload), pods)| (replicas(workload), pods)).collect()
}

/// How many workloads every namespace that has so many can pick when `places` are shared out one by one; at
/// least 1.
fn level(sizes: impl Iterator<Item = usize> + Clone, places: usize) -> usize {
    let fits = |level: &usize| sizes.clone().map(|size| size.min(*level)).sum::<usize>() <= places;
    (1..=places).take_while(fits).last().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

    /// Namespaces with so many workloads of so many pods.
    fn namespaces(sizes: &[usize], pods: usize) -> BTreeMap<&'static str, Vec<Candidate>> {
        let of = |name: &'static str, workloads: usize| {
            let all = (0..workloads).flat_map(move |w| (0..pods).map(move |p| (w, p)));
            let candidate = move |(w, p)| Candidate {
                pod_uid: format!("{name}-{w}-{p}"),
                workload: Workload { kind: "Deployment".into(), name: format!("app{w}") },
                has_agent: true,
            };
            (name, all.map(candidate).collect())
        };
        NAMES.into_iter().zip(sizes).map(|(name, workloads)| of(name, *workloads)).collect()
    }

    /// How many of the picked pods are of each namespace.
    fn shares(picked: &[String]) -> BTreeMap<&str, usize> {
        let mut shares = BTreeMap::new();
        for pod in picked {
            *shares.entry(&pod[..1]).or_default() += 1;
        }
        shares
    }

    #[test]
    fn a_namespace_with_many_workloads_takes_nobodys_place() {
        let all = namespaces(&[50, 1, 2, 3, 1], 1);
        for round in 0..200 {
            let picked = pick_by_namespace("p", round, &all, |_, _| 1, 10);
            assert_eq!(shares(&picked), [("a", 3), ("b", 1), ("c", 2), ("d", 3), ("e", 1)].into());
        }
    }

    proptest! {
        #[test]
        fn every_pod_of_every_namespace_has_its_turn(
            sizes in prop::collection::vec(1..9usize, 1..10), pods in 1..5usize, max in 1..12usize, first in 0u64..1_000_000
        ) {
            let all = namespaces(&sizes, pods);
            let (count, most) = (sizes.len(), sizes.iter().copied().max().unwrap());
            let of_namespaces = if count <= max { 1 } else { cycle(count, max) };
            let of_workloads = cycle(most, level(sizes.iter().copied(), max));
            // A cycle that has begun is not counted.
            let rounds = of_namespaces * (of_workloads * (cycle(pods, 1) + 1) + 1);
            let seen: HashSet<String> =
                (first..first + rounds).flat_map(|round| pick_by_namespace("p", round, &all, |_, _| 1, max)).collect();
            prop_assert_eq!(seen.len(), sizes.iter().sum::<usize>() * pods);
        }

        /// No namespace has two targets more than another one that could have had more.
        #[test]
        fn bounds_hold_and_shares_are_fair(
            sizes in prop::collection::vec(1..30usize, 1..12), pods in 1..4usize, replicas in 1..4usize, max in 1..51usize, round: u64
        ) {
            let all = namespaces(&sizes, pods);
            let picked = pick_by_namespace("p", round, &all, |_, _| replicas, max);
            let all_pods: usize = sizes.iter().map(|size| size * replicas.min(pods)).sum();
            prop_assert_eq!(picked.len(), max.min(all_pods));
            prop_assert_eq!(picked.iter().collect::<HashSet<_>>().len(), picked.len());
            let (shares, each) = (shares(&picked), replicas.min(pods));
            let of = |n: usize| shares.get(NAMES[n]).copied().unwrap_or(0);
            for (n, size) in sizes.iter().enumerate() {
                for other in 0..sizes.len() {
                    prop_assert!(of(n) + each >= of(other) || of(n) == size * each, "{:?}", shares);
                }
            }
        }

        #[test]
        fn the_pick_does_not_depend_on_the_order_of_pods(round: u64, sizes in prop::collection::vec(1..6usize, 1..6)) {
            let mut all = namespaces(&sizes, 3);
            let one = pick_by_namespace("p", round, &all, |_, _| 2, 7);
            all.values_mut().for_each(|candidates| candidates.reverse());
            prop_assert_eq!(one, pick_by_namespace("p", round, &all, |_, _| 2, 7));
        }
    }
}
