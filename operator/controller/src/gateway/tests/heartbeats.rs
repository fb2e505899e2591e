//! What does a heartbeat change, and what is answered?

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{CaptureState, HeartbeatReply, MAX_HEARTBEAT_BYTES, Problem};
use futures::StreamExt;
use serde_json::json;

use super::rig::{Rig, beat, pod, post, report};

#[tokio::test]
async fn an_agent_is_known_from_its_first_heartbeat() {
    let rig = Rig::new();
    let reply: HeartbeatReply = rig.heartbeat("a", &beat(vec![])).await.accepted();
    assert_eq!(reply, HeartbeatReply { next_ms: 30_000, ..HeartbeatReply::default() });
    let agent = rig.fleet.agents_of("uid-a").remove(0);
    assert_eq!((&agent.agent.pod, agent.received), (&pod("a"), rig.now()));
    assert_eq!(agent.heartbeat, beat(vec![]));
}

#[tokio::test]
async fn an_agent_with_an_open_capture_is_heard_of_more_often() {
    let rig = Rig::new();
    rig.open("c", "a");
    let reply: HeartbeatReply = rig.heartbeat("a", &beat(vec![])).await.accepted();
    assert_eq!(reply.next_ms, 5_000);
    let other: HeartbeatReply = rig.heartbeat("b", &beat(vec![])).await.accepted();
    assert_eq!(other.next_ms, 30_000);
}

#[tokio::test]
async fn a_report_is_kept_cleaned() {
    let rig = Rig::new();
    rig.open("c", "a");
    let mut wild = report("c", CaptureState::Failed);
    wild.samples = -1;
    wild.problem = Some(Problem { reason: Reason::CollectorCrashed, message: "\u{1b}[2Jno".repeat(500) });
    rig.heartbeat("a", &beat(vec![wild])).await.accepted::<HeartbeatReply>();
    let kept = rig.fleet.report("c").unwrap();
    assert_eq!((kept.state, kept.samples), (CaptureState::Failed, 0));
    let message = kept.problem.unwrap().message;
    assert!(message.len() <= 512 && message.starts_with("[2Jno") && message.ends_with('…'), "{message}");
}

#[tokio::test]
async fn a_report_of_another_pods_capture_is_ignored_and_counted() {
    let rig = Rig::new();
    rig.open("c", "a");
    rig.heartbeat("b", &beat(vec![report("c", CaptureState::Finished)])).await.accepted::<HeartbeatReply>();
    assert_eq!(rig.fleet.report("c"), None);
    assert!(rig.fleet.agents_of("uid-b")[0].heartbeat.captures.is_empty());
    assert!(rig.metrics().contains("fleetprof_gateway_ignored_reports_total 1"), "{}", rig.metrics());
}

#[tokio::test]
async fn a_closed_capture_is_listed_as_settled_as_often_as_it_is_reported() {
    let rig = Rig::new();
    rig.open("c", "a");
    let finished = beat(vec![report("c", CaptureState::Finished)]);
    let reply: HeartbeatReply = rig.heartbeat("a", &finished).await.accepted();
    assert!(reply.settled.is_empty());
    rig.fleet.close("c");
    for _ in 0..2 {
        let reply: HeartbeatReply = rig.heartbeat("a", &finished).await.accepted();
        assert_eq!(reply.settled, ["c"]);
    }
    let reply: HeartbeatReply = rig.heartbeat("a", &beat(vec![])).await.accepted();
    assert!(reply.settled.is_empty());
}

#[tokio::test]
async fn a_capture_that_nobody_opened_is_settled_only_once_the_leader_has_settled_in() {
    let rig = Rig::unsynced();
    let lost = beat(vec![report("c", CaptureState::Running)]);
    let settled = async || rig.heartbeat("a", &lost).await.accepted::<HeartbeatReply>().settled;
    rig.pass(1000);
    assert!(settled().await.is_empty(), "not before syncing");
    rig.fleet.set_synced(true, rig.now());
    rig.pass(89);
    assert!(settled().await.is_empty(), "a session of the last leader may still turn up");
    rig.pass(1);
    assert_eq!(settled().await, ["c"]);
}

#[tokio::test]
async fn the_ca_certificates_are_sent_once_and_again_when_they_or_the_agent_change() {
    let rig = Rig::new();
    let sent = async |beat| rig.heartbeat("a", beat).await.accepted::<HeartbeatReply>().ca_bundle;
    let first = beat(vec![]);
    assert_eq!(sent(&first).await, None);
    rig.fleet.set_ca_bundle("PEM 1");
    assert_eq!(sent(&first).await.as_deref(), Some("PEM 1"));
    rig.fleet.set_ca_bundle("PEM 1");
    assert_eq!(sent(&first).await, None);
    rig.fleet.set_ca_bundle("PEM 2");
    assert_eq!(sent(&first).await.as_deref(), Some("PEM 2"));
    let mut restarted = beat(vec![]);
    restarted.instance = "instance-2".into();
    assert_eq!(sent(&restarted).await.as_deref(), Some("PEM 2"));
    assert_eq!(sent(&restarted).await, None);
    rig.pass(3600);
    assert_eq!(sent(&restarted).await.as_deref(), Some("PEM 2"), "the reply may have been lost");
}

#[tokio::test]
async fn fields_of_tomorrow_are_tolerated() {
    let rig = Rig::new();
    let mut body = serde_json::to_value(beat(vec![])).unwrap();
    body["moon"] = json!({"phase": "full"});
    rig.send(post("/v1/heartbeat", Some("token-a"), body.to_string())).await.accepted::<HeartbeatReply>();
}

#[tokio::test]
async fn a_body_that_is_no_heartbeat_is_refused_and_not_quoted() {
    let rig = Rig::new();
    let deep = "[".repeat(50_000);
    for body in ["", "null", "{}", "{\"secret\": ", "{\"version\": 1}", &deep] {
        let message = rig
            .send(post("/v1/heartbeat", Some("token-a"), body.to_owned()))
            .await
            .refused(400, Reason::MalformedRequest);
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(rig.fleet.agents().is_empty());
}

#[tokio::test]
async fn a_heartbeat_that_is_too_large_is_refused() {
    let rig = Rig::new();
    let body = vec![b' '; MAX_HEARTBEAT_BYTES + 1];
    rig.send(post("/v1/heartbeat", Some("token-a"), body)).await.refused(413, Reason::MalformedRequest);
    let unannounced = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1000])).take(100);
    let body = axum::body::Body::from_stream(unannounced);
    rig.send(post("/v1/heartbeat", Some("token-a"), body)).await.refused(413, Reason::MalformedRequest);
}
