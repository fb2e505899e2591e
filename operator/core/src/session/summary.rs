//! What is the state of a session, given the states of its targets?

use fleetprof_crds::session_status::{Counts, Link, Phase, TargetPhase, TargetStatus, TopFunction};
use fleetprof_crds::{Duration, ProfileKind, ProfileSession, ProfileSessionStatus, Reason, names};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::workloads;
use crate::capture::rate;
use crate::conditions::{self, Truth, Wanted};
use crate::text::{counted, cut};
use crate::time::after;

/// Folds the targets into counts, phase, message and conditions. The phase never goes backwards.
pub fn fold(session: &ProfileSession, status: &mut ProfileSessionStatus, now: Timestamp) {
    status.samples = samples(session, &mut status.targets);
    tally(status);
    status.cpu_percent = mean(status.targets.iter().filter_map(|t| t.cpu_percent));
    status.memory_percent = status.targets.iter().filter_map(|t| t.memory_percent).max();
    if status.running_time.is_none() {
        status.running_time = status.targets.iter().filter_map(|t| t.start_time.clone()).min();
    }
    let capturing = status.targets.iter().any(|t| is_capturing(t.phase));
    if !capturing && status.capture_end_time.is_none() {
        status.capture_end_time = Some(Time(now));
    }
    let late = status
        .capture_end_time
        .as_ref()
        .is_some_and(|t| now > after(t.0, session.spec.result_timeout.as_signed()));
    status.phase = status.phase.max(phase(&status.targets, status.phase, late));
    (status.reason, status.message) = because(session, explanation(session, status, late));
    let generation = session.metadata.generation;
    let delayed = late && status.targets.iter().any(|t| !t.phase.is_terminal());
    if delayed {
        let message = format!(
            "Results have not arrived within {}; they are accepted until {} after the capture.",
            session.spec.result_timeout, session.spec.result_deadline
        );
        conditions::set(
            &mut status.conditions,
            "ResultsDelayed",
            Wanted::new(Truth::True, Reason::ResultsDelayed, message),
            generation,
            now,
        );
    }
    let reachable = reachable(&status.targets);
    conditions::set(&mut status.conditions, "AgentReachable", reachable, generation, now);
    let running =
        Wanted::new(Truth::False, status.reason.unwrap_or(Reason::Capturing), status.message.clone());
    conditions::set(&mut status.conditions, "Complete", running, generation, now);
}

/// Counts the targets, and those of each workload.
fn tally(status: &mut ProfileSessionStatus) {
    status.counts = counts(&status.targets);
    status.targets_summary = format!("{}/{}", with_data(&status.targets), status.counts.desired);
    status.workloads = workloads::of(&status.targets);
}

const fn is_capturing(phase: TargetPhase) -> bool {
    matches!(
        phase,
        TargetPhase::Pending | TargetPhase::Attaching | TargetPhase::Ordered | TargetPhase::Running
    )
}

fn phase(targets: &[TargetStatus], was: Phase, late: bool) -> Phase {
    let any = |f: fn(TargetPhase) -> bool| targets.iter().any(|t| f(t.phase));
    if targets.iter().all(|t| t.phase.is_terminal()) {
        return Phase::Processing;
    }
    if any(|p| p == TargetPhase::Running) {
        return Phase::Running;
    }
    if any(is_capturing) {
        return if was >= Phase::Running { Phase::Running } else { Phase::Starting };
    }
    if late { Phase::Processing } else { Phase::Uploading }
}

/// How many targets came to which end.
pub(super) fn counts(targets: &[TargetStatus]) -> Counts {
    let count = |f: &dyn Fn(&TargetStatus) -> bool| {
        i32::try_from(targets.iter().filter(|t| f(t)).count()).unwrap_or(i32::MAX)
    };
    Counts {
        desired: count(&|_| true),
        started: count(&|t| t.start_time.is_some()),
        succeeded: count(&|t| t.phase == TargetPhase::Succeeded),
        failed: count(&|t| matches!(t.phase, TargetPhase::Failed | TargetPhase::Cancelled)),
        skipped: count(&|t| t.phase == TargetPhase::Skipped),
    }
}

/// The samples of all targets; those of a target are of the first kind that it has, for kinds count different
/// things. An agent shares its pod with the app, and a slice is what the agent says it is: so nothing has more
/// samples than its kind allows.
fn samples(session: &ProfileSession, targets: &mut [TargetStatus]) -> i64 {
    let first = session.spec.profiles.first().copied().unwrap_or(ProfileKind::Unknown);
    targets.iter_mut().fold(0, |sum: i64, target| {
        let rate = rate(session, target);
        for profile in &mut target.profiles {
            profile.samples = profile.samples.clamp(0, profile.kind.most_samples(rate));
        }
        let kind = target.profiles.first().map_or(first, |profile| profile.kind);
        target.samples = target.samples.clamp(0, kind.most_samples(rate));
        sum.saturating_add(target.samples)
    })
}

fn with_data(targets: &[TargetStatus]) -> usize {
    targets.iter().filter(|t| !t.profiles.is_empty()).count()
}

fn mean(values: impl Iterator<Item = i32>) -> Option<i32> {
    let (sum, n) = values.fold((0i64, 0i64), |(sum, n), v| (sum + i64::from(v), n + 1));
    (n > 0).then(|| i32::try_from(sum / n).unwrap_or(i32::MAX))
}

fn explanation(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    late: bool,
) -> (Option<Reason>, String) {
    let n = status.counts.desired;
    let live: Vec<&TargetStatus> = status.targets.iter().filter(|t| !t.phase.is_terminal()).collect();
    if status.cancel_time.is_some() {
        return (
            Some(Reason::Cancelled),
            format!("Cancelling: {} of {n} targets have not ended yet.", live.len()),
        );
    }
    let stuck = live.iter().find(|t| t.reason.is_some_and(Reason::is_storage));
    if let Some(stuck) = stuck {
        return (stuck.reason, stuck.message.clone());
    }
    match status.phase {
        Phase::Pending | Phase::Starting => {
            let waits = live.first().and_then(|t| t.reason).unwrap_or(Reason::WaitingForAgent);
            let (text, waiting) = (waiting_for(waits), live.len());
            (Some(waits), format!("{text}: {waiting} of {n} targets have not started."))
        }
        Phase::Running => (
            Some(Reason::Capturing),
            format!("Capturing {n} target{} for {}.", if n == 1 { "" } else { "s" }, length(session, status)),
        ),
        Phase::Uploading => {
            (Some(Reason::Uploading), format!("Captured; {} of {n} profiles are being uploaded.", live.len()))
        }
        _ if late && !live.is_empty() => {
            (Some(Reason::ResultsDelayed), format!("{} of {n} profiles are delayed.", live.len()))
        }
        _ => (Some(Reason::Processing), "All profiles are stored; computing the hottest functions.".into()),
    }
}

/// For how long the targets are captured, as in `2m` or `30s to 2m`.
fn length(session: &ProfileSession, status: &ProfileSessionStatus) -> String {
    let seconds = || status.targets.iter().map(|target| rate(session, target).seconds);
    let (least, most) = (seconds().min().unwrap_or(0), seconds().max().unwrap_or(0));
    let [least, most] = [least, most].map(Duration::from_secs);
    if least == most { most.to_string() } else { format!("{least} to {most}") }
}

const fn waiting_for(reason: Reason) -> &'static str {
    match reason {
        Reason::Attaching => "Attaching an agent",
        Reason::NodeBusy | Reason::BudgetExhausted => "Waiting for a slot in the budgets",
        Reason::ContainerBusy => "Waiting for another session of the same container",
        _ => "Waiting for the agent",
    }
}

/// The same with what crossed which line, for a session of a trigger.
fn because(
    session: &ProfileSession,
    (reason, message): (Option<Reason>, String),
) -> (Option<Reason>, String) {
    let cause = &session.spec.cause;
    let message = if cause.is_empty() {
        message
    } else {
        format!("{message} Started by {}: {cause}.", session.spec.trigger.as_str())
    };
    (reason, cut(&message, names::MAX_MESSAGE))
}

fn reachable(targets: &[TargetStatus]) -> Wanted {
    let silent = targets
        .iter()
        .filter(|t| {
            matches!(
                t.reason,
                Some(
                    Reason::StartDeadlineExceeded
                        | Reason::AgentGone
                        | Reason::AgentImageFailed
                        | Reason::AttachFailed
                )
            )
        })
        .count();
    let waiting =
        targets.iter().filter(|t| matches!(t.phase, TargetPhase::Pending | TargetPhase::Attaching)).count();
    if silent > 0 {
        return Wanted::new(
            Truth::False,
            Reason::AgentsSilent,
            format!("{silent} of {} agents did not report.", targets.len()),
        );
    }
    if waiting > 0 {
        return Wanted::new(
            Truth::Unknown,
            Reason::StatusCheckBlocked,
            format!("{waiting} of {} agents have not reported yet; profiling is not blocked.", targets.len()),
        );
    }
    Wanted::new(
        Truth::True,
        Reason::AgentsAnswer,
        format!("{} of {} agents report.", targets.len(), targets.len()),
    )
}

/// The phase of a session all of whose targets have ended.
#[must_use]
pub fn outcome(status: &ProfileSessionStatus) -> Phase {
    let targets = &status.targets;
    let good = targets.iter().filter(|t| t.phase == TargetPhase::Succeeded).count();
    if good > 0 && good == targets.len() {
        Phase::Succeeded
    } else if status.cancel_time.is_some() || all_yielded(targets) {
        Phase::Cancelled
    } else if with_data(targets) > 0 {
        Phase::PartiallySucceeded
    } else if targets.iter().any(|t| t.reason == Some(Reason::ResultDeadlineExceeded)) {
        Phase::Expired
    } else {
        Phase::Failed
    }
}

/// Whether every target stopped for a session of a person before there was data.
fn all_yielded(targets: &[TargetStatus]) -> bool {
    let nothing = |t: &TargetStatus| t.phase == TargetPhase::Skipped && t.reason == Some(Reason::Yielded);
    !targets.is_empty() && targets.iter().all(nothing)
}

/// Says how an ended session ended.
pub fn conclude(session: &ProfileSession, status: &mut ProfileSessionStatus, now: Timestamp) {
    tally(status);
    let (reason, message) = conclusion(status);
    (status.reason, status.message) = because(session, (reason, message + unknown_kinds(session)));
    let generation = session.metadata.generation;
    if conditions::is_true(&status.conditions, "ResultsDelayed") {
        status.completed_late = with_data(&status.targets) > 0;
        let wanted = Wanted::new(Truth::False, Reason::Completed, "The results arrived late.");
        conditions::set(&mut status.conditions, "ResultsDelayed", wanted, generation, now);
    }
    let complete =
        Wanted::new(Truth::True, status.reason.unwrap_or(Reason::Completed), status.message.clone());
    conditions::set(&mut status.conditions, "Complete", complete, generation, now);
    if let Some(wanted) = representative(&status.targets) {
        conditions::set(&mut status.conditions, "Representative", wanted, generation, now);
    }
    if with_data(&status.targets) > 0 {
        status.links = links(session);
    }
}

/// What is said of kinds that a newer version put into the spec: nothing is captured in their place.
fn unknown_kinds(session: &ProfileSession) -> &'static str {
    match session.spec.profiles.iter().all(|kind| kind.is_known()) {
        true => "",
        false => " Some of spec.profiles were skipped: this version does not know them.",
    }
}

fn conclusion(status: &ProfileSessionStatus) -> (Option<Reason>, String) {
    let (n, data) = (status.targets.len(), with_data(&status.targets));
    let first = status.targets.iter().find(|t| t.phase != TargetPhase::Succeeded);
    let why = first
        .map(|t| format!("{}: {}: {}", t.pod, t.reason.map_or("", Reason::as_str), t.message))
        .unwrap_or_default();
    match status.phase {
        Phase::Succeeded => {
            let top = status
                .top_functions
                .first()
                .map(|t| format!(" Hottest: {} ({} %).", t.name, t.self_percent))
                .unwrap_or_default();
            let early = early(&status.targets);
            let low = low_coverage(&status.targets).map(|low| format!(" {low}")).unwrap_or_default();
            (
                Some(Reason::Completed),
                format!("Captured {} samples from {data}/{n} targets.{top}{early}{low}", status.samples),
            )
        }
        Phase::PartiallySucceeded => {
            (Some(Reason::SomeTargetsFailed), format!("{data} of {n} targets returned data; {why}"))
        }
        Phase::Cancelled if status.cancel_time.is_none() => (Some(Reason::Yielded), why),
        Phase::Cancelled => {
            (Some(Reason::Cancelled), format!("Cancelled; {data} of {n} targets had returned data."))
        }
        Phase::Expired => {
            (Some(Reason::ResultDeadlineExceeded), format!("No result arrived by the result deadline; {why}"))
        }
        _ => (Some(failure(&status.targets)), format!("None of {n} targets returned data; {why}")),
    }
}

/// What is said of targets that were not captured for the whole duration.
fn early(targets: &[TargetStatus]) -> String {
    let of = |reason| targets.iter().filter(|t| t.reason == Some(reason)).count();
    let said = [
        (of(Reason::TargetExited), "target exited early", "targets exited early"),
        (of(Reason::Yielded), "target stopped for a user's session", "targets stopped for users' sessions"),
    ];
    let said = said.into_iter().filter(|(n, ..)| *n > 0);
    said.map(|(n, one, many)| format!(" {}.", counted(n, one, many))).collect()
}

/// Which profiles hold little of what their containers did; `None` where none does.
fn low_coverage(targets: &[TargetStatus]) -> Option<String> {
    let is_low = |t: &&TargetStatus| t.reason == Some(Reason::LowCoverage) && !t.profiles.is_empty();
    let low = || targets.iter().filter(is_low);
    let first = low().next()?;
    let share = first.coverage.map(|share| format!(" ({share} %)")).unwrap_or_default();
    Some(match low().count() {
        1 => format!("Coverage is low for {}{share}.", first.pod),
        n => format!("Coverage is low for {n} targets, {}{share} among them.", first.pod),
    })
}

/// Whether the profiles hold most of what their containers did; `None` where no agent can tell.
fn representative(targets: &[TargetStatus]) -> Option<Wanted> {
    let known = targets.iter().filter(|t| t.coverage.is_some() && !t.profiles.is_empty()).count();
    match low_coverage(targets) {
        Some(low) => Some(Wanted::new(Truth::False, Reason::LowCoverage, low)),
        None if known == 0 => None,
        None => {
            let message = "Every profile holds most of the CPU time that its container used.";
            Some(Wanted::new(Truth::True, Reason::Completed, message))
        }
    }
}

/// The reason of a session without data: the targets' own where they agree.
fn failure(targets: &[TargetStatus]) -> Reason {
    if targets.iter().all(|t| t.phase == TargetPhase::Skipped)
        && targets.iter().any(|t| t.reason == Some(Reason::AgentTooOld))
    {
        return Reason::NoCapableAgents;
    }
    match targets.first().and_then(|t| t.reason) {
        Some(reason) if targets.iter().all(|t| t.reason == Some(reason)) => reason,
        _ => Reason::AllTargetsFailed,
    }
}

/// The views that answer without a parameter: a comparison does where a session of another revision may precede.
fn links(session: &ProfileSession) -> Vec<Link> {
    let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
    let name = session.metadata.name.as_deref().unwrap_or_default();
    let base = format!(
        "/apis/{}/{}/namespaces/{namespace}/profilesessions/{name}",
        names::DATA_GROUP,
        names::VERSION
    );
    let is_of_rollout = session.metadata.labels.iter().flatten().any(|(key, _)| key == names::REVISION_LABEL);
    let views = names::VIEWS.iter().filter(|name| **name != "diff" || is_of_rollout);
    views.map(|n| Link { name: (*n).into(), url: format!("{base}/{n}") }).collect()
}

/// The hottest functions for the status.
pub fn set_top(status: &mut ProfileSessionStatus, mut top: Vec<TopFunction>) {
    top.truncate(names::MAX_TOP_FUNCTIONS);
    status.top_functions = top;
}
