//! How is what waits in an outbox sent? What is sent, and when, is decided by the outbox.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleetprof_core::outbox::{Attempt, Bounds, Next, Outbox};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::sleep;

/// An outbox, and the task that empties it.
pub(crate) struct Outgoing<T> {
    outbox: Mutex<Outbox<T>>,
    offered: Notify,
}

impl<T: Clone> Outgoing<T> {
    /// An empty one.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { outbox: Mutex::new(Outbox::new(bounds)), offered: Notify::new() }
    }

    /// The outbox.
    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox<T>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task look at the outbox: something was offered.
    pub(crate) fn look(&self) {
        self.offered.notify_one();
    }

    /// Sends what waits, as the outbox says, and never ends. `came` is told what came of an attempt before the outbox
    /// is, `settled` after it.
    pub(crate) async fn send_forever<S>(
        &self,
        send: impl Fn(T) -> S,
        came: impl Fn(&T, &Attempt),
        settled: impl Fn(&T),
    ) -> anyhow::Result<()>
    where
        S: Future<Output = (T, Attempt)>,
    {
        let mut sending = FuturesUnordered::new();
        loop {
            let wait = loop {
                let next = self.outbox().take(Timestamp::now());
                match next {
                    Next::Send(key, parcel) => {
                        let attempt = send(parcel);
                        sending.push(async move { (key, attempt.await) });
                    }
                    Next::Wait(until) => {
                        let left = until.duration_since(Timestamp::now());
                        break Some(Duration::try_from(left).unwrap_or_default());
                    }
                    Next::Idle => break None,
                }
            };
            tokio::select! {
                Some((key, (parcel, attempt))) = sending.next(), if !sending.is_empty() => {
                    came(&parcel, &attempt);
                    let draw = RandomState::new().build_hasher().finish();
                    self.outbox().settle(&key, attempt, Timestamp::now(), draw);
                    settled(&parcel);
                }
                () = self.offered.notified() => {}
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }
}
