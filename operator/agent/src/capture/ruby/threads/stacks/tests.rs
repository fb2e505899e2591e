//! Threads of made up interpreters, and of broken ones.

use proptest::prelude::*;

use super::*;

/// Memory from address `BASE` on.
#[derive(Clone)]
struct Fake(Vec<u8>);

const BASE: u64 = 0x10_0000;
const VARIABLE: u64 = BASE;
const VM: u64 = BASE + 0x100;
const RACTOR: u64 = BASE + 0x400;
const THREADS: [u64; 2] = [BASE + 0x800, BASE + 0x1000];
const CONTEXTS: [u64; 2] = [BASE + 0x1800, BASE + 0x1900];
const BLOCKS: [u64; 2] = [BASE + 0x1a00, BASE + 0x1b00];
const NATIVES: [u64; 2] = [BASE + 0x1c00, BASE + 0x1d00];
const STACKS: [u64; 2] = [BASE + 0x4000, BASE + 0x8000];
const WORDS: u64 = 0x400;
const CODES: [u64; 2] = [BASE + 0xc000, BASE + 0xc800];
const LINES: u64 = BASE + 0xd000;
const INDEX: u64 = BASE + 0xd800;
const TEXTS: u64 = BASE + 0xe000;
const SIZE: usize = 0x1_0000;

impl Memory for Fake {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let from = address.checked_sub(BASE).and_then(|at| usize::try_from(at).ok());
        let bytes = from.and_then(|from| self.0.get(from..from.checked_add(buffer.len())?));
        bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
    }
}

/// How a release keeps its data.
#[derive(Clone, Copy, Debug)]
struct Release {
    minor: u32,
    frame: u64,
    ractor_at: u64,
    location: u64,
}

const RELEASES: [Release; 3] = [
    Release { minor: 1, frame: 64, ractor_at: 32, location: 64 },
    Release { minor: 3, frame: 56, ractor_at: 32, location: 72 },
    Release { minor: 4, frame: 56, ractor_at: 48, location: 80 },
];

impl Fake {
    fn put(&mut self, at: u64, value: u64) {
        let at = usize::try_from(at - BASE).unwrap();
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// A text, embedded as the release does it.
    fn text(&mut self, number: u64, text: &str, release: Release) -> u64 {
        let at = TEXTS + number * 0x80;
        let length = text.len() as u64;
        let start = match release.minor {
            1 => {
                self.put(at, 0x05 | length << 14);
                at + 16
            }
            _ => {
                self.put(at, 0x05);
                self.put(at + 16, length);
                at + 24
            }
        };
        let from = usize::try_from(start - BASE).unwrap();
        self.0[from..from + text.len()].copy_from_slice(text.as_bytes());
        at
    }

    /// A method with 100 instructions; its lines change at instructions 0, 3 and 70.
    fn code(&mut self, number: usize, name: &str, release: Release) {
        let (iseq, body) = (CODES[number], CODES[number] + 0x100);
        self.put(iseq, 0x1a | 7 << 12);
        self.put(iseq + 16, body);
        self.put(body, 1 | 100 << 32);
        self.put(body + 8, CODES[number] + 0x400);
        let first = 2 + number as u64 * 4;
        let (path, name) = (self.text(first, "/app/shop.rb", release), self.text(first + 1, name, release));
        let at = body + release.location;
        [path, name, name].into_iter().enumerate().for_each(|(n, text)| self.put(at + 8 * n as u64, text));
        let lines = at + if release.minor == 1 { 56 } else { 48 };
        self.put(lines, LINES);
        self.put(lines + 16, 3);
        self.put(lines + 24, INDEX);
    }

    /// Ranks below 54 in words of nine, and a block for those from there on.
    fn lines(&mut self) {
        for (entry, line) in [(0, 10_u64), (1, 20), (2, 30)] {
            self.put(LINES + entry * 12, line);
        }
        for word in 0..6 {
            let rank = |position: u64| if position < 3 { 1 } else { 2 };
            let ranks = (0..9).fold(0, |all, n| all | rank(word * 9 + n) << (7 * n));
            self.put(INDEX + word * 8, ranks);
        }
        let block = INDEX + 48;
        self.put(block, 2);
        self.put(block + 16, 1 << (70 - 54));
    }

    /// Frames of a stack, the one that runs first: its code and instruction, or nothing for a function in C.
    fn stack(&mut self, thread: usize, release: Release, frames: &[Option<(u64, u64)>]) {
        let end = STACKS[thread] + WORDS * 8;
        let begin = end - frames.len() as u64 * release.frame;
        for (n, frame) in frames.iter().enumerate() {
            let at = begin + n as u64 * release.frame;
            let (iseq, pc) = frame.unwrap_or_default();
            self.put(at, pc);
            self.put(at + 16, iseq);
        }
        for (at, value) in [(0, STACKS[thread]), (8, WORDS), (16, begin)] {
            self.put(CONTEXTS[thread] + at, value);
        }
    }

    /// Two threads: one calls a function in C, one runs.
    fn new(release: Release) -> Self {
        let mut fake = Self(vec![0; SIZE]);
        fake.put(VARIABLE, VM);
        fake.put(VM + release.ractor_at, RACTOR);
        fake.put(VM + release.ractor_at + 8, THREADS[0]);
        let head = RACTOR + 0x40;
        for (at, next) in [(THREADS[0], THREADS[1]), (THREADS[1], head), (head, THREADS[0])] {
            fake.put(at, next);
        }
        for n in 0..2 {
            fake.put(THREADS[n] + 24, RACTOR);
            fake.put(THREADS[n] + 32, VM);
            // An empty list is not a control block.
            fake.put(THREADS[n] + 0x80, THREADS[n] + 0x80);
            fake.put(THREADS[n] + 0x88, THREADS[n] + 0x80);
            fake.put(BLOCKS[n], BLOCKS[n]);
            match release.minor {
                1 => {
                    fake.put(THREADS[n] + 40, CONTEXTS[n]);
                    fake.put(THREADS[n] + 0x100, BLOCKS[n]);
                }
                _ => {
                    fake.put(THREADS[n] + 40, NATIVES[n]);
                    fake.put(THREADS[n] + 48, CONTEXTS[n]);
                    fake.put(NATIVES[n] + 0x10, BLOCKS[n]);
                }
            }
        }
        fake.lines();
        fake.code(0, "pay", release);
        fake.code(1, "block in <main>", release);
        let at = |code: usize, instruction: u64| Some((CODES[code], CODES[code] + 0x400 + instruction * 8));
        fake.stack(0, release, &[None, at(0, 2), at(1, 75), None]);
        fake.stack(1, release, &[at(1, 5), None]);
        fake
    }
}

fn rows(stack: &Stack) -> Vec<(&str, &str, u32)> {
    stack.calls.iter().map(|call| (call.code.name.as_str(), call.code.file.as_str(), call.line)).collect()
}

#[test]
fn threads_methods_and_lines_are_found_in_every_layout() {
    for release in RELEASES {
        let mut threads = Threads::new(Fake::new(release), VARIABLE, release.minor);
        let found = threads.list().unwrap();
        let blocks: Vec<u64> = found.iter().map(|thread| thread.block).collect();
        assert_eq!(blocks, BLOCKS, "{release:?}");
        for _ in 0..2 {
            let waits = threads.stack(found[0]).unwrap();
            let wanted = [("pay", "/app/shop.rb", 10), ("block in <main>", "/app/shop.rb", 30)];
            assert_eq!((rows(&waits), waits.is_in_c), (wanted.to_vec(), true), "{release:?}");
            let runs = threads.stack(found[1]).unwrap();
            let wanted = [("block in <main>", "/app/shop.rb", 20)];
            assert_eq!((rows(&runs), runs.is_in_c), (wanted.to_vec(), false), "{release:?}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let release = RELEASES[0];
    let changes: [(&str, u64, u64); 7] = [
        ("no vm", VARIABLE, 0),
        ("a ring that does not come around", THREADS[1], THREADS[1]),
        ("a ring that leaves memory", THREADS[1], 1 << 40),
        ("no thread", THREADS[0] + 24, 8),
        ("an instruction of other code", STACKS[0] + WORDS * 8 - 3 * 64, 1 << 40),
        ("code that is none", CODES[0], 0x05),
        ("a name that is none", TEXTS + 3 * 0x80, 0x1a),
    ];
    for (what, at, value) in changes {
        let mut fake = Fake::new(release);
        fake.put(at, value);
        let mut threads = Threads::new(fake, VARIABLE, release.minor);
        let stack = threads.list().and_then(|found| threads.stack(found[0]));
        assert!(stack.is_none(), "{what}: {stack:?}");
    }
}

#[test]
fn a_block_of_a_function_in_c_is_left_out() {
    let release = RELEASES[1];
    let mut fake = Fake::new(release);
    fake.put(CODES[0], 0x1a | 4 << 12);
    fake.put(STACKS[0] + WORDS * 8 - 3 * release.frame, 0);
    let mut threads = Threads::new(fake, VARIABLE, release.minor);
    let found = threads.list().unwrap();
    assert_eq!(rows(&threads.stack(found[0]).unwrap()), [("block in <main>", "/app/shop.rb", 30)]);
}

proptest! {
    #[test]
    fn no_memory_makes_it_panic(
        changes in prop::collection::vec((0_u64..SIZE as u64 - 8, prop_oneof![any::<u64>(), BASE..BASE + SIZE as u64]), 0..40),
    ) {
        let mut fake = Fake::new(RELEASES[1]);
        changes.into_iter().for_each(|(at, value)| fake.put(BASE + at, value));
        let mut threads = Threads::new(fake, VARIABLE, 3);
        for thread in threads.list().unwrap_or_default() {
            let _any = threads.stack(thread);
        }
    }
}
