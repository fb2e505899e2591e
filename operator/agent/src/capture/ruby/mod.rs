//! Where does a Ruby target spend its CPU time? rbspy reads its interpreter's frames without stopping it. And its
//! wall time? [`threads`] reads the stacks of all threads.
//!
//! ```text
//! attach  rbspy snapshot: can it read this interpreter?
//! thread  every slice: rbspy record ─ SIGINT ─► its profile ─► stacks, weighed by the CPU time of their threads
//! stop    the last profile, or the end of rbspy
//! ```
//! rbspy is a program of its own beside the agent's, and a child of the worker: it is not linked. It writes its
//! profile when it ends, so that each slice is a run; between two of them it reads nothing for the time that it
//! takes to start. It sees the thread that holds the lock of the main Ractor: other Ractors, and code that has
//! released the lock, are not in its profiles.

mod program;
mod threads;
mod weigh;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::Offer;
use fleetprof_profile::{Limits, decode_valid};

use self::program::{Deadline, Ended, Rbspy};
pub use self::threads::RUBY_THREADS;
use self::weigh::{Used, read, weigh};
use super::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use super::cpu_time::{TICK_NANOS, ThreadTimes};
use super::protocol::{Failure, FailureReason};
use super::recording::{Line, Recording};
use super::runtime::Runtime;
use super::schedule::saturating_nanos;
use super::sight::Sight;
use super::slices::Slices;
use super::thread_ids::ThreadIds;
use super::variables::{self, Presence};
use crate::proc::{self, Mapping};

/// What rbspy needs to find in the interpreter: where its state is, and its version.
const VARIABLES: [&str; 2] = ["ruby_current_vm_ptr", "ruby_version"];
/// Why an interpreter cannot be read.
const NO_VARIABLES: &str = "Ruby's library has no symbol ruby_current_vm_ptr, by which its stacks are found: the \
                            distribution has removed it, as Debian 13 does; use Ruby of Debian 12 or of the \
                            official image";
/// Why nothing is read.
const NOT_INSTALLED: &str = "rbspy is not beside the agent's program: use an agent image that holds it";
/// Where rbspy sees little of what the process did.
const UNSEEN: &str = "rbspy sees only code that holds the lock of Ruby's main Ractor: not other Ractors, nor \
                      native code that has released the lock";
/// How long rbspy may take to look at an interpreter for the first time.
const LOOKS: Duration = Duration::from_secs(5);
/// How long rbspy may take to write its profile.
const ANSWERS: Duration = Duration::from_secs(10);
/// Attempts to look at an interpreter that starts are this far apart.
const AGAIN: Duration = Duration::from_millis(200);

/// The collector.
pub struct RbSpy;

/// The row of the table of collectors.
pub const RBSPY: RbSpy = RbSpy;

impl Collector for RbSpy {
    fn name(&self) -> &'static str {
        "rbspy"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Cpu]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if sight.runtime != Runtime::Ruby {
            return Vec::new();
        }
        self.offered(obstacle(sight.variables, program::find().is_some()))
    }
}

impl Attaches for RbSpy {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let unsupported = || Failure::new(FailureReason::UnsupportedRuntime, NOT_INSTALLED);
        let path = program::find().ok_or_else(unsupported)?;
        let rbspy = Rbspy { path, pid: ask.sight.pid, frequency_hz: ask.frequency_hz, memory: ask.memory };
        look(&rbspy, ask.attempts)?;
        let capture = Samples::begin(rbspy, ask)?;
        let why = "the target runs Ruby, whose stacks rbspy reads".to_owned();
        Ok(Attached { method: "rbspy", why, capture: Box::new(capture), refused: Vec::new() })
    }

    fn waits_for_start(&self) -> bool {
        true
    }
}

/// Why Ruby is not profiled by rbspy, as far as it can be known before.
const fn obstacle(variables: Presence, is_installed: bool) -> Option<&'static str> {
    match (variables, is_installed) {
        (Presence::Missing, _) => Some(NO_VARIABLES),
        (_, false) => Some(NOT_INSTALLED),
        _ => None,
    }
}

/// Whether the interpreter of a Ruby process can be found by its symbols.
#[must_use]
pub fn look_for_variables(pid: i32, maps: &[Mapping], exe: &str) -> Presence {
    variables::presence(pid, maps, library(maps).unwrap_or(exe), VARIABLES)
}

/// The library that holds the interpreter, where it is not in the program.
fn library(maps: &[Mapping]) -> Option<&str> {
    let is_library = |path: &&str| path.rsplit('/').next().is_some_and(|name| name.starts_with("libruby"));
    maps.iter().filter_map(Mapping::file).find(is_library)
}

/// Has rbspy look at the interpreter, several times where it may just be starting.
fn look(rbspy: &Rbspy, attempts: u64) -> Result<(), Failure> {
    let mut left = attempts.clamp(1, 10);
    loop {
        let looked = rbspy.look(Deadline { by: Instant::now() + LOOKS, is_aborted: &|| false });
        left -= 1;
        let is_over = |failure: &Failure| left == 0 || failure.reason != FailureReason::UnsupportedRuntime;
        match looked {
            Err(failure) if !is_over(&failure) => std::thread::sleep(AGAIN),
            other => return other,
        }
    }
}

/// What the thread has counted so far.
#[derive(Default)]
struct Counts {
    /// CPU time that the process used, in nanoseconds.
    used: AtomicU64,
    /// CPU time that its samples are worth, in nanoseconds.
    sampled: AtomicU64,
}

/// The samples of one process.
struct Samples {
    recording: Recording,
    counts: Arc<Counts>,
    period: Duration,
}

impl Samples {
    /// Begins to sample.
    fn begin(rbspy: Rbspy, ask: &Ask<'_>) -> Result<Self, Failure> {
        let (counts, period) =
            (Arc::new(Counts::default()), Duration::from_secs(1) / ask.frequency_hz.max(1));
        let work = Work {
            meter: Meter::start(ask.sight.pid)?,
            rbspy,
            slice: ask.slice,
            period,
            counts: Arc::clone(&counts),
        };
        Ok(Self { recording: Recording::start(move |line| work.record(line))?, counts, period })
    }
}

impl Capture for Samples {
    fn interval(&self) -> Option<Duration> {
        None
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        self.recording.drain(into)
    }

    fn tally(&self) -> Tally {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (used, taken) = (count(&self.counts.used), self.recording.samples());
        let is_unseen = used / 2 > count(&self.counts.sampled);
        let advice = is_unseen.then(|| (ProfileKind::Cpu, UNSEEN.to_owned()));
        Tally {
            expected: Some((used / saturating_nanos(self.period).max(1)).max(taken)),
            taken,
            failures: self.recording.failures(),
            advice: advice.into_iter().collect(),
            ..Tally::default()
        }
    }

    fn ending(&mut self) {
        self.recording.ending();
    }

    fn stop(&mut self, by: Instant) {
        self.recording.stop(by);
    }
}

/// What the thread of a capture does.
struct Work {
    rbspy: Rbspy,
    meter: Meter,
    slice: Duration,
    period: Duration,
    counts: Arc<Counts>,
}

impl Work {
    /// Has rbspy record one slice after the other. rbspy ends with this thread, which started it.
    fn record(mut self, line: &Line) {
        let is_aborted = || line.is_aborted();
        let mut next = Some(self.rbspy.record());
        while let Some(running) = next.take() {
            let running = match running {
                Ok(running) => running,
                Err(failure) => return line.fail(ProfileKind::Cpu, failure),
            };
            line.wait(Instant::now() + self.slice);
            running.interrupt();
            let used = self.meter.lap();
            // What was recorded is read while rbspy records on.
            next = self.goes_on(line).then(|| self.rbspy.record());
            let ended = running.finish(Deadline { by: Instant::now() + ANSWERS, is_aborted: &is_aborted });
            self.give(line, ended, &used);
        }
    }

    /// Whether there is something to record after this slice.
    fn goes_on(&self, line: &Line) -> bool {
        !line.is_ending() && !line.is_aborted() && proc::stat(self.rbspy.pid).is_ok()
    }

    fn give(&mut self, line: &Line, ended: Ended, used: &Used) {
        self.counts.used.fetch_add(used.whole.unwrap_or(0), Ordering::Relaxed);
        if let Err(failure) = self.read(line, ended, used) {
            line.fail(ProfileKind::Cpu, failure);
        }
    }

    fn read(&mut self, line: &Line, ended: Ended, used: &Used) -> Result<(), Failure> {
        // What was recorded before rbspy gave up counts.
        match (ended.output.is_empty(), ended.failure) {
            (true, Some(failure)) => return Err(failure),
            (true, None) => return Ok(()),
            (false, Some(failure)) => line.fail(ProfileKind::Cpu, failure),
            (false, None) => {}
        }
        let limits = Limits { list_length: 100_000, memory_bytes: self.rbspy.memory, ..Limits::default() };
        let profile = decode_valid(&ended.output, &limits).map_err(|e| {
            Failure::new(FailureReason::CollectorCrashed, format!("the profile of rbspy is of no use: {e}"))
        })?;
        let traces = read(&profile, |block| self.meter.thread(block));
        let weighed = weigh(&traces, used, self.period).map_err(Failure::internal)?;
        self.counts.sampled.fetch_add(weighed.nanos, Ordering::Relaxed);
        line.give(ProfileKind::Cpu, Box::new(move || Ok(weighed.profile)));
        Ok(())
    }
}

/// The CPU time of the process and of its threads.
struct Meter {
    pid: i32,
    times: ThreadTimes,
    ids: ThreadIds,
    whole: Option<u64>,
}

impl Meter {
    fn start(pid: i32) -> Result<Self, Failure> {
        let refused = |e| {
            let text = format!("failed to read the threads of process {pid}: {e}");
            Failure::new(FailureReason::PermissionDenied, text)
        };
        let times = ThreadTimes::start(pid).map_err(refused)?;
        Ok(Self { pid, times, ids: ThreadIds::new(pid), whole: cpu_nanos(pid) })
    }

    /// What was used since the last lap.
    fn lap(&mut self) -> Used {
        let now = cpu_nanos(self.pid);
        let before = std::mem::replace(&mut self.whole, now);
        let whole = now.zip(before).map(|(now, before)| now.saturating_sub(before));
        if self.times.refresh().is_err() {
            return Used { whole, threads: BTreeMap::new() };
        }
        let threads = self.times.ids().into_iter().map(|tid| (tid, self.times.uncounted(tid)));
        let threads: BTreeMap<i32, u64> = threads.collect();
        threads.iter().for_each(|(tid, nanos)| self.times.count(*tid, *nanos));
        Used { whole, threads }
    }

    /// The system's thread of a Ruby thread, by the address of its control block.
    fn thread(&mut self, block: u64) -> Option<i32> {
        self.ids.resolve(None, block, &mut self.times)
    }
}

fn cpu_nanos(pid: i32) -> Option<u64> {
    let stat = proc::stat(pid).ok()?;
    Some(stat.user_ticks.saturating_add(stat.system_ticks).saturating_mul(TICK_NANOS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_said_before_an_order() {
        let cases = [
            (Presence::Found, true, None),
            (Presence::Unknown, true, None),
            (Presence::Missing, true, Some("ruby_current_vm_ptr")),
            (Presence::Missing, false, Some("ruby_current_vm_ptr")),
            (Presence::Found, false, Some("agent image")),
        ];
        for (variables, is_installed, wanted) in cases {
            let said = obstacle(variables, is_installed);
            let is_so = said.map_or(wanted.is_none(), |said| wanted.is_some_and(|text| said.contains(text)));
            assert!(is_so, "{variables:?} {is_installed}: {said:?}");
        }
    }

    #[test]
    fn only_ruby_is_offered() {
        assert_eq!(RBSPY.offers(&Sight::new(7, Runtime::Node)), []);
        let offers = RBSPY.offers(&Sight { variables: Presence::Missing, ..Sight::new(7, Runtime::Ruby) });
        assert_eq!(offers.len(), 1);
        assert!(offers[0].problem.as_ref().is_some_and(|p| p.message == NO_VARIABLES), "{offers:?}");
    }
}
