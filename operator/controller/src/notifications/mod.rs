//! How are receivers told of the ends of sessions? Over HTTP, as signed CloudEvents.
//!
//! ```text
//! session's step ─► offer ─► outbox of one receiver ─► POST, retried until it is taken ─► the session looks again
//! ```
//! Guarantees: each receiver has an outbox and a task of its own, so one that hangs holds up nothing else. What is
//! sent follows from the statuses of sessions: after a crash it is offered again, with the same id. Nothing but the
//! status of an HTTP answer is looked at, redirects are not followed, and only an administrator names addresses.

mod config;
mod metrics;
mod send;
mod sign;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, MutexGuard};

use fleetprof_core::destination::Delivery;
use fleetprof_core::outbox::{Attempt, Bounds, Outbox};
use fleetprof_core::session::notify::TRIED;
use fleetprof_core::session::{Notification, event};
use fleetprof_core::time::before;
use fleetprof_crds::ProfileSession;
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::task::JoinSet;

pub use config::Config;
pub use metrics::NotificationMetrics;
pub use send::Webhook;

use crate::destinations::Wake;
use crate::outgoing::Outgoing;

/// Most notifications that wait for one receiver, of a few KB each. The rest waits in the statuses of sessions.
const WAITING: usize = 1_000;
/// Most notifications that are sent to one receiver side by side.
const AT_ONCE: usize = 4;

/// What waits, and for which session.
#[derive(Clone, Debug)]
struct Parcel {
    namespace: String,
    session: String,
    notification: Notification,
}

struct Line {
    name: String,
    webhook: Webhook,
    outgoing: Outgoing<Parcel>,
}

/// The configured receivers. Clones share them.
#[derive(Clone)]
pub struct Notifications {
    lines: Arc<BTreeMap<String, Arc<Line>>>,
    metrics: NotificationMetrics,
}

impl Notifications {
    /// These receivers.
    #[must_use]
    pub fn new(webhooks: Vec<(String, Webhook)>, metrics: NotificationMetrics) -> Self {
        let line = |(name, webhook): (String, Webhook)| {
            let bounds = Bounds { waiting: WAITING, at_once: AT_ONCE };
            (name.clone(), Arc::new(Line { name, webhook, outgoing: Outgoing::new(bounds) }))
        };
        Self { lines: Arc::new(webhooks.into_iter().map(line).collect()), metrics }
    }

    /// Starts to send. `wake` is told of sessions with news of a notification.
    pub fn start(&self, wake: &Wake, tasks: &mut JoinSet<anyhow::Result<()>>) {
        for line in self.lines.values() {
            tasks.spawn(send_forever(line.clone(), self.metrics.clone(), wake.clone()));
        }
    }

    /// Sends a notification of a session, or says what became of that. While too many wait it is not taken in: the
    /// session asks again later.
    #[must_use]
    pub fn offer(&self, receiver: &str, session: &ProfileSession, notification: &Notification) -> Delivery {
        // The core gives up what is not configured.
        let Some(line) = self.lines.get(receiver) else { return Delivery::Underway(None) };
        let mut outbox = line.outbox();
        // It stays known until the session is gone: were it forgotten now, a status that cannot be written would have
        // it sent once more.
        if let Some(done) = outbox.answer(&notification.id) {
            return done;
        }
        if outbox.backlog() >= WAITING {
            return Delivery::Underway(outbox.problem().map(str::to_owned));
        }
        let parcel = Parcel {
            namespace: session.namespace().unwrap_or_default(),
            session: session.name_any(),
            notification: notification.clone(),
        };
        // Its age counts from the end of the session, as in the session's own step.
        let ended = session.status.as_ref().and_then(|status| status.end_time.as_ref());
        let since = ended.map_or_else(Timestamp::now, |ended| ended.0);
        let delivery = outbox.offer(&notification.id, parcel, since);
        line.outgoing.look();
        delivery
    }

    /// Forgets what belongs to sessions that are gone, and what has waited for as long as a receiver is tried; `live`
    /// holds the uids of all other sessions.
    pub fn sweep(&self, live: &HashSet<String>) {
        let is_live = |id: &str| event::session_of(id).is_some_and(|uid| live.contains(uid));
        let limit = before(Timestamp::now(), TRIED);
        for line in self.lines.values() {
            let mut outbox = line.outbox();
            outbox.retain(is_live);
            outbox.forget_before(limit);
            self.metrics.waiting(&line.name, outbox.backlog());
        }
    }
}

impl Line {
    fn outbox(&self) -> MutexGuard<'_, Outbox<Parcel>> {
        self.outgoing.outbox()
    }
}

/// Sends what waits, as the outbox says.
async fn send_forever(line: Arc<Line>, metrics: NotificationMetrics, wake: Wake) -> anyhow::Result<()> {
    let note = |parcel: &Parcel, attempt: &Attempt| note(&line, parcel, attempt, &metrics);
    let settled = |parcel: &Parcel| {
        metrics.waiting(&line.name, line.outbox().backlog());
        wake(&parcel.namespace, &parcel.session);
    };
    line.outgoing.send_forever(|parcel| send(&line, parcel), note, settled).await
}

async fn send(line: &Line, parcel: Parcel) -> (Parcel, Attempt) {
    let attempt = line.webhook.post(&line.name, &parcel.notification).await;
    (parcel, attempt)
}

fn note(line: &Line, parcel: &Parcel, attempt: &Attempt, metrics: &NotificationMetrics) {
    let outcome = match attempt {
        Attempt::Stored => "sent",
        Attempt::Again(..) => "failed",
        Attempt::Failed(..) => "rejected",
    };
    if let Attempt::Again(error, _) | Attempt::Failed(_, error) = attempt {
        tracing::warn!(
            fleetprof.receiver = line.name,
            k8s.namespace.name = parcel.namespace,
            fleetprof.session.name = parcel.session,
            outcome,
            error,
            "failed to tell a receiver of the end of a session"
        );
    }
    metrics.attempt(&line.name, outcome);
}
