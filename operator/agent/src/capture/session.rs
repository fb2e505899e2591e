//! How does one capture run from its first turn to its last slice?
//!
//! ```text
//! turn (1/Hz) ─► sampler.sample() ─┐            every slice_ms: sampler.drain() ─► slice ─► disk ─► event
//!      ▲                           │            ends: duration · SIGTERM · target exited
//!      └── schedule, no drift ◄────┘
//! ```

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fleetprof_profile::{Label, ProfileKind};
use nix::time::{ClockId, clock_gettime};

use super::container::Container;
use super::limits;
use super::protocol::{CaptureRequest, Event, Failure, FailureReason, Finished, MAX_NOTES, SliceWritten};
use super::schedule::{Schedule, saturating_nanos};
use super::slices::{Slice, SliceWriter};
use super::verdict::{Facts, Verdict, judge};

/// What samplers take: stacks that use the CPU.
const KIND: ProfileKind = ProfileKind::Cpu;
/// How often the capture looks whether its target lives and whether it shall stop.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What a sampler has to say of its turns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples that should have been taken, where it is not the number of turns.
    pub expected: Option<u64>,
    /// Samples (or turns) that were taken.
    pub taken: u64,
    /// Samples that were taken but lost.
    pub lost: u64,
    /// Sentences on the quality of the capture.
    pub notes: Vec<String>,
    /// CPU time in the kernel that the sampler may not see, in nanoseconds.
    pub unseen_kernel: u64,
}

impl Tally {
    /// Adds what another sampler has to say. Where only one of them knows what to expect, the other's samples
    /// are what was to be expected of it.
    pub fn add(&mut self, other: Self) {
        let or_taken = |tally: &Self| tally.expected.unwrap_or(tally.taken + tally.lost);
        self.expected = match (self.expected, other.expected) {
            (None, None) => None,
            _ => Some(or_taken(self) + or_taken(&other)),
        };
        self.taken += other.taken;
        self.lost += other.lost;
        self.unseen_kernel += other.unseen_kernel;
        for note in other.notes {
            if self.notes.len() < MAX_NOTES && !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }
}

/// A source of stacks of one process.
pub trait Sampler {
    /// Distance of its turns.
    fn interval(&self) -> Duration;
    /// Takes one turn.
    fn sample(&mut self) -> Result<(), Failure>;
    /// Moves what was collected since the last time into a slice.
    fn drain(&mut self, slice: &mut Slice<'_>) -> Result<(), Failure>;
    /// What it has to say so far.
    fn tally(&self) -> Tally;
    /// Gives back what the kernel lent; what was collected stays. There are no more turns.
    fn close(&mut self) {}
}

/// One capture under way.
pub struct Session<'a> {
    request: &'a CaptureRequest,
    writer: &'a mut SliceWriter,
    emit: &'a mut dyn FnMut(&Event),
    start: Instant,
    samples: u64,
}

/// Why the turns ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Duration,
    Stopped,
    TargetExited,
}

impl<'a> Session<'a> {
    /// A capture as the request says.
    pub fn new(
        request: &'a CaptureRequest,
        writer: &'a mut SliceWriter,
        emit: &'a mut dyn FnMut(&Event),
    ) -> Self {
        Self { request, writer, emit, start: Instant::now(), samples: 0 }
    }

    /// Runs the capture to its end. On failure, what was sampled before is in a last slice.
    pub fn run(mut self, sampler: &mut Container<'_>) -> Result<Finished, Failure> {
        self.start = Instant::now();
        let mut schedule = Schedule::new(sampler.interval());
        let mut turns = 0;
        let mut slice_start = (Duration::ZERO, unix_nanos());
        let end = loop {
            let slice_end = slice_start.0 + Duration::from_millis(self.request.slice_ms);
            let end = self.take_turns(sampler, &mut schedule, slice_end, &mut turns);
            slice_start = self.write_slice(sampler, slice_start)?;
            if let Some(end) = end? {
                break end;
            }
        };
        self.finish(end, sampler, turns, schedule.missed())
    }

    /// Takes turns until the slice or the capture ends.
    fn take_turns(
        &self,
        sampler: &mut Container<'_>,
        schedule: &mut Schedule,
        slice_end: Duration,
        turns: &mut u64,
    ) -> Result<Option<End>, Failure> {
        let mut next_check = Duration::ZERO;
        loop {
            let now = self.start.elapsed();
            if let Some(end) = self.end(sampler, now, &mut next_check) {
                return Ok(Some(end));
            }
            if now >= slice_end {
                return Ok(None);
            }
            if now < schedule.due() {
                let until = schedule.due().min(self.duration()).min(slice_end).min(next_check);
                std::thread::sleep(until.saturating_sub(now));
                continue;
            }
            let before = cpu_time();
            sampler.sample()?;
            *turns += 1;
            schedule.taken(self.start.elapsed(), cpu_time().saturating_sub(before));
            schedule.skip(sampler.skip_idle_turns());
        }
    }

    /// Whether the capture is over; looks at the target at most once in each [`CHECK_INTERVAL`].
    fn end(&self, target: &mut Container<'_>, now: Duration, next_check: &mut Duration) -> Option<End> {
        if limits::stop_requested() {
            return Some(End::Stopped);
        }
        if now >= *next_check {
            *next_check = now + CHECK_INTERVAL;
            if target.is_over() {
                return Some(End::TargetExited);
            }
        }
        (now >= self.duration()).then_some(End::Duration)
    }

    fn duration(&self) -> Duration {
        Duration::from_millis(self.request.duration_ms)
    }

    /// Writes what was collected since `start`; gives back when it was, which is where the next slice starts.
    fn write_slice(
        &mut self,
        sampler: &mut Container<'_>,
        start: (Duration, u64),
    ) -> Result<(Duration, u64), Failure> {
        let labels = self.request.labels.iter().map(|(k, v)| Label::text(k, v)).collect();
        let period = 1_000_000_000 / u64::from(self.request.frequency_hz);
        let mut slice = Slice::new(KIND, period, start.1, labels);
        let end = self.start.elapsed();
        let duration = saturating_nanos(end.saturating_sub(start.0));
        sampler.drain(&mut slice)?;
        let cover = sampler.cover();
        limits::progress().set_cover(cover);
        if let Some(written) = self.writer.write(slice, duration)? {
            let written = SliceWritten { cover: Some(cover), ..written };
            self.samples += written.samples;
            limits::progress().samples.store(self.samples, Ordering::Relaxed);
            limits::progress().slices.store(self.writer.written(), Ordering::Relaxed);
            (self.emit)(&Event::Slice(written));
        }
        Ok((end, start.1.saturating_add(duration)))
    }

    fn finish(
        &self,
        end: End,
        container: &Container<'_>,
        turns: u64,
        missed: u64,
    ) -> Result<Finished, Failure> {
        let pid = self.request.pid;
        if self.samples == 0 && end == End::TargetExited {
            return Err(Failure::new(
                FailureReason::TargetExited,
                format!("process {pid} exited before the first sample"),
            ));
        }
        let period = 1_000_000_000 / u64::from(self.request.frequency_hz.max(1));
        let facts = Facts { samples: self.samples, period, turns, missed, ..container.facts() };
        let (low, note) = match judge(&facts) {
            _ if end == End::Stopped => (None, None),
            Verdict::Good(note) => (None, note),
            Verdict::Low(why) => (Some(why), None),
            Verdict::Idle => return Err(self.idle()),
            Verdict::Missed(failure) => return Err(failure),
        };
        let tally = container.tally();
        Ok(Finished {
            samples: self.samples,
            expected: tally.expected.unwrap_or(turns + missed),
            taken: tally.taken,
            lost: tally.lost,
            slices: self.writer.written(),
            target_exited: end == End::TargetExited,
            stopped: end == End::Stopped,
            notes: tally.notes.into_iter().take(MAX_NOTES).collect(),
            cover: Some(container.cover()),
            low,
            note,
        })
    }

    fn idle(&self) -> Failure {
        let (pid, ms) = (self.request.pid, self.request.duration_ms);
        let who = match &self.request.container {
            Some(_) => "the container".to_owned(),
            None => format!("process {pid}"),
        };
        let text = format!("{who} {} during the capture of {ms} ms; profile it under load", KIND.nothing());
        Failure::new(FailureReason::NoSamples, text)
    }
}

/// Nanoseconds since 1970.
pub fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, saturating_nanos)
}

/// CPU time of this process.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
