//! How are the numbers of .NET's metadata read?

use super::damaged;
use crate::read::ReadError;

/// A place in some bytes from which is read on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the bytes begin in the file.
    base: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first of some bytes, which begin at `base` in the file.
    pub(super) const fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, at: 0, base }
    }

    /// Where it is, in bytes from the start of the file.
    pub(super) const fn place(&self) -> usize {
        self.base.saturating_add(self.at)
    }

    /// The bytes that follow.
    pub(super) fn rest(self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Whether none follow.
    pub(super) const fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| damaged(self.place(), "it ends in the middle of a value"))?;
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

    /// A number of four bytes that counts bytes.
    pub(super) fn size(&mut self) -> Result<usize, ReadError> {
        Ok(usize::try_from(self.int()?).unwrap_or(usize::MAX))
    }

    /// A number of eight bytes.
    pub(super) fn long(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of four bytes, or of two.
    pub(super) fn index(&mut self, is_wide: bool) -> Result<u32, ReadError> {
        if is_wide { self.int() } else { self.short().map(u32::from) }
    }

    /// A number of one, two or four bytes: the first bits say of how many.
    pub(super) fn number(&mut self) -> Result<u32, ReadError> {
        self.sized_number().map(|(number, _)| number)
    }

    /// The same, where the lowest bit is the sign.
    pub(super) fn signed(&mut self) -> Result<i64, ReadError> {
        let (number, bits) = self.sized_number()?;
        let half = i64::from(number >> 1);
        Ok(if number & 1 == 0 { half } else { half - (1 << (bits - 1)) })
    }

    /// A number, and how many bits it could have.
    fn sized_number(&mut self) -> Result<(u32, u32), ReadError> {
        let at = self.place();
        let first = self.byte()?;
        match first {
            0..0x80 => Ok((u32::from(first), 7)),
            0x80..0xc0 => Ok((u32::from(u16::from_be_bytes([first & 0x3f, self.byte()?])), 14)),
            0xc0..0xe0 => {
                let [second, third, fourth] = self.array()?;
                Ok((u32::from_be_bytes([first & 0x1f, second, third, fourth]), 29))
            }
            _ => Err(damaged(at, "a number has no length")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_in_the_standard() {
        // ECMA-335, II.23.2.
        let unsigned: [(&[u8], u32); 8] = [
            (&[0x03], 3),
            (&[0x7f], 0x7f),
            (&[0x80, 0x80], 0x80),
            (&[0xae, 0x57], 0x2e57),
            (&[0xbf, 0xff], 0x3fff),
            (&[0xc0, 0, 0x40, 0], 0x4000),
            (&[0xdf, 0xff, 0xff, 0xff], 0x1fff_ffff),
            (&[0], 0),
        ];
        for (bytes, wanted) in unsigned {
            assert_eq!(Cursor::new(bytes, 0).number().unwrap(), wanted);
        }
        let signed: [(&[u8], i64); 9] = [
            (&[0x06], 3),
            (&[0x7b], -3),
            (&[0x80, 0x80], 64),
            (&[0x01], -64),
            (&[0xc0, 0, 0x40, 0], 8192),
            (&[0x80, 0x01], -8192),
            (&[0xdf, 0xff, 0xff, 0xfe], 268_435_455),
            (&[0xc0, 0, 0, 1], -268_435_456),
            (&[0x00], 0),
        ];
        for (bytes, wanted) in signed {
            assert_eq!(Cursor::new(bytes, 0).signed().unwrap(), wanted);
        }
        for bytes in [&[0xe0_u8, 0, 0, 0][..], &[0xff], &[0x80], &[0xc0, 0, 0], &[]] {
            assert!(Cursor::new(bytes, 0).number().is_err());
        }
    }
}
