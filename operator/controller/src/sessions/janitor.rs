//! What happens when a session is deleted? There is no finalizer, so that a namespace never hangs on the
//! operator: its orders are closed and its profiles removed here.
//!
//! A session that cannot be read exists: nothing of it is closed or removed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::session::{deliver, history};
use fleetprof_core::storage::is_kept;
use fleetprof_crds::session_status::StoredProfile;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus};
use kube::ResourceExt;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Context, report};
use crate::results::Owned;
use crate::watched::{Cache, SessionIndex};

/// Deleted sessions that are cleaned up together.
const BATCH: usize = 1000;
/// After how long what belongs to a deleted session is looked for once more: a reconcile or an upload may have
/// been at work while it was deleted.
const AGAIN: Duration = Duration::from_secs(2);
/// How often everything is compared with the sessions that exist.
const SWEEP: Duration = Duration::from_secs(60);
/// Files younger than this are never swept: their session may not have reached this leader's watch.
const YOUNG: Duration = Duration::from_secs(600);
/// How often the number of live sessions is counted for the metrics.
const COUNT: Duration = Duration::from_secs(2);

/// A session that was deleted.
#[derive(Clone, Debug)]
pub struct Gone {
    /// Its uid.
    pub uid: String,
    /// Where its profiles are.
    pub profiles: Vec<StoredProfile>,
}

impl Gone {
    /// What was known of it last.
    #[must_use]
    pub fn of(uid: &str, status: Option<&ProfileSessionStatus>) -> Self {
        let targets = status.into_iter().flat_map(|status| &status.targets);
        let profiles = targets.flat_map(|target| target.profiles.iter().cloned()).collect();
        Self { uid: uid.to_owned(), profiles }
    }
}

/// Closes the captures of sessions that are gone, and removes their profiles, for ever. `gone` brings
/// deleted sessions.
///
/// # Errors
/// When nothing can be deleted any more.
pub async fn sweep_forever(
    sessions: Cache<ProfileSession>,
    index: SessionIndex,
    mut gone: UnboundedReceiver<Gone>,
    context: Arc<Context>,
) -> anyhow::Result<()> {
    let (mut batch, mut again, mut due) = (Vec::new(), Vec::new(), Instant::now());
    let (mut sweep, mut count) = (interval(SWEEP), interval(COUNT));
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    count.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            deleted = gone.recv_many(&mut batch, BATCH) => {
                anyhow::ensure!(deleted > 0, "the watch of sessions ended");
                forget(&batch, &context).await;
                // A moment, not a time from now: every tick of the others would begin the wait again.
                if again.is_empty() {
                    due = Instant::now() + AGAIN;
                }
                again.append(&mut batch);
            }
            () = sleep_until(due), if !again.is_empty() => forget(&std::mem::take(&mut again), &context).await,
            _ = sweep.tick() => {
                compare(&sessions.uids(), owned(&sessions, &context), &context).await;
                keep_history(&sessions, &context).await;
            }
            _ = count.tick() => context.metrics.sessions_active(index.live()),
        }
    }
}

/// Forgets sessions that were deleted.
async fn forget(gone: &[Gone], context: &Context) {
    let uids: HashSet<&str> = gone.iter().map(|gone| gone.uid.as_str()).collect();
    for session in gone {
        let latest = context.written.latest(&session.uid);
        context.results.destinations().forget(&Gone::of(&session.uid, latest.as_ref()).profiles);
        context.results.destinations().forget(&session.profiles);
    }
    close(context, |session| uids.contains(session));
    context.written.retain(|uid| !uids.contains(uid));
    context.budgets.with(|ledger| ledger.retain_sessions(|uid| !uids.contains(uid)));
    for Gone { uid, .. } in gone {
        if let Err(error) = context.results.delete_session(uid).await {
            tracing::warn!(%error, "failed to remove the profiles of a deleted session; retrying");
        }
    }
}

/// What the sessions say of their results.
pub fn owned(sessions: &Cache<ProfileSession>, context: &Context) -> Owned {
    let archives = context.results.destinations().archives();
    let (all, unreadable) = (sessions.all(), sessions.unreadable());
    let elsewhere = all.iter().filter(|session| deliver::is_elsewhere(session, &archives));
    let metas = all.iter().map(|session| &session.metadata);
    let metas = metas.chain(unreadable.iter().map(|object| &object.meta));
    Owned {
        namespaces: namespaces(sessions),
        elsewhere: elsewhere.filter_map(|session| session.uid()).collect(),
        keep: metas.filter(|meta| is_kept(meta)).filter_map(|meta| meta.uid.clone()).collect(),
    }
}

/// The namespaces of all sessions, by uid.
fn namespaces(sessions: &Cache<ProfileSession>) -> HashMap<String, String> {
    let readable = sessions.all().into_iter().filter_map(|s| Some((s.uid()?, s.namespace()?)));
    let unreadable = sessions
        .unreadable()
        .into_iter()
        .map(|object| (object.uid().to_owned(), object.namespace().to_owned()));
    readable.chain(unreadable).collect()
}

/// Deletes what people have started and nobody keeps any more.
async fn keep_history(sessions: &Cache<ProfileSession>, context: &Context) {
    for session in history::over(&sessions.all(), context.settings.session_history) {
        if let Err(error) = report::forget(&session, context).await {
            tracing::warn!(%error, "failed to delete a session over the history limit; retrying");
        }
    }
}

/// Forgets every session that does not exist.
async fn compare(live: &HashSet<String>, owned: Owned, context: &Context) {
    context.results.sweep_elsewhere(live);
    context.notifications.sweep(live);
    close(context, |session| !live.contains(session));
    context.written.retain(|uid| live.contains(uid));
    context.budgets.with(|ledger| ledger.retain_sessions(|uid| live.contains(uid)));
    let swept = match context.results.own(owned).await {
        Ok(()) => context.results.sweep(live, YOUNG).await,
        Err(error) => Err(error),
    };
    if let Err(error) = swept {
        tracing::warn!(%error, "failed to clean up the results volume; retrying");
    }
}

fn close(context: &Context, is_gone: impl Fn(&str) -> bool) {
    for scope in context.agents.open().iter().filter(|scope| is_gone(&scope.session_uid)) {
        context.agents.close(&scope.capture);
    }
}
