//! Which slices are taken?

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use fleetprof_crds::wire::{DIGEST_HEADER, MAX_SLICE_BYTES, SliceId, SliceReply};
use fleetprof_crds::{ProfileKind, Reason};
use futures::StreamExt;

use super::rig::{Rig, hex, put};
use crate::gateway::SinkError;

const PATH: &str = "/v1/captures/c/cpu/slices/0";
const SLICE: &[u8] = b"a slice";

fn rig() -> Rig {
    let rig = Rig::new();
    rig.open("c", "a");
    rig
}

fn stored(rig: &Rig) -> usize {
    rig.sink.slices.lock().unwrap().len()
}

#[tokio::test]
async fn a_slice_of_an_open_capture_is_stored_and_noted() {
    let rig = rig();
    let mut changes = rig.fleet.subscribe();
    assert_eq!(rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>(), SliceReply { duplicate: false });
    assert_eq!(
        rig.sink.slices.lock().unwrap()[&("c".to_owned(), SliceId::new(ProfileKind::Cpu, 0))],
        Bytes::from_static(SLICE)
    );
    assert_eq!(rig.fleet.capture("c").unwrap().uploads, 1);
    let told = crate::agents::Change::Session { namespace: "shop".into(), name: "session".into() };
    assert_eq!(changes.next().await, Some(told));
}

#[tokio::test]
async fn each_kind_of_a_capture_has_slices_of_its_own() {
    let rig = rig();
    for kind in ["cpu", "wall"] {
        let path = format!("/v1/captures/c/{kind}/slices/0");
        let answer = rig.upload("a", &path, kind.as_bytes()).await.accepted::<SliceReply>();
        assert!(!answer.duplicate, "{kind}");
    }
    let slices = rig.sink.slices.lock().unwrap().clone();
    let wall = slices[&("c".to_owned(), SliceId::new(ProfileKind::Wall, 0))].clone();
    assert_eq!((slices.len(), wall), (2, Bytes::from_static(b"wall")));
    for kind in ["heap", "energy", "unknown", "CPU", "%00"] {
        let path = format!("/v1/captures/c/{kind}/slices/1");
        let why = rig.upload("a", &path, SLICE).await.refused(422, Reason::UploadRejected);
        assert!(why.contains("slices of cpu, wall"), "{why}");
    }
    rig.upload("a", "/v1/captures/c/wall/slices/28", SLICE).await.refused(422, Reason::UploadRejected);
    assert_eq!(stored(&rig), 2);
}

#[tokio::test]
async fn a_path_without_a_kind_is_that_of_an_agent_of_protocol_1_and_means_cpu() {
    let rig = rig();
    rig.upload("a", "/v1/captures/c/slices/0", SLICE).await.accepted::<SliceReply>();
    assert!(rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>().duplicate, "the same slice");
    rig.upload("a", "/v1/captures/c/slices/0", b"other").await.refused(409, Reason::UploadRejected);
    rig.open_of("w", "a", &[ProfileKind::Wall]);
    rig.upload("a", "/v1/captures/w/slices/0", SLICE).await.refused(422, Reason::UploadRejected);
}

#[tokio::test]
async fn the_same_slice_again_is_a_duplicate_and_another_one_a_conflict() {
    let rig = rig();
    rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>();
    assert!(rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>().duplicate);
    rig.upload("a", PATH, b"another").await.refused(409, Reason::UploadRejected);
}

#[tokio::test]
async fn a_slice_may_be_as_large_as_the_protocol_says_and_no_larger() {
    let rig = rig();
    rig.upload("a", PATH, &vec![7; MAX_SLICE_BYTES]).await.accepted::<SliceReply>();
    rig.upload("a", "/v1/captures/c/cpu/slices/1", &vec![7; MAX_SLICE_BYTES + 1])
        .await
        .refused(413, Reason::MalformedRequest);
    let pieces = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![7; 1 << 16])).take(100);
    let unannounced = put("/v1/captures/c/cpu/slices/1", "a", &hex(b""), Body::from_stream(pieces));
    rig.send(unannounced).await.refused(413, Reason::MalformedRequest);
    assert_eq!(stored(&rig), 1);
}

#[tokio::test]
async fn another_pods_capture_looks_like_none() {
    let rig = rig();
    let alien = rig.upload("b", PATH, SLICE).await.refused(404, Reason::CaptureUnknown);
    let none =
        rig.upload("b", "/v1/captures/none/cpu/slices/0", SLICE).await.refused(404, Reason::CaptureUnknown);
    assert_eq!(alien, none);
    assert_eq!(stored(&rig), 0);
}

#[tokio::test]
async fn a_closed_capture_takes_nothing_more() {
    let rig = rig();
    rig.fleet.close("c");
    rig.upload("a", PATH, SLICE).await.refused(410, Reason::CaptureSettled);
    rig.upload("b", PATH, SLICE).await.refused(404, Reason::CaptureUnknown);
    rig.open("c", "a");
    rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>();
}

#[tokio::test]
async fn before_syncing_an_unknown_capture_may_yet_be_opened() {
    let rig = Rig::unsynced();
    rig.upload("a", PATH, SLICE).await.refused(503, Reason::GatewayStarting);
    rig.open("c", "a");
    rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>();
    rig.upload("b", PATH, SLICE).await.refused(503, Reason::GatewayStarting);
}

#[tokio::test]
async fn a_sequence_number_is_a_small_whole_number() {
    let rig = rig();
    for seq in ["x", "-1", "+1", "1.0", "0x1", "99999999999", "%00"] {
        let path = format!("/v1/captures/c/cpu/slices/{seq}");
        rig.upload("a", &path, SLICE).await.refused(400, Reason::MalformedRequest);
    }
    let path = |seq| format!("/v1/captures/c/cpu/slices/{seq}");
    // Two minutes in slices of 10 s are 12.
    rig.upload("a", &path(28), SLICE).await.refused(422, Reason::UploadRejected);
    rig.upload("a", &path(27), SLICE).await.accepted::<SliceReply>();
}

#[tokio::test]
async fn a_slice_without_its_digest_or_with_another_is_refused() {
    let rig = rig();
    let mut request = put(PATH, "a", "", SLICE);
    request.headers_mut().remove(DIGEST_HEADER);
    rig.send(request).await.refused(400, Reason::MalformedRequest);
    for digest in ["", "00", &hex(SLICE).to_uppercase(), &"g".repeat(64), &"0".repeat(66)] {
        rig.send(put(PATH, "a", digest, SLICE)).await.refused(400, Reason::MalformedRequest);
    }
    rig.send(put(PATH, "a", &hex(b"other"), SLICE)).await.refused(422, Reason::UploadRejected);
    assert_eq!(stored(&rig), 0);
}

#[tokio::test]
async fn an_empty_slice_is_rejected() {
    rig().upload("a", PATH, b"").await.refused(422, Reason::UploadRejected);
}

#[tokio::test]
async fn what_the_sink_says_is_passed_on_with_a_fitting_code() {
    let rig = rig();
    let says = |error| *rig.sink.fails.lock().unwrap() = Some(error);
    says(SinkError::Rejected("The slice is not a profile.".into()));
    assert_eq!(
        rig.upload("a", PATH, SLICE).await.refused(422, Reason::UploadRejected),
        "The slice is not a profile."
    );
    says(SinkError::Conflict);
    rig.upload("a", PATH, SLICE).await.refused(409, Reason::UploadRejected);
    says(SinkError::Full);
    rig.upload("a", PATH, SLICE).await.refused(503, Reason::StorageFull);
    says(SinkError::NamespaceFull("namespace shop keeps too much".into()));
    let said = rig.upload("a", PATH, SLICE).await.refused(503, Reason::NamespaceStorageFull);
    assert_eq!(said, "Namespace shop keeps too much.");
    says(SinkError::Io("/var/lib is broken.".into()));
    assert!(!rig.upload("a", PATH, SLICE).await.refused(503, Reason::StorageFailed).contains("/var/lib"));
    assert_eq!(rig.fleet.capture("c").unwrap().uploads, 0);
}

#[tokio::test]
async fn a_slice_that_breaks_off_is_refused() {
    let rig = rig();
    let broken = futures::stream::iter([Ok(vec![1; 10]), Err(std::io::Error::other("reset"))]);
    rig.send(put(PATH, "a", &hex(SLICE), Body::from_stream(broken)))
        .await
        .refused(400, Reason::MalformedRequest);
}

#[tokio::test]
async fn uploads_at_one_time_are_bounded_and_those_that_never_end_cost_no_more_than_their_place() {
    let rig = rig();
    let never = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let stuck = futures::future::join_all((0..4).map(|_| rig.send(put(PATH, "a", &hex(SLICE), never()))));
    let more = async {
        tokio::task::yield_now().await;
        rig.upload("a", PATH, SLICE).await.refused(429, Reason::TooManyRequests);
    };
    tokio::select! {
        _ = stuck => unreachable!("they never end"),
        () = more => {}
    }
    rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>();
}

/// Uploads of pods of the namespace that never end, each as large as it may be, until what `then` does is
/// done.
async fn while_stuck(rig: &Rig, uploads: &[(&str, &str)], then: impl Future<Output = ()>) {
    let never = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let stuck = uploads.iter().map(|(namespace, pod)| {
        let name = format!("{namespace}.{pod}");
        rig.open(&name, &name);
        rig.send(put(&format!("/v1/captures/{name}/cpu/slices/0"), &name, &hex(SLICE), never()))
    });
    let stuck = futures::future::join_all(stuck.collect::<Vec<_>>());
    let then = async {
        tokio::task::yield_now().await;
        then.await;
    };
    tokio::select! {
        _ = stuck => unreachable!("they never end"),
        () = then => {}
    }
}

#[tokio::test]
async fn one_namespace_takes_half_of_the_room_for_uploads() {
    let rig = rig();
    let stuck: Vec<_> = ["1", "2", "3", "4"].map(|pod| ("bank", pod)).to_vec();
    rig.open("bank.5", "bank.5");
    while_stuck(&rig, &stuck, async {
        rig.upload("bank.5", "/v1/captures/bank.5/cpu/slices/0", SLICE)
            .await
            .refused(503, Reason::TooManyRequests);
        rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>();
    })
    .await;
    rig.upload("bank.5", "/v1/captures/bank.5/cpu/slices/0", SLICE).await.accepted::<SliceReply>();
}

#[tokio::test]
async fn all_pods_together_upload_a_bounded_number_at_one_time() {
    let rig = rig();
    let stuck: Vec<_> = ["bank", "zoo"]
        .iter()
        .flat_map(|namespace| ["1", "2", "3", "4"].map(|pod| (*namespace, pod)))
        .collect();
    while_stuck(&rig, &stuck, async {
        rig.upload("a", PATH, SLICE).await.refused(503, Reason::TooManyRequests);
    })
    .await;
    rig.upload("a", PATH, SLICE).await.accepted::<SliceReply>();
}

#[tokio::test]
async fn a_slice_that_was_read_is_stored_although_the_agent_hung_up() {
    let rig = rig();
    let _shut = rig.sink.gate.acquire_many(u32::MAX).await.unwrap();
    let rest = tokio::sync::Semaphore::MAX_PERMITS - u32::MAX as usize;
    rig.sink.gate.forget_permits(rest);
    let hung_up = tokio::time::timeout(Duration::from_millis(20), rig.upload("a", PATH, SLICE)).await;
    assert!(hung_up.is_err(), "the sink is still waiting");
    rig.sink.gate.add_permits(1);
    let mut noted = futures::stream::repeat_with(|| rig.fleet.capture("c").unwrap().uploads);
    while noted.next().await != Some(1) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(stored(&rig), 1);
}

#[tokio::test]
async fn the_right_to_upload_is_checked_before_anything_is_read() {
    let rig = Rig::new();
    let read = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = read.clone();
    let body = Body::from_stream(
        futures::stream::repeat_with(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(vec![0; 1024])
        })
        .take(100),
    );
    rig.send(put(PATH, "a", &hex(SLICE), body)).await.refused(404, Reason::CaptureUnknown);
    assert_eq!(read.load(Ordering::Relaxed), 0);
}
