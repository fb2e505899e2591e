//! Is a round lost because somebody else has the name of its session? On a real API server, whose pods are
//! moved by the test as a kubelet would.
#![allow(missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::kubelet::Place;
use fleetprof_tests::operator::Operator;
use fleetprof_tests::people::{create, object};
use fleetprof_tests::{api_server, wait_for};
use kube::api::{DynamicObject, ListParams};
use serde_json::json;

/// Somebody makes sessions under the names of the next rounds of a policy, with these endings.
async fn take_names(place: &Place, policy: &str, endings: &[&str]) -> Result<()> {
    let me = place.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    let spec = json!({"target": {"podSelector": {"matchLabels": {"app": "none"}}}, "duration": "10s",
        "requestedBy": {"username": me, "groups": ["system:masters"]}});
    // With a round every minute, its number is that of the minute.
    let minute = jiff::Timestamp::now().as_second() / 60;
    for number in minute - 2..minute + 4 {
        for ending in endings {
            let name = format!("{policy}-{number}{ending}");
            create(&place.client, &object("ProfileSession", &place.namespace, &name, &spec), false).await?;
        }
    }
    Ok(())
}

/// A policy for the pods of an app, with a round every minute.
async fn every_minute(place: &Place, name: &str) -> Result<()> {
    let spec = json!({"selector": {"matchLabels": {"app": name}}, "agent": {"mode": "Ephemeral"},
        "schedule": {"every": "1m", "duration": "10s"}, "session": {"startDeadline": "5s"}});
    create(&place.client, &object("ProfilingPolicy", &place.namespace, name, &spec), false).await?;
    Ok(())
}

/// Sessions that a policy's schedule has started.
async fn rounds(place: &Place, policy: &str) -> Result<Vec<DynamicObject>> {
    let all = place.ours("ProfileSession").list(&ListParams::default()).await?;
    let is_round = |s: &DynamicObject| {
        s.data["spec"]["trigger"] == "Schedule" && s.data["spec"]["policyRef"]["name"] == policy
    };
    Ok(all.items.into_iter().filter(is_round).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_whose_name_is_taken_has_another_name_or_is_told_of() -> Result<()> {
    let kubeconfig = api_server()?;
    let _operator = Operator::start(&kubeconfig, &[], &[]).await?;
    let place = Place::new(&kubeconfig, "rounds").await?;
    for (app, endings) in [("one", &[""][..]), ("all", &["", "-b", "-c"])] {
        place.pod(&format!("{app}-pod"), &json!({"app": app}), None, |_| ())?;
        take_names(&place, app, endings).await?;
        every_minute(&place, app).await?;
    }
    let round = wait_for("a round under the next name", Duration::from_secs(90), || async {
        Ok(rounds(&place, "one").await?.pop())
    })
    .await?;
    let annotations = round.metadata.annotations.clone().unwrap_or_default();
    let number = annotations.get("fleetprof.dev/round").context("a round has a number")?;
    ensure!(round.metadata.name == Some(format!("one-{number}-b")), "{:?}", round.metadata);
    let theirs = place.ours("ProfileSession").get(&format!("one-{number}")).await?;
    ensure!(
        theirs.data["spec"]["trigger"] == "OnDemand",
        "somebody else's session is left alone: {theirs:#?}"
    );

    wait_for("the policy tells whose name it is not", Duration::from_secs(90), || async {
        let told = place.events("all", "SessionRefused")?;
        Ok(told.iter().any(|note| note.contains("is taken by another session")).then_some(()))
    })
    .await?;
    ensure!(rounds(&place, "all").await?.is_empty());
    place.forget()
}
