//! Where do captured profiles stay until their session ends its life? In files on one volume.
//!
//! ```text
//! gateway ─► put_slice ─► slices/SESSION/CAPTURE/TYPE-SEQ.pb.gz
//!                                      │ assemble, kind by kind: merge, label, store, drop the slices
//! sessions ──────────────────────────► profiles/CLUSTER/NAMESPACE/WORKLOAD/DATE/SESSION/POD_CONTAINER_TYPE.pb.gz
//!                                      │
//! data_api ◄─ session_profile · stacks ┘      retention: delete_session · sweep · eviction
//! ```
//! The volume is shared by namespace ([`fleetprof_core::storage`]): one that is over its share loses its oldest
//! results before anybody is refused.
//! Guarantees: a file is whole or not there; what was answered with `Ok` survives a crash; every operation
//! may be repeated after a crash at any point and then ends the same way. One process writes: the leader.
//! Assumption: no other process writes below the root while this one does.

mod assemble;
mod compare;
mod disk;
mod elsewhere;
mod error;
mod file;
mod index;
mod key;
mod metrics;
mod mirror;
mod naming;
mod pprof;
mod put;
mod read;
mod readers;
mod retention;
mod room;
mod scan;
mod space;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod turns;
mod uploads;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleetprof_core::capture::CaptureScope;
use fleetprof_core::storage::quota::Quotas;
use fleetprof_crds::session_status::{StoredProfile, TopFunction};
use fleetprof_crds::wire::{Problem, SliceId};
use fleetprof_crds::{DEFAULT_DESTINATION, ProfileKind};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::destinations::{DestinationMetrics, Destinations, Named};
use crate::gateway::{SinkError, SliceSink, Stored};
use crate::symbols::Symbols;

pub use error::ResultsError;
use file::Volume;
pub use index::Merged;
pub use metrics::ResultsMetrics;
use mirror::Intake;
use naming::Told;
pub use pprof::{Idle, top_function};
pub use read::{Reading, Stacks, StoredFile};
pub use readers::{Load, READ_TIME};
pub use retention::{Owned, Removed};
pub use space::Usage;
use store::Store;
use turns::Turns;

/// Slices that are checked and written at once; each may take 90 MiB when it is hostile, a few otherwise.
const UPLOADS: usize = 2;
/// Merges at once; each may take 250 MiB when its input is hostile, a few otherwise.
///
/// A comparison merges one session after the other, and holds some 50 MiB of the first beside the second,
/// whose budget is smaller.
///
/// So the operator's memory limit of 512 MiB holds whatever agents send: 2 × 90 + 250, and the 32 MiB of
/// bodies that arrive or wait (`UPLOADS_MIB` of the gateway), are 462. Profiles on their way to destinations and
/// back take 16 MiB more, or the place of a merge ([`crate::destinations`]). What is left is for the process
/// and its connections, see [`crate::server::Server`].
///
/// The end of a session waits for one reader at most: readers take turns before they queue for the merge.
const MERGES: usize = 1;
/// Other work at once.
const CHORES: usize = 4;

/// Where and how results are kept.
#[derive(Clone, Debug)]
pub struct ResultsConfig {
    /// Folder on the volume, such as `/var/lib/fleetprof`. Made when it is not there.
    pub root: PathBuf,
    /// Name of the cluster in keys and labels.
    pub cluster: String,
    /// Most bytes to use, for volumes that do not enforce their size, such as an emptyDir with a size limit.
    pub capacity: Option<u64>,
    /// Share of each namespace in percent of the volume, 1 to 100.
    pub share: u8,
    /// What single namespaces, or all, may have at most.
    pub quotas: Quotas,
}

/// What is stored of one kind of a capture that has no profile yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredSlices {
    /// Slices.
    pub slices: u32,
    /// Samples in them.
    pub samples: i64,
    /// Bytes of them, as stored.
    pub bytes: u64,
}

/// The results on the volume. Clones share it.
#[derive(Clone)]
pub struct Results {
    store: Arc<Store>,
    destinations: Destinations,
    /// Why the last slice of a namespace was refused, where it was for want of room.
    refused: Arc<Mutex<HashMap<String, Problem>>>,
    uploads: Arc<Semaphore>,
    merges: Arc<Semaphore>,
    readers: Turns,
    chores: Arc<Semaphore>,
    /// Slices in archives whose profile is not there yet, by its key.
    intake: Arc<Mutex<HashMap<String, Intake>>>,
    symbols: Symbols,
    told: Arc<Told>,
}

impl Results {
    /// Opens the volume, with no destination beside it: removes unfinished files and indexes the others.
    ///
    /// # Errors
    /// `Io` or `Full`: the volume cannot be read or written.
    pub async fn open(config: ResultsConfig, metrics: ResultsMetrics) -> Result<Self, ResultsError> {
        let build = |_: &Arc<Semaphore>| vec![Named::volume(DEFAULT_DESTINATION)];
        Self::open_with(config, metrics, (build, DestinationMetrics::default())).await
    }

    /// The same with destinations. What takes as much memory as a merge waits for what they are built with.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        config: ResultsConfig,
        metrics: ResultsMetrics,
        (build, of_destinations): (impl FnOnce(&Arc<Semaphore>) -> Vec<Named>, DestinationMetrics),
    ) -> Result<Self, ResultsError> {
        let store = join(
            tokio::task::spawn_blocking(move || Store::open(config, metrics, Box::new(disk::Volume))).await,
        )?;
        let merges = Arc::new(Semaphore::new(MERGES));
        let destinations = build(&merges);
        Ok(Self::of(store, merges, (destinations, of_destinations)))
    }

    fn of(store: Store, merges: Arc<Semaphore>, (named, metrics): (Vec<Named>, DestinationMetrics)) -> Self {
        let permits = |n| Arc::new(Semaphore::new(n));
        let store = Arc::new(store);
        let volume = Arc::new(Volume(Arc::clone(&store)));
        Self {
            destinations: Destinations::new(named, volume, metrics, &merges),
            store,
            refused: Arc::default(),
            uploads: permits(UPLOADS),
            merges,
            readers: Turns::default(),
            chores: permits(CHORES),
            intake: Arc::default(),
            symbols: Symbols::default(),
            told: Arc::default(),
        }
    }

    /// The same, with names from where an administrator keeps symbols.
    #[must_use]
    pub fn named_by(self, symbols: Symbols) -> Self {
        symbols.archived_in(&self.destinations, &self.store.config.cluster_component());
        Self { symbols, ..self }
    }

    /// What is stored of one kind of a capture; nothing once its profile was made.
    ///
    /// # Errors
    /// `Io`: a slice of an earlier process cannot be read.
    pub async fn stored(&self, capture: &str, kind: ProfileKind) -> Result<StoredSlices, ResultsError> {
        let capture = capture.to_owned();
        self.run(&self.chores, move |store| store.stored(&capture, kind)).await
    }

    /// Makes the profile of one kind of a capture from the slices that are stored, labels it, stores it, and
    /// drops the slices. May be repeated: once the profile is stored, it is answered again.
    ///
    /// # Errors
    /// `Missing`: fewer than `slices` are stored (or none), and no profile. `Full`, `Io`: try again later.
    pub async fn assemble(
        &self,
        scope: &CaptureScope,
        kind: ProfileKind,
        slices: u32,
    ) -> Result<StoredProfile, ResultsError> {
        let mirrored = self.mirrored(scope, kind);
        let made = self.assemble_named(scope, kind, slices).await?;
        self.keep_intake(scope, &made.uri, mirrored);
        Ok(made)
    }

    /// The profile of the slices that the volume holds, for when no others will come; `None` without a sample.
    pub async fn held(&self, scope: &CaptureScope, kind: ProfileKind) -> Option<StoredProfile> {
        let stored = self.stored(&scope.capture, kind).await.ok()?;
        let profile = self.assemble(scope, kind, stored.slices).await.ok()?;
        (profile.samples > 0).then_some(profile)
    }

    /// The `n` hottest functions over these profiles of a session, for its status; over all of that kind when
    /// `keys` is empty. Threads that had nothing to do are no function.
    ///
    /// # Errors
    /// `Missing`: there is none of them. `Rejected`: they are too large to be merged at once. `Io`.
    pub async fn top(
        &self,
        session_uid: &str,
        kind: ProfileKind,
        keys: &[String],
        n: usize,
    ) -> Result<Vec<TopFunction>, ResultsError> {
        let keys = (!keys.is_empty()).then(|| keys.to_vec());
        let reading = Reading { keys, ..Reading::of(session_uid, kind) };
        let hottest =
            move |store: &Store| store.stacks(&reading).map(|stacks| pprof::hottest(&stacks.profile, n));
        let top = self.run(&self.merges, hottest).await?;
        Ok(top.rows.iter().filter(|row| !row.is_idle()).map(top_function).collect())
    }

    /// Removes everything of a session.
    ///
    /// # Errors
    /// `Io`: some of it is still there; try again later.
    pub async fn delete_session(&self, session_uid: &str) -> Result<Removed, ResultsError> {
        let session = session_uid.to_owned();
        self.run(&self.chores, move |store| store.delete_session(&session)).await
    }

    /// Removes everything of sessions whose uid is not in `live` and whose newest file is older than
    /// `min_age`. `live` must hold **every** session of the cluster: ask only with a cache that is synced.
    ///
    /// # Errors
    /// `Io`: some of it is still there; try again later.
    pub async fn sweep(&self, live: &HashSet<String>, min_age: Duration) -> Result<Removed, ResultsError> {
        let live = live.clone();
        self.run(&self.chores, move |store| store.sweep(&live, min_age)).await
    }

    /// What the profile of one kind of a capture was made of; nothing where an earlier process made it.
    ///
    /// # Errors
    /// `Io`: the work was interrupted.
    pub async fn merged(
        &self,
        scope: &CaptureScope,
        kind: ProfileKind,
    ) -> Result<Option<Merged>, ResultsError> {
        let scope = scope.clone();
        self.run(&self.chores, move |store| Ok(store.made_of(&scope, kind))).await
    }

    /// Records what the sessions of the cluster say of their results. Slices that an earlier process stored count
    /// to somebody from then on; mere copies go first when the volume fills up, and what is to be kept last.
    ///
    /// # Errors
    /// `Io`: the work was interrupted.
    pub async fn own(&self, owned: Owned) -> Result<(), ResultsError> {
        let namespaces: HashSet<String> = owned.namespaces.values().cloned().collect();
        self.refusals().retain(|namespace, _| namespaces.contains(namespace));
        self.run(&self.chores, move |store| {
            store.own(&owned);
            Ok(())
        })
        .await
    }

    /// Why the last slice of the namespace was refused, where it was for want of room. Agents keep it and try
    /// again.
    #[must_use]
    pub fn refused(&self, namespace: &str) -> Option<Problem> {
        self.refusals().get(namespace).cloned()
    }

    fn refusals(&self) -> MutexGuard<'_, HashMap<String, Problem>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, namespace: &str, put: &Result<bool, ResultsError>) {
        let problem = match put {
            Err(error @ (ResultsError::Full(message) | ResultsError::NamespaceFull(message))) => {
                Problem { reason: error.reason(), message: message.clone() }
            }
            _ => {
                self.refusals().remove(namespace);
                return;
            }
        };
        self.refusals().insert(namespace.to_owned(), problem);
    }

    /// What is used and what is free; also brings the metrics up to date.
    ///
    /// # Errors
    /// `Io`: the volume does not answer.
    pub async fn usage(&self) -> Result<Usage, ResultsError> {
        self.expire_uploads();
        let measure = |store: &Store| {
            // A download or an upload may have ended since.
            store.measure_symbols();
            store.usage()
        };
        self.run(&self.chores, measure).await
    }

    /// Runs file work where it may block. It runs to its end even when the caller goes away.
    async fn run<T: Send + 'static>(
        &self,
        permits: &Arc<Semaphore>,
        work: impl FnOnce(&Store) -> Result<T, ResultsError> + Send + 'static,
    ) -> Result<T, ResultsError> {
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| stopped())?;
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&store)
        });
        join(done.await)
    }
}

fn join<T>(done: Result<Result<T, ResultsError>, tokio::task::JoinError>) -> Result<T, ResultsError> {
    done.unwrap_or_else(|_| Err(stopped()))
}

fn stopped() -> ResultsError {
    ResultsError::Io(
        "processing on the results volume was interrupted: see the operator log, and try again".to_owned(),
    )
}

impl SliceSink for Results {
    fn put_slice<'a>(
        &'a self,
        scope: &'a CaptureScope,
        slice: SliceId,
        body: Bytes,
        _sha256: [u8; 32],
    ) -> BoxFuture<'a, Result<Stored, SinkError>> {
        let (scope, namespace) = (scope.clone(), scope.session_namespace.clone());
        async move {
            let (own, bytes) = (scope.clone(), body.clone());
            let put = self.run(&self.uploads, move |store| store.put_slice(&own, slice, &bytes)).await;
            if matches!(put, Ok(false)) {
                self.mirror(&scope, slice, body).await;
            }
            self.note(&namespace, &put);
            put.map(|duplicate| Stored { duplicate }).map_err(|error| match error {
                ResultsError::Rejected(sentence) => SinkError::Rejected(sentence),
                ResultsError::Conflict(_) => SinkError::Conflict,
                ResultsError::Full(_) => SinkError::Full,
                ResultsError::NamespaceFull(sentence) => SinkError::NamespaceFull(sentence),
                ResultsError::Missing(sentence)
                | ResultsError::NoProcess(sentence)
                | ResultsError::Busy(sentence)
                | ResultsError::Io(sentence) => SinkError::Io(sentence),
            })
        }
        .boxed()
    }
}
