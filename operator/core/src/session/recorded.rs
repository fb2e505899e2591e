//! Can the recorded status of a session be true? A leader continues from what the previous one wrote, but
//! whoever may write statuses could have written anything.

use std::collections::HashSet;

use fleetprof_crds::session_status::{Phase, ProfileSessionStatus, TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileSession, Reason, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{capture, choose, end_early, summary};
use crate::text::advised;
use crate::time::{after, before};

/// A time this much earlier than the session or later than now was not read from any clock.
const FAR: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

/// The status to go on with: as it is recorded, or `Failed` with the reason `Internal` where no leader can
/// have written it. The captures that are the session's own are kept, so that they are closed.
#[must_use]
pub fn take_over(session: &ProfileSession, now: Timestamp) -> ProfileSessionStatus {
    let mut status = session.status.clone().unwrap_or_default();
    let Some(problem) = problem(session, &mut status, now) else { return status };
    let message = advised(format!("The recorded status is not valid: {problem}"), Reason::Internal);
    let (first, last) = range(session, now);
    for time in times(&mut status).filter(|time| !(first..=last).contains(&time.0)) {
        *time = Time(now);
    }
    let mut seen = HashSet::new();
    status.targets.retain(|t| t.capture.is_empty() || (is_own(session, t) && seen.insert(t.capture.clone())));
    status.targets.truncate(names::MAX_TARGETS);
    for target in status.targets.iter_mut().filter(|t| !t.phase.is_terminal()) {
        capture::finish(target, TargetPhase::Failed, Reason::Internal, String::new(), now);
    }
    status.counts = summary::counts(&status.targets);
    end_early(session, &mut status, Phase::Failed, (Reason::Internal, message), now);
    status
}

/// Lets what lies in the future count as now, from here on: the clock that said so went back, or another
/// leader's was ahead. Gives back the latest of these times.
pub(super) fn no_later_than(status: &mut ProfileSessionStatus, now: Timestamp) -> Option<Timestamp> {
    // The next repeat is to come.
    let next = status.repeat.as_mut().and_then(|series| series.next_time.take());
    let ahead: Vec<&mut Time> = times(status).filter(|time| time.0 > now).collect();
    let latest = ahead.iter().map(|time| time.0).max();
    ahead.into_iter().for_each(|time| *time = Time(now));
    if let Some(series) = &mut status.repeat {
        series.next_time = next;
    }
    latest
}

/// Why no leader can have written the status, as a part of a sentence.
fn problem(session: &ProfileSession, status: &mut ProfileSessionStatus, now: Timestamp) -> Option<String> {
    let (first, last) = range(session, now);
    let targets = &status.targets;
    if targets.len() > names::MAX_TARGETS {
        return Some(format!(
            "it has {} targets, at most {} are possible",
            targets.len(),
            names::MAX_TARGETS
        ));
    }
    let captures = || targets.iter().enumerate().filter(|(_, t)| !t.capture.is_empty());
    if let Some((n, _)) = captures().find(|(_, target)| !is_own(session, target)) {
        return Some(format!(
            "status.targets[{n}].capture is not that of its pod and container in this session"
        ));
    }
    let mut seen = HashSet::new();
    if let Some((n, _)) = captures().find(|(_, target)| !seen.insert(&target.capture)) {
        return Some(format!("status.targets[{n}] repeats another target"));
    }
    let far = times(status).find(|time| !(first..=last).contains(&time.0))?.0;
    Some(format!("it holds the time {far}"))
}

/// The name is computed, never chosen: it carries the session, the pod and the container.
fn is_own(session: &ProfileSession, target: &TargetStatus) -> bool {
    target.capture == choose::capture(session, &target.pod_uid, &target.container)
}

/// The first and the last time that can be recorded.
fn range(session: &ProfileSession, now: Timestamp) -> (Timestamp, Timestamp) {
    let created = session.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0.min(now));
    (before(created, FAR), after(now, FAR))
}

/// All times of a status.
fn times(status: &mut ProfileSessionStatus) -> impl Iterator<Item = &mut Time> {
    let ProfileSessionStatus {
        start_time,
        running_time,
        capture_end_time,
        cancel_time,
        end_time,
        targets,
        repeat,
        conditions,
        ..
    } = status;
    let own = [start_time, running_time, capture_end_time, cancel_time, end_time].into_iter().flatten();
    let of_targets =
        targets.iter_mut().flat_map(|t| [&mut t.slot_time, &mut t.start_time, &mut t.end_time]).flatten();
    let of_repeats = repeat.iter_mut().flat_map(|series| {
        let rows = series.captures.iter_mut().map(|row| &mut row.created_time);
        [&mut series.next_time, &mut series.end_time].into_iter().flatten().chain(rows)
    });
    own.chain(of_targets).chain(of_repeats).chain(conditions.iter_mut().map(|c| &mut c.last_transition_time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-05-01T00:00:00Z";

    fn session(status: Value) -> ProfileSession {
        let meta = json!({"namespace": "shop", "name": "one", "uid": "u", "creationTimestamp": "2026-04-30T23:59:00Z"});
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": meta, "spec": {}, "status": status,
        }))
        .unwrap()
    }

    fn target(pod: &str, capture: Option<&str>) -> Value {
        let own = choose::capture(&session(json!({})), pod, "app");
        json!({"pod": pod, "podUid": pod, "container": "app", "phase": "Running", "capture": capture.unwrap_or(&own)})
    }

    #[test]
    fn a_status_that_no_leader_wrote_ends_its_session_and_says_why() {
        let now: Timestamp = NOW.parse().unwrap();
        let good = target("a", None);
        let foreign = target("b", Some("v-00000000"));
        let many: Vec<Value> = (0..51).map(|n| target(&format!("p{n}"), None)).collect();
        let late = "9999-12-30T21:59:59Z";
        let repeat = |at: &str| json!({"made": 1, "succeeded": 0, "failed": 0, "captures": [{"name": "x", "createdTime": at}]});
        // (status, a part of the message, captures that are kept)
        let cases = [
            (json!({"phase": "Running", "startTime": NOW, "targets": [good]}), None, 1),
            (
                json!({"phase": "Failed", "endTime": NOW, "targets": [{"pod": "gone", "phase": "Skipped"}]}),
                None,
                0,
            ),
            (json!({"phase": "Running", "startTime": "2027-05-01T00:00:00Z"}), None, 0),
            (json!({"phase": "Running", "targets": [good, foreign]}), Some("status.targets[1].capture"), 1),
            (json!({"phase": "Running", "targets": [good, good]}), Some("status.targets[1] repeats"), 1),
            (json!({"phase": "Running", "targets": many}), Some("it has 51 targets, at most 50"), 50),
            (json!({"phase": "Running", "startTime": late, "targets": [good]}), Some(late), 1),
            (json!({"phase": "Succeeded", "endTime": late}), Some(late), 0),
            (json!({"phase": "Succeeded", "endTime": NOW, "repeat": repeat(late)}), Some(late), 0),
            (json!({"phase": "Running", "startTime": "1970-01-01T00:00:00Z"}), Some("1970-01-01"), 0),
        ];
        for (status, wanted, kept) in cases {
            let before = session(status.clone());
            let taken = take_over(&before, now);
            let Some(words) = wanted else {
                assert_eq!(Some(&taken), before.status.as_ref(), "{status}");
                continue;
            };
            assert_eq!((taken.phase, taken.reason), (Phase::Failed, Some(Reason::Internal)), "{status}");
            assert!(
                taken.message.contains(words) && taken.message.contains("see the operator log"),
                "{}",
                taken.message
            );
            assert_eq!(taken.targets.iter().filter(|t| !t.capture.is_empty()).count(), kept, "{status}");
            assert!(taken.targets.iter().all(|t| t.phase.is_terminal()));
            let again = ProfileSession { status: Some(taken.clone()), ..before };
            assert_eq!(take_over(&again, now), taken, "what is written down is valid");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_over_is_taken_over_again(second in -377_705_023_201i64..=253_402_207_200, captures in prop::collection::vec("[a-z]{0,3}", 0..60)) {
            let time = Timestamp::from_second(second).unwrap();
            let targets: Vec<Value> = captures.iter().map(|c| target("a", Some(c))).collect();
            let mut before = session(json!({"phase": "Running", "targets": targets}));
            before.status.as_mut().unwrap().start_time = Some(Time(time));
            let now = NOW.parse().unwrap();
            let once = take_over(&before, now);
            let again = ProfileSession { status: Some(once.clone()), ..before };
            prop_assert_eq!(take_over(&again, now), once);
        }
    }
}
