//! Where are the fields of an interpreter's structures? From 3.13 on it says so itself, in the table of offsets
//! at the start of its runtime; 3.11 and 3.12 are known. Offsets are those of 64-bit builds.

/// How the frame that a thread runs is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Current {
    /// A field of the thread points at it.
    Frame(usize),
    /// A field of the thread points at a structure on the C stack, a field of which points at it.
    CFrame(usize, usize),
}

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of an interpreter: its first thread.
    pub first_thread: usize,
    /// Of an interpreter: the next one. Of a runtime: the first one. `None` where only one is known.
    pub interpreters: Option<Interpreters>,
    /// Of a thread.
    pub thread: Thread,
    /// Of a frame.
    pub frame: Frame,
    /// Of a code object.
    pub code: Code,
    /// Bytes of a string object before its text: of ASCII, and of any other.
    pub text: (usize, usize),
    /// Of coroutines that await something; `None` where it is not told.
    pub awaits: Option<Awaits>,
}

/// Where interpreters are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreters {
    /// In the runtime, the first one.
    pub first: usize,
    /// In each, the next one.
    pub next: usize,
}

/// Fields of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Bytes that hold all of them.
    pub size: usize,
    /// The next thread.
    pub next: usize,
    /// The system's id of the thread, as its own pid namespace counts.
    pub native_id: usize,
    /// The frame that it runs.
    pub current: Current,
    /// The chunk of memory that holds its newest frames.
    pub chunk: usize,
}

/// Fields of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes that hold all of them.
    pub size: usize,
    /// Its code object; the lowest bits may be a tag.
    pub code: usize,
    /// The frame that called it.
    pub previous: usize,
    /// The instruction that it runs.
    pub instruction: usize,
    /// Whose it is; from `OWNED_BY_C` on it runs no Python code. `None` where all do.
    pub owner: Option<usize>,
}

/// Fields of a code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Bytes that hold all of them.
    pub size: usize,
    /// The name of its file.
    pub file: usize,
    /// Its qualified name.
    pub name: usize,
    /// Its table of lines.
    pub lines: usize,
    /// Its first line.
    pub first_line: usize,
    /// Its instructions.
    pub instructions: usize,
}

/// Fields that lead from a coroutine, or a generator, to what it awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaits {
    /// In a type: the address of its name.
    pub type_name: usize,
    /// In a coroutine: its frame.
    pub frame: usize,
    /// In a coroutine: what its frame does, one byte.
    pub state: usize,
    /// In a frame: its variables, after which its stack of values begins.
    pub values: usize,
    /// In a frame: the address after its last value.
    pub end: usize,
}

/// Owners of frames that run no Python code begin here: the C stack and the interpreter itself.
pub const OWNED_BY_C: u8 = 3;

/// Python 3.11.
const V3_11: Layout = Layout {
    first_thread: 16,
    interpreters: None,
    thread: Thread { size: 304, next: 8, native_id: 160, current: Current::CFrame(56, 8), chunk: 296 },
    frame: Frame { size: 72, code: 32, previous: 48, instruction: 56, owner: None },
    code: Code { size: 184, file: 112, name: 128, lines: 136, first_line: 72, instructions: 184 },
    text: (48, 72),
    awaits: None,
};

/// Python 3.12.
const V3_12: Layout = Layout {
    first_thread: 72,
    interpreters: None,
    thread: Thread { size: 240, next: 8, native_id: 144, current: Current::CFrame(56, 0), chunk: 232 },
    frame: Frame { size: 72, code: 0, previous: 8, instruction: 56, owner: Some(70) },
    code: Code { size: 192, file: 112, name: 128, lines: 136, first_line: 68, instructions: 192 },
    text: (40, 56),
    awaits: None,
};

/// The layout of a version that does not tell its own.
pub fn known(minor: u64) -> Option<Layout> {
    match minor {
        11 => Some(V3_11),
        12 => Some(V3_12),
        _ => None,
    }
}

/// How the table of offsets begins.
pub const COOKIE: &[u8; 8] = b"xdebugpy";
/// Bytes of the table that are read.
pub const TABLE: usize = 96 * 8;

/// The layout that an interpreter of version 3.`minor` says it has, of the start of its runtime.
///
/// `None` where the table is another one, holds what cannot be, or is one of a build without the global lock,
/// whose threads run at the same time and replace code while it is read.
pub fn told(minor: u64, table: &[u8]) -> Option<Layout> {
    // Of each structure in the table: how many fields 3.14 has more than 3.13.
    let later = match minor {
        13 => [0, 0, 0],
        14 => [3, 2, 1],
        _ => return None,
    };
    let field = |n: usize| offset(table, n);
    let version = word(table, 1)?;
    let is_known = table.starts_with(COOKIE) && version >> 16 == 0x300 + minor && field(2)? == 0;
    if !is_known {
        return None;
    }
    let thread = 19 + later[0];
    let frame = thread + 9;
    let code = frame + 6 + later[1];
    let text = code + 10 + later[2] + 23 + if minor == 14 { 4 } else { 0 };
    let layout = Layout {
        first_thread: field(9)?,
        interpreters: Some(Interpreters { first: field(5)?, next: field(8)? }),
        thread: thread_at(table, thread)?,
        frame: frame_at(table, frame)?,
        code: code_at(table, code)?,
        text: (field(text + 3)?, field(text + 3)? + 16),
        awaits: (minor == 14).then(|| awaits_at(table, frame, code + 13, text + 6)).flatten(),
    };
    (layout.is_plausible() && field(text + 1)? == STATE && field(text + 2)? == LENGTH).then_some(layout)
}

/// A number of the table.
fn word(table: &[u8], n: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(table.get(n * 8..n * 8 + 8)?.try_into().ok()?))
}

/// A number of the table that can be an offset.
fn offset(table: &[u8], n: usize) -> Option<usize> {
    usize::try_from(word(table, n)?).ok().filter(|value| *value < MAX_OFFSET)
}

fn thread_at(table: &[u8], start: usize) -> Option<Thread> {
    let field = |n: usize| offset(table, start + n);
    Some(Thread {
        size: field(0)?,
        next: field(2)?,
        native_id: field(6)?,
        current: Current::Frame(field(4)?),
        chunk: field(7)?,
    })
}

fn frame_at(table: &[u8], start: usize) -> Option<Frame> {
    let field = |n: usize| offset(table, start + n);
    Some(Frame {
        size: field(0)?,
        code: field(2)?,
        previous: field(1)?,
        instruction: field(3)?,
        owner: Some(field(5)?),
    })
}

fn code_at(table: &[u8], start: usize) -> Option<Code> {
    let field = |n: usize| offset(table, start + n);
    Some(Code {
        size: field(0)?,
        file: field(1)?,
        name: field(3)?,
        lines: field(4)?,
        first_line: field(5)?,
        instructions: field(9)?,
    })
}

fn awaits_at(table: &[u8], frame: usize, types: usize, coroutine: usize) -> Option<Awaits> {
    let field = |n: usize| offset(table, n);
    let awaits = Awaits {
        type_name: field(types + 1)?,
        frame: field(coroutine + 2)?,
        state: field(coroutine + 3)?,
        values: field(frame + 4)?,
        end: field(frame + 6)?,
    };
    let frame_size = field(frame)?;
    let is_plausible = [awaits.type_name, awaits.frame, awaits.state].iter().all(|at| *at < MAX_OBJECT)
        && awaits.values <= frame_size
        && awaits.end + 8 <= frame_size;
    is_plausible.then_some(awaits)
}

/// Offsets are smaller: an interpreter has some hundred kilobytes.
const MAX_OFFSET: usize = 4 << 20;
/// Bytes of a thread, and of a frame or a code object, are fewer.
const MAX_THREAD: usize = 4096;
const MAX_OBJECT: usize = 512;
/// Where a string object has its length and its state, in all versions.
pub const LENGTH: usize = 16;
pub const STATE: usize = 32;
/// Where an object of bytes has its length, and its bytes, in all versions.
pub const BYTES_LENGTH: usize = 16;
pub const BYTES: usize = 32;

impl Layout {
    fn is_plausible(&self) -> bool {
        let Self { thread, frame, code, .. } = self;
        let Current::Frame(current) = thread.current else { return false };
        let fits = |size: usize, fields: &[usize]| fields.iter().all(|field| field + 8 <= size);
        thread.size <= MAX_THREAD
            && frame.size <= MAX_OBJECT
            && code.size <= MAX_OBJECT
            && fits(thread.size, &[thread.next, thread.native_id, current, thread.chunk])
            && fits(frame.size, &[frame.code, frame.previous, frame.instruction])
            && frame.owner.is_some_and(|owner| owner < frame.size)
            && fits(code.size, &[code.file, code.name, code.lines, code.first_line])
            && (16..=128).contains(&self.text.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of CPython 3.14.6 on x86-64, as numbers.
    const OF_3_14: &str = "0 51250928 0 316616 784 808 225864 7280 7272 7344 7360 7408 7688 7672 7680 \
         16 7784 0 7800 7792 7992 0 832 0 8 16 72 152 160 232 32 88 8 0 56 80 74 64 0 216 112 120 128 136 68 52 96 \
         104 208 0 16 8 416 24 88 168 40 32 16 40 24 16 200 24 40 32 48 32 40 24 16 32 16 24 40 16 32 \
         64 32 16 40 264 192 160 24 72 67 0 8 24";

    fn table_of_3_14() -> Vec<u8> {
        let mut table: Vec<u8> =
            OF_3_14.split(' ').flat_map(|number| number.parse::<u64>().unwrap().to_ne_bytes()).collect();
        table[..8].copy_from_slice(COOKIE);
        table.resize(TABLE, 0);
        table
    }

    #[test]
    fn a_table_of_3_14_tells_of_coroutines_and_one_without_the_global_lock_is_refused() {
        let layout = told(14, &table_of_3_14()).unwrap();
        let awaits = Awaits { type_name: 24, frame: 72, state: 67, values: 80, end: 64 };
        assert_eq!((layout.awaits, layout.text), (Some(awaits), (40, 56)));
        let mut free_threaded = table_of_3_14();
        free_threaded[16] = 1;
        assert_eq!(told(14, &free_threaded), None);
    }

    #[test]
    fn a_table_that_holds_nonsense_is_not_believed() {
        let mut table = vec![0; TABLE];
        table[..8].copy_from_slice(COOKIE);
        table[8..16].copy_from_slice(&0x030d_01f0_u64.to_ne_bytes());
        assert_eq!(told(13, &table), None);
        assert_eq!(told(14, &table), None);
        assert_eq!(told(13, &[]), None);
        assert_eq!(told(13, &vec![0xff; TABLE]), None);
        for (at, byte) in (16..TABLE).flat_map(|at| [(at, 1), (at, 0xff)]) {
            let mut other = table.clone();
            other[at] = byte;
            assert_eq!(told(13, &other), None);
        }
    }
}
