//! Who is told of the end of a session, and what became of that?
//!
//! ```text
//! end ─► owe: receivers whose filters match ─► status.pendingNotifications, written together with the end
//! on record ─► step ─► Notify … ─► fold: accepted, or given up ─► not pending any more
//! ```
//! Who is still to be told is part of the status, and nothing is sent before the end is on record: a new leader
//! sends the rest, and nobody is told of an end that did not come to pass. A receiver may be told twice, always
//! with the same id.

use fleetprof_crds::compare::ComparisonResult;
use fleetprof_crds::session_status::{Phase, ProfileSessionStatus};
use fleetprof_crds::{ProfileSession, Reason};
use jiff::{SignedDuration, Timestamp};

use super::event;
use super::observed::{Action, Settings};
use crate::conditions::{self, Truth, Wanted};
use crate::container::matches_glob;
use crate::destination::Delivery;
use crate::outbox::{Attempt, busy};
use crate::text::{advised, cut};
use crate::time::after;

/// The condition of a session of whose end somebody is told.
pub const NOTIFIED: &str = "Notified";

/// How long after the end of a session its receivers are tried.
pub const TRIED: SignedDuration = SignedDuration::from_hours(24);
/// The first intervals at which an ended session asks what became of its notifications; what is sent has it look at
/// once.
const LOOK: SignedDuration = SignedDuration::from_secs(60);
/// The last of these intervals.
const LAST_LOOK: SignedDuration = SignedDuration::from_mins(10);
/// Longest part of the condition's message that comes from sending, in bytes.
const MAX_CAUSE: usize = 300;

/// Somebody who is told of the end of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The administrator's name of it.
    pub name: String,
    phases: Vec<Phase>,
    verdicts: Vec<ComparisonResult>,
    namespaces: Vec<String>,
}

/// Phases that a session may end in, and verdicts, by their names.
const PHASES: [Phase; 5] =
    [Phase::Succeeded, Phase::PartiallySucceeded, Phase::Failed, Phase::Cancelled, Phase::Expired];
const VERDICTS: [(&str, ComparisonResult); 3] = [
    ("Regressed", ComparisonResult::Regressed),
    ("NotRegressed", ComparisonResult::NotRegressed),
    ("Inconclusive", ComparisonResult::Inconclusive),
];

impl Receiver {
    /// One that is told of sessions in namespaces that one of the globs matches (all without globs), which end in one
    /// of the phases or with one of the verdicts (however they end, where neither is named).
    ///
    /// # Errors
    /// A sentence without full stop: there is no phase or verdict of such a name.
    pub fn new(
        name: &str,
        namespaces: Vec<String>,
        phases: &[String],
        verdicts: &[String],
    ) -> Result<Self, String> {
        let phase = |text: &String| {
            let found = PHASES.into_iter().find(|phase| phase.as_str() == text);
            let all = PHASES.map(Phase::as_str).join(", ");
            found.ok_or_else(|| format!("phases: no session ends in {text:?}; write one of {all}"))
        };
        let verdict = |text: &String| {
            let found = VERDICTS.into_iter().find(|(name, _)| name == text).map(|(_, verdict)| verdict);
            let all = VERDICTS.map(|(name, _)| name).join(", ");
            found.ok_or_else(|| format!("verdicts: there is no verdict {text:?}; write one of {all}"))
        };
        Ok(Self {
            name: name.to_owned(),
            namespaces,
            phases: phases.iter().map(phase).collect::<Result<_, _>>()?,
            verdicts: verdicts.iter().map(verdict).collect::<Result<_, _>>()?,
        })
    }

    /// Whether it is told of the end of a session that ended so.
    #[must_use]
    pub fn is_told(&self, session: &ProfileSession, status: &ProfileSessionStatus) -> bool {
        let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
        let here = self.namespaces.is_empty() || self.namespaces.iter().any(|g| matches_glob(g, namespace));
        let verdict = status.comparison.as_ref().map(|comparison| comparison.result);
        let everything = self.phases.is_empty() && self.verdicts.is_empty();
        let picked = || {
            self.phases.contains(&status.phase)
                || verdict.is_some_and(|verdict| self.verdicts.contains(&verdict))
        };
        here && status.phase.is_terminal() && (everything || picked())
    }
}

/// Takes note of who is to be told, while the end of the session is not on record yet.
pub(super) fn owe(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    settings: &Settings,
    now: Timestamp,
) {
    let told = settings.receivers.iter().filter(|receiver| receiver.is_told(session, status));
    let names: Vec<String> = told.map(|receiver| receiver.name.clone()).collect();
    if names.is_empty() {
        status.conditions.retain(|condition| condition.type_ != NOTIFIED);
    } else {
        set(status, waiting(&names), session.metadata.generation, now);
    }
    status.pending_notifications = names;
}

/// What is to be sent, or asked about, now that the end is on record. Gives up what nobody can send any more.
pub(super) fn step(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    settings: &Settings,
    now: Timestamp,
) -> Vec<Action> {
    if status.pending_notifications.is_empty() {
        return Vec::new();
    }
    let over = status.end_time.as_ref().is_none_or(|ended| after(ended.0, TRIED) <= now);
    for name in status.pending_notifications.clone() {
        if !settings.receivers.iter().any(|receiver| receiver.name == name) {
            give_up(status, &name, "it is not configured any more", session.metadata.generation, now);
        } else if over {
            let why = format!("not accepted within {} h after the end", TRIED.as_hours());
            give_up(status, &name, &why, session.metadata.generation, now);
        }
    }
    if status.pending_notifications.is_empty() {
        return Vec::new();
    }
    let notification = event::of(session, status, &settings.cluster);
    let each = status.pending_notifications.iter();
    each.map(|receiver| Action::Notify {
        receiver: receiver.clone(),
        notification: Box::new(notification.clone()),
    })
    .collect()
}

/// What became of a notification.
pub(super) fn fold(
    status: &mut ProfileSessionStatus,
    receiver: &str,
    delivery: Delivery,
    generation: Option<i64>,
    now: Timestamp,
) {
    match delivery {
        Delivery::Stored => accepted(status, receiver, generation, now),
        Delivery::Failed(_, cause) => give_up(status, receiver, &cause, generation, now),
        Delivery::Underway(Some(cause)) if !is_given_up(status) && !is_failing(status) => {
            let reason = Reason::NotificationFailed;
            let cause = format!("{receiver}: at first, {}", cut(&cause, MAX_CAUSE));
            set(status, Wanted::new(Truth::False, reason, advised(cause, reason)), generation, now);
        }
        Delivery::Underway(_) => {}
    }
}

fn accepted(status: &mut ProfileSessionStatus, receiver: &str, generation: Option<i64>, now: Timestamp) {
    status.pending_notifications.retain(|name| name != receiver);
    if is_given_up(status) {
        return;
    }
    let wanted = match status.pending_notifications.as_slice() {
        [] => Wanted::new(Truth::True, Reason::Notified, "All receivers were notified."),
        left => waiting(left),
    };
    set(status, wanted, generation, now);
}

fn give_up(
    status: &mut ProfileSessionStatus,
    receiver: &str,
    cause: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    status.pending_notifications.retain(|name| name != receiver);
    let reason = Reason::NotificationGivenUp;
    let cause = format!("{receiver}: {}", cut(cause, MAX_CAUSE));
    set(status, Wanted::new(Truth::False, reason, advised(cause, reason)), generation, now);
}

/// Once one was given up, the condition goes on to say so.
fn is_given_up(status: &ProfileSessionStatus) -> bool {
    let reason = Reason::NotificationGivenUp.as_str();
    status.conditions.iter().any(|condition| condition.type_ == NOTIFIED && condition.reason == reason)
}

/// Whether the condition says already that one of those that are still to be told fails: causes that take turns are
/// no news for every session that waits.
fn is_failing(status: &ProfileSessionStatus) -> bool {
    let reason = Reason::NotificationFailed.as_str();
    let is_of = |name: &String, message: &str| {
        message.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(':'))
    };
    let is_pending = |message: &str| status.pending_notifications.iter().any(|name| is_of(name, message));
    status.conditions.iter().any(|c| c.type_ == NOTIFIED && c.reason == reason && is_pending(&c.message))
}

fn waiting(names: &[String]) -> Wanted {
    Wanted::new(Truth::Unknown, Reason::Notifying, format!("Not notified yet: {}.", names.join(", ")))
}

fn set(status: &mut ProfileSessionStatus, wanted: Wanted, generation: Option<i64>, now: Timestamp) {
    conditions::set(&mut status.conditions, NOTIFIED, wanted, generation, now);
}

/// When an ended session asks again what became of its notifications, although nothing was heard; `None`: all is
/// settled. The longer they wait, the less often, since after an outage there are many such sessions.
#[must_use]
pub fn look(status: &ProfileSessionStatus, now: Timestamp) -> Option<SignedDuration> {
    let ended = status.end_time.as_ref().filter(|_| !status.pending_notifications.is_empty())?;
    let age = now.duration_since(ended.0);
    Some((age.checked_div(10).unwrap_or(LOOK)).clamp(LOOK, LAST_LOOK))
}

/// What the answer of a receiver means: an HTTP status, and after how long it wants to be asked again.
#[must_use]
pub fn answered(code: u16, again: Option<SignedDuration>) -> Attempt {
    match code {
        200..=299 => Attempt::Stored,
        300..=399 => Attempt::Again(
            format!("it answered {code}, and redirects are not followed: configure the address they lead to"),
            None,
        ),
        // It will never take this one.
        400 | 410 | 413 | 415 | 422 => {
            Attempt::Failed(Reason::NotificationGivenUp, format!("it answered {code}"))
        }
        429 => Attempt::Again(format!("it answered {code}"), Some(again.unwrap_or(SignedDuration::ZERO))),
        _ => Attempt::Again(format!("it answered {code}"), busy(code, again)),
    }
}
