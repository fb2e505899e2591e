//! How does an archive keep what belongs to no session? Under keys that no session has, and without an outbox: who
//! stores something waits for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::lines::Line;
use super::transfers::{Room, Transfers};
use super::{Archive, ArchiveError, SYMBOLS_PIECE};

/// Longest time to list a folder: somebody waits for it.
const LIST: Duration = Duration::from_secs(30);

/// An archive of the operator's own. Clones share it.
#[derive(Clone)]
pub struct SharedArchive {
    line: Arc<Line>,
    transfers: Transfers,
}

impl SharedArchive {
    pub(super) const fn new(line: Arc<Line>, transfers: Transfers) -> Self {
        Self { line, transfers }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.line.name
    }

    /// Why it takes nothing now, as far as is known without asking.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.line.problem().clone()
    }

    /// Waits until there is room in memory for a piece of a file.
    pub async fn room(&self) -> Room {
        self.transfers.take(SYMBOLS_PIECE as u64, false).await
    }

    /// Stores bytes under a key.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn keep(&self, key: &str, body: Bytes) -> Result<(), ArchiveError> {
        self.archive()?.keep(key, body).await
    }

    /// What lies under a key.
    ///
    /// # Errors
    /// `Missing`, `Failed`.
    pub async fn get(&self, key: &str) -> Result<Bytes, ArchiveError> {
        self.archive()?.get(key).await
    }

    /// Removes what lies under a key; no error when there is nothing.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn delete(&self, key: &str) -> Result<(), ArchiveError> {
        self.archive()?.delete(key).await
    }

    /// The keys in a folder below that of the cluster that `picks` and that are older than `age`.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn list(
        &self,
        below: &str,
        picks: &(dyn Fn(&str) -> bool + Send + Sync),
        age: Duration,
    ) -> Result<Vec<String>, ArchiveError> {
        let late = |_| Err(ArchiveError::Failed(format!("no list came within {} s", LIST.as_secs())));
        timeout(LIST, self.archive()?.list(below, picks, age)).await.unwrap_or_else(late)
    }

    /// Nothing is tried while the last check failed, so that nobody waits for a store that is down.
    fn archive(&self) -> Result<&dyn Archive, ArchiveError> {
        if let Some(problem) = self.problem() {
            return Err(ArchiveError::Failed(problem));
        }
        let none = || ArchiveError::Failed(format!("{} is not an archive", self.name()));
        self.line.destination.archive().ok_or_else(none)
    }
}
