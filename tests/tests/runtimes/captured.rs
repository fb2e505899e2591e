//! What is found of each target by each way, and what goes wrong?

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fleetprof_tests::root;
use fleetprof_tests::runtimes::{Finding, Way};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::pods::Place;
use crate::targets::{KINDS, Target};

/// Pods that run at a time: each uses half a core at most, and most of its time waits.
const AT_A_TIME: usize = 4;

/// What came of captures.
#[derive(Default)]
pub struct Report {
    /// Kinds that were captured with the guilty function on top.
    pub found: Vec<Finding>,
    /// A text on each that was not: runtime, way, kinds, and the session's status.
    pub faults: Vec<String>,
    /// What was measured of each kind.
    measured: Vec<Value>,
}

/// Captures all targets by these ways. What was measured is written to `target/runtimes.json`.
pub async fn captured(place: &Place, targets: &[Target], ways: &[Way]) -> Result<Report> {
    let jobs = targets.iter().flat_map(|target| ways.iter().map(move |way| (target, *way)));
    let each = stream::iter(jobs).map(|(target, way)| of_target(place, target, way));
    let reports: Vec<Report> = each.buffer_unordered(AT_A_TIME).collect().await;
    let mut all = Report::default();
    for report in reports {
        all.found.extend(report.found);
        all.faults.extend(report.faults);
        all.measured.extend(report.measured);
    }
    // In the order of the table.
    all.found.sort_by_key(|finding| {
        let target = targets.iter().position(|target| target.runtime == finding.runtime);
        let kind = KINDS.iter().position(|kind| *kind == finding.kind);
        (target, kind, ways.iter().position(|way| *way == finding.way))
    });
    std::fs::write(root().join("target/runtimes.json"), format!("{:#}\n", json!(all.measured)))?;
    Ok(all)
}

async fn of_target(place: &Place, target: &Target, way: Way) -> Report {
    let (began, name) = (Instant::now(), format!("{}-{}", target.name, way.name()));
    let mut report = Report::default();
    let outcome = in_pod(place, &name, target, way, &mut report).await;
    let removed = place.remove(&name);
    for error in [outcome.err(), removed.err()].into_iter().flatten() {
        report.faults.push(format!("{error:#}"));
    }
    for fault in &mut report.faults {
        *fault = format!("{} by {}: {fault}", target.runtime, way.mode());
    }
    let (found, faults) = (report.found.len(), report.faults.len());
    println!("{name}: {found} kinds and {faults} faults in {:?}", began.elapsed());
    report
}

/// Runs a target in a pod, and captures it in as many sessions as its kinds take.
async fn in_pod(place: &Place, name: &str, target: &Target, way: Way, report: &mut Report) -> Result<()> {
    place.deploy(name, way, &[("app", target)], |_| ()).await?;
    place.linked(way, name, |_| true).await?;
    for kinds in target.sessions() {
        if let Err(error) = session(place, name, target, (way, &kinds), report).await {
            report.faults.push(format!("session of {}: {error:#}", kinds.join(", ")));
        }
    }
    let agents = place.agents(name).await?;
    let wanted = match way {
        Way::Sidecar => (1, vec![]),
        Way::Ephemeral => (0, vec!["app".to_owned()]),
        Way::Node => (0, vec![]),
    };
    ensure!(agents == wanted, "the pod has the agents {agents:?}, not {wanted:?}");
    let is_found = |kind: &str| report.found.iter().any(|finding| finding.kind == kind);
    // From outside of a pod its loopback address cannot be reached: what is missing is compared with the record.
    let is_expected = |kind: &&str| way != Way::Node && !is_found(kind);
    let missing: Vec<&str> = target.guilty.iter().map(|g| g.kind).filter(is_expected).collect();
    ensure!(missing.is_empty(), "{missing:?} is not found");
    Ok(())
}

/// Captures kinds of a target, and judges those of which there are samples.
async fn session(
    place: &Place,
    name: &str,
    target: &Target,
    (way, kinds): (Way, &[&str]),
    report: &mut Report,
) -> Result<()> {
    let (session, status) = place.session(way, name, "app", kinds).await?;
    let seen = &status["targets"][0];
    if way == Way::Node && (seen["phase"] == "Skipped" || !target.from_outside) {
        println!("{name}: {}: {}", kinds.join(", "), seen["message"]);
        return Ok(());
    }
    ensure!(status["phase"] == "Succeeded", "{status:#}");
    ensure!(is_of(&seen["runtime"], target.status), "it is {}: {status:#}", seen["runtime"]);
    if kinds.contains(&"cpu") {
        let coverage = seen["coverage"].as_i64();
        ensure!(coverage >= Some(target.coverage), "the coverage is {coverage:?} %: {status:#}");
    }
    for profile in seen["profiles"].as_array().into_iter().flatten() {
        let kind = profile["type"].as_str().unwrap_or_default();
        let collector = seen["collector"].as_str().unwrap_or_default().to_owned();
        let mut measured = json!({"runtime": target.runtime, "way": way, "kind": kind, "collector": collector,
            "samples": profile["samples"], "message": seen["message"]});
        if kind == "cpu" {
            measured["coverage"] = seen["coverage"].clone();
            measured["processes"] = seen["processes"].clone();
        }
        report.measured.push(measured);
        match judge(place, &session, target, kind) {
            Ok(lines) => {
                let (runtime, kind) = (target.runtime.to_owned(), kind.to_owned());
                report.found.push(Finding { runtime, kind, way, collector, lines });
            }
            Err(error) => report.faults.push(format!("{kind} by {collector}: {error:#} {status:#}")),
        }
    }
    Ok(())
}

/// Whether the profile of a kind tells the line of the guilty function, which must be on top.
pub fn judge(place: &Place, session: &str, target: &Target, kind: &str) -> Result<bool> {
    let top = place.top(session, kind).context("/top of the read API")?;
    target.guilty_of(kind)?.is_blamed(&top)
}

/// Whether a status names the runtime so.
fn is_of(runtime: &Value, wanted: &str) -> bool {
    runtime.as_str().is_some_and(|runtime| runtime.starts_with(wanted))
}
