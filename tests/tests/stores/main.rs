//! Profiles in real object stores, versitygw (S3) and Azurite, and in an OpenTelemetry Collector. `tests/suites.sh stores` installs them and says by
//! `FLEETPROF_STORES` where they are; no cluster is needed. Google's has no such server: fake-gcs-server answers
//! uploads of the XML API, which clients of object stores use, with "invalid uploadType".
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod collector;
mod operator;
mod server;
mod symbols;

use std::time::{Duration, Instant};

use fleetprof_core::destination::Delivery;
use operator::{Operator, session};
use server::{Kind, Server};

/// A profile is put, read by an operator that has no copy, and deleted with its session.
async fn round_trip(kind: Kind) {
    let server = Server::start(kind).await;
    let volume = tempfile::tempdir().unwrap();
    let operator = Operator::start(&server, volume.path()).await;
    let mut profile = operator.capture("session-1", "orders-1").await;
    operator.arrives("session-1", &profile).await;
    assert_eq!(
        operator.deliver("session-1", &profile),
        Delivery::Underway(None),
        "putting it again is harmless"
    );
    operator.arrives("session-1", &profile).await;
    profile.destinations.push("archive".into());
    let another = tempfile::tempdir().unwrap();
    let reader = Operator::start(&server, another.path()).await;
    assert_eq!(reader.samples("session-1", &profile).await, 7, "{kind:?}");
    operator.results.destinations().forget(std::slice::from_ref(&profile));
    let gone = tempfile::tempdir().unwrap();
    let late = Operator::start(&server, gone.path()).await;
    let end = Instant::now() + Duration::from_secs(20);
    while late
        .results
        .fetch(
            &session("session-1"),
            vec![profile.clone()],
            std::time::Instant::now() + std::time::Duration::from_secs(30),
        )
        .await
        .is_ok()
    {
        late.results.delete_session("session-1").await.unwrap();
        assert!(Instant::now() < end, "{kind:?} still holds it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_gives_back_what_it_was_given() {
    round_trip(Kind::S3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_blob_storage_gives_back_what_it_was_given() {
    round_trip(Kind::Az).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_with_a_restart_of_the_operator_in_the_middle_loses_nothing() {
    let mut server = Server::start(Kind::S3).await;
    let volume = tempfile::tempdir().unwrap();
    let first = Operator::start(&server, volume.path()).await;
    let before = first.capture("session-0", "orders-0").await;
    first.arrives("session-0", &before).await;
    server.stop();
    let mut waiting = Vec::new();
    for n in 0..50 {
        let uid = format!("session-{n}");
        let profile = first.capture(&uid, &format!("shop-{n}")).await;
        let _ = first.deliver(&uid, &profile);
        waiting.push((uid, profile));
    }
    let end = Instant::now() + Duration::from_secs(20);
    while !matches!(first.deliver(&waiting[0].0, &waiting[0].1), Delivery::Underway(Some(_))) {
        assert!(Instant::now() < end, "nobody noticed the outage");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(first);
    let second = Operator::start(&server, volume.path()).await;
    for (uid, profile) in &waiting {
        assert!(matches!(second.deliver(uid, profile), Delivery::Underway(_)));
    }
    server.restart().await;
    for (uid, profile) in &waiting {
        second.arrives(uid, profile).await;
    }
    let reader = tempfile::tempdir().unwrap();
    let reader = Operator::start(&server, reader.path()).await;
    for (uid, mut profile) in waiting {
        profile.destinations.push("archive".into());
        assert_eq!(reader.samples(&uid, &profile).await, 7, "{}", profile.uri);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_operator_without_the_volume_finds_what_the_first_could_not_write_down() {
    let server = Server::start(Kind::S3).await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Operator::start(&server, one.path()).await;
    let profile = first.capture("session-1", "orders-1").await;
    first.arrives("session-1", &profile).await;
    drop(first);
    let second = Operator::start(&server, two.path()).await;
    let recalled = second.recall("session-1", "orders-1").await.expect("it is in the archive");
    assert_eq!((recalled.uri, recalled.samples), (profile.uri, 7));
}

/// `tests/bench/destinations.sh` prints this.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; tests/bench/destinations.sh"]
async fn figures() {
    let count: u32 = std::env::var("FLEETPROF_SLICES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    for kind in [Kind::S3, Kind::Az] {
        let mut server = Server::start(kind).await;
        let volume = tempfile::tempdir().unwrap();
        let operator = Operator::start(&server, volume.path()).await;
        let count = if kind == Kind::S3 { count } else { count / 10 };
        let mut profiles = Vec::new();
        for n in 0..count {
            let uid = format!("session-{n}");
            profiles.push((uid.clone(), operator.capture(&uid, "orders-1").await));
        }
        let some = profiles.len() / 10;
        let began = Instant::now();
        operator.all_arrive(&profiles[..some]).await;
        let rate = some as f64 / began.elapsed().as_secs_f64();
        server.stop();
        for (uid, profile) in &profiles[some..] {
            let _ = operator.deliver(uid, profile);
        }
        // Long enough for the longest interval between two attempts.
        tokio::time::sleep(Duration::from_secs(90)).await;
        server.restart().await;
        let began = Instant::now();
        operator.all_arrive(&profiles[some..]).await;
        let recovery = began.elapsed().as_secs_f64();
        println!(
            "| {kind:?} | {rate:.0} profiles/s | {} after an outage: {recovery:.0} s |",
            profiles.len() - some
        );
    }
}
