//! Where does the time of Ruby's threads pass, whether they run or wait? The stacks of all of them, read from the
//! interpreter without stopping it.
//!
//! rbspy, which reads CPU time, knows the stack of the thread alone that holds the interpreter's lock. A thread that
//! waits does not hold it, so that its stack is read here. Ruby that is newer, or keeps its threads in another way, is
//! refused with a reason.

mod code;
mod stacks;

use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::Wait;

use self::stacks::{RubyThread, Stack, Threads};
use super::{NO_VARIABLES, VARIABLES, library};
use crate::capture::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use crate::capture::cpu_time::{ThreadTimes, own_cpu_time};
use crate::capture::memory::{Memory, ProcessMemory};
use crate::capture::named_stacks::{Frames, torn_note};
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::runtime::Runtime;
use crate::capture::sight::Sight;
use crate::capture::slices::Slices;
use crate::capture::thread_ids::ThreadIds;
use crate::capture::threads_wall::{Sighted, WallTime};
use crate::capture::variables::{self, Presence};
use crate::capture::wall;
use crate::proc;

/// The minor versions of Ruby 3 whose threads are read.
const MINORS: std::ops::RangeInclusive<u32> = 1..=4;
/// The frame for time of threads that run no Ruby code: Ruby's own, and those of libraries.
const NATIVE_THREADS: &str = "[threads without Ruby code]";
/// How often the threads are looked for in a process that starts, and how far apart.
const LOOKS: u64 = 5;
const AGAIN: Duration = Duration::from_millis(50);

/// Wall time of Ruby: a row of its own, since it does not need rbspy.
pub struct RubyThreads;

/// The row of the table of collectors.
pub const RUBY_THREADS: RubyThreads = RubyThreads;

impl Collector for RubyThreads {
    fn name(&self) -> &'static str {
        "ruby-threads"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Wall]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if sight.runtime != Runtime::Ruby {
            return Vec::new();
        }
        self.offered((sight.variables == Presence::Missing).then_some(NO_VARIABLES))
    }
}

impl Attaches for RubyThreads {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let sampler = WallSampler::attach(ask.sight.pid, ask.frequency_hz)?;
        let why = format!("the target runs Ruby {}, whose threads can be read", sampler.version);
        Ok(Attached { method: "ruby", why, capture: Box::new(sampler), refused: Vec::new() })
    }

    fn waits_for_start(&self) -> bool {
        true
    }
}

/// Reads the threads of one process.
struct WallSampler {
    version: String,
    threads: Threads<ProcessMemory>,
    times: ThreadTimes,
    ids: ThreadIds,
    names: Frames,
    wall: WallTime,
    taken: u64,
    failed: u64,
}

impl WallSampler {
    fn attach(pid: i32, frequency_hz: u32) -> Result<Self, Failure> {
        let refused = |e: std::io::Error| refused(pid, &e);
        let [vm, version] = variables_of(pid)?;
        let memory = ProcessMemory::open(pid).map_err(refused)?;
        let version = version_at(&memory, version).ok_or_else(|| unsupported(NOT_UNDERSTOOD))?;
        let minor = minor(&version).filter(|minor| MINORS.contains(minor));
        let minor = minor.ok_or_else(|| unsupported(&untried(&version)))?;
        let threads = Threads::new(memory, vm, minor);
        let mut sampler = Self {
            version,
            threads,
            times: ThreadTimes::start(pid).map_err(refused)?,
            ids: ThreadIds::new(pid),
            names: Frames::default(),
            wall: WallTime::start(pid, wall::period(frequency_hz), Instant::now(), NATIVE_THREADS)
                .map_err(refused)?,
            taken: 0,
            failed: 0,
        };
        match sampler.is_understood() {
            true => Ok(sampler),
            false => Err(unsupported(NOT_UNDERSTOOD)),
        }
    }

    /// Whether there is a thread with a stack: that of the main thread is never empty.
    fn is_understood(&mut self) -> bool {
        for attempt in 0..LOOKS {
            if attempt > 0 {
                std::thread::sleep(AGAIN);
            }
            let threads = self.threads.list().unwrap_or_default();
            let mut stacks = threads.iter().filter_map(|thread| self.threads.stack(*thread));
            if stacks.any(|stack| !stack.calls.is_empty()) {
                return true;
            }
        }
        false
    }

    /// Counts the wall time up to `now`.
    fn count(&mut self, now: Instant) {
        let before = own_cpu_time();
        match self.threads.list() {
            // It changed while it was read; the time counts with the next turn.
            None => self.failed += 1,
            Some(threads) => {
                self.taken += 1;
                let seen: Vec<Sighted> = threads.into_iter().filter_map(|thread| self.see(thread)).collect();
                self.wall.count(seen, &mut self.names, now);
            }
        }
        self.wall.pace.taken(now, own_cpu_time().saturating_sub(before));
    }

    fn see(&mut self, thread: RubyThread) -> Option<Sighted> {
        let tid = self.ids.resolve(None, thread.block, &mut self.times)?;
        let Some(stack) = self.threads.stack(thread) else { return Some(Sighted::new(tid, None)) };
        let number = |call: &stacks::Called| self.names.number(&call.code.name, &call.code.file, call.line);
        let numbers = stack.calls.iter().map(number).collect();
        Some(Sighted { futex: futex_of(&stack), ..Sighted::new(tid, Some(numbers)) })
    }
}

/// What a thread with this stack waits for where the kernel says that it is a futex: code in Ruby itself waits for
/// the lock of the interpreter, functions in C for whatever they are called for.
fn futex_of(stack: &Stack) -> Wait {
    let is_ruby = stack.calls.first().is_some_and(|call| !call.code.is_internal());
    if is_ruby && !stack.is_in_c { Wait::Lock } else { Wait::Futex }
}

impl Capture for WallSampler {
    fn interval(&self) -> Option<Duration> {
        Some(self.wall.pace.period())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if self.wall.pace.is_due(now) {
            self.count(now);
        }
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let names = std::mem::take(&mut self.names);
        self.threads.forget();
        self.wall.drain(&names, into.kind(ProfileKind::Wall)?)
    }

    fn tally(&self) -> Tally {
        let turns = self.taken + self.failed;
        let notes = torn_note(self.failed, turns).into_iter().collect();
        Tally { expected: Some(turns), taken: self.taken, lost: self.failed, notes, ..Tally::default() }
    }

    /// Nothing was done to the target; the wall time up to now is counted.
    fn stop(&mut self, _by: Instant) {
        self.count(Instant::now());
    }
}

/// Why an interpreter is not read.
const NOT_UNDERSTOOD: &str = "the threads of this Ruby are not kept as in Ruby 3.1 to 3.4";

fn untried(version: &str) -> String {
    format!("wall time is captured of Ruby 3.1 to 3.4, this process runs Ruby {version}")
}

/// Where the interpreter keeps its state and its version.
fn variables_of(pid: i32) -> Result<[u64; 2], Failure> {
    let refused = |e: std::io::Error| refused(pid, &e);
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(refused)?;
    let maps = proc::maps(pid).map_err(refused)?;
    let exe = exe.to_string_lossy();
    match variables::addresses(pid, &maps, library(&maps).unwrap_or(&exe), VARIABLES) {
        Ok([Some(vm), Some(version)]) => Ok([vm, version]),
        Ok(_) => Err(unsupported(NO_VARIABLES)),
        Err(e) => Err(unsupported(&format!("the program of Ruby process {pid} cannot be read: {e}"))),
    }
}

/// The version, such as `3.1.2`.
fn version_at(memory: &impl Memory, address: u64) -> Option<String> {
    let mut bytes = [0; 16];
    let is_read = memory.read(address, bytes.get_mut(..8)?);
    let text = bytes.split(|byte| *byte == 0).next().filter(|_| is_read)?;
    let is_version = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    std::str::from_utf8(text).ok().filter(|text| is_version(text)).map(str::to_owned)
}

/// The minor version of Ruby 3.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("3.")?.split('.').next()?.parse().ok()
}

fn unsupported(text: &str) -> Failure {
    Failure::new(FailureReason::UnsupportedRuntime, text)
}

/// Why a process could not be looked at.
fn refused(pid: i32, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(FailureReason::NoSuchProcess, format!("Ruby process {pid} has ended"))
        }
        _ => Failure::unreadable("Ruby", pid, &error.to_string()),
    }
}
