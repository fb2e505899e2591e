//! How does one recording follow another for as long as a capture lasts?
//!
//! Each slice is a recording of its own: one that goes on would have to keep its data in files. Between two of
//! them Java records nothing for some hundredths of a second.
//!
//! Java before 25 samples threads that could run, whether they have a processor or not. So the samples of a slice
//! are worth no more than the CPU time that the process used meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleetprof_profile::read::jfr;
use fleetprof_profile::{Overlap, ProfileKind, ReadError, merge, total};

use super::attach::Deadline;
use super::own_threads::{OwnThreads, Used, profile};
use super::recorder::{Plan, Recorder, undo};
use crate::capture::collector::{Ask, Capture, Tally};
use crate::capture::cpu_time::TICK_NANOS;
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::recording::{Line, Recording};
use crate::capture::slices::Slices;
use crate::capture::undo::{Undo, on_timeout};
use crate::proc;

/// How long Java may take to end a recording and write it, and to begin one.
const ANSWERS: Duration = Duration::from_secs(10);
/// How long the watchdog's undoing may take.
const UNDONE: Duration = Duration::from_secs(3);

/// Where Java took far fewer samples than the process used CPU time.
const UNSEEN: &str = "Java before 25 takes no samples of some compiled loops and of native code: use \
                      Java 25, or start it with -XX:+UnlockDiagnosticVMOptions -XX:+DebugNonSafepoints";

/// What the thread has counted so far.
#[derive(Default)]
struct Counts {
    /// CPU samples that Java could not take, as far as it says.
    lost: AtomicU64,
    /// CPU time that the process used, in nanoseconds.
    used: AtomicU64,
    /// CPU time that its samples are worth, in nanoseconds.
    sampled: AtomicU64,
}

/// The recordings of one process.
pub struct Recordings {
    recording: Recording,
    counts: Arc<Counts>,
    undo: Option<Undo>,
}

impl Recordings {
    /// Begins to record. Gives back Java's version as well.
    ///
    /// # Errors
    /// Java cannot record, or something else records already.
    pub fn begin(ask: &Ask<'_>) -> Result<(Self, u32), Failure> {
        let pid = ask.sight.pid;
        let plan = Plan { frequency_hz: ask.frequency_hz, slice: ask.slice };
        let undo = on_timeout(move || undo(pid, UNDONE));
        let recorder = Recorder::begin(pid, ask.kinds, plan, &|| false)?;
        let (version, counts) = (recorder.version, Arc::new(Counts::default()));
        let mut work = Work {
            pid,
            recorder,
            cpu: cpu_nanos(pid),
            threads: OwnThreads::new(pid),
            kinds: ask.kinds.to_vec(),
            slice: ask.slice,
            counts: Arc::clone(&counts),
        };
        let recording = Recording::start(move |line| work.record(line))?;
        Ok((Self { recording, counts, undo: Some(undo) }, version))
    }
}

impl Capture for Recordings {
    fn interval(&self) -> Option<Duration> {
        None
    }

    fn drain(&mut self, into: &mut Slices<'_>) -> Result<(), Failure> {
        self.recording.drain(into)
    }

    fn tally(&self) -> Tally {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (taken, lost) = (self.recording.samples(), count(&self.counts.lost));
        let is_unseen = count(&self.counts.used) / 2 > count(&self.counts.sampled);
        let advice = is_unseen.then(|| (ProfileKind::Cpu, UNSEEN.to_owned()));
        let (expected, failures) = (Some(taken.saturating_add(lost)), self.recording.failures());
        Tally { expected, taken, lost, failures, advice: advice.into_iter().collect(), ..Tally::default() }
    }

    fn ending(&mut self) {
        self.recording.ending();
    }

    fn stop(&mut self, by: Instant) {
        self.recording.stop(by);
        self.undo = None;
    }
}

/// What the thread of a recording does.
struct Work {
    pid: i32,
    recorder: Recorder,
    /// CPU time of the process when the recording began.
    cpu: Option<u64>,
    threads: OwnThreads,
    kinds: Vec<ProfileKind>,
    slice: Duration,
    counts: Arc<Counts>,
}

impl Work {
    /// Records until it is told that the capture ends: to begin may have taken some seconds of it.
    fn record(&mut self, line: &Line) {
        let is_aborted = || line.is_aborted();
        let deadline = || Deadline { by: Instant::now() + ANSWERS, is_aborted: &is_aborted };
        loop {
            line.wait(Instant::now() + self.slice);
            let is_last = line.is_ending();
            let bytes = self.recorder.stop(deadline());
            let (used, own) = (self.used(), self.threads.used());
            // What was recorded is read while Java records on.
            let next = if is_last { None } else { Some(self.recorder.start(deadline())) };
            match bytes {
                Ok(bytes) => self.give(line, &bytes, used, &own),
                Err(failure) => self.fail(line, &failure),
            }
            match next {
                Some(Ok(())) => {}
                Some(Err(failure)) => return self.fail(line, &failure),
                None => return,
            }
        }
    }

    /// CPU time that the process used since this was asked last, in nanoseconds; `None` where it has ended.
    fn used(&mut self) -> Option<u64> {
        let now = cpu_nanos(self.pid);
        let before = std::mem::replace(&mut self.cpu, now);
        Some(now?.saturating_sub(before?))
    }

    fn give(&self, line: &Line, bytes: &[u8], used: Option<u64>, own: &[Used]) {
        match self.read(bytes, used, own) {
            Ok(recording) => {
                self.count(&recording, used);
                for (kind, profile) in recording.profiles {
                    line.give(kind, Box::new(move || Ok(profile)));
                }
            }
            Err(error) => self.fail(line, &Failure::new(FailureReason::UnsupportedRuntime, error)),
        }
    }

    fn count(&self, recording: &jfr::Recording, used: Option<u64>) {
        self.counts.lost.fetch_add(recording.lost, Ordering::Relaxed);
        if let Some((used, (_, sampled))) = used.zip(cpu_of(recording)) {
            self.counts.used.fetch_add(used, Ordering::Relaxed);
            self.counts.sampled.fetch_add(sampled, Ordering::Relaxed);
        }
    }

    /// What Java recorded, and beside it what its own threads used.
    fn read(&self, bytes: &[u8], used: Option<u64>, own: &[Used]) -> Result<jfr::Recording, ReadError> {
        let period = self.recorder.period_nanos();
        let read = |period| jfr::read(bytes, &jfr::Limits::default(), &self.kinds, period);
        let mut recording = read(period)?;
        let of_own: u64 = own.iter().map(|(_, nanos)| *nanos).fold(0, u64::saturating_add);
        let left = used.map(|used| used.saturating_sub(of_own));
        if let Some(fair) = left.and_then(|left| fair_period(&recording, left)) {
            recording = read(fair)?;
        }
        for (_, cpu) in recording.profiles.iter_mut().filter(|(kind, _)| *kind == ProfileKind::Cpu) {
            let own = profile(own, period, cpu.time_nanos);
            // Both count CPU, so that they merge.
            if let Ok(all) = merge([&*cpu, &own], Overlap::Parallel) {
                *cpu = all;
            }
        }
        Ok(recording)
    }

    fn fail(&self, line: &Line, failure: &Failure) {
        self.kinds.iter().for_each(|kind| line.fail(*kind, failure.clone()));
    }
}

/// What a CPU sample may stand for where all together would be worth more than what was used, in nanoseconds.
fn fair_period(recording: &jfr::Recording, used: u64) -> Option<u64> {
    let (samples, nanos) = cpu_of(recording)?;
    (nanos > used).then(|| used / samples.max(1))
}

/// CPU samples, and the nanoseconds that they are worth.
fn cpu_of(recording: &jfr::Recording) -> Option<(u64, u64)> {
    let (_, cpu) = recording.profiles.iter().find(|(kind, _)| *kind == ProfileKind::Cpu)?;
    let sum = |index| u64::try_from(total(cpu, index)).unwrap_or(0);
    Some((sum(0), sum(1)))
}

fn cpu_nanos(pid: i32) -> Option<u64> {
    let stat = proc::stat(pid).ok()?;
    Some(stat.user_ticks.saturating_add(stat.system_ticks).saturating_mul(TICK_NANOS))
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::{Frame, ProfileBuilder};

    use super::*;

    #[test]
    fn samples_are_worth_no_more_than_what_was_used() {
        let mut cpu = ProfileBuilder::new(ProfileKind::Cpu, 10, 0);
        cpu.add(&[Frame::named("App.run", "App", 3)], &[50, 500], &[]).unwrap();
        let profiles = vec![(ProfileKind::Cpu, cpu.finish(1000, &[]))];
        let recording = jfr::Recording { profiles, lost: 0 };
        assert_eq!(fair_period(&recording, 500), None);
        assert_eq!(fair_period(&recording, 499), Some(9));
        assert_eq!(fair_period(&recording, 0), Some(0));
        assert_eq!(fair_period(&jfr::Recording { profiles: vec![], lost: 0 }, 0), None);
    }
}
