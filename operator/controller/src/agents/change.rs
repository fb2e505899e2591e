//! What happened to agents and captures that somebody waits for?

use fleetprof_core::agent::PodId;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Something to look at again. It says where, not what: readers ask for the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A report of one of the session's captures changed, or a slice was stored for it.
    Session {
        /// Namespace of the session.
        namespace: String,
        /// Name of the session.
        name: String,
    },
    /// An agent appeared, vanished, was restarted, sees other containers, or a container is over a line that
    /// is watched.
    Agent(PodId),
    /// The reader was too slow and changes were dropped: look at everything again.
    Everything,
}

/// The changes since [`super::Agents::changes`].
#[derive(Debug)]
pub struct Changes(broadcast::Receiver<Change>);

impl From<broadcast::Receiver<Change>> for Changes {
    fn from(receiver: broadcast::Receiver<Change>) -> Self {
        Self(receiver)
    }
}

impl Changes {
    /// Waits for the next change; `None` when there is nobody left to tell. Safe to drop while it waits.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(_)) => Some(Change::Everything),
            Err(RecvError::Closed) => None,
        }
    }
}
