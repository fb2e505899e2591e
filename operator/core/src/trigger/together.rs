//! Which findings on one workload are one firing? Those that began within one cooldown of the first, on
//! however many pods.

use jiff::Timestamp;

use super::place::Place;
use crate::pod::Workload;
use crate::time::after;

/// Something found on a place: an alert that names it, or a series.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    /// Since when.
    pub since: Timestamp,
    /// Where.
    pub place: Place,
    /// What.
    pub what: T,
}

/// One firing of a workload.
#[derive(Clone, Debug)]
pub(super) struct Together<T> {
    /// Since when the first of it is there, which tells it from others.
    pub since: Timestamp,
    /// Namespace of the workload.
    pub namespace: String,
    /// The workload.
    pub workload: Workload,
    /// Pods that it was found on, those with the first ones first; empty for the workload as a whole.
    pub pods: Vec<String>,
    /// The first of it.
    pub first: T,
    /// How many were found.
    pub count: usize,
}

impl<T> Together<T> {
    fn begin(found: Found<T>) -> Self {
        let Found { since, place: Place { namespace, workload, pods }, what } = found;
        Self { since, namespace, workload, pods, first: what, count: 1 }
    }

    fn is_of(&self, place: &Place) -> bool {
        self.workload == place.workload && self.namespace == place.namespace
    }

    fn add(&mut self, found: Found<T>) {
        self.count += 1;
        let new: Vec<String> = found.place.pods.into_iter().filter(|pod| !self.pods.contains(pod)).collect();
        self.pods.extend(new);
    }
}

/// One firing for each workload, in the order of namespace and workload, with at most `most_pods` pods: of
/// several that are still there the one that began last, since those before it had their session. The order
/// of `found` decides between what began at the same time; it has to be the same for the same input.
pub(super) fn together<T>(
    mut found: Vec<Found<T>>,
    cooldown: fleetprof_crds::Duration,
    most_pods: usize,
) -> Vec<Together<T>> {
    found.sort_by(|a, b| {
        let key = |f: &Found<T>| (f.place.namespace.clone(), f.place.workload.clone(), f.since);
        key(a).cmp(&key(b))
    });
    let mut all: Vec<Together<T>> = Vec::new();
    for one in found {
        match all.last_mut().filter(|last| last.is_of(&one.place)) {
            Some(last) if one.since < after(last.since, cooldown.as_signed()) => last.add(one),
            Some(last) => *last = Together::begin(one),
            None => all.push(Together::begin(one)),
        }
    }
    all.iter_mut().for_each(|t| t.pods.truncate(most_pods));
    all
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::Duration;

    use super::*;

    fn found(second: i64, app: &str, pods: &[&str]) -> Found<i64> {
        let workload = Workload { kind: "Deployment".into(), name: app.into() };
        let place = Place {
            namespace: "shop".into(),
            workload,
            pods: pods.iter().map(|p| (*p).to_owned()).collect(),
        };
        Found { since: Timestamp::from_second(second).unwrap(), place, what: second }
    }

    #[test]
    fn what_began_within_one_cooldown_is_one_firing_and_the_last_one_counts() {
        let of = |all: Vec<Found<i64>>| {
            let row = |t: Together<i64>| {
                format!(
                    "{} {} {} {}×{}",
                    t.workload.name,
                    t.since.as_second(),
                    t.pods.join(","),
                    t.count,
                    t.first
                )
            };
            together(all, Duration::from_secs(120), 2).into_iter().map(row).collect::<Vec<_>>()
        };
        let cases = [
            (vec![], vec![]),
            (vec![found(60, "a", &["y"]), found(0, "a", &["x"])], vec!["a 0 x,y 2×0"]),
            (
                vec![
                    found(0, "a", &["x"]),
                    found(1, "a", &["x"]),
                    found(2, "a", &["y"]),
                    found(3, "a", &["z"]),
                ],
                vec!["a 0 x,y 4×0"],
            ),
            (vec![found(0, "a", &[]), found(119, "a", &["x"])], vec!["a 0 x 2×0"]),
            (vec![found(0, "a", &["x"]), found(120, "a", &["y"])], vec!["a 120 y 1×120"]),
            (vec![found(5, "b", &["x"]), found(0, "a", &["y"])], vec!["a 0 y 1×0", "b 5 x 1×5"]),
        ];
        for (all, wanted) in cases {
            assert_eq!(of(all), wanted);
        }
    }
}
