//! Which agent is meant, and what did it say last?

use fleetprof_core::agent::PodId;
use fleetprof_crds::wire::Heartbeat;
use jiff::Timestamp;

/// An agent that reports.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    /// The pod that it serves.
    pub pod: PodId,
    /// Its last heartbeat, cleaned: texts are bounded and printable, numbers are in range.
    pub heartbeat: Heartbeat,
    /// When that heartbeat came.
    pub received: Timestamp,
}
