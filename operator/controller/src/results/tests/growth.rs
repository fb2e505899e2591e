//! Is a leak found in stored profiles, by what the sessions' statuses say of them?

use std::sync::Arc;

use fleetprof_core::session::trend::{self, Subject};
use fleetprof_core::session::{PolicyFacts, Watching};
use fleetprof_crds::session_status::{Phase, ProfileSessionStatus, TargetStatus};
use fleetprof_crds::wire::SliceId;
use fleetprof_crds::{ProfileKind, ProfileSession};
use fleetprof_profile::trend::{Outcome, What, Why};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::fixtures::{open, scope_of, slice_of};
use crate::gateway::SliceSink;
use crate::results::Results;

const CPU: ProfileKind = ProfileKind::Cpu;
const HEAP: ProfileKind = ProfileKind::Heap;

/// The profiles of a pod in session `n`: memory in `put` grows, that in `cache` does not, and CPU time is at the
/// same load but for a little.
async fn target(results: &Results, n: u32, cpu_load: u32) -> TargetStatus {
    let wobble = |by: u32| n * by % 11;
    let heap = [("put", 200 + 90 * n + wobble(7)), ("cache", 2_000 + wobble(5)), ("pool", 900 + wobble(3))];
    let cpu = [("put", 300 * cpu_load + wobble(3)), ("serve", 900 * cpu_load + wobble(7))];
    let mut profiles = Vec::new();
    for (kind, functions) in [(HEAP, &heap[..]), (CPU, &cpu[..])] {
        let mut scope = scope_of(&format!("cap-{n}-{kind}"), &format!("uid-{n}"), "orders-1");
        scope.profiles = vec![kind];
        results
            .put_slice(&scope, SliceId::new(kind, 0), slice_of(kind, functions).into(), [0; 32])
            .await
            .unwrap();
        profiles.push(results.assemble(&scope, kind, 1).await.unwrap());
    }
    TargetStatus {
        pod: "orders-1".into(),
        pod_uid: "uid-pod".into(),
        workload: "Deployment/orders".into(),
        revision: "r2".into(),
        profiles,
        ..TargetStatus::default()
    }
}

async fn session(results: &Results, n: u32, cpu_load: u32) -> ProfileSession {
    let spec = json!({"policyRef": {"name": "orders"}, "trigger": "Schedule", "profiles": ["cpu", "heap"]});
    let mut session = ProfileSession::new(&format!("orders-{n}"), serde_json::from_value(spec).unwrap());
    session.metadata.uid = Some(format!("uid-{n}"));
    let ended = Timestamp::from_second(1_700_000_000 + i64::from(n) * 3_600).unwrap();
    session.status = Some(ProfileSessionStatus {
        phase: Phase::Succeeded,
        targets: vec![target(results, n, cpu_load).await],
        end_time: Some(Time(ended)),
        ..ProfileSessionStatus::default()
    });
    session
}

/// What the last of so many sessions looks at.
async fn due(results: &Results, sessions: u32, load: impl Fn(u32) -> u32) -> Vec<Watching> {
    let mut all = Vec::new();
    for n in 0..sessions {
        all.push(Arc::new(session(results, n, load(n)).await));
    }
    let last = all.last().unwrap().clone();
    let spec = serde_json::from_value(json!({"selector": {}, "growth": {"sessions": 10}})).unwrap();
    let policy = PolicyFacts::Found {
        uid: "p".into(),
        created: None,
        spec: Box::new(spec),
        yielded: Default::default(),
    };
    let mut status = last.status.clone().unwrap();
    trend::watching(&last, &mut status, &policy, &all, Timestamp::now())
}

#[tokio::test]
async fn a_leak_in_stored_profiles_is_found_and_steady_cpu_time_is_not_growth() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    for watching in due(&results, 12, |_| 1).await {
        let Subject { kind, .. } = watching.subject.clone();
        let found = results.watch(watching).await.unwrap();
        assert_eq!((found.sessions, found.captures), (10, 10));
        let said = found.message();
        let load = found.load.expect("CPU profiles tell it");
        assert!((0.9..1.1).contains(&load), "{said}");
        if kind == CPU {
            assert_ne!(found.outcome, Outcome::Growing, "{said}");
            continue;
        }
        assert_eq!(found.outcome, Outcome::Growing, "{said}");
        let first = &found.functions[0];
        assert_eq!((first.name.as_str(), first.what), ("put", What::Grows), "{said}");
        // Sessions 2 to 11, of samples of 10,101,010 bytes.
        assert!((first.from / 10_101_010.0 - 380.0).abs() < 12.0, "{first:?}");
        assert!((first.to / 10_101_010.0 - 1_190.0).abs() < 12.0, "{first:?}");
        assert!(said.contains("MiB →"), "{said}");
    }
}

#[tokio::test]
async fn memory_that_grows_with_the_load_is_not_called_growing() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let mut kinds = Vec::new();
    for watching in due(&results, 10, |n| 2 + n).await {
        kinds.push(watching.subject.kind);
        let found = results.watch(watching).await.unwrap();
        assert_eq!(found.outcome, Outcome::Inconclusive(Why::DifferentLoad), "{}", found.message());
    }
    assert_eq!(kinds, [CPU, HEAP]);
}

#[tokio::test]
async fn profiles_that_are_gone_are_left_out_and_too_few_are_said() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let due = due(&results, 10, |_| 1).await;
    let mut heap = due.into_iter().find(|watching| watching.subject.kind == HEAP).unwrap();
    heap.captures[0].uri = "gone".into();
    assert_eq!(results.watch(heap.clone()).await.unwrap().sessions, 9);
    heap.captures.iter_mut().take(3).for_each(|capture| capture.uri = "gone".into());
    let found = results.watch(heap.clone()).await.unwrap();
    assert_eq!((found.outcome, found.sessions), (Outcome::Inconclusive(Why::FewSessions), 7));
    // What cannot be read as CPU time ends no look of others.
    heap.subject.kind = CPU;
    let found = results.watch(heap).await.unwrap();
    assert_eq!((found.outcome, found.sessions), (Outcome::Inconclusive(Why::FewSessions), 0));
}
