//! How much memory does an agent hold that waits? There may be one in each of 150,000 pods.

use std::time::{Duration, Instant};

use fleetprof_crds::wire::CaptureState;

use super::support::{Agent, FakeGateway, Scratch, Sleeper, order};

/// Most memory of its own, in KiB: of the build that the tests run, 860 before a capture and 1012 after two.
const OWN: u64 = 1200;
/// Most memory with the pages of its program, which all agents of a node share, in KiB: 7700 and 7850.
const ALL: u64 = 9 * 1024;

/// The figures once they are within their bounds, or after a while.
fn settled(agent: &Agent) -> (u64, u64) {
    let start = Instant::now();
    loop {
        let (own, all) = (agent.memory("RssAnon"), agent.memory("VmRSS"));
        if (own <= OWN && all <= ALL) || start.elapsed() > Duration::from_secs(10) {
            return (own, all);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn an_agent_that_waits_holds_little_before_and_after_a_capture() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 1000000; slice 1 2000000; slice 2 500000; finished 30 false");
    let agent = Agent::sidecar(&scratch, &gateway, &[("FLEETPROF_LOG", "info")]);
    gateway.wait_for_heartbeats(3);
    let (own, all) = settled(&agent);
    println!("RssAnon {own} KiB, VmRSS {all} KiB before a capture");
    assert!(own <= OWN && all <= ALL, "RssAnon {own} KiB, VmRSS {all} KiB before a capture");

    for capture in ["a", "b"] {
        gateway.order(|orders| orders.push(order(capture)));
        gateway.wait_for_state(capture, CaptureState::Finished);
        gateway.seen().settled.push(capture.to_owned());
        gateway.order(|orders| orders.retain(|order| order.capture != capture));
    }
    gateway.wait("both are forgotten", |seen| seen.heartbeats.last()?.1.captures.is_empty().then_some(()));
    gateway.wait_for_heartbeats(2);
    let (own, all) = settled(&agent);
    println!("RssAnon {own} KiB, VmRSS {all} KiB after two captures");
    assert!(own <= OWN && all <= ALL, "RssAnon {own} KiB, VmRSS {all} KiB after two captures");
}
