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

use super::limits;
use super::protocol::{CaptureRequest, Event, Failure, FailureReason, Finished, MAX_NOTES};
use super::schedule::{Schedule, saturating_nanos};
use super::slices::{Slice, SliceWriter};
use crate::proc;

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
}

/// A source of stacks.
pub trait Sampler {
    /// Distance of its turns.
    fn interval(&self) -> Duration;
    /// Takes one turn.
    fn sample(&mut self) -> Result<(), Failure>;
    /// Moves what was collected since the last time into a slice.
    fn drain(&mut self, slice: &mut Slice<'_>) -> Result<(), Failure>;
    /// What it has to say so far.
    fn tally(&self) -> Tally;
}

/// One capture under way.
pub struct Session<'a> {
    request: &'a CaptureRequest,
    start_ticks: u64,
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
    /// A capture of the target that started at `start_ticks` after boot.
    pub fn new(
        request: &'a CaptureRequest,
        start_ticks: u64,
        writer: &'a mut SliceWriter,
        emit: &'a mut dyn FnMut(&Event),
    ) -> Self {
        Self { request, start_ticks, writer, emit, start: Instant::now(), samples: 0 }
    }

    /// Runs the capture to its end. On failure, what was sampled before is in a last slice.
    pub fn run(mut self, sampler: &mut dyn Sampler) -> Result<Finished, Failure> {
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
        self.finish(end, sampler.tally(), turns, schedule.missed())
    }

    /// Takes turns until the slice or the capture ends.
    fn take_turns(
        &self,
        sampler: &mut dyn Sampler,
        schedule: &mut Schedule,
        slice_end: Duration,
        turns: &mut u64,
    ) -> Result<Option<End>, Failure> {
        let mut next_check = Duration::ZERO;
        loop {
            let now = self.start.elapsed();
            if let Some(end) = self.end(now, &mut next_check) {
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
        }
    }

    /// Whether the capture is over; looks at the target at most once in each [`CHECK_INTERVAL`].
    fn end(&self, now: Duration, next_check: &mut Duration) -> Option<End> {
        if limits::stop_requested() {
            return Some(End::Stopped);
        }
        if now >= *next_check {
            *next_check = now + CHECK_INTERVAL;
            if proc::has_exited(self.request.pid, self.start_ticks) {
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
        sampler: &mut dyn Sampler,
        start: (Duration, u64),
    ) -> Result<(Duration, u64), Failure> {
        let labels = self.request.labels.iter().map(|(k, v)| Label::text(k, v)).collect();
        let period = 1_000_000_000 / u64::from(self.request.frequency_hz);
        let mut slice = Slice::new(KIND, period, start.1, labels);
        let end = self.start.elapsed();
        let duration = saturating_nanos(end.saturating_sub(start.0));
        sampler.drain(&mut slice)?;
        if let Some(written) = self.writer.write(slice, duration)? {
            self.samples += written.samples;
            limits::progress().samples.store(self.samples, Ordering::Relaxed);
            limits::progress().slices.store(self.writer.written(), Ordering::Relaxed);
            (self.emit)(&Event::Slice(written));
        }
        Ok((end, start.1.saturating_add(duration)))
    }

    fn finish(&self, end: End, tally: Tally, turns: u64, missed: u64) -> Result<Finished, Failure> {
        let pid = self.request.pid;
        if self.samples == 0 && end == End::TargetExited {
            return Err(Failure::new(
                FailureReason::TargetExited,
                format!("process {pid} exited before the first sample"),
            ));
        }
        if self.samples == 0 && end == End::Duration {
            let ms = self.request.duration_ms;
            return Err(Failure::new(
                FailureReason::NoSamples,
                format!(
                    "process {pid} {} during the capture of {ms} ms; profile it under load",
                    KIND.nothing()
                ),
            ));
        }
        Ok(Finished {
            samples: self.samples,
            expected: tally.expected.unwrap_or(turns + missed),
            taken: tally.taken,
            lost: tally.lost,
            slices: self.writer.written(),
            target_exited: end == End::TargetExited,
            stopped: end == End::Stopped,
            notes: tally.notes.into_iter().take(MAX_NOTES).collect(),
        })
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
