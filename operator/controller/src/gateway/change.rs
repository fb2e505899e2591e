//! What happened in the fleet that somebody waits for?

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::PodId;

/// Something to look at again. It says where, not what: readers ask the fleet for the state.
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

/// The changes since [`super::Fleet::subscribe`].
#[derive(Debug)]
pub struct Changes(pub(super) broadcast::Receiver<Change>);

impl Changes {
    /// Waits for the next change; `None` when the fleet is gone. Safe to drop while it waits.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(RecvError::Lagged(_)) => Some(Change::Everything),
            Err(RecvError::Closed) => None,
        }
    }
}
