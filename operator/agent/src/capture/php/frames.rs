//! Which PHP functions are on the stack? Read from the interpreter's own list of calls.
//!
//! ```text
//! executor_globals ─► call ─► caller ─► … ─► 0         each call: its function, and the instruction it is at
//!                      └► function ─► name, class, file     each instruction: its line
//! ```
//! Where the first call and the file's name are differs with PHP's version, and is found: by what it must look
//! like. The rest has been the same from PHP 7.4 to 8.4. The interpreter runs on while it is read, and all of
//! it may be hostile: what cannot be is refused, and every loop is bounded.

use std::collections::HashMap;
use std::rc::Rc;

use super::memory::Memory;
use crate::capture::named_stacks::MAX_DEPTH;

/// Where the current call is in the globals: that of all versions so far, then wherever else it may be.
const USUAL_CURRENT: u64 = 488;
const CURRENT: std::ops::Range<u64> = 416..640;
/// So often a stack is looked for at the usual place only.
const FEW_MISSES: u8 = 3;
/// Parts of a call: the instruction, the function and the caller.
const CALL_BYTES: usize = 56;
const INSTRUCTION: usize = 0;
const FUNCTION: usize = 24;
const CALLER: usize = 48;
/// Parts of a function: its type, name and class, and where its file may be.
const FUNCTION_BYTES: usize = 216;
const NAME: usize = 8;
const CLASS: usize = 16;
const FILE: std::ops::Range<usize> = 56..200;
/// Types of functions: of PHP itself, of a script, and of code that a script made.
const INTERNAL: u8 = 1;
const USER: u8 = 2;
const EVALUATED: u8 = 4;
/// Where a class has its name, and an instruction its line.
const CLASS_NAME: u64 = 8;
const LINE: u64 = 24;
/// Where length and bytes of a text are.
const TEXT_LENGTH: u64 = 16;
const TEXT: u64 = 24;
/// Longest text that is taken for one, and how much of it is kept.
const MAX_LENGTH: u64 = 64 * 1024;
const KEPT: u64 = 1024;
/// Most lines of a file.
const MAX_LINE: u32 = 10_000_000;
/// Most functions that are remembered.
const MAX_KNOWN: usize = 20_000;
/// The files of code that is in none: `php -r` and `php < file`.
const WITHOUT_FILE: [&str; 2] = ["Command line code", "Standard input code"];
/// The name of code outside of all functions, as PHP's own traces have it.
const MAIN: &str = "{main}";

/// A function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its class, or empty.
    class: String,
    /// Its name.
    name: String,
    /// Its file; empty for one of PHP itself.
    pub file: String,
    /// The lines on which it begins and ends; of PHP itself none.
    lines: Option<(u32, u32)>,
}

/// A function on the stack.
#[derive(Debug)]
pub struct Called {
    /// The function.
    pub function: Rc<Function>,
    /// The line that it is at, or 0.
    pub line: u32,
}

impl Called {
    /// The function's name with its class.
    pub fn name(&self) -> String {
        match self.function.class.is_empty() {
            true => self.function.name.clone(),
            false => format!("{}::{}", self.function.class, self.function.name),
        }
    }
}

/// What was found.
#[derive(Debug)]
pub enum Look {
    /// Functions, the one that runs first.
    Stack(Vec<Called>),
    /// No PHP function runs.
    Idle,
    /// The interpreter changed it meanwhile, or this is not PHP.
    Torn,
}

/// What of a function tells that it is still the same one.
type Head = [u64; 3];

/// Reads the stacks of one process.
pub struct Frames<M> {
    memory: M,
    globals: u64,
    /// Where the current call is in the globals, once it was found.
    current: Option<u64>,
    /// How often no stack was found at the usual place.
    misses: u8,
    /// Where a function has its file, once it was found.
    file: Option<usize>,
    known: HashMap<u64, (Head, Rc<Function>)>,
}

impl<M: Memory> Frames<M> {
    /// For an interpreter with its globals at that address.
    pub fn new(memory: M, globals: u64) -> Self {
        Self { memory, globals, current: None, misses: 0, file: None, known: HashMap::new() }
    }

    /// Forgets functions: their memory may be used again.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// The stack at this moment.
    pub fn look(&mut self) -> Look {
        if let Some(at) = self.current {
            return self.look_at(at);
        }
        let look = self.look_at(USUAL_CURRENT);
        match &look {
            // It is null while nothing runs: that does not tell where it is.
            Look::Idle => return look,
            Look::Stack(_) => {
                self.current = Some(USUAL_CURRENT);
                return look;
            }
            Look::Torn => self.misses = self.misses.saturating_add(1),
        }
        // One that changed while it was read is looked at again before others are.
        let others = CURRENT.step_by(8).filter(|at| *at != USUAL_CURRENT && self.misses >= FEW_MISSES);
        for at in others.collect::<Vec<u64>>() {
            let other = self.look_at(at);
            if matches!(other, Look::Stack(_)) {
                self.current = Some(at);
                return other;
            }
        }
        look
    }

    fn look_at(&mut self, at: u64) -> Look {
        match self.memory.word(self.globals.wrapping_add(at)) {
            Some(0) => Look::Idle,
            Some(call) => self.stack(call).map_or(Look::Torn, Look::Stack),
            None => Look::Torn,
        }
    }

    fn stack(&mut self, mut call: u64) -> Option<Vec<Called>> {
        let mut stack = Vec::with_capacity(32);
        // Calls without a function, which are left out, count as well.
        for _ in 0..MAX_DEPTH {
            let mut bytes = [0; CALL_BYTES];
            if !self.memory.read(call, &mut bytes) {
                return None;
            }
            let function = word_at(&bytes, FUNCTION);
            if function != 0 {
                stack.push(self.called(function, word_at(&bytes, INSTRUCTION))?);
            }
            call = word_at(&bytes, CALLER);
            if call == 0 {
                break;
            }
        }
        (!stack.is_empty()).then_some(stack)
    }

    fn called(&mut self, address: u64, instruction: u64) -> Option<Called> {
        let function = self.function(address)?;
        // The function that runs may not have stored its instruction yet: then it is one of another function.
        let line = function.lines.and_then(|(first, last)| {
            let line = self.memory.half(instruction.wrapping_add(LINE))?;
            (first..=last).contains(&line).then_some(line)
        });
        Some(Called { function, line: line.unwrap_or(0) })
    }

    fn function(&mut self, address: u64) -> Option<Rc<Function>> {
        let mut bytes = [0; FUNCTION_BYTES];
        let head_bytes = bytes.get_mut(..24)?;
        if !self.memory.read(address, head_bytes) {
            return None;
        }
        let head = [0, NAME, CLASS].map(|at| word_at(&bytes, at));
        if let Some((_, function)) = self.known.get(&address).filter(|(known, _)| *known == head) {
            return Some(Rc::clone(function));
        }
        let function = Rc::new(self.read_function(address, &mut bytes)?);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(address, (head, Rc::clone(&function)));
        Some(function)
    }

    fn read_function(&mut self, address: u64, bytes: &mut [u8; FUNCTION_BYTES]) -> Option<Function> {
        let is_user = match bytes.first()? {
            &INTERNAL => false,
            &USER | &EVALUATED => true,
            _ => return None,
        };
        let (name, class) = (word_at(bytes, NAME), word_at(bytes, CLASS));
        let (file, lines) = match is_user {
            true => self.file(address, bytes).map(|(file, lines)| (file, Some(lines)))?,
            false => (String::new(), None),
        };
        // Code outside of all functions has no name; a function of PHP itself always has one.
        let name = match name {
            0 if is_user => MAIN.to_owned(),
            name => self.text(name)?,
        };
        let class = match class {
            0 => String::new(),
            class => self.text(self.memory.word(class.wrapping_add(CLASS_NAME))?)?,
        };
        Some(Function { class, name, file, lines })
    }

    /// The file of a function, and its first and last line. Where they are is found by the first function: a path
    /// before two lines.
    fn file(&mut self, address: u64, bytes: &mut [u8; FUNCTION_BYTES]) -> Option<(String, (u32, u32))> {
        if !self.memory.read(address, bytes) {
            return None;
        }
        let lines = |at: usize| (half_at(bytes, at + 8), half_at(bytes, at + 12));
        if let Some(at) = self.file {
            return Some((self.text(word_at(bytes, at))?, lines(at)));
        }
        for at in FILE.step_by(8) {
            let (first, last) = lines(at);
            let are_lines = first <= last && (1..=MAX_LINE).contains(&last);
            let text = if are_lines { self.text(word_at(bytes, at)) } else { None };
            if let Some(text) = text.filter(|text| is_path(text)) {
                self.file = Some(at);
                return Some((text, (first, last)));
            }
        }
        None
    }

    /// A text of PHP; none where it cannot be one.
    fn text(&self, address: u64) -> Option<String> {
        if address == 0 || !address.is_multiple_of(8) {
            return None;
        }
        let length = self.memory.word(address.wrapping_add(TEXT_LENGTH)).filter(|n| *n <= MAX_LENGTH)?;
        let mut bytes = vec![0; usize::try_from(length.min(KEPT)).ok()?];
        let start = address.wrapping_add(TEXT);
        let mut end = [1];
        let is_whole =
            self.memory.read(start, &mut bytes) && self.memory.read(start.wrapping_add(length), &mut end);
        (is_whole && end == [0]).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Whether a text is the name of a file, or what PHP says where there is none.
fn is_path(text: &str) -> bool {
    let is_named = text.contains('/') || WITHOUT_FILE.contains(&text);
    is_named && !text.starts_with("/**") && !text.chars().any(char::is_control)
}

fn word_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn half_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Memory from address 0 on.
    #[derive(Clone)]
    struct Fake(Vec<u8>);

    impl Memory for Fake {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            let from = usize::try_from(address).ok();
            let bytes = from.and_then(|from| self.0.get(from..from.checked_add(buffer.len())?));
            bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
        }
    }

    const GLOBALS: u64 = 0x1000;

    impl Fake {
        fn put(&mut self, at: u64, value: u64) {
            let at = usize::try_from(at).unwrap();
            self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }

        fn text(&mut self, at: u64, text: &str) {
            self.put(at + TEXT_LENGTH, text.len() as u64);
            let from = usize::try_from(at + TEXT).unwrap();
            self.0[from..from + text.len()].copy_from_slice(text.as_bytes());
        }

        /// A method, called by the script, which is called by nobody; with PHP itself on top.
        fn with_stack(current: u64, file: u64) -> Self {
            let mut fake = Self(vec![0; 0x9000]);
            fake.put(GLOBALS + current, 0x2000);
            let lines = |first: u64, last: u64| first | last << 32;
            for (call, function, caller, instruction) in
                [(0x2000, 0x3000, 0x2100, 1), (0x2100, 0x3200, 0x2200, 0x4000), (0x2200, 0x3400, 0, 0x4100)]
            {
                fake.put(call, instruction);
                fake.put(call + 24, function);
                fake.put(call + 48, caller);
            }
            for (function, kind, name, class) in
                [(0x3000, 1, 0x5000, 0), (0x3200, 2, 0x5100, 0x6000), (0x3400, 2, 0, 0)]
            {
                fake.put(function, kind);
                fake.put(function + 8, name);
                fake.put(function + 16, class);
            }
            for function in [0x3200, 0x3400] {
                fake.put(function + file, 0x5300);
                fake.put(function + file + 8, lines(3, 95));
            }
            fake.put(0x6000 + CLASS_NAME, 0x5200);
            for (at, text) in
                [(0x5000, "md5"), (0x5100, "price"), (0x5200, "Order"), (0x5300, "/app/order.php")]
            {
                fake.text(at, text);
            }
            fake.put(0x4000 + LINE, 17);
            fake.put(0x4100 + LINE, 90);
            fake
        }
    }

    fn rows(look: Look) -> Vec<(String, String, u32)> {
        let Look::Stack(stack) = look else { panic!("{look:?}") };
        stack.iter().map(|called| (called.name(), called.function.file.clone(), called.line)).collect()
    }

    #[test]
    fn functions_and_lines_are_found_in_every_layout() {
        let row = |name: &str, file: &str, line| (name.to_owned(), file.to_owned(), line);
        let wanted = [
            row("md5", "", 0),
            row("Order::price", "/app/order.php", 17),
            row("{main}", "/app/order.php", 90),
        ];
        for (current, file) in [(488, 144), (488, 152), (504, 136)] {
            let mut fake = Fake::with_stack(current, file);
            if current != USUAL_CURRENT {
                fake.put(GLOBALS + USUAL_CURRENT, 0x7000);
            }
            let mut frames = Frames::new(fake, GLOBALS);
            let found = (0..5).map(|_| frames.look()).find(|look| matches!(look, Look::Stack(_)));
            assert_eq!(rows(found.unwrap()), wanted, "{current} {file}");
            assert_eq!(rows(frames.look()), wanted, "what is known is used");
        }
    }

    #[test]
    fn a_process_that_waits_has_no_stack_and_a_stack_is_found_later() {
        let mut fake = Fake::with_stack(488, 144);
        fake.put(GLOBALS + 488, 0);
        let mut frames = Frames::new(fake, GLOBALS);
        assert!(matches!(frames.look(), Look::Idle));
        frames.memory.put(GLOBALS + 488, 0x2000);
        assert_eq!(rows(frames.look()).len(), 3);
        frames.memory.put(GLOBALS + 488, 0);
        assert!(matches!(frames.look(), Look::Idle));
    }

    #[test]
    fn what_cannot_be_is_refused_and_a_ring_of_calls_ends() {
        let changes: [(&str, u64, u64); 5] = [
            ("a call outside of memory", GLOBALS + 488, 1 << 40),
            ("a function of no type", 0x3000, 9),
            ("a name at an odd address", 0x3000 + 8, 0x5001),
            ("a text without an end", 0x5000 + TEXT_LENGTH, 2),
            ("a text that is too long", 0x5000 + TEXT_LENGTH, 1 << 40),
        ];
        for (what, at, value) in changes {
            let mut fake = Fake::with_stack(488, 144);
            fake.put(at, value);
            assert!(matches!(Frames::new(fake, GLOBALS).look(), Look::Torn), "{what}");
        }
        let mut ring = Fake::with_stack(488, 144);
        ring.put(0x2200 + 48, 0x2000);
        assert_eq!(rows(Frames::new(ring, GLOBALS).look()).len(), MAX_DEPTH);
    }

    #[test]
    fn an_instruction_of_another_function_gives_no_line() {
        for (at, value) in [(0x4000 + LINE, 96), (0x4000 + LINE, 2), (0x2100, 1 << 40)] {
            let mut fake = Fake::with_stack(488, 144);
            fake.put(at, value);
            let row = &rows(Frames::new(fake, GLOBALS).look())[1];
            assert_eq!((row.0.as_str(), row.2), ("Order::price", 0), "{at:#x}");
        }
    }

    #[test]
    fn another_function_at_the_same_place_is_read_again() {
        let mut frames = Frames::new(Fake::with_stack(488, 144), GLOBALS);
        assert_eq!(rows(frames.look())[0].0, "md5");
        frames.memory.put(0x3000 + 8, 0x5100);
        assert_eq!(rows(frames.look())[0].0, "price");
    }

    proptest! {
        #[test]
        fn no_memory_makes_it_panic(
            changes in prop::collection::vec((0_u64..0x8ff8, prop_oneof![any::<u64>(), 0_u64..0x9000]), 0..40),
        ) {
            let mut fake = Fake::with_stack(488, 144);
            changes.into_iter().for_each(|(at, value)| fake.put(at, value));
            let mut frames = Frames::new(fake, GLOBALS);
            let _any = (frames.look(), frames.look());
        }
    }
}
