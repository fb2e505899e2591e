//! How are the numbers and texts of a trace read?

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

    /// A number of one to ten bytes: seven bits in each, least significant first.
    pub(super) fn number(&mut self) -> Result<u64, ReadError> {
        let (at, mut number) = (self.place(), 0);
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            // What is beyond 64 bits is lost.
            number |= u64::from(byte & 0x7f) << shift.min(63);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged(at, "a number has more than ten bytes"))
    }

    /// The same, where the number has at most 32 bits.
    pub(super) fn small_number(&mut self) -> Result<u32, ReadError> {
        let at = self.place();
        u32::try_from(self.number()?).map_err(|_| damaged(at, "a number has more than 32 bits"))
    }

    /// A text of UTF-16 that ends with a zero. At most `most` characters are kept.
    pub(super) fn text(&mut self, most: usize) -> Result<String, ReadError> {
        let rest = self.rest();
        let units = || rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let length = units().position(|unit| unit == 0);
        let length = length.ok_or_else(|| damaged(self.place(), "a text does not end"))?;
        self.take(2 * (length + 1))?;
        let shown =
            char::decode_utf16(units().take(length)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        Ok(shown.filter(|c| !c.is_control()).take(most).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_seven_bits_in_a_byte() {
        let number = |bytes: &[u8]| Cursor::new(bytes, 0).number().ok();
        assert_eq!(number(&[5]), Some(5));
        assert_eq!(number(&[0x85, 0x01]), Some(133));
        assert_eq!(number(&[0x80, 0x80, 0x00]), Some(0), "padded");
        let largest = [&[0xff_u8; 9][..], &[0x01]].concat();
        assert_eq!(number(&largest), Some(u64::MAX));
        assert_eq!(number(&[0xff; 11]), None);
        assert!(Cursor::new(&largest, 0).small_number().is_err());
    }

    #[test]
    fn a_text_ends_with_a_zero_and_shows_no_control_characters() {
        let bytes = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let text = bytes("Shop\u{1b}.Ärger\0next");
        let mut cursor = Cursor::new(&text, 100);
        assert_eq!(cursor.text(99).unwrap(), "Shop.Ärger");
        assert_eq!((cursor.place(), cursor.left()), (124, 8));
        assert_eq!(Cursor::new(&text, 0).text(3).unwrap(), "Sho");
        let error = cursor.text(9).unwrap_err().to_string();
        assert!(error.contains("damaged at byte 124: a text does not end"), "{error}");
        assert!(Cursor::new(&[0], 0).text(9).is_err());
    }
}
