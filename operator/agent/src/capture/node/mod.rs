//! How is Node.js profiled? By its inspector, which is opened for the time of the capture.
//!
//! ```text
//! attach  endpoint (find or open) ─► connection (connect, have it close by itself if we do not) ─► profilers
//! thread  every slice: profiles of all threads ─► read when the slice is written
//! stop    the last profiles, then the inspector is closed
//! ```
//! V8 profiles each thread of JavaScript by itself. What other threads of the process do (file system, DNS,
//! compression, parts of garbage collection) is not in its profiles.

mod connection;
mod endpoint;
mod profiler;
mod protocol;
mod scripts;
mod websocket;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_crds::wire::{Offer, Problem};
use fleetprof_crds::{ProfileKind, Reason};
use fleetprof_profile::read::v8::{V8Limits, read_cpu, read_heap};
use fleetprof_profile::{Overlap, Profile, merge, total};

use super::collector::{Ask, Attached, Attaches, Capture, Collector, Tally};
use super::cpu_time::TICK_NANOS;
use super::protocol::{Failure, FailureReason};
use super::recording::{Line, Recording, Unread};
use super::runtime::Runtime;
use super::sight::Sight;
use super::slices::Slices;
use crate::proc;
use connection::Connection;
use profiler::{MEMORY_INTERVAL, Plan, Taken};
use protocol::AskError;
use websocket::MAX_MESSAGE;

/// What a capture says where somebody else samples the memory of a process.
const OTHER_PROFILER: &str = "the process already has a sampling heap profiler (of an APM agent?), and V8 has \
                              room for one: end that first";
/// Why one of two kinds is not recorded.
const ONE_OF_TWO: &str = "V8 samples either the memory that was allocated or what still lives of it, not both \
                          at a time: ask for heap in a session of its own";
/// Why all memory that is allocated is not recorded.
const TOO_OLD: &str =
    "Node.js before version 20 samples only memory that still lives: profile heap, or update it";
/// Why wall time is not captured.
const NO_WALL: &str = "Node.js waits in callbacks and promises, which are on no stack, so that its threads show nothing \
                       but the event loop: profile cpu, or wall of the service that it waits for";
/// What to do where a heap profile is empty.
const HEAP_ADVICE: &str = "V8 sees only memory that was allocated during the capture: capture for longer";
/// What is held at a time of a profile, as a multiple of its bytes: as it came, as a result, and read.
const PARTS: usize = 4;
/// How often workers are looked for, and how long they are listened to.
const FOLLOWED: Duration = Duration::from_secs(1);
const LISTENED: Duration = Duration::from_millis(20);
/// How long closing the inspector may take.
const CLOSES: Duration = Duration::from_secs(1);

/// The collector.
pub static INSPECTOR: Inspector = Inspector;

/// Profiles Node.js by its inspector.
pub struct Inspector;

impl Collector for Inspector {
    fn name(&self) -> &'static str {
        "inspector"
    }

    fn kinds(&self) -> &'static [ProfileKind] {
        &[ProfileKind::Cpu, ProfileKind::Alloc, ProfileKind::Heap]
    }

    fn offers(&self, sight: &Sight) -> Vec<Offer> {
        if sight.runtime != Runtime::Node {
            return Vec::new();
        }
        let problem = Problem { reason: Reason::UnsupportedRuntime, message: NO_WALL.to_owned() };
        let mut offers = self.offered(endpoint::obstacle(sight).as_deref());
        offers.push(Offer::refused(ProfileKind::Wall, self.name(), problem));
        offers
    }
}

impl Attaches for Inspector {
    fn attach(&self, ask: &Ask<'_>) -> Result<Attached, Failure> {
        let plan = plan(ask.kinds, ask.frequency_hz, ask.memory);
        let left = ask.until.saturating_duration_since(Instant::now());
        let connection = Connection::open(ask.sight, plan, ask.sharers > 1, left)?;
        let plan = connection.profilers.plan();
        let refused = refused(ask.kinds, plan);
        if let Some((_, failure)) = refused.first().filter(|_| refused.len() == ask.kinds.len()) {
            let _closed = connection.close(Instant::now() + CLOSES);
            return Err(failure.clone());
        }
        let notes = Notes::default();
        let work = Work {
            connection,
            plan,
            slice: ask.slice,
            meter: Meter::new(ask.sight.pid),
            notes: notes.clone(),
        };
        let recording = Recording::start(move |line| work.run(line))?;
        let capture = Box::new(NodeCapture { recording, notes });
        let why = "the target runs Node.js, whose inspector profiles JavaScript".to_owned();
        Ok(Attached { method: "inspector", why, capture, refused })
    }
}

/// What to record for kinds. Of heap and alloc only one can be.
fn plan(kinds: &[ProfileKind], frequency_hz: u32, memory: usize) -> Plan {
    let is_wanted = |kind: &ProfileKind| kinds.contains(kind);
    let micros = 1_000_000 / u64::from(frequency_hz.max(1));
    Plan {
        cpu_micros: is_wanted(&ProfileKind::Cpu).then_some(micros.max(1)),
        memory: [ProfileKind::Alloc, ProfileKind::Heap].into_iter().find(is_wanted),
        memory_of_older: Some(ProfileKind::Heap).filter(is_wanted),
        most_bytes: (memory / PARTS).min(MAX_MESSAGE),
    }
}

/// The kinds that are not recorded after all.
fn refused(kinds: &[ProfileKind], plan: Plan) -> Vec<(ProfileKind, Failure)> {
    let is_lacking = |kind: &ProfileKind| kinds.contains(kind) && plan.memory != Some(*kind);
    let why = [(ProfileKind::Alloc, TOO_OLD), (ProfileKind::Heap, ONE_OF_TWO)];
    let failure = |why: &str| Failure::new(FailureReason::UnsupportedRuntime, why);
    why.into_iter().filter(|(kind, _)| is_lacking(kind)).map(|(kind, why)| (kind, failure(why))).collect()
}

/// Sentences of the thread on the quality of the capture.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A capture of one process.
struct NodeCapture {
    recording: Recording,
    notes: Notes,
}

impl Capture for NodeCapture {
    fn interval(&self) -> Option<Duration> {
        None
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        self.recording.drain(into)
    }

    fn tally(&self) -> Tally {
        let samples = self.recording.samples();
        Tally {
            expected: Some(samples),
            taken: samples,
            notes: self.notes.all(),
            failures: self.recording.failures(),
            advice: [(ProfileKind::Heap, HEAP_ADVICE.to_owned())].into(),
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
    connection: Connection,
    plan: Plan,
    slice: Duration,
    meter: Meter,
    notes: Notes,
}

impl Work {
    fn run(mut self, line: &Line) {
        let recorded = self.record(line);
        let failure = recorded.err().map(|error| self.connection.failure(&error));
        // A target that has exited is not a failure: what was taken before stays.
        if let Some(failure) = failure.filter(|failure| failure.reason != FailureReason::TargetExited) {
            let kinds = [self.plan.cpu_micros.map(|_| ProfileKind::Cpu), self.plan.memory];
            kinds.into_iter().flatten().for_each(|kind| line.fail(kind, failure.clone()));
        }
        if let Some(note) = self.connection.close(Instant::now() + CLOSES) {
            self.notes.add(note);
        }
    }

    fn record(&mut self, line: &Line) -> Result<(), AskError> {
        let waits = || !line.is_aborted();
        loop {
            let slice_end = Instant::now() + self.slice;
            while Instant::now() < slice_end && !line.is_ending() {
                self.connection.profilers.follow(Instant::now() + LISTENED, &waits)?;
                line.wait(slice_end.min(Instant::now() + FOLLOWED));
            }
            let is_last = line.is_ending();
            self.take(is_last, line)?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn take(&mut self, is_last: bool, line: &Line) -> Result<(), AskError> {
        let waits = || !line.is_aborted();
        if let Some(micros) = self.plan.cpu_micros {
            let taken = self.connection.profilers.take_cpu(is_last, &waits)?;
            let used = self.meter.lap(self.connection.profilers.has_workers());
            line.give(ProfileKind::Cpu, cpu(taken, micros.saturating_mul(1_000), used));
        }
        match self.plan.memory {
            // What lives at the end is all that counts.
            Some(ProfileKind::Heap) if !is_last => Ok(()),
            Some(kind) => {
                let taken = self.connection.profilers.take_memory(is_last, &waits)?;
                line.give(kind, memory(taken, kind));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Reads CPU profiles. V8 weighs samples by the clock on the wall, so that all of them together weigh no more
/// than the CPU time that was `used`.
fn cpu(taken: Taken, period: u64, used: Option<u64>) -> Unread {
    Box::new(move || {
        let period = i64::try_from(period).unwrap_or(i64::MAX);
        let mut profile = read(&taken, |text| read_cpu(text, period, 0, &V8Limits::default()))?;
        if let Some(used) = used {
            weigh_at_most(&mut profile, used);
        }
        Ok(profile)
    })
}

fn memory(taken: Taken, kind: ProfileKind) -> Unread {
    Box::new(move || read(&taken, |text| read_heap(text, kind, MEMORY_INTERVAL, 0, &V8Limits::default())))
}

fn read(
    taken: &Taken,
    reader: impl Fn(&[u8]) -> Result<Profile, fleetprof_profile::read::ReadError>,
) -> Result<Profile, Failure> {
    let profiles: Result<Vec<Profile>, _> = taken.iter().map(|text| reader(text.as_bytes())).collect();
    let failed = |e: &dyn std::fmt::Display| Failure::new(FailureReason::UnsupportedRuntime, e);
    let profiles = profiles.map_err(|e| failed(&e))?;
    merge(&profiles, Overlap::Parallel).map_err(|e| failed(&e))
}

/// Makes the last value of all samples together at most `most`.
fn weigh_at_most(profile: &mut Profile, most: u64) {
    let whole = u64::try_from(total(profile, 1)).unwrap_or(0);
    if whole <= most {
        return;
    }
    for value in profile.sample.iter_mut().filter_map(|sample| sample.value.last_mut()) {
        let part = u128::try_from(*value).unwrap_or(0) * u128::from(most) / u128::from(whole);
        *value = i64::try_from(part).unwrap_or(i64::MAX);
    }
}

/// The CPU time of the threads that run JavaScript: the main one, or where there are workers all, because
/// which of the others are workers is not known.
struct Meter {
    pid: i32,
    counted: [Option<u64>; 2],
}

impl Meter {
    fn new(pid: i32) -> Self {
        Self { pid, counted: Self::now(pid) }
    }

    /// Nanoseconds of the main thread and of the process.
    fn now(pid: i32) -> [Option<u64>; 2] {
        let nanos =
            |stat: proc::Stat| stat.user_ticks.saturating_add(stat.system_ticks).saturating_mul(TICK_NANOS);
        [proc::thread_stat(pid, pid).ok().map(nanos), proc::stat(pid).ok().map(nanos)]
    }

    /// Nanoseconds since the last time; none where they cannot be known.
    fn lap(&mut self, of_all: bool) -> Option<u64> {
        let now = Self::now(self.pid);
        let before = std::mem::replace(&mut self.counted, now);
        let [main, all] = [0, 1].map(|at: usize| {
            let (before, now) = (before.get(at).copied().flatten()?, now.get(at).copied().flatten()?);
            Some(now.saturating_sub(before))
        });
        if of_all { all } else { main }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_node_is_offered_or_told_why_not() {
        let caught = |set: &str| proc::parse_caught(&format!("SigCgt:\t{set}\n")).unwrap();
        let node = Sight { caught: caught("0200"), ..Sight::new(7, Runtime::Node) };
        let offers = INSPECTOR.offers(&node);
        let (good, refused): (Vec<&Offer>, Vec<&Offer>) = offers.iter().partition(|o| o.problem.is_none());
        assert_eq!(good.iter().map(|offer| offer.kind).collect::<Vec<_>>(), INSPECTOR.kinds());
        let [Offer { kind: ProfileKind::Wall, problem: Some(why), .. }] = refused[..] else {
            panic!("{refused:?}")
        };
        assert!(why.message.contains("callbacks and promises"), "{why:?}");
        let deaf = INSPECTOR.offers(&Sight { caught: caught("0100"), ..node });
        let problem = deaf[0].problem.as_ref().unwrap();
        assert!(deaf.len() == 4 && problem.message.contains("--inspect="), "{problem:?}");
        assert_eq!(INSPECTOR.offers(&Sight::new(7, Runtime::Ruby)), []);
    }

    #[test]
    fn of_heap_and_alloc_one_is_recorded() {
        use ProfileKind::{Alloc, Cpu, Heap};
        let of = |kinds: &[ProfileKind]| {
            let plan = plan(kinds, 99, 8 << 20);
            assert_eq!(plan.most_bytes, 2 << 20);
            (plan.cpu_micros, plan.memory)
        };
        assert_eq!(of(&[Cpu]), (Some(10_101), None));
        assert_eq!(of(&[Heap]), (None, Some(Heap)));
        assert_eq!(of(&[Heap, Alloc, Cpu]), (Some(10_101), Some(Alloc)));
        let refused = |kinds: &[ProfileKind], memory| {
            let plan = Plan { memory, ..plan(kinds, 99, 0) };
            refused(kinds, plan).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
        };
        assert_eq!(refused(&[Heap, Alloc], Some(Alloc)), [Heap]);
        assert_eq!(refused(&[Heap, Alloc], Some(Heap)), [Alloc], "an older Node.js");
        assert_eq!(refused(&[Cpu, Alloc], None), [Alloc]);
        assert_eq!(refused(&[Cpu], None), []);
    }

    #[test]
    fn samples_weigh_no_more_than_the_cpu_time_that_was_used() {
        let recorded = include_str!("../../../../profile/tests/data/node20.cpuprofile").to_owned();
        let weight = |used| total(&cpu(vec![recorded.clone(); 2], 10_101_000, used)().unwrap(), 1);
        let all = weight(None);
        assert!(all > 500_000_000, "{all}");
        assert_eq!(weight(Some(u64::MAX)), all);
        let half = weight(Some(all.unsigned_abs() / 2));
        assert!((all * 45 / 100..=all / 2).contains(&half), "{half} of {all}");
        let torn = cpu(vec![recorded, "{".into()], 10_101_000, None)().unwrap_err();
        assert!(torn.message.contains("CPU profile of V8"), "{torn}");
    }

    #[test]
    fn the_cpu_time_of_this_process_is_counted() {
        let mut meter = Meter::new(i32::try_from(std::process::id()).unwrap());
        let (until, mut counted) = (Instant::now() + Duration::from_secs(30), 0);
        while counted < 100_000_000 && Instant::now() < until {
            counted += meter.lap(true).unwrap();
        }
        assert!(counted >= 100_000_000, "{counted} ns");
        assert_eq!(Meter::new(i32::MAX).lap(false), None);
    }
}
