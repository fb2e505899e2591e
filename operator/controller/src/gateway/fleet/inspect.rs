//! What do tests look at that nobody else may?

use fleetprof_crds::wire::OrderList;

use super::Fleet;
use crate::gateway::Change;

/// How much is held.
#[derive(Debug)]
pub(in crate::gateway) struct Held {
    pub(in crate::gateway) agents: usize,
    pub(in crate::gateway) captures: usize,
    pub(in crate::gateway) pods: usize,
    pub(in crate::gateway) closed: usize,
}

impl Fleet {
    pub(in crate::gateway) fn held(&self) -> Held {
        self.state().held()
    }

    /// The orders of a pod, synced or not.
    pub(in crate::gateway) fn orders_now(&self, pod_uid: &str) -> OrderList {
        self.state().list(pod_uid)
    }

    pub(in crate::gateway) fn tell_for_test(&self, change: Change) {
        self.tell(change);
    }
}
