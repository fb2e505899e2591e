//! Who talks to whom: tokens, tickets, certificates; and what stays secret.

use std::time::Duration;

use fleetprof_crds::wire::{AgentMode, CaptureState, Stay};
use nix::sys::signal::Signal;
use rustls::AlertDescription;

use super::support::{Agent, Authority, FakeGateway, Fault, Scratch, Sleeper, TOKEN, order};

const TICKET: &str = "ticket-for-the-pod";

fn attached(scratch: &Scratch, gateway: &FakeGateway, idle: &str) -> Agent {
    Agent::start("attached", scratch, gateway, &[("FLEETPROF_TICKET", TICKET), ("FLEETPROF_IDLE_EXIT", idle)])
}

#[test]
fn a_ticket_is_redeemed_once_and_an_idle_agent_ends() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; finished 10 false");
    let agent = attached(&scratch, &gateway, "3s");
    gateway.order(|o| o.push(order("a")));
    gateway.wait_for_state("a", CaptureState::Finished);
    gateway.wait_for_heartbeats(2);
    assert_eq!(gateway.seen().enrolled, [TICKET]);
    assert_eq!(gateway.seen().bearers, ["credential-of-the-pod"]);
    assert_eq!(gateway.seen().heartbeats[0].1.mode, AgentMode::Ephemeral);
    gateway.seen().settled = vec!["a".into()];
    assert_eq!(agent.end(Duration::from_secs(20)), Some(0));
}

#[test]
fn an_attached_agent_that_is_refused_for_good_ends_with_a_sentence() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    gateway.seen().refuse_enroll = Some(503);
    let agent = attached(&scratch, &gateway, "2h");
    std::thread::sleep(Duration::from_millis(800));
    gateway.seen().refuse_enroll = Some(403);
    assert_eq!(agent.end(Duration::from_secs(20)), Some(1));
    assert!(scratch.log().contains("attach a new one"));
    let without = Agent::start("attached", &scratch, &gateway, &[]);
    assert_eq!(without.end(Duration::from_secs(5)), Some(1));
    assert!(scratch.log().contains("FLEETPROF_TICKET is not set"));
}

#[test]
fn a_credential_is_renewed_before_it_ends_and_after_nobody_could_renew_it_in_time() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    gateway.seen().renew_after_ms = Some(900);
    let agent = attached(&scratch, &gateway, "2h");
    gateway.wait("three credentials, one after another", |s| (s.bearers.len() >= 3).then_some(()));
    {
        let mut seen = gateway.seen();
        let shown = [TICKET, "credential-of-the-pod", "credential-of-the-pod-1"];
        assert_eq!(seen.enrolled[..3], shown, "each is renewed by the one before it");
        assert_eq!(seen.bearers[..3], [shown[1], shown[2], "credential-of-the-pod-2"]);
        (seen.refuse_bearers, seen.refuse_enroll) = (true, Some(503));
    }
    std::thread::sleep(Duration::from_millis(2000));
    let renewals = {
        let mut seen = gateway.seen();
        (seen.refuse_bearers, seen.refuse_enroll, seen.renew_after_ms) = (false, None, Some(3_600_000));
        seen.enrolled.len()
    };
    gateway.wait_for_heartbeats(2);
    assert!(gateway.seen().enrolled.len() > renewals, "what was refused is renewed, not used on");
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end(Duration::from_secs(20)), Some(0));
}

#[test]
fn unsent_slices_are_kept_while_the_gateway_lets_nobody_in() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; finished 10 false");
    gateway.seen().faults = vec![Fault::Status(503, Some(2))].into();
    let agent = attached(&scratch, &gateway, "3s");
    gateway.order(|o| o.push(order("a")));
    gateway.wait("an upload that fails", |s| s.attempts.contains_key(&("a".into(), 0)).then_some(()));
    {
        let mut seen = gateway.seen();
        (seen.refuse_bearers, seen.refuse_enroll) = (true, Some(403));
    }
    // Longer than it may be idle.
    std::thread::sleep(Duration::from_secs(8));
    {
        let mut seen = gateway.seen();
        assert!(seen.slices.is_empty());
        (seen.refuse_bearers, seen.refuse_enroll, seen.renew_after_ms) = (false, None, Some(3_600_000));
        seen.enrolled.clear();
    }
    gateway.wait("the slice", |s| s.slices.contains_key(&("a".into(), 0)).then_some(()));
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end(Duration::from_secs(20)), Some(0));
}

#[test]
fn an_attached_agent_stays_as_long_as_the_gateway_says_and_takes_its_leave() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    gateway.seen().stay = Some(Stay { idle_ms: None });
    let agent = attached(&scratch, &gateway, "3s");
    std::thread::sleep(Duration::from_secs(6));
    gateway.wait_for_heartbeats(2);
    assert!(!gateway.seen().heartbeats.last().unwrap().1.leaving);
    gateway.seen().stay = Some(Stay { idle_ms: Some(0) });
    assert_eq!(agent.end(Duration::from_secs(60)), Some(0));
    assert!(gateway.seen().heartbeats.last().unwrap().1.leaving, "nobody has to find out");
}

#[test]
fn an_attached_agent_needs_no_volume() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let tmp = scratch.path("tmp");
    std::fs::create_dir(&tmp).unwrap();
    let env = [
        ("FLEETPROF_TICKET", TICKET),
        ("FLEETPROF_SPOOL", "/proc/nothing"),
        ("TMPDIR", tmp.to_str().unwrap()),
    ];
    let _agent = Agent::start("attached", &scratch, &gateway, &env);
    gateway.wait_for_heartbeats(1);
    assert_eq!(std::fs::read_dir(&tmp).unwrap().count(), 1);
}

#[test]
fn a_renewed_token_is_used_at_once() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(1);
    std::fs::write(scratch.path("token"), "renewed\n").unwrap();
    gateway.wait_for_heartbeats(2);
    assert_eq!(gateway.seen().bearers.first().map(String::as_str), Some(TOKEN));
    assert_eq!(gateway.seen().bearers.last().map(String::as_str), Some("renewed"));
}

#[test]
fn a_new_authority_is_trusted_once_the_old_one_has_told_of_it() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(1);
    let new = Authority::new();
    gateway.seen().ca_bundle = Some(format!("{}{}", gateway.authority.pem(), new.pem()));
    gateway.wait_for_heartbeats(2);
    gateway.serve_as(&new, "localhost");
    gateway.wait_for_heartbeats(2);
    agent.kill_9();
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(1);
}

#[test]
fn a_stranger_gets_no_token() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let stranger = Authority::new();
    let strangers = [
        // All authorities here have the same name, so that only the signature tells them apart.
        (&stranger, "localhost", AlertDescription::DecryptError, "BadSignature"),
        (&gateway.authority, "elsewhere", AlertDescription::BadCertificate, "not valid for name"),
    ];
    for (authority, name, refusal, why) in strangers {
        gateway.serve_as(authority, name);
        let agent = Agent::sidecar(&scratch, &gateway, &[]);
        gateway.wait(
            &format!("the agent refuses the certificate with {refusal:?}, and its log says {why:?}"),
            |s| (s.alerts.contains(&refusal) && scratch.log().contains(why)).then_some(()),
        );
        drop(agent);
        assert_eq!(gateway.seen().heartbeats.len(), 0, "{name}");
        assert!(gateway.seen().bearers.is_empty());
    }
    gateway.serve_as(&gateway.authority, "localhost");
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(1);
}

#[test]
fn no_secret_reaches_the_log_or_a_worker() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; finished 10 false");
    let _agent = attached(&scratch, &gateway, "2h");
    gateway.order(|o| o.push(order("a")));
    gateway.wait_for_state("a", CaptureState::Finished);
    let log = scratch.log();
    for secret in [TICKET, TOKEN, "credential-of-the-pod", "BEGIN CERTIFICATE"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert!(log.contains("\"fleetprof.capture\":\"a\""));
    let environment = std::fs::read_to_string(scratch.path("runs.env")).unwrap();
    assert!(!environment.contains("TICKET") && !environment.contains("FLEETPROF_CA"), "{environment}");
}

#[test]
fn as_root_the_agent_looks_through_the_eyes_of_the_targets_user() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("only root can become another user; not tested");
        return;
    }
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::of_user(&scratch, 65_534);
    let _agent = Agent::root_without_ptrace(&scratch, &gateway);
    gateway.wait("the target's runtime", |s| {
        let container = s.heartbeats.last()?.1.containers.first()?.clone();
        assert_eq!(container.problem, None);
        (container.runtime == "Native").then_some(())
    });
}

#[test]
fn the_agent_of_a_node_has_the_token_of_its_own_pod_and_stays_without_work() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; finished 10 false");
    let agent = Agent::start("node", &scratch, &gateway, &[("FLEETPROF_IDLE_EXIT", "1s")]);
    gateway.order(|o| o.push(order("a")));
    gateway.wait_for_state("a", CaptureState::Finished);
    gateway.seen().settled = vec!["a".into()];
    let beats = gateway.seen().heartbeats.len();
    gateway.wait_for_heartbeats(beats + 2);
    let seen = gateway.seen();
    assert_eq!((seen.bearers.first().map(String::as_str), seen.enrolled.len()), (Some(TOKEN), 0));
    assert_eq!(seen.heartbeats.last().unwrap().1.mode, AgentMode::Node);
    drop(seen);
    drop(agent);
}
