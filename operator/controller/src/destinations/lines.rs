//! How do profiles get to each destination, whatever the others do? Each has a line of its own: an outbox, a task
//! that sends, one that checks, and one that deletes.

mod work;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleetprof_core::destination::{Delivery, Withdrawal};
use fleetprof_core::outbox::{Attempt, Bounds, Outbox};
use fleetprof_crds::session_status::StoredProfile;
use fleetprof_crds::{DEFAULT_DESTINATION, Reason};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::work::{Source, check_forever, delete_forever, search, send_forever};
use super::transfers::{Room, Transfers};
use super::{ArchiveError, Destination, DestinationMetrics, Parcel, SharedArchive, session_of};
use crate::outgoing::Outgoing;

/// Most parcels that wait for one destination; each takes some 600 bytes of memory, and its profile lies on the
/// volume.
const WAITING: usize = 50_000;
/// Longest time in which a slice is kept in an archive as well, while its agent waits.
const KEEP: Duration = Duration::from_secs(5);
/// Keys that wait to be deleted; more are found by the next sweep.
const MOST_GONE: usize = 100_000;
/// How often a destination is searched for profiles without a session: each time lists all of it.
const SWEEP: Duration = Duration::from_secs(6 * 3600);
/// When it is searched first: a leader has other things to do at the start.
const FIRST_SWEEP: Duration = Duration::from_secs(900);

/// Has the controller look at a session, by namespace and name.
pub type Wake = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// A destination with its name.
pub struct Named {
    name: String,
    /// `None`: the results volume.
    destination: Option<Arc<dyn Destination>>,
}

impl Named {
    /// The results volume.
    #[must_use]
    pub fn volume(name: &str) -> Self {
        Self { name: name.to_owned(), destination: None }
    }

    /// Any other.
    #[must_use]
    pub fn remote(name: &str, destination: Arc<dyn Destination>) -> Self {
        Self { name: name.to_owned(), destination: Some(destination) }
    }

    /// Whether it is the results volume.
    #[must_use]
    pub fn is_volume(&self) -> bool {
        self.destination.is_none()
    }
}

pub(super) struct Line {
    pub(super) name: String,
    pub(super) destination: Arc<dyn Destination>,
    is_volume: bool,
    outgoing: Outgoing<Parcel>,
    /// Keys to delete.
    gone: Mutex<VecDeque<String>>,
    deleted: Notify,
    /// What the last check found, if it found anything.
    problem: Mutex<Option<String>>,
    next_sweep: Mutex<Instant>,
}

/// The configured destinations. Clones share them.
#[derive(Clone)]
pub struct Destinations(Arc<Inner>);

struct Inner {
    lines: BTreeMap<String, Arc<Line>>,
    volume: Arc<dyn Destination>,
    metrics: DestinationMetrics,
    transfers: Transfers,
}

impl Destinations {
    /// These destinations, of which those that are the results volume are `volume`; profiles are sent from there.
    #[must_use]
    pub fn new(
        named: Vec<Named>,
        volume: Arc<dyn Destination>,
        metrics: DestinationMetrics,
        merges: &Arc<Semaphore>,
    ) -> Self {
        let transfers = Transfers::new(merges);
        let line = |named: Named| {
            let is_volume = named.is_volume();
            let destination = named.destination.unwrap_or_else(|| volume.clone());
            let bounds = Bounds { waiting: WAITING, at_once: destination.at_once() };
            let line = Line {
                name: named.name.clone(),
                destination,
                is_volume,
                outgoing: Outgoing::new(bounds),
                gone: Mutex::default(),
                deleted: Notify::new(),
                problem: Mutex::default(),
                next_sweep: Mutex::new(Instant::now() + FIRST_SWEEP),
            };
            (named.name, Arc::new(line))
        };
        Self(Arc::new(Inner { lines: named.into_iter().map(line).collect(), volume, metrics, transfers }))
    }

    /// Waits until there is room in memory for a profile of so many bytes that comes from an archive; 0 where that is
    /// not known.
    pub async fn room(&self, bytes: u64) -> Room {
        self.0.transfers.take(bytes, false).await
    }

    /// Their names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.lines.keys().cloned().collect()
    }

    /// The names of those, other than the results volume, that profiles can be read from.
    #[must_use]
    pub fn archives(&self) -> HashSet<String> {
        self.remote_archives().map(|line| line.name.clone()).collect()
    }

    fn remote_archives(&self) -> impl Iterator<Item = &Arc<Line>> {
        self.0.lines.values().filter(|line| !line.is_volume && line.destination.archive().is_some())
    }

    /// The archive for what belongs to no session: the destination `default`, or else the first by name. `None` where
    /// neither is one.
    #[must_use]
    pub fn shared_archive(&self) -> Option<SharedArchive> {
        let default = self.remote_archives().find(|line| line.name == DEFAULT_DESTINATION);
        let line = default.or_else(|| self.remote_archives().next())?;
        Some(SharedArchive::new(Arc::clone(line), self.0.transfers.clone()))
    }

    /// Starts to send, check and delete. `wake` is told of sessions one of whose profiles has arrived, or never
    /// will.
    pub fn start(&self, wake: &Wake, tasks: &mut JoinSet<anyhow::Result<()>>) {
        for line in self.0.lines.values().filter(|line| !line.is_volume) {
            let (volume, metrics) = (self.0.volume.clone(), self.0.metrics.clone());
            let from = Source { volume, transfers: self.0.transfers.clone() };
            tasks.spawn(send_forever(line.clone(), from, metrics.clone(), wake.clone()));
            tasks.spawn(check_forever(line.clone(), metrics));
            if line.destination.archive().is_some() {
                tasks.spawn(delete_forever(line.clone()));
            }
        }
    }

    /// Whether a destination of this name is the results volume.
    #[must_use]
    pub fn is_volume(&self, name: &str) -> bool {
        self.0.lines.get(name).is_some_and(|line| line.is_volume)
    }

    /// Sends a profile that lies on the results volume, or says what became of that.
    #[must_use]
    pub fn deliver(&self, name: &str, parcel: Parcel) -> Delivery {
        let Some(line) = self.0.lines.get(name) else {
            let why = format!("{name} is not configured any more");
            return Delivery::Failed(Reason::DestinationUnknown, why);
        };
        if line.is_volume {
            return Delivery::Stored;
        }
        let key = parcel.key.clone();
        let delivery = line.outbox().offer(&key, parcel, Timestamp::now());
        line.outgoing.look();
        match delivery {
            Delivery::Underway(None) => Delivery::Underway(line.problem().clone()),
            delivery => delivery,
        }
    }

    /// Takes a profile back that is not to be sent any more, but for one attempt where there was none.
    #[must_use]
    pub fn withdraw(&self, name: &str, parcel: Parcel) -> Withdrawal {
        let Some(line) = self.0.lines.get(name) else {
            return Withdrawal::Withdrawn(Some(format!("{name} is not configured any more")));
        };
        if line.is_volume {
            return Withdrawal::Settled(Delivery::Stored);
        }
        let key = parcel.key.clone();
        let withdrawal = line.outbox().withdraw(&key, parcel, Timestamp::now());
        line.outgoing.look();
        withdrawal
    }

    /// The profile with that key, of the first of the named destinations that has it.
    ///
    /// # Errors
    /// `Missing`: none has it, or can be read from. `Failed`: one did not answer, and no other has it.
    pub async fn get(&self, names: &[String], key: &str) -> Result<Bytes, ArchiveError> {
        let mut last = ArchiveError::Missing(match names {
            [] => "only the results volume held it".to_owned(),
            names => format!("profiles cannot be read from {}", names.join(", ")),
        });
        for line in self.remote_archives().filter(|line| names.contains(&line.name)) {
            let Some(archive) = line.destination.archive() else { continue };
            match archive.get(key).await {
                Ok(profile) => return Ok(profile),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Keeps bytes in an archive under that key now, once; whether it took them. Nothing is tried while the archive
    /// is known to fail, so that nobody waits for it.
    pub async fn keep(&self, name: &str, parcel: Parcel, body: Bytes) -> bool {
        let Some(line) = self.remote_archives().find(|line| line.name == name) else { return false };
        if line.problem().is_some() {
            return false;
        }
        let late = |_| Attempt::Again(format!("no answer within {} s", KEEP.as_secs()), None);
        match timeout(KEEP, line.destination.put(&parcel, body)).await.unwrap_or_else(late) {
            Attempt::Stored => true,
            Attempt::Again(why, _) | Attempt::Failed(_, why) => {
                // Until the next check.
                let _ = line.problem().get_or_insert(why);
                false
            }
        }
    }

    /// The keys in a folder of an archive, below that of the cluster.
    ///
    /// # Errors
    /// `Missing`: there is no such archive. `Failed`.
    pub async fn list(&self, name: &str, below: &str) -> Result<Vec<String>, ArchiveError> {
        let line = self.remote_archives().find(|line| line.name == name);
        let archive = line.and_then(|line| line.destination.archive());
        let archive = archive.ok_or_else(|| ArchiveError::Missing(format!("{name} is not an archive")))?;
        archive.list(below, &|_| true, Duration::ZERO).await
    }

    /// Deletes something from an archive. Never waits.
    pub fn delete(&self, name: &str, key: String) {
        if let Some(line) = self.remote_archives().find(|line| line.name == name) {
            line.delete(key);
        }
    }

    /// Deletes profiles of a session that is gone, wherever its status says that they are. Never waits.
    pub fn forget(&self, profiles: &[StoredProfile]) {
        for profile in profiles {
            for line in self.remote_archives().filter(|line| profile.destinations.contains(&line.name)) {
                line.delete(profile.uri.clone());
            }
        }
    }

    /// Forgets what waits for sessions that are gone, and, where it is time for that, searches the destinations
    /// for what they left. `live` holds the uids of **every** session as they stand in keys.
    pub fn sweep(&self, live: HashSet<String>) {
        let live = Arc::new(live);
        let is_live = |key: &str| session_of(key).is_some_and(|session| live.contains(session));
        self.0.lines.values().for_each(|line| line.outbox().retain(is_live));
        for line in self.remote_archives().filter(|line| line.is_due()) {
            tokio::spawn(search(line.clone(), live.clone(), self.0.metrics.clone()));
        }
    }
}

impl Line {
    fn outbox(&self) -> MutexGuard<'_, Outbox<Parcel>> {
        self.outgoing.outbox()
    }

    /// Why the destination does not accept anything, as far as the last check or a later attempt found.
    pub(super) fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delete(&self, key: String) {
        let mut gone = self.gone();
        if gone.len() < MOST_GONE {
            gone.push_back(key);
        }
        self.deleted.notify_one();
    }

    fn is_due(&self) -> bool {
        let mut next = self.next_sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let due = *next <= Instant::now();
        if due {
            *next = Instant::now() + SWEEP;
        }
        due
    }
}
