//! Slices in, profiles out, in the layout and with the rights that are promised.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use fleetprof_crds::ProfileKind;
use fleetprof_profile::{sample_types, total};

use super::fixtures::{cpu, decoded, du, files, large_slice, open, scope, scope_of, slice, store};
use crate::gateway::{SinkError, SliceSink, Stored};
use crate::results::pprof::hottest;
use crate::results::{Load, Reading, ResultsError, StoredSlices};

const CPU: ProfileKind = ProfileKind::Cpu;
const KEY: &str = "prod/shop/Deployment-orders/2023-11-14/session-1/orders-1_app_cpu.pb.gz";

async fn put(
    results: &crate::results::Results,
    scope: &fleetprof_core::capture::CaptureScope,
    seq: u32,
    body: Vec<u8>,
) -> Result<Stored, SinkError> {
    results.put_slice(scope, cpu(seq), Bytes::from(body), [0; 32]).await
}

#[tokio::test]
async fn slices_become_one_labelled_profile_and_go() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let scope = scope("cap-1");
    assert_eq!(put(&results, &scope, 0, slice(&[("work", 7)])).await, Ok(Stored { duplicate: false }));
    assert_eq!(
        put(&results, &scope, 1, slice(&[("work", 2), ("wait", 1)])).await,
        Ok(Stored { duplicate: false })
    );
    assert_eq!(
        files(root.path()),
        ["slices/session-1/cap-1/cpu-0.pb.gz", "slices/session-1/cap-1/cpu-1.pb.gz"]
    );
    let have = results.stored("cap-1", CPU).await.unwrap();
    let lengths =
        files(root.path()).iter().map(|file| root.path().join(file).metadata().unwrap().len()).sum();
    assert_eq!((have.slices, have.samples, have.bytes), (2, 10, lengths));
    assert_eq!(results.usage().await.unwrap().used, du(root.path()));

    let profile = results.assemble(&scope, CPU, 2).await.unwrap();
    assert_eq!((profile.uri.as_str(), profile.samples), (KEY, 10));
    assert_eq!(files(root.path()), [format!("profiles/{KEY}")]);
    assert!(!root.path().join("slices/session-1").exists(), "empty folders go too");
    let length = root.path().join("profiles").join(KEY).metadata().unwrap().len();
    assert_eq!(u64::try_from(profile.bytes).unwrap(), length);
    assert_eq!(results.usage().await.unwrap().used, du(root.path()));
    assert_eq!(results.stored("cap-1", CPU).await.unwrap(), StoredSlices::default());

    let merged = decoded(&results.session_profile(Reading::of("session-1", CPU)).await.unwrap());
    assert_eq!(total(&merged, 0), 10);
    assert_eq!(sample_types(&merged), [("samples", "count"), ("cpu", "nanoseconds")]);
    assert!(merged.string_table.iter().any(|text| text == "service_name"));
    assert_eq!(results.assemble(&scope, CPU, 2).await.unwrap(), profile, "a second time changes nothing");
}

#[tokio::test]
async fn a_slice_is_stored_once() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let scope = scope("cap-1");
    put(&results, &scope, 0, slice(&[("work", 7)])).await.unwrap();
    assert_eq!(put(&results, &scope, 0, slice(&[("work", 7)])).await, Ok(Stored { duplicate: true }));
    assert_eq!(put(&results, &scope, 0, slice(&[("work", 8)])).await, Err(SinkError::Conflict));
    let thief = scope_of("cap-1", "session-2", "other");
    assert_eq!(put(&results, &thief, 1, slice(&[("work", 8)])).await, Err(SinkError::Conflict));
    assert!(matches!(results.assemble(&thief, CPU, 1).await, Err(ResultsError::Missing(_))));
    assert!(matches!(put(&results, &scope, 128, slice(&[("work", 7)])).await, Err(SinkError::Rejected(_))));
    assert!(matches!(put(&results, &scope, 1, b"no profile".to_vec()).await, Err(SinkError::Rejected(_))));
    assert_eq!(files(root.path()).len(), 1, "nothing that was refused is kept");

    results.assemble(&scope, CPU, 1).await.unwrap();
    let late = put(&results, &scope, 0, slice(&[("work", 7)])).await;
    assert_eq!(late, Ok(Stored { duplicate: true }), "the agent had merely not heard that it was stored");
    assert_eq!(files(root.path()), [format!("profiles/{KEY}")]);
}

#[tokio::test]
async fn many_uploads_of_one_slice_at_once_store_it_once() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let scope = scope("cap-1");
    let bodies: Vec<Vec<u8>> = (1..=8).map(|hits| slice(&[("work", hits)])).collect();
    let stored =
        futures::future::join_all(bodies.iter().map(|body| put(&results, &scope, 0, body.clone()))).await;
    assert_eq!(stored.iter().filter(|one| **one == Ok(Stored { duplicate: false })).count(), 1);
    assert_eq!(stored.iter().filter(|one| **one == Err(SinkError::Conflict)).count(), 7);
}

#[tokio::test]
async fn a_profile_is_not_made_of_fewer_slices_than_wanted() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let scope = scope("cap-1");
    assert!(matches!(results.assemble(&scope, CPU, 0).await, Err(ResultsError::Missing(_))));
    put(&results, &scope, 3, slice(&[("work", 7)])).await.unwrap();
    assert!(matches!(results.assemble(&scope, CPU, 2).await, Err(ResultsError::Missing(_))));
    assert_eq!(results.assemble(&scope, CPU, 1).await.unwrap().samples, 7, "numbers may have gaps");
}

#[tokio::test]
async fn everything_is_found_again_after_a_start() {
    let root = tempfile::tempdir().unwrap();
    {
        let results = open(root.path()).await;
        put(&results, &scope("cap-1"), 0, slice(&[("work", 7)])).await.unwrap();
        put(&results, &scope_of("cap-2", "session-1", "orders-2"), 0, slice(&[("wait", 5)])).await.unwrap();
        results.assemble(&scope("cap-1"), CPU, 1).await.unwrap();
    }
    std::fs::write(root.path().join("tmp/7"), b"half a file").unwrap();
    let results = open(root.path()).await;
    assert_eq!(results.stored("cap-2", CPU).await.unwrap().samples, 5);
    assert_eq!(results.assemble(&scope("cap-1"), CPU, 1).await.unwrap().samples, 7);
    assert_eq!(files(&root.path().join("tmp")), [""; 0]);
    assert_eq!(files(root.path()).len(), 2);
}

#[tokio::test]
async fn sessions_are_read_by_pod_and_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    let mut keys = Vec::new();
    for (capture, pod, hits) in [("c1", "orders-1", 6), ("c2", "orders-11", 3)] {
        let scope = scope_of(capture, "session-1", pod);
        put(&results, &scope, 0, slice(&[("work", hits), ("wait", 1)])).await.unwrap();
        keys.push(results.assemble(&scope, CPU, 1).await.unwrap().uri);
    }
    let samples = |bytes: Bytes| total(&decoded(&bytes), 0);
    assert_eq!(samples(results.session_profile(Reading::of("session-1", CPU)).await.unwrap()), 11);
    let of_pod = |session: &str, pod: Option<&str>| Reading {
        pod: pod.map(str::to_owned),
        ..Reading::of(session, CPU)
    };
    let one = of_pod("session-1", Some("orders-1"));
    assert_eq!(samples(results.session_profile(one).await.unwrap()), 7);
    for (session, pod) in [("session-1", Some("orders")), ("session-2", None), ("../session-1", None)] {
        assert!(
            matches!(results.session_profile(of_pod(session, pod)).await, Err(ResultsError::Missing(_))),
            "{session} {pod:?}"
        );
    }
    let top = results.top("session-1", CPU, &[], 5).await.unwrap();
    let rows: Vec<(&str, &str, &str)> =
        top.iter().map(|row| (row.name.as_str(), row.location.as_str(), row.self_percent.as_str())).collect();
    assert_eq!(rows[..2], [("work", "work.py:42", "81.8"), ("wait", "work.py:42", "18.2")]);
    assert_eq!(results.top("session-1", CPU, &keys[..1], 1).await.unwrap()[0].self_percent, "85.7");
    let both = vec![of_pod("session-1", Some("orders-11")), of_pod("session-1", None)];
    let read = |load: Load<'_>| [1, 0].map(|number| load(number).map(|stacks| total(&stacks.profile, 0)));
    let [all, one] = results.stacks(both, read).await.unwrap();
    assert_eq!((all.unwrap(), one.unwrap()), (11, 4));
    assert!(results.top("session-1", CPU, &["../../etc/passwd".into()], 1).await.is_err());
}

#[tokio::test]
async fn a_session_goes_as_a_whole_and_others_stay() {
    let root = tempfile::tempdir().unwrap();
    let results = open(root.path()).await;
    for (capture, session) in [("c1", "session-1"), ("c2", "session-1"), ("c3", "session-2")] {
        let scope = scope_of(capture, session, capture);
        put(&results, &scope, 0, slice(&[("work", 1)])).await.unwrap();
        if capture != "c2" {
            results.assemble(&scope, CPU, 1).await.unwrap();
        }
    }
    let removed = results.delete_session("session-1").await.unwrap();
    assert_eq!((removed.sessions, removed.files), (1, 2));
    assert_eq!(
        files(root.path()),
        ["profiles/prod/shop/Deployment-orders/2023-11-14/session-2/c3_app_cpu.pb.gz"]
    );
    assert_eq!(results.delete_session("session-1").await.unwrap().sessions, 0);

    let young = results.sweep(&HashSet::new(), Duration::from_secs(3600)).await.unwrap();
    let live = results.sweep(&HashSet::from(["session-2".to_owned()]), Duration::ZERO).await.unwrap();
    assert_eq!((young.files, live.files), (0, 0));
    let swept = results.sweep(&HashSet::new(), Duration::ZERO).await.unwrap();
    assert_eq!((swept.sessions, swept.files), (1, 1));
    assert_eq!(results.usage().await.unwrap().used, du(root.path()));
    assert_eq!(std::fs::read_dir(root.path().join("profiles")).unwrap().count(), 0, "no empty folder stays");
}

#[test]
fn only_the_owner_may_read() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("volume");
    let store = store(&root);
    store.put_slice(&scope("cap-1"), cpu(0), &slice(&[("work", 1)])).unwrap();
    store.put_slice(&scope("cap-2"), cpu(0), &slice(&[("work", 1)])).unwrap();
    store.assemble(&scope("cap-1"), CPU, 1).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for file in files(&root) {
        let file = root.join(file);
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        for folder in file.ancestors().skip(1).take_while(|folder| *folder != root) {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
    }
}

#[test]
fn a_damaged_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    store.put_slice(&scope("cap-1"), cpu(0), &slice(&[("work", 1)])).unwrap();
    std::fs::write(root.path().join("slices/session-1/cap-1/cpu-0.pb.gz"), b"\x1f\x8bdamage").unwrap();
    let error = store.assemble(&scope("cap-1"), CPU, 1).unwrap_err();
    assert!(matches!(&error, ResultsError::Io(sentence) if sentence.contains("cpu-0.pb.gz")), "{error}");
}

#[test]
fn a_merge_of_too_much_is_refused_but_single_pods_and_the_table_can_be_read() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let body = large_slice(0, 16_000);
    for n in 0..9 {
        let mut scope = scope_of(&format!("c{n}"), "session-1", &format!("p{n}"));
        scope.labels = (0..16).map(|label| (format!("label-{label}"), "value".to_owned())).collect();
        store.put_slice(&scope, cpu(0), &body).unwrap();
        store.assemble(&scope, CPU, 1).unwrap();
    }
    let error = store.session_profile(&Reading::of("session-1", CPU)).unwrap_err();
    assert!(matches!(&error, ResultsError::Rejected(sentence) if sentence.contains("?pod=NAME")), "{error}");
    assert!(
        store.session_profile(&Reading { pod: Some("p3".into()), ..Reading::of("session-1", CPU) }).is_ok()
    );
    let top = hottest(&store.stacks(&Reading::of("session-1", CPU)).unwrap().profile, 3);
    assert_eq!((top.functions, top.rows[0].self_value), (16_001, 9 * 10_101_010));
}
