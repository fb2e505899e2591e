//! Is every runtime captured in a pod, by each way, with the guilty function on top? On the full cluster of
//! the demo, with the images of `tests/runtimes.sh`, in namespaces that enforce Pod Security restricted. Runs
//! one test at a time: `--test-threads=1`.
//!
//! Without `--ignored` each runtime is captured once by a sidecar; `make matrix` captures all versions by all
//! ways. What is found is held against `tests/runtimes.json`; `FLEETPROF_REGENERATE=1 make matrix` records it
//! there. With `FLEETPROF_RUNTIMES=java,node-22` the matrix is of these targets alone, and with `FLEETPROF_WAYS=Node`
//! of these ways. Agents of nodes are installed for as long as they are needed.
#![allow(missing_docs)]

mod captured;
mod pods;
mod targets;

use anyhow::{Result, ensure};
use fleetprof_tests::runtimes::{Comparison, Finding, WAYS, Way, compare, record, recorded};
use serde_json::{Value, json};

use captured::{captured, judge};
use pods::Place;
use targets::{KINDS, PROCESSES, RUNTIMES_ONCE, Target, VERSIONS_MORE, named};

#[tokio::test]
async fn each_runtime_is_captured_by_a_sidecar() -> Result<()> {
    let place = Place::new("runtimes").await?;
    let report = captured(&place, RUNTIMES_ONCE, &[Way::Sidecar]).await?;
    place.forget()?;
    let tried = |finding: &Finding| {
        finding.way == Way::Sidecar && RUNTIMES_ONCE.iter().any(|target| target.runtime == finding.runtime)
    };
    is_as_recorded(&report.faults, &compare(&recorded()?, &report.found, tried))
}

#[tokio::test]
#[ignore = "takes minutes: make matrix"]
async fn every_version_is_captured_by_every_way() -> Result<()> {
    let ways = ways();
    let place = Place::of("runtimes", &ways).await?;
    let mut targets = [RUNTIMES_ONCE, VERSIONS_MORE].concat();
    if let Ok(names) = std::env::var("FLEETPROF_RUNTIMES") {
        targets.retain(|target| names.split(',').any(|name| name == target.name));
    }
    let report = captured(&place, &targets, &ways).await?;
    place.forget()?;
    let tried = |finding: &Finding| {
        ways.contains(&finding.way) && targets.iter().any(|target| target.runtime == finding.runtime)
    };
    if std::env::var_os("FLEETPROF_REGENERATE").is_some() {
        record(&merged(recorded()?, report.found.clone(), tried))?;
    }
    let comparison = compare(&recorded()?, &report.found, tried);
    is_as_recorded(&report.faults, &comparison)?;
    let new = &comparison.new;
    ensure!(new.is_empty(), "not in tests/runtimes.json, see CONTRIBUTING.md to record it: {new:#?}");
    Ok(())
}

/// The ways that are tried.
fn ways() -> Vec<Way> {
    let named = std::env::var("FLEETPROF_WAYS").ok();
    let is_named = |way: &Way| named.as_ref().is_none_or(|all| all.split(',').any(|name| name == way.mode()));
    WAYS.into_iter().filter(is_named).collect()
}

/// The recorded findings, with those of targets that were `tried` in place of theirs.
fn merged(recorded: Vec<Finding>, found: Vec<Finding>, tried: impl Fn(&Finding) -> bool) -> Vec<Finding> {
    let order = [RUNTIMES_ONCE, VERSIONS_MORE].concat();
    let kept = recorded.into_iter().filter(|finding| !tried(finding));
    let mut all: Vec<Finding> = kept.chain(found).collect();
    let position = |finding: &Finding| {
        let target = order.iter().position(|target| target.runtime == finding.runtime);
        let kind = KINDS.iter().position(|kind| *kind == finding.kind);
        (target, kind, WAYS.iter().position(|way| *way == finding.way))
    };
    all.sort_by_key(position);
    all
}

fn is_as_recorded(faults: &[String], comparison: &Comparison) -> Result<()> {
    ensure!(faults.is_empty(), "{}", faults.join("\n\n"));
    let worse = comparison.worse.join("\n");
    ensure!(worse.is_empty(), "worse than tests/runtimes.json:\n{worse}");
    Ok(())
}

#[tokio::test]
#[ignore = "takes minutes: make matrix"]
async fn containers_of_two_runtimes_are_captured_alone_and_at_the_same_time() -> Result<()> {
    let ways = ways();
    let place = Place::of("containers", &ways).await?;
    for way in ways {
        let pods: [(&str, &Target); 2] = [("php", named("php")?), ("go", named("go-served")?)];
        let name = &*format!("two-{}", way.name());
        place.deploy(name, way, &pods, |_| ()).await?;
        place.linked(way, name, |_| true).await?;
        for (container, target) in pods {
            blames(&place, way, name, container, target).await?;
        }
        let both = pods.map(|(container, target)| blames(&place, way, name, container, target));
        futures::future::try_join_all(both).await?;
        let (injected, mut attached) = place.agents(name).await?;
        attached.sort_unstable();
        let wanted: &[&str] = if way == Way::Ephemeral { &["go", "php"] } else { &[] };
        ensure!(
            injected == usize::from(way == Way::Sidecar) && attached == wanted,
            "{injected} {attached:?}"
        );
        place.remove(name)?;
    }
    place.forget()
}

/// Captures a container, whose own guilty function must be on top: its target's status.
async fn blames(place: &Place, way: Way, name: &str, container: &str, target: &Target) -> Result<Value> {
    let (session, status) = place.profile(way, name, container, &["cpu"]).await?;
    judge(place, &session, target, "cpu")?;
    let seen = status["targets"][0].clone();
    let coverage = seen["coverage"].as_i64();
    ensure!(coverage >= Some(target.coverage), "{name}/{container}: coverage {coverage:?}: {status:#}");
    Ok(seen)
}

#[tokio::test]
#[ignore = "takes minutes: make matrix"]
async fn every_process_of_a_container_is_captured() -> Result<()> {
    let ways = ways();
    let place = Place::of("processes", &ways).await?;
    for way in ways {
        for target in PROCESSES.iter().filter(|target| way != Way::Node || target.from_outside) {
            let name = &*format!("{}-{}", target.name, way.name());
            place.deploy(name, way, &[("app", target)], |_| ()).await?;
            place.linked(way, name, |_| true).await?;
            let seen = blames(&place, way, name, "app", target).await?;
            ensure!(seen["processes"].as_i64() >= Some(2), "{name}: {seen:#}");
            println!("{name}: {} processes, coverage {} %", seen["processes"], seen["coverage"]);
            place.remove(name)?;
        }
    }
    place.forget()
}

#[tokio::test]
#[ignore = "takes minutes: make matrix"]
async fn a_pod_that_keeps_its_processes_apart_gets_no_sidecar_and_is_captured_all_the_same() -> Result<()> {
    let place = Place::new("apart").await?;
    let target = named("python")?;
    let apart = |spec: &mut Value| spec["shareProcessNamespace"] = json!(false);
    place.deploy("apart", Way::Sidecar, &[("app", target)], apart).await?;
    place.linked(Way::Sidecar, "apart", |app| app["reason"] == "ProcessNamespaceConflict").await?;
    ensure!(place.agents("apart").await? == (0, vec![]), "{:?}", place.agents("apart").await?);
    blames(&place, Way::Sidecar, "apart", "app", target).await?;
    ensure!(
        place.agents("apart").await? == (0, vec!["app".to_owned()]),
        "{:?}",
        place.agents("apart").await?
    );
    place.forget()
}
