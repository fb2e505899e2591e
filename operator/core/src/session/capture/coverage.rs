//! How much of the container's CPU time is in the profile, and if it is little, why?

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{CaptureReport, CaptureState, Problem};

/// A profile with less than this share of the container's CPU time, in %, says so.
pub const LOW: i32 = 50;
/// A container that used no more CPU time than this during a capture counts as idle, in milliseconds: a
/// profile of so little says nothing.
const IDLE_MS: i64 = 50;

/// CPU time in the profile in % of what the container used, 0 to 100. `None` where the agent cannot tell, as
/// agents of earlier versions, and where the container used none.
#[must_use]
pub fn percent(report: &CaptureReport) -> Option<i32> {
    let (profiled, used) = (report.profiled_ms?, report.used_ms.filter(|used| *used > 0)?);
    let share = profiled.max(0).saturating_mul(100) / used;
    Some(i32::try_from(share.min(100)).unwrap_or(100))
}

/// What a report says beside the profile: the agent's own problem; low coverage, where the agent did not say
/// so itself; nothing.
#[must_use]
pub fn problem(report: &CaptureReport) -> Option<Problem> {
    let good = matches!(report.state, CaptureState::Uploading | CaptureState::Finished);
    match &report.problem {
        // An idle target is an answer that only its cgroup can give.
        Some(problem) if problem.reason == Reason::NoSamples && was_busy(report) => Some(missed(report)),
        Some(problem) => Some(problem.clone()),
        None if good && was_busy(report) && percent(report).is_some_and(|share| share < LOW) => {
            Some(missed(report))
        }
        None => None,
    }
}

fn was_busy(report: &CaptureReport) -> bool {
    report.used_ms.is_some_and(|used| used > IDLE_MS)
}

fn missed(report: &CaptureReport) -> Problem {
    let (profiled, used) = (report.profiled_ms.unwrap_or(0), report.used_ms.unwrap_or(0));
    let message =
        format!("The profile holds {profiled} ms of the {used} ms of CPU time that the container used.");
    Problem { reason: Reason::LowCoverage, message }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(
        state: &str,
        profiled: Option<i64>,
        used: Option<i64>,
        problem: Option<Reason>,
    ) -> CaptureReport {
        let problem = problem.map(|reason| json!({"reason": reason, "message": "Because."}));
        let mut report = json!({"capture": "c", "state": state, "profiledMs": profiled, "usedMs": used});
        if let (Some(problem), Some(fields)) = (problem, report.as_object_mut()) {
            fields.insert("problem".into(), problem);
        }
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn coverage_is_a_share_or_unknown() {
        let cases = [
            (None, None, None),
            (Some(100), None, None),
            (None, Some(100), None),
            (Some(0), Some(0), None),
            (Some(0), Some(900), Some(0)),
            (Some(450), Some(900), Some(50)),
            (Some(449), Some(900), Some(49)),
            (Some(901), Some(900), Some(100)),
            (Some(-5), Some(900), Some(0)),
            (Some(i64::MAX), Some(1), Some(100)),
            (Some(i64::MAX), Some(-1), None),
        ];
        for (profiled, used, wanted) in cases {
            assert_eq!(
                percent(&report("Finished", profiled, used, None)),
                wanted,
                "{profiled:?} of {used:?}"
            );
        }
    }

    #[test]
    fn little_of_a_busy_container_is_low_coverage_and_nothing_of_it_is_never_idleness() {
        use Reason::{LowCoverage, NoSamples, PermissionDenied, TargetExited};
        let cases = [
            ("all of it", "Finished", Some(990), Some(1000), None, None),
            ("a part of it", "Finished", Some(400), Some(1000), None, Some(LowCoverage)),
            ("a part of it, on its way", "Uploading", Some(400), Some(1000), None, Some(LowCoverage)),
            ("still captured", "Running", Some(0), Some(1000), None, None),
            ("an agent that cannot tell", "Finished", None, None, None, None),
            ("a part of nearly nothing", "Finished", Some(10), Some(40), None, None),
            ("an idle container", "Finished", Some(0), Some(40), Some(NoSamples), Some(NoSamples)),
            ("idle, says an old agent", "Finished", None, None, Some(NoSamples), Some(NoSamples)),
            ("idle? busy", "Finished", Some(0), Some(5700), Some(NoSamples), Some(LowCoverage)),
            ("the agent knows why", "Finished", Some(0), Some(900), Some(TargetExited), Some(TargetExited)),
            ("refused", "Failed", Some(0), Some(900), Some(PermissionDenied), Some(PermissionDenied)),
        ];
        for (what, state, profiled, used, said, wanted) in cases {
            let problem = problem(&report(state, profiled, used, said));
            assert_eq!(problem.map(|p| p.reason), wanted, "{what}");
        }
    }
}
