//! Where does a hanging poll sleep?

use std::hash::{BuildHasher, RandomState};

use tokio::sync::Notify;

/// Doors of the fleet. Memory is fixed whatever the number of pods; the price is that one order wakes the
/// polls of one pod in so many, which look at their list and sleep again.
const DOORS: usize = 1024;

/// A fixed number of places to sleep, shared by pods.
#[derive(Debug)]
pub(super) struct Doors {
    doors: Box<[Notify]>,
    // Random, so that no pod can choose to sleep at another's door.
    hasher: RandomState,
}

impl Default for Doors {
    fn default() -> Self {
        Self { doors: (0..DOORS).map(|_| Notify::new()).collect(), hasher: RandomState::new() }
    }
}

impl Doors {
    pub(super) fn of(&self, pod_uid: &str) -> &Notify {
        &self.doors[(self.hasher.hash_one(pod_uid) % DOORS as u64) as usize]
    }

    pub(super) fn wake(&self, pod_uid: &str) {
        self.of(pod_uid).notify_waiters();
    }

    pub(super) fn wake_all(&self) {
        self.doors.iter().for_each(Notify::notify_waiters);
    }
}
