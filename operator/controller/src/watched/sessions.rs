//! Which sessions name a policy?

use std::sync::Arc;

use fleetprof_core::view::PolicyView;
use fleetprof_crds::ProfileSession;

use super::Cache;

/// The sessions that name `policy`.
#[must_use]
pub fn sessions_of(sessions: &Cache<ProfileSession>, policy: &PolicyView<'_>) -> Vec<Arc<ProfileSession>> {
    match policy.namespace {
        Some(own) => sessions.of(own).into_iter().filter(|s| policy.owns(s)).collect(),
        None => sessions.filter(|s| policy.owns(s)),
    }
}
