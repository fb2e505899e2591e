//! What is said of a container at the end, by what the workers of its users say?

use fleetprof_crds::ProfileKind;

use super::super::findings::Findings;
use super::super::protocol::{Event, Failed, Failure, FailureReason, Finished, MAX_NOTES, bounded};
use super::super::verdict::{Facts, OfKind};
use super::Run;
use super::worker::Worker;

/// Most bytes of a note.
const MAX_NOTE: usize = 400;

impl Run<'_> {
    /// The end of the capture: one verdict on all.
    pub fn conclude(self) -> Result<Finished, Failure> {
        let samples = self.gathered.samples();
        let target_exited = self.workers.iter().all(Worker::ended_with_its_processes);
        if samples == 0 && target_exited {
            let text = "the container's processes exited before the first sample";
            return Err(Failure::new(FailureReason::TargetExited, text));
        }
        let (findings, cover) = (self.findings(), self.cover());
        let (low, note) = match self.stopped {
            true => (None, None),
            false => findings.judged(self.users.request)?,
        };
        let ends = || self.workers.iter().filter_map(finished);
        let sum = |count: fn(&Finished) -> u64| ends().map(count).fold(0, u64::saturating_add);
        let mut notes: Vec<String> = Vec::new();
        for note in ends().flat_map(|end| &end.notes) {
            if notes.len() < MAX_NOTES && !notes.contains(note) {
                notes.push(bounded(note.clone(), MAX_NOTE));
            }
        }
        Ok(Finished {
            samples,
            expected: sum(|end| end.expected),
            taken: sum(|end| end.taken),
            lost: sum(|end| end.lost),
            slices: self.writer.written(),
            target_exited,
            stopped: self.stopped,
            notes,
            cover: Some(cover),
            low,
            note,
            findings: None,
        })
    }

    /// What all workers found, with what was counted here in place of what they say.
    fn findings(&self) -> Findings {
        let kinds = &self.users.request.profiles;
        let nothing = |kind: &ProfileKind| OfKind { kind: *kind, samples: 0, failure: None, advice: None };
        let mut all = Findings { kinds: kinds.iter().map(nothing).collect(), ..Findings::default() };
        self.workers.iter().filter_map(|worker| found(worker, kinds)).for_each(|found| all.join(found));
        all.kinds.retain(|of| kinds.contains(&of.kind));
        all.kinds.iter_mut().for_each(|of| of.samples = self.gathered.samples_of(of.kind));
        let cover = self.cover();
        all.facts.samples = self.gathered.samples_of(ProfileKind::Cpu);
        (all.facts.profiled, all.facts.used) = (cover.cpu_nanos, cover.used_nanos);
        all.facts.period = 1_000_000_000 / u64::from(self.users.request.frequency_hz.max(1));
        all
    }
}

fn finished(worker: &Worker) -> Option<&Finished> {
    match &worker.last {
        Some(Event::Finished(finished)) => Some(finished),
        _ => None,
    }
}

/// What a worker found; one that failed found that the processes of its user cannot be captured.
fn found(worker: &Worker, kinds: &[ProfileKind]) -> Option<Findings> {
    let failure = match &worker.last {
        Some(Event::Finished(finished)) => return finished.findings.as_deref().cloned(),
        _ if worker.ended_with_its_processes() => return None,
        Some(Event::Failed(Failed { reason, message, .. })) => Failure::new(*reason, message),
        _ => Failure::new(
            FailureReason::CollectorCrashed,
            format!("the worker of user {} ended without a result", worker.owner.uid),
        ),
    };
    let of_kind = |kind: &ProfileKind| {
        let failure = Some(failure.clone());
        OfKind { kind: *kind, samples: 0, failure, advice: None }
    };
    let kinds = kinds.iter().map(of_kind).collect();
    let facts = Facts { refused: worker.processes, obstacle: Some(failure), ..Facts::default() };
    Some(Findings { facts, kinds, lacking: None })
}
