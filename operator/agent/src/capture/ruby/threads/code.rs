//! Which method is at an instruction of Ruby, in which file and on which line? Read from the interpreter's own
//! tables.
//!
//! ```text
//! iseq ─► body ─► first instruction, their number
//!             ├─► location: path, label                 found: a path or a pair of paths, and two texts
//!             └─► lines: entries ◄─ index ◄─ instruction   found behind it: an index stands for the positions
//! ```
//! Where location and lines are in a body differs from release to release, and is found by what they must look
//! like. All of it may be hostile: what cannot be is refused, and every size is bounded.

use std::collections::HashMap;
use std::rc::Rc;

use crate::capture::memory::Memory;

/// What the flags of an object say: its type, and that its content is elsewhere (a text) or in it (an array).
const TYPE: u64 = 0x1f;
const TEXT: u64 = 0x05;
const ARRAY: u64 = 0x07;
const INTERNAL: u64 = 0x1a;
const FIRST_FLAG: u64 = 1 << 13;
/// Where the flags of an internal object say which one it is, and the numbers of code and of a block in C.
const INTERNAL_KIND: u32 = 12;
const CODE: u64 = 7;
const BLOCK_IN_C: u64 = 4;
/// Parts of a body: its kind, the number of instructions, the first one, and where the location may be.
const BODY: usize = 256;
const INSTRUCTIONS: usize = 8;
const LOCATIONS: std::ops::Range<usize> = 32..176;
const MAX_KIND: u32 = 8;
const MAX_WORDS: u32 = 1 << 22;
/// Where the lines may be, from the location on: Ruby 3.1 keeps the first line in a wider field.
const LINES: [usize; 2] = [48, 56];
/// Bytes of an entry of the table of lines; the first four are the line.
const ENTRY: u64 = 12;
/// Parts of the index: positions below the first number are in words of nine, others in blocks.
const IMMEDIATE: u64 = 54;
const IN_WORD: u64 = 9;
const IN_BLOCK: u64 = 512;
const BLOCK: usize = 80;
/// Longest text that is taken for one, and how much of it is kept.
const MAX_LENGTH: u64 = 64 * 1024;
const KEPT: u64 = 1024;
/// Most lines of a file.
const MAX_LINE: u32 = 10_000_000;
/// Most methods and lines that are remembered.
const MAX_KNOWN: usize = 20_000;
const MAX_KNOWN_LINES: usize = 100_000;

/// A method, a block, or the code of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    body: u64,
    /// Its name, as Ruby's own traces have it.
    pub name: String,
    /// Its file.
    pub file: String,
    first: u64,
    words: u32,
    lines: Option<Lines>,
}

/// The table of its lines.
#[derive(Debug, PartialEq, Eq)]
struct Lines {
    entries: u64,
    count: u32,
    index: u64,
}

impl Code {
    /// The number of the instruction before `pc`, the one that runs; `None` where `pc` is of other code.
    fn position(&self, pc: u64) -> Option<u64> {
        let position = pc.checked_sub(self.first)? / 8;
        (position <= u64::from(self.words)).then(|| position.saturating_sub(1))
    }

    /// Whether it is part of Ruby itself.
    pub fn is_internal(&self) -> bool {
        self.file.starts_with("<internal:")
    }
}

/// The code of one process.
pub struct Codes {
    /// Whether texts keep their length in a field, as they do from Ruby 3.2 on.
    has_length: bool,
    known: HashMap<u64, Rc<Code>>,
    lines: HashMap<(u64, u64), u32>,
}

impl Codes {
    /// For Ruby 3 of this minor version.
    pub fn new(minor: u32) -> Self {
        Self { has_length: minor >= 2, known: HashMap::new(), lines: HashMap::new() }
    }

    /// Forgets everything: its memory may be used again.
    pub fn forget(&mut self) {
        self.known.clear();
        self.lines.clear();
    }

    /// The code at an address, and the line of `pc` or 0; `None` where there is none, or `pc` is not in it.
    pub fn find(&mut self, memory: &impl Memory, iseq: u64, pc: u64) -> Option<(Rc<Code>, u32)> {
        let code = self.code(memory, iseq)?;
        let position = code.position(pc)?;
        let key = (code.body, position);
        let line = match self.lines.get(&key) {
            Some(line) => *line,
            None => code.lines.as_ref().and_then(|lines| lines.find(memory, position)).unwrap_or(0),
        };
        if self.lines.len() >= MAX_KNOWN_LINES {
            self.lines.clear();
        }
        self.lines.insert(key, line);
        Some((code, line))
    }

    fn code(&mut self, memory: &impl Memory, iseq: u64) -> Option<Rc<Code>> {
        let mut head = [0; 24];
        if iseq == 0 || !iseq.is_multiple_of(8) || !memory.read(iseq, &mut head) {
            return None;
        }
        let body = word_at(&head, 16);
        if !is_internal(word_at(&head, 0), CODE) {
            return None;
        }
        if let Some(code) = self.known.get(&iseq).filter(|code| code.body == body) {
            return Some(Rc::clone(code));
        }
        let code = Rc::new(self.read_code(memory, body)?);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(iseq, Rc::clone(&code));
        Some(code)
    }

    fn read_code(&self, memory: &impl Memory, body: u64) -> Option<Code> {
        let mut bytes = [0; BODY];
        if !memory.read(body, &mut bytes) {
            return None;
        }
        let (kind, words, first) = (half_at(&bytes, 0), half_at(&bytes, 4), word_at(&bytes, INSTRUCTIONS));
        if kind > MAX_KIND || words == 0 || words > MAX_WORDS || first == 0 || !first.is_multiple_of(8) {
            return None;
        }
        LOCATIONS.step_by(8).find_map(|at| {
            let file = self.path(memory, word_at(&bytes, at))?;
            let _base = self.text(memory, word_at(&bytes, at + 8))?;
            let name = self.text(memory, word_at(&bytes, at + 16))?;
            let lines = LINES.iter().find_map(|lines| Lines::read(memory, &bytes, at + lines, words));
            Some(Code { body, name, file, first, words, lines })
        })
    }

    /// A path, or of a pair of paths the real one, if there is one.
    fn path(&self, memory: &impl Memory, value: u64) -> Option<String> {
        let flags = flags(memory, value)?;
        match flags & TYPE {
            TEXT => self.text(memory, value),
            ARRAY => {
                let elements = match flags & FIRST_FLAG {
                    0 => memory.word(value.wrapping_add(32))?,
                    _ => value.wrapping_add(16),
                };
                let real = memory.word(elements.wrapping_add(8)).and_then(|real| self.text(memory, real));
                real.or_else(|| self.text(memory, memory.word(elements)?))
            }
            _ => None,
        }
    }

    /// A text of Ruby; none where it cannot be one.
    fn text(&self, memory: &impl Memory, value: u64) -> Option<String> {
        let flags = flags(memory, value).filter(|flags| flags & TYPE == TEXT)?;
        let word = |at: u64| memory.word(value.wrapping_add(at));
        let (length, start) = match (flags & FIRST_FLAG != 0, self.has_length) {
            (true, _) => (word(16)?, word(24)?),
            (false, true) => (word(16)?, value.wrapping_add(24)),
            (false, false) => (flags >> 14 & 0x1f, value.wrapping_add(16)),
        };
        let mut bytes = vec![0; usize::try_from(length.min(KEPT)).ok().filter(|_| length <= MAX_LENGTH)?];
        memory.read(start, &mut bytes).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The flags of the object at an address.
fn flags(memory: &impl Memory, value: u64) -> Option<u64> {
    (value > 0xff && value.is_multiple_of(8)).then(|| memory.word(value)).flatten()
}

fn is_internal(flags: u64, kind: u64) -> bool {
    flags & TYPE == INTERNAL && flags >> INTERNAL_KIND & 0xf == kind
}

/// Whether an object is a block of a function in C.
pub fn is_block_in_c(memory: &impl Memory, value: u64) -> bool {
    flags(memory, value).is_some_and(|flags| is_internal(flags, BLOCK_IN_C))
}

impl Lines {
    /// The table at this place of a body, if it can be one: entries, no positions, how many, and their index.
    fn read(memory: &impl Memory, body: &[u8], at: usize, words: u32) -> Option<Self> {
        let part = |n: usize| word_at(body, at + 8 * n);
        let count = half_at(body, at + 16);
        let lines = Self { entries: part(0), count, index: part(3) };
        let can_be = part(1) == 0 && (1..=words).contains(&count);
        let is_pointer = |value: u64| value > 0xffff && value.is_multiple_of(4);
        (can_be && is_pointer(lines.entries) && is_pointer(lines.index) && lines.line(memory, 0).is_some())
            .then_some(lines)
    }

    fn line(&self, memory: &impl Memory, entry: u64) -> Option<u32> {
        let line = memory.half(self.entries.wrapping_add(entry.checked_mul(ENTRY)?))?;
        (1..=MAX_LINE).contains(&line).then_some(line)
    }

    /// The line of the instruction at a position: that of the last entry that begins at it or before.
    fn find(&self, memory: &impl Memory, position: u64) -> Option<u32> {
        let rank = self.rank(memory, position)?;
        let entry = rank.checked_sub(1).filter(|entry| *entry < u64::from(self.count))?;
        self.line(memory, entry)
    }

    /// How many entries begin at a position or before it.
    fn rank(&self, memory: &impl Memory, position: u64) -> Option<u64> {
        if position < IMMEDIATE {
            let word = memory.word(self.index.wrapping_add(position / IN_WORD * 8))?;
            return Some(word >> (position % IN_WORD * 7) & 0x7f);
        }
        let (block, bit) = ((position - IMMEDIATE) / IN_BLOCK, (position - IMMEDIATE) % IN_BLOCK);
        let mut bytes = [0; BLOCK];
        let blocks = self.index.wrapping_add(IMMEDIATE / IN_WORD * 8);
        if !memory.read(blocks.wrapping_add(block * BLOCK as u64), &mut bytes) {
            return None;
        }
        let small = bit / 64;
        let before = match small.checked_sub(1) {
            None => 0,
            Some(small) => word_at(&bytes, 8) >> (small * 9) & 0x1ff,
        };
        let bits = word_at(&bytes, 16 + usize::try_from(small).ok()? * 8);
        let among = u64::from((bits << (63 - bit % 64)).count_ones());
        Some(u64::from(half_at(&bytes, 0)) + before + among)
    }
}

pub fn word_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn half_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}
