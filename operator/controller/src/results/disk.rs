//! How does a file come onto the volume whole or not at all?
//!
//! ```text
//! tmp/N written, fsynced ─► folders made, each parent fsynced ─► rename ─► folder fsynced
//! ```
//! A crash between any two steps leaves at most a file in `tmp/`, which is emptied at start.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::ResultsError;

/// What changes the volume. A seam, so that tests can stop between any two steps.
pub(super) trait Disk: Send + Sync {
    /// Makes one folder, for its owner alone; no error when it is there.
    fn make_dir(&self, path: &Path) -> io::Result<bool>;
    /// Writes a new file, for its owner alone, and waits until its bytes are durable.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file its place.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder that is empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
}

/// The volume itself.
pub(super) struct Volume;

impl Disk for Volume {
    fn make_dir(&self, path: &Path) -> io::Result<bool> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }
}

/// Writes and removes files below one root.
pub(super) struct Writer {
    disk: Box<dyn Disk>,
    root: PathBuf,
}

/// A name for an unfinished file that neither this process nor one before it has used.
fn tmp_name() -> String {
    static STARTED: LazyLock<u128> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{:x}-{}", *STARTED, NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Writer {
    /// A writer below `root`, which exists.
    pub(super) fn new(disk: Box<dyn Disk>, root: PathBuf) -> Self {
        Self { disk, root }
    }

    /// Where unfinished files lie.
    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Puts `bytes` at `path` below the root, durably.
    ///
    /// # Errors
    /// `Full` or `Io`; nothing is at `path` then, or the whole file is.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), ResultsError> {
        let tmp = self.tmp().join(tmp_name());
        let parent = path.parent().unwrap_or(&self.root);
        let put = self.disk.write_new(&tmp, bytes).and_then(|()| self.place(&tmp, path, parent));
        if put.is_err() {
            // The file may never have been made; what stays is removed at the next start.
            let _ = self.disk.remove_file(&tmp);
        }
        put.map_err(|error| ResultsError::io("writing", path, &error))
    }

    fn place(&self, tmp: &Path, path: &Path, parent: &Path) -> io::Result<()> {
        let mut tries = 3;
        loop {
            let placed = self.make_dirs(parent).and_then(|()| self.disk.rename(tmp, path));
            tries -= 1;
            match placed {
                // Removing another session may take an empty folder away between the two steps.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {}
                Err(error) => return Err(error),
                Ok(()) => return self.disk.sync_dir(parent),
            }
        }
    }

    /// Makes `path` and the folders above it, up to the root.
    pub(super) fn make_dirs(&self, path: &Path) -> io::Result<()> {
        if path == self.root || path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
        self.make_dirs(parent)?;
        if self.disk.make_dir(path)? {
            self.disk.sync_dir(parent)?;
        }
        Ok(())
    }

    /// Removes a file; no error when it is gone.
    pub(super) fn remove(&self, path: &Path) -> Result<(), ResultsError> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ResultsError::io("removing", path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes `folder` and the folders above it, below `top`, as far as they are empty.
    pub(super) fn prune(&self, folder: &Path, top: &Path) {
        let mut folder = folder;
        while folder != top && folder.starts_with(top) && self.disk.remove_dir(folder).is_ok() {
            let Some(parent) = folder.parent() else { return };
            folder = parent;
        }
    }

    /// Removes what an interrupted write left.
    pub(super) fn clear_tmp(&self) -> io::Result<()> {
        self.make_dirs(&self.tmp())?;
        for entry in std::fs::read_dir(self.tmp())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                self.disk.remove_file(&entry.path())?;
            }
        }
        Ok(())
    }
}
