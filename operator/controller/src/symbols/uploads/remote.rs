//! How does an archive keep uploaded files with symbols, one by one? It knows keys and bytes, and no volume.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetprof_core::storage::uploads::MOST_FILES;
use fleetprof_core::text::{cut, printable};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::super::debuginfod::Download;
use super::Uploaded;
use super::layout::{self, Deleted, Part};
use crate::destinations::{ArchiveError, SYMBOLS, SharedArchive};

/// How long nothing is asked after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// Files that are fetched at once.
const FETCHES: usize = 2;
/// Descriptions that are read side by side.
const SIDE_BY_SIDE: usize = 8;
/// Most keys that are looked at: a description and a mark of deletion for as many files as there may be, twice.
const MOST_KEYS: usize = 4 * MOST_FILES;
/// Most keys of leftovers that are deleted at once; the rest waits for the next time.
const MOST_LEFT: usize = 4_000;
/// What is younger may be on its way.
const YOUNG: Duration = Duration::from_secs(3600);
/// How long it is remembered that a file was deleted: longer than an operator waits to lead again.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);
/// How often leftovers are looked for.
const SWEEP: Duration = Duration::from_secs(6 * 3600);
/// Longest text of a failure, in bytes.
const MAX_WHY: usize = 300;

/// Files by build id.
pub(super) type Catalogue = BTreeMap<String, Uploaded>;

/// An archive of uploaded files.
pub(super) struct Remote {
    pub(super) archive: SharedArchive,
    cluster: String,
    /// Held by whoever changes what is there.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) fetches: Semaphore,
    known: Mutex<Known>,
}

/// What was learnt of the archive.
#[derive(Default)]
pub(super) struct Known {
    /// Until when nothing is asked, and why.
    paused: Option<(Instant, String)>,
    /// What is being fetched, and since when, by build id.
    pub(super) under_way: HashMap<String, (Instant, Download)>,
    /// Why the file of a build id with that SHA-256 cannot be used.
    pub(super) useless: HashMap<String, (String, String)>,
    /// Why the file of a build id is on the volume alone.
    pub(super) alone: BTreeMap<String, String>,
    /// When leftovers were looked for.
    swept: Option<Instant>,
}

/// What is in an archive.
#[derive(Default)]
pub(super) struct Listing {
    /// Build ids and digests of whole files.
    whole: BTreeSet<(String, String)>,
    /// Build ids that were deleted.
    pub(super) deleted: BTreeSet<String>,
}

impl Remote {
    pub(super) fn new(archive: SharedArchive, cluster: String) -> Self {
        let (turn, fetches) = (tokio::sync::Mutex::default(), Semaphore::new(FETCHES));
        Self { archive, cluster, turn, fetches, known: Mutex::default() }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing is asked now, as a clause.
    pub(super) fn failure(&self) -> Option<String> {
        let paused = self.known().paused.clone().filter(|(until, _)| *until > Instant::now());
        let why = paused.map(|(_, why)| why).or_else(|| self.archive.problem())?;
        Some(format!("the archive {:?} of uploaded symbols does not answer ({why})", self.archive.name()))
    }

    /// Remembers why a file is on the volume alone.
    pub(super) fn is_alone(&self, one: &Uploaded, why: &str) {
        self.known().alone.insert(one.build_id.clone(), cut(&printable(why), MAX_WHY));
    }

    /// Remembers that the archive has a file.
    pub(super) fn is_not_alone(&self, one: &Uploaded) {
        self.known().alone.remove(&one.build_id);
    }

    /// Remembers that a file was stored, whatever was wrong with what was there before.
    pub(super) fn is_whole(&self, one: &Uploaded) {
        let mut known = self.known();
        known.alone.remove(&one.build_id);
        known.useless.remove(&one.build_id);
    }

    /// Whether what the archive has of a build id is known to be of no use.
    pub(super) fn is_useless(&self, one: &Uploaded) -> bool {
        self.known().useless.contains_key(&one.build_id)
    }

    /// Asks nothing for a minute.
    pub(super) fn pause(&self, why: &str) {
        let why = cut(&printable(why), MAX_WHY);
        tracing::warn!(
            fleetprof.destination = self.archive.name(),
            error = why,
            "uploaded symbols cannot be kept in the archive, or read from it; retrying"
        );
        self.known().paused = Some((Instant::now() + PAUSE, why));
    }

    /// Forgets a failure that is over.
    pub(super) fn go_on(&self) {
        self.known().paused = None;
    }

    /// What there is of whole and of deleted files.
    pub(super) async fn listing(&self) -> Result<Listing, String> {
        let seen = AtomicUsize::new(0);
        let picks = |key: &str| {
            matches!(layout::part(key), Some(Part::About(..) | Part::Deleted(_)))
                && seen.fetch_add(1, Ordering::Relaxed) < MOST_KEYS
        };
        let keys = self.archive.list(SYMBOLS, &picks, Duration::ZERO).await.map_err(text)?;
        Ok(Listing::of(&keys))
    }

    /// The newest whole file of each build id; those that are in `known` are not read again.
    pub(super) async fn catalogue(&self, listing: &Listing, known: &Catalogue) -> Result<Catalogue, String> {
        let (mut newest, mut unread) = (Catalogue::new(), Vec::new());
        for (id, sha256) in listing.whole.iter().filter(|(id, _)| !listing.deleted.contains(id)) {
            match known.get(id).filter(|one| one.sha256 == *sha256) {
                Some(one) => add(&mut newest, one.clone()),
                None => unread.push(self.about(id.clone(), sha256.clone())),
            }
        }
        let read: Vec<_> = stream::iter(unread).buffer_unordered(SIDE_BY_SIDE).collect().await;
        for one in read {
            if let Some(one) = one? {
                add(&mut newest, one);
            }
        }
        Ok(newest)
    }

    async fn about(&self, build_id: String, sha256: String) -> Result<Option<Uploaded>, String> {
        match self.archive.get(&layout::about(&self.cluster, &build_id, &sha256)).await {
            Ok(body) => Ok(layout::read_about(&body, &build_id, &sha256)),
            Err(ArchiveError::Missing(_)) => Ok(None),
            Err(error) => Err(text(error)),
        }
    }

    /// The file of one build id, where the archive was not listed yet.
    pub(super) async fn look(&self, build_id: &str) -> Result<Option<Uploaded>, String> {
        let listing = Listing::of(&self.all_of(build_id).await?);
        Ok(self.catalogue(&listing, &Catalogue::new()).await?.remove(build_id))
    }

    async fn all_of(&self, build_id: &str) -> Result<Vec<String>, String> {
        let picks = |key: &str| layout::build_id(key) == Some(build_id);
        self.archive.list(&layout::folder(build_id), &picks, Duration::ZERO).await.map_err(text)
    }

    /// When a file was deleted last, where that is said.
    pub(super) async fn deleted(&self, build_id: &str) -> Result<Option<Timestamp>, String> {
        match self.archive.get(&layout::deleted(&self.cluster, build_id)).await {
            Ok(body) => Ok(layout::read_deleted(&body)),
            Err(ArchiveError::Missing(_)) => Ok(None),
            Err(error) => Err(text(error)),
        }
    }

    /// Stores a file. It counts from its last object on.
    pub(super) async fn put(&self, path: PathBuf, one: &Uploaded) -> Result<(), String> {
        let opened = spawn_blocking(move || File::open(path)).await;
        let file = Arc::new(opened.map_err(text)?.map_err(text)?);
        for (number, bytes) in layout::pieces(one.bytes) {
            let _room = self.archive.room().await;
            let file = Arc::clone(&file);
            let piece = spawn_blocking(move || piece(&file, number, bytes)).await.map_err(text)??;
            self.archive.keep(&layout::piece(&self.cluster, one, number), piece).await.map_err(text)?;
        }
        self.archive.delete(&layout::deleted(&self.cluster, &one.build_id)).await.map_err(text)?;
        let about = serde_json::to_vec(one).map_err(text)?;
        let key = layout::about(&self.cluster, &one.build_id, &one.sha256);
        self.archive.keep(&key, about.into()).await.map_err(text)
    }

    /// A piece of a file, which must have as many bytes.
    pub(super) async fn piece(&self, one: &Uploaded, number: u64, bytes: u64) -> Result<Bytes, ArchiveError> {
        let piece = self.archive.get(&layout::piece(&self.cluster, one, number)).await?;
        match piece.len() as u64 == bytes {
            true => Ok(piece),
            false => {
                Err(ArchiveError::Missing(format!("a piece has {} bytes instead of {bytes}", piece.len())))
            }
        }
    }

    /// Removes everything of a build id, and remembers when, for volumes that still hold it.
    pub(super) async fn bury(&self, build_id: &str, now: Timestamp) -> Result<(), String> {
        let mark = serde_json::to_vec(&Deleted { at: now }).map_err(text)?;
        let marked = layout::deleted(&self.cluster, build_id);
        self.archive.keep(&marked, mark.into()).await.map_err(text)?;
        let keys = self.all_of(build_id).await?;
        self.remove(keys.into_iter().filter(|key| *key != marked)).await
    }

    /// Removes descriptions first: a file without one is none.
    async fn remove(&self, keys: impl Iterator<Item = String>) -> Result<(), String> {
        let (about, others): (Vec<_>, Vec<_>) =
            keys.partition(|key| matches!(layout::part(key), Some(Part::About(..))));
        for key in about.iter().chain(&others) {
            self.archive.delete(key).await.map_err(text)?;
        }
        Ok(())
    }

    /// Removes what is of no file in the catalogue, and old marks of deletion, every six hours.
    pub(super) async fn sweep(&self, there: &Catalogue) -> Result<(), String> {
        if self.known().swept.is_some_and(|at| at.elapsed() < SWEEP) {
            return Ok(());
        }
        self.known().swept = Some(Instant::now());
        let seen = AtomicUsize::new(0);
        let is_left = |key: &str| match layout::part(key) {
            Some(Part::About(id, sha256) | Part::Piece(id, sha256)) => {
                there.get(id).is_none_or(|one| one.sha256 != sha256)
                    && seen.fetch_add(1, Ordering::Relaxed) < MOST_LEFT
            }
            _ => false,
        };
        let left = self.archive.list(SYMBOLS, &is_left, YOUNG).await.map_err(text)?;
        self.remove(left.into_iter()).await?;
        let is_mark = |key: &str| matches!(layout::part(key), Some(Part::Deleted(_)));
        let old = self.archive.list(SYMBOLS, &is_mark, REMEMBERED).await.map_err(text)?;
        self.remove(old.into_iter().take(MOST_LEFT)).await
    }

    /// Removes what was stored of a build id with another digest.
    pub(super) async fn forget_others(&self, one: &Uploaded) -> Result<(), String> {
        let is_other = |key: &String| match layout::part(key) {
            Some(Part::About(_, sha256) | Part::Piece(_, sha256)) => sha256 != one.sha256,
            _ => false,
        };
        let keys = self.all_of(&one.build_id).await?;
        self.remove(keys.into_iter().filter(is_other)).await
    }
}

impl Listing {
    fn of(keys: &[String]) -> Self {
        let mut listing = Self::default();
        for key in keys {
            match layout::part(key) {
                Some(Part::About(id, sha256)) => {
                    listing.whole.insert((id.to_owned(), sha256.to_owned()));
                }
                Some(Part::Deleted(id)) => {
                    listing.deleted.insert(id.to_owned());
                }
                _ => {}
            }
        }
        listing
    }
}

/// Adds a file, unless a newer one of its build id is there, or there are too many.
fn add(to: &mut Catalogue, one: Uploaded) {
    let before = to.get(&one.build_id);
    if before.map_or(to.len() < MOST_FILES, |before| before.at < one.at) {
        to.insert(one.build_id.clone(), one);
    }
}

fn piece(file: &File, number: u64, bytes: u64) -> Result<Bytes, String> {
    let mut piece = vec![0; usize::try_from(bytes).map_err(text)?];
    let each = crate::destinations::SYMBOLS_PIECE as u64;
    file.read_exact_at(&mut piece, number * each).map_err(text)?;
    Ok(piece.into())
}

pub(super) fn text(error: impl ToString) -> String {
    error.to_string()
}
