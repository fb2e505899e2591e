//! How is a hanging poll woken when its pod's orders change?

use std::hash::{BuildHasher, RandomState};

use tokio::sync::Notify;

/// Wake-ups of the fleet. Memory is fixed whatever the number of pods; the price is that one order wakes the
/// polls of one pod in so many, which look at their list and sleep again.
const WAKEUPS: usize = 1024;

/// A fixed number of wake-ups, shared by pods.
#[derive(Debug)]
pub(super) struct Wakeups {
    wakeups: Box<[Notify]>,
    // Random, so that no pod can choose which others share its wake-up.
    hasher: RandomState,
}

impl Default for Wakeups {
    fn default() -> Self {
        Self { wakeups: (0..WAKEUPS).map(|_| Notify::new()).collect(), hasher: RandomState::new() }
    }
}

impl Wakeups {
    pub(super) fn of(&self, pod_uid: &str) -> &Notify {
        &self.wakeups[(self.hasher.hash_one(pod_uid) % WAKEUPS as u64) as usize]
    }

    pub(super) fn wake(&self, pod_uid: &str) {
        self.of(pod_uid).notify_waiters();
    }

    pub(super) fn wake_all(&self) {
        self.wakeups.iter().for_each(Notify::notify_waiters);
    }
}
