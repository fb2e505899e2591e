//! Does every profile arrive, whatever happens on the way?

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fleetprof_core::capture::CaptureScope;
use fleetprof_core::destination::Delivery;
use fleetprof_crds::session_status::StoredProfile;
use fleetprof_crds::{ProfileKind, ProfileSession, Reason};
use serde_json::json;
use tokio::task::JoinSet;

use super::memory::{Memory, Mood};
use crate::destinations::{DestinationMetrics, Named, Wake};
use crate::gateway::SliceSink;
use crate::results::tests::fixtures::{config, cpu, decoded, scope_of, slice};
use crate::results::{Owned, Reading, Results, ResultsMetrics};

/// Results with these destinations beside the volume, and their tasks.
async fn results(
    root: &std::path::Path,
    named: &[(&str, &Memory)],
) -> (Results, JoinSet<anyhow::Result<()>>) {
    let named: Vec<(String, Memory)> =
        named.iter().map(|(name, memory)| ((*name).to_owned(), (*memory).clone())).collect();
    let build = move |_: &_| {
        let remote = named.into_iter().map(|(name, memory)| Named::remote(&name, Arc::new(memory)));
        [Named::volume("default")].into_iter().chain(remote).collect()
    };
    let opened =
        Results::open_with(config(root), ResultsMetrics::default(), (build, DestinationMetrics::default()));
    let results = opened.await.unwrap();
    let mut tasks = JoinSet::new();
    let wake: Wake = Arc::new(|_: &str, _: &str| {});
    results.destinations().start(&wake, &mut tasks);
    (results, tasks)
}

fn session() -> ProfileSession {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
        "metadata": {"name": "now", "namespace": "shop", "uid": "session-1"}, "spec": {},
    }))
    .unwrap()
}

/// The profile of one pod, made on the volume.
async fn make(results: &Results, pod: &str) -> StoredProfile {
    let scope = scope_of(pod, "session-1", pod);
    results.put_slice(&scope, cpu(0), Bytes::from(slice(&[("work", 7)])), [0; 32]).await.unwrap();
    results.assemble(&scope, ProfileKind::Cpu, 1).await.unwrap()
}

/// Asks until the answer is final.
async fn delivered(results: &Results, profile: &StoredProfile, destination: &str) -> Delivery {
    for _ in 0..1000 {
        match results.deliver(&session(), profile, destination) {
            Delivery::Underway(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            done => return done,
        }
    }
    panic!("{} did not arrive in {destination}", profile.uri)
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_other() {
    let root = tempfile::tempdir().unwrap();
    let (good, hangs) = (Memory::new(Mood::Up), Memory::new(Mood::Hangs));
    let (results, _tasks) = results(root.path(), &[("good", &good), ("hangs", &hangs)]).await;
    for n in 0..20 {
        let profile = make(&results, &format!("orders-{n}")).await;
        let _ = results.deliver(&session(), &profile, "hangs");
        assert_eq!(delivered(&results, &profile, "good").await, Delivery::Stored);
        assert_eq!(results.deliver(&session(), &profile, "default"), Delivery::Stored);
    }
    assert_eq!(good.keys().len(), 20);
}

#[tokio::test]
async fn an_outage_with_a_restart_in_the_middle_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let archive = Memory::new(Mood::Down);
    let mut profiles = Vec::new();
    {
        let (results, _tasks) = results(root.path(), &[("archive", &archive)]).await;
        for n in 0..10 {
            let profile = make(&results, &format!("orders-{n}")).await;
            let _ = results.deliver(&session(), &profile, "archive");
            profiles.push(profile);
        }
        while archive.attempts() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let told = results.deliver(&session(), &profiles[0], "archive");
        assert_eq!(told, Delivery::Underway(Some("no route to host".into())));
    }
    assert!(archive.keys().is_empty());
    // Another process on the same volume: what is asked for follows from the status of the session.
    archive.set(Mood::Up);
    let (results, _tasks) = results(root.path(), &[("archive", &archive)]).await;
    for profile in &profiles {
        assert_eq!(delivered(&results, profile, "archive").await, Delivery::Stored);
    }
    let mut wanted: Vec<String> = profiles.into_iter().map(|profile| profile.uri).collect();
    wanted.sort();
    assert_eq!(archive.keys(), wanted);
}

#[tokio::test]
async fn what_is_gone_from_the_volume_is_read_from_the_archive() {
    let root = tempfile::tempdir().unwrap();
    let archive = Memory::new(Mood::Up);
    let (results, _tasks) = results(root.path(), &[("archive", &archive)]).await;
    let mut profile = make(&results, "orders-1").await;
    assert_eq!(delivered(&results, &profile, "archive").await, Delivery::Stored);
    results.delete_session("session-1").await.unwrap();
    let reading =
        Reading { keys: Some(vec![profile.uri.clone()]), ..Reading::of("session-1", ProfileKind::Cpu) };
    let lost = results.fetch(&session(), vec![profile.clone()], soon()).await.unwrap_err();
    assert!(lost.to_string().contains("only the results volume held it"), "{lost}");
    profile.destinations.push("archive".into());
    archive.set(Mood::Down);
    let failed = results.fetch(&session(), vec![profile.clone()], soon()).await.unwrap_err();
    assert!(failed.to_string().contains("no route to host: try again"), "{failed}");
    archive.set(Mood::Up);
    results.fetch(&session(), vec![profile.clone()], soon()).await.unwrap();
    let read = results.session_profile(reading).await.unwrap();
    assert_eq!(fleetprof_profile::total(&decoded(&read), 0), 7);
    // A leader that finds neither slices nor a profile asks the archive before it says that there is nothing.
    results.delete_session("session-1").await.unwrap();
    let scope = scope_of("orders-1", "session-1", "orders-1");
    let recalled = results.recall(&session(), &scope, ProfileKind::Cpu, "archive").await.unwrap().unwrap();
    assert_eq!((recalled.uri, recalled.samples), (profile.uri, 7));
    assert!(results.recall(&session(), &scope, ProfileKind::Wall, "archive").await.unwrap().is_none());
    assert!(results.recall(&session(), &scope, ProfileKind::Cpu, "default").await.unwrap().is_none());
}

#[tokio::test]
async fn a_profile_that_is_refused_or_lost_is_told_as_such() {
    let root = tempfile::tempdir().unwrap();
    let archive = Memory::new(Mood::Refuses);
    let (results, _tasks) = results(root.path(), &[("archive", &archive)]).await;
    let profile = make(&results, "orders-1").await;
    let refused = delivered(&results, &profile, "archive").await;
    assert_eq!(refused, Delivery::Failed(Reason::UploadRejected, "400: too old".into()));
    archive.set(Mood::Up);
    results.delete_session("session-1").await.unwrap();
    let lost = delivered(&results, &profile, "archive").await;
    assert!(matches!(lost, Delivery::Failed(Reason::StorageLost, _)), "{lost:?}");
    let unknown = results.deliver(&session(), &profile, "nowhere");
    assert!(matches!(unknown, Delivery::Failed(Reason::DestinationUnknown, _)), "{unknown:?}");
}

#[tokio::test]
async fn profiles_go_with_their_session() {
    let root = tempfile::tempdir().unwrap();
    let archive = Memory::new(Mood::Up);
    let (results, _tasks) = results(root.path(), &[("archive", &archive)]).await;
    let mut profile = make(&results, "orders-1").await;
    assert_eq!(delivered(&results, &profile, "archive").await, Delivery::Stored);
    results.destinations().forget(std::slice::from_ref(&profile));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(archive.keys().len(), 1, "its status does not say that it is there");
    profile.destinations.push("archive".into());
    results.destinations().forget(&[profile]);
    for _ in 0..500 {
        if archive.keys().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(archive.keys().is_empty());
}

#[tokio::test]
async fn a_full_volume_gives_up_copies_before_anything_else() {
    let root = tempfile::tempdir().unwrap();
    let archive = Memory::new(Mood::Up);
    let (results, _tasks) = results(root.path(), &[("archive", &archive)]).await;
    let profile = make(&results, "orders-1").await;
    assert_eq!(delivered(&results, &profile, "archive").await, Delivery::Stored);
    let namespaces = [("session-1".to_owned(), "shop".to_owned())].into();
    let elsewhere = HashSet::from(["session-1".to_owned()]);
    results.own(Owned { namespaces, elsewhere, ..Owned::default() }).await.unwrap();
    let kept = results.copies();
    assert_eq!(kept, ["session-1"]);
}

#[tokio::test]
async fn a_second_leader_has_the_slices_of_the_first_without_its_volume() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = Memory::new(Mood::Up);
    let scope = CaptureScope { destination: "archive".into(), ..scope_of("cap", "session-1", "orders-1") };
    let (first, _tasks) = results(one.path(), &[("archive", &archive)]).await;
    for n in 0..3 {
        first.put_slice(&scope, cpu(n), Bytes::from(slice(&[("work", 7)])), [0; 32]).await.unwrap();
    }
    assert_eq!(archive.keys().len(), 3);
    assert!(archive.keys().iter().all(|key| key.starts_with("prod/.intake/session-1/cap/cpu-")));
    drop(first);
    let (second, _tasks) = results(two.path(), &[("archive", &archive)]).await;
    second.put_slice(&scope, cpu(3), Bytes::from(slice(&[("work", 7)])), [0; 32]).await.unwrap();
    archive.set(Mood::Down);
    assert!(second.pull(&scope, ProfileKind::Cpu, 4).await.is_err(), "it may have them");
    archive.set(Mood::Up);
    second.pull(&scope, ProfileKind::Cpu, 4).await.unwrap();
    let profile = second.assemble(&scope, ProfileKind::Cpu, 4).await.unwrap();
    assert_eq!(profile.samples, 28);
    assert_eq!(archive.keys().len(), 4, "they stay until the archive has the profile");
    assert_eq!(delivered(&second, &profile, "archive").await, Delivery::Stored);
    second.forget_intake(&profile.uri);
    for _ in 0..500 {
        if archive.keys() == [profile.uri.clone()] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("slices stay in the archive: {:?}", archive.keys());
}

#[tokio::test]
async fn what_the_volume_holds_is_a_profile_where_the_archive_never_answers() {
    let root = tempfile::tempdir().unwrap();
    let archive = Memory::new(Mood::Down);
    let scope = CaptureScope { destination: "archive".into(), ..scope_of("cap", "session-1", "orders-1") };
    let (results, _tasks) = results(root.path(), &[("archive", &archive)]).await;
    assert_eq!(results.held(&scope, ProfileKind::Cpu).await, None);
    results.put_slice(&scope, cpu(3), Bytes::from(slice(&[("work", 7)])), [0; 32]).await.unwrap();
    assert!(results.pull(&scope, ProfileKind::Cpu, 4).await.is_err());
    assert_eq!(results.held(&scope, ProfileKind::Cpu).await.unwrap().samples, 7);
}

#[tokio::test]
async fn an_archive_that_fails_keeps_no_slice_from_being_stored() {
    let root = tempfile::tempdir().unwrap();
    let archive = Memory::new(Mood::Hangs);
    let scope = CaptureScope { destination: "archive".into(), ..scope_of("cap", "session-1", "orders-1") };
    let (results, _tasks) = results(root.path(), &[("archive", &archive)]).await;
    let mut waited = 0;
    for n in 0..20 {
        let began = std::time::Instant::now();
        results.put_slice(&scope, cpu(n), Bytes::from(slice(&[("work", 7)])), [0; 32]).await.unwrap();
        waited += usize::from(began.elapsed() >= Duration::from_secs(5));
    }
    assert!(waited <= 1, "only the first waits: {waited}");
    assert!(archive.attempts() <= 1);
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}
