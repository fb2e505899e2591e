//! Which sessions does a look for growth take, and what does the status say of it?
//!
//! ```text
//! targets of the session, by workload, revision and kind ─► enough sessions since the last look?
//!     no ─► a row that says how many          yes ─► Watching ─► (reads the profiles, trend) ─► record ─► a row
//! ```
//! Looks are at sessions of the schedule, the one that ends included. No session is part of two looks: looking again
//! with every session finds growth everywhere in the end.

mod record;

use std::collections::BTreeSet;
use std::sync::Arc;

use fleetprof_crds::growth::{GrowthRules, WorkloadGrowth};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::TargetStatus;
use fleetprof_crds::{ProfileKind, ProfileSession, ProfileSessionStatus};
use fleetprof_profile::trend::Settings;
use fleetprof_profile::verdict::{MAX_CAPTURES, Side};
use jiff::Timestamp;

use super::compare::{StoredCapture, stored};
use super::observed::PolicyFacts;
use crate::hash::hash;

pub use record::record;

/// Most rows of a session.
const MAX_ROWS: usize = 20;
/// Most looks of a session; what is left is looked at when the next one ends, since what waits longest goes first.
const MAX_LOOKS: usize = 4;
/// Most profiles that a look reads.
const MAX_PROFILES: usize = 2 * MAX_CAPTURES;
/// Kinds of which growth means something, by amounts that a pod uses.
const KINDS: [ProfileKind; 2] = [ProfileKind::Heap, ProfileKind::Cpu];

/// What is looked at: a kind of profiles of one revision of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Such as `Deployment/orders`.
    pub workload: String,
    /// Its revision; empty for workloads without.
    pub revision: String,
    /// The kind.
    pub kind: ProfileKind,
}

/// Sessions that are looked at, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Watching {
    /// Of what.
    pub subject: Subject,
    /// The profiles; the moment of each is the number of its session, in the order of time.
    pub captures: Vec<StoredCapture>,
    /// For kinds other than `Cpu`, CPU profiles of the same pods, which tell the load.
    pub loads: Vec<StoredCapture>,
    /// How many sessions they are of.
    pub sessions: usize,
    /// What a look needs.
    pub settings: Settings,
    /// Draws orders, so that the look can be repeated.
    pub seed: u64,
}

/// Whether growth is looked for when this session ends.
pub(super) fn watches(session: &ProfileSession, policy: &PolicyFacts) -> bool {
    rules(session, policy).is_some()
}

fn rules<'p>(session: &ProfileSession, policy: &'p PolicyFacts) -> Option<&'p GrowthRules> {
    match policy {
        PolicyFacts::Found { spec, .. } if session.spec.trigger == Trigger::Schedule => spec.growth.as_ref(),
        _ => None,
    }
}

/// The looks that are due when the session ends; of what is not due yet, the status gets a row. `sessions` are those
/// of its namespace.
#[must_use]
pub fn watching(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    policy: &PolicyFacts,
    sessions: &[Arc<ProfileSession>],
    now: Timestamp,
) -> Vec<Watching> {
    let Some(rules) = rules(session, policy) else { return Vec::new() };
    let wanted = usize::try_from(rules.sessions).unwrap_or(usize::MAX);
    let subjects = subjects(status);
    let kinds = subjects.iter().map(|subject| subject.kind).collect::<BTreeSet<_>>().len();
    let settings = settings(rules, kinds);
    let mut due = Vec::new();
    let told = status.growth.len();
    let untold = subjects.into_iter().filter(|subject| !is_told(status, subject));
    let mut subjects: Vec<_> =
        untold.map(|subject| (since_last_look(session, &subject, sessions), subject)).collect();
    subjects.sort_by_key(|(earlier, _)| std::cmp::Reverse(earlier.len()));
    for (earlier, subject) in subjects.into_iter().take(MAX_ROWS.saturating_sub(told)) {
        // An older session that has not ended yet may be part of a look of its own.
        let is_due = earlier.len() + 1 >= wanted && !is_captured_by_an_older(session, &subject, sessions);
        if is_due && due.len() < MAX_LOOKS {
            let skipped = earlier.len() + 1 - wanted;
            let current = ProfileSession { status: Some(status.clone()), ..session.clone() };
            let taken: Vec<&ProfileSession> =
                earlier.iter().skip(skipped).map(|s| &***s).chain([&current]).collect();
            due.push(of_sessions(subject, &taken, settings.clone()));
        } else {
            record::waits(session, status, (&subject, earlier.len() + 1), now);
        }
    }
    due
}

/// What the session captured, each once, in the order of names.
fn subjects(status: &ProfileSessionStatus) -> Vec<Subject> {
    let of = |target: &TargetStatus| {
        let has = |kind: &ProfileKind| target.profiles.iter().any(|p| p.kind == *kind && p.samples > 0);
        let subject =
            |kind| Subject { workload: target.workload.clone(), revision: target.revision.clone(), kind };
        KINDS.into_iter().filter(has).map(subject).collect::<Vec<_>>()
    };
    let named = status.targets.iter().filter(|target| !target.workload.is_empty());
    named.flat_map(of).collect::<BTreeSet<_>>().into_iter().collect()
}

/// All kinds of a workload together may be called growing as often as the rules say.
fn settings(rules: &GrowthRules, kinds: usize) -> Settings {
    Settings {
        relative: rules.effect.relative.as_share(),
        least: rules.effect.least.as_share(),
        error_rate: rules.error_rate.as_share() / kinds.max(1) as f64,
        ..Settings::default()
    }
}

fn row<'s>(status: &'s ProfileSessionStatus, subject: &Subject) -> Option<&'s WorkloadGrowth> {
    status.growth.iter().find(|row| {
        row.workload == subject.workload && row.revision == subject.revision && row.kind == subject.kind
    })
}

fn is_told(status: &ProfileSessionStatus, subject: &Subject) -> bool {
    row(status, subject).is_some()
}

fn targets<'s>(session: &'s ProfileSession, subject: &Subject) -> impl Iterator<Item = &'s TargetStatus> {
    let Subject { workload, revision, kind } = subject.clone();
    let all = session.status.iter().flat_map(|status| &status.targets);
    all.filter(move |target| {
        let has = target.profiles.iter().any(|p| p.kind == kind && p.samples > 0);
        target.workload == workload && target.revision == revision && has
    })
}

/// The earlier sessions of the schedule that captured the subject and are not part of an earlier look, the oldest
/// first.
fn since_last_look<'s>(
    session: &ProfileSession,
    subject: &Subject,
    sessions: &'s [Arc<ProfileSession>],
) -> Vec<&'s Arc<ProfileSession>> {
    let ended =
        |s: &ProfileSession| Some(s.status.as_ref().filter(|s| s.phase.is_terminal())?.end_time.as_ref()?.0);
    let is_alike = |s: &&Arc<ProfileSession>| {
        s.spec.trigger == Trigger::Schedule
            && s.spec.policy_ref == session.spec.policy_ref
            && s.metadata.uid != session.metadata.uid
            && ended(s).is_some()
            && targets(s, subject).next().is_some()
    };
    let mut alike: Vec<&Arc<ProfileSession>> = sessions.iter().filter(is_alike).collect();
    alike.sort_by_key(|s| (ended(s), s.metadata.name.clone()));
    let looked = |s: &&Arc<ProfileSession>| {
        s.status.as_ref().and_then(|status| row(status, subject)).is_some_and(|row| row.p.is_some())
    };
    let last = alike.iter().rposition(looked).map_or(0, |at| at + 1);
    alike.split_off(last)
}

/// Whether an older session of the schedule that captures the workload has not ended.
fn is_captured_by_an_older(
    session: &ProfileSession,
    subject: &Subject,
    sessions: &[Arc<ProfileSession>],
) -> bool {
    let started = |s: &ProfileSession| Some(s.status.as_ref()?.start_time.as_ref()?.0);
    sessions.iter().any(|s| {
        let status = s.status.as_ref().filter(|status| !status.phase.is_terminal());
        let mut targets = status.into_iter().flat_map(|status| &status.targets);
        s.spec.trigger == Trigger::Schedule
            && s.spec.policy_ref == session.spec.policy_ref
            && s.metadata.uid != session.metadata.uid
            && started(s).is_some_and(|at| started(session).is_none_or(|own| at < own))
            && targets.any(|target| target.workload == subject.workload)
    })
}

fn of_sessions(subject: Subject, sessions: &[&ProfileSession], settings: Settings) -> Watching {
    let reads_load = subject.kind != ProfileKind::Cpu;
    let most = MAX_PROFILES / if reads_load { 2 } else { 1 };
    let each = (most / sessions.len().max(1)).max(1);
    let (mut captures, mut loads) = (Vec::new(), Vec::new());
    for (moment, session) in (0_u32..).zip(sessions) {
        let capture = |target, kind| stored(session, target, kind, (Side::New, moment));
        for target in targets(session, &subject).take(each) {
            captures.extend(capture(target, subject.kind));
            loads.extend(capture(target, ProfileKind::Cpu).filter(|_| reads_load));
        }
    }
    let last = sessions.last().and_then(|session| session.metadata.uid.as_deref()).unwrap_or_default();
    let seed = hash(&[last, &subject.workload, &subject.revision, subject.kind.name()]);
    Watching { sessions: sessions.len(), subject, captures, loads, settings, seed }
}
