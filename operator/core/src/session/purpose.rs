//! Is an existing session the one that was to be created, or a different one of the same name?

use fleetprof_crds::{ProfileSession, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// Annotations that say what the operator created a session for.
const PURPOSE: [&str; 3] = [names::ROUND_ANNOTATION, names::WORKLOAD_ANNOTATION, names::SOURCE_ANNOTATION];

/// Whether `found` was created for what `wanted` is to be created for: by the same owner, and for the same
/// round or firing. Only the operator can create sessions with another trigger than `OnDemand`.
#[must_use]
pub fn same_purpose(found: &ProfileSession, wanted: &ProfileSession) -> bool {
    let owners = |session: &ProfileSession| session.metadata.owner_references.clone().unwrap_or_default();
    let found_owners = owners(found);
    let has = |owner: &OwnerReference| found_owners.iter().any(|found| found.uid == owner.uid);
    let annotation = |session: &ProfileSession, key: &str| {
        session.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned()
    };
    found.spec.trigger == wanted.spec.trigger
        && owners(wanted).iter().all(has)
        && PURPOSE.iter().all(|key| annotation(found, key) == annotation(wanted, key))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn session(trigger: &str, owner: &str, annotations: Value) -> ProfileSession {
        let owner = json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "name": "p", "uid": owner});
        let owners = if owner["uid"] == "" { json!([]) } else { json!([owner]) };
        let meta = json!({"name": "p-7", "namespace": "shop", "annotations": annotations, "ownerReferences": owners});
        serde_json::from_value(json!({
            "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": meta,
            "spec": {"trigger": trigger},
        }))
        .unwrap()
    }

    #[test]
    fn a_session_of_the_same_name_is_the_same_only_by_its_owner_trigger_and_round() {
        let round = |n: &str| json!({"fleetprof.dev/round": n});
        let wanted = session("Schedule", "uid-p", round("7"));
        let cases = [
            (session("Schedule", "uid-p", round("7")), true),
            (session("OnDemand", "uid-p", round("7")), false),
            (session("Schedule", "uid-q", round("7")), false),
            (session("Schedule", "", round("7")), false),
            (session("Schedule", "uid-p", round("8")), false),
            (session("OnDemand", "", Value::Null), false),
        ];
        for (found, same) in cases {
            assert_eq!(same_purpose(&found, &wanted), same, "{:?}", found.metadata);
        }
        let fired = |workload: &str| {
            let annotations = json!({"fleetprof.dev/workload": workload, "fleetprof.dev/source": "cpu"});
            session("CPU", "uid-p", annotations)
        };
        assert!(same_purpose(&fired("Deployment/web"), &fired("Deployment/web")));
        assert!(!same_purpose(&fired("Deployment/api"), &fired("Deployment/web")));
    }
}
