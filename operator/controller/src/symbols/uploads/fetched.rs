//! How does a file come from the archive to this volume? When a profile needs it, and after the checks of an upload.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetprof_core::storage::uploads::{Shelf, admit};
use fleetprof_core::text::{cut, printable};
use futures::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::super::debuginfod::Download;
use super::super::protocol::Unread;
use super::coming::Unfinished;
use super::remote::{Remote, text};
use super::{Claim, State, Uploaded, Uploads, layout, shelf};
use crate::destinations::ArchiveError;

/// Longest time to fetch a file.
const FETCH: Duration = Duration::from_secs(120);
/// Most files that are fetched or wait.
const MOST_UNDER_WAY: usize = 256;
/// Most files of which it is remembered why they are of no use.
const MOST_USELESS: usize = 1_000;
/// Longest text of what is wrong with a file, in bytes.
const MAX_WHY: usize = 300;

/// Why a file was not fetched, as a clause.
enum NotFetched {
    /// It is at fault, and will be the next time.
    Useless(String),
    /// The archive does not answer.
    Failed(String),
    /// Something else; another try may do better.
    Unable(String),
}

impl Uploads {
    /// Whether the archive may have a file that this volume lacks.
    pub(in super::super) fn may_fetch(&self, build_id: &str) -> bool {
        let Some(remote) = self.remote() else { return false };
        let state = self.state();
        let there = state.there.as_ref().map(|there| there.get(build_id));
        let useless = remote.known().useless.get(build_id).map(|(sha256, _)| sha256.clone());
        let may = match there {
            Some(None) => false,
            Some(Some(one)) => useless.as_ref() != Some(&one.sha256),
            None => useless.is_none(),
        };
        may && !state.kept.contains_key(build_id) && remote.failure().is_none()
    }

    /// Fetches a file from the archive, of at most `room` bytes, whether or not anybody waits for it; with when that
    /// began. It fails with a clause without a full stop.
    pub(in super::super) fn fetch(
        self: &Arc<Self>,
        build_id: &str,
        room: u64,
        memory: &Arc<Semaphore>,
    ) -> (Instant, Download) {
        let now = Instant::now();
        let ready =
            |answer: Result<Option<PathBuf>, String>| (now, std::future::ready(answer).boxed().shared());
        let Some(remote) = self.remote() else { return ready(Ok(None)) };
        let mut known = remote.known();
        if let Some(fetch) = known.under_way.get(build_id) {
            return fetch.clone();
        }
        if known.under_way.len() >= MOST_UNDER_WAY {
            return ready(Err("too many other files are being fetched from the archive".to_owned()));
        }
        let (uploads, id, memory) = (Arc::clone(self), build_id.to_owned(), Arc::clone(memory));
        let task = tokio::spawn(async move {
            let got = uploads.fetch_alone(&id, room, memory).await;
            if let Some(remote) = uploads.remote() {
                remote.known().under_way.remove(&id);
            }
            got
        });
        let fetch = task.map(|got| got.unwrap_or_else(|error| Err(error.to_string()))).boxed().shared();
        known.under_way.insert(build_id.to_owned(), (now, fetch.clone()));
        (now, fetch)
    }

    async fn fetch_alone(
        &self,
        build_id: &str,
        room: u64,
        memory: Arc<Semaphore>,
    ) -> Result<Option<PathBuf>, String> {
        let Some(remote) = self.remote() else { return Ok(None) };
        let _permit = remote.fetches.acquire().await.map_err(text)?;
        if let Some(path) = self.path(build_id) {
            return Ok(Some(path));
        }
        if let Some(why) = remote.failure() {
            return Err(why);
        }
        let late = |_| Err(NotFetched::Failed(format!("a file did not come within {} s", FETCH.as_secs())));
        let described = timeout(FETCH, self.described(remote, build_id)).await;
        let one = match described.unwrap_or_else(late) {
            Ok(Some(one)) => one,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.learn(remote, build_id, None, error)),
        };
        let fetched = self.bring(remote, &one, room, memory).await;
        fetched.map(Some).map_err(|error| self.learn(remote, build_id, Some(&one), error))
    }

    async fn described(&self, remote: &Remote, build_id: &str) -> Result<Option<Uploaded>, NotFetched> {
        let listed = self.state().there.as_ref().map(|there| there.get(build_id).cloned());
        match listed {
            Some(one) => Ok(one),
            None => remote.look(build_id).await.map_err(NotFetched::Failed),
        }
    }

    fn learn(&self, remote: &Remote, build_id: &str, of: Option<&Uploaded>, error: NotFetched) -> String {
        match error {
            NotFetched::Unable(why) => why,
            NotFetched::Failed(why) => {
                remote.pause(&why);
                remote.failure().unwrap_or(why)
            }
            NotFetched::Useless(why) => {
                let why = cut(
                    &printable(&format!("the uploaded file in the archive is of no use: {why}")),
                    MAX_WHY,
                );
                tracing::warn!(
                    fleetprof.destination = remote.archive.name(),
                    file.build_id = build_id,
                    error = why,
                    "symbols in the archive cannot be used: delete them, or upload them again"
                );
                let mut known = remote.known();
                if known.useless.len() < MOST_USELESS {
                    let sha256 = of.map(|of| of.sha256.clone()).unwrap_or_default();
                    known.useless.insert(build_id.to_owned(), (sha256, why.clone()));
                }
                why
            }
        }
    }

    /// Brings a file to this volume, and checks it as an upload.
    async fn bring(
        &self,
        remote: &Remote,
        one: &Uploaded,
        room: u64,
        memory: Arc<Semaphore>,
    ) -> Result<PathBuf, NotFetched> {
        let unable = |why: String| NotFetched::Unable(format!("the archive has its symbols, but {why}"));
        let number = self.state().reserve(one, self.most, room).map_err(unable)?;
        let _reserved = Reserved { uploads: self, bytes: one.bytes };
        let file = timeout(FETCH, self.pieces(remote, one, number)).await;
        let late = |_| Err(NotFetched::Failed(format!("a file did not come within {} s", FETCH.as_secs())));
        let file = file.unwrap_or_else(late)?;
        self.check_fetched(one, file, memory).await
    }

    /// Checks a fetched file as an upload, and gives it its place.
    async fn check_fetched(
        &self,
        one: &Uploaded,
        file: Unfinished,
        memory: Arc<Semaphore>,
    ) -> Result<PathBuf, NotFetched> {
        let unable = |why: String| NotFetched::Unable(format!("the archive has its symbols, but {why}"));
        let (file, claim, path) = file.closed().map_err(|_| {
            NotFetched::Useless("its SHA-256 is not the one that it was stored under".to_owned())
        })?;
        self.check(&path, &claim.build_id, memory).await.map_err(|why| match why {
            Unread::Useless(why) => NotFetched::Useless(why),
            Unread::Unable(why) => unable(format!("they could not be checked: {why}")),
        })?;
        self.shelve(one, file, path)
            .await
            .map_err(|error| unable(format!("they could not be stored ({error})")))?;
        let adopted = self.state().adopt(one);
        if adopted {
            return Ok(shelf::path(&self.folder, &one.build_id));
        }
        self.drop_files(&one.build_id).await;
        Err(unable("they were deleted meanwhile".to_owned()))
    }

    async fn pieces(&self, remote: &Remote, one: &Uploaded, number: u64) -> Result<Unfinished, NotFetched> {
        let unable = |why: String| NotFetched::Unable(format!("its symbols could not be stored ({why})"));
        let claim = Claim {
            build_id: one.build_id.clone(),
            name: one.name.clone(),
            bytes: one.bytes,
            sha256: one.sha256.clone(),
        };
        let folder = self.folder.clone();
        let begun = spawn_blocking(move || Unfinished::begin(&folder, number, claim)).await;
        let mut file = begun.map_err(|error| unable(text(error)))?.map_err(unable)?;
        for (number, bytes) in layout::pieces(one.bytes) {
            let _room = remote.archive.room().await;
            let piece = remote.piece(one, number, bytes).await.map_err(|error| match error {
                ArchiveError::Missing(why) => NotFetched::Useless(why),
                ArchiveError::Failed(why) => NotFetched::Failed(why),
            })?;
            let wrote = spawn_blocking(move || {
                let offset = file.length();
                file.append(offset, &piece).map(|()| file)
            });
            file = wrote.await.map_err(|error| unable(text(error)))?.map_err(unable)?;
        }
        Ok(file)
    }
}

/// Bytes that a fetch will take, until it has ended.
struct Reserved<'a> {
    uploads: &'a Uploads,
    bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.uploads.state();
        state.fetching = state.fetching.saturating_sub(self.bytes);
    }
}

impl State {
    /// Takes in a fetched file, unless it was deleted or replaced meanwhile.
    fn adopt(&mut self, one: &Uploaded) -> bool {
        let is_there = self.there.as_ref().is_none_or(|there| one.is_in(there));
        if is_there {
            self.kept.insert(one.build_id.clone(), one.clone());
        }
        is_there
    }

    /// Takes room on this volume for a file of the archive; with the number of the unfinished file.
    fn reserve(&mut self, one: &Uploaded, most: u64, room: u64) -> Result<u64, String> {
        let shelf = Shelf {
            most,
            kept: self.kept.values().map(|kept| kept.bytes).fold(0, u64::saturating_add),
            files: self.kept.len(),
            coming: self.coming(),
            // What may be taken is half of it.
            free: self.coming().saturating_add(room).saturating_mul(2),
        };
        admit(one.bytes, &shelf)?;
        self.fetching = self.fetching.saturating_add(one.bytes);
        self.begun += 1;
        Ok(self.begun)
    }
}
