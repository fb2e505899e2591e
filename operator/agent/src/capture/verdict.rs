//! How much of what the container did is in the profile, and if it is little, why? A pure function.

use fleetprof_crds::ProfileKind;
use serde::{Deserialize, Serialize};

use super::members::MAX_PROCESSES;
use super::protocol::{Failure, FailureReason};

/// A profile with less than this share of the CPU time, in %, is not taken for the whole.
const LOW_PERCENT: u64 = 50;
/// A container that used no more CPU time than this counts as idle, in nanoseconds.
const IDLE_NANOS: u64 = 50_000_000;
/// Periods of CPU time in which a sample is all but certain: without one in so many, something is wrong.
const CERTAIN_PERIODS: u64 = 5;

/// What is known at the end of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Samples in all slices.
    pub samples: u64,
    /// CPU time in all slices, in nanoseconds.
    pub profiled: u64,
    /// CPU time that the container used meanwhile, in nanoseconds; `None` where it cannot be known.
    pub used: Option<u64>,
    /// CPU time for each sample, in nanoseconds.
    pub period: u64,
    /// Turns that were taken.
    pub turns: u64,
    /// Turns that were due and not taken.
    pub missed: u64,
    /// Processes for which there was no room.
    pub left_out: usize,
    /// Processes that could not be captured.
    pub refused: usize,
    /// Why the first of them could not.
    pub obstacle: Option<Failure>,
    /// CPU time in the kernel that may not be sampled, in nanoseconds.
    pub unseen_kernel: u64,
    /// What a collector knows of CPU time that it cannot see, and what helps.
    pub advice: Option<String>,
}

/// What a capture is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The profile stands for the container; what it left out, where that is worth a sentence.
    Good(Option<String>),
    /// The profile holds little of what the container did.
    Low(String),
    /// The container did nothing.
    Idle,
    /// The container did something, and nothing of it was sampled.
    Missed(Failure),
}

/// What came of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfKind {
    /// The kind.
    pub kind: ProfileKind,
    /// Samples in its slices.
    pub samples: u64,
    /// Why it could not be captured of a process, or of all.
    pub failure: Option<Failure>,
    /// What to do where it has no samples, as a part of a sentence.
    pub advice: Option<String>,
}

/// The verdict on a capture without CPU, by its samples alone: no cgroup counts what other kinds count.
#[must_use]
pub fn judge_without_cpu(kinds: &[OfKind]) -> Verdict {
    if kinds.iter().any(|of| of.samples > 0) {
        return Verdict::Good(None);
    }
    let failure = kinds.iter().find_map(|of| of.failure.clone());
    failure.map_or(Verdict::Idle, Verdict::Missed)
}

/// What is said of a capture that went well: `note`, and why kinds have no samples where that is known.
#[must_use]
pub fn said_of_kinds(kinds: &[OfKind], note: Option<String>) -> Option<String> {
    let empty = || kinds.iter().filter(|of| of.samples == 0);
    let is_known = empty().any(|of| of.failure.is_some() || of.advice.is_some());
    if note.is_none() && !is_known {
        return None;
    }
    let why = |of: &OfKind| {
        let (kind, nothing) = (of.kind, of.kind.nothing());
        match (&of.failure, &of.advice) {
            (Some(failure), _) => format!("{kind} was not captured: {failure}."),
            (None, Some(advice)) => format!("No {kind} samples: the container {nothing}; {advice}."),
            (None, None) => format!("No {kind} samples: the container {nothing}."),
        }
    };
    let said: Vec<String> = note.into_iter().chain(empty().map(why)).collect();
    Some(said.join(" "))
}

/// The verdict on a capture that went to its end.
#[must_use]
pub fn judge(facts: &Facts) -> Verdict {
    let idle = IDLE_NANOS.max(facts.period.saturating_mul(CERTAIN_PERIODS));
    let was_busy = facts.used.is_some_and(|used| used > idle);
    match (facts.samples, &facts.obstacle) {
        (0, Some(obstacle)) if was_busy || facts.used.is_none() => Verdict::Missed(obstacle.clone()),
        (0, _) if was_busy => Verdict::Missed(Failure::new(FailureReason::LowCoverage, sentence(facts))),
        (0, _) => Verdict::Idle,
        _ if was_busy && share(facts) < LOW_PERCENT => Verdict::Low(sentence(facts)),
        _ => Verdict::Good(crowd(facts).map(|crowd| crowd + ".")),
    }
}

/// In %.
fn share(facts: &Facts) -> u64 {
    let used = facts.used.unwrap_or(0).max(1);
    facts.profiled.saturating_mul(100) / used
}

fn sentence(facts: &Facts) -> String {
    let (profiled, used) = (millis(facts.profiled), millis(facts.used.unwrap_or(0)));
    format!(
        "the profile holds {} % of the CPU time that the container used ({profiled} of {used} ms): {}",
        share(facts),
        causes(facts).join("; ")
    )
}

const fn millis(nanos: u64) -> u64 {
    nanos / 1_000_000
}

/// What is known to have cost coverage, the heaviest first.
fn causes(facts: &Facts) -> Vec<String> {
    let missing = facts.used.unwrap_or(0).saturating_sub(facts.profiled);
    let due = facts.turns + facts.missed;
    let starved = (facts.turns * 2 < due).then(|| {
        let turns = facts.turns;
        format!("the agent took {turns} of {due} turns, because it got too little CPU time")
    });
    let refused = facts
        .obstacle
        .as_ref()
        .map(|why| format!("{} could not be captured: {why}", processes(facts.refused.max(1))));
    let kernel = (facts.unseen_kernel > missing / 2).then(|| {
        let unseen = millis(facts.unseen_kernel);
        format!("{unseen} ms were spent in the kernel, which takes CAP_PERFMON to see")
    });
    let causes: Vec<String> = [starved, refused, crowd(facts), kernel].into_iter().flatten().collect();
    match (causes.is_empty(), &facts.advice) {
        (false, _) => causes,
        (true, Some(advice)) => vec![advice.clone()],
        (true, None) => {
            vec!["the rest was used by processes or threads that lived too short to be sampled".into()]
        }
    }
}

fn crowd(facts: &Facts) -> Option<String> {
    (facts.left_out > 0).then(|| {
        format!(
            "{} that used CPU time had to be left out: at most {MAX_PROCESSES} are captured at a time",
            processes(facts.left_out)
        )
    })
}

fn processes(n: usize) -> String {
    if n == 1 { "1 process".to_owned() } else { format!("{n} processes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn facts(samples: u64, profiled_ms: u64, used_ms: Option<u64>) -> Facts {
        let used = used_ms.map(|ms| ms * MS);
        Facts { samples, profiled: profiled_ms * MS, used, period: 10 * MS, turns: 990, ..Facts::default() }
    }

    fn refused() -> Option<Failure> {
        Some(Failure::new(FailureReason::PermissionDenied, "another user"))
    }

    #[test]
    fn idleness_is_said_only_where_the_cgroup_agrees() {
        let at_1_hz = |used_ms| Facts { period: 1000 * MS, ..facts(0, 0, Some(used_ms)) };
        let missed = |facts: &Facts| match judge(facts) {
            Verdict::Missed(failure) => Some(failure.reason),
            Verdict::Idle => None,
            other => panic!("{other:?}"),
        };
        use FailureReason::{LowCoverage, PermissionDenied};
        let cases = [
            ("the cgroup counted nothing", facts(0, 0, Some(0)), None),
            ("the cgroup counted nearly nothing", facts(0, 0, Some(50)), None),
            ("less than a few periods", at_1_hz(4000), None),
            ("more than a few periods", at_1_hz(6000), Some(LowCoverage)),
            ("nobody knows", facts(0, 0, None), None),
            ("the cgroup counted much", facts(0, 0, Some(5700)), Some(LowCoverage)),
            (
                "a process may not be looked at",
                Facts { obstacle: refused(), ..facts(0, 0, Some(5700)) },
                Some(PermissionDenied),
            ),
            (
                "nobody knows, and a process may not be looked at",
                Facts { obstacle: refused(), ..facts(0, 0, None) },
                Some(PermissionDenied),
            ),
            (
                "an idle container of another user",
                Facts { obstacle: refused(), ..facts(0, 0, Some(3)) },
                None,
            ),
        ];
        for (what, facts, wanted) in cases {
            assert_eq!(missed(&facts), wanted, "{what}");
        }
    }

    #[test]
    fn little_of_the_cpu_time_is_said_with_its_cause() {
        let base = || facts(11, 1100, Some(5700));
        let cases = [
            (Facts { turns: 11, missed: 979, ..base() }, "took 11 of 990 turns, because"),
            (
                Facts { refused: 3, obstacle: refused(), ..base() },
                "3 processes could not be captured: another",
            ),
            (Facts { left_out: 1, ..base() }, "1 process that used CPU time had to be left out: at most 16"),
            (Facts { unseen_kernel: 4000 * MS, ..base() }, "4000 ms were spent in the kernel"),
            (Facts { advice: Some("use Java 25".into()), ..base() }, "(1100 of 5700 ms): use Java 25"),
            (base(), "lived too short"),
        ];
        for (facts, wanted) in cases {
            let Verdict::Low(message) = judge(&facts) else { panic!("{facts:?}") };
            assert!(message.contains("19 %") && message.contains("(1100 of 5700 ms)"), "{message}");
            assert!(message.contains(wanted), "{message}");
        }
    }

    fn of(kind: ProfileKind, samples: u64) -> OfKind {
        OfKind { kind, samples, failure: None, advice: None }
    }

    #[test]
    fn a_capture_without_cpu_is_judged_by_its_samples() {
        use ProfileKind::{Heap, Lock};
        let failed = OfKind { failure: refused(), ..of(Heap, 0) };
        assert_eq!(judge_without_cpu(&[of(Heap, 0), of(Lock, 7)]), Verdict::Good(None));
        assert_eq!(judge_without_cpu(&[of(Heap, 0), of(Lock, 0)]), Verdict::Idle);
        let Verdict::Missed(failure) = judge_without_cpu(&[of(Lock, 0), failed.clone()]) else { panic!() };
        assert_eq!(failure.reason, FailureReason::PermissionDenied);
        assert_eq!(judge_without_cpu(&[of(Lock, 1), failed]), Verdict::Good(None));
    }

    #[test]
    fn why_a_kind_has_no_samples_is_said_once_there_is_something_to_say() {
        use ProfileKind::{Cpu, Heap, Lock};
        let failed = || OfKind { failure: refused(), ..of(Heap, 0) };
        let advised = || OfKind { advice: Some("call it".into()), ..of(Lock, 0) };
        let cases: [(Vec<OfKind>, Option<&str>, Option<&str>); 6] = [
            (vec![of(Cpu, 5)], None, None),
            (vec![of(Cpu, 5), of(Lock, 0)], None, None),
            (vec![of(Cpu, 5), OfKind { samples: 3, ..advised() }], None, None),
            (vec![of(Cpu, 5), failed()], None, Some("heap was not captured: another user.")),
            (
                vec![of(Cpu, 5), advised()],
                None,
                Some("No lock samples: the container waited for no lock; call it."),
            ),
            (
                vec![of(Cpu, 5), of(Heap, 0)],
                Some("Crowd."),
                Some("Crowd. No heap samples: the container held no memory."),
            ),
        ];
        for (kinds, note, wanted) in cases {
            assert_eq!(said_of_kinds(&kinds, note.map(str::to_owned)).as_deref(), wanted, "{kinds:?}");
        }
    }

    #[test]
    fn a_profile_of_most_of_the_time_is_good_and_says_what_it_left_out() {
        assert_eq!(judge(&facts(990, 2850, Some(5700))), Verdict::Good(None));
        assert_eq!(judge(&facts(990, 2850, None)), Verdict::Good(None));
        assert_eq!(judge(&facts(1, 10, Some(45))), Verdict::Good(None), "a share of nearly nothing");
        let crowd = Facts { left_out: 4, ..facts(990, 5000, Some(5700)) };
        let Verdict::Good(Some(note)) = judge(&crowd) else { panic!() };
        assert!(note.starts_with("4 processes that used CPU time had to be left out"), "{note}");
    }
}
