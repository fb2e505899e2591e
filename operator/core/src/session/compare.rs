//! Which captures does a comparison of two revisions take, and what does the status say of its verdict?
//!
//! ```text
//! targets of the session, by revision ─┐
//! earlier sessions (baseline Sessions) ┴─► Comparing ─► (reads the profiles, verdict) ─► record ─► status
//! ```
//! The captures of a session are of one moment. A session is compared once: what it says never changes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_crds::compare::{
    Baseline, ComparedFunction, ComparedRevision, Comparison, ComparisonResult, SessionCompare,
};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::TargetStatus;
use fleetprof_crds::{ProfileKind, ProfileSession, ProfileSessionStatus, Reason};
use fleetprof_profile::verdict::{
    About, Effect, FunctionChange, MAX_CAPTURES, Outcome, Revision, Settings, Side, Verdict, What, Why,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::conditions::{self, REGRESSED, Truth, Wanted};
use crate::hash::hash;
use crate::text::{advised, counted, cut, printable};

/// Most bytes of its message: five functions with their names, and what was compared.
const MAX_VERDICT: usize = 2_048;
/// Most bytes of a function's name in the status.
const MAX_NAME: usize = 256;

/// A stored profile and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCapture {
    /// Uid of its session.
    pub session_uid: String,
    /// Its key in the destination.
    pub uri: String,
    /// What is known beside the profile. The seconds are those that the target's status tells.
    pub about: About,
}

/// What is compared, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparing {
    /// The captures of both revisions.
    pub captures: Vec<StoredCapture>,
    /// What a verdict needs.
    pub settings: Settings,
    /// Draws arrangements, so that the verdict can be repeated.
    pub seed: u64,
    /// The old revision; empty where nothing of one was captured.
    pub base_revision: String,
}

/// The comparison that the session asks for, unless it was made. `sessions` are those of its namespace, which
/// only the baseline `Sessions` reads.
#[must_use]
pub fn comparing(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    sessions: &[Arc<ProfileSession>],
) -> Option<Comparing> {
    let compare = session.spec.compare.as_ref().filter(|_| status.comparison.is_none())?;
    let (mut captures, mut base_revision) = of_one_session(session, status, compare);
    if compare.rules.baseline == Baseline::Sessions {
        let (earlier, revision) = of_earlier_sessions(session, status, compare, sessions);
        captures.extend(earlier);
        base_revision = if revision.is_empty() { base_revision } else { revision };
    }
    Some(Comparing { captures, settings: settings(compare), seed: seed(session), base_revision })
}

/// A comparison of a session with an earlier or later one, by their first revisions; of a session with itself
/// where it captured two revisions. Sessions whose captures overlap in time are of one moment.
#[must_use]
pub fn between(session: &ProfileSession, base: Option<&ProfileSession>) -> Comparing {
    let compare = session.spec.compare.clone().unwrap_or_default();
    let status = session.status.clone().unwrap_or_default();
    let (captures, base_revision) = match base {
        None => of_one_session(session, &status, &compare),
        Some(base) => {
            let moment = u32::from(!overlap(session, base));
            let new = main_targets(session)
                .filter_map(|target| stored(session, target, ProfileKind::Cpu, (Side::New, 0)));
            let old = main_targets(base)
                .filter_map(|target| stored(base, target, ProfileKind::Cpu, (Side::Old, moment)));
            let revision = main_targets(base).next().map(|target| target.revision.clone());
            (new.chain(old).collect(), revision.unwrap_or_default())
        }
    };
    Comparing { captures, settings: settings(&compare), seed: seed(session), base_revision }
}

/// The targets that a session stands for: those of the new revision where it compares two.
pub fn main_targets(session: &ProfileSession) -> impl Iterator<Item = &TargetStatus> {
    let revision = session.spec.compare.as_ref().map(|compare| compare.revision.as_str());
    let targets = session.status.iter().flat_map(|status| &status.targets);
    targets.filter(move |target| revision.is_none_or(|revision| target.revision == revision))
}

/// The targets that a session which compares two revisions compares them with; none of other sessions.
#[must_use]
pub fn base_targets(session: &ProfileSession) -> Vec<&TargetStatus> {
    let (Some(compare), Some(status)) = (&session.spec.compare, &session.status) else { return Vec::new() };
    let workload = workload(&status.targets, &compare.revision);
    old_targets(&status.targets, &compare.revision, workload)
}

fn seed(session: &ProfileSession) -> u64 {
    hash(&[session.metadata.uid.as_deref().unwrap_or_default()])
}

fn settings(compare: &SessionCompare) -> Settings {
    let (rules, usual) = (&compare.rules, Settings::default());
    let effect = Effect {
        points: rules.effect.points.as_share(),
        relative: rules.effect.relative.as_share(),
        least: rules.effect.least.as_share(),
    };
    let min_pods = usize::try_from(rules.min_pods).unwrap_or(usual.min_pods);
    Settings { min_pods, effect, error_rate: rules.error_rate.as_share(), ..usual }
}

fn overlap(one: &ProfileSession, other: &ProfileSession) -> bool {
    let span = |session: &ProfileSession| {
        let status = session.status.as_ref()?;
        Some((status.running_time.as_ref()?.0, status.capture_end_time.as_ref()?.0))
    };
    let spans = span(one).zip(span(other));
    spans.is_some_and(|((began, ended), (other_began, other_ended))| {
        began < other_ended && other_began < ended
    })
}

fn has_samples(target: &TargetStatus) -> bool {
    target.profiles.iter().any(|profile| profile.kind == ProfileKind::Cpu && profile.samples > 0)
}

/// The workload of the new revision's captures; empty where there is none.
fn workload<'t>(targets: &'t [TargetStatus], revision: &str) -> &'t str {
    let new = targets.iter().filter(|target| target.revision == revision);
    new.map(|target| target.workload.as_str()).next().unwrap_or_default()
}

/// The targets of the old revision: of those with samples, the revision that most are of. They are of the same
/// workload if any is, else of another one, as of a Deployment that stands for the stable one.
fn old_targets<'t>(targets: &'t [TargetStatus], revision: &str, workload: &str) -> Vec<&'t TargetStatus> {
    let is_old = |target: &&TargetStatus| {
        !target.revision.is_empty() && target.revision != revision && has_samples(target)
    };
    let old: Vec<&TargetStatus> = targets.iter().filter(is_old).collect();
    let same = old.iter().any(|target| target.workload == workload);
    let mut groups: BTreeMap<(&str, &str), Vec<&TargetStatus>> = BTreeMap::new();
    for target in old.into_iter().filter(|target| !same || target.workload == workload) {
        groups.entry((&target.workload, &target.revision)).or_default().push(target);
    }
    groups.into_values().max_by_key(Vec::len).unwrap_or_default()
}

fn of_one_session(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    compare: &SessionCompare,
) -> (Vec<StoredCapture>, String) {
    let workload = workload(&status.targets, &compare.revision);
    let new = status.targets.iter().filter(|t| t.revision == compare.revision && t.workload == workload);
    let old = old_targets(&status.targets, &compare.revision, workload);
    let revision = old.first().map(|target| target.revision.clone()).unwrap_or_default();
    let sides =
        new.map(|target| (target, Side::New)).chain(old.into_iter().map(|target| (target, Side::Old)));
    (
        sides.filter_map(|(target, side)| stored(session, target, ProfileKind::Cpu, (side, 0))).collect(),
        revision,
    )
}

/// The captures of the old revision in earlier sessions, and that revision. Sessions of other triggers are left
/// out: they captured pods that stood out.
fn of_earlier_sessions(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    compare: &SessionCompare,
    sessions: &[Arc<ProfileSession>],
) -> (Vec<StoredCapture>, String) {
    let is_new = |target: &&TargetStatus| target.revision == compare.revision && has_samples(target);
    let pods = status.targets.iter().filter(is_new).count();
    let workload = workload(&status.targets, &compare.revision);
    let Some(began) = status.start_time.as_ref().filter(|_| pods > 0) else { return Default::default() };
    let mut earlier: Vec<Earlier<'_>> = sessions
        .iter()
        .filter(|other| is_alike(session, other))
        .filter_map(|other| Earlier::of(other, workload, &compare.revision))
        .filter(|earlier| earlier.ended <= began.0)
        .collect();
    earlier.sort_by_key(|earlier| (Reverse(earlier.ended), earlier.session.metadata.name.clone()));
    // The last revision before this one: those before it may have cost something else.
    let last = earlier.first().map(|newest| newest.revision().to_owned()).unwrap_or_default();
    earlier.retain(|earlier| earlier.targets.iter().any(|target| target.revision == last));
    earlier.truncate(usize::try_from(compare.rules.sessions).unwrap_or(0));
    let each = pods.min(MAX_CAPTURES / earlier.len().max(1)).max(1);
    let of_session = |(moment, earlier): (u32, &Earlier<'_>)| -> Vec<StoredCapture> {
        let old = earlier.targets.iter().filter(|target| target.revision == last).take(each);
        old.filter_map(|target| stored(earlier.session, target, ProfileKind::Cpu, (Side::Old, moment)))
            .collect()
    };
    ((1..).zip(&earlier).flat_map(of_session).collect(), last)
}

/// An earlier session with captures of an old revision.
struct Earlier<'s> {
    ended: Timestamp,
    session: &'s ProfileSession,
    /// At least one.
    targets: Vec<&'s TargetStatus>,
}

impl<'s> Earlier<'s> {
    fn of(session: &'s ProfileSession, workload: &str, new: &str) -> Option<Self> {
        let status = session.status.as_ref()?;
        let is_old = |target: &&TargetStatus| {
            let is_other = !target.revision.is_empty() && target.revision != new;
            target.workload == workload && is_other && has_samples(target)
        };
        let targets: Vec<&TargetStatus> = status.targets.iter().filter(is_old).collect();
        let ended = status.end_time.as_ref()?.0;
        (!targets.is_empty()).then_some(Self { ended, session, targets })
    }

    fn revision(&self) -> &str {
        self.targets.first().map_or("", |target| target.revision.as_str())
    }
}

/// Whether another session picks its pods as chance has it, under the same policy.
fn is_alike(session: &ProfileSession, other: &ProfileSession) -> bool {
    session.spec.policy_ref.is_some()
        && other.spec.policy_ref == session.spec.policy_ref
        && other.metadata.uid != session.metadata.uid
        && matches!(other.spec.trigger, Trigger::Schedule | Trigger::Rollout)
        && other.status.as_ref().is_some_and(|status| status.phase.is_terminal())
}

/// The profile of a target that is of this kind; `None` where it left none.
pub(super) fn stored(
    session: &ProfileSession,
    target: &TargetStatus,
    kind: ProfileKind,
    (side, moment): (Side, u32),
) -> Option<StoredCapture> {
    let profile = target.profiles.iter().find(|p| p.kind == kind && p.samples > 0)?;
    let span = target.start_time.as_ref().zip(target.end_time.as_ref());
    let seconds = span.map_or(0.0, |(start, end)| end.0.duration_since(start.0).as_secs_f64());
    let pod = if target.pod_uid.is_empty() { &target.pod } else { &target.pod_uid };
    let coverage = target.coverage.map(|share| share.clamp(0, 100));
    let about =
        About { pod: pod.clone(), side, moment, pod_seconds: seconds.max(0.0), cpu_seconds: None, coverage };
    let session_uid = session.metadata.uid.clone().unwrap_or_default();
    Some(StoredCapture { session_uid, uri: profile.uri.clone(), about })
}

/// Writes the verdict, or why there is none, into the status; with how many profiles could not be read.
pub fn record(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    (verdict, base_revision, unread): (Result<Verdict, String>, String, usize),
    now: Timestamp,
) {
    let Some(compare) = &session.spec.compare else { return };
    let (wanted, mut comparison) = match &verdict {
        Ok(verdict) => {
            let missing = missing(status, &compare.revision, unread);
            (wanted(verdict, &missing), of_verdict(verdict))
        }
        Err(cause) => (failed(cause), Comparison::default()),
    };
    comparison.revision.clone_from(&compare.revision);
    comparison.base_revision = base_revision;
    comparison.reason = Some(wanted.reason);
    comparison.time = Some(Time(now));
    conditions::set(&mut status.conditions, REGRESSED, wanted, session.metadata.generation, now);
    status.comparison = Some(comparison);
}

fn failed(cause: &str) -> Wanted {
    let reason = Reason::ComparisonFailed;
    let cause = printable(cause.trim_end_matches('.'));
    let message = advised(format!("The revisions could not be compared: {cause}"), reason);
    Wanted::new(Truth::Unknown, reason, cut(&message, MAX_VERDICT))
}

/// What was to be compared and was not, as sentences with a space before each.
fn missing(status: &ProfileSessionStatus, revision: &str, unread: usize) -> String {
    let mut said = String::new();
    if !status.targets.iter().any(|target| target.revision == revision) {
        said += &format!(" No target is of the revision {revision}.");
    }
    let (targets, empty) = (status.targets.len(), status.targets.iter().filter(|t| !has_samples(t)).count());
    if empty > 0 {
        said += &format!(" {empty} of {targets} targets left no CPU profile; see status.targets.");
    }
    if unread > 0 {
        let profiles = counted(unread, "stored profile", "stored profiles");
        said += &format!(" {profiles} could not be read; see the operator log.");
    }
    said
}

fn wanted(verdict: &Verdict, missing: &str) -> Wanted {
    let (truth, reason) = match verdict.outcome {
        Outcome::Regressed => (Truth::True, Reason::Regressed),
        Outcome::NotRegressed => (Truth::False, Reason::NotRegressed),
        Outcome::Inconclusive(why) => (Truth::Unknown, because(why)),
    };
    let message = match verdict.outcome {
        Outcome::Inconclusive(_) => format!("Inconclusive. {}{missing}", verdict.message()),
        _ => format!("{}{missing}", verdict.message()),
    };
    Wanted::new(truth, reason, cut(&message, MAX_VERDICT))
}

const fn because(why: Why) -> Reason {
    match why {
        Why::FewPods => Reason::FewPods,
        Why::FewMoments => Reason::FewMoments,
        Why::NotEnoughSamples => Reason::NotEnoughSamples,
        Why::DifferentLoad => Reason::DifferentLoad,
        Why::LowCoverage => Reason::LowCoverage,
    }
}

fn of_verdict(verdict: &Verdict) -> Comparison {
    Comparison {
        result: match verdict.outcome {
            Outcome::Regressed => ComparisonResult::Regressed,
            Outcome::NotRegressed => ComparisonResult::NotRegressed,
            Outcome::Inconclusive(_) => ComparisonResult::Inconclusive,
        },
        smallest_change: verdict
            .smallest
            .map_or_else(|| "none".to_owned(), |share| format!("{:.1}", 100.0 * share)),
        p: verdict.p.map(|p| format!("{p:.3}")),
        new: revision(&verdict.new),
        old: revision(&verdict.old),
        functions: verdict.functions.iter().map(function).collect(),
        ..Comparison::default()
    }
}

fn revision(of: &Revision) -> ComparedRevision {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    // A mean of values from 0 to 100.
    #[allow(clippy::cast_possible_truncation)]
    let coverage = of.coverage.map(|coverage| coverage.round().clamp(0.0, 100.0) as i32);
    ComparedRevision { pods: count(of.pods), captures: count(of.captures), samples: of.samples, coverage }
}

fn function(change: &FunctionChange) -> ComparedFunction {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let points = |share: f64| format!("{:+.1}", 100.0 * share);
    let cores = |cores: Option<f64>| cores.map(|cores| format!("{cores:.3}"));
    let what = match change.what {
        What::Rose => "Rose",
        What::Moved => "Moved",
        What::ShareOnly => "ShareOnly",
        What::Noise => "Noise",
    };
    let interval = change.interval.map(|(from, to)| format!("{} to {}", points(from), points(to)));
    ComparedFunction {
        name: cut(&printable(&change.name), MAX_NAME),
        file: cut(&printable(&change.file), MAX_NAME),
        change: what.to_owned(),
        cumulative: change.cumulative,
        old_percent: percent(change.old_share),
        new_percent: percent(change.new_share),
        change_points: points(change.new_share - change.old_share),
        interval: interval.unwrap_or_default(),
        old_cores: cores(change.old_cores),
        new_cores: cores(change.new_cores),
    }
}
