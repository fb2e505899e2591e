//! Which line of which file is an instruction of a .NET method (portable PDB)?
//!
//! ```text
//! NAME.pdb ───────────────────────────────┐
//! NAME.dll ─► debug directory ─► unpacked ┴─► streams ─► tables: documents, methods
//!                                                          blobs: names of files, sequence points
//! ```
//! A method is read when it is asked for. What a file says of its sizes is never believed: everything is a
//! part of the bytes that are there.

mod bytes;
mod embedded;
mod points;
mod source;
mod tables;
#[cfg(test)]
mod tests;

pub use embedded::{DIRECTORY_ENTRY, HEADERS, debug_directory, embedded, unpack};
pub use source::MethodSource;

use std::ops::Range;

use self::bytes::Cursor;
use self::source::Files;
use self::tables::Tables;
use super::ReadError;
use super::nettrace::Guid;

const FORMAT: &str = ".NET debug information (portable PDB)";
/// Which table a token is of, in its uppermost byte, and that of methods.
const TABLE: u32 = 0xff00_0000;
const METHODS: u32 = 0x0600_0000;

/// The debug information of an assembly.
#[derive(Debug)]
pub struct PortablePdb {
    bytes: Vec<u8>,
    guid: Guid,
    blobs: Range<usize>,
    tables: Tables,
}

impl PortablePdb {
    /// Reads what the file begins with.
    ///
    /// # Errors
    /// It is none, or a damaged one.
    pub fn read(bytes: Vec<u8>) -> Result<Self, ReadError> {
        let (guid, blobs, tables) = tables::read(&bytes)?;
        Ok(Self { bytes, guid, blobs, tables })
    }

    /// Which build of an assembly it is of.
    #[must_use]
    pub const fn guid(&self) -> &Guid {
        &self.guid
    }

    /// How many bytes of memory it takes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it takes none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where the instructions of a method are from, by its token; `None` where nothing is said of it.
    ///
    /// # Errors
    /// What is said is damaged.
    pub fn method(&self, token: u32) -> Result<Option<MethodSource>, ReadError> {
        let row = token & !TABLE;
        if token & TABLE != METHODS || row == 0 {
            return Ok(None);
        }
        let Some((document, blob)) = self.tables.method(&self.bytes, row)? else { return Ok(None) };
        if blob == 0 {
            return Ok(None);
        }
        let points = points::read(self.blob(blob)?, document)?;
        let mut files = Files::default();
        for point in points.iter().filter(|point| point.line > 0) {
            files.add(point.document, || self.document(point.document));
        }
        Ok(MethodSource::of(points, files))
    }

    /// The path of a source file.
    fn document(&self, row: u32) -> Result<String, ReadError> {
        let blob = self.tables.document(&self.bytes, row)?;
        source::path(self.blob(blob)?, &|part| self.blob(part).map(|part| part.rest()))
    }

    /// The content of a blob, by where it begins among them.
    fn blob(&self, at: u32) -> Result<Cursor<'_>, ReadError> {
        let base = self.blobs.start;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let all = self.bytes.get(self.blobs.clone()).unwrap_or_default();
        let begun = all.get(at..).ok_or_else(|| damaged(base, "a blob is not among the blobs"))?;
        let mut cursor = Cursor::new(begun, base.saturating_add(at));
        let length = usize::try_from(cursor.number()?).unwrap_or(usize::MAX);
        let place = cursor.place();
        Ok(Cursor::new(cursor.take(length)?, place))
    }
}

fn damaged(at: usize, what: &'static str) -> ReadError {
    ReadError::Damaged { format: FORMAT, at, what }
}

fn too_large(what: &'static str, have: usize, limit: usize) -> ReadError {
    ReadError::TooLarge { format: FORMAT, what, have, limit }
}
