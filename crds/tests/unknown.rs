//! Is a word of a newer version read as such, and never offered by the schema?
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Debug;

use fleetprof_crds::compare::{Baseline, ComparisonResult};
use fleetprof_crds::growth::GrowthResult;
use fleetprof_crds::phase::{Phase, TargetPhase};
use fleetprof_crds::policy::{AgentMode, ExistingPods};
use fleetprof_crds::policy_status::LinkState;
use fleetprof_crds::restart::RestartState;
use fleetprof_crds::schedule::{Preset, SuspendBehavior};
use fleetprof_crds::session::PolicyKind;
use fleetprof_crds::trigger::Trigger;
use fleetprof_crds::wire;
use serde::de::DeserializeOwned;
use serde_json::json;

fn is_read<T: DeserializeOwned + PartialEq + Debug>(unknown: T) {
    assert_eq!(serde_json::from_value::<T>(json!("Tomorrow")).unwrap(), unknown);
}

#[test]
fn a_word_of_a_newer_version_is_read_as_unknown() {
    is_read(Phase::Unknown);
    is_read(TargetPhase::Unknown);
    is_read(Trigger::Unknown);
    is_read(PolicyKind::Unknown);
    is_read(AgentMode::Unknown);
    is_read(ExistingPods::Unknown);
    is_read(LinkState::Unknown);
    is_read(RestartState::Unknown);
    is_read(Preset::Unknown);
    is_read(SuspendBehavior::Unknown);
    is_read(Baseline::Unknown);
    is_read(ComparisonResult::Unknown);
    is_read(GrowthResult::Unknown);
    is_read(wire::AgentMode::Unknown);
    is_read(wire::CaptureState::Unknown);
}

#[test]
fn what_is_not_known_has_not_ended_and_may_be_captured() {
    assert!(!Phase::Unknown.is_terminal() && !TargetPhase::Unknown.is_terminal());
    assert!(TargetPhase::Unknown.holds_place() && !wire::CaptureState::Unknown.is_final());
}

/// The paths of every list of words in a schema that has the word `Unknown`, but for those of reasons.
fn offers(schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            let words = map.get("enum").and_then(|words| words.as_array()).cloned().unwrap_or_default();
            if words.contains(&json!("Unknown")) && !path.ends_with("/reason") {
                found.push(path.to_owned());
            }
            map.iter().for_each(|(key, value)| offers(value, &format!("{path}/{key}"), found));
        }
        serde_json::Value::Array(all) => all.iter().for_each(|value| offers(value, path, found)),
        _ => {}
    }
}

#[test]
fn no_schema_offers_it() {
    let mut found = Vec::new();
    for (stem, crd) in fleetprof_crds::all_crds() {
        // The statuses of conditions are Kubernetes' own words.
        let schema = serde_json::to_value(crd).unwrap();
        offers(&schema, stem, &mut found);
    }
    found.retain(|path| !path.contains("conditions"));
    assert!(found.is_empty(), "{found:?}");
}
