//! What happens when a session is deleted? There is no finalizer, so that a namespace never hangs on us: its
//! orders are closed and its profiles removed here, seconds later.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use fleetprof_crds::ProfileSession;
use kube::ResourceExt;

use super::Context;
use crate::watched::Cache;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(2);
/// Every how many looks the results volume is swept as well.
const SWEEP: u32 = 30;
/// Files younger than this are never swept: their session may not have reached this leader's watch.
const YOUNG: Duration = Duration::from_secs(600);

/// Closes the captures of sessions that are gone, and removes their profiles, for ever.
pub async fn sweep_forever(sessions: Cache<ProfileSession>, context: Arc<Context>) -> anyhow::Result<()> {
    let mut known: HashSet<String> = HashSet::new();
    let mut round: u32 = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let live: HashSet<String> = sessions.all().iter().filter_map(|s| s.uid()).collect();
        close_orphans(&live, &context);
        context.written.retain(|uid| live.contains(uid));
        context.places.with(|ledger| ledger.retain_sessions(|uid| live.contains(uid)));
        for gone in known.difference(&live) {
            if let Err(error) = context.results.delete_session(gone).await {
                tracing::warn!(%error, "failed to remove the profiles of a deleted session; retrying");
            }
        }
        if round.is_multiple_of(SWEEP)
            && let Err(error) = context.results.sweep(&live, YOUNG).await
        {
            tracing::warn!(%error, "failed to clean up the results volume; retrying");
        }
        context.metrics.sessions_active(
            sessions.filter(|s| s.status.as_ref().is_none_or(|s| !s.phase.is_terminal())).len(),
        );
        known = live;
        round = round.wrapping_add(1);
    }
}

fn close_orphans(live: &HashSet<String>, context: &Context) {
    for capture in context.fleet.open_captures() {
        if context.fleet.scope(&capture).is_some_and(|scope| !live.contains(&scope.session_uid)) {
            context.fleet.close(&capture);
        }
    }
}
