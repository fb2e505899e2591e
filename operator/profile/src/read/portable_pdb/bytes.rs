//! How are the numbers of .NET's metadata read?

use std::ops::{Deref, DerefMut};

use super::{FORMAT, damaged};
use crate::read::{ReadError, little_endian};

/// A place in some bytes from which is read on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(little_endian::Cursor<'a>);

impl<'a> Deref for Cursor<'a> {
    type Target = little_endian::Cursor<'a>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Cursor<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<'a> Cursor<'a> {
    /// A cursor at the first of some bytes, which begin at `base`.
    pub(super) const fn new(bytes: &'a [u8], base: usize) -> Self {
        Self(little_endian::Cursor::new(FORMAT, bytes, base))
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
