//! Where do the objects of a stream begin and end?
//!
//! ```text
//! "Nettrace" · 20 · "!FastSerialization.1" · object* · 1
//! object = 5 · 5 1 version, oldest reader, name 6 · content · 6
//! content = 48 bytes of a Trace, else its size, zeros up to a multiple of four, and so many bytes
//! ```

use super::bytes::Cursor;
use super::{FORMAT, damaged, too_many};
use crate::read::ReadError;

/// What a stream begins with.
const START: &[u8] = b"Nettrace\x14\0\0\0!FastSerialization.1";
/// Bytes of the content of a Trace.
const TRACE: usize = 48;
/// Where in it the size of an address is.
const POINTER_SIZE: usize = 32;
/// The version of the format that is read.
const VERSION: u32 = 4;
/// Longest name of an object.
const MAX_NAME: usize = 64;
/// Tags of the serialization.
const NONE: u8 = 1;
const BEGIN: u8 = 5;
const END: u8 = 6;

/// An object of a stream, with the bytes of its content.
#[derive(Debug)]
pub(super) enum Object<'a> {
    /// Says which number is which event.
    Metadata(&'a [u8]),
    /// Stacks and their numbers.
    Stacks(&'a [u8]),
    /// Events.
    Events(&'a [u8]),
    /// Numbers of stacks begin again.
    SequencePoint,
    /// Something else.
    Other,
}

/// The bytes of a stream that have come and are not read yet.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where the next object begins in them.
    at: usize,
    /// Bytes of the stream before them.
    before: usize,
    most: usize,
    begun: bool,
    over: bool,
}

/// Where an object lies in the buffer.
struct Found {
    name: [u8; MAX_NAME],
    content: std::ops::Range<usize>,
    end: usize,
}

impl Buffer {
    /// A buffer for blocks of at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Adds bytes; those after the end of the stream are left out.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.over {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Forgets the bytes that were read.
    pub(super) fn compact(&mut self) {
        self.bytes.drain(..self.at);
        self.before = self.before.saturating_add(self.at);
        self.at = 0;
    }

    /// The next object that has come as a whole, and where its content begins in the stream.
    pub(super) fn next_object(&mut self) -> Result<Option<(Object<'_>, usize)>, ReadError> {
        if !self.begun && !self.begin()? {
            return Ok(None);
        }
        let Some(found) = self.find()? else { return Ok(None) };
        self.at = found.end;
        let place = self.before.saturating_add(found.content.start);
        let content = self.bytes.get(found.content).unwrap_or_default();
        let name = found.name.split(|byte| *byte == 0).next().unwrap_or_default();
        let object = match name {
            b"MetadataBlock" => Object::Metadata(content),
            b"StackBlock" => Object::Stacks(content),
            b"EventBlock" => Object::Events(content),
            b"SPBlock" => Object::SequencePoint,
            b"Trace" => {
                check_trace(content, place)?;
                Object::Other
            }
            _ => Object::Other,
        };
        Ok(Some((object, place)))
    }

    /// Reads over the start of the stream, once it is there.
    fn begin(&mut self) -> Result<bool, ReadError> {
        let come = self.bytes.len().min(START.len());
        if self.bytes.get(..come) != START.get(..come) {
            return Err(damaged(0, "it does not begin with Nettrace"));
        }
        self.begun = come == START.len();
        self.at = if self.begun { come } else { 0 };
        Ok(self.begun)
    }

    /// Finds the next object; none where more bytes must come.
    fn find(&mut self) -> Result<Option<Found>, ReadError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if self.over || rest.is_empty() {
            return Ok(None);
        }
        if rest.first() == Some(&NONE) {
            self.over = true;
            return Ok(None);
        }
        let place = self.before.saturating_add(self.at);
        let found = object(rest, place, self.most)?;
        let at = self.at;
        let moved = |found: Found| Found {
            content: at + found.content.start..at + found.content.end,
            end: at + found.end,
            ..found
        };
        Ok(found.map(moved))
    }
}

/// The object that begins here; none where more bytes must come. An error of the cursor means only that the
/// header is not here as a whole.
fn object(bytes: &[u8], place: usize, most: usize) -> Result<Option<Found>, ReadError> {
    let mut cursor = Cursor::new(bytes, place);
    let Some(name) = header(&mut cursor, place)? else { return Ok(None) };
    let size = if name.starts_with(b"Trace\0") {
        TRACE
    } else {
        let Ok(size) = cursor.size() else { return Ok(None) };
        let padding = cursor.place().wrapping_neg() % 4;
        if cursor.take(padding).is_err() {
            return Ok(None);
        }
        size
    };
    if size > most {
        return Err(too_many("bytes in a block", size, most));
    }
    let start = bytes.len() - cursor.left();
    if cursor.left() <= size {
        return Ok(None);
    }
    cursor.take(size)?;
    let at = cursor.place();
    if cursor.byte()? != END {
        return Err(damaged(at, "an object does not end where it should"));
    }
    Ok(Some(Found { name, content: start..start + size, end: start + size + 1 }))
}

/// The name of an object, with zeros after it; none where more bytes must come.
fn header(cursor: &mut Cursor<'_>, place: usize) -> Result<Option<[u8; MAX_NAME]>, ReadError> {
    let mut name = [0; MAX_NAME];
    for wanted in [BEGIN, BEGIN, NONE] {
        match cursor.byte() {
            Ok(tag) if tag == wanted => {}
            Ok(_) => return Err(damaged(place, "an object does not begin where it should")),
            Err(_) => return Ok(None),
        }
    }
    let Ok(_version) = cursor.int() else { return Ok(None) };
    let Ok(oldest_reader) = cursor.int() else { return Ok(None) };
    let Ok(length) = cursor.size() else { return Ok(None) };
    let room = name.get_mut(..length).filter(|_| length < MAX_NAME);
    let room = room.ok_or_else(|| damaged(place, "the name of an object is too long"))?;
    let Ok(text) = cursor.take(length) else { return Ok(None) };
    room.copy_from_slice(text);
    if oldest_reader > VERSION {
        let what = "a newer version of the format";
        return Err(ReadError::Unsupported { format: FORMAT, what });
    }
    match cursor.byte() {
        Ok(END) => Ok(Some(name)),
        Ok(_) => Err(damaged(place, "the type of an object does not end where it should")),
        Err(_) => Ok(None),
    }
}

fn check_trace(content: &[u8], place: usize) -> Result<(), ReadError> {
    let mut cursor = Cursor::new(content, place);
    cursor.take(POINTER_SIZE)?;
    match cursor.int()? {
        8 => Ok(()),
        _ => Err(ReadError::Unsupported { format: FORMAT, what: "addresses that do not have 64 bits" }),
    }
}
