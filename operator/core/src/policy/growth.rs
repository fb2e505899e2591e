//! Which workloads does the gauge `fleetprof_growth` show, and with which value?
//!
//! A revision is shown while it has pods, with the newest look at its sessions; before the first one it is not a
//! number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetprof_crds::growth::{GrowthResult, WorkloadGrowth};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::{ProfileKind, ProfileSession};

use crate::link::PodLink;
use crate::view::PolicyView;

/// What is shown of one kind of profiles of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// Its namespace.
    pub namespace: String,
    /// Kind of its workload, such as `Deployment`.
    pub kind: String,
    /// Name of its workload.
    pub workload: String,
    /// The revision, as in the labels of its pods; empty for workloads without.
    pub revision: String,
    /// The kind of profiles.
    pub profile: ProfileKind,
}

/// The series of a policy: 1 for what grows, 0 for what does not, and not a number where that cannot be told, or not
/// yet. `sessions` are those that name the policy.
#[must_use]
pub fn series(
    policy: &PolicyView,
    links: &[PodLink],
    sessions: &[Arc<ProfileSession>],
) -> BTreeMap<Series, f64> {
    if policy.spec.growth.is_none() {
        return BTreeMap::new();
    }
    let of_link = |link: &PodLink| {
        let revision = link.pod.revision().map(|(label, _)| label.to_owned()).unwrap_or_default();
        (link.pod.namespace.to_string(), (*link.pod.workload).clone(), revision)
    };
    let revisions: BTreeSet<_> = links.iter().filter(|link| link.linked).map(of_link).collect();
    let looks = looks(sessions);
    let kinds =
        policy.spec.profiles.iter().filter(|kind| matches!(kind, ProfileKind::Cpu | ProfileKind::Heap));
    let mut shown = BTreeMap::new();
    for kind in kinds {
        for (namespace, workload, revision) in &revisions {
            let value = looks.get(&(namespace.as_str(), workload.to_string(), revision.as_str(), *kind));
            let series = Series {
                namespace: namespace.clone(),
                kind: workload.kind.clone(),
                workload: workload.name.clone(),
                revision: revision.clone(),
                profile: *kind,
            };
            shown.insert(series, value.copied().unwrap_or(f64::NAN));
        }
    }
    shown
}

/// A kind of profiles of a revision: namespace, workload, revision, kind.
type Of<'s> = (&'s str, String, &'s str, ProfileKind);

/// What the newest look at each revision said. Only sessions that the operator started count.
fn looks(sessions: &[Arc<ProfileSession>]) -> BTreeMap<Of<'_>, f64> {
    let mut found = BTreeMap::new();
    let mut newest: Vec<&Arc<ProfileSession>> =
        sessions.iter().filter(|s| s.spec.trigger == Trigger::Schedule).collect();
    newest.sort_by_key(|s| s.status.as_ref().and_then(|status| status.end_time.as_ref()).map(|time| time.0));
    for session in newest {
        let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
        let rows = session.status.iter().flat_map(|status| &status.growth).filter(|row| row.p.is_some());
        for row in rows {
            let WorkloadGrowth { workload, revision, kind, result, .. } = row;
            let value = match result {
                GrowthResult::Growing => 1.0,
                GrowthResult::NotGrowing => 0.0,
                GrowthResult::Inconclusive | GrowthResult::Unknown => f64::NAN,
            };
            found.insert((namespace, workload.clone(), revision.as_str(), *kind), value);
        }
    }
    found
}
