//! Does a session hold values that only a newer version knows? Then this version leaves it alone: it could
//! only guess.

use fleetprof_crds::ProfileSession;
use fleetprof_crds::phase::{Phase, TargetPhase};
use fleetprof_crds::session::PolicyKind;

/// The first field whose value only a newer version knows.
#[must_use]
pub fn unknown(session: &ProfileSession) -> Option<&'static str> {
    if session.spec.policy_ref.as_ref().is_some_and(|policy| policy.kind == PolicyKind::Unknown) {
        return Some("spec.policyRef.kind");
    }
    let status = session.status.as_ref()?;
    if status.phase == Phase::Unknown {
        return Some("status.phase");
    }
    let of_targets = status.targets.iter().any(|target| target.phase == TargetPhase::Unknown);
    let of_repeats =
        status.repeat.iter().flat_map(|series| &series.captures).any(|row| row.phase == Phase::Unknown);
    match (of_targets, of_repeats) {
        (true, _) => Some("status.targets[].phase"),
        (_, true) => Some("status.repeat.captures[].phase"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn session(spec: Value, status: Value) -> ProfileSession {
        let meta = json!({"namespace": "shop", "name": "one"});
        let object = json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
            "metadata": meta, "spec": spec, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_word_of_a_newer_version_is_named_by_its_field() {
        let target = json!({"pod": "p", "container": "c", "workload": "w", "phase": "Folding"});
        let cases = [
            (json!({}), json!({"phase": "Running"}), None),
            (json!({}), json!({"phase": "Merging"}), Some("status.phase")),
            (json!({}), json!({"phase": "Running", "targets": [target]}), Some("status.targets[].phase")),
            (
                json!({"policyRef": {"kind": "TeamPolicy", "name": "a"}}),
                json!({}),
                Some("spec.policyRef.kind"),
            ),
        ];
        for (spec, status, field) in cases {
            let session = session(spec, status);
            assert_eq!(unknown(&session), field, "{session:?}");
            let terminal = session.status.as_ref().is_some_and(|s| s.phase.is_terminal());
            assert!(!terminal, "what is not known has not ended");
        }
    }
}
