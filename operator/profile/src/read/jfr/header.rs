//! Where do the chunks of a recording begin and end, and what do their headers say?

use super::bytes::Cursor;
use super::damaged;
use crate::read::ReadError;

/// Bytes of a header.
pub(super) const SIZE: usize = 68;
/// What a chunk begins with.
const MAGIC: &[u8] = b"FLR\0";
/// Most chunks of a recording of which each has a metadata of its own.
const MAX_CHUNKS: usize = 1_000;

/// A chunk and what its header says.
#[derive(Debug)]
pub(super) struct Header<'a> {
    /// The whole chunk, the header included.
    pub(super) bytes: &'a [u8],
    /// Where the metadata is, from the chunk's start.
    pub(super) metadata: usize,
    /// When the chunk begins, nanoseconds since 1970.
    pub(super) start_nanos: u64,
    /// How long it is, nanoseconds.
    pub(super) duration_nanos: u64,
    /// Frequency of its clock.
    pub(super) ticks_per_second: u64,
}

/// The chunks of a recording; at least one.
pub(super) fn headers(bytes: &[u8]) -> Result<Vec<Header<'_>>, ReadError> {
    let mut headers = Vec::new();
    let mut at = 0;
    while at < bytes.len() || headers.is_empty() {
        if headers.len() >= MAX_CHUNKS {
            return Err(damaged(at, "it has more chunks than a slice can have"));
        }
        let (header, size) = header(bytes.get(at..).unwrap_or_default(), at)?;
        headers.push(header);
        at += size;
    }
    Ok(headers)
}

fn header(bytes: &[u8], at: usize) -> Result<(Header<'_>, usize), ReadError> {
    let mut cursor = Cursor::new(bytes, 0);
    if cursor.take(4).ok() != Some(MAGIC) {
        return Err(damaged(at, "a chunk does not begin with FLR"));
    }
    // Two bytes each of the major and the minor version.
    if cursor.take(4)?.get(..2) != Some(&[0, 2]) {
        return Err(damaged(at, "its version is not 2"));
    }
    let size = usize::try_from(cursor.fixed()?).ok().filter(|size| (SIZE..=bytes.len()).contains(size));
    let size = size.ok_or_else(|| damaged(at, "a chunk is longer than the recording"))?;
    let _last_checkpoint = cursor.fixed()?;
    let metadata = usize::try_from(cursor.fixed()?).ok().filter(|place| (SIZE..size).contains(place));
    let metadata = metadata.ok_or_else(|| damaged(at, "a chunk has no metadata"))?;
    let start_nanos = cursor.fixed()?;
    let duration_nanos = cursor.fixed()?;
    let _start_ticks = cursor.fixed()?;
    let ticks_per_second = cursor.fixed()?;
    let flags = cursor.take(4)?;
    if flags.last().is_none_or(|flags| flags & 1 == 0) {
        return Err(damaged(at, "its numbers are not compressed"));
    }
    let bytes = bytes.get(..size).unwrap_or_default();
    Ok((Header { bytes, metadata, start_nanos, duration_nanos, ticks_per_second }, size))
}
