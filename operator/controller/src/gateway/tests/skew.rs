//! Is an agent that speaks protocol 1 served? With the bytes that its own types wrote, see `crds/protocol-1`.

use fleetprof_crds::wire::{CaptureState, HeartbeatReply, Order, SliceReply, needs};
use serde_json::Value;

use super::rig::{Rig, order, post, scope, token, uid};

const HEARTBEAT: &str = include_str!("../../../../../crds/protocol-1/heartbeat.json");
const ORDERS: &str = include_str!("../../../../../crds/protocol-1/orders.json");

#[tokio::test]
async fn an_agent_of_protocol_1_reports_is_ordered_and_uploads() {
    let rig = Rig::new();
    rig.fleet.open(scope("c", "a"), Order { protocol: needs(&order("c")), ..order("c") });
    let beat = post("/v1/heartbeat", Some(&token("a")), HEARTBEAT.as_bytes().to_vec());
    let reply = rig.send(beat).await.accepted::<HeartbeatReply>();
    assert_eq!(reply.holds, None, "it tells everything each time");
    let heard = &rig.fleet.agents_of(&uid("a"))[0].heartbeat;
    assert_eq!((heard.protocol, heard.containers.len()), (1, 2));
    let report = rig.fleet.capture("c").unwrap().report.unwrap();
    assert_eq!((report.state, report.samples, report.slices), (CaptureState::Finished, 990, 2));

    // It says neither who it is nor what it has.
    let list = rig.poll("a", "?wait=25").await.accepted::<Value>();
    let order = list["orders"][0].as_object().unwrap();
    let known: Value = serde_json::from_str(ORDERS).unwrap();
    for word in known["orders"][0].as_object().unwrap().keys() {
        assert!(order.contains_key(word), "{word} is missing in {order:?}");
    }
    assert_eq!((&order["profile"], &order["protocol"]), (&"cpu".into(), &1.into()));

    let stored = rig.upload("a", "/v1/captures/c/slices/0", b"a slice").await.accepted::<SliceReply>();
    assert!(!stored.duplicate);
}
