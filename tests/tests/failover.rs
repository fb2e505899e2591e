//! What does a new leader make of what was so before it? On a real API server; both leaders are processes of
//! this machine.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{create, object};
use fleetprof_tests::{api_server, wait_for};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;

/// Every session that is kept would be written and told of again with each change of the leader: in a large
/// cluster 100,000.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_not_told_again_by_the_next_leader() -> Result<()> {
    let kubeconfig = api_server()?;
    let place = Place::new(&kubeconfig, "failover").await?;
    let me = place.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    place.pod("orders-1", &json!({"app": "orders", "fleetprof.dev/profiling": "disabled"}), None, |_| ())?;
    let profile = async |name: &str| -> Result<()> {
        let spec = json!({"target": {"pods": ["orders-1"]}, "duration": "10s", "requestedBy": {"username": me, "groups": ["system:masters"]}});
        create(&place.client, &object("ProfileSession", &place.namespace, name, &spec), false).await?;
        place.until("ProfileSession", name, 20, |s| s["phase"] == "Failed").await?;
        Ok(())
    };
    let ends = |log: &std::path::Path, name: &str| -> Result<usize> {
        let text = std::fs::read_to_string(log).context("the operator's log")?;
        Ok(text
            .lines()
            .filter(|l| l.contains("session phase changed") && l.contains(&format!("\"{name}\"")))
            .count())
    };

    let first = Operator::start(&kubeconfig, &[], &[]).await?;
    profile("before").await?;
    wait_for("the end is told", Duration::from_secs(5), || async {
        Ok((ends(&first.log, "before")? == 1).then_some(()))
    })
    .await?;
    drop(first);

    let second = Operator::start(&kubeconfig, &[], &[]).await?;
    profile("after").await?;
    wait_for("the end is told", Duration::from_secs(5), || async {
        Ok((ends(&second.log, "after")? == 1).then_some(()))
    })
    .await?;
    ensure!(ends(&second.log, "before")? == 0, "see {}", second.log.display());
    place.forget()
}

/// How many sessions wait for a load that does not come.
const WAITING: usize = 2000;

/// Sessions that wait may be there for days, and in any number: agents are not kept waiting for them.
#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_that_wait_do_not_delay_the_next_leader() -> Result<()> {
    let kubeconfig = api_server()?;
    let place = Place::new(&kubeconfig, "failover-many").await?;
    let flags = ["--session-budget", "5000"];
    let start = async || -> Result<(Operator, Duration)> {
        let operator = Operator::start(&kubeconfig, &[], &flags).await?;
        let led_after = operator.led_after;
        Ok((operator, led_after))
    };
    drop(start().await?);
    let (first, few) = start().await?;
    let me = place.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    let spec = json!({"target": {"pods": ["orders-1"]}, "duration": "10s", "startWhen": {"jobRef": {"name": "never"}, "deadline": "24h"},
        "requestedBy": {"username": me, "groups": ["system:masters"]}});
    let (place_of, spec_of) = (&place, &spec);
    let made = futures::stream::iter(0..WAITING).map(|n| async move {
        let session = object("ProfileSession", &place_of.namespace, &format!("waits-{n}"), spec_of);
        create(&place_of.client, &session, false).await.map(drop)
    });
    made.buffer_unordered(16).try_collect::<Vec<()>>().await?;
    let last = format!("waits-{}", WAITING - 1);
    place.until("ProfileSession", &last, 60, |s| s["reason"] == "WaitingForLoad").await?;
    drop(first);

    // What else the machine does only adds to a start, so the quickest of a few counts.
    let (mut second, mut many) = start().await?;
    for _ in 0..4 {
        if many < few + Duration::from_secs(2) {
            break;
        }
        drop(second);
        let (next, took) = start().await?;
        (second, many) = (next, many.min(took));
    }
    eprintln!("a leader serves after {few:?}, after {many:?} with {WAITING} waiting sessions");
    ensure!(many < few + Duration::from_secs(2), "{many:?} instead of {few:?}; see {}", second.log.display());
    // Somebody else's session is not kept waiting either.
    let other = Place::new(&kubeconfig, "failover-other").await?;
    let begun = Instant::now();
    create(&other.client, &object("ProfileSession", &other.namespace, "now", &spec), false).await?;
    other.until("ProfileSession", "now", 20, |s| s["reason"] == "WaitingForLoad").await?;
    let taken = begun.elapsed();
    eprintln!("another namespace's session is taken after {taken:?}");
    ensure!(taken < Duration::from_secs(20), "another namespace's session waited for {taken:?}");
    other.forget()?;
    place.forget()
}
