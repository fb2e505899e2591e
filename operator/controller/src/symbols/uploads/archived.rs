//! How do uploaded files survive the volume of a leader? The archive, where there is one, has them as well.
//!
//! ```text
//! upload ─► checked ─► volume ─► archive
//!                        ▲          │ a profile lacks names, and this volume lacks the file
//!                        └─ checked ◄┘
//! at the start, every 10 min: what the archive lacks is sent; what was deleted or replaced there goes from the volume
//! ```
//! The volume of a leader holds what it was sent and what it needed. Nothing from the archive is believed: its length,
//! its SHA-256 and its build id are checked as those of an upload are, by the same process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetprof_core::storage::uploads::{Copy, Settled, admit_to_archive, settle};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::remote::{Catalogue, Remote};
use super::{Refused, State, Uploaded, Uploads, shelf};

/// How often it is looked whether there is something to do.
const LOOK: Duration = Duration::from_secs(60);
/// How often the archive is listed: another operator may have written at the end of its lead.
const LIST: Duration = Duration::from_secs(600);
/// How long a deletion waits for its turn: API servers give a request 60 s.
const TURN: Duration = Duration::from_secs(20);

/// An uploaded file, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The file.
    pub file: Uploaded,
    /// Whether the archive has it; `None` where there is no archive.
    pub archived: Option<bool>,
}

impl Uploads {
    pub(super) fn remote(&self) -> Option<&Remote> {
        self.remote.get()
    }

    /// All files of this volume and of the archive, by build id.
    pub fn list(&self) -> Vec<Listed> {
        let state = self.state();
        let is_there = |file: &Uploaded| state.there.as_ref().is_some_and(|there| file.is_in(there));
        let archived = |file: &Uploaded| self.remote().map(|_| is_there(file));
        state.all().map(|file| Listed { file: file.clone(), archived: archived(file) }).collect()
    }

    /// What is wrong with the archive, as a sentence without a full stop.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let remote = self.remote()?;
        if let Some(why) = remote.failure() {
            return Some(format!(
                "{why}: what was uploaded to another operator may be missing here, and new files are on the results \
                 volume alone until it does"
            ));
        }
        if self.state().there.is_none() {
            return Some(format!(
                "the archive {:?} was not listed yet: what was uploaded to another operator may be missing here",
                remote.archive.name()
            ));
        }
        let alone = remote.known().alone.clone();
        let (build_id, why) = alone.first_key_value()?;
        Some(format!(
            "{} of the files are on the results volume alone, {build_id} because {why}",
            alone.len()
        ))
    }

    /// Why a file is on the results volume alone, as a sentence without a full stop.
    #[must_use]
    pub fn alone(&self, build_id: &str) -> Option<String> {
        let why = self.remote()?.known().alone.get(build_id).cloned()?;
        Some(format!("the file is on the results volume alone, and is sent to the archive later: {why}"))
    }

    /// Why the archive has nothing of use for a build id, as a clause.
    pub(in super::super) fn not_archived(&self, build_id: &str) -> Option<String> {
        let remote = self.remote()?;
        let useless = remote.known().useless.get(build_id).map(|(_, why)| why.clone());
        useless.or_else(|| remote.failure())
    }

    /// Brings volume and archive together, at once and then as needed. Ends at once where there is no archive.
    pub(crate) async fn keep_archived(self: Arc<Self>) {
        let Some(remote) = self.remote() else { return std::future::pending().await };
        let mut listed: Option<Instant> = None;
        loop {
            let is_due = listed.is_none_or(|at| at.elapsed() >= LIST) || !remote.known().alone.is_empty();
            if is_due && remote.failure().is_none() && self.bring_together().await {
                listed = Some(Instant::now());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lists the archive, and settles what is on this volume; whether that succeeded.
    pub(crate) async fn bring_together(&self) -> bool {
        let Some(remote) = self.remote() else { return false };
        let _turn = remote.turn.lock().await;
        let done = self.try_bring_together(remote).await;
        match &done {
            Ok(()) => remote.go_on(),
            Err(why) => remote.pause(why),
        }
        done.is_ok()
    }

    async fn try_bring_together(&self, remote: &Remote) -> Result<(), String> {
        let listing = remote.listing().await?;
        let known = self.state().there.clone().unwrap_or_default();
        let there = remote.catalogue(&listing, &known).await?;
        self.state().there = Some(there.clone());
        let here: Vec<Uploaded> = self.state().kept.values().cloned().collect();
        for one in here {
            let deleted = match listing.deleted.contains(&one.build_id) {
                true => remote.deleted(&one.build_id).await?,
                false => None,
            };
            match settle(&one.copy(), there.get(&one.build_id).map(Uploaded::copy).as_ref(), deleted) {
                Settled::Same => remote.is_not_alone(&one),
                Settled::Send => self.send(remote, &one).await?,
                Settled::Drop => self.drop_stale(&one).await,
            }
        }
        let there = self.state().there.clone().unwrap_or_default();
        remote.sweep(&there).await
    }

    async fn drop_stale(&self, one: &Uploaded) {
        let is_same = |kept: &Uploaded| kept.sha256 == one.sha256;
        if !self.state().kept.get(&one.build_id).is_some_and(is_same) {
            return;
        }
        self.state().kept.remove(&one.build_id);
        self.drop_files(&one.build_id).await;
        tracing::info!(
            file.build_id = %one.build_id,
            "removed symbols that were deleted or replaced while another operator led"
        );
    }

    /// Removes the files of a build id. What fails is retried by the next process, which finds and settles them.
    pub(super) async fn drop_files(&self, build_id: &str) {
        let (folder, id) = (self.folder.clone(), build_id.to_owned());
        let removed = spawn_blocking(move || shelf::remove(&folder, &id)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(file.build_id = build_id, %error, "failed to remove symbols from the results volume");
        }
    }

    /// Sends a file to the archive, if the bounds hold over what is there.
    async fn send(&self, remote: &Remote, one: &Uploaded) -> Result<(), String> {
        let admitted = self.state().admit_there(one, self.most);
        if let Err(why) = admitted {
            remote.is_alone(one, &why);
            return Ok(());
        }
        if let Err(why) = remote.put(shelf::path(&self.folder, &one.build_id), one).await {
            remote.is_alone(one, &why);
            return Err(why);
        }
        remote.is_whole(one);
        let before =
            self.state().there.as_mut().and_then(|there| there.insert(one.build_id.clone(), one.clone()));
        match before.filter(|before| before.sha256 != one.sha256) {
            Some(_) => remote.forget_others(one).await,
            None => Ok(()),
        }
    }

    /// Keeps a file in the archive that was just uploaded. Where that fails, it is on the volume alone for now.
    pub(super) async fn archive(&self, one: &Uploaded) {
        let Some(remote) = self.remote() else { return };
        let _turn = remote.turn.lock().await;
        let (listed, is_there) = {
            let state = self.state();
            (state.there.is_some(), state.there.as_ref().is_some_and(|there| one.is_in(there)))
        };
        let not_now =
            remote.failure().or_else(|| (!listed).then(|| "the archive was not listed yet".to_owned()));
        if let Some(why) = not_now {
            return remote.is_alone(one, &why);
        }
        if is_there && !remote.is_useless(one) {
            return remote.is_not_alone(one);
        }
        if let Err(why) = self.send(remote, one).await {
            remote.pause(&why);
        }
    }

    /// Removes a file from the archive, then from this volume.
    ///
    /// # Errors
    /// There is none, or one of them does not let it go.
    pub(crate) async fn delete(self: &Arc<Self>, build_id: &str) -> Result<(), Refused> {
        if let Some(remote) = self.remote() {
            let busy =
                |_| Refused::Busy("files are being sent to the archive: try again in a minute".to_owned());
            let _turn = timeout(TURN, remote.turn.lock()).await.map_err(busy)?;
            self.delete_there(remote, build_id).await?;
            // What is here is deleted within the same turn, or it would be sent again.
            return match self.has(build_id) {
                true => self.delete_here(build_id).await,
                false => Ok(()),
            };
        }
        self.delete_here(build_id).await
    }

    async fn delete_there(&self, remote: &Remote, build_id: &str) -> Result<(), Refused> {
        let failed = |why: String| {
            Refused::Failed(format!(
                "{build_id} cannot be deleted from the archive {:?} ({why}), so it is not deleted at all: try again",
                remote.archive.name()
            ))
        };
        if let Some(why) = remote.failure() {
            return Err(failed(why));
        }
        let listed = self.state().there.as_ref().map(|there| there.contains_key(build_id));
        let is_there = match listed {
            Some(listed) => listed,
            None => remote.look(build_id).await.map_err(failed)?.is_some(),
        };
        if !is_there && !self.has(build_id) {
            return Err(absent(build_id));
        }
        remote.bury(build_id, Timestamp::now()).await.map_err(failed)?;
        remote.known().alone.remove(build_id);
        remote.known().useless.remove(build_id);
        if let Some(there) = &mut self.state().there {
            there.remove(build_id);
        }
        Ok(())
    }

    async fn delete_here(self: &Arc<Self>, build_id: &str) -> Result<(), Refused> {
        let (uploads, build_id) = (Arc::clone(self), build_id.to_owned());
        let removed = spawn_blocking(move || uploads.remove(&build_id)).await;
        removed.unwrap_or_else(|error| Err(Refused::Failed(error.to_string())))
    }
}

impl State {
    /// Every file once: those on this volume, and what the archive has beside them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Uploaded> {
        let there = self.there.iter().flatten().filter(|(id, _)| !self.kept.contains_key(*id));
        let mut all: Vec<&Uploaded> = self.kept.values().chain(there.map(|(_, one)| one)).collect();
        all.sort_by(|one, other| one.build_id.cmp(&other.build_id));
        all.into_iter()
    }

    /// Whether the archive takes a file beside what it has.
    fn admit_there(&self, one: &Uploaded, most: u64) -> Result<(), String> {
        let others = || self.there.iter().flatten().filter(|(build_id, _)| **build_id != one.build_id);
        let taken = others().map(|(_, other)| other.bytes).fold(0, u64::saturating_add);
        admit_to_archive(one.bytes, (others().count(), taken), most)
    }
}

impl Uploaded {
    fn copy(&self) -> Copy {
        Copy { sha256: self.sha256.clone(), at: self.at }
    }

    /// Whether it is the file that the archive has.
    pub(super) fn is_in(&self, there: &Catalogue) -> bool {
        there.get(&self.build_id).is_some_and(|one| one.sha256 == self.sha256)
    }
}

/// That nothing was uploaded for a build id.
pub(super) fn absent(build_id: &str) -> Refused {
    Refused::Absent(format!("symbols {build_id:?} not found: see kubectl fleetprof symbols ls"))
}
