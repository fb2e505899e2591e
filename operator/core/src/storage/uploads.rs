//! May a file with symbols be uploaded, and which of its copies counts? It may as far as what is uploaded leaves room
//! for what is captured.

use jiff::Timestamp;

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

/// Whether an archive takes a file of so many bytes beside `files` others that take `taken`, within the same bounds as
/// the volume. They may be exceeded where files were uploaded while the archive did not answer.
///
/// # Errors
/// A clause without a full stop: what is too much, and what to do.
pub fn admit_to_archive(bytes: u64, (files, taken): (usize, u64), most: u64) -> Result<(), String> {
    if files >= MOST_FILES {
        return Err(format!("the archive has {MOST_FILES} files, which is the most: delete some"));
    }
    if taken.saturating_add(bytes) > most {
        return Err(format!(
            "files in the archive take {}, this one has {}, and the most is {}: delete some (kubectl fleetprof symbols \
             rm), or have an administrator raise symbols.uploads.size",
            size(taken),
            size(bytes),
            size(most)
        ));
    }
    Ok(())
}

/// A copy of an uploaded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Its SHA-256.
    pub sha256: String,
    /// When it was uploaded.
    pub at: Timestamp,
}

/// What is to be done with the copy on a results volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The archive has it.
    Same,
    /// It is to be sent to the archive.
    Send,
    /// It is to be removed: somebody deleted the file, or replaced it, while another operator led.
    Drop,
}

/// Compares the copy on this volume with that in the archive, and with when the file was last deleted, if it was.
///
/// The volume of an operator that leads again may hold what was deleted meanwhile. What is missing in the archive without
/// having been deleted is sent again: the archive may be new.
#[must_use]
pub fn settle(here: &Copy, there: Option<&Copy>, deleted: Option<Timestamp>) -> Settled {
    match there {
        _ if deleted.is_some_and(|deleted| here.at <= deleted) => Settled::Drop,
        Some(there) if there.sha256 == here.sha256 => Settled::Same,
        Some(there) if there.at > here.at => Settled::Drop,
        _ => Settled::Send,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_copy_counts_and_what_was_deleted_does_not_come_back() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let copy = |sha256: &str, second: i64| Copy { sha256: sha256.to_owned(), at: at(second) };
        let here = copy("aa", 100);
        let cases = [
            (None, None, Settled::Send),
            (Some(copy("aa", 50)), None, Settled::Same),
            (Some(copy("bb", 99)), None, Settled::Send),
            (Some(copy("bb", 101)), None, Settled::Drop),
            (None, Some(at(100)), Settled::Drop),
            (None, Some(at(99)), Settled::Send),
            (Some(copy("aa", 50)), Some(at(200)), Settled::Drop),
            (Some(copy("aa", 50)), Some(at(60)), Settled::Same),
        ];
        for (there, deleted, wanted) in cases {
            assert_eq!(settle(&here, there.as_ref(), deleted), wanted, "{there:?} {deleted:?}");
        }
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn an_archive_has_the_bounds_of_the_volume() {
        assert_eq!(admit_to_archive(10 * MIB, (3, 90 * MIB), 100 * MIB), Ok(()));
        let why = admit_to_archive(11 * MIB, (3, 90 * MIB), 100 * MIB).unwrap_err();
        assert!(why.contains("take 90 MiB, this one has 11 MiB, and the most is 100 MiB"), "{why}");
        assert!(admit_to_archive(1, (MOST_FILES, 0), MIB).unwrap_err().contains("delete some"));
    }

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
