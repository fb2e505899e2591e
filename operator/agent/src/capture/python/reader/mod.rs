//! Which Python code do the threads of a process run? Read from the interpreter's memory without stopping it.
//!
//! ```text
//! runtime ─► interpreters ─► threads          every now and then
//!                              └─► frames     each turn: one system call for a thread that runs
//!                                    └─► code objects: names, files, tables of lines, remembered
//! ```
//! A thread's frames lie one after another in its data stack, so that they are read in one piece, and hardly
//! change between.

mod asyncio;
mod build;
mod codes;
#[cfg(test)]
mod hostile;
mod layout;
mod line_table;
mod memory;
mod sections;
mod snapshot;
mod tasks;
#[cfg(test)]
mod tasks_hostile;
mod view;

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use self::asyncio::TaskFields;
pub use self::build::is_free_threaded;
use self::codes::{Codes, Found, word_at};
use self::layout::{Current, Layout, OWNED_BY_C};
use self::memory::{Memory, Place};
use self::snapshot::Snapshot;
use self::tasks::Tasks;
pub use self::tasks::{Does, Look, MAX_TASKS, Task};

/// Most interpreters, and most threads of them together.
const MAX_INTERPRETERS: usize = 256;
const MAX_THREADS: usize = 10_000;
/// Most frames of a stack that are followed.
const MAX_FRAMES: usize = 4096;
/// Most chunks of a data stack.
const MAX_CHUNKS: usize = 1024;
/// Bytes at the start of a chunk: the previous one, its size, and how much of it is in use.
const CHUNK_HEAD: usize = 24;
/// Most bytes of a chunk that are read at once.
const MAX_READ: u64 = 256 << 10;
/// Most bytes of code of a function.
const MAX_CODE: u64 = 16 << 20;
/// Bytes below an interpreter in which its runtime begins.
const MAX_RUNTIME: u64 = 4 << 20;
/// Bytes that are searched at once.
const PAGE: usize = 4096;
/// Bits of a pointer that may be a tag.
const TAG: u64 = 7;

/// How often it is looked whether the target has loaded asyncio.
const SEARCH: Duration = Duration::from_secs(5);

/// Numbers of functions, files and lines: `(name, file, line)` to a number.
pub type Number<'a> = dyn FnMut(&str, &str, i32) -> u32 + 'a;

/// Reads the interpreters of one process.
pub struct Reader {
    pid: i32,
    memory: Memory,
    layout: Layout,
    root: Root,
    codes: Codes,
    /// By the system's id of a thread, as its own pid namespace counts.
    threads: HashMap<i32, Thread>,
    /// Numbers given to instructions: code object and offset.
    numbers: HashMap<(u64, u32), u32>,
    /// The tasks of asyncio, once it is loaded.
    tasks: Option<Tasks>,
    /// When asyncio is looked for again.
    next_search: Instant,
}

/// Where the list of interpreters is.
#[derive(Clone, Copy, Debug)]
enum Root {
    /// At this place is the address of the first one.
    First(u64),
    /// This is the only one.
    Only(u64),
}

#[derive(Clone, Debug, Default)]
struct Thread {
    address: u64,
    /// What the last turn looked at.
    again: Vec<Place>,
    /// The chunks of its data stack, the newest first.
    chunks: Vec<Place>,
}

impl Reader {
    /// A reader of the interpreter of version 3.`minor` at an address; `None` where its structures are not known.
    pub fn open(pid: i32, minor: u64, interpreter: u64) -> Option<Self> {
        let memory = Memory::of(pid, interpreter).ok()?;
        let (layout, root) = match layout::known(minor) {
            Some(layout) => (layout, Root::Only(interpreter)),
            None => {
                let (runtime, layout) = runtime(&memory, minor, interpreter)?;
                (layout, Root::First(runtime.checked_add(layout.interpreters?.first as u64)?))
            }
        };
        let codes = Codes::new(memory.clone(), layout);
        let (threads, numbers, next_search) = (HashMap::new(), HashMap::new(), Instant::now());
        let mut reader =
            Self { pid, memory, layout, root, codes, threads, numbers, tasks: None, next_search };
        reader.refresh().ok()?;
        (!reader.threads.is_empty()).then_some(reader)
    }

    /// Looks for threads that are new, and forgets those that have ended.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn refresh(&mut self) -> io::Result<()> {
        let (mut found, mut followed) = (HashMap::new(), 0);
        for interpreter in self.interpreters()? {
            let mut address =
                self.memory.word(interpreter.saturating_add(self.layout.first_thread as u64))?;
            while address != 0 {
                followed += 1;
                if followed > MAX_THREADS {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let (id, next) = self.thread_at(address)?;
                let known = self.threads.remove(&id).filter(|thread| thread.address == address);
                found.insert(id, known.unwrap_or_else(|| Thread { address, ..Thread::default() }));
                address = next;
            }
        }
        self.threads = found;
        Ok(())
    }

    /// The system's ids of the threads that are known, as their own pid namespace counts.
    pub fn threads(&self) -> Vec<i32> {
        self.threads.keys().copied().collect()
    }

    /// What a thread runs: the number of each frame, the innermost first. Empty where it runs no Python code.
    ///
    /// # Errors
    /// The thread has ended, or its stack changed while it was read.
    pub fn stack(&mut self, id: i32, number: &mut Number<'_>) -> io::Result<Vec<u32>> {
        let mut thread = self.threads.remove(&id).ok_or(io::ErrorKind::NotFound)?;
        let mut stack = self.read_stack(id, &mut thread, number);
        if stack.is_err() {
            thread.again.clear();
            stack = self.read_stack(id, &mut thread, number);
        }
        self.threads.insert(id, thread);
        stack
    }

    /// What the tasks of asyncio do now, and the number of each of their frames, the innermost first. `None`
    /// where the interpreter does not say where tasks are.
    ///
    /// # Errors
    /// The process is gone, or may not be read.
    pub fn tasks(&mut self, number: &mut Number<'_>) -> io::Result<Option<Look<u32>>> {
        let now = Instant::now();
        if let Root::First(runtime) = self.root
            && self.tasks.is_none()
            && now >= self.next_search
        {
            self.next_search = now + SEARCH;
            self.tasks = TaskFields::find(self.pid, runtime).and_then(|f| Tasks::new(f, &self.layout));
        }
        let Some(mut tasks) = self.tasks.take() else { return Ok(None) };
        let interpreters = self.interpreters()?;
        let threads: Vec<u64> = self.threads.values().map(|thread| thread.address).collect();
        let mut look = || tasks.look(&self.memory, &self.codes, (&interpreters, &threads));
        // What is torn may not be the next time.
        let looked = look().and_then(|first| if first.is_torn { look() } else { Ok(first) });
        self.tasks = Some(tasks);
        Ok(Some(looked?.numbered(|(code, instruction)| self.number(code, instruction, now, number))))
    }

    /// Forgets the numbers that were given.
    pub fn forget_numbers(&mut self) {
        self.numbers.clear();
    }

    fn interpreters(&self) -> io::Result<Vec<u64>> {
        let Root::First(first) = self.root else {
            let Root::Only(only) = self.root else { return Ok(Vec::new()) };
            return Ok(vec![only]);
        };
        let next = self.layout.interpreters.map_or(0, |fields| fields.next as u64);
        let (mut all, mut address) = (Vec::new(), self.memory.word(first)?);
        while address != 0 && all.len() < MAX_INTERPRETERS {
            all.push(address);
            address = self.memory.word(address.saturating_add(next))?;
        }
        Ok(all)
    }

    /// The id of a thread, and the address of the next one.
    fn thread_at(&self, address: u64) -> io::Result<(i32, u64)> {
        let fields = &self.layout.thread;
        let mut bytes = vec![0; fields.size];
        self.memory.read(address, &mut bytes)?;
        let word = |at| word_at(&bytes, at).ok_or(io::ErrorKind::InvalidData);
        let id = i32::try_from(word(fields.native_id)?).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok((id, word(fields.next)?))
    }

    fn read_stack(&mut self, id: i32, thread: &mut Thread, number: &mut Number<'_>) -> io::Result<Vec<u32>> {
        let fields = self.layout.thread;
        let own = Place { address: thread.address, len: fields.size };
        let mut places = vec![own];
        places.extend(thread.again.iter().filter(|place| **place != own));
        let mut snapshot = Snapshot::take(&self.memory, &places)?;
        let bytes = snapshot.get(own, || own)?;
        let word = |at| word_at(bytes, at).ok_or(io::ErrorKind::InvalidData);
        if word(fields.native_id)? != u64::try_from(id).unwrap_or(u64::MAX) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let chunk = word(fields.chunk)?;
        let current = match fields.current {
            Current::Frame(at) => word(at)?,
            Current::CFrame(at, inner) => {
                let place = Place { address: word(at)?.saturating_add(inner as u64), len: 8 };
                word_at(snapshot.get(place, || place)?, 0).ok_or(io::ErrorKind::InvalidData)?
            }
        };
        let mut chunks = Chunks { memory: self.memory.clone(), newest: chunk, known: &mut thread.chunks };
        let stack = self.follow(current, &mut snapshot, &mut chunks, number)?;
        thread.again = snapshot.used();
        Ok(stack)
    }

    fn follow(
        &mut self,
        current: u64,
        snapshot: &mut Snapshot,
        chunks: &mut Chunks<'_>,
        number: &mut Number<'_>,
    ) -> io::Result<Vec<u32>> {
        let fields = self.layout.frame;
        let now = Instant::now();
        let (mut stack, mut address, mut followed) = (Vec::new(), current, 0);
        while address != 0 {
            followed += 1;
            if followed > MAX_FRAMES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let place = Place { address, len: fields.size };
            let frame = snapshot.get(place, || chunks.around(place))?;
            let word = |at| word_at(frame, at).ok_or(io::ErrorKind::InvalidData);
            let owner = fields.owner.map_or(Some(0), |at| frame.get(at).copied());
            let (code, instruction) = (word(fields.code)? & !TAG, word(fields.instruction)?);
            address = word(fields.previous)?;
            if owner.is_some_and(|owner| owner < OWNED_BY_C) && code != 0 {
                stack.push(self.number(code, instruction, now, number)?);
            }
        }
        Ok(stack)
    }

    /// The number of the line that an instruction belongs to.
    fn number(
        &mut self,
        code: u64,
        instruction: u64,
        now: Instant,
        number: &mut Number<'_>,
    ) -> io::Result<u32> {
        let start = code.saturating_add(self.layout.code.instructions as u64);
        // Before its first instruction, a frame is still being made.
        let offset = instruction.saturating_sub(start);
        let offset = u32::try_from(offset).ok().filter(|offset| u64::from(*offset) < MAX_CODE);
        let offset = offset.ok_or(io::ErrorKind::InvalidData)?;
        if self.codes.is_trusted(code, now)
            && let Some(known) = self.numbers.get(&(code, offset))
        {
            return Ok(*known);
        }
        let code_object = match self.codes.get(code, now)? {
            Found::Same(same) => same,
            Found::New(new) => {
                self.numbers.retain(|(address, _), _| *address != code);
                new
            }
        };
        let given = number(&code_object.name, &code_object.file, code_object.line(offset));
        self.numbers.insert((code, offset), given);
        Ok(given)
    }
}

/// The chunks of a thread's data stack.
struct Chunks<'a> {
    memory: Memory,
    newest: u64,
    known: &'a mut Vec<Place>,
}

impl Chunks<'_> {
    /// What to read for a frame: its chunk up to the frame, for its callers are there. A frame elsewhere, of a
    /// generator or on the C stack, is read alone.
    fn around(&mut self, frame: Place) -> Place {
        if self.known.first().is_none_or(|chunk| chunk.address != self.newest) {
            *self.known = self.walk();
        }
        let chunk = self.known.iter().find(|chunk| chunk.offset_of(frame.address, frame.len).is_some());
        let Some(chunk) = chunk else { return frame };
        let end = frame.address.saturating_add(frame.len as u64);
        let start = chunk.address.max(end.saturating_sub(MAX_READ));
        Place { address: start, len: usize::try_from(end - start).unwrap_or(frame.len) }
    }

    fn walk(&self) -> Vec<Place> {
        let (mut chunks, mut address) = (Vec::new(), self.newest);
        while address != 0 && chunks.len() < MAX_CHUNKS {
            let mut head = [0; CHUNK_HEAD];
            if self.memory.read(address, &mut head).is_err() {
                break;
            }
            let (previous, size) = (word_at(&head, 0).unwrap_or(0), word_at(&head, 8).unwrap_or(0));
            chunks.push(Place { address, len: usize::try_from(size).unwrap_or(0) });
            address = previous;
        }
        chunks
    }
}

/// Where the runtime begins that holds the main interpreter, and the layout that it tells.
fn runtime(memory: &Memory, minor: u64, interpreter: u64) -> Option<(u64, Layout)> {
    let (mut page, mut table) = ([0; PAGE], vec![0; layout::TABLE]);
    let last = interpreter / PAGE as u64;
    for number in (last.saturating_sub(MAX_RUNTIME / PAGE as u64)..=last).rev() {
        let start = number * PAGE as u64;
        // What is not mapped is below the program's data.
        memory.read(start, &mut page).ok()?;
        let mut words = page.chunks_exact(8).enumerate().rev();
        if let Some((n, _)) = words.find(|(_, word)| *word == layout::COOKIE) {
            let address = start + n as u64 * 8;
            memory.read(address, &mut table).ok()?;
            return Some((address, layout::told(minor, &table)?));
        }
    }
    None
}
