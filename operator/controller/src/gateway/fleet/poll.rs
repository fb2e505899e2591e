//! How does an agent wait for orders?

use std::time::Duration;

use fleetprof_crds::wire::OrderList;

use super::Fleet;
use crate::gateway::PodId;

/// The leader does not know yet which captures are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct NotSynced;

impl Fleet {
    /// The open orders of a pod: at once when they are another version than the agent has, else as soon as
    /// they change, at the latest after `wait`. A waiting poll holds the pod's uid and a timer, nothing else.
    pub(in crate::gateway) async fn orders(
        &self,
        pod: &PodId,
        have: Option<u64>,
        wait: Duration,
    ) -> Result<OrderList, NotSynced> {
        let now = tokio::time::Instant::now();
        let deadline = now.checked_add(wait).unwrap_or(now);
        loop {
            // Listens from here on, before looking, so that no change falls between the two.
            let knock = self.0.wakeups.of(&pod.uid).notified();
            match self.state().version(&pod.uid) {
                None => return Err(NotSynced),
                Some(version) if Some(version) != have => break,
                Some(_) => {}
            }
            if tokio::time::timeout_at(deadline, knock).await.is_err() {
                break;
            }
        }
        self.state().orders(pod).ok_or(NotSynced)
    }
}
