//! Do the kinds of one capture stay apart, from slice to answer?

use bytes::Bytes;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::SliceId;
use fleetprof_profile::{IDLE, sample_types, top, total};
use proptest::prelude::*;

use super::fixtures::{cpu, decoded, files, open, scope, scope_of, slice, slice_of, store, waiting_slice};
use crate::gateway::{SinkError, SliceSink};
use crate::results::{Idle, Reading, ResultsError};

const CPU: ProfileKind = ProfileKind::Cpu;
const WALL: ProfileKind = ProfileKind::Wall;

/// A capture of CPU and wall time of that pod.
fn both(capture: &str, pod: &str) -> CaptureScope {
    CaptureScope { profiles: vec![CPU, WALL], ..scope_of(capture, "session-1", pod) }
}

#[tokio::test]
async fn each_kind_of_a_capture_becomes_a_profile_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let scope = both("cap-1", "orders-1");
    for (seq, kind, hits) in [(0, CPU, 7), (0, WALL, 90), (1, WALL, 10)] {
        let body = Bytes::from(slice_of(kind, &[("work", hits)]));
        results.put_slice(&scope, SliceId::new(kind, seq), body, [0; 32]).await.unwrap();
    }
    let have = |kind| results.stored("cap-1", kind);
    assert_eq!((have(CPU).await.unwrap().slices, have(WALL).await.unwrap().slices), (1, 2));

    let made = results.assemble(&scope, CPU, 1).await.unwrap();
    assert_eq!((made.kind, made.samples), (CPU, 7));
    assert_eq!(have(WALL).await.unwrap().samples, 100, "the slices of the other kind stay");
    let made = results.assemble(&scope, WALL, 2).await.unwrap();
    assert_eq!((made.kind, made.samples), (WALL, 100));
    assert!(made.uri.ends_with("/orders-1_app_wall.pb.gz"), "{}", made.uri);
    assert_eq!(files(&root.path().join("slices")), [""; 0]);
    assert!(matches!(results.assemble(&scope, ProfileKind::Heap, 0).await, Err(ResultsError::Missing(_))));

    for (kind, samples) in [(CPU, 7), (WALL, 100)] {
        let read = decoded(&results.session_profile(Reading::of("session-1", kind)).await.unwrap());
        assert_eq!((total(&read, 0), sample_types(&read)), (samples, kind.sample_types().to_vec()));
        let of_pod = Reading { pod: Some("orders-1".into()), ..Reading::of("session-1", kind) };
        let stacks = results.stacks(vec![of_pod], |load| load(0)).await.unwrap().unwrap();
        let sums = (total(&stacks.profile, 0), total(&stacks.profile, 1));
        assert_eq!((sums, stacks.pod_nanos.is_some()), ((samples, samples * 10_101_010), true));
    }
    let none = results.session_profile(Reading::of("session-1", ProfileKind::Heap)).await;
    assert!(matches!(&none, Err(ResultsError::Missing(sentence)) if sentence.contains("heap")), "{none:?}");
    assert_eq!(results.delete_session("session-1").await.unwrap().files, 2);
}

#[tokio::test]
async fn a_slice_that_counts_something_else_than_its_path_says_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let put = |kind, body: Vec<u8>| {
        let scope = both("cap-1", "orders-1");
        let results = results.clone();
        async move { results.put_slice(&scope, SliceId::new(kind, 0), body.into(), [0; 32]).await }
    };
    let refused = put(WALL, slice(&[("work", 7)])).await;
    assert!(matches!(&refused, Err(SinkError::Rejected(why)) if why.contains("wall")), "{refused:?}");
    put(CPU, slice(&[("work", 7)])).await.unwrap();
    put(WALL, slice_of(WALL, &[("work", 7)])).await.unwrap();
    let other = put(WALL, slice_of(WALL, &[("work", 8)])).await;
    assert_eq!(other, Err(SinkError::Conflict), "each kind has a slice 0 of its own");
}

#[tokio::test]
async fn idle_threads_are_folded_when_wall_time_is_read_and_stored_whole() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let mut scope = both("cap-1", "orders-1");
    scope.labels.insert("thread_state".into(), "of the session".into());
    results.put_slice(&scope, SliceId::new(WALL, 0), waiting_slice().into(), [0; 32]).await.unwrap();
    let made = results.assemble(&scope, WALL, 1).await.unwrap();

    let read = async |idle| -> Result<Vec<(String, i64)>, ResultsError> {
        let reading = Reading { idle, ..Reading::of("session-1", WALL) };
        let stacks = results.stacks(vec![reading], |load| load(0)).await??;
        Ok(top(&stacks.profile, 0, 10).rows.into_iter().map(|row| (row.name, row.self_value)).collect())
    };
    let row = |name: &str, value| (name.to_owned(), value);
    assert_eq!(read(Idle::Folded).await.unwrap(), [row("recv", 1), row("pay", 0), row(IDLE, 3)]);
    assert_eq!(read(Idle::Shown).await.unwrap(), [row("_worker", 3), row("recv", 1), row("pay", 0)]);
    let hottest = results.top("session-1", WALL, &[made.uri], 5).await.unwrap();
    let hottest: Vec<&str> = hottest.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(hottest, ["recv", "pay"], "a status names functions");
    let stored = decoded(&results.session_profile(Reading::of("session-1", WALL)).await.unwrap());
    let told = |text: &str| stored.string_table.iter().any(|known| known == text);
    assert!(told("_worker") && told("blocked") && told("waits_for") && !told("of the session"));
}

#[test]
fn slices_of_a_newer_version_go_with_their_session() {
    let root = tempfile::tempdir().unwrap();
    store(root.path()).put_slice(&scope("cap-1"), cpu(0), &slice(&[("work", 1)])).unwrap();
    std::fs::write(root.path().join("slices/session-1/cap-1/energy-0.pb.gz"), b"of a newer one").unwrap();
    let store = store(root.path());
    assert_eq!(store.stored("cap-1", CPU).unwrap().slices, 1);
    store.assemble(&scope("cap-1"), CPU, 1).unwrap();
    assert_eq!(store.delete_session("session-1").unwrap().files, 2);
    assert_eq!(files(root.path()), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever pods and kinds a session has, a read of one kind sums exactly that kind.
    #[test]
    fn a_merge_never_mixes_kinds(captured in prop::collection::btree_map(
        (0..3_usize, prop::sample::select(&ProfileKind::ALL[..])), 1..50_u32, 1..8,
    )) {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        for ((pod, kind), hits) in &captured {
            let scope = scope_of(&format!("c{pod}"), "session-1", &format!("p{pod}"));
            let body = slice_of(*kind, &[("work", *hits)]);
            store.put_slice(&scope, SliceId::new(*kind, 0), &body).unwrap();
        }
        for (pod, kind) in captured.keys() {
            let scope = scope_of(&format!("c{pod}"), "session-1", &format!("p{pod}"));
            store.assemble(&scope, *kind, 1).unwrap();
        }
        for kind in ProfileKind::ALL {
            let wanted: i64 = captured.iter().filter(|((_, k), _)| *k == kind).map(|(_, n)| i64::from(*n)).sum();
            match store.session_profile(&Reading::of("session-1", kind)) {
                Ok(bytes) => {
                    let read = decoded(&bytes);
                    prop_assert_eq!(total(&read, 0), wanted);
                    prop_assert_eq!(sample_types(&read), kind.sample_types());
                }
                Err(ResultsError::Missing(_)) => prop_assert_eq!(wanted, 0),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }
}
