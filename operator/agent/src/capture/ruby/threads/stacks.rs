//! Which threads has Ruby, and what is on their stacks? Read from its own lists, without stopping it.
//!
//! ```text
//! ruby_current_vm_ptr ─► vm ─► main Ractor, main thread ─► the ring of its threads
//! thread ─► control block of the C library
//!       └─► context ─► frames, the one that runs first: instruction, code; of a function in C no code
//! ```
//! Where threads, contexts and frames have their parts differs from release to release, and is found by what they
//! must look like: a thread points to its Ractor and to the vm, a control block to itself, and the frames of a
//! stack end where the stack does. What the interpreter changes meanwhile is refused.

use std::rc::Rc;

use super::code::{Code, Codes, is_block_in_c, word_at};
use crate::capture::memory::Memory;
use crate::capture::named_stacks::MAX_DEPTH;

/// Bytes of the vm and of a thread that are looked at.
const VM: usize = 256;
const THREAD: usize = 768;
/// Bytes of what Ruby 3.2 and newer keep of a system's thread.
const NATIVE: usize = 128;
/// Parts of a thread: its Ractor and the vm; then the system's thread or the context.
const RACTOR: usize = 24;
const OF_VM: usize = 32;
const NATIVE_OR_CONTEXT: [usize; 2] = [40, 48];
/// Most threads of a process.
const MAX_THREADS: usize = 2048;
/// Words of a stack.
const STACK_WORDS: std::ops::RangeInclusive<u64> = 256..=1 << 24;
/// Sizes of a frame, and where it has its code.
const FRAMES: [usize; 3] = [56, 64, 48];
const CODE: usize = 16;
/// The file of the frame that Ruby itself has below the program's own.
const BELOW_MAIN: &str = "<main>";
/// Most bytes of frames that are read, from the one that runs on.
const MAX_FRAME_BYTES: u64 = (MAX_DEPTH * 64) as u64;

/// A thread of Ruby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RubyThread {
    /// The address of its control block.
    pub block: u64,
    context: u64,
}

/// A method, or the like, on a stack.
#[derive(Debug)]
pub struct Called {
    /// The code.
    pub code: Rc<Code>,
    /// The line that it is at, or 0.
    pub line: u32,
}

/// A stack.
#[derive(Debug, Default)]
pub struct Stack {
    /// Methods, the one that runs first. Functions in C are left out.
    pub calls: Vec<Called>,
    /// Whether the first one has called a function in C, which runs.
    pub is_in_c: bool,
}

/// Reads the threads of one process.
pub struct Threads<M> {
    memory: M,
    variable: u64,
    codes: Codes,
    /// Bytes of a frame, once they were found.
    frame: Option<usize>,
}

impl<M: Memory> Threads<M> {
    /// For Ruby 3 of this minor version, with `ruby_current_vm_ptr` at that address.
    pub fn new(memory: M, variable: u64, minor: u32) -> Self {
        Self { memory, variable, codes: Codes::new(minor), frame: None }
    }

    /// Forgets code: its memory may be used again.
    pub fn forget(&mut self) {
        self.codes.forget();
    }

    /// The threads of the main Ractor; `None` where they changed meanwhile, or this is not Ruby.
    pub fn list(&self) -> Option<Vec<RubyThread>> {
        let vm = self.memory.word(self.variable).filter(|vm| *vm != 0)?;
        let mut bytes = [0; VM];
        if !self.memory.read(vm, &mut bytes) {
            return None;
        }
        let pairs = (8..VM - 8).step_by(8).map(|at| (word_at(&bytes, at), word_at(&bytes, at + 8)));
        let (ractor, main) = pairs.into_iter().find(|(ractor, main)| self.is_thread(*main, *ractor, vm))?;
        self.ring(main, ractor, vm)
    }

    fn is_thread(&self, address: u64, ractor: u64, vm: u64) -> bool {
        let part = |at: usize| self.memory.word(address.wrapping_add(at as u64));
        let is_pointer = |value: u64| value != 0 && value.is_multiple_of(8);
        is_pointer(address) && is_pointer(ractor) && part(RACTOR) == Some(ractor) && part(OF_VM) == Some(vm)
    }

    /// From the main thread once around; the head of the list, which is in the Ractor, is not a thread.
    fn ring(&self, main: u64, ractor: u64, vm: u64) -> Option<Vec<RubyThread>> {
        let (mut threads, mut at) = (Vec::new(), main);
        for _ in 0..MAX_THREADS {
            if self.is_thread(at, ractor, vm) {
                threads.extend(self.thread(at));
            }
            at = self.memory.word(at)?;
            if at == main {
                return Some(threads);
            }
        }
        None
    }

    /// `None` for one that is just starting or ending.
    fn thread(&self, address: u64) -> Option<RubyThread> {
        let mut bytes = [0; THREAD];
        if !self.memory.read(address, &mut bytes) {
            return None;
        }
        let context = NATIVE_OR_CONTEXT.map(|at| word_at(&bytes, at));
        let context = context.into_iter().find(|context| self.frames_of(*context).is_some())?;
        let near = address..address.wrapping_add(THREAD as u64);
        let block = self.block(bytes.get(NATIVE_OR_CONTEXT[0]..)?, &near).or_else(|| {
            let native = word_at(&bytes, NATIVE_OR_CONTEXT[0]);
            let mut bytes = [0; NATIVE];
            let is_read = native != context && self.memory.read(native, &mut bytes);
            is_read.then(|| self.block(&bytes, &(native..native.wrapping_add(NATIVE as u64)))).flatten()
        })?;
        Some(RubyThread { block, context })
    }

    /// The control block that one of these words points to: it begins with its own address. So does an empty list,
    /// but that has it twice.
    fn block(&self, bytes: &[u8], near: &std::ops::Range<u64>) -> Option<u64> {
        let words = bytes.chunks_exact(8).map(|word| word_at(word, 0));
        words.filter(|word| *word > 0xffff && word.is_multiple_of(16) && !near.contains(word)).find(|word| {
            let mut begin = [0; 16];
            self.memory.read(*word, &mut begin) && word_at(&begin, 0) == *word && word_at(&begin, 8) != *word
        })
    }

    /// Where the frames of a context begin and end.
    fn frames_of(&self, context: u64) -> Option<(u64, u64)> {
        let mut bytes = [0; 24];
        if context == 0 || !context.is_multiple_of(8) || !self.memory.read(context, &mut bytes) {
            return None;
        }
        let [stack, words, frame] = [0, 8, 16].map(|at| word_at(&bytes, at));
        if stack == 0 || !stack.is_multiple_of(8) || !STACK_WORDS.contains(&words) {
            return None;
        }
        let end = stack.checked_add(words * 8)?;
        (stack < frame && frame < end && frame.is_multiple_of(8)).then_some((frame, end))
    }

    /// The stack of a thread at this moment; `None` where it changed meanwhile.
    pub fn stack(&mut self, thread: RubyThread) -> Option<Stack> {
        let (begin, end) = self.frames_of(thread.context)?;
        let mut bytes = vec![0; usize::try_from((end - begin).min(MAX_FRAME_BYTES)).ok()?];
        if !self.memory.read(begin, &mut bytes) {
            return None;
        }
        let length = end - begin;
        let sizes: Vec<usize> = self.frame.map_or_else(|| FRAMES.to_vec(), |known| vec![known]);
        let sizes = sizes.into_iter().filter(|size| length.is_multiple_of(*size as u64));
        for size in sizes.collect::<Vec<_>>() {
            if let Some(stack) = self.walk(&bytes, size) {
                if !stack.calls.is_empty() {
                    self.frame = Some(size);
                }
                return Some(stack);
            }
        }
        None
    }

    fn walk(&mut self, bytes: &[u8], size: usize) -> Option<Stack> {
        let mut stack = Stack::default();
        for (n, frame) in bytes.chunks_exact(size).take(MAX_DEPTH).enumerate() {
            let (pc, iseq) = (word_at(frame, 0), word_at(frame, CODE));
            // A function in C has no instruction, and no code but where it is a block.
            match (pc, iseq) {
                (0, iseq) if iseq == 0 || is_block_in_c(&self.memory, iseq) => stack.is_in_c |= n == 0,
                (pc, iseq) => {
                    let (code, line) = self.codes.find(&self.memory, iseq, pc)?;
                    if code.file != BELOW_MAIN {
                        stack.calls.push(Called { code, line });
                    }
                }
            }
        }
        Some(stack)
    }
}

#[cfg(test)]
mod tests;
