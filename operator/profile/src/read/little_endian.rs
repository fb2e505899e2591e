//! How are numbers read whose least significant byte comes first, as the formats of .NET have them?

use super::ReadError;

/// A place in some bytes from which is read on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    format: &'static str,
    bytes: &'a [u8],
    at: usize,
    /// Where the bytes begin in the file or stream.
    base: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first of some bytes, which begin at `base` in a file or stream of that format.
    pub(super) const fn new(format: &'static str, bytes: &'a [u8], base: usize) -> Self {
        Self { format, bytes, at: 0, base }
    }

    /// Where it is, in bytes from the start of the file or stream.
    pub(super) const fn place(&self) -> usize {
        self.base.saturating_add(self.at)
    }

    /// The bytes that follow.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// How many bytes follow.
    pub(super) const fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(ReadError::Damaged {
            format: self.format,
            at: self.place(),
            what: "it ends in the middle of a value",
        })?;
        self.at += count;
        Ok(taken)
    }

    /// So many of the next bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, ReadError> {
        self.array().map(|[byte]| byte)
    }

    /// A number of two bytes.
    pub(super) fn short(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_le_bytes)
    }

    /// A number of four bytes.
    pub(super) fn int(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of eight bytes.
    pub(super) fn long(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of four bytes that counts bytes. So many need not be there.
    pub(super) fn size(&mut self) -> Result<usize, ReadError> {
        Ok(usize::try_from(self.int()?).unwrap_or(usize::MAX))
    }
}
