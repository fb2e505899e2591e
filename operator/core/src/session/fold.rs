//! How does the outcome of an action change the session?
//!
//! ```text
//! step ─► actions ─► (effects) ─► outcomes ─► fold ─► status and answers ─► the next step
//! ```

use std::collections::HashMap;

use fleetprof_crds::session_status::{ProfileSessionStatus, TargetPhase, TargetSymbols, TopFunction};
use fleetprof_crds::{ProfileKind, ProfileSession, Reason};
use fleetprof_profile::trend::Trend;
use fleetprof_profile::verdict::Verdict;
use jiff::Timestamp;

use super::assembled::{Assembled, Slices, fold_assembled};
use super::observed::Permission;
use super::summary::set_top;
use super::trend::Subject;
use super::{capture, compare, conclude, deliver, notify, repeat, symbols, trend};
use crate::budget::Place;
use crate::destination::Delivery;

/// What came of one action.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is done, and changes nothing for the session.
    Done,
    /// The API server told whether who asked may profile.
    Permission(Permission),
    /// The ledger answered a claim.
    Place {
        /// The capture that the place is for.
        capture: String,
        /// The answer.
        place: Place,
    },
    /// The status is on record, so that what it says may be done.
    Recorded,
    /// The session of this name, which was to capture once more, was refused.
    RepeatRefused(String),
    /// No agent was attached.
    NotAttached {
        /// Index of the target.
        target: usize,
        /// Why.
        reason: Reason,
        /// Human-readable message.
        message: String,
    },
    /// No agent was attached yet; the next look tries again.
    AttachDelayed {
        /// Index of the target.
        target: usize,
        /// Why, as a sentence.
        message: String,
    },
    /// The slices of a target were assembled, or not.
    Assembled {
        /// Index of the target.
        target: usize,
        /// What came of each kind.
        assembled: Vec<(ProfileKind, Assembled)>,
        /// What they were assembled of.
        slices: Slices,
        /// The result deadline had passed when they were to be assembled.
        overdue: bool,
        /// How much of each profile has names, where it holds native code.
        symbols: Vec<TargetSymbols>,
    },
    /// Two revisions were compared.
    Compared {
        /// The old revision; empty where nothing of one was captured.
        base_revision: String,
        /// The verdict, or why there is none, as a sentence.
        verdict: Result<Box<Verdict>, String>,
        /// Profiles that were to be compared and could not be read.
        unread: usize,
    },
    /// Sessions were looked at for growth.
    Watched {
        /// Of what.
        subject: Subject,
        /// How many sessions they were.
        sessions: usize,
        /// What came of it, or why nothing did, as a sentence.
        trend: Result<Box<Trend>, String>,
        /// Profiles that were to be looked at and could not be read.
        unread: usize,
    },
    /// What became of a profile that is sent to a destination.
    Delivered {
        /// Index of the target.
        target: usize,
        /// Key of the profile.
        uri: String,
        /// Name of the destination.
        destination: String,
        /// What became of it.
        delivery: Delivery,
    },
    /// What became of a notification.
    Notified {
        /// Name of the receiver.
        receiver: String,
        /// What became of it.
        delivery: Delivery,
    },
    /// The hottest functions over all targets; none where they could not be computed.
    Summarized(Vec<TopFunction>),
}

/// What was answered to the questions of the steps of one reconcile.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// Whether who asked may profile.
    pub permission: Permission,
    /// Answers to claims, by capture.
    pub places: HashMap<String, Place>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { permission: Permission::Unchecked, places: HashMap::new() }
    }
}

/// Folds what came of all actions of a step. Says whether another step should look.
pub fn fold_all(
    session: &mut ProfileSession,
    answers: &mut Answers,
    outcomes: Vec<Outcome>,
    now: Timestamp,
) -> bool {
    let mut again = false;
    for outcome in outcomes {
        again |= fold(session, answers, outcome, now);
    }
    again
}

/// Folds an outcome into the session's status, or into the answers that the next step looks at. Says whether
/// another step should look.
pub fn fold(session: &mut ProfileSession, answers: &mut Answers, outcome: Outcome, now: Timestamp) -> bool {
    let mut status = session.status.take().unwrap_or_default();
    let again = match outcome {
        Outcome::Done => false,
        Outcome::Recorded => true,
        Outcome::Permission(permission) => {
            answers.permission = permission;
            true
        }
        Outcome::Place { capture, place } => {
            answers.places.insert(capture, place);
            true
        }
        outcome => fold_status(session, &mut status, outcome, now),
    };
    session.status = Some(status);
    again
}

fn fold_status(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    outcome: Outcome,
    now: Timestamp,
) -> bool {
    match outcome {
        Outcome::Done | Outcome::Recorded | Outcome::Permission(_) | Outcome::Place { .. } => false,
        Outcome::RepeatRefused(name) => {
            repeat::refuse(status, &name);
            true
        }
        Outcome::NotAttached { target, reason, message } => {
            not_attached(status, target, (reason, message), now)
        }
        Outcome::AttachDelayed { target, message } => attach_delayed(status, target, message),
        Outcome::Assembled { target, assembled, slices, overdue, symbols } => {
            if let Some(target) = status.targets.get_mut(target) {
                symbols::fold(&mut target.symbols, symbols);
            }
            fold_target(status, target, (assembled, slices, overdue), now)
        }
        Outcome::Compared { base_revision, verdict, unread } => {
            let made = (verdict.map(|verdict| *verdict), base_revision, unread);
            compare::record(session, status, made, now);
            false
        }
        Outcome::Watched { subject, sessions, trend, unread } => {
            let made = trend.map(|trend| *trend);
            trend::record(session, status, (&subject, sessions, &made, unread), now);
            false
        }
        Outcome::Delivered { target, uri, destination, delivery } => {
            let sent = (target, uri.as_str(), destination.as_str());
            deliver::fold(status, sent, delivery, session.metadata.generation, now)
        }
        Outcome::Notified { receiver, delivery } => {
            notify::fold(status, &receiver, delivery, session.metadata.generation, now);
            false
        }
        Outcome::Summarized(top) => {
            set_top(status, top);
            conclude(session, status, now);
            true
        }
    }
}

/// The target waits, and the status need not be written for that alone.
fn attach_delayed(status: &mut ProfileSessionStatus, target: usize, message: String) -> bool {
    if let Some(target) = status.targets.get_mut(target) {
        capture::explain(target, Reason::Attaching, message);
    }
    false
}

fn not_attached(
    status: &mut ProfileSessionStatus,
    target: usize,
    (reason, message): (Reason, String),
    now: Timestamp,
) -> bool {
    let Some(target) = status.targets.get_mut(target) else { return false };
    capture::finish(target, TargetPhase::Failed, reason, message, now);
    true
}

/// A delay that was already reported is not repeated: the next reconcile retries.
fn fold_target(
    status: &mut ProfileSessionStatus,
    target: usize,
    (assembled, slices, overdue): (Vec<(ProfileKind, Assembled)>, Slices, bool),
    now: Timestamp,
) -> bool {
    let Some(target) = status.targets.get_mut(target) else { return false };
    let waits = |one: &Assembled| {
        matches!(one, Assembled::Delayed(..) | Assembled::Underway(..) | Assembled::Sending)
    };
    let delayed = assembled.iter().any(|(_, one)| waits(one));
    let before = target.reason;
    fold_assembled(target, assembled, slices, overdue, now);
    !delayed || target.reason != before || target.phase.is_terminal()
}
