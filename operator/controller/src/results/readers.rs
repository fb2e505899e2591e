//! How do readers share the one merge at a time? They take turns by namespace, and none is waited for longer
//! than its API server waits.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::error::ResultsError;
use super::read::{Reading, Stacks, StoredFile, too_slow};
use super::store::Store;
use super::{Results, stopped};

/// Longest time for an answer, waiting for others included. API servers end a request after 60 s
/// (`--request-timeout`), with an error that says nothing.
pub const READ_TIME: Duration = Duration::from_secs(50);

/// When a reader is given up: when its first reading says, else after [`READ_TIME`].
fn until<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> Instant {
    let said = readings.into_iter().filter_map(|reading| reading.until).min();
    said.unwrap_or_else(|| Instant::now() + READ_TIME)
}

/// Gives the stacks of a reading, by its number.
pub type Load<'a> = &'a dyn Fn(usize) -> Result<Stacks, ResultsError>;

impl Results {
    /// What `render` makes of the stacks that the readings pick, which it loads one after the other: each is
    /// merged when it is asked for, so that no two need to be in memory. It runs where it may block, one at a
    /// time; the readers of different namespaces take turns.
    ///
    /// # Errors
    /// `Busy`: too many readers wait already, or it takes too long. For `render`, also `Missing`: there is no
    /// such profile. `Rejected`: they are too large to be merged at once. `NoProcess`, `Io`.
    pub async fn stacks<T: Send + 'static>(
        &self,
        mut readings: Vec<Reading>,
        render: impl FnOnce(Load<'_>) -> T + Send + 'static,
    ) -> Result<T, ResultsError> {
        let until = until(readings.iter());
        let compared = readings.len() > 1;
        for reading in &mut readings {
            (reading.until, reading.compared) = (Some(until), compared);
        }
        let session = readings.first().map(|reading| reading.session.clone()).unwrap_or_default();
        let work = move |store: &Store| {
            let load = |number: usize| store.stacks(readings.get(number).ok_or_else(stopped)?);
            Ok(render(&load))
        };
        self.read(&session, until, work).await
    }

    /// All profiles that are picked, merged into one gzipped pprof file.
    ///
    /// # Errors
    /// As [`stacks`](Self::stacks).
    pub async fn session_profile(&self, mut reading: Reading) -> Result<Bytes, ResultsError> {
        let until = until([&reading]);
        reading.until = Some(until);
        let session = reading.session.clone();
        self.read(&session, until, move |store| store.session_profile(&reading)).await
    }

    /// The stored file of the profile that is meant, to be passed on as it is; `None` when several are, or a
    /// part of one.
    ///
    /// # Errors
    /// `Missing`: there is none. `Io`.
    pub async fn stored_file(&self, reading: Reading) -> Result<Option<StoredFile>, ResultsError> {
        self.run(&self.chores, move |store| store.stored_file(&reading)).await
    }

    /// Merges for a reader, when it is the turn of its namespace.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        session_uid: &str,
        until: Instant,
        work: impl FnOnce(&Store) -> Result<T, ResultsError> + Send + 'static,
    ) -> Result<T, ResultsError> {
        let namespace = self.store.namespace(session_uid);
        let done = async {
            let turn = self.readers.take(&namespace).await.ok_or_else(|| {
                ResultsError::Busy("too many profiles are being read: try again in a few seconds".to_owned())
            })?;
            // With the work, which goes on when the reader goes away.
            self.run(&self.merges, move |store| {
                let _turn = turn;
                work(store)
            })
            .await
        };
        tokio::time::timeout_at(until.into(), done).await.unwrap_or_else(|_| Err(too_slow()))
    }
}
