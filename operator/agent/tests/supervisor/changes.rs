//! Does the agent tell only what changed to a gateway that takes it, and everything to one that does not?

use std::time::Duration;

use super::support::{Agent, BOX, FakeGateway, Scratch, Sleeper};

#[test]
fn what_changed_is_told_to_a_gateway_that_holds_the_rest_and_everything_to_a_new_leader() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    gateway.seen().takes_changes = true;
    let _target = Sleeper::new(&scratch);
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait("changes", |seen| (seen.changes >= 3).then_some(()));
    {
        let seen = gateway.seen();
        let (first, last) = (seen.bodies[0], *seen.bodies.last().unwrap());
        println!("a heartbeat of {first} bytes, then one of {last} bytes");
        assert!(last < 200 && first > last + 150, "{:?}", seen.bodies);
        assert!(seen.heartbeats.iter().all(|(_, beat)| beat.containers.len() == 1));
    }
    let (wholes, changes) = {
        let mut seen = gateway.seen();
        seen.is_new = true;
        (seen.heartbeats.len() - seen.changes, seen.changes)
    };
    gateway.wait("everything once, then changes", |seen| (seen.changes >= changes + 3).then_some(()));
    let seen = gateway.seen();
    assert_eq!(seen.heartbeats.len() - seen.changes, wholes + 1);
    let (_, last) = seen.heartbeats.last().unwrap();
    assert_eq!(last.containers[0].id, BOX);
}

#[test]
fn a_gateway_of_an_earlier_version_gets_everything_also_when_it_takes_over() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(3);
    assert_eq!(gateway.seen().changes, 0);
    gateway.seen().takes_changes = true;
    gateway.wait("changes", |seen| (seen.changes > 0).then_some(()));
    let before = {
        let mut seen = gateway.seen();
        seen.takes_changes = false;
        seen.heartbeats.len()
    };
    gateway.wait("heartbeats", |seen| (seen.heartbeats.len() >= before + 3).then_some(()));
    let seen = gateway.seen();
    let gap = seen.heartbeats[before].0.duration_since(seen.heartbeats[before - 1].0);
    assert!(gap < Duration::from_secs(3), "it backs off: {gap:?}");
    assert!(seen.heartbeats.iter().all(|(_, beat)| beat.containers.len() == 1));
}
