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

use crate::capture::memory::Memory;
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
mod tests;
