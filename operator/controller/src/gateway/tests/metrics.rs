//! What is counted?

use fleetprof_crds::wire::{AgentMode, HeartbeatReply, SliceReply};

use super::rig::{Rig, beat, get};

#[track_caller]
fn shows(rig: &Rig, line: &str) {
    let text = rig.metrics();
    assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
}

#[tokio::test]
async fn requests_are_counted_by_endpoint_and_code() {
    let rig = Rig::new();
    rig.heartbeat("a", &beat(vec![])).await.accepted::<HeartbeatReply>();
    rig.heartbeat("a", &beat(vec![])).await.accepted::<HeartbeatReply>();
    rig.send(get("/v1/orders", "bad")).await;
    rig.send(get("/some/path/of/an/attacker", "bad")).await;
    shows(&rig, "fleetprof_gateway_requests_total{endpoint=\"heartbeat\",code=\"200\"} 2");
    shows(&rig, "fleetprof_gateway_requests_total{endpoint=\"orders\",code=\"401\"} 1");
    shows(&rig, "fleetprof_gateway_requests_total{endpoint=\"other\",code=\"404\"} 1");
}

#[tokio::test]
async fn slices_are_counted_by_outcome_and_bytes_once() {
    let rig = Rig::new();
    rig.open("c", "a");
    for _ in 0..2 {
        rig.upload("a", "/v1/captures/c/cpu/slices/0", b"12345").await.accepted::<SliceReply>();
    }
    rig.upload("a", "/v1/captures/c/slices/0", b"other").await;
    rig.upload("a", "/v1/captures/d/slices/0", b"12345").await;
    rig.upload("a", "/v1/captures/c/energy/slices/0", b"12345").await;
    for outcome in ["stored", "duplicate", "conflict", "refused"] {
        shows(&rig, &format!("fleetprof_slices_total{{outcome=\"{outcome}\",kind=\"cpu\"}} 1"));
    }
    shows(&rig, "fleetprof_slices_total{outcome=\"refused\",kind=\"unknown\"} 1");
    shows(&rig, "fleetprof_slice_bytes_total 5");
}

#[tokio::test]
async fn agents_are_counted_by_mode_and_version_until_they_fall_silent() {
    let rig = Rig::new();
    let mut attached = beat(vec![]);
    attached.mode = AgentMode::Ephemeral;
    attached.version = "0.0.9".into();
    rig.heartbeat("a", &beat(vec![])).await.accepted::<HeartbeatReply>();
    rig.heartbeat("b", &attached).await.accepted::<HeartbeatReply>();
    shows(&rig, "fleetprof_agents{mode=\"Sidecar\",version=\"0.1.0\"} 1");
    shows(&rig, "fleetprof_agents{mode=\"Ephemeral\",version=\"0.0.9\"} 1");
    rig.pass(91);
    rig.fleet.expire(rig.now());
    assert!(!rig.metrics().contains("mode="), "{}", rig.metrics());
}
