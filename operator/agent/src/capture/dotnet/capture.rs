//! How does a capture of a .NET process run?
//!
//! ```text
//! begin   live session (methods from now on, allocations) ─► methods so far (a session that ends at once)
//! thread  reads the live session, makes a profile of allocations for each slice
//! turns   machine code is sampled; its addresses are named when a slice ends
//! stop    the live session ends
//! ```
//! The live session begins first, so that no method falls between the two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetprof_profile::ProfileKind;
use fleetprof_profile::read::nettrace::{Allocations, Event, Limits};

use super::ipc::Session;
use super::program::Program;
use super::session::{Port, Stream};
use super::threads::{self, Threads};
use crate::capture::collector::{Ask, Attached, Capture, Tally};
use crate::capture::looks::Looks;
use crate::capture::native::{self, Compiled, SharedMethods, TellsMethods};
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::recording::{Line, Recording};
use crate::capture::session::unix_nanos;
use crate::capture::slices::Slices;
use crate::proc;

/// How long the runtime may take to answer.
const ANSWERS: Duration = Duration::from_secs(5);
/// The same for all methods that are compiled already: large services have a hundred thousand.
const TELLS: Duration = Duration::from_secs(10);
/// How long it may take to end the live session.
const ENDS: Duration = Duration::from_secs(3);
/// How long a process may take to end after it has closed its files.
const EXITS: Duration = Duration::from_secs(1);
/// How often the thread looks whether the capture ends.
const LOOK: Duration = Duration::from_millis(200);
/// What to say where code that the runtime made still has no name.
const ADVICE: &str = "these are stubs of the .NET runtime, or methods that it does not tell";

/// A capture of one process.
pub struct DotNetCapture {
    sampler: Option<Box<dyn Capture>>,
    /// For wall time.
    looks: Option<Looks>,
    recording: Recording,
    program: Arc<Program>,
    has_allocations: bool,
}

impl DotNetCapture {
    /// Begins to capture.
    ///
    /// # Errors
    /// The runtime does not talk to the agent, or nothing of what is asked for can be captured.
    pub fn begin(ask: &Ask<'_>) -> Result<Attached, Failure> {
        let pid = ask.sight.pid;
        let port = Port::open(pid)?;
        let version = port.version(Instant::now() + ANSWERS)?;
        let allocations = ask.kinds.contains(&ProfileKind::Alloc);
        let limits = Limits::within(ask.memory / ask.sharers.max(1));
        let live = port.start(Session::Live { allocations }, limits, Instant::now() + ANSWERS)?;
        let program = Arc::new(Program::new(pid, limits));
        let mut work = Work {
            pid,
            start_ticks: proc::start_ticks(pid).unwrap_or(0),
            port,
            live,
            program: Arc::clone(&program),
            allocations: Allocations::new(limits),
            is_of_allocations: allocations,
            slice: ask.slice,
            since: unix_nanos(),
        };
        let told = work.methods_so_far(limits)?;
        let (sampler, mut refused) = sampler(ask, &program)?;
        let looks = looks(ask, limits, &program, &mut refused)?;
        let (method, how) = match &sampler {
            Some(attached) => {
                (attached.method, format!("; CPU is sampled by {}: {}", attached.method, attached.why))
            }
            None => ("eventpipe", String::new()),
        };
        let why = format!(".NET {version} told the names of {told} compiled methods{how}");
        let recording = Recording::start(move |line| work.run(line))?;
        let sampler = sampler.map(|attached| attached.capture);
        let capture = Box::new(Self { sampler, looks, recording, program, has_allocations: allocations });
        Ok(Attached { method, why, capture, refused })
    }
}

/// The kinds that are not captured after all, and why.
type Refused = Vec<(ProfileKind, Failure)>;

/// A sampler of machine code, where CPU is asked for. A refusal leaves the other kinds.
fn sampler(ask: &Ask<'_>, program: &Arc<Program>) -> Result<(Option<Attached>, Refused), Failure> {
    if !ask.kinds.contains(&ProfileKind::Cpu) {
        return Ok((None, Vec::new()));
    }
    let methods: SharedMethods = program.clone();
    let compiled = Compiled { methods: Some(methods), advice: Some(ADVICE) };
    match native::sampler(ask, compiled) {
        Ok(attached) => Ok((Some(attached), Vec::new())),
        Err(failure) if ask.kinds.len() == 1 => Err(failure),
        Err(failure) => Ok((None, vec![(ProfileKind::Cpu, failure)])),
    }
}

/// The looks at all threads, where wall time is asked for. A refusal leaves the other kinds.
fn looks(
    ask: &Ask<'_>,
    limits: Limits,
    program: &Arc<Program>,
    refused: &mut Refused,
) -> Result<Option<Looks>, Failure> {
    if !ask.kinds.contains(&ProfileKind::Wall) {
        return Ok(None);
    }
    let pid = ask.sight.pid;
    let begun = Port::open(pid).and_then(|port| {
        let threads = Threads::new(pid, port, limits, Arc::clone(program));
        Looks::begin(threads, ask.frequency_hz)
    });
    match begun {
        Ok(looks) => Ok(Some(looks)),
        Err(failure) if refused.len() + 1 == ask.kinds.len() => Err(failure),
        Err(failure) => {
            refused.push((ProfileKind::Wall, failure));
            Ok(None)
        }
    }
}

impl Capture for DotNetCapture {
    fn interval(&self) -> Option<Duration> {
        self.sampler.as_ref()?.interval()
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.sampler.as_mut().map_or(Ok(()), |sampler| sampler.turn())
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        if let Some(sampler) = &mut self.sampler {
            sampler.drain(into)?;
        }
        if let Some(looks) = &self.looks {
            // The methods are locked after what was seen, as where a look is added.
            looks.drain_named(into, &|name| threads::told(&*self.program, name))?;
        }
        self.recording.drain(into)
    }

    fn tally(&self) -> Tally {
        let mut tally = self.sampler.as_ref().map(|sampler| sampler.tally()).unwrap_or_default();
        let samples = self.recording.samples();
        tally.add(Tally {
            expected: self.has_allocations.then_some(samples),
            taken: samples,
            failures: self.recording.failures(),
            notes: self.program.notes(),
            ..Tally::default()
        });
        if let Some(looks) = &self.looks {
            tally.add(looks.tally());
        }
        tally
    }

    fn ending(&mut self) {
        if let Some(sampler) = &mut self.sampler {
            sampler.ending();
        }
        if let Some(looks) = &self.looks {
            looks.recording().ending();
        }
        self.recording.ending();
    }

    fn stop(&mut self, by: Instant) {
        if let Some(sampler) = &mut self.sampler {
            sampler.stop(by);
        }
        if let Some(looks) = &self.looks {
            looks.recording().stop(by);
        }
        self.recording.stop(by);
    }
}

/// What the thread of a capture does.
struct Work {
    pid: i32,
    start_ticks: u64,
    port: Port,
    live: Stream,
    program: Arc<Program>,
    allocations: Allocations,
    is_of_allocations: bool,
    slice: Duration,
    /// When the allocations began that are not handed over yet, in nanoseconds since 1970.
    since: u64,
}

impl Work {
    /// Has the runtime tell the methods that are compiled already; how many they are.
    fn methods_so_far(&mut self, limits: Limits) -> Result<usize, Failure> {
        let by = Instant::now() + TELLS;
        let mut session = self.port.start(Session::Methods, limits, by)?;
        let program = &self.program;
        session.stop(by, &|| false, &mut |event| add(program, None, event))?;
        let known = program.methods().len();
        if session.is_whole() && known > 0 {
            return Ok(known);
        }
        let text = format!("the .NET runtime of process {} does not tell its methods", self.pid);
        Err(Failure::new(FailureReason::UnsupportedRuntime, text))
    }

    fn run(mut self, line: &Line) {
        let read = self.record(line);
        let failure = read.and_then(|()| self.end(line)).err();
        // A target that has ended is not a failure: what was taken before stays.
        let failure = failure.filter(|_| self.is_of_allocations && !self.has_exited());
        if let Some(failure) = failure {
            line.fail(ProfileKind::Alloc, failure);
        }
        self.give(line);
    }

    /// Whether the process has ended; it closes its files some moments before.
    fn has_exited(&self) -> bool {
        let by = Instant::now() + EXITS;
        while !proc::has_exited(self.pid, self.start_ticks) {
            if Instant::now() >= by {
                return false;
            }
            std::thread::sleep(LOOK / 10);
        }
        true
    }

    /// Reads the live session until the capture ends.
    fn record(&mut self, line: &Line) -> Result<(), Failure> {
        let mut next = Instant::now() + self.slice;
        while !line.is_ending() {
            if self.read()? {
                let text = "the .NET runtime ended the session before its time";
                return Err(Failure::new(FailureReason::UnsupportedRuntime, text));
            }
            if Instant::now() >= next {
                self.give(line);
                next = Instant::now() + self.slice;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<bool, Failure> {
        let Self { live, program, allocations, .. } = self;
        live.read(Instant::now() + LOOK, &mut |event| add(program, Some(&mut *allocations), event))
    }

    fn end(&mut self, line: &Line) -> Result<(), Failure> {
        let Self { live, program, allocations, .. } = self;
        let sink = &mut |event: Event<'_>| add(program, Some(&mut *allocations), event);
        live.stop(Instant::now() + ENDS, &|| line.is_aborted(), sink)
    }

    /// Hands over the allocations since the last time.
    fn give(&mut self, line: &Line) {
        let start = i64::try_from(std::mem::replace(&mut self.since, unix_nanos())).unwrap_or(0);
        if self.is_of_allocations {
            let profile = self.allocations.take(&|address| self.program.method(address), start);
            line.give(ProfileKind::Alloc, Box::new(move || Ok(profile)));
        }
    }
}

fn add(program: &Program, allocations: Option<&mut Allocations>, event: Event<'_>) {
    let rest = program.take(event);
    if let (Some(Event::Allocation { bytes, object, stack }), Some(allocations)) = (rest, allocations) {
        allocations.add(bytes, object, stack);
    }
}
