//! How does one capture run from its first turn to its last slice?
//!
//! ```text
//! turn (1/Hz) ─► container.sample() ─┐      every slice_ms: container.drain() ─► slices ─► disk ─► events
//!      ▲                             │      ends: duration · SIGTERM · target exited · failure
//!      └── schedule, no drift ◄──────┘            └─► container.stop() ─► the last slices
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fleetprof_profile::{Label, ProfileKind};

use super::collector::Tally;
use super::container::Container;
use super::cpu_time::own_cpu_time;
use super::findings::Findings;
use super::limits;
use super::protocol::{CaptureRequest, Event, Failure, FailureReason, Finished, MAX_NOTES, SliceWritten};
use super::schedule::{Schedule, saturating_nanos};
use super::slices::{SliceWriter, Slices};
use super::verdict::{Facts, OfKind};

/// How often the capture looks whether its target lives and whether it shall stop.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One capture under way.
pub struct Session<'a> {
    request: &'a CaptureRequest,
    writer: &'a mut SliceWriter,
    emit: &'a mut dyn FnMut(&Event),
    start: Instant,
    samples: BTreeMap<ProfileKind, u64>,
    /// Since when there was no slice of a kind: since the start of the capture, and since 1970 in
    /// nanoseconds.
    since: BTreeMap<ProfileKind, (Duration, u64)>,
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
        Self {
            request,
            writer,
            emit,
            start: Instant::now(),
            samples: BTreeMap::new(),
            since: BTreeMap::new(),
        }
    }

    /// Runs the capture to its end. On failure, what was sampled before is in a last slice.
    pub fn run(mut self, container: &mut Container<'_>) -> Result<Finished, Failure> {
        self.start = Instant::now();
        let mut schedule = Schedule::new(container.interval(), unix_nanos());
        let mut turns = 0;
        let mut slice_start = (Duration::ZERO, unix_nanos());
        let end = loop {
            let slice_end = slice_start.0 + Duration::from_millis(self.request.slice_ms);
            let end = self.take_turns(container, &mut schedule, slice_end, &mut turns);
            let now = self.start.elapsed();
            if !matches!(end, Ok(None)) {
                container.stop();
            }
            slice_start = self.write_slices(container, slice_start, now)?;
            if let Some(end) = end? {
                break end;
            }
        };
        self.finish(end, container, turns, schedule.missed())
    }

    /// Takes turns until the slice or the capture ends.
    fn take_turns(
        &self,
        container: &mut Container<'_>,
        schedule: &mut Schedule,
        slice_end: Duration,
        turns: &mut u64,
    ) -> Result<Option<End>, Failure> {
        let mut next_check = Duration::ZERO;
        loop {
            let now = self.start.elapsed();
            if let Some(end) = self.end(container, now, &mut next_check) {
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
            let before = own_cpu_time();
            container.sample()?;
            *turns += 1;
            schedule.taken(self.start.elapsed(), own_cpu_time().saturating_sub(before));
            schedule.skip(container.skip_idle_turns());
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

    /// Writes what was collected between `start` and `end`; gives back where the next slices start.
    ///
    /// A slice of a kind that is not taken at a rate holds all since the last one of that kind.
    fn write_slices(
        &mut self,
        container: &mut Container<'_>,
        start: (Duration, u64),
        end: Duration,
    ) -> Result<(Duration, u64), Failure> {
        let labels: Vec<Label> = self.request.labels.iter().map(|(k, v)| Label::text(k, v)).collect();
        let first = (Duration::ZERO, start.1.saturating_sub(saturating_nanos(start.0)));
        let since = self.since.clone();
        let start_of = |kind: ProfileKind| match kind.is_sampled() {
            true => start,
            false => since.get(&kind).copied().unwrap_or(first),
        };
        let mut slices = Slices::new(&self.request.profiles, self.period(), |kind| start_of(kind).1, &labels);
        let next = (end, start.1.saturating_add(saturating_nanos(end.saturating_sub(start.0))));
        container.drain(&mut slices)?;
        let cover = container.cover();
        limits::progress().set_cover(cover);
        for slice in slices.into_each() {
            let kind = slice.kind;
            let duration = saturating_nanos(end.saturating_sub(start_of(kind).0));
            if let Some(written) = self.writer.write(slice, duration)? {
                self.since.insert(kind, next);
                let samples = self.samples.entry(kind).or_default();
                *samples = samples.saturating_add(written.samples);
                limits::progress().samples.store(self.all_samples(), Ordering::Relaxed);
                limits::progress().slices.store(self.writer.written(), Ordering::Relaxed);
                (self.emit)(&Event::Slice(SliceWritten { cover: Some(cover), ..written }));
            }
        }
        Ok(next)
    }

    /// Nanoseconds between two samples.
    fn period(&self) -> u64 {
        1_000_000_000 / u64::from(self.request.frequency_hz.max(1))
    }

    /// Samples of all kinds. Kinds count different things, so that it only tells whether there are any.
    fn all_samples(&self) -> u64 {
        self.samples.values().copied().fold(0, u64::saturating_add)
    }

    fn finish(
        &self,
        end: End,
        container: &Container<'_>,
        turns: u64,
        missed: u64,
    ) -> Result<Finished, Failure> {
        let pid = self.request.pid;
        let samples = self.all_samples();
        if samples == 0 && end == End::TargetExited {
            return Err(Failure::new(
                FailureReason::TargetExited,
                format!("process {pid} exited before the first sample"),
            ));
        }
        let tally = container.tally();
        let findings = self.findings(container, &tally, turns, missed);
        let (low, note) = match (end, self.request.owner) {
            (End::Stopped, _) | (_, Some(_)) => (None, None),
            _ => findings.judged(self.request)?,
        };
        Ok(Finished {
            samples,
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
            findings: self.request.owner.map(|_| Box::new(findings)),
        })
    }

    /// What there is to judge.
    fn findings(&self, container: &Container<'_>, tally: &Tally, turns: u64, missed: u64) -> Findings {
        let of_kind = |kind: &ProfileKind| OfKind {
            kind: *kind,
            samples: self.samples.get(kind).copied().unwrap_or(0),
            failure: tally.failures.get(kind).cloned(),
            advice: tally.advice.get(kind).cloned(),
        };
        let kinds: Vec<OfKind> = self.request.profiles.iter().map(of_kind).collect();
        let samples = self.samples.get(&ProfileKind::Cpu).copied().unwrap_or(0);
        let facts = Facts { samples, period: self.period(), turns, missed, ..container.facts() };
        Findings { facts, kinds, lacking: tally.lacking.clone() }
    }
}

/// Nanoseconds since 1970.
pub fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, saturating_nanos)
}
