//! What should happen next with a session? One pure step: `step(session, observed, settings) → status +
//! actions`.
//!
//! ```text
//!            permission? load?  pick             one step a target            fold
//! observed ─► gate::check ─► choose::targets ─► capture::step … ─► summary::fold ─► status
//!                                                    └──────────────────────────► actions
//! ```
//! Steps are level-based: the same observation gives the same step, repeating an action is harmless, and
//! nothing but the session's own status is remembered. So a new leader continues where the previous one
//! stopped.

mod assembled;
pub mod capture;
pub mod choose;
pub mod compare;
pub mod deliver;
mod efforts;
pub mod event;
pub mod fold;
pub mod gate;
pub mod history;
pub mod links;
pub mod load;
pub mod newer;
pub mod notify;
pub mod observed;
pub mod pacing;
mod purpose;
pub mod recorded;
pub mod repeat;
pub mod summary;
pub mod symbols;
pub mod trend;
pub mod turns;
mod workloads;

use fleetprof_crds::policy::SuspendBehavior;
use fleetprof_crds::session_status::{Phase, TargetPhase, TargetStatus};
use fleetprof_crds::{Duration, ProfileKind, ProfileSession, ProfileSessionStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::budget::{Place, is_busy};
use crate::conditions::{self, Truth, Wanted};
use crate::time::after;
pub use assembled::{Assembled, Slices};
pub use compare::{Comparing, StoredCapture};
pub use event::Notification;
pub use fold::{Answers, Outcome, fold, fold_all};
pub use observed::{
    Action, CaptureFacts, JobFacts, Observed, Permission, PolicyFacts, Settings, needs_earlier,
};
pub use purpose::same_purpose;
pub use trend::Watching;

/// A session looks again this often although nothing was heard.
const LOOK: SignedDuration = SignedDuration::from_secs(10);

/// A session with a target that waits for a slot looks again this often: within its start deadline, in which
/// somebody may be looking, and later.
const LOOK_FOR_SLOT: [SignedDuration; 2] = [SignedDuration::from_secs(1), SignedDuration::from_secs(5)];

/// A session that only waits, for its load or its ttl, is looked at at least this often: there may be many,
/// for days each, and what they wait for is told.
const LOOK_WHILE_WAITING: SignedDuration = SignedDuration::from_hours(1);

/// What [`step`] decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The status as it should be, before the outcomes of the actions are folded in.
    pub status: ProfileSessionStatus,
    /// What to do now.
    pub actions: Vec<Action>,
    /// When to look again although nothing was heard.
    pub requeue: Option<SignedDuration>,
}

/// The next step of a session.
#[must_use]
pub fn step(session: &ProfileSession, observed: &Observed, settings: &Settings) -> Step {
    let mut status = session.status.clone().unwrap_or_default();
    status.observed_generation = session.metadata.generation;
    status.trigger = Some(session.spec.trigger);
    let latest = recorded::no_later_than(&mut status, observed.now);
    if let Some(wanted) = latest.and_then(|latest| conditions::clock_went_back(latest, observed.now)) {
        let generation = session.metadata.generation;
        conditions::set(&mut status.conditions, conditions::CLOCK, wanted, generation, observed.now);
    }
    if status.phase.is_terminal() {
        return ended(session, status, observed, settings);
    }
    let mut actions = match gate::check(session, &status, observed, settings) {
        gate::Verdict::Ask => vec![Action::CheckPermission],
        gate::Verdict::Wait(message) => {
            wait(session, &mut status, message, observed.now);
            Vec::new()
        }
        gate::Verdict::End(phase, reason, message) => {
            end_early(session, &mut status, phase, (reason, message), observed.now);
            Vec::new()
        }
        gate::Verdict::Go => advance(session, &mut status, observed, settings),
    };
    actions.extend(repeat::step(session, &mut status, observed));
    if status.phase.is_terminal() {
        tell_of_end(session, &mut status, observed, settings);
    }
    let requeue = (!status.phase.is_terminal()).then(|| next_look(session, &status, observed));
    Step { status, actions, requeue }
}

/// An ended session has its captures closed, goes on making those that repeat it, and is kept until its ttl
/// is over, or for as long as its annotation says so.
fn ended(
    session: &ProfileSession,
    mut status: ProfileSessionStatus,
    observed: &Observed,
    settings: &Settings,
) -> Step {
    let stays = history::stays(session, &observed.follow_ups);
    history::tell_ttl(session, &mut status, (stays, settings.max_ttl), observed.now);
    let mut actions = close_all(&status);
    actions.extend(deliver::step(session, &mut status, observed.now));
    actions.extend(tell_of_end(session, &mut status, observed, settings));
    actions.extend(repeat::step(session, &mut status, observed));
    let ttl = session.spec.ttl.min(settings.max_ttl);
    let left = expires(session, &status, ttl).map(|at| at.duration_since(observed.now)).filter(|_| !stays);
    let over = left.is_some_and(|left| left <= SignedDuration::ZERO);
    if over && session.metadata.deletion_timestamp.is_none() {
        actions.push(Action::Forget);
    }
    let longest = match notify::look(&status, observed.now) {
        _ if deliver::is_pending(session, &status) => LOOK,
        Some(_) if !observed.recorded.is_terminal() => LOOK,
        look => look.unwrap_or(LOOK_WHILE_WAITING),
    };
    let open = if repeat::is_open(session, &status) { LOOK } else { longest };
    Step { status, actions, requeue: left.map_or(Some(open), |left| (!over).then(|| left.min(longest))) }
}

/// Links to the results, and tells receivers of the end. Until that is on record, both follow from the status and
/// the settings; from then on they are the session's, whatever an administrator changes.
fn tell_of_end(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    observed: &Observed,
    settings: &Settings,
) -> Vec<Action> {
    if observed.recorded.is_terminal() {
        return notify::step(session, status, settings, observed.now);
    }
    links::add(session, status, (&settings.links, &settings.cluster));
    notify::owe(session, status, settings, observed.now);
    Vec::new()
}

/// Says that the session waits for its load, and for which.
fn wait(session: &ProfileSession, status: &mut ProfileSessionStatus, message: String, now: Timestamp) {
    let wanted = Wanted::new(Truth::False, Reason::WaitingForLoad, message.clone());
    conditions::set(&mut status.conditions, "Complete", wanted, session.metadata.generation, now);
    (status.reason, status.message) = (Some(Reason::WaitingForLoad), message);
}

/// What a new leader does for a session before any agent is answered: the orders that are on record are out,
/// and the places that they take are held. Nothing is asked and nothing decided.
#[must_use]
pub fn reopen(session: &ProfileSession, observed: &Observed, settings: &Settings) -> Vec<Action> {
    let Some(status) = &session.status else { return Vec::new() };
    let context = capture::Context::new(session, status, observed, settings);
    status.targets.iter().filter_map(|target| capture::reopen(target, &context)).collect()
}

/// Picks targets once, steps each of them, and folds them into the session's own state.
fn advance(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    observed: &Observed,
    settings: &Settings,
) -> Vec<Action> {
    if status.start_time.is_none() {
        match choose::targets(session, observed) {
            Ok(chosen) => begin(session, status, chosen, observed.now),
            Err(refusal) => {
                end_early(session, status, Phase::Failed, (refusal.reason, refusal.message), observed.now);
                return Vec::new();
            }
        }
    }
    let stopped = matches!(&observed.policy, PolicyFacts::Found { spec, .. } if spec.suspend && spec.suspend_behavior == SuspendBehavior::Cancel);
    if (session.spec.cancel || stopped) && status.cancel_time.is_none() {
        status.cancel_time = Some(Time(observed.now));
    }
    let context = capture::Context::new(session, status, observed, settings);
    let mut actions: Vec<Action> = Vec::new();
    for (index, target) in status.targets.iter_mut().enumerate() {
        actions.extend(capture::step(index, target, &context));
    }
    record_once(&mut actions);
    summary::fold(session, status, observed.now);
    if status.phase == Phase::Processing && status.targets.iter().all(|t| t.phase.is_terminal()) {
        // Before what ends the session: whoever waits for its end finds the verdict.
        let comparing = compare::comparing(session, status, &observed.sessions);
        actions.extend(comparing.map(|comparing| Action::Compare(Box::new(comparing))));
        let watching = trend::watching(session, status, &observed.policy, &observed.sessions, observed.now);
        actions.extend(watching.into_iter().map(|watching| Action::Watch(Box::new(watching))));
        actions.push(summarize(session, status));
    }
    actions
}

/// The profiles of the first kind that was asked for and captured: kinds count different things. Of a session
/// that compares two revisions, those of the new one.
fn summarize(session: &ProfileSession, status: &ProfileSessionStatus) -> Action {
    let revision = session.spec.compare.as_ref().map(|compare| &compare.revision);
    let meant = |target: &&TargetStatus| revision.is_none_or(|revision| target.revision == *revision);
    let stored = || status.targets.iter().filter(meant).flat_map(|target| &target.profiles);
    let wanted = session.spec.profiles.iter().copied();
    let kind = wanted.clone().find(|kind| stored().any(|p| p.kind == *kind));
    let kind = kind.or(wanted.clone().next()).unwrap_or(ProfileKind::Cpu);
    let profiles = stored().filter(|p| p.kind == kind).map(|p| p.uri.clone()).collect();
    Action::Summarize { kind, profiles }
}

/// However many places were granted, the status is written once.
fn record_once(actions: &mut Vec<Action>) {
    let many = actions.len();
    actions.retain(|a| *a != Action::Record);
    if actions.len() < many {
        actions.push(Action::Record);
    }
}

/// From here on, the choice is kept in the status.
fn begin(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    chosen: choose::Chosen,
    now: Timestamp,
) {
    let (taken, left_out) = (chosen.targets.len(), chosen.left_out);
    status.start_time = Some(Time(now));
    status.app = chosen.app;
    status.targets = chosen.targets;
    if left_out > 0 {
        let message = format!(
            "{left_out} of {} selected pods are left out: {}.",
            taken + left_out,
            Reason::TooManyTargets.advice()
        );
        let limited = Wanted::new(Truth::True, Reason::TooManyTargets, message);
        conditions::set(&mut status.conditions, "TargetsLimited", limited, session.metadata.generation, now);
    }
}

/// Ends the session after its results were summarized; the phase follows from the targets.
pub fn conclude(session: &ProfileSession, status: &mut ProfileSessionStatus, now: Timestamp) {
    let phase = summary::outcome(status);
    end(status, phase, now);
    summary::conclude(session, status, now);
}

fn end(status: &mut ProfileSessionStatus, phase: Phase, now: Timestamp) {
    status.phase = phase;
    status.end_time = Some(Time(now));
}

/// When an ended session and its profiles are removed. While others repeat it, it stays: they go with it.
fn expires(session: &ProfileSession, status: &ProfileSessionStatus, ttl: Duration) -> Option<Timestamp> {
    if repeat::is_open(session, status) {
        return None;
    }
    let repeated = status.repeat.as_ref().and_then(|r| r.end_time.as_ref());
    let end = [status.end_time.as_ref(), repeated].into_iter().flatten().map(|t| t.0).max()?;
    Some(after(end, ttl.as_signed()))
}

/// Ends a session that has captured nothing; who waits for `Complete` learns it as of any other end.
fn end_early(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    phase: Phase,
    why: (Reason, String),
    now: Timestamp,
) {
    end(status, phase, now);
    let wanted = Wanted::new(Truth::True, why.0, why.1.clone());
    conditions::set(&mut status.conditions, "Complete", wanted, session.metadata.generation, now);
    compare::record(session, status, (Err(why.1.clone()), String::new(), 0), now);
    (status.reason, status.message) = (Some(why.0), why.1);
}

fn close_all(status: &ProfileSessionStatus) -> Vec<Action> {
    status
        .targets
        .iter()
        .filter(|t| !t.capture.is_empty())
        .map(|t| Action::Close { capture: t.capture.clone() })
        .collect()
}

/// The time until something is due without an event: a deadline of the session, or the record of a granted
/// slot.
fn next_look(session: &ProfileSession, status: &ProfileSessionStatus, observed: &Observed) -> SignedDuration {
    let granted = |capture: &str| observed.places.get(capture) == Some(&Place::Granted);
    let unrecorded = status.targets.iter().any(|t| t.phase == TargetPhase::Pending && granted(&t.capture));
    let record = observed.until_record.filter(|_| unrecorded);
    let deadline = next_deadline(session, status, observed);
    record.map_or(deadline, |left| left.min(deadline))
}

/// The time until the earliest deadline of the session; at least 1 s, at most [`LOOK`], or
/// [`LOOK_WHILE_WAITING`] for one that waits for its load.
fn next_deadline(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    observed: &Observed,
) -> SignedDuration {
    let (spec, now) = (&session.spec, observed.now);
    let waiting = status
        .targets
        .iter()
        .filter(|t| matches!(t.phase, TargetPhase::Pending | TargetPhase::Attaching | TargetPhase::Ordered));
    let since = waiting.filter_map(|t| t.slot_time.as_ref().or(status.start_time.as_ref()));
    let starts = since.map(|t| after(t.0, spec.start_deadline.as_signed()));
    let results = status.capture_end_time.as_ref().map(|t| after(t.0, spec.result_timeout.as_signed()));
    let load = load::deadline(session, status, now);
    let waits_for_place =
        status.targets.iter().any(|t| t.phase == TargetPhase::Pending && t.reason.is_some_and(is_busy));
    let mut next = match status.reason {
        _ if waits_for_place => look_for_slot(session, status, now),
        Some(Reason::WaitingForLoad) if observed.job != JobFacts::Unlisted || !names_job(session) => {
            LOOK_WHILE_WAITING
        }
        _ => LOOK,
    };
    for at in starts.chain([results, load].into_iter().flatten()) {
        let left = at.duration_since(now);
        if left > SignedDuration::ZERO {
            next = next.min(left);
        }
    }
    next.max(SignedDuration::from_secs(1))
}

fn look_for_slot(session: &ProfileSession, status: &ProfileSessionStatus, now: Timestamp) -> SignedDuration {
    let [soon, later] = LOOK_FOR_SLOT;
    let started = status.start_time.as_ref().map_or(now, |t| t.0);
    if now <= after(started, session.spec.start_deadline.as_signed()) { soon } else { later }
}

fn names_job(session: &ProfileSession) -> bool {
    session.spec.start_when.as_ref().is_some_and(|start| start.job_ref.is_some())
}
