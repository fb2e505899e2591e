//! What does a new report change about what was known?

use fleetprof_crds::wire::{CaptureReport, ContainerReport, Heartbeat, looks_the_same};

/// The report to keep. A final state stays, and so does its reason: later reports only add to what was
/// captured and uploaded. When the capture started and ended is known from the first report that said so:
/// each one counts back from when it came.
pub(super) fn report(known: Option<&CaptureReport>, new: &CaptureReport) -> CaptureReport {
    match known {
        Some(known) if known.state.is_final() => CaptureReport {
            samples: known.samples.max(new.samples),
            slices: known.slices.max(new.slices),
            uploaded: known.uploaded.max(new.uploaded),
            ..known.clone()
        },
        Some(known) => CaptureReport {
            started_at: known.started_at.or(new.started_at),
            ended_at: known.ended_at.or(new.ended_at),
            ..new.clone()
        },
        None => new.clone(),
    }
}

/// Whether an agent looks different to somebody who is not interested in how busy its containers are.
pub(super) fn looks_different(before: &Heartbeat, after: &Heartbeat) -> bool {
    let face = |beat: &Heartbeat| (beat.version.clone(), beat.protocol, beat.mode, beat.instance.clone());
    face(before) != face(after) || !same_containers(&before.containers, &after.containers)
}

/// Whether they are the same, in any order: one that is told later comes last.
fn same_containers(before: &[ContainerReport], after: &[ContainerReport]) -> bool {
    let is_there = |row: &ContainerReport| before.iter().any(|known| looks_the_same(known, row));
    before.len() == after.len() && after.iter().all(is_there)
}
