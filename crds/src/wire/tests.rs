//! Do agents and gateways of different versions read each other's offers?

use serde_json::json;

use super::*;

/// A container's report as agents and gateways knew it that knew no offers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EarlierReport {
    id: String,
    runtime: String,
    cpu_percent: Option<i32>,
    memory_percent: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

#[test]
fn a_report_without_offers_and_one_with_offers_are_read_by_both_sides() {
    let earlier = json!({"id": "a", "runtime": "Native", "cpuPercent": 3, "memoryPercent": null});
    let mut report: ContainerReport = serde_json::from_value(earlier.clone()).unwrap();
    assert_eq!(report.offers, []);
    let text = serde_json::to_value(&report).unwrap();
    assert_eq!(text, earlier, "an agent that offers nothing says no word that is new");
    let problem = Problem { reason: Reason::UnsupportedRuntime, message: "no listener".into() };
    report.offers =
        vec![Offer::good(ProfileKind::Cpu, "native"), Offer::refused(ProfileKind::Heap, "go-pprof", problem)];
    let text = serde_json::to_value(&report).unwrap();
    assert_eq!(serde_json::from_value::<ContainerReport>(text.clone()).unwrap(), report);
    let read: EarlierReport = serde_json::from_value(text).unwrap();
    assert_eq!((read.id.as_str(), read.runtime.as_str(), read.cpu_percent), ("a", "Native", Some(3)));
}

#[test]
fn an_offer_of_a_kind_that_only_a_newer_version_has_is_unknown() {
    let offer = json!({"kind": "energy", "collector": "rapl"});
    assert_eq!(serde_json::from_value::<Offer>(offer).unwrap().kind, ProfileKind::Unknown);
}
