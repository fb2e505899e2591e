//! How is JSON of any depth read in bounded memory? Piece by piece, by who knows what comes next.
//!
//! A sampling heap profile is a tree as deep as the stacks of its target, deeper than a recursive parser may
//! go.

use std::borrow::Cow;

use super::ReadError;

/// A place in a JSON text. The caller asks for what should be there.
#[derive(Debug)]
pub(super) struct Json<'a> {
    format: &'static str,
    text: &'a str,
    at: usize,
    /// Whether an object or array has just begun, so that no comma comes before the next part.
    fresh: bool,
}

impl<'a> Json<'a> {
    /// The start of `bytes`; `format` names what they should be.
    pub(super) fn new(format: &'static str, bytes: &'a [u8]) -> Result<Self, ReadError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { format, text, at: 0, fresh: true }),
            Err(error) => {
                Err(ReadError::Damaged { format, at: error.valid_up_to(), what: "the text is not UTF-8" })
            }
        }
    }

    /// An error at this place.
    pub(super) fn damaged(&self, what: &'static str) -> ReadError {
        ReadError::Damaged { format: self.format, at: self.at, what }
    }

    /// Goes into an object.
    pub(super) fn open_object(&mut self) -> Result<(), ReadError> {
        self.open(b'{', "an object should begin here")
    }

    /// Goes into an array.
    pub(super) fn open_array(&mut self) -> Result<(), ReadError> {
        self.open(b'[', "an array should begin here")
    }

    /// The next key of the object; at its end none, and the object is left.
    pub(super) fn key(&mut self) -> Result<Option<Cow<'a, str>>, ReadError> {
        if !self.part(b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        match self.take(b':') {
            true => Ok(Some(key)),
            false => Err(self.damaged("a colon should be here")),
        }
    }

    /// Whether there is another element in the array; if not, the array is left.
    pub(super) fn element(&mut self) -> Result<bool, ReadError> {
        self.part(b']')
    }

    /// A text.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, ReadError> {
        if !self.take(b'"') {
            return Err(self.damaged("a text should be here"));
        }
        let raw = self.quoted()?;
        Ok(if raw.contains('\\') { Cow::Owned(unescaped(raw)) } else { Cow::Borrowed(raw) })
    }

    /// A number; a fraction is cut, and a number that is too large is the largest.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a float that does not fit becomes the nearest number"
    )]
    pub(super) fn integer(&mut self) -> Result<i64, ReadError> {
        self.blank();
        let rest = self.rest();
        let length = rest.bytes().take_while(|b| b"+-.eE".contains(b) || b.is_ascii_digit()).count();
        let number = rest.get(..length).unwrap_or_default();
        let read = number.parse().ok().or_else(|| number.parse::<f64>().ok().map(|float| float as i64));
        let read = read.ok_or_else(|| self.damaged("a number should be here"))?;
        self.at += length;
        Ok(read)
    }

    /// Passes over a value, whatever it is.
    pub(super) fn skip(&mut self) -> Result<(), ReadError> {
        let mut depth = 0_usize;
        loop {
            self.blank();
            match self.peek() {
                Some(b'"') => drop(self.string()?),
                Some(b'{' | b'[') => (self.at, depth) = (self.at + 1, depth + 1),
                Some(b'}' | b']') if depth > 0 => (self.at, depth) = (self.at + 1, depth - 1),
                Some(b',' | b':') if depth > 0 => self.at += 1,
                Some(byte) if byte.is_ascii_alphanumeric() || byte == b'-' => self.word(),
                _ => return Err(self.damaged("a value should be here")),
            }
            if depth == 0 {
                self.fresh = false;
                return Ok(());
            }
        }
    }

    /// Passes over a number or a word such as `true`.
    fn word(&mut self) {
        let in_word = |b: &u8| b"+-.".contains(b) || b.is_ascii_alphanumeric();
        self.at += self.rest().bytes().take_while(in_word).count();
    }

    fn open(&mut self, with: u8, otherwise: &'static str) -> Result<(), ReadError> {
        self.fresh = self.take(with);
        if self.fresh { Ok(()) } else { Err(self.damaged(otherwise)) }
    }

    /// Whether another part of the object or array comes, rather than its `end`.
    fn part(&mut self, end: u8) -> Result<bool, ReadError> {
        let first = std::mem::replace(&mut self.fresh, false);
        if self.take(end) {
            return Ok(false);
        }
        if first || self.take(b',') {
            Ok(true)
        } else {
            Err(self.damaged("a comma or an end should be here"))
        }
    }

    /// The rest of a text up to its quotation mark, which is passed.
    fn quoted(&mut self) -> Result<&'a str, ReadError> {
        let rest = self.rest();
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let end = end.ok_or_else(|| self.damaged("a text has no end"))?;
        self.at += end + 1;
        Ok(rest.get(..end).unwrap_or_default())
    }

    fn take(&mut self, byte: u8) -> bool {
        self.blank();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn blank(&mut self) {
        self.at += self.rest().bytes().take_while(|b| b" \t\r\n".contains(b)).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }
}

/// A text without its escapes; what is not a character becomes `U+FFFD`.
fn unescaped(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut units: Vec<u16> = Vec::new();
    let mut rest = raw.chars();
    while let Some(char) = rest.next() {
        let escape = if char == '\\' { rest.next() } else { None };
        if let Some('u') = escape {
            let hex: String = rest.by_ref().take(4).collect();
            units.push(u16::from_str_radix(&hex, 16).unwrap_or(0xfffd));
            continue;
        }
        flush(&mut units, &mut text);
        text.push(match escape {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(other) => other,
            None => char,
        });
    }
    flush(&mut units, &mut text);
    text
}

/// Characters outside the first 65,536 are written as two units.
fn flush(units: &mut Vec<u16>, text: &mut String) {
    text.extend(char::decode_utf16(units.drain(..)).map(|char| char.unwrap_or('\u{fffd}')));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json<'_> {
        Json::new("test", text.as_bytes()).unwrap()
    }

    fn text(quoted: &str) -> String {
        json(quoted).string().unwrap().into_owned()
    }

    #[test]
    fn a_text_loses_its_escapes() {
        assert_eq!(text(r#""a\"b\\\/\n""#), "a\"b\\/\n");
        assert_eq!(text(r#""\u00fc \ud83d\ude00""#), "ü 😀");
        assert_eq!(text(r#""\ud83d! \uzzzz""#), "\u{fffd}! \u{fffd}");
        assert!(json("\"open").string().is_err() && json("7").string().is_err());
    }

    #[test]
    fn numbers_are_cut_to_integers() {
        let cases = [("12", 12), (" -3,", -3), ("1.9", 1), ("2e3", 2000), ("1e300", i64::MAX)];
        for (number, wanted) in cases {
            assert_eq!(json(number).integer(), Ok(wanted), "{number}");
        }
        assert!(json("null").integer().is_err() && json("").integer().is_err());
    }

    #[test]
    fn objects_and_arrays_are_walked_and_what_is_not_wanted_is_passed() {
        let mut json = json(r#" {"a": [1, 2], "skip": {"x": ["}", {"y": null}]}, "b": [], "c": {}} "#);
        json.open_object().unwrap();
        assert_eq!(json.key().unwrap().as_deref(), Some("a"));
        json.open_array().unwrap();
        let mut seen = Vec::new();
        while json.element().unwrap() {
            seen.push(json.integer().unwrap());
        }
        assert_eq!((seen, json.key().unwrap().as_deref()), (vec![1, 2], Some("skip")));
        json.skip().unwrap();
        assert_eq!(json.key().unwrap().as_deref(), Some("b"));
        json.open_array().unwrap();
        assert!(!json.element().unwrap());
        assert_eq!(json.key().unwrap().as_deref(), Some("c"));
        json.skip().unwrap();
        assert_eq!(json.key(), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let mut missing = json(r#"{"a" 1}"#);
        missing.open_object().unwrap();
        let error = missing.key().unwrap_err().to_string();
        assert!(error.contains("byte 5: a colon should be here"), "{error}");
        let mut without_comma = json("[1 2]");
        without_comma.open_array().unwrap();
        assert!(without_comma.element().unwrap() && without_comma.integer().is_ok());
        assert!(without_comma.element().is_err());
        for value in ["", "]", "[", "{\"a\":"] {
            assert!(json(value).skip().is_err(), "{value}");
        }
        assert!(Json::new("test", b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_is_no_matter() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(json(&deep).skip(), Ok(()));
    }
}
