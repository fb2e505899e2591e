use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SESSION: &str = "0b8e2a52-7c51-4d6f-9a57-1f2f0c6d9a11";

fn time(second: i64) -> Option<Time> {
    Timestamp::from_second(1_800_000_000 + second).ok().map(Time)
}

fn target(n: usize, phase: TargetPhase) -> TargetStatus {
    let pod = format!("orders-6d4b75cb6d-{n:05}");
    let profile = StoredProfile {
        kind: ProfileKind::Cpu,
        uri: format!("prod/shop/Deployment-orders/2026-12-01/{SESSION}/{pod}_app_cpu.pb.gz"),
        bytes: 12_345,
        samples: 321,
        destinations: vec!["archive".into()],
        failed: vec![],
    };
    TargetStatus {
        pod,
        workload: "Deployment/orders".into(),
        container: "app".into(),
        capture: format!("{SESSION}-{n:010}"),
        runtime: Some("Python 3.11".into()),
        phase,
        reason: Some(Reason::Completed),
        start_time: time(0),
        profiles: vec![profile],
        ..TargetStatus::default()
    }
}

fn status(targets: Vec<TargetStatus>) -> ProfileSessionStatus {
    ProfileSessionStatus { targets, ..ProfileSessionStatus::default() }
}

fn written(status: &ProfileSessionStatus) -> Value {
    serde_json::to_value(status).unwrap()
}

fn read(value: Value) -> ProfileSessionStatus {
    serde_json::from_value(value).unwrap()
}

#[test]
fn what_many_targets_have_in_common_is_written_once() {
    let mut all = status((0..6).map(|n| target(n, TargetPhase::Succeeded)).collect());
    all.targets[5].runtime = Some("Python 3.12".into());
    all.targets[5].profiles[0].uri = "elsewhere".into();
    let object = written(&all);
    let shared = json!([{
        "phase": "Succeeded", "workload": "Deployment/orders", "container": "app", "capture": format!("{SESSION}-"),
        "runtime": "Python 3.11", "reason": "Completed", "startTime": "2027-01-15T08:00:00Z",
        "profiles": [{
            "type": "cpu", "destinations": ["archive"],
            "uri": format!("prod/shop/Deployment-orders/2026-12-01/{SESSION}/{{pod}}_app_cpu.pb.gz"),
        }],
    }]);
    assert_eq!(object["shared"], shared);
    let own = json!({
        "pod": "orders-6d4b75cb6d-00000", "capture": "0000000000", "phase": "Succeeded", "samples": 0,
        "profiles": [{"type": "cpu", "bytes": 12_345, "samples": 321}],
    });
    assert_eq!(object["targets"][0], own);
    assert_eq!(object["targets"][5]["runtime"], "Python 3.12");
    assert_eq!(object["targets"][5]["profiles"][0]["uri"], "elsewhere");
    assert_eq!(read(object), all);
}

#[test]
fn names_of_nodes_share_their_domain_and_ids_of_containers_are_cut_after_the_end() {
    let id = "0123456789abcdef0123456789abcdef";
    let of = |phase| {
        let mut all = status((0..6).map(|n| target(n, phase)).collect());
        for (n, target) in all.targets.iter_mut().enumerate() {
            (target.node, target.container_id) = (format!("node-{n}.example.com"), id.to_owned());
        }
        all
    };
    let mut ended = of(TargetPhase::Succeeded);
    let object = written(&ended);
    assert_eq!(object["shared"][0]["nodeDomain"], ".example.com");
    assert_eq!(object["targets"][3]["node"], "node-3");
    ended.targets.iter_mut().for_each(|target| target.container_id.truncate(13));
    assert_eq!(read(object), ended);
    let running = of(TargetPhase::Running);
    assert_eq!(read(written(&running)), running, "orders go by the whole id");
    let mut mixed = of(TargetPhase::Running);
    mixed.targets[4].node = "node-4".into();
    assert_eq!(read(written(&mixed)), mixed);
}

#[test]
fn a_few_targets_and_those_of_other_phases_say_everything_themselves() {
    let few = status((0..4).map(|n| target(n, TargetPhase::Succeeded)).collect());
    let object = written(&few);
    assert_eq!(object["shared"], Value::Null);
    assert_eq!(object["targets"][0]["workload"], "Deployment/orders");
    let mut mixed = few;
    mixed.targets.extend((4..9).map(|n| target(n, TargetPhase::Running)));
    let object = written(&mixed);
    assert_eq!(object["shared"].as_array().unwrap().len(), 1);
    assert_eq!(object["shared"][0]["phase"], "Running");
    assert_eq!(object["targets"][0]["workload"], "Deployment/orders");
    assert_eq!(object["targets"][8]["workload"], Value::Null);
    assert_eq!(read(object), mixed);
}

#[test]
fn a_field_that_one_target_does_not_have_is_not_shared() {
    let mut all = status((0..6).map(|n| target(n, TargetPhase::Failed)).collect());
    all.targets[3].runtime = None;
    all.targets[3].capture.clear();
    let object = written(&all);
    assert_eq!(object["shared"][0]["runtime"], Value::Null);
    assert_eq!(object["shared"][0]["capture"], Value::Null);
    assert_eq!(object["targets"][0]["runtime"], "Python 3.11");
    assert_eq!(read(object), all);
}

#[test]
fn objects_of_older_versions_are_read_as_they_are() {
    let all = status((0..6).map(|n| target(n, TargetPhase::Succeeded)).collect());
    let targets: Vec<Value> =
        all.targets.iter().map(|target| serde_json::to_value(target).unwrap()).collect();
    assert_eq!(targets[0]["workload"], "Deployment/orders");
    assert_eq!(read(json!({"phase": "Pending", "targets": targets})), all);
}

#[test]
fn what_is_shared_is_not_multiplied_beyond_what_a_session_has() {
    let targets: Vec<Value> = (0..200).map(|_| json!({"pod": "p", "phase": "Failed"})).collect();
    let shared = json!([{"phase": "Failed", "message": "long"}]);
    let all = read(json!({"targets": targets, "shared": shared}));
    assert_eq!(all.targets.iter().filter(|target| target.message == "long").count(), MAX_TARGETS);
}

fn arbitrary_profile() -> impl Strategy<Value = StoredProfile> {
    let kind = prop::sample::select(vec![ProfileKind::Cpu, ProfileKind::Wall, ProfileKind::Heap]);
    let uri =
        prop::sample::select(vec!["a/b/p1_c.pb.gz", "a/b/p2_c.pb.gz", "p1/p1_p1", "{pod}", "", "a/{pod}/p1"]);
    let names = || prop::collection::vec(prop::sample::select(vec!["a".to_owned(), "b".to_owned()]), 0..3);
    (kind, uri, names(), names()).prop_map(|(kind, uri, destinations, failed)| StoredProfile {
        kind,
        uri: uri.to_owned(),
        bytes: 1,
        samples: 2,
        destinations,
        failed,
    })
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "", "x", "y", "{pod}"]).prop_map(str::to_owned)
}

prop_compose! {
    fn arbitrary_target()(
        pod in prop::sample::select(vec!["p1", "p2", "", "{pod}"]),
        (workload, message) in (text(), text()),
        node in prop::sample::select(vec!["", "a", "a.b", "c.b", "a.b.c", ".b"]),
        capture in prop::sample::select(vec!["", "s-1", "s-2", "s-a-1", "none", "-"]),
        runtime in prop::option::of(text()),
        (processes, throttled_percent) in (prop::option::of(0..3), prop::option::of(0..3)),
        seconds in prop::option::of(0_i64..3),
        phase in prop::sample::select(vec![TargetPhase::Failed, TargetPhase::Running, TargetPhase::Succeeded]),
        reason in prop::option::of(prop::sample::select(vec![Reason::Completed, Reason::PodGone])),
        profiles in prop::collection::vec(arbitrary_profile(), 0..3),
    ) -> TargetStatus {
        TargetStatus {
            pod: pod.to_owned(), workload, node: node.to_owned(), message, capture: capture.to_owned(), runtime, processes,
            throttled_percent, start_time: seconds.and_then(time), phase, reason, profiles, ..TargetStatus::default()
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(
        same in arbitrary_target(),
        copies in 0_usize..30,
        others in prop::collection::vec(arbitrary_target(), 0..20),
    ) {
        let mut targets = vec![same; copies];
        targets.extend(others);
        let all = status(targets);
        prop_assert_eq!(read(written(&all)), all);
    }
}
