//! How is the results volume a destination? The one that the others are sent from, and that copies come back to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fleetprof_core::outbox::Attempt;
use fleetprof_crds::Reason;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::error::ResultsError;
use super::key::Key;
use super::retention::Removed;
use super::store::Store;
use crate::destinations::{Archive, ArchiveError, Destination, Parcel};

/// Profiles as files on the volume.
pub(super) struct Volume(pub(super) Arc<Store>);

impl Volume {
    /// Runs file work where it may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ResultsError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let store = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|_| Err(super::stopped())).map_err(ArchiveError::from)
    }
}

impl From<ResultsError> for ArchiveError {
    fn from(error: ResultsError) -> Self {
        match error {
            ResultsError::Missing(why) => Self::Missing(why),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl Destination for Volume {
    fn put<'a>(&'a self, parcel: &'a Parcel, profile: Bytes) -> BoxFuture<'a, Attempt> {
        async move {
            match self.keep(&parcel.key, profile).await {
                Ok(()) => Attempt::Stored,
                Err(ArchiveError::Missing(why)) => Attempt::Failed(Reason::UploadRejected, why),
                Err(ArchiveError::Failed(why)) => Attempt::Again(why, None),
            }
        }
        .boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        async { self.run(Store::usage).await.map(|_| ()).map_err(|error| error.to_string()) }.boxed()
    }

    fn archive(&self) -> Option<&dyn Archive> {
        Some(self)
    }
}

impl Archive for Volume {
    fn keep<'a>(&'a self, key: &'a str, body: Bytes) -> BoxFuture<'a, Result<(), ArchiveError>> {
        let key = key.to_owned();
        self.run(move |store| store.restore(&Key::parse(&key)?, &body)).boxed()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Bytes, ArchiveError>> {
        let key = key.to_owned();
        self.run(move |store| store.read_profile(&Key::parse(&key)?).map(Bytes::from)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), ArchiveError>> {
        let key = key.to_owned();
        self.run(move |store| store.remove_profile(&Key::parse(&key)?)).boxed()
    }

    fn list<'a>(
        &'a self,
        below: &'a str,
        picks: &'a (dyn Fn(&str) -> bool + Send + Sync),
        age: Duration,
    ) -> BoxFuture<'a, Result<Vec<String>, ArchiveError>> {
        let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let keys = self.0.index().keys_before(before);
        let inside = |key: &String| key.split_once('/').is_some_and(|(_, rest)| rest.starts_with(below));
        std::future::ready(Ok(keys.into_iter().filter(|key| inside(key) && picks(key)).collect())).boxed()
    }
}

impl Store {
    /// Brings a copy of a profile that lies elsewhere back to the volume; nothing is to be done where it is.
    ///
    /// # Errors
    /// `Full`: there is no room, and no other copy to make some. `Io`.
    pub(super) fn restore(&self, key: &Key, profile: &[u8]) -> Result<(), ResultsError> {
        let _room = self.lock_assembling();
        if self.index().has(key) {
            return Ok(());
        }
        let admit = |bytes, writing| self.admit_copy(bytes, writing);
        self.write(&key.path(&self.profiles()), profile, None, admit, |index, facts| {
            index.copied(key.session());
            index.add_profile(key.clone(), facts);
        })
    }

    /// Removes one profile.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn remove_profile(&self, key: &Key) -> Result<(), ResultsError> {
        let mut removed = Removed::default();
        self.remove(key, &mut removed)
    }
}
