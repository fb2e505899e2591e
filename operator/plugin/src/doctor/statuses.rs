//! What do policies and sessions say of themselves? Their status is the operator's own word.

use std::collections::BTreeMap;

use fleetprof_core::conditions::is_true;
use fleetprof_crds::policy_status::{LinkState, LinkedApp};
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSessionStatus, Reason};
use serde_json::Value;

use super::check::{Check, Level};
use crate::policies::Policy;

/// What policies say of themselves.
pub(super) const POLICIES: &str = "Policies";
const APPS: &str = "LinkedApps";
/// What sessions say of themselves.
pub(super) const SESSIONS: &str = "Sessions";

/// Conditions of policies that do not hold, and apps that cannot be profiled.
pub(super) fn policies(all: &[Policy], namespace: &str) -> Vec<Check> {
    if all.is_empty() {
        return vec![Check::of(
            POLICIES,
            Level::Warning,
            format!(
                "namespace {namespace} has no ProfilingPolicy, and there is no ClusterProfilingPolicy that you may list"
            ),
            "apply a ProfilingPolicy, see examples/policy.yaml",
        )];
    }
    let mut checks = Vec::new();
    for policy in all {
        let failing: Vec<Check> = conditions(policy).collect();
        let name = &policy.reference.name;
        if !failing.is_empty() {
            checks.extend(failing);
        } else if is_true(&policy.status.conditions, "Ready") {
            checks.push(Check::passed(POLICIES, format!("policy {name} is ready")));
        } else {
            checks.push(Check::of(
                POLICIES,
                Level::Warning,
                format!("policy {name} is not known to be ready: its status has no condition Ready"),
                "check that the operator is running and has the same version as this plugin",
            ));
        }
    }
    let here = all.iter().flat_map(|policy| policy.apps().map(move |(of, app)| (policy, of, app)));
    let here: Vec<_> = here.filter(|(_, of, _)| *of == namespace).collect();
    let linked = here.iter().filter(|(_, _, app)| app.state == LinkState::Linked).count();
    if linked > 0 {
        checks.push(Check::passed(
            APPS,
            format!("{linked} of {} apps can be profiled in all of their pods", here.len()),
        ));
    }
    let others = here.iter().filter(|(_, _, app)| app.state != LinkState::Linked);
    checks.extend(others.map(|(policy, _, app)| of_app(&policy.reference.name, app)));
    checks
}

fn conditions(policy: &Policy) -> impl Iterator<Item = Check> + '_ {
    let failing = policy.status.conditions.iter().filter(|condition| condition.status == "False");
    failing.map(|condition| {
        let level = if condition.type_ == "Ready" { Level::Failed } else { Level::Warning };
        let message =
            format!("policy {}: {}=False: {}", policy.reference.name, condition.type_, condition.message);
        Check::reason(reason(&condition.reason), level, message)
    })
}

/// The reason of this name; `Unknown` for one of a newer version.
fn reason(name: &str) -> Reason {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == name).unwrap_or(Reason::Unknown)
}

/// An app, as the status has it.
pub(super) fn of_app(policy: &str, app: &LinkedApp) -> Check {
    let level = match app.state {
        LinkState::Linked => Level::Passed,
        LinkState::PartiallyLinked | LinkState::Unknown => Level::Warning,
        LinkState::NotLinked => Level::Failed,
    };
    let mut message = format!(
        "{}/{} under policy {policy}: {} of {} pods can be profiled",
        app.kind, app.name, app.linked, app.pods
    );
    if !app.message.is_empty() {
        message.push_str(&format!(" ({})", app.message));
    }
    Check::reason(app.reason, level, message)
}

/// Sessions without data, by reason.
pub(super) fn sessions(list: &Value) -> Vec<Check> {
    let mut failed: BTreeMap<Reason, (usize, String)> = BTreeMap::new();
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    for item in items {
        let Ok(status) = serde_json::from_value::<ProfileSessionStatus>(item["status"].clone()) else {
            continue;
        };
        let is_empty =
            matches!(status.phase, Phase::Succeeded | Phase::PartiallySucceeded) && status.samples == 0;
        if is_empty || matches!(status.phase, Phase::Failed | Phase::Expired) {
            let entry = failed.entry(status.reason.unwrap_or(Reason::Unknown)).or_default();
            entry.0 += 1;
            entry.1 = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        }
    }
    if failed.is_empty() {
        let said = match items.len() {
            0 => "there are no sessions yet".to_owned(),
            all => format!("none of {all} sessions ended without data"),
        };
        return vec![Check::passed(SESSIONS, said)];
    }
    let said = failed.into_iter().map(|(reason, (count, name))| {
        let message = format!(
            "{count} of {} sessions have no data, such as {name}: kubectl fleetprof get {name}",
            items.len()
        );
        Check::reason(reason, Level::Warning, message)
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(status: &Value) -> Policy {
        Policy {
            reference: crate::target::policy("shop").unwrap(),
            namespace: "shop".into(),
            spec: None,
            namespaces: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector::default(),
            created: None,
            status: serde_json::from_value(status.clone()).unwrap(),
        }
    }

    #[test]
    fn the_ids_are_the_reasons_of_the_status() {
        let all = [policy(&json!({
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "FailureRate", "message": "Half failed.", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Configured", "status": "True", "reason": "Valid", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "linkedApps": [
                {"kind": "Deployment", "name": "a", "pods": 2, "linked": 2, "state": "Linked", "reason": "Linked"},
                {"kind": "Deployment", "name": "b", "pods": 2, "linked": 0, "state": "NotLinked", "reason": "UnknownUser", "message": "app"}],
        }))];
        let checks = policies(&all, "shop");
        let ids: Vec<(&str, Level)> = checks.iter().map(|check| (check.id, check.level)).collect();
        assert_eq!(
            ids,
            [("FailureRate", Level::Failed), ("LinkedApps", Level::Passed), ("UnknownUser", Level::Failed)]
        );
        assert!(checks[2].message.contains("0 of 2 pods") && !checks[2].hint.is_empty(), "{checks:?}");
        assert_eq!(policies(&[], "shop")[0].level, Level::Warning);
        let unknown = policies(&[policy(&json!({}))], "shop");
        assert_eq!(unknown[0].level, Level::Warning, "an operator that never ran says nothing: {unknown:?}");
        let ready = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Active", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        assert_eq!(policies(&[policy(&ready)], "shop")[0].level, Level::Passed);
    }

    #[test]
    fn failed_sessions_are_counted_by_reason() {
        let session = |phase: &str, reason: &str| json!({"metadata": {"name": "s"}, "status": {"phase": phase, "reason": reason}});
        let list = json!({"items": [session("Failed", "NoMatchingPods"), session("Failed", "NoMatchingPods"), session("Succeeded", "Completed"), session("Succeeded", "NoSamples"), session("Running", "Capturing")]});
        let mut list = list;
        list["items"][2]["status"]["samples"] = json!(7);
        let checks = sessions(&list);
        assert_eq!((checks[0].id, checks[0].level), ("NoMatchingPods", Level::Warning));
        let ids: Vec<&str> = checks.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), 2, "one that succeeded without a sample counts too: {checks:?}");
        assert!(ids.contains(&"NoSamples"));
        assert!(checks[0].message.starts_with("2 of 5 sessions have no data"), "{checks:?}");
        assert_eq!(sessions(&json!({"items": []}))[0].level, Level::Passed);
    }
}
