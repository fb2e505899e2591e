//! What do results take on the disk, and what is left?
//!
//! The disk is counted as the kubelet counts an emptyDir and `du` a folder: the blocks of files *and* folders,
//! not the lengths of files.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fleetprof_core::storage::Volume;

/// Unit of `st_blocks`, in bytes.
const BLOCK: u64 = 512;
/// What a file is rounded up to, in bytes, by the file systems that volumes have.
const PAGE: u64 = 4096;

/// What is used and what is free, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks of all files and folders below the root.
    pub used: u64,
    /// May still be written: free on the volume, or left of the configured capacity if that is less.
    pub free: u64,
    /// Size of the volume, or the configured capacity if that is less.
    pub total: u64,
}

impl Usage {
    /// As decisions look at it.
    pub(super) const fn volume(&self) -> Volume {
        Volume { used: self.used, free: self.free, total: self.total }
    }
}

/// What a file takes on the disk; never less than its length, for file systems that tell their blocks late.
pub(super) fn of_file(meta: &Metadata) -> u64 {
    (meta.blocks() * BLOCK).max(rounded(meta.len()))
}

/// What a folder itself takes on the disk.
pub(super) fn of_folder(meta: &Metadata) -> u64 {
    meta.blocks() * BLOCK
}

/// What a file of that length will take on the disk.
pub(super) const fn rounded(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE).saturating_mul(PAGE)
}

/// The usage of the volume under `root`, of which at most `capacity` may be used.
///
/// # Errors
/// The volume does not answer.
pub(super) fn usage(root: &Path, used: u64, capacity: Option<u64>) -> io::Result<Usage> {
    let stat = nix::sys::statvfs::statvfs(root)?;
    let block = stat.fragment_size();
    let (free, total) = (stat.blocks_available().saturating_mul(block), stat.blocks().saturating_mul(block));
    let capacity = capacity.unwrap_or(u64::MAX);
    Ok(Usage { used, free: free.min(capacity.saturating_sub(used)), total: total.min(capacity) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_whole_pages() {
        for (bytes, wanted) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(rounded(bytes), wanted, "{bytes}");
        }
    }

    #[test]
    fn a_capacity_bounds_what_is_free() {
        let got = usage(Path::new("/"), 600, Some(1000)).unwrap();
        assert_eq!((got.used, got.free.min(400), got.total), (600, got.free, 1000));
        assert_eq!(usage(Path::new("/"), 2000, Some(1000)).unwrap().free, 0);
    }
}
