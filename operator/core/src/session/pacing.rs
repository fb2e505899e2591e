//! When is the status of a session written? At once when something happens that a person waits for, otherwise
//! at intervals, so that a session of 50 targets needs only a handful of writes.

use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, Reason};
use jiff::{SignedDuration, Timestamp};

/// Least time between two writes that do not change the phase.
const PACE: SignedDuration = SignedDuration::from_secs(1);
/// Phases between the capture and the end last milliseconds when all is well; they are written when they last
/// longer.
const BRIEF: SignedDuration = SignedDuration::from_secs(1);
/// Minimum time between two writes that only report progress, such as samples; longer sessions: half their
/// duration.
const PROGRESS: SignedDuration = SignedDuration::from_secs(10);

/// When to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Now.
    Now,
    /// After so long, unless there is more to tell then.
    In(SignedDuration),
    /// Nothing has changed.
    Never,
}

/// When `new` is to be written, `age` after `written` was.
#[must_use]
pub fn due(
    session: &ProfileSession,
    written: &ProfileSessionStatus,
    new: &ProfileSessionStatus,
    age: SignedDuration,
    now: Timestamp,
) -> Due {
    let age = counted(age);
    let after = |pace: SignedDuration, age: SignedDuration| {
        if age >= pace { Due::Now } else { Due::In(pace.saturating_sub(age)) }
    };
    let brief = matches!(new.phase, Phase::Uploading | Phase::Processing);
    match () {
        () if written == new => Due::Never,
        () if new.phase.is_terminal() => Due::Now,
        () if written.phase != new.phase && brief => {
            after(BRIEF, new.capture_end_time.as_ref().map_or(BRIEF, |ended| now.duration_since(ended.0)))
        }
        () if written.phase != new.phase => Due::Now,
        () if told(written) != told(new) => after(PACE, age),
        () => after(PROGRESS.max(half(session.spec.duration)), age),
    }
}

/// How long is left until places that were granted are written down, `age` after the last write of a session
/// that was in `phase` then; `None` where it is due. Who waits for the first target does not wait for this.
#[must_use]
pub fn until_record(phase: Phase, age: SignedDuration) -> Option<SignedDuration> {
    let left = PACE.saturating_sub(counted(age));
    (phase != Phase::Pending && left.is_positive()).then_some(left)
}

/// A write that lies in the future is long ago: the clock went back since.
fn counted(age: SignedDuration) -> SignedDuration {
    if age.is_negative() { SignedDuration::MAX } else { age }
}

fn half(duration: fleetprof_crds::Duration) -> SignedDuration {
    SignedDuration::from_secs(i64::from(duration.as_secs()) / 2)
}

/// What somebody may be waiting to read.
fn told(status: &ProfileSessionStatus) -> impl PartialEq {
    let conditions: Vec<_> =
        status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect();
    // While it waits, the message says for what.
    let waits = (status.phase == Phase::Pending).then(|| status.message.clone());
    let yielded = status.targets.iter().filter(|t| t.reason == Some(Reason::Yielded)).count();
    (status.reason, status.cancel_time.is_some(), status.repeat.clone(), waits, conditions, yielded)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;

    const fn seconds(n: i64) -> SignedDuration {
        SignedDuration::from_secs(n)
    }

    #[test]
    fn places_are_written_down_once_a_second_but_the_first_at_once() {
        let left = |phase, millis| {
            until_record(phase, SignedDuration::from_millis(millis)).map(|left| left.as_millis())
        };
        let running = |millis| left(Phase::Running, millis);
        assert_eq!(
            [running(0), running(300), running(1000), running(90_000)],
            [Some(1000), Some(700), None, None]
        );
        assert_eq!(
            (left(Phase::Pending, 0), until_record(Phase::Running, SignedDuration::MAX)),
            (None, None)
        );
    }

    #[test]
    fn what_a_person_waits_for_is_written_at_once_and_progress_now_and_then() {
        let session: ProfileSession = serde_json::from_value(
            json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": {"name": "s"}, "spec": {"duration": "2m"}}),
        )
        .unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let of = |phase, reason, samples| ProfileSessionStatus {
            phase,
            reason: Some(reason),
            samples,
            ..ProfileSessionStatus::default()
        };
        let running = of(Phase::Running, Reason::Capturing, 5);
        let uploading = |ago: i64| ProfileSessionStatus {
            capture_end_time: Some(Time(now - seconds(ago))),
            ..of(Phase::Uploading, Reason::Uploading, 5)
        };
        let waiting = |message: &str| ProfileSessionStatus {
            message: message.into(),
            ..of(Phase::Pending, Reason::WaitingForLoad, 0)
        };
        let starting = of(Phase::Starting, Reason::WaitingForAgent, 0);
        let cases = [
            ("nothing new", &running, running.clone(), 99, Due::Never),
            ("the end", &running, of(Phase::Succeeded, Reason::Completed, 5), 0, Due::Now),
            ("a new phase", &starting, running.clone(), 0, Due::Now),
            ("uploading since a moment", &running, uploading(0), 60, Due::In(seconds(1))),
            ("uploading since a while", &running, uploading(1), 60, Due::Now),
            ("samples", &running, of(Phase::Running, Reason::Capturing, 99), 20, Due::In(seconds(40))),
            ("samples after a while", &running, of(Phase::Running, Reason::Capturing, 99), 60, Due::Now),
            ("another reason", &running, of(Phase::Running, Reason::StorageFull, 5), 0, Due::In(seconds(1))),
            ("another reason later", &running, of(Phase::Running, Reason::StorageFull, 5), 1, Due::Now),
            ("what it waits for", &waiting("no Job"), waiting("no pod"), 0, Due::In(seconds(1))),
            ("what it waits for, later", &waiting("no Job"), waiting("no pod"), 1, Due::Now),
        ];
        for (what, written, new, age, wanted) in cases {
            assert_eq!(due(&session, written, &new, seconds(age), now), wanted, "{what}");
        }
    }
}
