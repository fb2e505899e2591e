//! What do the tasks of asyncio await? From 3.14 on each thread has a list of its tasks, and each task leads
//! to its coroutine, that one to the coroutine that it awaits, and so on.
//!
//! ```text
//! interpreter, threads ─► tasks ─► coroutine ─► coroutine ─► … ─► what the innermost one awaits
//! ```
//! All that the last look read is read at once, then what is missing. Where the target ran on meanwhile, parts
//! do not fit one another: a list is given up where a task does not point back, a task where its frames are
//! invalid.

use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;

use super::asyncio::TaskFields;
use super::codes::{Codes, word_at};
use super::layout::{Awaits, Frame, Layout};
use super::memory::{Memory, Place};
use super::view::View;
use super::{MAX_FRAMES, TAG};

/// Most tasks that are followed; a busy server has some thousand.
pub const MAX_TASKS: usize = 10_000;
/// Most characters of a task's name that are looked at.
const MAX_NAME: usize = 64;
/// Most types of objects that are remembered.
const MAX_TYPES: usize = 1024;
/// Bytes of the longest name of a type that matters, with its end.
const TYPE_NAME: usize = 24;
/// Where an object has its type, and a wrapper of a coroutine what it wraps, in builds with the global lock.
const TYPE: usize = 8;
const WRAPPED: u64 = 16;
/// Most frames of all tasks together that are followed in a look.
const MAX_STEPS: usize = 200_000;
/// Bytes between a frame and its newest value are fewer.
const MAX_VALUES: u64 = 1 << 20;

/// What a frame of a coroutine does, as 3.14 counts.
const CREATED: i8 = -3;
const SUSPENDED: i8 = -2;
const AWAITS: i8 = -1;
const RUNS: i8 = 0;

/// A task of asyncio that is not done, with frames of a sort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task<F> {
    /// Its address, which another one may have later.
    pub address: u64,
    /// Its name, cut; empty where asyncio has numbered it.
    pub name: Rc<str>,
    /// What it does.
    pub does: Does<F>,
}

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Does<F> {
    /// It runs: the stack of its thread shows it.
    Runs,
    /// It was not begun yet.
    Starts(Vec<F>),
    /// It awaits something. Its frames, the innermost first.
    Awaits(Vec<F>),
    /// It changed while it was read.
    Torn,
}

/// The code object and the instruction of a frame.
pub type Position = (u64, u64);

/// All tasks, as far as they were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look<F> {
    /// The tasks.
    pub tasks: Vec<Task<F>>,
    /// Whether a list could not be followed to its end.
    pub is_torn: bool,
    /// Whether there are more than are followed.
    pub is_cut: bool,
}

impl Look<Position> {
    /// With a number for each frame; a task of which one has none was read while it changed.
    pub fn numbered(self, mut number: impl FnMut(Position) -> io::Result<u32>) -> Look<u32> {
        let mut all =
            |stack: Vec<Position>| stack.into_iter().map(&mut number).collect::<io::Result<Vec<u32>>>();
        let mut does = |does| match does {
            Does::Runs => Does::Runs,
            Does::Torn => Does::Torn,
            Does::Starts(stack) => all(stack).map_or(Does::Torn, Does::Starts),
            Does::Awaits(stack) => all(stack).map_or(Does::Torn, Does::Awaits),
        };
        let task =
            |task: Task<Position>| Task { address: task.address, name: task.name, does: does(task.does) };
        let tasks = self.tasks.into_iter().map(task).collect();
        Look { tasks, is_torn: self.is_torn, is_cut: self.is_cut }
    }
}

/// Follows the tasks of one process.
pub struct Tasks {
    fields: TaskFields,
    awaits: Awaits,
    frame: Frame,
    /// What the last look read.
    again: Vec<Place>,
    kinds: HashMap<u64, Kind>,
    /// Names by the addresses of task and name.
    names: HashMap<(u64, u64), Rc<str>>,
    /// Frames that may still be followed in this look.
    steps: usize,
}

/// What an object on the way from a task to what it awaits is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has a frame: a coroutine, or a generator.
    Coroutine,
    /// It stands for one that has.
    Wrapper,
    Text,
    Other,
}

impl Kind {
    fn of(name: &[u8]) -> Self {
        match name.split(|byte| *byte == 0).next().unwrap_or_default() {
            b"coroutine" | b"generator" | b"async_generator" => Self::Coroutine,
            b"coroutine_wrapper" | b"async_generator_asend" | b"async_generator_athrow" => Self::Wrapper,
            b"str" => Self::Text,
            _ => Self::Other,
        }
    }
}

impl Tasks {
    /// Of tasks with these fields; `None` where it is not told how coroutines look.
    pub fn new(fields: TaskFields, layout: &Layout) -> Option<Self> {
        let (awaits, frame) = (layout.awaits?, layout.frame);
        let (again, kinds, names) = (Vec::new(), HashMap::new(), HashMap::new());
        Some(Self { fields, awaits, frame, again, kinds, names, steps: 0 })
    }

    /// Looks at the tasks of these interpreters and threads, by their addresses.
    ///
    /// # Errors
    /// The process is gone, or may not be read.
    pub fn look(
        &mut self,
        memory: &Memory,
        codes: &Codes,
        (interpreters, threads): (&[u64], &[u64]),
    ) -> io::Result<Look<Position>> {
        let again = std::mem::take(&mut self.again);
        self.steps = MAX_STEPS;
        let mut view = View::take(memory, &again)?;
        let of_interpreters = interpreters.iter().map(|at| at.saturating_add(self.fields.of_interpreter));
        let of_threads = threads.iter().map(|at| at.saturating_add(self.fields.of_thread));
        let mut look = Look { tasks: Vec::new(), is_torn: false, is_cut: false };
        let mut found = Vec::new();
        for head in of_interpreters.chain(of_threads) {
            match self.walk(head, &mut view, &mut found) {
                Ok(is_whole) => look.is_cut |= !is_whole,
                Err(_) => look.is_torn = true,
            }
        }
        // A task that was moved to another list meanwhile may have been seen twice.
        let mut seen = HashSet::new();
        found.retain(|task| seen.insert(*task));
        let names = std::mem::take(&mut self.names);
        look.tasks = found.iter().map(|task| self.task(*task, &mut view, codes, &names)).collect();
        self.again = view.used();
        Ok(look)
    }

    /// Follows a list of tasks; says whether all of it was.
    fn walk(&self, head: u64, view: &mut View<'_>, found: &mut Vec<u64>) -> io::Result<bool> {
        let (mut before, mut node) = (head, view.word(head)?);
        while node != head && node != 0 {
            if found.len() >= MAX_TASKS {
                return Ok(false);
            }
            let task = node.checked_sub(self.fields.node as u64).ok_or(io::ErrorKind::InvalidData)?;
            let bytes = view.get(task, self.fields.size)?;
            let (next, back) = (word_at(bytes, self.fields.node), word_at(bytes, self.fields.node + 8));
            if back != Some(before) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            found.push(task);
            (before, node) = (node, next.ok_or(io::ErrorKind::InvalidData)?);
        }
        Ok(true)
    }

    fn task(
        &mut self,
        address: u64,
        view: &mut View<'_>,
        codes: &Codes,
        names: &HashMap<(u64, u64), Rc<str>>,
    ) -> Task<Position> {
        let field = |view: &mut View<'_>, at| {
            let bytes = view.get(address, self.fields.size)?;
            word_at(bytes, at).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        let coroutine = field(view, self.fields.coroutine);
        let name = field(view, self.fields.name).unwrap_or(0);
        let does = coroutine.and_then(|at| self.follow(at, view)).unwrap_or(Does::Torn);
        let key = (address, name);
        let name = names.get(&key).cloned().unwrap_or_else(|| self.name(name, view, codes));
        self.names.insert(key, Rc::clone(&name));
        Task { address, name, does }
    }

    /// A name; asyncio keeps the number of a task that was not given any.
    fn name(&mut self, address: u64, view: &mut View<'_>, codes: &Codes) -> Rc<str> {
        let is_text = address != 0 && self.kind(address, view).is_ok_and(|kind| kind == Kind::Text);
        let text = is_text.then(|| codes.beginning(address, MAX_NAME)).and_then(Result::ok);
        text.unwrap_or_default().into()
    }

    /// From a task's coroutine to the innermost one.
    fn follow(&mut self, coroutine: u64, view: &mut View<'_>) -> io::Result<Does<Position>> {
        let Awaits { frame, state, .. } = self.awaits;
        let (mut stack, mut at) = (Vec::new(), coroutine);
        let most = self.steps.min(MAX_FRAMES);
        for _ in 0..most {
            self.steps -= 1;
            match self.kind(at, view)? {
                Kind::Coroutine => {}
                Kind::Wrapper => {
                    at = view.word(at.saturating_add(WRAPPED))?;
                    continue;
                }
                // Of a coroutine that is written in another language nothing is known.
                Kind::Text | Kind::Other => return Ok(awaiting(stack)),
            }
            let bytes = view.get(at, frame + self.frame.size)?;
            let word = |field: usize| word_at(bytes, frame + field).ok_or(io::ErrorKind::InvalidData);
            stack.push((word(self.frame.code)? & !TAG, word(self.frame.instruction)?));
            let end = word(self.awaits.end)?;
            match bytes.get(state).map(|state| state.cast_signed()) {
                Some(RUNS) => return Ok(Does::Runs),
                Some(CREATED) if stack.len() == 1 => return Ok(Does::Starts(stack)),
                Some(CREATED | SUSPENDED) => return Ok(awaiting(stack)),
                Some(AWAITS) => at = self.newest_value(at, end, view)?,
                // It is done, and its task will be.
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// The newest value on the stack of a coroutine's frame, which is what it awaits.
    fn newest_value(&self, coroutine: u64, end: u64, view: &mut View<'_>) -> io::Result<u64> {
        let first = coroutine.saturating_add((self.awaits.frame + self.awaits.values) as u64);
        let at = end.checked_sub(8).ok_or(io::ErrorKind::InvalidData)?;
        if at < first || at - first > MAX_VALUES || !end.is_multiple_of(8) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(view.word(at)? & !TAG)
    }

    fn kind(&mut self, object: u64, view: &mut View<'_>) -> io::Result<Kind> {
        let class = view.word(object.saturating_add(TYPE as u64))?;
        if let Some(kind) = self.kinds.get(&class) {
            return Ok(*kind);
        }
        let name = view.word(class.saturating_add(self.awaits.type_name as u64))?;
        let kind = view.get(name, TYPE_NAME).map_or(Kind::Other, Kind::of);
        if self.kinds.len() >= MAX_TYPES {
            self.kinds.clear();
        }
        self.kinds.insert(class, kind);
        Ok(kind)
    }
}

fn awaiting(mut stack: Vec<Position>) -> Does<Position> {
    stack.reverse();
    Does::Awaits(stack)
}
