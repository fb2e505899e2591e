//! Where in an assembly (a PE file) is its debug information, if it is in there?

use std::io::Read;
use std::ops::Range;

use flate2::read::DeflateDecoder;

use super::bytes::Cursor;
use super::{damaged, too_large};
use crate::read::ReadError;

/// So many bytes of a file hold its headers.
pub const HEADERS: usize = 4096;
/// Bytes of an entry of the debug directory.
pub const DIRECTORY_ENTRY: usize = 28;
/// Most entries that are looked at; compilers write up to six.
const MAX_ENTRIES: usize = 32;
/// What an entry is that holds packed debug information, and what that begins with.
const EMBEDDED: u32 = 17;
const PACKED: &[u8] = b"MPDB";
/// Where the headers are told, and which kinds of them there are.
const PE_AT: usize = 0x3c;
const PE32: u16 = 0x10b;
const PE32_PLUS: u16 = 0x20b;
/// Which of the directories is the one of debug information.
const DEBUG: usize = 6;
/// Bytes of the header of a section.
const SECTION: usize = 40;

/// Where the debug directory is, in bytes from the start of the file, by the first [`HEADERS`] bytes of it;
/// `None` where there is none.
///
/// # Errors
/// The file is not an assembly, or a damaged one.
pub fn debug_directory(first: &[u8]) -> Result<Option<Range<u64>>, ReadError> {
    let pe = usize::try_from(at(first, PE_AT)?.int()?).unwrap_or(usize::MAX);
    let mut header = at(first, pe)?;
    if !first.starts_with(b"MZ") || header.take(4)? != b"PE\0\0" {
        return Err(damaged(0, "it is not a PE file"));
    }
    let (_machine, sections) = (header.short()?, header.short()?);
    header.take(12)?;
    let (optional_bytes, _flags) = (header.short()?, header.short()?);
    let optional = header.place();
    let directories = match header.short()? {
        PE32 => optional.saturating_add(96),
        PE32_PLUS => optional.saturating_add(112),
        _ => return Err(damaged(optional, "it is a PE file of another kind")),
    };
    let mut directory = at(first, directories.saturating_add(DEBUG * 8))?;
    let (address, size) = (directory.int()?, directory.int()?);
    if size == 0 {
        return Ok(None);
    }
    let mut table = at(first, optional.saturating_add(usize::from(optional_bytes)))?;
    for _ in 0..sections {
        let mut section = Cursor::new(table.take(SECTION)?, 0);
        section.take(12)?;
        let (start, bytes, place) = (section.int()?, section.int()?, section.int()?);
        if let Some(offset) = address.checked_sub(start).filter(|offset| *offset < bytes) {
            let begin = u64::from(place) + u64::from(offset);
            let most = u64::from(size).min((DIRECTORY_ENTRY * MAX_ENTRIES) as u64);
            return Ok(Some(begin..begin + most));
        }
    }
    Err(damaged(directories, "the debug directory is in no section"))
}

/// Where packed debug information is, in bytes from the start of the file, by its debug directory.
#[must_use]
pub fn embedded(directory: &[u8]) -> Option<Range<u64>> {
    let place = |entry: &[u8]| {
        let mut entry = Cursor::new(entry, 0);
        entry.take(12).ok()?;
        let (kind, size) = (entry.int().ok()?, entry.int().ok()?);
        let _address = entry.int().ok()?;
        let begin = u64::from(entry.int().ok()?);
        (kind == EMBEDDED).then(|| begin..begin + u64::from(size))
    };
    directory.chunks_exact(DIRECTORY_ENTRY).take(MAX_ENTRIES).find_map(place)
}

/// Unpacks debug information that is in an assembly, where it has no more than `most` bytes.
///
/// # Errors
/// It is damaged, or larger.
pub fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, ReadError> {
    let mut cursor = Cursor::new(packed, 0);
    if cursor.take(PACKED.len())? != PACKED {
        return Err(damaged(0, "it does not begin with MPDB"));
    }
    let size = cursor.size()?;
    if size > most {
        return Err(too_large("bytes", size, most));
    }
    let mut unpacked = Vec::new();
    let limit = u64::try_from(size).unwrap_or(u64::MAX).saturating_add(1);
    let read = DeflateDecoder::new(cursor.rest()).take(limit).read_to_end(&mut unpacked);
    if read.is_err() || unpacked.len() != size {
        return Err(damaged(8, "it cannot be unpacked"));
    }
    Ok(unpacked)
}

fn at(bytes: &[u8], place: usize) -> Result<Cursor<'_>, ReadError> {
    let rest = bytes.get(place..).ok_or_else(|| damaged(place, "it ends before its headers do"))?;
    Ok(Cursor::new(rest, place))
}
