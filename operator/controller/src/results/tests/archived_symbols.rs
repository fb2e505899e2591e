//! Do uploaded files with symbols outlive the volume of the leader that got them?

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fleetprof_profile::resolve::Lacking;

use super::fixtures::config;
use crate::destinations::tests::memory::{Memory, Mood};
use crate::destinations::{DestinationMetrics, Named};
use crate::results::{Results, ResultsMetrics};
use crate::sha256::Sha256;
use crate::symbols::Symbols;
use crate::symbols::uploads::{Claim, Listed, Piece, Progress, Refused};

const ID: &str = "abcdef0123456789";
const OTHER: &str = "00ff00ff";
/// Finds every file usable, and a function `f` at every address.
const READS: &str = r#"q=$(cat); case "$q" in *'"check":true'*) echo '"Usable"';; *) echo '{"Named":{"texts":["f"],"places":[{"address":16,"exact":true,"lines":[{"function":0,"system_name":0,"file":0,"line":1}]}]}}';; esac"#;
/// Says of every file that it is of another build id.
const REFUSES: &str = r#"cat >/dev/null; echo '{"Refused":"it is the file of build id 11ff11ff"}'"#;

/// A leader with a volume of its own, that archive as its default destination, and a reader that is this script.
async fn leader(volume: &Path, archive: &Memory, script: &str, size: u64) -> Results {
    let archive = archive.clone();
    let build = move |_: &_| vec![Named::remote("default", Arc::new(archive))];
    let metrics = (build, DestinationMetrics::default());
    let results = Results::open_with(config(volume), ResultsMetrics::default(), metrics).await.unwrap();
    results.named_by(Symbols::scripted(script, size, volume))
}

/// The same once it has looked at the archive.
async fn settled(volume: &Path, archive: &Memory) -> Results {
    let results = leader(volume, archive, READS, 64 << 20).await;
    results.settle_symbols().await;
    results
}

async fn upload(results: &Results, build_id: &str, file: &[u8]) -> Result<Progress, Refused> {
    let mut digest = Sha256::default();
    digest.update(file);
    let (bytes, sha256) = (file.len() as u64, digest.finish());
    let claim = Claim { build_id: build_id.into(), name: "shop.debug".into(), bytes, sha256 };
    let piece = Piece { claim, user: "ann".into(), offset: 0, bytes: Bytes::copy_from_slice(file) };
    results.upload_symbols(piece).await
}

fn listed(results: &Results) -> Vec<(String, Option<bool>)> {
    let all = results.uploaded_symbols().unwrap().0;
    all.into_iter().map(|Listed { file, archived }| (file.build_id, archived)).collect()
}

fn files(volume: &Path) -> usize {
    std::fs::read_dir(volume.join("symbols/uploaded")).map_or(0, Iterator::count)
}

/// Names for one address of a build id; how many there are, and why none.
async fn named(results: &Results, build_id: &str) -> (usize, Option<String>) {
    let lacking = Lacking { build_id: build_id.into(), addresses: vec![16], unnamed: 1 };
    let found = results.symbols.find(&[lacking], &results.merges, 64 << 20).await;
    (found.names.len(), found.failed.get(build_id).cloned())
}

fn volumes() -> [tempfile::TempDir; 2] {
    [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]
}

#[tokio::test]
async fn a_leader_with_another_volume_lists_and_uses_what_was_uploaded_to_the_last() {
    let ([one, two], archive) = (volumes(), Memory::new(Mood::Up));
    let first = settled(one.path(), &archive).await;
    let file: Vec<u8> = (0..9 << 20).map(|n| (n % 251) as u8).collect();
    assert!(matches!(upload(&first, ID, &file).await, Ok(Progress::Stored(_))));
    assert_eq!(listed(&first), [(ID.to_owned(), Some(true))]);
    assert!(archive.keys().iter().all(|key| key.starts_with("prod/.symbols/abcdef0123456789/")));
    assert_eq!(archive.keys().len(), 4, "three pieces of 4 MiB, and what is known of them");

    let second = settled(two.path(), &archive).await;
    assert_eq!((listed(&second), files(two.path())), (vec![(ID.to_owned(), Some(true))], 0));
    assert_eq!(second.uploaded_symbols().unwrap().1, None);
    assert_eq!(named(&second, ID).await, (1, None));
    assert_eq!(files(two.path()), 2, "it is kept here now");
    archive.set(Mood::Down);
    assert_eq!(named(&second, ID).await, (1, None), "and not fetched again");
    assert_eq!(named(&second, OTHER).await.0, 0);
}

#[tokio::test]
async fn a_leader_that_has_not_listed_the_archive_looks_for_the_one_file() {
    let ([one, two], archive) = (volumes(), Memory::new(Mood::Up));
    upload(&settled(one.path(), &archive).await, ID, b"file").await.unwrap();
    let second = leader(two.path(), &archive, READS, 64 << 20).await;
    assert!(second.uploaded_symbols().unwrap().1.unwrap().contains("was not listed yet"));
    assert_eq!(named(&second, ID).await, (1, None));
    let (names, why) = named(&second, OTHER).await;
    assert_eq!((names, why.as_deref()), (0, Some("nobody uploaded its symbols")));
}

#[tokio::test]
async fn what_is_deleted_does_not_come_back_with_an_older_volume() {
    let ([one, two], archive) = (volumes(), Memory::new(Mood::Up));
    let first = settled(one.path(), &archive).await;
    for id in [ID, OTHER] {
        upload(&first, id, b"file").await.unwrap();
    }
    let second = settled(two.path(), &archive).await;
    second.delete_symbols(ID).await.unwrap();
    assert_eq!(listed(&second), [(OTHER.to_owned(), Some(true))]);
    assert!(matches!(second.delete_symbols(ID).await, Err(Refused::Absent(_))));
    upload(&second, OTHER, b"another").await.unwrap();
    assert_eq!(
        archive.keys().len(),
        3,
        "the older one went, and that the other was deleted stays: {:?}",
        archive.keys()
    );

    first.settle_symbols().await;
    assert_eq!((listed(&first), files(one.path())), (vec![(OTHER.to_owned(), Some(true))], 0));
    assert_eq!(named(&first, OTHER).await.0, 1, "it is fetched as it is now");
    upload(&first, ID, b"file").await.unwrap();
    assert_eq!(listed(&first).len(), 2, "who uploads it again has it again");
    assert_eq!(listed(&settled(two.path(), &archive).await).len(), 2);
}

#[tokio::test]
async fn an_archive_that_is_down_is_said_and_gets_the_file_later() {
    let ([one, two], archive) = (volumes(), Memory::new(Mood::Down));
    let first = settled(one.path(), &archive).await;
    assert!(matches!(upload(&first, ID, b"file").await, Ok(Progress::Stored(_))), "the volume has it");
    let alone = first.alone_symbols(ID).unwrap();
    assert!(alone.contains("on the results volume alone") && alone.contains("no route to host"), "{alone}");
    let warning = first.uploaded_symbols().unwrap().1.unwrap();
    assert!(warning.contains("archive \"default\"") && warning.contains("no route to host"), "{warning}");
    assert_eq!(listed(&first), [(ID.to_owned(), Some(false))]);
    let refused = first.delete_symbols(ID).await;
    assert!(
        matches!(&refused, Err(Refused::Failed(why)) if why.contains("not deleted at all")),
        "{refused:?}"
    );
    assert_eq!(named(&first, ID).await.0, 1);

    archive.set(Mood::Up);
    first.settle_symbols().await;
    assert_eq!((listed(&first), first.alone_symbols(ID)), (vec![(ID.to_owned(), Some(true))], None));
    assert_eq!(named(&settled(two.path(), &archive).await, ID).await.0, 1);
}

#[tokio::test]
async fn nothing_that_the_archive_gives_is_believed() {
    let ([one, two], archive) = (volumes(), Memory::new(Mood::Up));
    upload(&settled(one.path(), &archive).await, ID, b"file").await.unwrap();
    let piece = archive.keys().into_iter().find(|key| key.ends_with("/000000")).unwrap();
    for (forged, word) in [(&b"evil"[..], "SHA-256"), (b"longer than it was", "18 bytes instead of 4")] {
        archive.forge(&piece, forged);
        let second = settled(two.path(), &archive).await;
        let (names, why) = named(&second, ID).await;
        assert!(names == 0 && why.as_ref().is_some_and(|why| why.contains(word)), "{why:?}");
        assert_eq!(files(two.path()), 0);
        let again = named(&second, ID).await;
        assert!(again.0 == 0 && again.1.unwrap().contains("of no use"), "it is not fetched again");
    }
    archive.forge(&piece, b"file");
    let second = leader(two.path(), &archive, REFUSES, 64 << 20).await;
    let (names, why) = named(&second, ID).await;
    assert!(names == 0 && why.as_ref().is_some_and(|why| why.contains("build id 11ff11ff")), "{why:?}");
    assert_eq!(files(two.path()), 0, "what fails its check is not kept");
    archive.set(Mood::Down);
    let again = named(&second, ID).await;
    assert!(again.1.is_some_and(|why| why.contains("build id 11ff11ff")), "nor fetched again");
    archive.set(Mood::Up);
    for key in ["prod/.symbols/../x", "prod/.symbols/zz/deleted", "prod/.symbols/abcd0123/00/about.json"] {
        archive.forge(key, b"{}");
    }
    assert_eq!(listed(&settled(two.path(), &archive).await).len(), 1);
}

#[tokio::test]
async fn a_file_that_is_broken_in_the_archive_is_repaired_by_an_upload() {
    let ([one, two], archive) = (volumes(), Memory::new(Mood::Up));
    upload(&settled(one.path(), &archive).await, ID, b"file").await.unwrap();
    let piece = archive.keys().into_iter().find(|key| key.ends_with("/000000")).unwrap();
    archive.forge(&piece, b"evil");
    let second = settled(two.path(), &archive).await;
    assert_eq!(named(&second, ID).await.0, 0);
    upload(&second, ID, b"file").await.unwrap();
    let [three, _] = volumes();
    assert_eq!(named(&settled(three.path(), &archive).await, ID).await, (1, None));
}

#[tokio::test]
async fn the_bounds_hold_over_volume_and_archive() {
    let ([one, two], archive) = (volumes(), Memory::new(Mood::Up));
    let small = async |volume: &Path| {
        let results = leader(volume, &archive, READS, 10).await;
        results.settle_symbols().await;
        results
    };
    upload(&small(one.path()).await, ID, b"12345").await.unwrap();
    let second = small(two.path()).await;
    upload(&second, OTHER, b"1234").await.unwrap();
    let refused = upload(&second, "11ff11ff", b"12").await;
    assert!(
        matches!(&refused, Err(Refused::TooLarge(why)) if why.contains("symbols.uploads.size")),
        "{refused:?}"
    );
    let lower = leader(one.path(), &archive, READS, 8).await;
    lower.settle_symbols().await;
    let (names, why) = named(&lower, OTHER).await;
    assert!(names == 0 && why.as_ref().is_some_and(|why| why.contains("symbols.uploads.size")), "{why:?}");
}

#[tokio::test]
async fn what_an_interrupted_upload_left_is_removed_but_nothing_of_sessions() {
    let ([one, _], archive) = (volumes(), Memory::new(Mood::Up));
    let session = "prod/shop/Deployment-orders/2026-11-30/session-1/orders-1_app_cpu.pb.gz";
    archive.forge(session, b"profile");
    archive.forge(&format!("prod/.symbols/{ID}/{}/000000", "0f".repeat(32)), b"piece");
    let first = settled(one.path(), &archive).await;
    assert_eq!((listed(&first).len(), archive.keys()), (0, vec![session.to_owned()]));
}
