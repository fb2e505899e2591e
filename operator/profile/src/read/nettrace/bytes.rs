//! How are the numbers and texts of a trace read?

use super::damaged;
use crate::read::ReadError;

/// A place in a block from which is read on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the bytes begin in the trace.
    base: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first of some bytes, which begin at `base` in the trace.
    pub(super) fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, at: 0, base }
    }

    /// Where it is, in bytes from the start of the trace.
    pub(super) fn place(&self) -> usize {
        self.base.saturating_add(self.at)
    }

    /// How many bytes follow.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
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

    /// A number of eight bytes.
    pub(super) fn long(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of four bytes that counts bytes.
    pub(super) fn size(&mut self) -> Result<usize, ReadError> {
        let at = self.place();
        usize::try_from(self.int()?).map_err(|_| damaged(at, "a size is larger than memory"))
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
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let units = || rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let length = units().position(|unit| unit == 0);
        let length = length.ok_or_else(|| damaged(self.place(), "a text does not end"))?;
        self.at += 2 * (length + 1);
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
