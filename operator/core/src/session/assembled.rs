//! What becomes of a target once its slices were assembled, kind by kind?

use fleetprof_crds::session_status::{StoredProfile, TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileKind, Reason};
use jiff::Timestamp;

use super::capture::{explain, finish};

/// What came of assembling a target's slices of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Assembled {
    /// One profile was stored.
    Profile(StoredProfile),
    /// There was no slice, or none with a sample.
    Nothing,
    /// It could not be stored now; try again.
    Delayed(Reason, String),
}

/// Folds what came of assembling each kind into a target: with data it succeeded, unless something else ended
/// its capture. A kind that was stored before stays while another one is delayed.
pub fn fold_assembled(
    target: &mut TargetStatus,
    assembled: Vec<(ProfileKind, Assembled)>,
    given_up: bool,
    now: Timestamp,
) {
    let before = std::mem::take(&mut target.profiles);
    let (mut empty, mut delay) = (Vec::new(), None);
    for (kind, assembled) in assembled {
        let kept = before.iter().find(|profile| profile.kind == kind).cloned();
        match assembled {
            Assembled::Profile(profile) => target.profiles.push(profile),
            Assembled::Nothing => empty.push(kind),
            Assembled::Delayed(reason, message) => {
                target.profiles.extend(kept);
                delay = delay.or(Some((reason, message)));
            }
        }
    }
    if let Some(first) = target.profiles.first() {
        target.samples = first.samples;
    }
    match delay {
        Some((reason, message)) if given_up => finish(target, TargetPhase::Failed, reason, message, now),
        Some((reason, message)) => explain(target, reason, message),
        None if target.profiles.is_empty() => end_without_data(target, given_up, now),
        None => end_with_data(target, &empty, now),
    }
}

/// Whether the reason says no more than that the target is on its way.
const fn is_progress(reason: Option<Reason>) -> bool {
    matches!(
        reason,
        None | Some(
            Reason::Uploading
                | Reason::Capturing
                | Reason::WaitingForAgent
                | Reason::Processing
                | Reason::StorageFull
                | Reason::StorageFailed
        )
    )
}

/// `empty` are the kinds of which there was nothing to see.
fn end_with_data(target: &mut TargetStatus, empty: &[ProfileKind], now: Timestamp) {
    match target.reason {
        reason if is_progress(reason) => {
            let nothing: Vec<&str> = empty.iter().map(|kind| kind.nothing()).collect();
            let message = match nothing.as_slice() {
                // What the agent left out of a capture that went well.
                [] if reason == Some(Reason::Uploading) => std::mem::take(&mut target.message),
                [] => String::new(),
                nothing => format!("The target {}.", nothing.join(" and ")),
            };
            finish(target, TargetPhase::Succeeded, Reason::Completed, message, now);
        }
        Some(Reason::TargetExited | Reason::LowCoverage) => target.phase = TargetPhase::Succeeded,
        Some(Reason::Yielded) => {
            let message = format!("{} Data captured before that is kept.", target.message);
            finish(target, TargetPhase::Succeeded, Reason::Yielded, message, now);
        }
        Some(Reason::Cancelled) => finish(
            target,
            TargetPhase::Cancelled,
            Reason::Cancelled,
            "Data captured so far is kept.".into(),
            now,
        ),
        _ => target.phase = TargetPhase::Failed,
    }
}

fn end_without_data(target: &mut TargetStatus, given_up: bool, now: Timestamp) {
    let reason = if given_up { Reason::ResultDeadlineExceeded } else { Reason::NoSamples };
    match target.reason {
        Some(Reason::Cancelled) => target.phase = TargetPhase::Cancelled,
        Some(Reason::Yielded) => target.phase = TargetPhase::Skipped,
        known if is_progress(known) => finish(target, TargetPhase::Failed, reason, String::new(), now),
        _ => target.phase = TargetPhase::Failed,
    }
}
