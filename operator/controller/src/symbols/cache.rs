//! Which downloaded files are kept, and which make room? Those that were used last, within a number of bytes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use fleetprof_profile::resolve::is_build_id;

/// End of the names of files.
const END: &str = ".debug";
/// End of the names of unfinished files.
const UNFINISHED: &str = ".part";

/// Files by build id in one folder.
pub(super) struct Cache {
    folder: PathBuf,
    most: u64,
    /// Bytes of downloads that are under way.
    reserved: Mutex<u64>,
}

/// A file that is being written; removed unless it is kept.
pub(super) struct Unfinished<'a> {
    cache: &'a Cache,
    path: PathBuf,
    file: File,
    reserved: u64,
    written: u64,
}

impl Cache {
    /// The files in a folder, `most` bytes of them.
    pub(super) const fn new(folder: PathBuf, most: u64) -> Self {
        Self { folder, most, reserved: Mutex::new(0) }
    }

    /// Largest file that is kept, in bytes.
    pub(super) const fn largest(&self) -> u64 {
        self.most / 2
    }

    fn path(&self, build_id: &str) -> Option<PathBuf> {
        is_build_id(build_id).then(|| self.folder.join(format!("{build_id}{END}")))
    }

    /// The file of a build id, which counts as used.
    pub(super) fn get(&self, build_id: &str) -> Option<PathBuf> {
        let path = self.path(build_id)?;
        let file = File::open(&path).ok()?;
        // A volume that does not take the time keeps the order of the downloads.
        let _ = file.set_modified(SystemTime::now());
        Some(path)
    }

    /// Forgets a file that turned out to be of no use.
    pub(super) fn remove(&self, build_id: &str) {
        if let Some(path) = self.path(build_id) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Begins a file of at most that many bytes, once others have made room.
    ///
    /// # Errors
    /// The folder cannot be written, or there is no room beside what is being downloaded.
    pub(super) fn begin(&self, build_id: &str, bytes: u64) -> io::Result<Unfinished<'_>> {
        let mut reserved = self.reserved();
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let Some(left) = self.most.checked_sub(reserved.saturating_add(bytes)) else {
            return Err(io::Error::other("other files are being downloaded"));
        };
        self.shrink(left)?;
        let path = self.folder.join(format!("{build_id}{UNFINISHED}"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        *reserved += bytes;
        Ok(Unfinished { cache: self, path, file, reserved: bytes, written: 0 })
    }

    /// Removes the files that were used longest ago until the others have at most `most` bytes, and what a process
    /// before this one left unfinished.
    fn shrink(&self, most: u64) -> io::Result<()> {
        let (mut files, mut sum) = (Vec::new(), 0);
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let (name, meta) = (entry.file_name(), entry.metadata()?);
            if name.to_str().is_some_and(|name| name.ends_with(END)) && meta.is_file() {
                sum += meta.len();
                files.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), entry.path(), meta.len()));
            }
        }
        files.sort_unstable();
        for (_, path, bytes) in files {
            if sum <= most {
                break;
            }
            std::fs::remove_file(path)?;
            sum = sum.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Removes what an earlier process left unfinished.
    pub(super) fn clear(&self) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(UNFINISHED)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }

    fn reserved(&self) -> MutexGuard<'_, u64> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unfinished<'_> {
    /// Appends.
    ///
    /// # Errors
    /// The volume is full, or the file would be larger than was said.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        if self.written > self.reserved {
            return Err(io::Error::other("the file is larger than the server said"));
        }
        self.file.write_all(bytes)
    }

    /// The whole file, in its place.
    ///
    /// # Errors
    /// The volume does not take it.
    pub(super) fn keep(self, build_id: &str) -> io::Result<PathBuf> {
        let path = self.cache.path(build_id).ok_or(io::ErrorKind::InvalidInput)?;
        std::fs::rename(&self.path, &path)?;
        Ok(path)
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let mut reserved = self.cache.reserved();
        *reserved = reserved.saturating_sub(self.reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cache: &Cache, build_id: &str, bytes: usize) -> io::Result<PathBuf> {
        let mut file = cache.begin(build_id, bytes as u64)?;
        file.write(&vec![7; bytes])?;
        file.keep(build_id)
    }

    fn ids(cache: &Cache) -> Vec<&'static str> {
        ["aaaaaaaa", "bbbbbbbb", "cccccccc"].into_iter().filter(|id| cache.get(id).is_some()).collect()
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("symbols"), 1000);
        assert_eq!(cache.get("aaaaaaaa"), None);
        for id in ["aaaaaaaa", "bbbbbbbb"] {
            put(&cache, id, 400).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(cache.get("aaaaaaaa").is_some(), "used again");
        put(&cache, "cccccccc", 400).unwrap();
        assert_eq!(ids(&cache), ["aaaaaaaa", "cccccccc"]);
        cache.remove("aaaaaaaa");
        assert_eq!(ids(&cache), ["cccccccc"]);
    }

    #[test]
    fn what_is_not_kept_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned(), 1000);
        let mut file = cache.begin("aaaaaaaa", 10).unwrap();
        assert!(file.write(&[0; 11]).unwrap_err().to_string().contains("larger than the server said"));
        drop(file);
        let (one, two) = (cache.begin("aaaaaaaa", 600).unwrap(), cache.begin("bbbbbbbb", 600));
        assert!(two.is_err(), "downloads that are under way count");
        drop(one);
        assert!(cache.begin("bbbbbbbb", 600).is_ok());
        std::fs::write(folder.path().join("cccccccc.part"), "left").unwrap();
        cache.clear();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
