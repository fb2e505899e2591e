//! How much may one pod, and how much may all of them, ask for at one time?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::rate::Buckets;

/// Requests of a pod, in a row and a second. An agent that was cut off uploads dozens of slices in a row.
const REQUESTS: (f64, f64) = (60.0, 10.0);
/// Hanging polls of one pod. An agent has one; broken connections may hold some more until they end.
const POLLS_EACH: usize = 4;
/// Hanging polls of all pods.
const POLLS: usize = 100_000;
/// Uploads of one pod at one time.
const UPLOADS_EACH: usize = 4;
/// Uploads at one time; with [`fleetprof_crds::wire::MAX_SLICE_BYTES`] it bounds their memory to 128 MiB.
const UPLOADS: usize = 32;

/// The gateway's limits.
pub(super) struct Limits {
    pub(super) requests: Buckets<String>,
    pub(super) polls: Places,
    pub(super) uploads: Places,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: Buckets::new(REQUESTS.0, REQUESTS.1),
            polls: Places::new(POLLS_EACH, POLLS),
            uploads: Places::new(UPLOADS_EACH, UPLOADS),
        }
    }
}

/// Places that pods take and give back.
pub(super) struct Places {
    each: usize,
    all: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    by_pod: HashMap<String, usize>,
    all: usize,
}

/// A taken place; dropping it gives it back.
pub(super) struct Place {
    pod_uid: String,
    held: Arc<Mutex<Held>>,
}

/// No place is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    ForPod,
    ForAnyone,
}

impl Places {
    pub(super) fn new(each: usize, all: usize) -> Self {
        Self { each, all, held: Arc::default() }
    }

    pub(super) fn take(&self, pod_uid: &str) -> Result<Place, NoPlace> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.by_pod.get(pod_uid).is_some_and(|taken| *taken >= self.each) {
            return Err(NoPlace::ForPod);
        }
        if held.all >= self.all {
            return Err(NoPlace::ForAnyone);
        }
        held.all += 1;
        *held.by_pod.entry(pod_uid.to_owned()).or_default() += 1;
        Ok(Place { pod_uid: pod_uid.to_owned(), held: self.held.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(1);
        if let Some(taken) = held.by_pod.get_mut(&self.pod_uid) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                held.by_pod.remove(&self.pod_uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_and_for_all_and_given_back() {
        let places = Places::new(2, 3);
        let a = [places.take("a"), places.take("a")];
        assert_eq!(places.take("a").err(), Some(NoPlace::ForPod));
        let b = places.take("b");
        assert_eq!(places.take("c").err(), Some(NoPlace::ForAnyone));
        drop(b);
        assert!(places.take("c").is_ok());
        drop(a);
        let held = places.held.lock().unwrap();
        assert_eq!((held.all, held.by_pod.len()), (0, 0), "nothing is kept of a pod that holds no place");
    }
}
