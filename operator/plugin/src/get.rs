//! `kubectl fleetprof get`: what did a session do, in words?

use std::fmt::Write;

use clap::Args;
use fleetprof_core::text::printable;
use fleetprof_crds::session_status::{TargetStatus, WorkloadStatus};
use fleetprof_crds::{ProfileKind, ProfileSession, ProfileSessionStatus};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::age::age;
use crate::cluster::{Ask, Cluster};
use crate::ended;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::paths;
use crate::table::Table;

/// What to show.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// Name of the session.
    #[arg(value_parser = paths::session_name)]
    session: String,
    /// How to print it; wide adds nodes and messages of targets.
    #[arg(long, short = 'o', value_name = "FORMAT")]
    output: Option<Format>,
}

/// Shows a session.
pub(crate) async fn run(cluster: &Cluster, args: &GetArgs) -> Result<Exit, Failure> {
    let namespace = paths::namespace(cluster.namespace())?;
    let object = cluster.json(&Ask::get(paths::session(namespace, &args.session))).await?;
    show(&object, args.output)?;
    Ok(Exit::Data)
}

/// Prints a session.
///
/// # Errors
/// It is of another version, or stdout does not take it.
pub(crate) fn show(object: &Value, format: Option<Format>) -> Result<(), Failure> {
    match format {
        Some(format @ (Format::Json | Format::Yaml | Format::Name)) => {
            output::print(&output::object(object, format)?)
        }
        wide => {
            let session: ProfileSession = serde_json::from_value(object.clone()).map_err(|error| {
                Failure::error(format!(
                    "the session cannot be read ({error}): use --output yaml, or upgrade this plugin"
                ))
            })?;
            output::print(&words(&session, wide.is_some(), Timestamp::now()))
        }
    }
}

/// A session in words.
fn words(session: &ProfileSession, wide: bool, now: Timestamp) -> String {
    let default = ProfileSessionStatus::default();
    let status = session.status.as_ref().unwrap_or(&default);
    let name = session.metadata.name.as_deref().unwrap_or_default();
    let mut text = format!("{}\n", ended::outcome(name, status, now));
    let _ = writeln!(text, "{}", printable(&request(session, now)));
    if !status.targets.is_empty() {
        let _ = write!(text, "\n{}", targets(session, &status.targets, wide));
    }
    if wide && !status.workloads.is_empty() {
        let _ = write!(text, "\n{}", workloads(&status.workloads));
    }
    if !status.top_functions.is_empty() {
        let _ = writeln!(text, "\nHottest functions by self samples:");
        let mut table = Table::new(&["self%", "function", "where"]);
        for top in &status.top_functions {
            table.row(vec![top.self_percent.clone(), top.name.clone(), top.location.clone()]);
        }
        text.push_str(&table.text());
    }
    for said in notes(status) {
        let _ = writeln!(text, "\n{said}");
    }
    text
}

/// Who asked for what.
fn request(session: &ProfileSession, now: Timestamp) -> String {
    let spec = &session.spec;
    let kinds: Vec<&str> = spec.profiles.iter().map(|kind| ProfileKind::name(*kind)).collect();
    let mut said = format!("{} for {} at {} Hz", kinds.join(", "), spec.duration, spec.frequency_hz);
    if let Some(app) = session.status.as_ref().map(|status| &status.app).filter(|app| !app.is_empty()) {
        let _ = write!(said, " on {app}");
    }
    if let Some(policy) = &spec.policy_ref {
        let _ = write!(said, ", under {} {}", policy.kind.as_str(), policy.name);
    }
    let _ = write!(said, "; trigger {}", spec.trigger.as_str());
    if let Some(requester) = &spec.requested_by {
        let _ = write!(said, ", requested by {}", requester.username);
    }
    if !spec.cause.is_empty() {
        let _ = write!(said, " ({})", spec.cause);
    }
    if let Some(created) = &session.metadata.creation_timestamp {
        let _ = write!(said, ", {} ago", age(now, created.0));
    }
    said
}

fn targets(session: &ProfileSession, targets: &[TargetStatus], wide: bool) -> String {
    let mut heading = vec![
        "pod",
        "container",
        "runtime",
        "collector",
        "phase",
        "reason",
        "samples",
        "coverage",
        "throttled",
    ];
    if wide {
        heading.extend(["node", "cpu%", "mem%", "for", "Hz", "message"]);
    }
    let share = |value: Option<i32>| value.map_or_else(String::new, |value| format!("{value}%"));
    let number = |value: Option<i32>| value.map_or_else(String::new, |value| value.to_string());
    let mut table = Table::new(&heading);
    for target in targets {
        let mut cells = vec![
            target.pod.clone(),
            target.container.clone(),
            target.runtime.clone().unwrap_or_default(),
            target.collector.clone().unwrap_or_default(),
            json!(target.phase).as_str().unwrap_or_default().to_owned(),
            target.reason.map_or_else(String::new, |reason| reason.to_string()),
            target.samples.to_string(),
            share(target.coverage),
            share(target.throttled_percent),
        ];
        if wide {
            cells.push(target.node.clone());
            cells.extend([number(target.cpu_percent), number(target.memory_percent)]);
            cells.push(target.effective_duration.unwrap_or(session.spec.duration).to_string());
            cells.push(target.effective_frequency_hz.unwrap_or(session.spec.frequency_hz).to_string());
            cells.push(target.message.clone());
        }
        table.row(cells);
    }
    table.text()
}

/// Of how many pods of each workload the session is.
fn workloads(workloads: &[WorkloadStatus]) -> String {
    let mut table = Table::new(&["workload", "pods", "targets", "captured", "pod-seconds", "samples"]);
    for row in workloads {
        let numbers = [row.pods, row.targets, row.captured].map(|number| number.to_string());
        let totals = [row.pod_seconds, row.samples].map(|number| number.to_string());
        table.row([vec![row.workload.clone()], numbers.to_vec(), totals.to_vec()].concat());
    }
    table.text()
}

/// Conditions that say how far to believe the profiles, or what a comparison came to.
fn notes(status: &ProfileSessionStatus) -> Vec<String> {
    let tells = |type_: &str, value: &str| match type_ {
        "Representative" | "Delivered" | "AgentReachable" => value != "True",
        "Regressed" | "Growing" | "ResultsDelayed" | "TargetsLimited" | "TtlLimited" | "Kept"
        | "ClockWentBack" => true,
        _ => false,
    };
    let told = status.conditions.iter().filter(|condition| tells(&condition.type_, &condition.status));
    told.filter(|condition| !condition.message.is_empty())
        .map(|condition| {
            let (type_, status) = (&condition.type_, &condition.status);
            printable(&format!("{type_}={status} ({}): {}", condition.reason, condition.message))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_in_words() {
        let object = json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": {"name": "now-1", "namespace": "shop", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"policyRef": {"name": "shop"}, "duration": "30s", "requestedBy": {"username": "a\u{1b}[2Jda"}},
            "status": {
                "phase": "Succeeded", "reason": "Completed", "app": "Deployment/orders", "samples": 12,
                "counts": {"desired": 1, "started": 1, "succeeded": 1, "failed": 0, "skipped": 0},
                "targets": [{"pod": "orders-1", "container": "app", "runtime": "Python 3.11", "phase": "Succeeded", "samples": 12, "coverage": 97, "throttledPercent": 40, "node": "n1",
                    "effectiveDuration": "20s"}],
                "workloads": [{"workload": "Deployment/orders", "pods": 7, "targets": 1, "captured": 1, "podSeconds": 20, "samples": 12}],
                "topFunctions": [{"name": "luhn", "location": "cards.py:42", "selfPercent": "87.3"}],
                "conditions": [
                    {"type": "Representative", "status": "False", "reason": "LowCoverage", "message": "Half\nis \u{202e}missing.", "lastTransitionTime": "1970-01-01T00:00:00Z"},
                    {"type": "Complete", "status": "True", "reason": "Completed", "message": "Done.", "lastTransitionTime": "1970-01-01T00:00:00Z"}],
            },
        });
        let session: ProfileSession = serde_json::from_value(object).unwrap();
        let now = Timestamp::from_second(60).unwrap();
        let text = words(&session, false, now);
        let wanted = [
            "Session now-1: Succeeded (Completed)\n",
            "cpu for 30s at 99 Hz on Deployment/orders, under ProfilingPolicy shop; trigger OnDemand, requested by a[2Jda, 60s ago\n",
            "orders-1   app         Python 3.11",
            "97%        40%\n",
            "87.3    luhn       cards.py:42",
            "Representative=False (LowCoverage): Half is missing.",
        ];
        for words in wanted {
            assert!(text.contains(words), "{words:?} is not in:\n{text}");
        }
        assert!(!text.contains("Done.") && !text.contains("n1"), "{text}");
        let wide = words(&session, true, now);
        let rows = wide.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let rows: Vec<String> = rows.collect();
        assert!(rows.iter().any(|row| row.contains(" n1 20s 99")), "{wide}");
        assert!(rows.contains(&"Deployment/orders 7 1 1 20 12".to_owned()), "{wide}");
    }
}
