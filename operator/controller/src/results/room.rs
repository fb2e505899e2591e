//! Is there room for another file, and what goes when there is none?
//!
//! ```text
//! put ─► waiting slices in share? ─► quota? ─► pressure? evict ─► room? ─► write ─► measure file and folders ─► index
//! ```
//! A file counts from before it is written until the index has it, so uploads side by side never take the same
//! room twice.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use fleetprof_core::storage::{self, Account, Demand, Evictions, quota};
use tracing::{debug, warn};

use super::error::ResultsError;
use super::index::{FileFacts, Index};
use super::retention::Removed;
use super::space;
use super::store::Store;

/// Folders of a file at most, the root included.
const FOLDERS: usize = 8;

impl Store {
    /// Writes a file durably and gives it to `record`.
    ///
    /// # Errors
    /// As `admit`; `Full` or `Io` of the volume.
    pub(super) fn write(
        &self,
        path: &Path,
        bytes: &[u8],
        samples: Option<i64>,
        admit: impl FnOnce(u64, u64) -> Result<(), ResultsError>,
        record: impl FnOnce(&mut Index, FileFacts),
    ) -> Result<(), ResultsError> {
        let cost = self.cost(path, bytes.len() as u64);
        let writing = self.writing.fetch_add(cost, Ordering::SeqCst);
        let written = admit(cost, writing).and_then(|()| self.writer.put(path, bytes));
        let recorded = written.and_then(|()| {
            let meta =
                std::fs::metadata(path).map_err(|error| ResultsError::io("measuring", path, &error))?;
            let facts = FileFacts {
                bytes: bytes.len() as u64,
                disk: space::of_file(&meta),
                samples,
                modified: SystemTime::now(),
            };
            record(&mut self.index(), facts);
            Ok(())
        });
        self.measure_folders(path.parent().unwrap_or(path));
        self.writing.fetch_sub(cost, Ordering::SeqCst);
        recorded
    }

    /// What a file will take on the disk, with the folders that are to be made for it.
    fn cost(&self, path: &Path, bytes: u64) -> u64 {
        let index = self.index();
        let one = index.folder(&self.config.root).unwrap_or(0);
        let above = path.ancestors().skip(1).take(FOLDERS).take_while(|folder| *folder != self.config.root);
        let missing = above.filter(|folder| index.folder(folder).is_none()).count() as u64;
        space::rounded(bytes).saturating_add(missing.saturating_mul(one))
    }

    /// Brings the index up to date on `folder` and those above it, up to the root.
    pub(super) fn measure_folders(&self, folder: &Path) {
        let _one = self.lock_measuring();
        let own = folder.ancestors().take(FOLDERS).take_while(|path| path.starts_with(&self.config.root));
        for path in own {
            let disk = std::fs::symlink_metadata(path).ok().map(|meta| space::of_folder(&meta));
            self.index().set_folder(path, disk);
        }
    }

    /// Refuses a slice that would take the room in which profiles are made, or more than its namespace's share.
    /// Before that, results of namespaces over their share are evicted.
    pub(super) fn admit_slice(
        &self,
        namespace: &str,
        capture: &str,
        bytes: u64,
        writing: u64,
    ) -> Result<(), ResultsError> {
        let largest = self.index().largest_with(capture, bytes);
        let demand = Demand { bytes, writing, largest };
        let waiting = self.index().slices_of(namespace);
        let share = self.share(namespace)?;
        let account = |bytes| Account { namespace, bytes, slices: waiting };
        storage::check_waiting(demand, account(self.account(namespace)), share)?;
        self.keep_quota(demand, account(self.of_quota(namespace)))?;
        self.evict(demand, share)?;
        let volume = self.usage()?.volume();
        Ok(storage::check_room(volume, demand, account(self.account(namespace)), share)?)
    }

    /// Evicts the oldest results of a namespace that would have more than its quota, and refuses the slice where that
    /// is not enough.
    fn keep_quota(&self, demand: Demand, account: Account<'_>) -> Result<(), ResultsError> {
        let Some(quota) = self.config.quotas.of(account.namespace) else {
            return Ok(());
        };
        quota::check_waiting(demand, account, quota)?;
        if quota::check(demand, account, quota).is_ok() {
            return Ok(());
        }
        let kept = self.index().kept();
        self.drop_results(
            quota::evictions(demand, account, quota, kept),
            "a namespace is at its quota: evicted its oldest results",
        )?;
        Ok(quota::check(demand, Account { bytes: self.of_quota(account.namespace), ..account }, quota)?)
    }

    /// Refuses a profile that the volume has no room for.
    pub(super) fn admit_profile(&self, bytes: u64, writing: u64) -> Result<(), ResultsError> {
        let free = self.usage()?.free;
        if bytes.saturating_add(writing) <= free {
            return Ok(());
        }
        Err(ResultsError::Full(format!(
            "the results volume is full: assembling a profile needs {bytes} bytes and {free} are free; enlarge \
             it, or lower the ttl of sessions"
        )))
    }

    /// Makes room for a copy by removing other copies, and refuses it where that is not enough.
    pub(super) fn admit_copy(&self, bytes: u64, writing: u64) -> Result<(), ResultsError> {
        let largest = self.index().largest_with("", 0);
        self.evict(Demand { bytes, writing, largest }, u64::MAX)?;
        self.admit_profile(bytes, writing)
    }

    fn account(&self, namespace: &str) -> u64 {
        self.index().accounts().get(namespace).copied().unwrap_or(0)
    }

    /// What counts towards the quota of a namespace.
    fn of_quota(&self, namespace: &str) -> u64 {
        self.account(namespace).saturating_sub(self.index().to_keep(namespace))
    }

    /// The share of each namespace while `namespace` is one of them.
    fn share(&self, namespace: &str) -> Result<u64, ResultsError> {
        let volume = self.usage()?.volume();
        let accounts = self.index().accounts();
        let namespaces = accounts.len() + usize::from(!accounts.contains_key(namespace));
        Ok(storage::share(volume, self.config.share, namespaces))
    }

    /// Evicts results until there is room to spare, or nobody is over the share any more.
    fn evict(&self, demand: Demand, share: u64) -> Result<(), ResultsError> {
        let need = storage::pressure(self.usage()?.volume(), demand);
        if need == 0 {
            return Ok(());
        }
        let (accounts, kept) = {
            let index = self.index();
            (index.accounts(), index.kept())
        };
        self.drop_results(
            storage::evictions(need, share, &accounts, kept),
            "the results volume is almost full: evicted the oldest results of namespaces over their share",
        )
    }

    fn drop_results(&self, evictions: Evictions, why: &'static str) -> Result<(), ResultsError> {
        let (mut copies, mut removed) = (Removed::default(), Removed::default());
        for session in evictions.copies {
            self.delete(&session, &mut copies)?;
        }
        for session in evictions.lost {
            self.delete(&session, &mut removed)?;
        }
        if copies.sessions > 0 {
            debug!(sessions = copies.sessions, "removed copies of results that another destination holds");
        }
        if removed.sessions > 0 {
            self.metrics.evicted(removed.sessions);
            warn!(sessions = removed.sessions, bytes = removed.bytes, "{why}");
        }
        Ok(())
    }
}
