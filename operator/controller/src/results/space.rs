//! Is there room for another slice, so that what is stored can still be made into profiles?
//!
//! Making a profile needs about as much again as the slices of its capture, which are removed only
//! afterwards. So a slice is refused while there is still room for that: the floor, or the largest capture,
//! whichever is more. Captures are made into profiles one after the other, so the room for one is enough for
//! all.

use std::io;
use std::path::Path;

/// Free space that slices never take: 8 MiB, or a tenth of a volume that is smaller than 80 MiB.
pub(super) const FLOOR: u64 = 8 << 20;

/// What is used and what is free, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of stored slices and profiles.
    pub used: u64,
    /// Bytes that may still be written: free on the volume, or left of the configured capacity if that is
    /// less.
    pub free: u64,
    /// Bytes of the volume, or the configured capacity if that is less.
    pub total: u64,
}

impl Usage {
    /// The free space that slices never take.
    #[must_use]
    pub fn floor(&self) -> u64 {
        FLOOR.min(self.total / 10)
    }

    /// Whether a slice of `bytes` fits when `writing` bytes are on their way and the largest capture,
    /// with this slice, has `largest` bytes.
    pub(super) fn admits(&self, bytes: u64, writing: u64, largest: u64) -> bool {
        let keep = self.floor().max(largest);
        self.free >= bytes.saturating_add(writing).saturating_add(keep)
    }
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
    fn slices_stop_where_a_profile_could_no_longer_be_made() {
        let usage = |free| Usage { used: 0, free, total: 1 << 30 };
        let cases = [
            ("plenty", 1 << 29, 4096, 0, 4096, true),
            ("exactly the floor", FLOOR + 4096, 4096, 0, 4096, true),
            ("one byte below the floor", FLOOR + 4095, 4096, 0, 4096, false),
            ("others are writing", FLOOR + 4096, 4096, 1, 4096, false),
            ("a large capture needs its room", FLOOR * 2, 4096, 0, FLOOR * 2, false),
            ("numbers that overflow", u64::MAX, u64::MAX, u64::MAX, u64::MAX, true),
        ];
        for (name, free, bytes, writing, largest, admits) in cases {
            assert_eq!(usage(free).admits(bytes, writing, largest), admits, "{name}");
        }
    }

    #[test]
    fn a_small_volume_keeps_a_tenth() {
        assert_eq!(Usage { used: 0, free: 0, total: 256 << 10 }.floor(), (256 << 10) / 10);
    }

    #[test]
    fn a_capacity_bounds_what_is_free() {
        let got = usage(Path::new("/"), 600, Some(1000)).unwrap();
        assert_eq!((got.used, got.free.min(400), got.total), (600, got.free, 1000));
        assert_eq!(usage(Path::new("/"), 2000, Some(1000)).unwrap().free, 0);
    }
}
