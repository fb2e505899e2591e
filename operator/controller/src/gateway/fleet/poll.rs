//! How does an agent wait for orders?

use std::time::Duration;

use fleetprof_core::agent::AgentId;
use fleetprof_crds::wire::OrderList;
use tokio::time::{Instant, timeout_at};

use super::Fleet;
use super::answers::Look;
use super::nodes::node_key;

/// How long the first heartbeat of an agent is waited for: it was sent along with the first poll.
const INTRODUCTION: Duration = Duration::from_secs(1);

/// The leader does not know yet which captures are open, or what the agent sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct NotSynced;

impl Fleet {
    /// The open orders of an agent: at once when they are another version than the agent has, else
    /// as soon as they change, at the latest after `wait`. A waiting poll holds a name and a timer,
    /// nothing else.
    pub(in crate::gateway) async fn orders(
        &self,
        agent: &AgentId,
        instance: Option<&str>,
        have: Option<u64>,
        wait: Duration,
    ) -> Result<OrderList, NotSynced> {
        let start = Instant::now();
        let after = |wait: Duration| start.checked_add(wait).unwrap_or(start);
        loop {
            // Listens from here on, before looking, so that no change falls between the two.
            let knock = match agent {
                AgentId::Pod(agent) => self.0.wakeups.of(&agent.pod.uid),
                AgentId::Node { name, .. } => self.0.wakeups.of(&node_key(name)),
            }
            .notified();
            let look = self.look(agent, instance);
            let deadline = match &look {
                Look::NotSynced => return Err(NotSynced),
                Look::Orders(list) if Some(list.version) != have => break,
                Look::Orders(_) => after(wait),
                Look::Stranger => after(wait.min(INTRODUCTION)),
            };
            if timeout_at(deadline, knock).await.is_err() {
                break;
            }
        }
        match self.look(agent, instance) {
            Look::Orders(list) => Ok(list),
            Look::NotSynced | Look::Stranger => Err(NotSynced),
        }
    }

    fn look(&self, agent: &AgentId, instance: Option<&str>) -> Look {
        match agent {
            AgentId::Pod(agent) => self.state().look(agent, instance),
            AgentId::Node { name, .. } => self.state().look_of_node(name, instance),
        }
    }
}
