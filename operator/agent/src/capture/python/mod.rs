//! Where does a Python target spend its CPU time? Its interpreter's own frames, read without stopping it.
//!
//! Each turn reads every thread's stack. A stack counts only when its thread is running, and it is worth the
//! CPU time that the thread used since it was last counted: waiting for a lock, for I/O or for a CPU quota is
//! worth nothing.

#[cfg(test)]
mod oracle;
mod reader;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::Frame;
use py_spy::config::{LineNo, LockingStrategy};
use py_spy::{PythonSpy, StackTrace};

use self::reader::Reader;
use super::collector::{Ask, Attached, Capture, Collector, Tally};
use super::cpu_time::{ThreadTimes, most_worth};
use super::protocol::{Failure, FailureReason};
use super::runtime::Runtime;
use super::sight::Sight;
use super::slices::{Slice, Slices};
use super::thread_ids::ThreadIds;

/// Deepest stack that is kept; the profile cuts further.
const MAX_DEPTH: usize = 1024;
/// Different stacks of one slice that are kept; later ones go to one that says so.
const MAX_STACKS: usize = 50_000;
/// How often the own reader looks for new threads.
const LOOK: Duration = Duration::from_millis(100);
/// The frame for CPU time of threads that run no Python code.
const NATIVE_THREADS: &str = "[threads without Python code]";
/// The frame for stacks beyond [`MAX_STACKS`].
const TRUNCATED: &str = "[truncated]";

/// Samples CPython: 3.11 to 3.14 by a reader of its own, others by py-spy.
pub struct Python;

/// The row of the table of collectors.
pub const PYTHON: Python = Python;

impl Collector for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Cpu]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        match sight.runtime {
            Runtime::Python(_) => vec![Offer::good(ProfileKind::Cpu, self.name())],
            _ => Vec::new(),
        }
    }

    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let sampler = PythonSampler::attach(ask.sight.pid, ask.frequency_hz, ask.attempts)?;
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

/// Function, file and line of a frame.
type FrameKey = (String, String, i32);

/// Samples and nanoseconds of a stack.
#[derive(Clone, Copy, Default)]
struct Weight {
    samples: u64,
    nanos: u64,
}

/// Numbers of frames, so that equal stacks are equal short lists.
#[derive(Default)]
struct Frames(HashMap<FrameKey, u32>);

impl Frames {
    fn number(&mut self, name: &str, file: &str, line: i32) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry((name.to_owned(), file.to_owned(), line)).or_insert(next)
    }
}

/// What was sampled since the last slice.
#[derive(Default)]
struct Stacks(HashMap<Vec<u32>, Weight>);

impl Stacks {
    fn add(&mut self, mut stack: Vec<u32>, nanos: u64, frames: &mut Frames) {
        if self.0.len() >= MAX_STACKS && !self.0.contains_key(&stack) {
            stack = vec![frames.number(TRUNCATED, "", 0)];
        }
        let weight = self.0.entry(stack).or_default();
        weight.samples += 1;
        weight.nanos = weight.nanos.saturating_add(nanos);
    }
}

/// What reads the interpreter.
enum Source {
    Reader {
        reader: Reader,
        /// The threads with Python code: the system's ids here, and in their own pid namespace.
        threads: Vec<(i32, i32)>,
        next_look: Instant,
    },
    Spy(Box<PythonSpy>),
}

impl Source {
    fn of(spy: PythonSpy) -> Self {
        let own = (spy.version.major == 3)
            .then(|| Reader::open(spy.pid, spy.version.minor, spy.addresses.interpreter_address as u64));
        match own.flatten() {
            Some(reader) => Self::Reader { reader, threads: Vec::new(), next_look: Instant::now() },
            None => Self::Spy(Box::new(spy)),
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Reader { .. } => "cpython",
            Self::Spy(_) => "py-spy",
        }
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
    frames: Frames,
    stacks: Stacks,
    /// Threads with Python code seen since the last slice.
    python_threads: HashSet<i32>,
    /// Whether the system's id of every Python thread was found since the last slice.
    all_threads_known: bool,
    taken: u64,
    failed: u64,
}

impl PythonSampler {
    /// Attaches to the interpreter of a process, which may just be starting: so many attempts.
    pub fn attach(pid: i32, frequency_hz: u32, attempts: u64) -> Result<Self, Failure> {
        let config = py_spy::Config {
            blocking: LockingStrategy::NonBlocking,
            lineno: LineNo::LastInstruction,
            collect_thread_names: false,
            full_filenames: true,
            ..py_spy::Config::default()
        };
        let spy = PythonSpy::retry_new(pid, &config, attempts).map_err(|e| attach_failure(pid, &e))?;
        let refused = |e| {
            Failure::new(
                FailureReason::PermissionDenied,
                format!("failed to read the threads of process {pid}: {e}"),
            )
        };
        let version = &spy.version;
        Ok(Self {
            version: format!("{}.{}.{}", version.major, version.minor, version.patch),
            source: Source::of(spy),
            times: ThreadTimes::start(pid).map_err(refused)?,
            ids: ThreadIds::new(pid),
            period: Duration::from_secs(1) / frequency_hz.max(1),
            frames: Frames::default(),
            stacks: Stacks::default(),
            python_threads: HashSet::new(),
            all_threads_known: true,
            taken: 0,
            failed: 0,
        })
    }

    /// One turn of the own reader: threads that run are read, others cost nothing.
    fn read_threads(&mut self) {
        let Self { source, times, ids, frames, stacks, python_threads, period, .. } = self;
        let Source::Reader { reader, threads, next_look } = source else { return };
        if Instant::now() >= *next_look {
            *next_look = Instant::now() + LOOK;
            let _gone = times.refresh();
            if reader.refresh().is_ok() {
                let known = reader.threads().into_iter();
                let inner = |id: i32| u64::try_from(id).ok();
                *threads = known.filter_map(|id| Some((ids.resolve(inner(id), 0, times)?, id))).collect();
                python_threads.extend(threads.iter().map(|(outer, _)| *outer));
            }
        }
        let (mut read, mut failed) = (false, false);
        for (outer, inner) in threads {
            let nanos = times.uncounted(*outer);
            if nanos == 0 || !times.runnable(*outer) {
                continue;
            }
            match reader.stack(*inner, &mut |name, file, line| frames.number(name, file, line)) {
                Ok(stack) if stack.is_empty() => {}
                Ok(mut stack) => {
                    stack.truncate(MAX_DEPTH);
                    times.count(*outer, nanos);
                    stacks.add(stack, most_worth(nanos, *period), frames);
                    read = true;
                }
                // The target ran on while its memory was read; the CPU time counts with the next turn.
                Err(_) => failed = true,
            }
        }
        if failed && !read { self.failed += 1 } else { self.taken += 1 }
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
                self.add(trace, nanos);
            }
            return;
        };
        self.python_threads.insert(tid);
        // py-spy has looked at the thread's state where its id is ours; in another pid namespace it could
        // not.
        let looked_at = trace.os_thread_id == u64::try_from(tid).ok();
        let running = trace.active && (looked_at || self.times.runnable(tid));
        let nanos = if running { self.times.uncounted(tid) } else { 0 };
        if nanos > 0 {
            self.times.count(tid, nanos);
            self.add(trace, most_worth(nanos, self.period));
        }
    }

    fn add(&mut self, trace: &StackTrace, nanos: u64) {
        let frames = trace.frames.iter().take(MAX_DEPTH);
        let stack =
            frames.map(|frame| self.frames.number(&frame.name, &frame.filename, frame.line)).collect();
        self.stacks.add(stack, nanos, &mut self.frames);
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
        Some(self.period)
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let Source::Spy(spy) = &mut self.source else {
            self.read_threads();
            return Ok(());
        };
        match spy.get_stack_traces() {
            Ok(traces) => {
                self.taken += 1;
                for trace in &traces {
                    self.count(trace);
                }
            }
            // The target ran on while its memory was read; the CPU time counts with the next turn.
            Err(_) => self.failed += 1,
        }
        Ok(())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        let slice = into.kind(ProfileKind::Cpu)?;
        if let Source::Reader { reader, .. } = &mut self.source {
            reader.forget_numbers();
        }
        let frames = std::mem::take(&mut self.frames).0;
        let mut names: Vec<(u32, &FrameKey)> = frames.iter().map(|(key, n)| (*n, key)).collect();
        names.sort_unstable_by_key(|(n, _)| *n);
        let mut stacks: Vec<(Vec<u32>, Weight)> = std::mem::take(&mut self.stacks).0.into_iter().collect();
        stacks.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (stack, weight) in stacks {
            let lookup = |n: &u32| names.get(*n as usize).map(|(_, key)| frame_of(key));
            let frames: Vec<Frame<'_>> = stack.iter().filter_map(lookup).collect();
            slice.add(&frames, weight.samples, weight.nanos)?;
        }
        self.drain_native_threads(slice)?;
        self.python_threads.clear();
        if let Source::Reader { threads, .. } = &self.source {
            self.python_threads.extend(threads.iter().map(|(outer, _)| *outer));
        }
        self.all_threads_known = true;
        Ok(())
    }

    fn tally(&self) -> Tally {
        let turns = self.taken + self.failed;
        let mut notes = Vec::new();
        if self.failed * 10 > turns {
            notes.push(format!(
                "{} of {turns} reads of the interpreter failed because it kept running; the hottest code may \
                 be underrepresented",
                self.failed
            ));
        }
        Tally { taken: self.taken, lost: self.failed, notes, ..Tally::default() }
    }

    /// Nothing was done to the target.
    fn stop(&mut self, _by: Instant) {}
}

/// A frame of the profile.
///
/// Viewers take `<module>` and `<lambda>` for C++ templates and cut them, unless the linker's name differs:
/// the file is used instead.
fn frame_of((name, file, line): &FrameKey) -> Frame<'_> {
    let mut frame = Frame::named(name, file, i64::from((*line).max(0)));
    if name.contains('<') {
        frame.system_name = file;
    }
    frame
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
        let advice = "run the agent as the target's user (securityContext.runAsUser); this is not sufficient \
                      if kernel.yama.ptrace_scope is 1 or higher";
        return Failure::new(
            FailureReason::PermissionDenied,
            format!("no permission to read the memory of Python process {pid} ({text}); {advice}"),
        );
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
