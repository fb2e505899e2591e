//! Where in a file are its blobs and its two tables that matter?

use std::ops::Range;

use super::bytes::Cursor;
use super::{FORMAT, damaged};
use crate::read::ReadError;
use crate::read::nettrace::Guid;

/// What metadata begins with: `BSJB`.
const SIGNATURE: u32 = 0x424a_5342;
/// Most streams: five are defined.
const MAX_STREAMS: u16 = 16;
/// Longest name of a stream, with the final zero.
const MAX_NAME: usize = 32;
/// The tables of documents and of methods; those before them are of assemblies.
const DOCUMENTS: usize = 0x30;
const METHODS: usize = 0x31;
/// Bits that say which indices have four bytes, and that one more number follows the counts of rows.
const WIDE_GUIDS: u8 = 2;
const WIDE_BLOBS: u8 = 4;
const HAS_MORE: u8 = 0x40;

/// Rows of the same length, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    start: usize,
    rows: u32,
    row_bytes: usize,
}

impl Table {
    /// A row, counted from 1; `None` where there are not so many.
    fn row<'b>(&self, bytes: &'b [u8], row: u32) -> Option<Cursor<'b>> {
        let index = row.checked_sub(1).filter(|_| row <= self.rows)?;
        let at = usize::try_from(index).ok()?.checked_mul(self.row_bytes)?.checked_add(self.start)?;
        Some(Cursor::new(bytes.get(at..at.checked_add(self.row_bytes)?)?, at))
    }
}

/// The tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tables {
    documents: Table,
    methods: Table,
    has_wide_blobs: bool,
    has_wide_documents: bool,
}

impl Tables {
    /// The name of a document: a blob.
    pub(super) fn document(&self, bytes: &[u8], row: u32) -> Result<u32, ReadError> {
        let found = self.documents.row(bytes, row);
        let mut found = found.ok_or_else(|| damaged(self.documents.start, "a document has no row"))?;
        found.index(self.has_wide_blobs)
    }

    /// The document of a method, 0 where it has several, and its sequence points: a blob.
    pub(super) fn method(&self, bytes: &[u8], row: u32) -> Result<Option<(u32, u32)>, ReadError> {
        let Some(mut found) = self.methods.row(bytes, row) else { return Ok(None) };
        Ok(Some((found.index(self.has_wide_documents)?, found.index(self.has_wide_blobs)?)))
    }
}

/// The identity of a file, where its blobs are, and its tables.
pub(super) fn read(bytes: &[u8]) -> Result<(Guid, Range<usize>, Tables), ReadError> {
    let streams = Streams::read(bytes)?;
    let mut identity = streams.cursor(bytes, streams.pdb.clone());
    let guid = identity.array()?;
    let tables = tables(streams.cursor(bytes, streams.tables.clone()))?;
    Ok((guid, streams.blobs, tables))
}

/// The streams that matter.
#[derive(Debug, Default)]
struct Streams {
    pdb: Range<usize>,
    tables: Range<usize>,
    blobs: Range<usize>,
}

impl Streams {
    fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(bytes, 0);
        if cursor.int()? != SIGNATURE {
            return Err(damaged(0, "it does not begin with BSJB"));
        }
        let (_major, _minor, _reserved) = (cursor.short()?, cursor.short()?, cursor.int()?);
        let version = cursor.size()?;
        cursor.take(version)?;
        let (_flags, count) = (cursor.short()?, cursor.short()?);
        let mut streams = Self::default();
        for _ in 0..count.min(MAX_STREAMS) {
            let (start, size) = (cursor.size()?, cursor.size()?);
            let range = start..start.saturating_add(size);
            match name(&mut cursor)? {
                b"#Pdb" => streams.pdb = range,
                b"#~" => streams.tables = range,
                b"#Blob" => streams.blobs = range,
                _ => {}
            }
        }
        if bytes.get(streams.blobs.clone()).is_none() {
            return Err(damaged(streams.blobs.start, "a stream is beyond the end"));
        }
        Ok(streams)
    }

    fn cursor<'b>(&self, bytes: &'b [u8], range: Range<usize>) -> Cursor<'b> {
        Cursor::new(bytes.get(range.clone()).unwrap_or_default(), range.start)
    }
}

/// The name of a stream, which is padded with zeros to four bytes.
fn name<'b>(cursor: &mut Cursor<'b>) -> Result<&'b [u8], ReadError> {
    let rest = cursor.rest();
    let length = rest.iter().take(MAX_NAME).position(|byte| *byte == 0);
    let length = length.ok_or_else(|| damaged(cursor.place(), "the name of a stream does not end"))?;
    cursor.take((length + 1).next_multiple_of(4))?;
    Ok(rest.get(..length).unwrap_or_default())
}

fn tables(mut cursor: Cursor<'_>) -> Result<Tables, ReadError> {
    let (_reserved, _version) = (cursor.int()?, cursor.short()?);
    let (heaps, _reserved) = (cursor.byte()?, cursor.byte()?);
    let (present, _sorted) = (cursor.long()?, cursor.long()?);
    if present.trailing_zeros() < 0x30 {
        return Err(ReadError::Unsupported { format: FORMAT, what: "tables of an assembly" });
    }
    let mut rows = [0; 64];
    for (table, count) in rows.iter_mut().enumerate() {
        if (present >> table) & 1 == 1 {
            *count = cursor.int()?;
        }
    }
    if heaps & HAS_MORE != 0 {
        cursor.int()?;
    }
    let (has_wide_blobs, has_wide_guids) = (heaps & WIDE_BLOBS != 0, heaps & WIDE_GUIDS != 0);
    let has_wide_documents = rows[DOCUMENTS] > u32::from(u16::MAX);
    let bytes = |is_wide| if is_wide { 4 } else { 2 };
    let documents = table(&mut cursor, rows[DOCUMENTS], 2 * (bytes(has_wide_blobs) + bytes(has_wide_guids)))?;
    let methods = table(&mut cursor, rows[METHODS], bytes(has_wide_documents) + bytes(has_wide_blobs))?;
    Ok(Tables { documents, methods, has_wide_blobs, has_wide_documents })
}

fn table(cursor: &mut Cursor<'_>, rows: u32, row_bytes: usize) -> Result<Table, ReadError> {
    let start = cursor.place();
    let bytes = usize::try_from(rows).unwrap_or(usize::MAX).saturating_mul(row_bytes);
    cursor.take(bytes)?;
    Ok(Table { start, rows, row_bytes })
}
