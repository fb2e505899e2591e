//! What follows from an agent's report of a capture, or from the lack of one?

use fleetprof_crds::Reason;
use fleetprof_crds::session_status::{TargetPhase, TargetStatus};
use fleetprof_crds::wire::{CaptureReport, CaptureState, Problem};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::act::complete;
use super::coverage;
use super::prepare::unstarted;
use super::{CANCEL_GRACE, Context, GRACE, explain, finish, gives_way};
use crate::capture::rate;
use crate::pod::AgentContainerState;
use crate::text::{advised, capital};
use crate::time::after;

/// After an order is out: what does the capture's report say, and is anybody still there?
pub(super) fn follow(target: &mut TargetStatus, context: &Context) {
    let now = context.observed.now;
    if let Some(to) = context.yields_to(target).filter(|_| target.phase != TargetPhase::Uploading) {
        explain(target, Reason::Yielded, gives_way(to));
    }
    let facts = context.observed.captures.get(&target.capture);
    if let Some(report) = facts.and_then(|f| f.report.as_ref()) {
        copy_report(target, report, now);
    }
    if target.phase != TargetPhase::Uploading
        && let Some((reason, message)) = silence(target, context)
    {
        target.end_time = Some(Time(now));
        target.phase = TargetPhase::Uploading;
        explain(target, reason, message);
    }
    if target.phase == TargetPhase::Uploading && !complete(target, context) {
        tell_storage(target, context.observed.no_room.as_ref());
    }
}

/// Says that slices wait for a full volume, and takes it back when they no longer do.
fn tell_storage(target: &mut TargetStatus, no_room: Option<&Problem>) {
    let told = matches!(target.reason, Some(Reason::StorageFull | Reason::NamespaceStorageFull));
    let is_news = |reason: Reason, problem: &Problem| {
        reason != problem.reason && (told || matches!(reason, Reason::Uploading | Reason::Capturing))
    };
    match (target.reason, no_room) {
        (Some(reason), Some(problem)) if is_news(reason, problem) => {
            let cause = capital(&problem.message);
            let message = advised(format!("{cause}; the agent keeps its data"), problem.reason);
            explain(target, problem.reason, message);
        }
        (_, None) if told => explain(target, Reason::Uploading, String::new()),
        _ => {}
    }
}

/// Copies what the agent reports. A final report without slices ends the target; with slices they are
/// assembled first.
fn copy_report(target: &mut TargetStatus, report: &CaptureReport, now: Timestamp) {
    let was = target.phase;
    target.runtime = report.runtime.clone().or_else(|| target.runtime.take());
    target.collector = report.collector.clone().or_else(|| target.collector.take());
    target.samples = report.samples;
    let processes = report.processes.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    target.processes = processes.or(target.processes);
    target.coverage = coverage::percent(report).or(target.coverage);
    target.cpu_percent = report.cpu_percent.or(target.cpu_percent);
    target.memory_percent = report.memory_percent.or(target.memory_percent);
    target.throttled_percent = report.throttled_percent.or(target.throttled_percent);
    let time =
        |seconds: Option<i64>| seconds.and_then(|s| Timestamp::from_second(s).ok()).map(|t| Time(t.min(now)));
    target.start_time = target.start_time.clone().or_else(|| time(report.started_at));
    target.end_time = target.end_time.clone().or_else(|| time(report.ended_at));
    match report.state {
        CaptureState::Accepted | CaptureState::Unknown => {}
        CaptureState::Running if was == TargetPhase::Ordered => {
            target.phase = TargetPhase::Running;
            target.start_time = target.start_time.clone().or(Some(Time(now)));
            if target.reason != Some(Reason::Yielded) {
                explain(target, Reason::Capturing, String::new());
            }
        }
        CaptureState::Running => {}
        CaptureState::Uploading
        | CaptureState::Finished
        | CaptureState::Failed
        | CaptureState::Cancelled
        | CaptureState::Skipped => {
            target.end_time = target.end_time.clone().or(Some(Time(now)));
            end_of_capture(target, report, now);
        }
    }
}

fn end_of_capture(target: &mut TargetStatus, report: &CaptureReport, now: Timestamp) {
    let problem = problem(target, report);
    if report.state.is_final() && report.uploaded == 0 {
        let (phase, fallback) = match report.state {
            CaptureState::Skipped => (TargetPhase::Skipped, Reason::Internal),
            CaptureState::Cancelled if is_yielded(&problem) => (TargetPhase::Skipped, Reason::Yielded),
            CaptureState::Cancelled => (TargetPhase::Cancelled, Reason::Cancelled),
            CaptureState::Failed => (TargetPhase::Failed, Reason::Internal),
            _ => (TargetPhase::Failed, Reason::NoSamples),
        };
        let Problem { reason, message } =
            problem.unwrap_or(Problem { reason: fallback, message: String::new() });
        return finish(target, phase, reason, message, now);
    }
    target.phase = TargetPhase::Uploading;
    match problem {
        Some(Problem { reason, message }) => explain(target, reason, message),
        None if report.state == CaptureState::Cancelled => explain(target, Reason::Cancelled, String::new()),
        None if matches!(
            target.reason,
            None | Some(Reason::Capturing | Reason::WaitingForAgent | Reason::Yielded)
        ) =>
        {
            explain(target, Reason::Uploading, report.note.clone().unwrap_or_default())
        }
        None => {}
    }
}

/// The problem of a capture that has ended. That of one which was stopped because it yields is why it did;
/// one that ended for another reason before it could be stopped has that reason.
fn problem(target: &TargetStatus, report: &CaptureReport) -> Option<Problem> {
    let stopped = report.state == CaptureState::Cancelled
        || report.problem.as_ref().is_some_and(|problem| problem.reason == Reason::Cancelled);
    if stopped && target.reason == Some(Reason::Yielded) {
        return Some(Problem { reason: Reason::Yielded, message: target.message.clone() });
    }
    coverage::problem(report)
}

fn is_yielded(problem: &Option<Problem>) -> bool {
    problem.as_ref().is_some_and(|problem| problem.reason == Reason::Yielded)
}

/// Why nothing more is to be expected from the agent of an ordered or running target, if so.
fn silence(target: &TargetStatus, context: &Context) -> Option<(Reason, String)> {
    let now = context.observed.now;
    let Some(pod) = context.pod(target) else {
        return Some((Reason::PodGone, "The pod was deleted during the session.".into()));
    };
    if let Some(at) = context.cancelled_at
        && now > after(at, CANCEL_GRACE)
    {
        return Some((Reason::Cancelled, "The agent did not confirm the cancellation.".into()));
    }
    if !context.observed.settled {
        return None;
    }
    if target.phase == TargetPhase::Ordered {
        return unstarted(target, pod, context);
    }
    let ours = pod.attached.iter().find(|a| a.name == target.attached_as);
    let attached_gone = ours.is_some_and(|a| matches!(a.state, AgentContainerState::Ended(_)));
    if attached_gone && !context.has_agent(target) {
        return Some((
            Reason::AgentGone,
            advised("The attached agent exited during the capture", Reason::AgentGone),
        ));
    }
    let length = SignedDuration::from_secs(rate(context.session, target).seconds.into());
    let end = target.start_time.as_ref().map(|t| after(t.0, length.saturating_add(GRACE)));
    if end.is_some_and(|end| now > end) {
        return Some((
            Reason::CaptureTimedOut,
            advised(
                format!("The agent did not finish the capture within {GRACE:#} after its scheduled end"),
                Reason::CaptureTimedOut,
            ),
        ));
    }
    None
}
