//! How did a capture end, seen from its worker's last words and its death? A pure function.

use fleetprof_crds::wire::CaptureState;
use fleetprof_crds::{ProfileKind, Reason};

use super::captures::{Stop, problem};
use super::spool::Outcome;
use crate::capture::protocol::{Event, Failed, FailureReason, Finished};

/// What is known when a worker is gone.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// What was captured.
    pub profiles: Vec<ProfileKind>,
    /// Its last event, where that was `finished` or `failed`.
    pub last: Option<Event>,
    /// Why it was asked to stop.
    pub stop: Option<Stop>,
    /// It did not end by itself and was killed.
    pub killed: bool,
    /// It had the whole duration and its own grace.
    pub overdue: bool,
    /// How it ended, such as `exit status: 2`.
    pub status: String,
}

/// The outcome of a capture. A stop wins over everything but a worker that was done already: what a worker
/// says after a stop follows from it.
#[must_use]
pub fn outcome(ending: &Ending) -> Outcome {
    match &ending.last {
        Some(Event::Finished(finished)) if !finished.stopped => after(finished, &ending.profiles),
        last => ending.stop.map_or_else(|| unasked(ending, last.as_ref()), stopped),
    }
}

fn unasked(ending: &Ending, last: Option<&Event>) -> Outcome {
    match last {
        Some(Event::Finished(finished)) => after(finished, &ending.profiles),
        Some(Event::Failed(failed)) => failure(failed),
        _ if ending.killed || ending.overdue => failed(
            Reason::CaptureTimedOut,
            "the collector did not finish in time and was killed; the target is unaffected",
        ),
        _ => {
            let status = &ending.status;
            failed(
                Reason::CollectorCrashed,
                format!("the collector exited without a result ({status}); the target is unaffected"),
            )
        }
    }
}

/// The outcome of a capture that was stopped before its worker ran.
#[must_use]
pub fn before_its_start(stop: Option<Stop>) -> Outcome {
    match stop {
        Some(Stop::Cancelled) => {
            with(CaptureState::Cancelled, Reason::Cancelled, "cancelled before it started")
        }
        Some(Stop::Shutdown) | None => {
            failed(Reason::AgentGone, "the agent was shut down before the capture started")
        }
    }
}

fn stopped(stop: Stop) -> Outcome {
    match stop {
        Stop::Cancelled => with(
            CaptureState::Cancelled,
            Reason::Cancelled,
            "stopped on request; data captured before that is kept",
        ),
        Stop::Shutdown => failed(
            Reason::AgentGone,
            "the agent was shut down during the capture; data captured before that is uploaded",
        ),
    }
}

fn after(finished: &Finished, profiles: &[ProfileKind]) -> Outcome {
    if finished.stopped {
        return failed(
            Reason::AgentGone,
            "the collector was stopped by a signal; data captured before that is uploaded",
        );
    }
    if let Some(low) = &finished.low {
        let exited = if finished.target_exited { "; the target exited during the capture" } else { "" };
        return with(CaptureState::Finished, Reason::LowCoverage, format!("{low}{exited}"));
    }
    match (finished.samples > 0, finished.target_exited) {
        (true, false) => Outcome { state: CaptureState::Finished, problem: None },
        (true, true) => with(
            CaptureState::Finished,
            Reason::TargetExited,
            "the target ended during the capture; data captured before that is kept",
        ),
        (false, true) => failed(Reason::TargetExited, "the target exited before anything was captured"),
        (false, false) => {
            let nothing: Vec<&str> = profiles.iter().map(|kind| kind.nothing()).collect();
            let message = format!("the target {} during the capture", nothing.join(" and "));
            with(CaptureState::Finished, Reason::NoSamples, message)
        }
    }
}

fn failure(event: &Failed) -> Outcome {
    match event.reason {
        // The capture went as ordered; there was nothing to see.
        FailureReason::NoSamples => with(CaptureState::Finished, Reason::NoSamples, &event.message),
        reason => failed(reason.as_reason(), &event.message),
    }
}

fn failed(reason: Reason, message: impl std::fmt::Display) -> Outcome {
    with(CaptureState::Failed, reason, message)
}

fn with(state: CaptureState, reason: Reason, message: impl std::fmt::Display) -> Outcome {
    Outcome { state, problem: Some(problem(reason, message)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(samples: u64, stopped: bool, target_exited: bool) -> Option<Event> {
        Some(Event::Finished(Finished { samples, stopped, target_exited, ..Finished::default() }))
    }

    fn failure(reason: FailureReason) -> Option<Event> {
        Some(Event::Failed(Failed { reason, message: "because".into(), samples: 0, slices: 0, cover: None }))
    }

    #[test]
    fn an_empty_capture_says_what_the_target_did_not_do() {
        use ProfileKind::{Alloc, Cpu};
        let cases =
            [(vec![Cpu], "the target used no CPU"), (vec![Cpu, Alloc], "used no CPU and allocated nothing")];
        for (profiles, wanted) in cases {
            let ending = Ending { profiles, last: finished(0, false, false), ..Ending::default() };
            let message = outcome(&ending).problem.unwrap().message;
            assert!(message.contains(wanted), "{message}");
        }
    }

    type Case = (&'static str, Ending, CaptureState, Option<Reason>);

    fn plain(last: Option<Event>) -> Ending {
        Ending { last, status: "exit status: 2".into(), ..Ending::default() }
    }

    fn stop(last: Option<Event>, stop: Stop) -> Ending {
        Ending { stop: Some(stop), ..plain(last) }
    }

    fn check(cases: impl IntoIterator<Item = Case>) {
        for (what, ending, state, reason) in cases {
            let outcome = outcome(&ending);
            assert_eq!((outcome.state, outcome.problem.map(|p| p.reason)), (state, reason), "{what}");
        }
    }

    #[test]
    fn every_end_of_a_capture_has_its_outcome() {
        use CaptureState as S;
        let little = Finished { samples: 5, low: Some("19 %".into()), ..Finished::default() };
        let exited = Some(Reason::TargetExited);
        check([
            ("samples", plain(finished(5, false, false)), S::Finished, None),
            ("the target ended with samples", plain(finished(5, false, true)), S::Finished, exited),
            ("the target ended without", plain(finished(0, false, true)), S::Failed, exited),
            ("no samples", plain(finished(0, false, false)), S::Finished, Some(Reason::NoSamples)),
            ("little of it", plain(Some(Event::Finished(little))), S::Finished, Some(Reason::LowCoverage)),
        ]);
    }

    #[test]
    fn every_failure_of_a_worker_has_its_outcome() {
        use CaptureState as S;
        let of = |reason| plain(failure(reason));
        let timed_out = Some(Reason::CaptureTimedOut);
        let cases = [
            ("it says no samples", of(FailureReason::NoSamples), S::Finished, Some(Reason::NoSamples)),
            (
                "nothing of a busy container",
                of(FailureReason::LowCoverage),
                S::Failed,
                Some(Reason::LowCoverage),
            ),
            ("no such process", of(FailureReason::NoSuchProcess), S::Failed, Some(Reason::TargetExited)),
            ("refused", of(FailureReason::PermissionDenied), S::Failed, Some(Reason::PermissionDenied)),
            ("a crash", plain(None), S::Failed, Some(Reason::CollectorCrashed)),
            ("killed", Ending { killed: true, ..plain(None) }, S::Failed, timed_out),
            ("its own watchdog", Ending { overdue: true, ..plain(None) }, S::Failed, timed_out),
        ];
        check(cases);
    }

    #[test]
    fn every_stop_has_its_outcome() {
        use CaptureState as S;
        let (gone, cancelled) = (Some(Reason::AgentGone), Some(Reason::Cancelled));
        let stopped = || finished(5, true, false);
        check([
            ("stopped from outside", plain(stopped()), S::Failed, gone),
            ("cancelled", stop(stopped(), Stop::Cancelled), S::Cancelled, cancelled),
            ("cancelled too late", stop(finished(5, false, false), Stop::Cancelled), S::Finished, None),
            ("cancelled, then crashed", stop(None, Stop::Cancelled), S::Cancelled, cancelled),
            ("the agent ends", stop(stopped(), Stop::Shutdown), S::Failed, gone),
        ]);
    }
}
