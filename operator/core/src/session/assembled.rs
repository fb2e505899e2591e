//! How does a target end once its slices are assembled into profiles, kind by kind?

use fleetprof_crds::session_status::{StoredProfile, TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileKind, Reason, names};
use jiff::Timestamp;

use super::capture::{explain, finish};
use crate::text::{advised, cut};

/// What came of assembling a target's slices of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Assembled {
    /// One profile was stored.
    Profile(StoredProfile),
    /// It was settled before: what the status says of it stays.
    Kept,
    /// There was no slice, or none with a sample.
    Nothing,
    /// It could not be stored now; try again.
    Delayed(Reason, String),
    /// It is on its way to the destination; the text says what holds it up, if anything does. With what the
    /// results volume holds of it, for the case that it never arrives.
    Underway(Option<String>, Option<StoredProfile>),
    /// It is being sent to the destination at this moment, for the last time: what comes of that is waited for, even
    /// past the result deadline.
    Sending,
    /// The destination does not take it, now or later: why, and what the results volume holds.
    Refused(Reason, String, StoredProfile),
}

/// How the slices on the results volume compare with what the agent uploaded, over all kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slices {
    /// Slices that the gateway has stored, as the agent says.
    pub uploaded: u32,
    /// Slices that were on the volume; `None` where an earlier leader assembled some of them, or the volume does
    /// not answer.
    pub found: Option<u32>,
    /// Those found that did not fit into the profile.
    pub left_out: u32,
}

impl Slices {
    /// Uploaded slices that are not on the volume any more.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.found.map_or(0, |found| self.uploaded.saturating_sub(found))
    }

    /// What the profile lacks, as a sentence; `None` for a whole one.
    fn missing(&self) -> Option<String> {
        let lost = match self.lost() {
            0 => None,
            n => Some(format!(
                "{n} of {} uploaded slices are gone from the results volume, which was probably replaced during \
                 the capture",
                self.uploaded
            )),
        };
        let left_out = match self.left_out {
            0 => None,
            n => Some(format!("{n} of {} slices were too large to merge", self.found.unwrap_or(n))),
        };
        let parts: Vec<String> = lost.into_iter().chain(left_out).collect();
        (!parts.is_empty()).then(|| format!("{}. The profile covers the rest.", parts.join("; ")))
    }
}

/// What came of all kinds but their profiles.
#[derive(Default)]
struct Rest {
    /// Kinds of which there was nothing to see.
    empty: Vec<ProfileKind>,
    /// Why one is not stored yet.
    delay: Option<(Reason, String)>,
    /// Why one never will be where it was to be sent.
    refused: Option<(Reason, String)>,
}

/// Folds what came of assembling each kind into a target: with data it succeeded, unless something else ended
/// its capture.
pub fn fold_assembled(
    target: &mut TargetStatus,
    assembled: Vec<(ProfileKind, Assembled)>,
    slices: Slices,
    given_up: bool,
    now: Timestamp,
) {
    let given_up = given_up && !assembled.iter().any(|(_, one)| *one == Assembled::Sending);
    let Rest { empty, delay, refused } = keep_profiles(target, assembled, given_up);
    match (delay, refused) {
        (Some((Reason::Uploading, _)), _) if given_up => {
            finish(target, TargetPhase::Failed, Reason::ResultDeadlineExceeded, String::new(), now);
        }
        (Some((reason, message)), _) if given_up => {
            finish(target, TargetPhase::Failed, reason, message, now);
        }
        (Some((reason, message)), _) => explain(target, reason, message),
        (None, Some((reason, message))) => finish(target, TargetPhase::Failed, reason, message, now),
        (None, None) if target.profiles.is_empty() => end_without_data(target, slices, given_up, now),
        (None, None) => end_with_data(target, &empty, slices, now),
    }
    name_left_out(target);
}

/// Notes the profiles that are stored, and says what came of the other kinds. A kind that was stored before stays
/// while another one is delayed; one that did not arrive in time can be read from the results volume.
fn keep_profiles(
    target: &mut TargetStatus,
    assembled: Vec<(ProfileKind, Assembled)>,
    given_up: bool,
) -> Rest {
    let before = std::mem::take(&mut target.profiles);
    let mut rest = Rest::default();
    for (kind, assembled) in assembled {
        let kept = before.iter().find(|profile| profile.kind == kind).cloned();
        match assembled {
            Assembled::Profile(profile) => target.profiles.push(profile),
            Assembled::Kept => {
                rest.refused = rest.refused.or_else(|| kept.as_ref().and_then(refused_before));
                target.profiles.extend(kept);
            }
            Assembled::Nothing => rest.empty.push(kind),
            Assembled::Delayed(reason, message) => {
                target.profiles.extend(kept);
                rest.delay = rest.delay.or(Some((reason, message)));
            }
            Assembled::Underway(problem, held) => {
                target.profiles.extend(kept.or(held.filter(|_| given_up)));
                rest.delay = rest.delay.or_else(|| Some(underway(target, problem)));
            }
            Assembled::Sending => {
                target.profiles.extend(kept);
                rest.delay = rest.delay.or_else(|| Some(underway(target, None)));
            }
            Assembled::Refused(reason, message, profile) => {
                target.profiles.push(profile);
                rest.refused = rest.refused.or(Some((reason, message)));
            }
        }
    }
    if let Some(first) = target.profiles.first() {
        target.samples = first.samples;
    }
    rest
}

/// What is said of a profile that its destination refused while another kind was on its way. The cause was logged.
fn refused_before(profile: &StoredProfile) -> Option<(Reason, String)> {
    let refused = profile.failed.first().filter(|_| profile.destinations.is_empty())?;
    let message =
        format!("Destination {refused} did not take the {} profile; see the operator log.", profile.kind);
    Some((Reason::UploadRejected, message))
}

/// What is said of a target whose profile is on its way: what it said before, unless something holds it up and
/// there is nothing else to tell.
fn underway(target: &TargetStatus, problem: Option<String>) -> (Reason, String) {
    match problem {
        Some(problem) if is_progress(target.reason) => (Reason::DestinationFailed, problem),
        _ => (target.reason.unwrap_or(Reason::Uploading), target.message.clone()),
    }
}

/// Kinds that could not be captured while others were fail nothing, and are said.
fn name_left_out(target: &mut TargetStatus) {
    if target.phase.is_terminal() && !target.left_out.is_empty() && !target.message.contains(&target.left_out)
    {
        let message = format!("{} {}", target.message, target.left_out);
        target.message = cut(message.trim_start(), names::MAX_MESSAGE);
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
                | Reason::NamespaceStorageFull
                | Reason::StorageFailed
                | Reason::DestinationFailed
        )
    )
}

/// Whether the capture itself went well, so that what is missing afterwards is the only thing to say.
const fn ended_well(reason: Option<Reason>) -> bool {
    is_progress(reason)
        || matches!(reason, Some(Reason::TargetExited | Reason::Yielded | Reason::LowCoverage))
}

/// `empty` are the kinds of which there was nothing to see.
fn end_with_data(target: &mut TargetStatus, empty: &[ProfileKind], slices: Slices, now: Timestamp) {
    if let Some(missing) = slices.missing() {
        return end_with_less(target, missing, now);
    }
    match target.reason {
        reason if is_progress(reason) => {
            let nothing: Vec<&str> = empty.iter().map(|kind| kind.nothing()).collect();
            let message = match nothing.as_slice() {
                // What the agent says of a capture that went well: what it left out, and why a kind is empty.
                _ if reason == Some(Reason::Uploading) && !target.message.is_empty() => {
                    std::mem::take(&mut target.message)
                }
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

/// Ends a target of which less is stored than it uploaded: it has not succeeded, and says how much is missing.
fn end_with_less(target: &mut TargetStatus, missing: String, now: Timestamp) {
    match target.reason {
        Some(Reason::LowCoverage) => {
            let message = format!("{missing} {}", target.message);
            finish(target, TargetPhase::Failed, Reason::SlicesLost, message, now);
        }
        reason if ended_well(reason) => {
            finish(target, TargetPhase::Failed, Reason::SlicesLost, missing, now);
        }
        Some(Reason::Cancelled) => finish(
            target,
            TargetPhase::Cancelled,
            Reason::Cancelled,
            format!("Data captured so far is kept. {missing}"),
            now,
        ),
        reason => {
            let message = format!("{} {missing}", target.message);
            finish(target, TargetPhase::Failed, reason.unwrap_or(Reason::SlicesLost), message, now);
        }
    }
}

fn end_without_data(target: &mut TargetStatus, slices: Slices, given_up: bool, now: Timestamp) {
    if slices.lost() > 0 && ended_well(target.reason) {
        let message = advised(
            format!(
                "{} of {} uploaded slices are gone from the results volume",
                slices.lost(),
                slices.uploaded
            ),
            Reason::StorageLost,
        );
        return finish(target, TargetPhase::Failed, Reason::StorageLost, message, now);
    }
    let reason = if given_up { Reason::ResultDeadlineExceeded } else { Reason::NoSamples };
    match target.reason {
        Some(Reason::Cancelled) => target.phase = TargetPhase::Cancelled,
        Some(Reason::Yielded) => target.phase = TargetPhase::Skipped,
        known if is_progress(known) => finish(target, TargetPhase::Failed, reason, String::new(), now),
        _ => target.phase = TargetPhase::Failed,
    }
}
