//! Are profiles stored with the names that can be had, and never lost for want of them?

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use fleetprof_core::capture::{CaptureScope, Weight};
use fleetprof_core::storage::quota::Quotas;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::session_status::StoredProfile;
use fleetprof_crds::wire::SliceId;
use fleetprof_operator::gateway::SliceSink;
use fleetprof_operator::results::{Results, ResultsConfig, ResultsMetrics};
use fleetprof_operator::symbols::Symbols;
use fleetprof_profile::{Frame, Limits, MappingInfo, Profile, ProfileBuilder, decode_valid, encode};
use jiff::Timestamp;

use crate::programs::{Program, place, shown};
use crate::{are_in, symbols};

const CPU: ProfileKind = ProfileKind::Cpu;

fn scope(capture: &str) -> CaptureScope {
    CaptureScope {
        capture: capture.into(),
        session_uid: format!("session-{capture}"),
        session_namespace: "shop".into(),
        session_name: "now".into(),
        pod_uid: "pod-uid-1".into(),
        pod_name: "orders-1".into(),
        node: "node-1".into(),
        workload: "Deployment/orders".into(),
        container: "app".into(),
        container_id: "c0ffee".into(),
        profiles: vec![CPU],
        destination: "default".into(),
        labels: BTreeMap::new(),
        max_bytes: u64::MAX,
        started: Timestamp::from_second(1_700_000_000).unwrap(),
        weight: Weight::default(),
    }
}

pub async fn results(root: &Path, symbols: Symbols) -> Results {
    let config = ResultsConfig {
        root: root.join("results"),
        cluster: "test".into(),
        capacity: None,
        share: 100,
        quotas: Quotas::default(),
    };
    Results::open(config, ResultsMetrics::default()).await.unwrap().named_by(symbols)
}

/// Uploads two slices of a capture, and has its profile made.
pub async fn capture(results: &Results, capture: &str, slice: &Profile) -> StoredProfile {
    for seq in 0..2 {
        let body = Bytes::from(encode(slice).unwrap());
        results.put_slice(&scope(capture), SliceId::new(CPU, seq), body, [0; 32]).await.unwrap();
    }
    results.assemble(&scope(capture), CPU, 2).await.unwrap()
}

pub fn stored(root: &Path, profile: &StoredProfile) -> Profile {
    let bytes = std::fs::read(root.join("results/profiles").join(&profile.uri)).unwrap();
    decode_valid(&bytes, &Limits::default()).unwrap()
}

#[tokio::test]
async fn a_profile_is_stored_with_names_and_the_status_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    program.symbols(folder.path());
    let results = results(folder.path(), symbols(folder.path())).await;
    let slice = program.profile(program.function("Basket"));
    let made = capture(&results, "one", &slice).await;
    let profile = stored(folder.path(), &made);
    are_in(&shown(&profile), "shop::Basket::total(unsigned long)", "shop.cpp", "discount");
    assert_eq!(made.samples, 2 * i64::try_from(slice.sample.len()).unwrap(), "both slices are in it");
    let told = results.symbols(&made).await.unwrap().unwrap();
    assert_eq!((told.named, told.missing.len()), (100, 0));
    assert_eq!(results.assemble(&scope("one"), CPU, 2).await.unwrap(), made, "it is made once");
}

#[tokio::test]
async fn what_lacks_names_is_stored_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    let slice = program.profile(program.function("Basket"));
    let off = results(folder.path(), Symbols::default()).await;
    let made = capture(&off, "one", &slice).await;
    let told = off.symbols(&made).await.unwrap().unwrap();
    assert_eq!((told.named, told.missing.len()), (0, 1));
    let missing = &told.missing[0];
    assert_eq!(
        (missing.file.as_str(), &missing.build_id, missing.message.as_str()),
        ("/app/shop", &program.build_id, "")
    );
    drop(off);

    let with = results(folder.path(), symbols(folder.path())).await;
    let told = with.symbols(&made).await.unwrap().unwrap();
    assert_eq!(
        told.missing[0].message, "not known: another operator process stored this profile",
        "what an earlier leader was told is not made up"
    );
    std::fs::write(place(folder.path(), &program.build_id), "not what it should be").unwrap();
    let made = capture(&with, "two", &slice).await;
    assert!(shown(&stored(folder.path(), &made)).iter().all(Vec::is_empty));
    let told = with.symbols(&made).await.unwrap().unwrap();
    assert_eq!(
        told.missing[0].message,
        "the file on the symbols volume is of no use: it is not a whole ELF file"
    );
}

#[tokio::test]
async fn a_file_that_names_only_some_addresses_is_not_called_missing() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    program.symbols(folder.path());
    let results = results(folder.path(), symbols(folder.path())).await;
    // Nothing is linked for the first of these, and no symbol comes before it.
    let addresses = std::iter::once(1).chain(program.function("Basket"));
    let made = capture(&results, "one", &program.profile(addresses)).await;
    let told = results.symbols(&made).await.unwrap().unwrap();
    assert!((1..100).contains(&told.named), "{told:?}");
    assert_eq!(told.missing[0].message, "its symbols name only some of the sampled addresses");
    let made = capture(&results, "two", &program.profile(std::iter::once(1))).await;
    let told = results.symbols(&made).await.unwrap().unwrap();
    assert_eq!(told.missing[0].message, "its symbols name none of the sampled addresses");
}

#[tokio::test]
async fn what_lies_beyond_the_bounds_of_a_look_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::cpp(folder.path(), "shop");
    program.symbols(folder.path());
    let results = results(folder.path(), symbols(folder.path())).await;
    let mut builder = ProfileBuilder::new(CPU, 10_000_000, 0);
    // The file of the volume comes first, so that somebody is asked; its last addresses are beyond the bound.
    let mut files = vec![(program.build_id.clone(), "/app/shop".to_owned())];
    files.extend((0..65).map(|n| (format!("{n:016x}"), format!("/lib/{n:02}.so"))));
    for (n, (build_id, file)) in files.iter().enumerate() {
        let mapping = builder.mapping(&MappingInfo {
            memory_start: 0,
            memory_limit: 1 << 40,
            file_offset: 0,
            file,
            build_id,
        });
        // The last file has the most weight, so that the status names it.
        let hits = if n == 65 { 1_000 } else { 1 };
        builder.add_hits(&[Frame::unsymbolized(0x1234, Some(mapping))], hits, &[]).unwrap();
    }
    let made = capture(&results, "one", &builder.finish(1_000_000_000, &[])).await;
    let told = results.symbols(&made).await.unwrap().unwrap();
    let last = told.missing.iter().find(|file| file.file == "/lib/64.so").unwrap();
    assert!(last.message.starts_with("it was not looked up: "), "{told:?}");
}
