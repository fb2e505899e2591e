//! Which revisions does the gauge `fleetprof_regression` show, and with which value?
//!
//! A revision is shown from its first sight: for Argo Rollouts a series that is missing is an error, and one that
//! is not a number is inconclusive. It goes with the last of its pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_crds::session::Trigger;
use fleetprof_crds::{ProfileSession, names};
use jiff::Timestamp;

use super::rollout::{Revision, is_new};
use super::stable;
use crate::conditions::REGRESSED;
use crate::link::PodLink;
use crate::view::PolicyView;

/// What is shown of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// Its namespace.
    pub namespace: String,
    /// Kind of its workload, such as `Deployment`.
    pub kind: String,
    /// Name of its workload.
    pub workload: String,
    /// The revision, as in the labels of its pods.
    pub revision: String,
}

/// The series of a policy: 1 for a revision that regressed, 0 for one that did not, and not a number where that
/// cannot be told, or not yet. `sessions` are those that name the policy.
#[must_use]
pub fn series(
    policy: &PolicyView,
    links: &[PodLink],
    sessions: &[Arc<ProfileSession>],
    now: Timestamp,
) -> BTreeMap<Series, f64> {
    let Some(rule) = &policy.spec.triggers.rollout else { return BTreeMap::new() };
    let Some(compare) = &rule.compare else { return BTreeMap::new() };
    let mut oldest: BTreeMap<Revision, Timestamp> = BTreeMap::new();
    for (revision, created) in links.iter().filter_map(|link| Some((Revision::of(link)?, link.pod.created?)))
    {
        let first = oldest.entry(revision).or_insert(created);
        *first = created.min(*first);
    }
    let is_young =
        |created: Timestamp| policy.created.is_none_or(|at| at < created) && is_new(created, rule, now);
    let shown = oldest.iter().filter(|(revision, _)| !stable::is_baseline(&revision.workload, compare));
    let value = |(revision, created): (&Revision, &Timestamp)| {
        let value = verdict(revision, sessions).or_else(|| is_young(*created).then_some(f64::NAN))?;
        Some((of(revision), value))
    };
    shown.filter_map(value).collect()
}

fn of(revision: &Revision) -> Series {
    Series {
        namespace: revision.namespace.clone(),
        kind: revision.workload.kind.clone(),
        workload: revision.workload.name.clone(),
        revision: revision.label.clone(),
    }
}

/// What the session of a revision says; `None` where there is none. Only sessions that the operator started
/// count: others shall stop no rollout.
fn verdict(revision: &Revision, sessions: &[Arc<ProfileSession>]) -> Option<f64> {
    let workload = revision.workload.to_string();
    let is_of = |session: &&Arc<ProfileSession>| {
        let meta = &session.metadata;
        let annotation = meta.annotations.as_ref().and_then(|all| all.get(names::WORKLOAD_ANNOTATION));
        session.spec.trigger == Trigger::Rollout
            && meta.namespace.as_ref() == Some(&revision.namespace)
            && annotation == Some(&workload)
            && session.spec.compare.as_ref().is_some_and(|compare| compare.revision == revision.label)
    };
    let session = sessions.iter().find(is_of)?;
    let conditions = session.status.iter().flat_map(|status| &status.conditions);
    let said = conditions.filter(|condition| condition.type_ == REGRESSED).map(|c| c.status.as_str()).next();
    Some(match said {
        Some("True") => 1.0,
        Some("False") => 0.0,
        _ => f64::NAN,
    })
}
