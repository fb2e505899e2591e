//! How long does a profile wait for names?

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::debuginfod::Download;

/// Longest time that a profile waits for names, beside the turns in which files are read.
const WAIT: Duration = Duration::from_secs(30);
/// How long after its beginning a download is waited for. It goes on, for the next profile.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is left of the time that a profile waits.
pub(super) struct Left(Duration);

impl Left {
    /// All of it.
    pub(super) const fn new() -> Self {
        Self(WAIT)
    }

    /// Does something that takes of it.
    pub(super) async fn spend<T, E: From<String>>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let start = Instant::now();
        let late = |_| Err(format!("naming functions took longer than {} s", WAIT.as_secs()).into());
        let done = timeout(self.0, work).await.unwrap_or_else(late);
        self.0 = self.0.saturating_sub(start.elapsed());
        done
    }

    /// Waits for a download, if that did not begin too long ago.
    pub(super) async fn wait(
        &mut self,
        since: Instant,
        download: Download,
    ) -> Result<Option<PathBuf>, String> {
        let patience = PATIENCE.saturating_sub(since.elapsed());
        let late = |_| Err("its symbols are still being downloaded: capture again to have names".to_owned());
        self.spend(async { timeout(patience, download).await.unwrap_or_else(late) }).await
    }

    /// Waits for a download that may have begun: what came of it, and why nothing.
    pub(super) async fn wait_for(
        &mut self,
        begun: Option<(Instant, Download)>,
    ) -> (Option<PathBuf>, Option<String>) {
        let Some((since, download)) = begun else { return (None, None) };
        match self.wait(since, download).await {
            Ok(path) => (path, None),
            Err(why) => (None, Some(why)),
        }
    }
}
