//! How does a file with symbols that a person sends come onto the results volume, whole and checked?
//!
//! ```text
//! claim ─► admitted? ─► N.part, piece by piece ─► digest ─► checked by a process of its own ─► ID.json, ID.debug
//! ```
//! A piece says where it belongs. One that comes twice, or too early, changes nothing, and the answer says which
//! one is wanted, so an upload goes on after whatever broke it off. Nothing counts before it was checked: the
//! digest that was claimed, an ELF file, the build id *inside* it, and symbols. What was kept survives a crash;
//! what is unfinished does not, nor a pause of two minutes. Where an archive keeps results, it keeps these files too
//! ([`archived`]).

mod archived;
mod coming;
mod fetched;
mod layout;
mod remote;
mod shelf;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetprof_core::storage::uploads::{Shelf, admit};
use fleetprof_profile::resolve::is_build_id;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::ask::Reader;
use super::protocol::Unread;
use crate::destinations::Destinations;
pub use archived::Listed;
use archived::absent;
use coming::{Check, Coming, Removed, Unfinished};
use remote::{Catalogue, Remote};

/// How long an upload may pause.
const EXPIRES: Duration = Duration::from_secs(120);
/// Uploads at once, of different people.
const MOST_AT_ONCE: usize = 4;
/// How long an answer waits for the check: API servers give a request 60 s.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest name of a file, in bytes.
pub(crate) const MAX_NAME: usize = 160;

/// What a person says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its build id.
    pub build_id: String,
    /// Its name, for people; printable, 160 bytes at most.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hex digits.
    pub sha256: String,
}

/// A part of a file.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Of which file.
    pub claim: Claim,
    /// Who sends it.
    pub user: String,
    /// Where it begins.
    pub offset: u64,
    /// What is there.
    pub bytes: Bytes,
}

/// A file that was uploaded and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// Its build id.
    pub build_id: String,
    /// Its name, as the one who sent it says.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Who sent it.
    pub by: String,
    /// When it was checked.
    pub at: Timestamp,
}

/// How far an upload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The piece that begins here is wanted.
    Receiving(u64),
    /// All of it is there, and it is being checked: ask again.
    Checking,
    /// It is kept.
    Stored(Uploaded),
}

/// Why a piece is not taken: a sentence without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The claim, or the file, cannot be right.
    Invalid(String),
    /// There is no room for it.
    TooLarge(String),
    /// Others upload, or the same person does; another try may do better.
    Busy(String),
    /// There is no such thing.
    Absent(String),
    /// The operator could not do it; another try may do better.
    Failed(String),
}

/// The files that people sent. Clones of the [`Arc`] share them.
pub struct Uploads {
    folder: PathBuf,
    most: u64,
    reader: Reader,
    state: Mutex<State>,
    /// The archive, where there is one; set once destinations are known.
    remote: OnceLock<Remote>,
}

#[derive(Default)]
struct State {
    /// By build id.
    kept: BTreeMap<String, Uploaded>,
    /// What the archive has, by build id; `None` before it was listed.
    there: Option<Catalogue>,
    /// Bytes that are being fetched from it.
    fetching: u64,
    /// By who sends it.
    coming: HashMap<String, Coming>,
    /// Uploads that began.
    begun: u64,
}

/// What is to be done with a piece.
enum Step {
    /// Nothing but to say this.
    Say(Progress),
    /// Wait for the check.
    Await(Check),
    /// Write it, into this unfinished file or a new one of this number.
    Write(Box<Unfinished>),
    Begin(u64),
}

impl Uploads {
    /// The files in a folder, which is made when it is needed: `most` bytes of them.
    pub(super) fn open(folder: PathBuf, most: u64, reader: Reader) -> Self {
        let kept = shelf::load(&folder);
        let state = Mutex::new(State { kept, ..State::default() });
        Self { folder, most, reader, state, remote: OnceLock::new() }
    }

    /// Keeps files in the archive of these destinations as well, if one of them is one.
    pub(super) fn archived_in(&self, destinations: &Destinations, cluster: &str) {
        if let Some(archive) = destinations.shared_archive() {
            tracing::info!(
                fleetprof.destination = archive.name(),
                "uploaded symbols are kept in the archive as well"
            );
            let _ = self.remote.set(Remote::new(archive, cluster.to_owned()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a file of this build id.
    pub(super) fn has(&self, build_id: &str) -> bool {
        self.state().kept.contains_key(build_id)
    }

    /// The file of a build id.
    pub(super) fn path(&self, build_id: &str) -> Option<PathBuf> {
        self.has(build_id).then(|| shelf::path(&self.folder, build_id))
    }

    /// Gives up what has paused for too long.
    pub(crate) fn expire(&self) {
        self.state().expire();
    }

    /// Forgets a file and removes it from this volume. Blocks.
    fn remove(&self, build_id: &str) -> Result<(), Refused> {
        let Some(gone) = self.state().kept.remove(build_id) else { return Err(absent(build_id)) };
        let removed = shelf::remove(&self.folder, build_id);
        if let Err(error) = removed {
            self.state().kept.insert(build_id.to_owned(), gone);
            return Err(Refused::Failed(format!("{build_id} cannot be removed ({error}): try again")));
        }
        Ok(())
    }

    /// Takes a piece. `free` bytes are free on the volume; what checks the file takes its memory from `memory`.
    ///
    /// # Errors
    /// It is not taken; what is unfinished may be given up with it.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        piece: Piece,
        free: u64,
        memory: &Arc<Semaphore>,
    ) -> Result<Progress, Refused> {
        valid(&piece)?;
        let (user, claim) = (piece.user.clone(), piece.claim.clone());
        let step = self.state().step(&piece, self.most, free)?;
        let check = match step {
            Step::Say(progress) => return Ok(progress),
            Step::Await(check) => check,
            step => {
                let (uploads, memory) = (Arc::clone(self), Arc::clone(memory));
                // It runs to its end even when the caller goes away: the state must know what became of it.
                let written = tokio::spawn(async move { uploads.write(piece, step, memory).await });
                match written.await.map_err(|error| Refused::Failed(error.to_string()))?? {
                    Written::Part(length) => return Ok(Progress::Receiving(length)),
                    Written::Whole(check) => check,
                }
            }
        };
        let Ok(checked) = timeout(ANSWER, check).await else { return Ok(Progress::Checking) };
        self.state().forget(&user, &claim);
        checked.map(Progress::Stored)
    }

    async fn write(
        self: Arc<Self>,
        piece: Piece,
        step: Step,
        memory: Arc<Semaphore>,
    ) -> Result<Written, Refused> {
        let (user, folder) = (piece.user.clone(), self.folder.clone());
        let wrote = spawn_blocking(move || {
            let mut file = match step {
                Step::Begin(number) => Box::new(Unfinished::begin(&folder, number, piece.claim)?),
                Step::Write(file) => file,
                Step::Say(_) | Step::Await(_) => return Err("there is nothing to write".to_owned()),
            };
            file.append(piece.offset, &piece.bytes)?;
            Ok(file)
        });
        let wrote = wrote.await.unwrap_or_else(|error| Err(error.to_string()));
        let mut state = self.state();
        state.coming.remove(&user);
        let file = wrote.map_err(|why| Refused::Failed(format!("the piece could not be stored ({why})")))?;
        if !file.is_whole() {
            let length = file.length();
            state.coming.insert(user, Coming::Open(file));
            return Ok(Written::Part(length));
        }
        let claim = file.claim().clone();
        let check = coming::check(Arc::clone(&self), *file, user.clone(), memory);
        state.coming.insert(user, Coming::Checking(claim, check.clone(), Instant::now()));
        Ok(Written::Whole(check))
    }

    /// Has a process of its own check that a file is of a build id and has symbols.
    async fn check(&self, path: &Path, build_id: &str, memory: Arc<Semaphore>) -> Result<(), Unread> {
        let _permit = memory.acquire_owned().await.map_err(|error| Unread::Unable(error.to_string()))?;
        self.reader.check(path, build_id).await
    }

    /// Gives a checked file its place on the volume.
    async fn shelve(&self, one: &Uploaded, file: Removed, path: PathBuf) -> std::io::Result<()> {
        let (folder, own) = (self.folder.clone(), one.clone());
        let kept = spawn_blocking(move || {
            let kept = shelf::keep(&folder, &path, &own);
            drop(file);
            kept
        });
        kept.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// Checks a whole file, and keeps it.
    async fn keep(&self, file: Unfinished, by: String, memory: Arc<Semaphore>) -> Result<Uploaded, Refused> {
        let (file, claim, path) = file.closed()?;
        self.check(&path, &claim.build_id, memory).await.map_err(|why| match why {
            Unread::Useless(why) => Refused::Invalid(format!("{} cannot be used: {why}", claim.name)),
            Unread::Unable(why) => Refused::Failed(format!("{} could not be checked: {why}", claim.name)),
        })?;
        let Claim { build_id, name, bytes, sha256 } = claim;
        let one = Uploaded { build_id, name, bytes, sha256, by, at: Timestamp::now() }.clean();
        let kept = self.shelve(&one, file, path).await;
        kept.map_err(|error| Refused::Failed(format!("the file could not be kept ({error}): try again")))?;
        tracing::info!(
            file.build_id = %one.build_id, file.name = %one.name, file.size = one.bytes, enduser.id = %one.by,
            "symbols uploaded"
        );
        self.state().kept.insert(one.build_id.clone(), one.clone());
        self.archive(&one).await;
        Ok(one)
    }
}

/// What became of a piece.
enum Written {
    Part(u64),
    Whole(Check),
}

impl State {
    fn expire(&mut self) {
        self.coming.retain(|_, coming| !coming.is_over());
    }

    /// Forgets how a check ended, once that was said.
    fn forget(&mut self, user: &str, claim: &Claim) {
        if matches!(self.coming.get(user), Some(Coming::Checking(of, ..)) if of == claim) {
            self.coming.remove(user);
        }
    }

    /// What is to be done with a piece. Its sender is busy from then on, where it is to be written.
    fn step(&mut self, piece: &Piece, most: u64, free: u64) -> Result<Step, Refused> {
        self.expire();
        let Piece { claim, user, offset, .. } = piece;
        if let Some(Coming::Checking(of, check, _)) = self.coming.get(user)
            && of == claim
        {
            // It may be kept already, and still be on its way to the archive.
            return Ok(Step::Await(check.clone()));
        }
        if let Some(kept) = self.kept.get(&claim.build_id).filter(|kept| kept.sha256 == claim.sha256) {
            return Ok(Step::Say(Progress::Stored(kept.clone())));
        }
        let bytes = claim.bytes;
        match self.coming.remove(user) {
            Some(Coming::Open(file)) if file.claim() == claim => {
                if *offset != file.length() {
                    let wanted = file.length();
                    self.coming.insert(user.clone(), Coming::Open(file));
                    return Ok(Step::Say(Progress::Receiving(wanted)));
                }
                self.coming.insert(user.clone(), Coming::Busy(bytes));
                Ok(Step::Write(file))
            }
            Some(other) if !other.gives_way_to(claim) => {
                self.coming.insert(user.clone(), other);
                Err(Refused::Busy(format!(
                    "user {user:?} is uploading another file: wait for its end, or two minutes after its last piece"
                )))
            }
            _ if *offset != 0 => Ok(Step::Say(Progress::Receiving(0))),
            _ => self.begin(piece, most, free),
        }
    }

    /// Bytes that are under way to this volume.
    fn coming(&self) -> u64 {
        self.coming.values().map(Coming::bytes).fold(self.fetching, u64::saturating_add)
    }

    fn begin(&mut self, piece: &Piece, most: u64, free: u64) -> Result<Step, Refused> {
        let Piece { claim, user, .. } = piece;
        if self.coming.len() >= MOST_AT_ONCE {
            return Err(Refused::Busy(format!(
                "{MOST_AT_ONCE} others are uploading files: try again in a minute"
            )));
        }
        let others = || self.all().filter(|kept| kept.build_id != claim.build_id);
        let shelf = Shelf {
            most,
            kept: others().map(|kept| kept.bytes).fold(0, u64::saturating_add),
            files: others().count(),
            coming: self.coming(),
            free,
        };
        admit(claim.bytes, &shelf).map_err(Refused::TooLarge)?;
        self.begun += 1;
        self.coming.insert(user.clone(), Coming::Busy(claim.bytes));
        Ok(Step::Begin(self.begun))
    }
}

/// Whether the claim can be right, and the piece be of it.
fn valid(piece: &Piece) -> Result<(), Refused> {
    let Piece { claim, offset, bytes, .. } = piece;
    let invalid = |why: String| Err(Refused::Invalid(why));
    if !is_build_id(&claim.build_id) {
        return invalid("a build ID has 8 to 64 lower-case hex digits, an even number".to_owned());
    }
    let is_digest = claim.sha256.len() == 64 && claim.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_digest {
        return invalid("sha256 has 64 hex digits".to_owned());
    }
    if offset.saturating_add(bytes.len() as u64) > claim.bytes {
        return invalid(format!("the piece ends behind the {} bytes of the file", claim.bytes));
    }
    if bytes.is_empty() && *offset < claim.bytes {
        return invalid("the piece is empty".to_owned());
    }
    Ok(())
}
