//! Which captures follow the first one of a session with `spec.repeat`, and how did they end?
//!
//! ```text
//! root ──interval──► root-2 ──interval──► root-3 …   until count, the end of the load, cancel, or a refusal
//! ```
//! One session object stays one capture, since its uid is the idempotency key. So the first session, the
//! root, creates the others, one after another, and owns them. They carry the requester of the root and are
//! checked like any session. Their names are those of the root with a number, so that none is created twice,
//! even by different leaders.

use fleetprof_crds::load::{FollowUp, Repeat, RepeatStatus, StartWhen};
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, Reason, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};

use super::load::{self, Load};
use super::observed::{Action, Observed};
use crate::conditions::{self, Truth, Wanted};
use crate::time::after;

/// A session that was made and is not seen this long after is taken to be deleted.
const UNSEEN: SignedDuration = SignedDuration::from_secs(60);
/// Reasons of one capture that every further one would end with as well.
const HOPELESS: [Reason; 6] = [
    Reason::Forbidden,
    Reason::LimitExceeded,
    Reason::PolicyNotFound,
    Reason::PolicySuspended,
    Reason::LoadNotStarted,
    Reason::LoadEnded,
];

/// Notes what became of the captures that were made and says whether another one is due.
pub fn step(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    observed: &Observed,
) -> Option<Action> {
    let repeat = session.spec.repeat.as_ref()?;
    let mut series = status.repeat.clone().unwrap_or_default();
    if series.end_time.is_some() || (status.start_time.is_none() && !status.phase.is_terminal()) {
        return None;
    }
    look_at_captures(&mut series, observed);
    let action = match stop(session, status, &series, observed) {
        Stop::Because(reason, message) => {
            finish(&mut series, status, reason, message, observed.now);
            None
        }
        Stop::No => go_on(session, repeat, status, &mut series, observed.now),
    };
    count(&mut series, status);
    tell(&series, session, status, observed.now);
    status.repeat = Some(series);
    action
}

/// Whether captures are still to come, or still going on, beside the root's own.
#[must_use]
pub fn is_open(session: &ProfileSession, status: &ProfileSessionStatus) -> bool {
    session.spec.repeat.is_some() && status.repeat.as_ref().is_none_or(|r| r.end_time.is_none())
}

/// Whether the next capture of `session` can be made now; `phase` tells where the session of that name
/// stands.
pub fn is_due(session: &ProfileSession, now: Timestamp, phase: impl Fn(&str) -> Option<Phase>) -> bool {
    let Some(status) = session.status.as_ref().filter(|s| is_open(session, s)) else { return false };
    let Some(series) = status.repeat.as_ref().filter(|r| r.next_time.as_ref().is_some_and(|t| t.0 <= now))
    else {
        return false;
    };
    let last = series.captures.last().map_or(Some(status.phase), |row| phase(&row.name));
    last.is_some_and(|phase| phase > Phase::Running && phase != Phase::Unknown)
}

/// The session that `session` repeats, if any.
#[must_use]
pub fn root(session: &ProfileSession) -> Option<&OwnerReference> {
    session
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|o| o.controller == Some(true) && o.kind == "ProfileSession")
}

/// Whether `session` was made to repeat the session with this uid.
#[must_use]
pub fn repeats(session: &ProfileSession, root_uid: &str) -> bool {
    root(session).is_some_and(|r| r.uid == root_uid)
}

/// Copies the state of each capture that has not ended.
fn look_at_captures(series: &mut RepeatStatus, observed: &Observed) {
    for row in series.captures.iter_mut().filter(|r| !r.phase.is_terminal()) {
        let seen = observed.follow_ups.iter().find(|s| s.metadata.name.as_deref() == Some(&row.name));
        match seen {
            Some(found) => {
                let status = found.status.clone().unwrap_or_default();
                (row.phase, row.reason, row.samples) = (status.phase, status.reason, status.samples);
            }
            None if observed.now > after(row.created_time.0, UNSEEN) => {
                (row.phase, row.reason) = (Phase::Cancelled, Some(Reason::Cancelled))
            }
            None => {}
        }
    }
}

enum Stop {
    No,
    Because(Reason, String),
}

/// Whether, and why, no further capture is made. A reason that was given once stays.
fn stop(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    series: &RepeatStatus,
    observed: &Observed,
) -> Stop {
    if let Some(reason) = series.reason.filter(|r| *r != Reason::Repeating) {
        return Stop::Because(reason, series.message.clone());
    }
    if session.spec.cancel {
        return Stop::Because(Reason::Cancelled, "Cancelled; no more captures will follow.".into());
    }
    if status.start_time.is_none() {
        let reason = status.reason.unwrap_or(Reason::Internal);
        return Stop::Because(reason, "The first capture did not start, so no other will follow.".into());
    }
    let hopeless = series
        .captures
        .iter()
        .find_map(|r| r.reason.filter(|w| r.phase.is_terminal() && HOPELESS.contains(w)).map(|w| (r, w)));
    if let Some((row, reason)) = hopeless {
        return Stop::Because(
            reason,
            format!("Capture {} ended with {reason}, as would all further ones.", row.name),
        );
    }
    let wanted = wanted(session);
    if made(series) >= wanted {
        return Stop::Because(Reason::Completed, format!("All {wanted} captures are complete."));
    }
    session.spec.start_when.as_ref().map_or(Stop::No, |start| stop_with_load(start, observed))
}

/// Whether the load has ended, and the captures with it.
fn stop_with_load(start: &StartWhen, observed: &Observed) -> Stop {
    let what = load::describe(start);
    match load::load(start, observed) {
        Load::Ended(how) => Stop::Because(Reason::LoadEnded, format!("The load ({what}) {how}.")),
        Load::Absent(why) => Stop::Because(Reason::LoadEnded, format!("The load ({what}) has ended: {why}.")),
        Load::Runs | Load::Expected(_) => Stop::No,
    }
}

fn wanted(session: &ProfileSession) -> i32 {
    session.spec.repeat.as_ref().and_then(|r| r.count).unwrap_or(names::MAX_REPEATS).min(names::MAX_REPEATS)
}

fn made(series: &RepeatStatus) -> i32 {
    i32::try_from(series.captures.len()).unwrap_or(names::MAX_REPEATS).saturating_add(1)
}

/// The next capture starts an interval after the last one did, but never before that one has captured.
fn go_on(
    session: &ProfileSession,
    repeat: &Repeat,
    status: &ProfileSessionStatus,
    series: &mut RepeatStatus,
    now: Timestamp,
) -> Option<Action> {
    let last = series.captures.last();
    let (phase, began) = match last {
        Some(row) => (row.phase, row.created_time.0),
        None => (status.phase, status.start_time.as_ref().map_or(now, |t| t.0)),
    };
    let next = after(began, repeat.interval.as_signed());
    let said = Timestamp::from_second(next.as_second()).unwrap_or(next);
    series.next_time = Some(Time(next));
    series.reason = Some(Reason::Repeating);
    series.message = format!("The next capture starts at {said}, or when the previous one has ended.");
    if phase <= Phase::Running || phase == Phase::Unknown || now < next {
        return None;
    }
    let number = made(series).saturating_add(1);
    let follow_up = follow_up(session, number);
    let name = follow_up.metadata.name.clone().unwrap_or_default();
    series.captures.push(FollowUp {
        name,
        created_time: Time(now),
        phase: Phase::Pending,
        reason: None,
        samples: 0,
    });
    series.next_time = Some(Time(after(now, repeat.interval.as_signed())));
    Some(Action::Repeat { number, session: Box::new(follow_up) })
}

/// Notes that the session `name`, which was to capture once more, was refused: it counts as a capture without
/// data. The others still get their turn, since a quota may have room by then.
pub fn refuse(status: &mut ProfileSessionStatus, name: &str) {
    let rows = status.repeat.iter_mut().flat_map(|series| &mut series.captures);
    for row in rows.filter(|row| row.name == name) {
        (row.phase, row.reason) = (Phase::Failed, Some(Reason::SessionRefused));
    }
}

fn finish(
    series: &mut RepeatStatus,
    status: &ProfileSessionStatus,
    reason: Reason,
    message: String,
    now: Timestamp,
) {
    (series.reason, series.message, series.next_time) = (Some(reason), message, None);
    if status.phase.is_terminal() && series.captures.iter().all(|r| r.phase.is_terminal()) {
        series.end_time = Some(Time(now));
    }
}

fn count(series: &mut RepeatStatus, status: &ProfileSessionStatus) {
    let phases = || series.captures.iter().map(|r| r.phase).chain([status.phase]);
    let good = |p: &Phase| matches!(p, Phase::Succeeded | Phase::PartiallySucceeded);
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let (succeeded, failed) =
        (phases().filter(good).count(), phases().filter(|p| p.is_terminal() && !good(p)).count());
    (series.succeeded, series.failed) = (number(succeeded), number(failed));
    series.made = made(series);
}

fn tell(series: &RepeatStatus, session: &ProfileSession, status: &mut ProfileSessionStatus, now: Timestamp) {
    let truth = if series.end_time.is_some() { Truth::True } else { Truth::False };
    let message = format!(
        "{} of {} captures made: {} with data, {} without. {}",
        series.made,
        wanted(session),
        series.succeeded,
        series.failed,
        series.message
    );
    let wanted = Wanted::new(truth, series.reason.unwrap_or(Reason::Repeating), message);
    conditions::set(&mut status.conditions, "RepeatsComplete", wanted, session.metadata.generation, now);
}

/// The same session once more, without `repeat`. It waits for the load like the first one.
fn follow_up(root: &ProfileSession, number: i32) -> ProfileSession {
    let root_name = root.metadata.name.clone().unwrap_or_default();
    let mut spec = root.spec.clone();
    (spec.repeat, spec.cancel) = (None, false);
    let mut labels = root.metadata.labels.clone().unwrap_or_default();
    labels.insert(names::ROOT_LABEL.into(), root_name.clone());
    let metadata = ObjectMeta {
        name: Some(format!("{root_name}-{number}")),
        namespace: root.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", names::GROUP, names::VERSION),
            kind: "ProfileSession".into(),
            name: root_name,
            uid: root.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    };
    ProfileSession { metadata, spec, status: None }
}
