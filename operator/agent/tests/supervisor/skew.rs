//! Does this agent work with a gateway that speaks protocol 1?

use std::collections::BTreeSet;

use fleetprof_crds::wire::{CaptureState, OrderList};
use serde_json::Value;

use super::support::{Agent, FakeGateway, Scratch, Sleeper, first_words, order};

/// What such a gateway says, and what it is told: bytes of its own types.
const ORDERS: &str = include_str!("../../../../crds/protocol-1/orders.json");
const HEARTBEAT: &str = include_str!("../../../../crds/protocol-1/heartbeat.json");

fn words(of: &Value) -> BTreeSet<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_gateway_of_protocol_1_orders_a_capture_and_gets_its_slices_and_its_report() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    gateway.seen().is_first = true;
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; slice 1 10; finished 20 false");
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(2);
    gateway.order(|orders| orders.push(order("a")));
    let report = gateway.wait_for_state("a", CaptureState::Finished);
    assert_eq!((report.slices, report.uploaded), (2, 2));
    let seen = gateway.seen();
    // By the path that has no kind: the other one is not there.
    assert_eq!(seen.slices.keys().cloned().collect::<Vec<_>>(), [("a".to_owned(), 0), ("a".to_owned(), 1)]);
    assert_eq!(seen.changes, 0, "everything is told each time");
    let known: Value = serde_json::from_str(HEARTBEAT).unwrap();
    assert!(words(&seen.said).is_superset(&words(&known)), "{}", seen.said);
    let (report, known) = (&seen.said["captures"][0], &known["captures"][0]);
    for word in ["capture", "state", "samples", "slices", "uploaded", "startedAt", "endedAt"] {
        assert!(report.get(word).is_some() && known.get(word).is_some(), "{word}: {report}");
    }
}

#[test]
fn the_gateway_of_this_test_says_what_one_of_protocol_1_said() {
    let known: Value = serde_json::from_str(ORDERS).unwrap();
    let list = OrderList { version: 7, orders: vec![order("a")] };
    let said = first_words(&list);
    assert_eq!(words(&said["orders"][0]), words(&known["orders"][0]));
    assert_eq!(words(&said), words(&known));
}
