//! May a file with symbols be uploaded? Only as far as what is uploaded leaves room for what is captured.

use super::size;

/// Most files.
pub const MOST_FILES: usize = 10_000;
/// Largest file, in bytes, whatever else there is room for: what reads it maps it.
pub const LARGEST: u64 = 2 << 30;

/// Where uploaded files are kept; in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shelf {
    /// What an administrator allows for all of them.
    pub most: u64,
    /// What they take, without the one that the new one replaces.
    pub kept: u64,
    /// How many they are, likewise.
    pub files: usize,
    /// What other uploads that are under way will take.
    pub coming: u64,
    /// What is free on the volume.
    pub free: u64,
}

impl Shelf {
    /// Largest file: half of what all may have, so that one program does not take the place of all others.
    #[must_use]
    pub fn largest(&self) -> u64 {
        (self.most / 2).min(LARGEST)
    }
}

/// Whether a file of so many bytes may be uploaded. Half of what is free stays for slices and profiles.
///
/// # Errors
/// A sentence without a full stop: what is too much, and what to do.
pub fn admit(bytes: u64, shelf: &Shelf) -> Result<(), String> {
    if bytes == 0 {
        return Err("the file is empty".to_owned());
    }
    if bytes > shelf.largest() {
        return Err(format!(
            "the file has {}, and the most is {}: keep its debug information alone (objcopy --only-keep-debug, \
             --strip-debug for names alone), or have an administrator raise symbols.uploads.size",
            size(bytes),
            size(shelf.largest())
        ));
    }
    if shelf.files >= MOST_FILES {
        return Err(format!("{MOST_FILES} files are uploaded, which is the most: delete some"));
    }
    let taken = shelf.kept.saturating_add(shelf.coming);
    if taken.saturating_add(bytes) > shelf.most {
        return Err(format!(
            "uploaded files take {}, this one has {}, and the most is {}: delete some (kubectl fleetprof symbols \
             rm), or have an administrator raise symbols.uploads.size",
            size(taken),
            size(bytes),
            size(shelf.most)
        ));
    }
    if shelf.coming.saturating_add(bytes) > shelf.free / 2 {
        return Err(format!(
            "the file has {}, and uploads may take half of the {} that are free on the results volume: enlarge \
             it, or lower the ttl of sessions",
            size(bytes),
            size(shelf.free)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_too_much_is_refused_with_what_to_do() {
        let shelf =
            Shelf { most: 1000 * MIB, kept: 300 * MIB, files: 3, coming: 100 * MIB, free: 2000 * MIB };
        assert_eq!(admit(500 * MIB, &shelf), Ok(()));
        let cases = [
            (0, shelf, "is empty"),
            (501 * MIB, shelf, "has 501 MiB, and the most is 500 MiB"),
            (500 * MIB, Shelf { kept: 401 * MIB, ..shelf }, "take 501 MiB, this one has 500 MiB"),
            (500 * MIB, Shelf { files: MOST_FILES, ..shelf }, "delete some"),
            (500 * MIB, Shelf { free: 1199 * MIB, ..shelf }, "half of the 1199 MiB that are free"),
            (u64::MAX, Shelf { most: u64::MAX, ..shelf }, "and the most is 2048 MiB"),
            (1, Shelf { kept: u64::MAX, coming: u64::MAX, ..shelf }, "delete some"),
        ];
        for (bytes, shelf, word) in cases {
            let why = admit(bytes, &shelf).unwrap_err();
            assert!(why.contains(word), "{bytes}: {why}");
        }
    }
}
