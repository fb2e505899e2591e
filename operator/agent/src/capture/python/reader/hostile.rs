//! What does the reader make of memory that an attacker wrote? An interpreter of Python 3.12 in the memory of the
//! test itself, and what can be wrong with it.

use super::Reader;

/// An object in memory; its address stays.
pub(super) struct Words<const SIZE: usize>(Box<[u64; SIZE]>);

type Object = Words<256>;

impl<const SIZE: usize> Words<SIZE> {
    pub(super) fn new(words: &[(usize, u64)]) -> Self {
        let mut object = Self(Box::new([0; SIZE]));
        for (offset, word) in words {
            object.set(*offset, *word);
        }
        object
    }

    pub(super) fn set(&mut self, offset: usize, word: u64) {
        self.0[offset / 8] = word;
    }

    pub(super) fn at(&self) -> u64 {
        self.0.as_ptr() as u64
    }
}

/// An interpreter with one thread, which runs one frame.
struct World {
    interpreter: Object,
    thread: Object,
    c_frame: Object,
    frame: Object,
    code: Object,
    name: Object,
    table: Object,
}

const INSTRUCTIONS: u64 = 192;

fn text(word: &[u8; 8], length: u64) -> Object {
    // ASCII, compact, one byte a character.
    Object::new(&[(16, length), (32, 0x64), (40, u64::from_ne_bytes(*word))])
}

impl World {
    fn new() -> Self {
        let name = text(b"guilty\0\0", 6);
        // One entry of a column alone, for eight units.
        let table = Object::new(&[(16, 2), (32, 0x87)]);
        let code = Object::new(&[(64, 7 << 32), (112, name.at()), (128, name.at()), (136, table.at())]);
        let frame = Object::new(&[(0, code.at()), (56, code.at() + INSTRUCTIONS + 4)]);
        let c_frame = Object::new(&[(0, frame.at())]);
        let thread = Object::new(&[(144, 11), (56, c_frame.at())]);
        let interpreter = Object::new(&[(72, thread.at())]);
        Self { interpreter, thread, c_frame, frame, code, name, table }
    }

    fn open(&self) -> Option<Reader> {
        Reader::open(std::process::id().cast_signed(), 12, self.interpreter.at())
    }

    /// The frames of the thread, or `None` where they cannot be read.
    fn read(&self) -> Option<Vec<(String, i32)>> {
        let mut seen = Vec::new();
        let mut number = |name: &str, _: &str, line: i32| {
            seen.push((name.to_owned(), line));
            u32::try_from(seen.len() - 1).unwrap()
        };
        let stack = self.open()?.stack(11, &mut number).ok()?;
        Some(stack.iter().map(|n| seen[*n as usize].clone()).collect())
    }
}

#[test]
fn what_is_right_is_read() {
    assert_eq!(World::new().read(), Some(vec![("guilty".to_owned(), 7)]));
    let mut no_python = World::new();
    no_python.c_frame.set(0, 0);
    assert_eq!(no_python.read(), Some(vec![]));
    let mut owned_by_c = World::new();
    owned_by_c.frame.set(64, 3 << 48);
    assert_eq!(owned_by_c.read(), Some(vec![]));
}

#[test]
fn rings_of_threads_and_frames_end() {
    let mut threads = World::new();
    let at = threads.thread.at();
    threads.thread.set(8, at);
    assert!(threads.open().is_none_or(|reader| reader.threads() == [11]));
    let mut frames = World::new();
    let at = frames.frame.at();
    frames.frame.set(8, at);
    assert_eq!(frames.read(), None);
    let mut chunks = World::new();
    let chunk = Object::new(&[(8, u64::MAX)]);
    let mut ring = Object::new(&[(8, 1 << 40)]);
    ring.set(0, ring.at());
    for chunk in [chunk.at(), ring.at(), 8, u64::MAX] {
        chunks.thread.set(232, chunk);
        let _either = chunks.read();
    }
}

#[test]
fn sizes_and_addresses_that_cannot_be_are_refused() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 9] = [
        ("a frame nowhere", |w| w.c_frame.set(0, 8)),
        ("a frame at the end of memory", |w| w.c_frame.set(0, u64::MAX - 3)),
        ("code nowhere", |w| w.frame.set(0, 64)),
        ("an instruction far from its code", |w| w.frame.set(56, u64::MAX)),
        ("a name without end", |w| w.name.set(16, u64::MAX)),
        ("a name of an unknown kind", |w| w.name.set(32, 0x7c)),
        ("a name that is not ASCII", |w| w.name.set(40, u64::MAX)),
        ("a table without end", |w| w.table.set(16, 1 << 40)),
        ("another thread", |w| w.thread.set(144, u64::MAX)),
    ];
    for (what, change) in changes {
        let mut world = World::new();
        change(&mut world);
        assert_eq!(world.read(), None, "{what}");
    }
}

#[test]
fn another_code_object_at_the_same_address_is_noticed() {
    let mut world = World::new();
    let mut reader = world.open().unwrap();
    let names = |reader: &mut Reader| {
        let mut seen = Vec::new();
        let mut number = |name: &str, _: &str, line: i32| {
            seen.push((name.to_owned(), line));
            0
        };
        reader.stack(11, &mut number).unwrap();
        seen
    };
    assert_eq!(names(&mut reader), [("guilty".to_owned(), 7)]);
    assert_eq!(names(&mut reader), [], "it has a number");
    let other = text(b"innocent", 8);
    world.code.set(128, other.at());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(names(&mut reader), [("innocent".to_owned(), 7)]);
}
