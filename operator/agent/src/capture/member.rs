//! How is one process of a container captured? By one collector or several, each with kinds of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fleetprof_crds::ProfileKind;

use super::attach::Begun;
use super::collector::{Capture, Tally};
use super::members::Seen;
use super::protocol::{Failure, FailureReason};
use super::slices::Slices;

/// How long a capture that is dropped may take to undo what it did to its target.
const DROPPED: Duration = Duration::from_secs(1);

/// One capture of a process.
struct Held {
    kinds: Vec<ProfileKind>,
    capture: Box<dyn Capture>,
    /// It has every n-th turn; `None` for a recording.
    every: Option<u64>,
}

/// A process that is captured.
pub struct Member {
    /// The process.
    pub process: Seen,
    /// Its label in the slices.
    label: String,
    held: Vec<Held>,
    has_samples: bool,
    stopped: bool,
}

impl Member {
    /// A process whose captures have begun; turns are `turn` apart.
    pub fn new(process: Seen, label: String, begun: Vec<Begun>, turn: Duration) -> Self {
        let held = begun.into_iter().map(|Begun { kinds, capture }| {
            let turns = |interval: Duration| interval.as_nanos() / turn.as_nanos().max(1);
            let every = capture.interval().map(|i| u64::try_from(turns(i)).unwrap_or(1).max(1));
            Held { kinds, capture, every }
        });
        Self { process, label, held: held.collect(), has_samples: false, stopped: false }
    }

    /// Whether nothing of it is captured any more.
    pub fn is_over(&self) -> bool {
        self.held.is_empty()
    }

    /// How many turns there are until one of its captures has one; `None` where it only records.
    pub fn due(&self, turn: u64) -> Option<u64> {
        self.held.iter().filter_map(|held| held.every).map(|every| every - turn % every).min()
    }

    /// Has every capture whose turn it is take it. Gives back what can be captured no more, with the reason:
    /// what was collected of it can still be drained.
    pub fn turn(&mut self, turn: u64) -> Option<(Self, Failure)> {
        let mut failed = None;
        for at in (0..self.held.len()).rev() {
            let is_due = |held: &&mut Held| held.every.is_some_and(|every| turn.is_multiple_of(every));
            let Some(held) = self.held.get_mut(at).filter(is_due) else { continue };
            if let Err(failure) = guarded(|| held.capture.turn()) {
                let (mut gone, _) =
                    failed.take().unwrap_or_else(|| (self.without_captures(), failure.clone()));
                gone.held.push(self.held.remove(at));
                failed = Some((gone, failure));
            }
        }
        failed
    }

    fn without_captures(&self) -> Self {
        Self {
            process: self.process.clone(),
            label: self.label.clone(),
            held: Vec::new(),
            has_samples: self.has_samples,
            stopped: false,
        }
    }

    /// The kinds that are captured.
    pub fn kinds(&self) -> impl Iterator<Item = ProfileKind> {
        self.held.iter().flat_map(|held| held.kinds.iter().copied())
    }

    /// Is told that it is stopped soon.
    pub fn ending(&mut self) {
        for held in &mut self.held {
            let _crashed = guarded(|| {
                held.capture.ending();
                Ok(())
            });
        }
    }

    /// Ends its captures soon after `by`; samplers have a last turn. What was collected stays.
    pub fn stop(&mut self, by: Instant) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        for held in &mut self.held {
            if held.every.is_some() {
                let _last = guarded(|| held.capture.turn());
            }
            let _crashed = guarded(|| {
                held.capture.stop(by);
                Ok(())
            });
        }
    }

    /// Moves what was collected into slices; says whether these are its first samples.
    pub fn drain(&mut self, into: &mut Slices<'_>) -> Result<bool, Failure> {
        let before = into.samples();
        into.of_process(&self.label);
        for held in &mut self.held {
            guarded(|| held.capture.drain(into))?;
        }
        let is_first = into.samples() > before && !self.has_samples;
        self.has_samples |= is_first;
        Ok(is_first)
    }

    /// What its captures have to say.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.held.iter().for_each(|held| tally.add(held.capture.tally()));
        tally
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.stopped {
            self.ending();
            self.stop(Instant::now() + DROPPED);
        }
    }
}

/// Where a collector crashes, the capture of other processes goes on.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Failure::new(
            FailureReason::CollectorCrashed,
            "the collector crashed; the target is not affected; see the agent's log for the location",
        ))
    })
}
