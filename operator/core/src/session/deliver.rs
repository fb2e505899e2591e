//! To which further destinations are the profiles of an ended session sent?
//!
//! A session ends once the first of its destinations holds its profiles. The others follow, however long that
//! takes, so that one that does not answer holds up no session. What they hold is part of the status, so a new
//! leader sends the rest.

use std::collections::{BTreeMap, HashSet};

use fleetprof_crds::session_status::{ProfileSessionStatus, StoredProfile, TargetStatus};
use fleetprof_crds::{ProfileSession, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::observed::Action;
use crate::conditions::{self, Truth, Wanted};
use crate::destination::Delivery;
use crate::text::{advised, counted, cut};

/// The condition of a session with more than one destination.
pub const DELIVERED: &str = "Delivered";

/// Longest part of the condition's message that comes from a destination, in bytes.
const MAX_CAUSE: usize = 300;

/// What is to be sent, or asked about, and the condition that tells how far it is.
pub fn step(session: &ProfileSession, status: &mut ProfileSessionStatus, now: Timestamp) -> Vec<Action> {
    let destinations = &session.spec.destinations;
    let mut actions = Vec::new();
    for (target, profile) in pending(destinations, status) {
        for destination in missing(destinations, profile) {
            let (profile, destination) = (profile.clone(), destination.clone());
            actions.push(Action::Deliver { target, profile, destination });
        }
    }
    tell(session, status, now);
    actions
}

/// Whether a profile of the ended session is still to be sent.
#[must_use]
pub fn is_pending(session: &ProfileSession, status: &ProfileSessionStatus) -> bool {
    pending(&session.spec.destinations, status).next().is_some()
}

/// Whether the session has ended and every profile of it lies in one of the `archives`, while none of its
/// destinations is another one: the results volume then holds mere copies.
#[must_use]
pub fn is_elsewhere(session: &ProfileSession, archives: &HashSet<String>) -> bool {
    let Some(status) = session.status.as_ref().filter(|status| status.phase.is_terminal()) else {
        return false;
    };
    let mut profiles = status.targets.iter().flat_map(|target| &target.profiles).peekable();
    let archived = |profile: &StoredProfile| profile.destinations.iter().any(|name| archives.contains(name));
    let kept = session.spec.destinations.iter().any(|name| !archives.contains(name));
    profiles.peek().is_some() && !kept && profiles.all(archived) && !is_pending(session, status)
}

/// What became of a profile. Says whether another step should look: it is told by the condition.
pub fn fold(
    status: &mut ProfileSessionStatus,
    (target, uri, destination): (usize, &str, &str),
    delivery: Delivery,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let profiles = status.targets.get_mut(target).map(|target| &mut target.profiles);
    let Some(profile) = profiles.into_iter().flatten().find(|profile| profile.uri == uri) else {
        return false;
    };
    let (reason, cause) = match delivery {
        Delivery::Stored => {
            profile.destinations.push(destination.to_owned());
            return true;
        }
        Delivery::Failed(reason, cause) => {
            profile.failed.push(destination.to_owned());
            (reason, cause)
        }
        Delivery::Underway(Some(cause)) => (Reason::DestinationFailed, cause),
        Delivery::Underway(None) => return false,
    };
    let message = format!("{destination}: {}", cut(&cause, MAX_CAUSE));
    let wanted = Wanted::new(Truth::False, reason, message);
    conditions::set(&mut status.conditions, DELIVERED, wanted, generation, now);
    false
}

/// Profiles with samples that the first destination holds and another one does not, with their target.
fn pending<'a>(
    destinations: &'a [String],
    status: &'a ProfileSessionStatus,
) -> impl Iterator<Item = (usize, &'a StoredProfile)> {
    let more = status.targets.iter().enumerate().filter(|_| destinations.len() > 1);
    let profiles = more.flat_map(|(n, target)| target.profiles.iter().map(move |profile| (n, profile)));
    profiles.filter(|(_, profile)| missing(destinations, profile).next().is_some())
}

fn missing<'a>(destinations: &'a [String], profile: &'a StoredProfile) -> impl Iterator<Item = &'a String> {
    let further = destinations.iter().skip(1).filter(|_| profile.samples > 0);
    further.filter(|name| !profile.destinations.contains(name) && !profile.failed.contains(name))
}

/// What is said once nothing is on its way and something did not arrive: the cause if it was the last to be told of,
/// else how many of which destination; `late` if the deadline ended it. `None`: that is said already.
fn undelivered(conditions: &[Condition], profiles: &[&StoredProfile], late: bool) -> Option<Wanted> {
    let told = conditions.iter().find(|condition| condition.type_ == DELIVERED);
    let is_cause =
        |reason: &str| ![Reason::Delivering, Reason::DestinationFailed].iter().any(|r| r.as_str() == reason);
    if told.is_some_and(|condition| condition.status == "False" && is_cause(&condition.reason)) {
        return None;
    }
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for name in profiles.iter().flat_map(|profile| &profile.failed) {
        *by_name.entry(name).or_default() += 1;
    }
    let of_each =
        by_name.iter().map(|(name, n)| format!("{n} of {} profiles are not in {name}", profiles.len()));
    let reason = if late { Reason::ResultDeadlineExceeded } else { Reason::UploadRejected };
    let message = advised(of_each.collect::<Vec<_>>().join(", "), reason);
    Some(Wanted::new(Truth::False, reason, message))
}

/// Says how far it is. Why something failed was said when it did.
fn tell(session: &ProfileSession, status: &mut ProfileSessionStatus, now: Timestamp) {
    let destinations = &session.spec.destinations;
    let profiles: Vec<&StoredProfile> = status.targets.iter().flat_map(|target| &target.profiles).collect();
    if destinations.len() < 2 || profiles.is_empty() {
        return;
    }
    let waiting = profiles.iter().filter(|profile| missing(destinations, profile).next().is_some()).count();
    let all = counted(profiles.len(), "profile", "profiles");
    let wanted = match waiting {
        0 if profiles.iter().any(|profile| !profile.failed.is_empty()) => {
            let is_late = |target: &TargetStatus| target.reason == Some(Reason::ResultDeadlineExceeded);
            let late = status.targets.iter().any(is_late);
            let Some(wanted) = undelivered(&status.conditions, &profiles, late) else { return };
            wanted
        }
        0 => Wanted::new(Truth::True, Reason::Delivered, format!("{all} in {}.", destinations.join(", "))),
        _ if conditions::is_false(&status.conditions, DELIVERED) => return,
        n => {
            let (done, all) = (profiles.len().saturating_sub(n), profiles.len());
            let message = format!("{done} of {all} profiles are in all destinations.");
            Wanted::new(Truth::Unknown, Reason::Delivering, message)
        }
    };
    conditions::set(&mut status.conditions, DELIVERED, wanted, session.metadata.generation, now);
}
