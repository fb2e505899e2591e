//! How long does each task of asyncio await what it awaits? A suspended coroutine is on no thread's stack:
//! its event loop waits in `select` for all of them.
//!
//! Each look gives a task the time since the last one, with the chain of coroutines as its stack. A task that
//! runs is on the stack of its thread, and worth nothing here. What is awaited is told by the function of the
//! standard library that awaits; below it is a future, which says nothing of the kind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fleetprof_profile::{ASYNCIO_TASK, Frame, Wait};

use super::reader::{Does, Look, MAX_TASKS, Task};
use crate::capture::named_stacks::{FrameId, Frames, Stacks, Weight, resolve};
use crate::capture::protocol::Failure;
use crate::capture::schedule::saturating_nanos;
use crate::capture::slices::Slice;
use crate::capture::wall::{MOST_WORTH, NOT_SAMPLED, ThreadState};

/// Most names of tasks in a slice; others go without theirs.
const MAX_NAMES: usize = 100;

/// What a function of the standard library awaits: function, the end of its file, and the word for it. An
/// empty function stands for all others of the file.
const AWAITED: [(&str, &str, Wait); 21] = [
    ("sleep", "/asyncio/tasks.py", Wait::Sleep),
    ("_wait", "/asyncio/tasks.py", Wait::Condition),
    ("get", "/asyncio/queues.py", Wait::Channel),
    ("put", "/asyncio/queues.py", Wait::Channel),
    ("join", "/asyncio/queues.py", Wait::Condition),
    ("acquire", "/asyncio/locks.py", Wait::Lock),
    ("", "/asyncio/locks.py", Wait::Condition),
    ("", "/asyncio/taskgroups.py", Wait::Condition),
    ("", "/asyncio/streams.py", Wait::Socket),
    ("", "/aiohttp/streams.py", Wait::Socket),
    ("sock_connect", "/asyncio/selector_events.py", Wait::Connect),
    ("sock_accept", "/asyncio/selector_events.py", Wait::Accept),
    ("", "/asyncio/selector_events.py", Wait::Socket),
    ("serve_forever", "/asyncio/base_events.py", Wait::Accept),
    ("_connect_sock", "/asyncio/base_events.py", Wait::Connect),
    ("create_connection", "/asyncio/base_events.py", Wait::Connect),
    ("getaddrinfo", "/asyncio/base_events.py", Wait::Socket),
    ("wait", "/asyncio/subprocess.py", Wait::Child),
    ("_wait", "/asyncio/base_subprocess.py", Wait::Child),
    ("communicate", "/asyncio/subprocess.py", Wait::Child),
    ("start", "/aiohttp/web_protocol.py", Wait::Socket),
];

/// What is told of a stack besides its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum State {
    Starts,
    Awaits,
}

/// The time of the tasks of one process since the last slice.
pub struct TaskTimes {
    /// Until when the time of each task is counted.
    until: HashMap<u64, Instant>,
    /// When all of them were last looked at.
    looked: Instant,
    /// Frames of tasks by their names.
    roots: HashMap<String, FrameId>,
    stacks: Stacks<State>,
    /// Time that no stack stands for.
    unsampled: Weight,
    is_cut: bool,
    /// Looks so far, and those of them that did not reach all tasks.
    looks: u64,
    torn: u64,
}

impl TaskTimes {
    /// Counts from `now` on.
    pub fn new(now: Instant) -> Self {
        Self {
            until: HashMap::new(),
            looked: now,
            roots: HashMap::new(),
            stacks: Stacks::default(),
            unsampled: Weight::default(),
            is_cut: false,
            looks: 0,
            torn: 0,
        }
    }

    /// Counts the time of every task up to `now`. The time of one that changed while it was read counts with
    /// the next look.
    ///
    /// A new task stands for all that came and went since the last look that reached all of them, so one that is
    /// seen in a look that did not counts with the next one that does.
    pub fn count(&mut self, look: Look<FrameId>, frames: &mut Frames, now: Instant) {
        self.is_cut |= look.is_cut;
        let mut before = std::mem::take(&mut self.until);
        (self.looks, self.torn) = (self.looks + 1, self.torn + u64::from(look.is_torn));
        for task in look.tasks {
            let since = match before.remove(&task.address) {
                Some(since) => since,
                None if look.is_torn => continue,
                None => self.looked,
            };
            let address = task.address;
            let is_counted = self.count_task(task, now.saturating_duration_since(since), frames);
            self.until.insert(address, if is_counted { now } else { since });
        }
        if look.is_torn {
            // Those that are missing may be there the next time.
            self.until.extend(before.into_iter().take(MAX_TASKS));
        } else {
            self.looked = now;
        }
    }

    /// Whether the time of a task could be counted.
    fn count_task(&mut self, task: Task<FrameId>, time: Duration, frames: &mut Frames) -> bool {
        let (state, mut stack) = match task.does {
            Does::Torn => return false,
            Does::Runs => return true,
            Does::Starts(stack) => (State::Starts, stack),
            Does::Awaits(stack) => (State::Awaits, stack),
        };
        let worth = time.min(MOST_WORTH);
        let rest = saturating_nanos(time.saturating_sub(worth));
        stack.push(self.root(&task.name, frames));
        self.stacks.add(state, stack, saturating_nanos(worth), frames);
        if rest > 0 {
            self.unsampled.add(rest);
        }
        true
    }

    fn root(&mut self, name: &str, frames: &mut Frames) -> FrameId {
        let name = shown(name);
        if let Some(known) = self.roots.get(&name) {
            return *known;
        }
        let is_one_too_many = self.roots.len() >= MAX_NAMES;
        let name = if is_one_too_many { shown("") } else { name };
        let root = frames.number(&name, "", 0);
        self.roots.insert(name, root);
        root
    }

    /// Moves what was counted into a slice.
    ///
    /// # Errors
    /// The slice cannot hold it.
    pub fn drain(&mut self, frames: &Frames, slice: &mut Slice<'_>) -> Result<(), Failure> {
        self.roots.clear();
        let names = frames.by_number();
        for ((state, stack), weight) in self.stacks.take() {
            let stack = resolve(&stack, &names);
            let state = match state {
                State::Starts => ThreadState::Runnable,
                State::Awaits => ThreadState::Blocked(awaited(&stack)),
            };
            slice.labelled(state.labels(), |slice| slice.add(&stack, weight.samples, weight.nanos))?;
        }
        let Weight { samples, nanos } = std::mem::take(&mut self.unsampled);
        match samples {
            0 => Ok(()),
            samples => slice.add(&[Frame::named(NOT_SAMPLED, "", 0)], samples, nanos),
        }
    }

    /// What a reader of the profile should know.
    pub fn notes(&self) -> Vec<String> {
        let torn = (self.torn * 2 > self.looks).then(|| {
            format!(
                "{} of {} looks at asyncio tasks did not reach all of them because tasks came and went; such \
                 tasks may be underrepresented",
                self.torn, self.looks
            )
        });
        let cut = self.is_cut.then(|| {
            format!(
                "More than {MAX_TASKS} asyncio tasks were there at a time; those beyond are not in the profile"
            )
        });
        torn.into_iter().chain(cut).collect()
    }
}

/// The frame of a task with a name: numbers in it are left out, since many programs number their tasks.
fn shown(name: &str) -> String {
    let mut shown = String::new();
    for c in name.chars().filter(|c| !c.is_control()) {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if c != '#' || !shown.ends_with('#') {
            shown.push(c);
        }
    }
    match shown.trim() {
        "" | "Task-#" => ASYNCIO_TASK.to_owned(),
        name => format!("{} {name}]", ASYNCIO_TASK.trim_end_matches(']')),
    }
}

/// What a task with this stack awaits, the innermost frame first.
fn awaited(stack: &[Frame<'_>]) -> Wait {
    let Some(leaf) = stack.first() else { return Wait::Future };
    let bare = leaf.function.rsplit('.').next().unwrap_or(leaf.function);
    let is_here = |(name, file, _): &&(&str, &str, Wait)| {
        (name.is_empty() || *name == bare) && leaf.file.ends_with(file)
    };
    AWAITED.iter().find(is_here).map_or(Wait::Future, |(_, _, wait)| *wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn task(address: u64, does: Does<FrameId>) -> Task<FrameId> {
        Task { address, name: "".into(), does }
    }

    fn look(tasks: Vec<Task<FrameId>>, is_torn: bool) -> Look<FrameId> {
        Look { tasks, is_torn, is_cut: false }
    }

    fn counted(times: &mut TaskTimes) -> Vec<(State, usize, u64)> {
        let all = times.stacks.take().into_iter();
        all.map(|((state, stack), weight)| (state, stack.len(), weight.nanos / 1_000_000)).collect()
    }

    #[test]
    fn a_task_has_the_time_since_the_last_look_in_which_it_was_read() {
        let (mut frames, start) = (Frames::default(), Instant::now());
        let mut times = TaskTimes::new(start);
        let waits = |address| task(address, Does::Awaits(vec![7, 8]));
        times.count(
            look(vec![waits(1), task(2, Does::Starts(vec![3]))], false),
            &mut frames,
            start + 50 * MS,
        );
        assert_eq!(counted(&mut times), [(State::Starts, 2, 50), (State::Awaits, 3, 50)]);
        times.count(look(vec![waits(1), task(2, Does::Torn)], false), &mut frames, start + 100 * MS);
        assert_eq!(counted(&mut times), [(State::Awaits, 3, 50)]);
        times.count(look(vec![task(1, Does::Runs), waits(2)], false), &mut frames, start + 150 * MS);
        assert_eq!(counted(&mut times), [(State::Awaits, 3, 100)], "what was torn counts now");
        let new = task(3, Does::Awaits(vec![7, 9]));
        times.count(look(vec![new.clone()], true), &mut frames, start + 200 * MS);
        assert_eq!(counted(&mut times), [], "a new one stands for others that are missing");
        times.count(look(vec![waits(1), waits(2), new], false), &mut frames, start + 250 * MS);
        assert_eq!(counted(&mut times), [(State::Awaits, 3, 200), (State::Awaits, 3, 100)], "all are there");
        times.count(look(vec![], false), &mut frames, start + 300 * MS);
        times.count(look(vec![waits(1)], false), &mut frames, start + 5300 * MS);
        assert_eq!(counted(&mut times), [(State::Awaits, 3, 2000)], "as long as a stack stands for");
        assert_eq!(times.unsampled.nanos, 3_000_000_000);
    }

    #[test]
    fn names_are_shown_without_their_numbers() {
        let cases = [
            ("", "[asyncio task]"),
            ("Task-7", "[asyncio task]"),
            ("worker-12", "[asyncio task worker-#]"),
            ("order 4711 of 3\n\u{1b}[2J", "[asyncio task order # of #[#J]"),
            ("##", "[asyncio task #]"),
            (" \t ", "[asyncio task]"),
        ];
        for (name, wanted) in cases {
            assert_eq!(shown(name), wanted, "{name:?}");
        }
    }

    #[test]
    fn names_are_few() {
        let (mut times, mut frames) = (TaskTimes::new(Instant::now()), Frames::default());
        let name = |n: u32| char::from_u32(0x4e00 + n).unwrap().to_string();
        let roots: Vec<FrameId> = (0..500).map(|n| times.root(&name(n), &mut frames)).collect();
        assert_eq!(roots[..100].iter().collect::<std::collections::HashSet<_>>().len(), 100);
        assert!(roots[100..].iter().all(|root| *root == roots[100]));
        assert_eq!(frames.by_number()[roots[100] as usize].0, ASYNCIO_TASK);
        assert_eq!(times.root(&name(3), &mut frames), roots[3]);
    }

    #[test]
    fn what_is_awaited_is_told_by_the_standard_library() {
        let lib = |file: &str| format!("/usr/lib/python3.14/asyncio/{file}");
        let cases = [
            ("sleep", lib("tasks.py"), Wait::Sleep),
            ("Queue.get", lib("queues.py"), Wait::Channel),
            ("Lock.acquire", lib("locks.py"), Wait::Lock),
            ("Event.wait", lib("locks.py"), Wait::Condition),
            ("StreamReader._wait_for_data", lib("streams.py"), Wait::Socket),
            ("TaskGroup.__aexit__", lib("taskgroups.py"), Wait::Condition),
            ("sleep", "/app/tasks.py".to_owned(), Wait::Future),
            ("pay", "/app/shop.py".to_owned(), Wait::Future),
        ];
        for (function, file, wanted) in cases {
            assert_eq!(awaited(&[Frame::named(function, &file, 7)]), wanted, "{function} {file}");
        }
        assert_eq!(awaited(&[]), Wait::Future);
    }
}
