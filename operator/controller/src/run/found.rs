//! When are the sessions of the first list looked at? A few at a time, and one namespace after another: what
//! happens meanwhile, such as a person's new session, waits for those few alone.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use fleetprof_core::session::turns::in_turn;
use fleetprof_crds::ProfileSession;
use kube_runtime::controller;
use kube_runtime::reflector::{ObjectRef, Store};
use tokio::sync::{Notify, mpsc};

/// So many of them are with the controllers at a time.
const AT_ONCE: usize = 32;

type Key = (String, String);

/// The sessions that were passed on to the controllers and are not looked at yet.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Passed>);

#[derive(Default)]
struct Passed {
    sessions: Mutex<HashSet<Key>>,
    looked_at: Notify,
}

impl InFlight {
    /// Waits for room, then counts a session.
    async fn add(&self, session: &ObjectRef<ProfileSession>) {
        loop {
            let looked_at = self.0.looked_at.notified();
            {
                let mut sessions = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                if sessions.len() < AT_ONCE {
                    sessions.insert(key(session.namespace.as_deref(), &session.name));
                    return;
                }
            }
            looked_at.await;
        }
    }

    /// Is told of each look of a controller at a session, whatever came of it.
    pub fn looked<E, Q>(
        &self,
        done: &Result<(ObjectRef<ProfileSession>, controller::Action), controller::Error<E, Q>>,
    ) where
        E: std::error::Error + 'static,
        Q: std::error::Error + 'static,
    {
        let key = match done {
            Ok((session, _)) => key(session.namespace.as_deref(), &session.name),
            Err(
                controller::Error::ObjectNotFound(session) | controller::Error::ReconcilerFailed(_, session),
            ) => key(session.namespace.as_deref(), &session.name),
            Err(controller::Error::QueueError(_) | controller::Error::RunnerError(_)) => return,
        };
        if self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&key) {
            self.0.looked_at.notify_one();
        }
    }
}

fn key(namespace: Option<&str>, name: &str) -> Key {
    (namespace.unwrap_or_default().to_owned(), name.to_owned())
}

/// The sessions that are in the queue now, in the order in which they have their turns.
pub fn take(
    store: &Store<ProfileSession>,
    queue: &mut mpsc::UnboundedReceiver<ObjectRef<ProfileSession>>,
) -> Vec<ObjectRef<ProfileSession>> {
    let waiting: Vec<_> = std::iter::from_fn(|| queue.try_recv().ok()).collect();
    let ended = |session: &ProfileSession| session.status.as_ref().is_some_and(|s| s.phase.is_terminal());
    in_turn(waiting, |found| {
        let namespace = found.namespace.clone().unwrap_or_default();
        (namespace, store.get(found).is_some_and(|session| ended(&session)))
    })
}

/// Has the controllers look at what was found, then rests for ever.
///
/// # Errors
/// Never.
pub async fn feed(
    found: Vec<ObjectRef<ProfileSession>>,
    in_flight: InFlight,
    wake: mpsc::UnboundedSender<ObjectRef<ProfileSession>>,
) -> anyhow::Result<()> {
    for session in found {
        in_flight.add(&session).await;
        let _ = wake.send(session);
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_more_than_a_few_are_with_the_controllers() {
        let sessions: Vec<_> =
            (0..100).map(|n| ObjectRef::<ProfileSession>::new(&format!("s-{n}")).within("shop")).collect();
        let in_flight = InFlight::default();
        let (wake, mut queue) = mpsc::unbounded_channel();
        let feeding = tokio::spawn(feed(sessions.clone(), in_flight.clone(), wake));
        let rests = Duration::from_millis(50);
        let mut got = Vec::new();
        while got.len() < sessions.len() {
            let mut passed = Vec::new();
            while let Ok(Some(session)) = tokio::time::timeout(rests, queue.recv()).await {
                passed.push(session);
            }
            assert!((1..=AT_ONCE).contains(&passed.len()), "{} at once", passed.len());
            for session in &passed {
                let other = ObjectRef::<ProfileSession>::new("other").within("shop");
                for looked in [other, session.clone()] {
                    let done = Ok((looked, controller::Action::await_change()));
                    in_flight.looked::<Infallible, Infallible>(&done);
                }
            }
            got.extend(passed);
        }
        assert_eq!(got, sessions);
        feeding.abort();
    }
}
