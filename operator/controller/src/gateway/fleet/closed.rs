//! Which captures were closed lately, and whose were they?

use std::collections::{HashMap, VecDeque};

/// Closed captures that are remembered, the oldest are forgotten first.
pub(super) const CLOSED_KEPT: usize = 8192;

/// A bounded memory of closed captures.
#[derive(Debug, Default)]
pub(super) struct Closed {
    pod_uids: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Closed {
    pub(super) fn remember(&mut self, capture: &str, pod_uid: &str) {
        self.forget(capture);
        while self.order.len() >= CLOSED_KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.pod_uids.remove(&oldest);
            }
        }
        self.order.push_back(capture.to_owned());
        self.pod_uids.insert(capture.to_owned(), pod_uid.to_owned());
    }

    /// A capture is opened again; rare, so a walk is good enough.
    pub(super) fn forget(&mut self, capture: &str) {
        if self.pod_uids.remove(capture).is_some() {
            self.order.retain(|kept| kept != capture);
        }
    }

    /// Uid of the pod that a closed capture was of.
    pub(super) fn pod_of(&self, capture: &str) -> Option<&str> {
        self.pod_uids.get(capture).map(String::as_str)
    }

    pub(super) fn was_of(&self, capture: &str, pod_uid: &str) -> bool {
        self.pod_uids.get(capture).is_some_and(|uid| uid == pod_uid)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.order.len(), self.pod_uids.len());
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_latest_and_whose_they_were() {
        let mut closed = Closed::default();
        for n in 0..CLOSED_KEPT + 10 {
            closed.remember(&format!("c{n}"), "pod");
        }
        assert_eq!(closed.len(), CLOSED_KEPT);
        assert!(!closed.was_of("c9", "pod"));
        assert!(closed.was_of("c10", "pod"));
        assert!(!closed.was_of("c10", "other"));
    }

    #[test]
    fn closing_twice_takes_one_place() {
        let mut closed = Closed::default();
        closed.remember("c", "pod");
        closed.remember("c", "pod");
        assert_eq!(closed.len(), 1);
        closed.forget("c");
        assert_eq!(closed.len(), 0);
    }
}
