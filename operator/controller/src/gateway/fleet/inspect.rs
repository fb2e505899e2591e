//! What do tests look at that nobody else may?

use std::sync::Arc;

use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::{CaptureReport, OrderList};

use super::Fleet;
use crate::agents::Change;

/// How much is held.
#[derive(Debug)]
pub(in crate::gateway) struct Held {
    pub(in crate::gateway) agents: usize,
    pub(in crate::gateway) captures: usize,
    pub(in crate::gateway) pods: usize,
    pub(in crate::gateway) closed: usize,
    pub(in crate::gateway) watches: usize,
}

impl Fleet {
    pub(in crate::gateway) fn held(&self) -> Held {
        self.state().held()
    }

    pub(in crate::gateway) fn scope(&self, capture: &str) -> Option<Arc<CaptureScope>> {
        self.capture(capture).map(|view| view.scope)
    }

    pub(in crate::gateway) fn report(&self, capture: &str) -> Option<CaptureReport> {
        self.capture(capture).and_then(|view| view.report)
    }

    pub(in crate::gateway) fn open_captures(&self) -> Vec<String> {
        self.state().scopes().iter().map(|scope| scope.capture.clone()).collect()
    }

    /// The orders of a pod, synced or not.
    pub(in crate::gateway) fn orders_now(&self, pod_uid: &str) -> OrderList {
        self.state().list(pod_uid)
    }

    pub(in crate::gateway) fn tell_for_test(&self, change: Change) {
        self.tell(change);
    }
}
