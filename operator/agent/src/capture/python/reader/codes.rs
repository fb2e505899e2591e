//! What are the code objects at these addresses called, and where do their lines begin? Each is read once: code
//! hardly ever changes. Now and then it is checked whether another object has taken the place of one.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::layout::{self, Layout};
use super::line_table::line_at;
use super::memory::Memory;

/// Most code objects that are remembered; large programs have some thousand that ever run.
const MAX_CODES: usize = 20_000;
/// Most bytes of names and tables that are remembered.
const MAX_BYTES: usize = 32 << 20;
/// Most characters of a name, and most bytes of a table of lines.
const MAX_NAME: u64 = 4096;
const MAX_TABLE: u64 = 64 << 10;
/// How long a code object is believed to be the same.
const TRUSTED: Duration = Duration::from_millis(250);

/// A code object.
#[derive(Debug)]
pub struct Code {
    /// Its qualified name.
    pub name: String,
    /// The path of its file.
    pub file: String,
    first_line: i32,
    lines: Vec<u8>,
    identity: Identity,
    seen: Instant,
}

/// What tells a code object from another one at the same address: the objects that it points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    name: u64,
    file: u64,
    lines: u64,
    first_line: i32,
}

impl Code {
    /// The line of the instruction at an offset, or the first one of the function where it has none.
    pub fn line(&self, offset: u32) -> i32 {
        line_at(&self.lines, self.first_line, offset).unwrap_or(self.first_line)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.file.len() + self.lines.len()
    }
}

/// The code objects of a process.
pub struct Codes {
    memory: Memory,
    layout: Layout,
    known: HashMap<u64, Code>,
    bytes: usize,
}

/// What was found at an address.
pub enum Found<'a> {
    /// The code object that was there before.
    Same(&'a Code),
    /// One that was not there before.
    New(&'a Code),
}

impl Codes {
    /// None is known yet.
    pub fn new(memory: Memory, layout: Layout) -> Self {
        Self { memory, layout, known: HashMap::new(), bytes: 0 }
    }

    /// Whether the object at an address need not be looked at again.
    pub fn is_trusted(&self, address: u64, now: Instant) -> bool {
        self.known.get(&address).is_some_and(|code| now.saturating_duration_since(code.seen) < TRUSTED)
    }

    /// The code object at an address.
    ///
    /// # Errors
    /// There is none, as far as can be told.
    pub fn get(&mut self, address: u64, now: Instant) -> io::Result<Found<'_>> {
        if !self.is_trusted(address, now) {
            let identity = self.identity(address)?;
            let is_same = self.known.get(&address).is_some_and(|code| code.identity == identity);
            if !is_same {
                let code = self.read(identity, now)?;
                self.make_room(address, code.bytes());
                self.bytes += code.bytes();
                return Ok(Found::New(self.known.entry(address).insert_entry(code).into_mut()));
            }
        }
        let code = self.known.get_mut(&address).ok_or(io::ErrorKind::NotFound)?;
        if now.saturating_duration_since(code.seen) >= TRUSTED {
            code.seen = now;
        }
        Ok(Found::Same(code))
    }

    /// Forgets what was at an address, and everything where there is too much.
    fn make_room(&mut self, address: u64, bytes: usize) {
        if let Some(old) = self.known.remove(&address) {
            self.bytes = self.bytes.saturating_sub(old.bytes());
        }
        if self.known.len() >= MAX_CODES || self.bytes + bytes > MAX_BYTES {
            self.known.clear();
            self.bytes = 0;
        }
    }

    fn identity(&self, address: u64) -> io::Result<Identity> {
        let code = &self.layout.code;
        let mut bytes = vec![0; code.size];
        self.memory.read(address, &mut bytes)?;
        let word = |at| word_at(&bytes, at).ok_or(io::ErrorKind::InvalidData);
        let [name, file, lines] = [word(code.name)?, word(code.file)?, word(code.lines)?];
        let first_line = word(code.first_line)? as u32;
        Ok(Identity { name, file, lines, first_line: first_line.cast_signed() })
    }

    fn read(&self, identity: Identity, now: Instant) -> io::Result<Code> {
        Ok(Code {
            name: self.text(identity.name)?,
            file: self.text(identity.file)?,
            first_line: identity.first_line,
            lines: self.table(identity.lines)?,
            identity,
            seen: now,
        })
    }

    fn table(&self, address: u64) -> io::Result<Vec<u8>> {
        let len = self.memory.word(address.saturating_add(layout::BYTES_LENGTH as u64))?;
        let mut bytes = vec![0; bounded(len, MAX_TABLE)?];
        self.memory.read(address.saturating_add(layout::BYTES as u64), &mut bytes)?;
        Ok(bytes)
    }

    fn text(&self, address: u64) -> io::Result<String> {
        self.text_of(address, |length| bounded(length, MAX_NAME))
    }

    /// The beginning of a string object's text, at most so many characters.
    ///
    /// # Errors
    /// There is none, as far as can be told.
    pub fn beginning(&self, address: u64, most: usize) -> io::Result<String> {
        self.text_of(address, |length| Ok(usize::try_from(length).unwrap_or(most).min(most)))
    }

    fn text_of(&self, address: u64, len: impl FnOnce(u64) -> io::Result<usize>) -> io::Result<String> {
        let (ascii, other) = self.layout.text;
        let mut head = [0; layout::STATE + 4];
        self.memory.read(address, &mut head)?;
        let length = word_at(&head, layout::LENGTH).ok_or(io::ErrorKind::InvalidData)?;
        let state = Text::of(&head).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; len(length)? * state.width];
        let start = if state.is_ascii { ascii } else { other };
        self.memory.read(address.saturating_add(start as u64), &mut bytes)?;
        state.decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn bounded(len: u64, most: u64) -> io::Result<usize> {
    if len > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The word at an offset.
pub fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// How a string object keeps its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text {
    /// Bytes of a character.
    width: usize,
    is_ascii: bool,
}

impl Text {
    /// As the bits of its state say: two of interning, three of the kind, then whether the text follows, and
    /// whether it is ASCII. Names of code objects always follow their object: other texts are refused.
    fn of(head: &[u8]) -> Option<Self> {
        let state = head.get(layout::STATE)?;
        let (kind, is_compact, is_ascii) = ((state >> 2) & 7, state & 0x20 != 0, state & 0x40 != 0);
        let is_known = is_compact && matches!(kind, 1 | 2 | 4) && (kind == 1 || !is_ascii);
        is_known.then_some(Self { width: usize::from(kind), is_ascii })
    }

    fn decode(self, bytes: &[u8]) -> Option<String> {
        let short = |pair: &[u8]| Some(u16::from_ne_bytes(pair.try_into().ok()?));
        let long = |four: &[u8]| char::from_u32(u32::from_ne_bytes(four.try_into().ok()?));
        match self.width {
            1 if self.is_ascii => bytes.is_ascii().then(|| String::from_utf8_lossy(bytes).into_owned()),
            1 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            2 => String::from_utf16(&bytes.chunks_exact(2).map(short).collect::<Option<Vec<u16>>>()?).ok(),
            _ => bytes.chunks_exact(4).map(long).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(state: u8) -> Vec<u8> {
        let mut head = vec![0; layout::STATE + 4];
        head[layout::STATE] = state;
        head
    }

    #[test]
    fn texts_of_every_width_are_read() {
        let state = |kind: u8, ascii: bool| kind << 2 | 0x20 | u8::from(ascii) << 6 | 0x82;
        let wide: Vec<u8> = "ж€".encode_utf16().flat_map(u16::to_ne_bytes).collect();
        let wider: Vec<u8> = "a🦀".chars().flat_map(|c| u32::from(c).to_ne_bytes()).collect();
        let cases: [(u8, bool, &[u8], Option<&str>); 6] = [
            (1, true, b"work", Some("work")),
            (1, true, b"w\xe4rk", None),
            (1, false, b"w\xe4rk", Some("wärk")),
            (2, false, &wide, Some("ж€")),
            (4, false, &wider, Some("a🦀")),
            (4, false, &[0xff; 4], None),
        ];
        for (kind, ascii, bytes, wanted) in cases {
            let text = Text::of(&head(state(kind, ascii))).unwrap();
            assert_eq!(text.decode(bytes).as_deref(), wanted, "{kind} {ascii}");
        }
        for odd in [state(1, true) & !0x20, state(3, false), state(0, false), state(2, true), 0] {
            assert_eq!(Text::of(&head(odd)), None, "{odd:#x}");
        }
    }
}
