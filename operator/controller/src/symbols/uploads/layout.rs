//! Where do uploaded files with symbols lie in an archive?
//!
//! ```text
//! CLUSTER/.symbols/BUILD-ID/SHA-256/000000 …     pieces of 4 MiB
//! CLUSTER/.symbols/BUILD-ID/SHA-256/about.json   what is known of the file; written last, so it is whole
//! CLUSTER/.symbols/BUILD-ID/deleted              when it was deleted, for volumes that still hold it
//! ```
//! Pieces are objects of their own: each is sent again alone, and what breaks off leaves nothing that a bucket keeps
//! without showing it, as parts of a multipart upload are.

use fleetprof_core::text::{cut, printable};
use fleetprof_profile::resolve::is_build_id;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{MAX_NAME, Uploaded};
use crate::destinations::{SYMBOLS, SYMBOLS_PIECE};

/// The name of what is known of a file.
const ABOUT: &str = "about.json";
/// The name of what says that a file was deleted.
const DELETED: &str = "deleted";
/// Most bytes of either.
const MAX_ABOUT: usize = 16 << 10;
/// Longest name of a person, in bytes.
const MAX_USER: usize = 512;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// What is known of the file of a build id with a SHA-256.
    About(&'a str, &'a str),
    /// A piece of it.
    Piece(&'a str, &'a str),
    /// That the file of a build id was deleted.
    Deleted(&'a str),
}

/// When a file was deleted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Deleted {
    pub(super) at: Timestamp,
}

/// Reads a key; nothing of it is believed beyond its form.
pub(super) fn part(key: &str) -> Option<Part<'_>> {
    let (_, below) = key.split_once('/')?;
    let mut parts = below.strip_prefix(SYMBOLS)?.strip_prefix('/')?.split('/');
    let (id, second, third) = (parts.next()?, parts.next()?, parts.next());
    let is_digest = second.len() == 64 && second.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (third, parts.next()) {
        _ if !is_build_id(id) => None,
        (None, None) if second == DELETED => Some(Part::Deleted(id)),
        (Some(ABOUT), None) if is_digest => Some(Part::About(id, second)),
        (Some(_), None) if is_digest => Some(Part::Piece(id, second)),
        _ => None,
    }
}

/// The build id that a key belongs to.
pub(super) fn build_id(key: &str) -> Option<&str> {
    part(key).map(|part| match part {
        Part::About(id, _) | Part::Piece(id, _) | Part::Deleted(id) => id,
    })
}

/// The folder of everything of a build id, below that of the cluster.
pub(super) fn folder(build_id: &str) -> String {
    format!("{SYMBOLS}/{build_id}")
}

/// The key of what is known of a file.
pub(super) fn about(cluster: &str, build_id: &str, sha256: &str) -> String {
    format!("{cluster}/{SYMBOLS}/{build_id}/{sha256}/{ABOUT}")
}

/// The key of a piece of a file.
pub(super) fn piece(cluster: &str, one: &Uploaded, number: u64) -> String {
    format!("{cluster}/{SYMBOLS}/{}/{}/{number:06}", one.build_id, one.sha256)
}

/// The key of what says that a file was deleted.
pub(super) fn deleted(cluster: &str, build_id: &str) -> String {
    format!("{cluster}/{SYMBOLS}/{build_id}/{DELETED}")
}

/// How many bytes each piece of a file has.
pub(super) fn pieces(bytes: u64) -> impl Iterator<Item = (u64, u64)> {
    let each = SYMBOLS_PIECE as u64;
    (0..bytes.div_ceil(each)).map(move |number| (number, each.min(bytes - number * each)))
}

/// Reads what is known of the file with that key, if it speaks of that file.
pub(super) fn read_about(body: &[u8], build_id: &str, sha256: &str) -> Option<Uploaded> {
    let one: Uploaded = serde_json::from_slice(body.get(..body.len().min(MAX_ABOUT))?).ok()?;
    (one.build_id == build_id && one.sha256 == sha256 && one.bytes > 0).then(|| one.clean())
}

/// Reads when a file was deleted.
pub(super) fn read_deleted(body: &[u8]) -> Option<Timestamp> {
    let deleted: Deleted = serde_json::from_slice(body.get(..body.len().min(MAX_ABOUT))?).ok()?;
    Some(deleted.at)
}

impl Uploaded {
    /// The same with texts that people can be shown.
    pub(super) fn clean(self) -> Self {
        let shown = |text: &str, most| cut(&printable(text), most);
        Self { name: shown(&self.name, MAX_NAME), by: shown(&self.by, MAX_USER), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destinations::is_of_symbols;

    fn one() -> Uploaded {
        Uploaded {
            build_id: "abcdef01".into(),
            name: "shop".into(),
            bytes: 9 << 20,
            sha256: "0f".repeat(32),
            by: "ann".into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let (one, cluster) = (one(), "prod");
        let key = about(cluster, &one.build_id, &one.sha256);
        assert_eq!(part(&key), Some(Part::About("abcdef01", &one.sha256)));
        assert_eq!(part(&piece(cluster, &one, 7)), Some(Part::Piece("abcdef01", &one.sha256)));
        assert_eq!(part(&deleted(cluster, "abcdef01")), Some(Part::Deleted("abcdef01")));
        for key in [key, piece(cluster, &one, 512), deleted(cluster, &one.build_id)] {
            assert!(is_of_symbols(&key), "{key}");
        }
        for foreign in [
            "prod/.symbols/abcdef01",
            "prod/.symbols/../deleted",
            "prod/.symbols/abcdef01/00/about.json",
            "",
            "prod/shop/x",
        ] {
            assert_eq!(part(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_file_has_pieces_of_4_mib() {
        let mib = 1 << 20;
        assert_eq!(pieces(9 * mib).collect::<Vec<_>>(), [(0, 4 * mib), (1, 4 * mib), (2, mib)]);
        assert_eq!(pieces(4 * mib).count(), 1);
        assert_eq!(pieces(1).collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn what_is_known_of_another_file_is_not_believed() {
        let one = one();
        let body = serde_json::to_vec(&one).unwrap();
        assert_eq!(read_about(&body, "abcdef01", &one.sha256), Some(one.clone()));
        assert_eq!(read_about(&body, "abcdef02", &one.sha256), None);
        assert_eq!(read_about(&body, "abcdef01", &"ab".repeat(32)), None);
        let hostile = Uploaded { name: format!("\u{1b}[2J{}", "x".repeat(9_000)), ..one.clone() };
        let read = read_about(&serde_json::to_vec(&hostile).unwrap(), "abcdef01", &one.sha256).unwrap();
        assert!(read.name.len() <= 160 && !read.name.contains('\u{1b}'), "{}", read.name);
        assert_eq!(read_about(&vec![b' '; 20 << 10], "abcdef01", &one.sha256), None);
    }
}
