//! How does an agent wait for orders?

use std::time::Duration;

use fleetprof_crds::wire::OrderList;

use super::Fleet;

/// The leader does not know yet which captures are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct NotSynced;

impl Fleet {
    /// The open orders of a pod: at once when they are another version than the agent has, else as soon as
    /// they change, at the latest after `wait`. A waiting poll holds the pod's uid and a timer, nothing else.
    pub(in crate::gateway) async fn orders(
        &self,
        pod_uid: &str,
        have: Option<u64>,
        wait: Duration,
    ) -> Result<OrderList, NotSynced> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            // Listens from here on, before looking, so that no change falls between the two.
            let knock = self.0.wakeups.of(pod_uid).notified();
            match self.state().version(pod_uid) {
                None => return Err(NotSynced),
                Some(version) if Some(version) != have => break,
                Some(_) => {}
            }
            if tokio::time::timeout_at(deadline, knock).await.is_err() {
                break;
            }
        }
        self.state().orders(pod_uid).ok_or(NotSynced)
    }
}
