//! A status that says anything, at any time: what a bug, a clock or a person may have written. A step of it
//! never breaks, and what it leads to is written in times that a status can hold.

use fleetprof_core::session::{JobFacts, newer};
use fleetprof_crds::load::{FollowUp, RepeatStatus};
use fleetprof_crds::session_status::{Phase, StoredProfile, TargetPhase, TargetStatus};
use fleetprof_crds::wire::CaptureState;
use fleetprof_crds::{ProfileKind, ProfileSessionStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;

use crate::world::{World, one_pod, pod};

/// Any time that there is, the first and the last ones among them.
fn instant() -> impl Strategy<Value = Timestamp> {
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let near = 1_800_000_000i64;
    prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        (first..first + 100).prop_map(second),
        (last - 100..=last).prop_map(second),
        (near - 100_000..near + 100_000).prop_map(second),
        (first..=last).prop_map(second),
    ]
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn time() -> impl Strategy<Value = Option<Time>> {
    prop::option::of(instant().prop_map(Time))
}

fn phase() -> impl Strategy<Value = Phase> {
    use Phase as P;
    prop::sample::select(vec![
        P::Pending,
        P::Starting,
        P::Running,
        P::Uploading,
        P::Processing,
        P::Succeeded,
        P::Failed,
        P::Cancelled,
        P::Expired,
        P::Unknown,
    ])
}

fn reason() -> impl Strategy<Value = Option<Reason>> {
    use Reason as R;
    prop::option::of(prop::sample::select(vec![
        R::WaitingForLoad,
        R::NodeBusy,
        R::Capturing,
        R::StorageFull,
        R::Cancelled,
        R::Repeating,
        R::CaptureTimedOut,
    ]))
}

fn target() -> impl Strategy<Value = TargetStatus> {
    use TargetPhase as P;
    let phases = prop::sample::select(vec![
        P::Pending,
        P::Attaching,
        P::Ordered,
        P::Running,
        P::Uploading,
        P::Succeeded,
        P::Failed,
        P::Skipped,
        P::Cancelled,
        P::Unknown,
    ]);
    let name = prop::sample::select(vec!["a", "b", "gone"]);
    let capture = prop::sample::select(vec!["", "s-1-x", "other"]);
    (phases, name, capture, reason(), time(), time(), any::<i64>(), prop::option::of(any::<i64>())).prop_map(
        |(phase, pod, capture, reason, start_time, end_time, samples, stored)| TargetStatus {
            pod: pod.into(),
            pod_uid: format!("uid-{pod}"),
            container: "app".into(),
            capture: capture.into(),
            phase,
            reason,
            slot_time: end_time.clone(),
            start_time,
            end_time,
            samples,
            cpu_percent: Some(i32::MAX),
            memory_percent: Some(i32::MIN),
            profiles: stored
                .map(|n| StoredProfile {
                    kind: ProfileKind::Cpu,
                    uri: "x".into(),
                    bytes: n,
                    samples: n,
                    destinations: vec![],
                    failed: vec![],
                })
                .into_iter()
                .collect(),
            ..TargetStatus::default()
        },
    )
}

fn series() -> impl Strategy<Value = RepeatStatus> {
    let row = (phase(), reason(), instant(), any::<i64>()).prop_map(|(phase, reason, at, samples)| {
        FollowUp { name: "now-2".into(), created_time: Time(at), phase, reason, samples }
    });
    (prop::collection::vec(row, 0..3), any::<i32>(), reason(), time(), time()).prop_map(
        |(captures, made, reason, next_time, end_time)| RepeatStatus {
            made,
            succeeded: made,
            failed: made,
            reason,
            next_time,
            end_time,
            captures,
            ..RepeatStatus::default()
        },
    )
}

fn status() -> impl Strategy<Value = ProfileSessionStatus> {
    let times = (time(), time(), time(), time(), time());
    (phase(), reason(), times, prop::collection::vec(target(), 0..4), prop::option::of(series())).prop_map(
        |(phase, reason, (start, running, captured, cancelled, ended), targets, repeat)| {
            ProfileSessionStatus {
                phase,
                reason,
                start_time: start,
                running_time: running,
                capture_end_time: captured,
                cancel_time: cancelled,
                end_time: ended,
                targets,
                repeat,
                ..ProfileSessionStatus::default()
            }
        },
    )
}

/// What happens to such a session.
fn report() -> impl Strategy<Value = Option<(usize, CaptureState, u32)>> {
    use CaptureState as S;
    let states = prop::sample::select(vec![
        S::Accepted,
        S::Running,
        S::Uploading,
        S::Finished,
        S::Failed,
        S::Cancelled,
    ]);
    prop::option::of((0usize..4, states, 0u32..3))
}

fn specs() -> impl Strategy<Value = serde_json::Value> {
    prop::sample::select(vec![
        json!({"target": {"podSelector": {}}, "duration": "10s"}),
        json!({"target": {"podSelector": {}}, "duration": "6m", "ttl": "99999h", "repeat": {"count": 50, "interval": "24h"}}),
        json!({"target": {"podSelector": {}}, "startWhen": {"jobRef": {"name": "load"}, "deadline": "24h"}, "repeat": {"untilLoadEnds": true}}),
        json!({"target": {"podSelector": {}}, "cancel": true}),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn no_status_breaks_a_step(
        status in status(), spec in specs(), created in time(), now in instant(), settled in any::<bool>(),
        reported in report(), deleted in any::<bool>(), listed in any::<bool>(),
    ) {
        let mut world = World::new(spec).with_pod(pod("a")).with_pod(pod("b")).with_agent("a");
        (world.now, world.observed.now, world.observed.settled) = (now, now, settled);
        world.observed.job = if listed { JobFacts::Missing } else { JobFacts::Unlisted };
        world.session.metadata.creation_timestamp = created;
        world.session.metadata.deletion_timestamp = deleted.then_some(Time(now));
        world.session.status = Some(status);
        let _ = newer::unknown(&world.session);
        world.step();
        if let Some((index, state, slices)) = reported
            && let Some(target) = world.status().targets.get(index).map(|t| t.pod.clone())
        {
            world.report(&target, state, slices, None);
        }
        let again = world.now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX);
        (world.now, world.observed.now) = (again, again);
        world.step();
        prop_assert!(world.session.status.is_some());
    }
}

const YEAR: i64 = 366 * 86_400;

/// Seconds until the next step: a moment, or the clock is set by up to a year.
fn jump() -> impl Strategy<Value = i64> {
    prop_oneof![3 => 0i64..40, 1 => -YEAR..YEAR]
}

proptest! {
    #[test]
    fn every_session_ends_however_its_clock_is_set(
        steps in prop::collection::vec((jump(), report()), 0..15), waits in any::<bool>(), created in -YEAR..YEAR,
        repeats in any::<bool>(),
    ) {
        let mut spec = json!({"target": {"podSelector": {}}, "duration": "10s", "resultTimeout": "15m", "resultDeadline": "1h"});
        if waits {
            spec["startWhen"] = json!({"jobRef": {"name": "load"}, "deadline": "1h"});
        }
        if repeats {
            spec["repeat"] = json!({"count": 2, "interval": "10m"});
        }
        let mut world = World::new(spec).with_pod(pod("a")).with_pod(pod("b")).with_agent("a");
        world.observed.job = if waits { JobFacts::Missing } else { JobFacts::Unlisted };
        world.session.metadata.creation_timestamp = Some(Time(second(world.now.as_second() + created)));
        world.step();
        for (seconds, reported) in steps {
            world.after(seconds);
            if let Some((index, state, slices)) = reported
                && let Some(target) = world.status().targets.get(index).filter(|t| !t.capture.is_empty()).map(|t| t.pod.clone())
            {
                world.report(&target, state, slices, None);
            }
            let ahead = |time: &Option<Time>| time.as_ref().is_some_and(|t| t.0 > world.now);
            let status = world.status();
            prop_assert!(!ahead(&status.start_time) && !ahead(&status.end_time) && !ahead(&status.capture_end_time));
        }
        for _ in 0..8 {
            world.after(3601);
        }
        let status = world.status();
        prop_assert!(status.phase.is_terminal(), "{status:#?}");
    }
}

#[test]
fn a_status_of_the_future_counts_from_now_and_says_so() {
    let mut world = one_pod();
    world.step();
    world.report("a", CaptureState::Running, 0, None);
    let begun = world.now;
    world.after(-86_400);
    let told = world.status().conditions.iter().find(|c| c.type_ == "ClockWentBack").unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("True", "ClockWentBack"));
    assert!(told.message.contains(&begun.to_string()), "{}", told.message);
    assert_eq!(world.status().start_time, Some(Time(world.now)));
    world.after(10 + 46);
    assert_eq!(world.target("a").reason, Some(Reason::CaptureTimedOut), "its deadlines count from there");
}
