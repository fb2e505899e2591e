//! How are the numbers and texts of a recording read?

use std::borrow::Cow;

use super::damaged;
use crate::read::ReadError;

/// A place in a recording from which is read on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A text as an event or a table holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    /// There is none.
    Null,
    /// The text itself.
    Here(Cow<'a, str>),
    /// Number of the text among the constants.
    Constant(u64),
}

impl<'a> Cursor<'a> {
    /// A cursor at a position, in bytes from the start.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where it is.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes follow.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| damaged(self.at, "it ends in the middle of a value"))?;
        self.at += count;
        Ok(taken)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, ReadError> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// A number of eight bytes, most significant first.
    pub(super) fn fixed(&mut self) -> Result<u64, ReadError> {
        let bytes = self.take(8)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A number of one to nine bytes: seven bits in each, least significant first, and eight in the ninth.
    pub(super) fn number(&mut self) -> Result<u64, ReadError> {
        let mut number = 0;
        for shift in (0..56).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Ok(number | u64::from(self.byte()?) << 56)
    }

    /// A number of things that follow, each of at least one byte.
    pub(super) fn count(&mut self) -> Result<usize, ReadError> {
        let at = self.at;
        let count = usize::try_from(self.number()?).ok().filter(|count| *count <= self.left());
        count.ok_or_else(|| damaged(at, "a list is longer than the rest of the recording"))
    }

    /// A text; the first byte says how it is written.
    pub(super) fn text(&mut self) -> Result<Text<'a>, ReadError> {
        let at = self.at;
        match self.byte()? {
            0 => Ok(Text::Null),
            1 => Ok(Text::Here(Cow::Borrowed(""))),
            2 => Ok(Text::Constant(self.number()?)),
            3 => {
                let count = self.count()?;
                Ok(Text::Here(String::from_utf8_lossy(self.take(count)?)))
            }
            4 => Ok(Text::Here(Cow::Owned(self.characters()?))),
            5 => {
                let count = self.count()?;
                Ok(Text::Here(latin(self.take(count)?)))
            }
            _ => Err(damaged(at, "a text is written in an unknown way")),
        }
    }

    fn characters(&mut self) -> Result<String, ReadError> {
        let mut units = Vec::new();
        for _ in 0..self.count()? {
            units.push(u16::try_from(self.number()?).unwrap_or(u16::MAX));
        }
        Ok(String::from_utf16_lossy(&units))
    }
}

fn latin(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Option<u64> {
        Cursor::new(bytes, 0).number().ok()
    }

    #[test]
    fn numbers_have_seven_bits_in_a_byte_and_eight_in_the_ninth() {
        assert_eq!(number(&[5]), Some(5));
        assert_eq!(number(&[0x85, 0x01]), Some(133));
        assert_eq!(number(&[0x80, 0x80, 0x80, 0x00]), Some(0), "padded");
        assert_eq!(number(&[0xff; 9]), Some(u64::MAX));
        assert_eq!(number(&[0xff; 8]), None);
        assert_eq!(Cursor::new(&[0, 0, 0, 0, 0, 0, 1, 2], 0).fixed().ok(), Some(258));
    }

    #[test]
    fn texts_are_written_in_six_ways() {
        let text = |bytes: &[u8]| match Cursor::new(bytes, 0).text() {
            Ok(Text::Here(text)) => text.into_owned(),
            Ok(Text::Null) => "null".to_owned(),
            Ok(Text::Constant(key)) => format!("#{key}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(text(&[0]), "null");
        assert_eq!(text(&[1]), "");
        assert_eq!(text(&[2, 9]), "#9");
        assert_eq!(text(&[3, 2, 0xc3, 0xa4]), "ä");
        assert_eq!(text(&[4, 2, b'h', 0xe4, 0x01]), "hä");
        assert_eq!(text(&[5, 2, b'h', 0xe4]), "hä");
        assert!(text(&[6]).contains("damaged at byte 0: a text is written"), "{}", text(&[6]));
        assert!(text(&[3, 100, b'a']).contains("longer than the rest"), "{}", text(&[3, 100, b'a']));
    }
}
