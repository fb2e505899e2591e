//! Where does a Python target spend its CPU time and its wall time? Its interpreter's own frames, read without
//! stopping it.
//!
//! Each turn reads every thread's stack. For CPU, a stack counts only when its thread is running, and it is
//! worth the CPU time that the thread used since it was last counted: waiting for a lock, for I/O or for a CPU
//! quota is worth nothing. By the own reader, what it used before it began to wait
//! went where it was the last time. For wall time every stack counts, and is worth the time that has passed; so
//! does each task of asyncio, from Python 3.14 on.

#[cfg(test)]
mod oracle;
mod reader;
mod source;
mod tasks;

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::Frame;
use py_spy::StackTrace;

use self::source::{PythonThread, Source};
use self::tasks::TaskTimes;
use super::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use super::cpu_stacks::CpuStacks;
use super::cpu_time::{ThreadTimes, own_cpu_time};
use super::named_stacks::{FrameId, Frames, MAX_DEPTH, torn_note};
use super::protocol::{Failure, FailureReason};
use super::runtime::Runtime;
use super::sight::Sight;
use super::slices::{Slice, Slices};
use super::thread_ids::ThreadIds;
use super::threads_wall::{Sighted, WallTime};
use super::wall;

/// How often the own reader looks for new threads.
const LOOK: Duration = Duration::from_millis(100);
/// In place of the system's id of a thread, where that was not found.
const UNKNOWN_THREAD: i32 = 0;
/// The frame for CPU time of threads that run no Python code.
const NATIVE_THREADS: &str = "[threads without Python code]";

/// Samples CPython: 3.11 to 3.14 by a reader of its own, others by py-spy.
pub struct Python;

/// The row of the table of collectors.
pub const PYTHON: Python = Python;

impl Collector for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Cpu, ProfileKind::Wall]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        match sight.runtime {
            Runtime::Python(_) => self.offered(None),
            _ => Vec::new(),
        }
    }
}

impl Attaches for Python {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let sampler = PythonSampler::attach(ask.sight.pid, ask.frequency_hz, ask.attempts, ask.kinds)?;
        let why = format!("the target runs CPython {}", sampler.version);
        let method = sampler.source.method();
        Ok(Attached { method, why, capture: Box::new(sampler), refused: Vec::new() })
    }

    /// An interpreter that is too new or too odd still runs machine code, but one that only starts
    /// is waited for.
    fn waits_for_start(&self) -> bool {
        true
    }
}

/// Samples the Python threads of one process.
pub struct PythonSampler {
    /// The interpreter's version, such as `3.11.7`.
    version: String,
    source: Source,
    times: ThreadTimes,
    ids: ThreadIds,
    period: Duration,
    /// Numbers of frames, so that equal stacks are equal short lists.
    frames: Frames,
    /// The stacks of CPU time, where that is captured.
    stacks: Option<CpuStacks>,
    /// Wall time, where that is captured.
    wall: Option<WallTime>,
    /// With it, the time of the tasks of asyncio.
    tasks: TaskTimes,
    /// Threads with Python code seen since the last slice.
    python_threads: HashSet<i32>,
    /// Whether the system's id of every Python thread was found since the last slice.
    all_threads_known: bool,
    taken: u64,
    failed: u64,
}

impl PythonSampler {
    /// Attaches to the interpreter of a process, which may just be starting: so many attempts.
    pub fn attach(
        pid: i32,
        frequency_hz: u32,
        attempts: u64,
        kinds: &[ProfileKind],
    ) -> Result<Self, Failure> {
        let (version, source) = Source::attach(pid, attempts).map_err(|e| attach_failure(pid, &e))?;
        let refused = |e| {
            Failure::new(
                FailureReason::PermissionDenied,
                format!("failed to read the threads of process {pid}: {e}"),
            )
        };
        let period = Duration::from_secs(1) / frequency_hz.max(1);
        let wall = kinds.contains(&ProfileKind::Wall);
        let wall =
            wall.then(|| WallTime::start(pid, wall::period(frequency_hz), Instant::now(), NATIVE_THREADS));
        Ok(Self {
            version,
            source,
            times: ThreadTimes::start(pid).map_err(refused)?,
            ids: ThreadIds::new(pid),
            period,
            frames: Frames::default(),
            stacks: kinds.contains(&ProfileKind::Cpu).then(|| CpuStacks::new(period)),
            wall: wall.transpose().map_err(refused)?,
            tasks: TaskTimes::new(Instant::now()),
            python_threads: HashSet::new(),
            all_threads_known: true,
            taken: 0,
            failed: 0,
        })
    }

    fn count(&mut self, trace: &StackTrace) {
        if trace.frames.is_empty() {
            return;
        }
        let Some(tid) = self.ids.resolve(trace.os_thread_id, trace.thread_id, &mut self.times) else {
            // Without the system's id nothing tells whether it runs, but the owner of the interpreter's lock
            // does.
            self.all_threads_known = false;
            if trace.active && trace.owns_gil {
                let nanos = super::schedule::saturating_nanos(self.period);
                self.add(UNKNOWN_THREAD, trace, nanos);
            }
            return;
        };
        self.python_threads.insert(tid);
        let Self { times, frames, stacks, .. } = self;
        let Some(stacks) = stacks else { return };
        let read = |frames: &mut Frames| Ok::<_, Infallible>(numbered(trace, frames));
        let Ok(_counted) = stacks.look((times, tid), frames, read);
    }

    fn add(&mut self, tid: i32, trace: &StackTrace, nanos: u64) {
        let Some(stacks) = &mut self.stacks else { return };
        let stack = numbered(trace, &mut self.frames);
        stacks.add(tid, stack, nanos, &mut self.frames);
    }

    /// Reads the stacks that count now, and counts the times that are due.
    fn read(&mut self, now: Instant, wall_is_due: bool) {
        if matches!(self.source, Source::Reader { .. }) {
            self.read_threads(now, wall_is_due);
        } else {
            self.read_traces(now, wall_is_due);
        }
    }

    /// Looks from time to time which threads there are.
    fn look_for_threads(&mut self, now: Instant) {
        let Self { source, times, ids, python_threads, .. } = self;
        let Source::Reader { reader, threads, next_look } = source else { return };
        if now >= *next_look && reader.refresh().is_ok() {
            *next_look = now + LOOK;
            let _gone = times.refresh();
            let all = reader.threads();
            *threads = source::resolved(&all, |id| ids.resolve(Some(id), 0, times));
            self.all_threads_known &= threads.len() == all.len();
            python_threads.extend(threads.iter().map(|thread| thread.outer));
        }
    }

    /// By the own reader: for CPU, threads that used none are left alone.
    fn read_threads(&mut self, now: Instant, wall_is_due: bool) {
        self.look_for_threads(now);
        let Self { source, times, frames, stacks, wall, tasks, .. } = self;
        let Source::Reader { reader, threads, .. } = source else { return };
        let mut read = |inner, frames: &mut Frames| {
            reader.stack(inner, &mut |name, file, line| frames.number(name, file, line_of(line)))
        };
        let (mut taken, mut failed) = (0, 0);
        for PythonThread { outer, inner } in threads.iter() {
            let Some(stacks) = &mut *stacks else { break };
            match stacks.look((&mut *times, *outer), frames, |frames| read(*inner, frames)) {
                Ok(is_read) => taken += u64::from(is_read),
                // The target ran on while its memory was read; its time counts with the next turn.
                Err(_) => failed += 1,
            }
        }
        if let Some(wall) = wall.as_mut().filter(|_| wall_is_due) {
            let before = own_cpu_time();
            let seen = threads.iter().map(|t| Sighted::new(t.outer, read(t.inner, frames).ok())).collect();
            wall.count(seen, frames, now);
            let mut number = |name: &str, file: &str, line| frames.number(name, file, line_of(line));
            if let Ok(Some(look)) = reader.tasks(&mut number) {
                tasks.count(look, frames, now);
            }
            wall.pace.taken(now, own_cpu_time().saturating_sub(before));
        }
        if failed > 0 && taken == 0 { self.failed += 1 } else { self.taken += 1 }
    }

    /// By py-spy: every thread's stack.
    fn read_traces(&mut self, now: Instant, wall_is_due: bool) {
        let Source::Spy(spy) = &mut self.source else { return };
        let mut before = own_cpu_time();
        let traces = match spy.get_stack_traces() {
            Ok(traces) => traces,
            // The target ran on while its memory was read; its time counts with the next turn.
            Err(_) => {
                self.failed += 1;
                return;
            }
        };
        self.taken += 1;
        if self.stacks.is_some() {
            traces.iter().for_each(|trace| self.count(trace));
            // What was read was read for CPU.
            before = own_cpu_time();
        }
        if let Some(wall) = self.wall.as_mut().filter(|_| wall_is_due) {
            let mut seen = Vec::new();
            for trace in traces.iter().filter(|trace| !trace.frames.is_empty()) {
                if let Some(tid) = self.ids.resolve(trace.os_thread_id, trace.thread_id, &mut self.times) {
                    seen.push(Sighted::new(tid, Some(numbered(trace, &mut self.frames))));
                }
            }
            wall.count(seen, &mut self.frames, now);
            wall.pace.taken(now, own_cpu_time().saturating_sub(before));
        }
    }

    /// Counts what threads without Python code used: a pool of a numeric library, for example.
    fn drain_native_threads(&mut self, slice: &mut Slice<'_>) -> Result<(), Failure> {
        if !self.all_threads_known || self.times.refresh().is_err() {
            return Ok(());
        }
        let period = super::schedule::saturating_nanos(self.period);
        for tid in self.times.ids() {
            let nanos = self.times.uncounted(tid);
            if self.python_threads.contains(&tid) || nanos < period {
                continue;
            }
            self.times.count(tid, nanos);
            slice.add(&[Frame::named(NATIVE_THREADS, "", 0)], nanos / period, nanos)?;
        }
        Ok(())
    }
}

impl Capture for PythonSampler {
    fn interval(&self) -> Option<Duration> {
        Some(match (&self.stacks, &self.wall) {
            (None, Some(wall)) => wall.pace.period(),
            _ => self.period,
        })
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let wall_is_due = self.wall.as_ref().is_some_and(|wall| wall.pace.is_due(now));
        if wall_is_due || self.stacks.is_some() {
            self.read(now, wall_is_due);
        }
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let frames = std::mem::take(&mut self.frames);
        self.source.forget_numbers();
        if let Some(stacks) = &mut self.stacks {
            let slice = into.kind(ProfileKind::Cpu)?;
            stacks.drain(&self.times, &frames, slice)?;
            self.drain_native_threads(slice)?;
        }
        if let Some(wall) = &mut self.wall {
            let slice = into.kind(ProfileKind::Wall)?;
            wall.drain(&frames, slice)?;
            self.tasks.drain(&frames, slice)?;
        }
        self.python_threads = self.source.threads().iter().map(|thread| thread.outer).collect();
        self.all_threads_known = true;
        Ok(())
    }

    fn tally(&self) -> Tally {
        let turns = self.taken + self.failed;
        let notes = torn_note(self.failed, turns).into_iter().chain(self.tasks.notes()).collect();
        // Turns are fewer than the schedule's where they are those of wall time.
        let expected = self.stacks.is_none().then_some(turns);
        Tally { expected, taken: self.taken, lost: self.failed, notes, ..Tally::default() }
    }

    /// Nothing was done to the target; the wall time up to now is counted.
    fn stop(&mut self, _by: Instant) {
        self.stacks.iter_mut().for_each(CpuStacks::close);
        if self.wall.is_some() {
            self.read(Instant::now(), true);
        }
    }
}

/// The stack of a thread, leaf first.
fn numbered(trace: &StackTrace, frames: &mut Frames) -> Vec<FrameId> {
    let frame = |f: &py_spy::Frame| frames.number(&f.name, &f.filename, line_of(f.line));
    trace.frames.iter().take(MAX_DEPTH).map(frame).collect()
}

/// A line; 0 where it is not known.
fn line_of(line: i32) -> u32 {
    u32::try_from(line).unwrap_or(0)
}

/// Why an interpreter could not be attached to.
fn attach_failure(pid: i32, error: &anyhow::Error) -> Failure {
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let os_error = error.chain().find_map(|e| e.downcast_ref::<std::io::Error>());
    let refused = os_error.is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
        || chain.iter().any(|t| {
            t.contains("ermission denied")
                || t.contains("not permitted")
                || t.contains("EPERM")
                || t.contains("EACCES")
        });
    let text = chain.join(": ");
    if refused {
        return Failure::unreadable("Python", pid, &text);
    }
    Failure::new(
        FailureReason::UnsupportedRuntime,
        format!("no supported Python interpreter found in process {pid}: {text}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_unknown_interpreter() {
        let refused =
            anyhow::Error::from(std::io::Error::from_raw_os_error(libc::EPERM)).context("Failed to copy");
        assert_eq!(attach_failure(1, &refused).reason, FailureReason::PermissionDenied);
        let unknown = anyhow::anyhow!("Failed to find a python version");
        assert_eq!(attach_failure(1, &unknown).reason, FailureReason::UnsupportedRuntime);
    }
}
