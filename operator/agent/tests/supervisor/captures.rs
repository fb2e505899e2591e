//! Orders and captures: once each, whatever happens.

use std::time::Duration;

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{AgentMode, CaptureState, PROTOCOL};
use nix::sys::signal::Signal;

use super::support::{Agent, BOX, FakeGateway, Scratch, Sleeper, any_file, now, order};

const HANG: &str =
    "trap 'finished 10 true' TERM; started; slice 0 1000; while [ -e \"$0\" ]; do sleep 0.05; done";

#[test]
fn an_order_is_run_once_though_the_list_comes_ten_times_and_the_agent_is_killed() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker(HANG);
    let agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| o.push(order("a")));
    scratch.wait_for_runs(1);
    gateway.wait_for_state("a", CaptureState::Running);
    for _ in 0..10 {
        let polls = gateway.seen().polls;
        gateway.order(|_| ());
        gateway.wait("the list is fetched", |s| (s.polls > polls).then_some(()));
    }
    agent.kill_9();
    let agent = Agent::sidecar(&scratch, &gateway, &[]);
    let report = gateway.wait_for_state("a", CaptureState::Failed);
    assert_eq!(report.problem.unwrap().reason, Reason::AgentGone);
    assert_eq!((report.slices, report.uploaded), (1, 1));
    assert_eq!(
        gateway.seen().slices[&("a".into(), 0)],
        scratch.kept(0),
        "what was captured before is uploaded"
    );

    gateway.seen().settled = vec!["a".into()];
    gateway.wait("nothing is reported of a settled capture", |s| s.last("a").is_none().then_some(()));
    assert_eq!(scratch.spooled(), 0);
    agent.kill_9();
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(2);
    gateway.order(|o| o.push(order("b")));
    scratch.wait_for_runs(2);
    assert_eq!(scratch.runs().len(), 2, "a settled capture is not run again");
    assert!(scratch.runs()[1].1.contains("outputDir"));
}

#[test]
fn an_order_reaches_its_worker_at_once() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; finished 10 false");
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(1);
    // A machine that is busy delays some of them, but not most.
    let mut delays: Vec<u128> = Vec::new();
    for n in 0..20 {
        if delays.iter().filter(|delay| **delay < 100).count() >= 3 {
            break;
        }
        let name = n.to_string();
        let placed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        gateway.order(|o| *o = vec![order(&name)]);
        gateway.wait_for_state(&name, CaptureState::Finished);
        delays.push(scratch.runs()[n].0.saturating_sub(placed) / 1_000_000);
    }
    eprintln!("from order to worker: {delays:?} ms");
    assert!(delays.iter().filter(|delay| **delay < 100).count() >= 3, "{delays:?} ms");
    let last = delays.len() - 1;
    let report = gateway.seen().last(&last.to_string()).cloned().unwrap();
    assert_eq!(
        (report.samples, report.slices, report.started_at, report.memory_percent),
        (10, 1, Some(5), Some(25))
    );
    assert_eq!(
        (report.runtime.as_deref(), report.collector.as_deref()),
        (Some("Python 3.11"), Some("py-spy"))
    );
    let (_, heartbeat) = gateway.seen().heartbeats.last().cloned().unwrap();
    assert_eq!(
        (heartbeat.mode, heartbeat.protocol, heartbeat.containers.len()),
        (AgentMode::Sidecar, PROTOCOL, 1)
    );
    assert_eq!(
        (heartbeat.containers[0].id.as_str(), heartbeat.containers[0].memory_percent),
        (BOX, Some(25))
    );
    let request = &scratch.runs()[0].1;
    assert!(
        request.contains(&format!("\"pid\":{}", target.0.id()))
            && request.contains("\"assumeTargetUid\":true"),
        "{request}"
    );
}

#[test]
fn a_cancelled_capture_stops_and_keeps_what_it_has() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker(HANG);
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| *o = vec![order("a"), order("b")]);
    gateway.wait_for_state("a", CaptureState::Running);
    assert_eq!(scratch.runs().len(), 1, "one worker a container");
    gateway.wait("its slice", |s| s.slices.contains_key(&("a".into(), 0)).then_some(()));
    gateway.order(|o| o[0].cancel = true);
    let report = gateway.wait_for_state("a", CaptureState::Cancelled);
    assert_eq!((report.slices, report.uploaded, report.problem.unwrap().reason), (1, 1, Reason::Cancelled));
    gateway.wait_for_state("b", CaptureState::Running);
    gateway.order(Vec::clear);
    gateway.wait_for_state("b", CaptureState::Cancelled);
    assert_eq!(scratch.runs().len(), 2);
}

#[test]
fn what_cannot_be_run_says_why() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("finished 1 false");
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(1);
    gateway.order(|o| {
        let (mut old, mut late, mut gone, mut cancelled) =
            (order("old"), order("late"), order("gone"), order("cancelled"));
        old.protocol = PROTOCOL + 1;
        late.start_before = 1;
        // One that was never here is waited for until the deadline.
        (gone.container_id, gone.start_before) = ("f".repeat(64), now() + 3);
        cancelled.cancel = true;
        *o = vec![old, late, gone, cancelled];
    });
    for (capture, state, reason) in [
        ("old", CaptureState::Skipped, Reason::AgentTooOld),
        ("late", CaptureState::Skipped, Reason::StartDeadlineExceeded),
        ("gone", CaptureState::Failed, Reason::ContainerRestarted),
        ("cancelled", CaptureState::Cancelled, Reason::Cancelled),
    ] {
        gateway.wait_for_state(capture, state);
        assert_eq!(gateway.seen().reason(capture), Some(reason), "{capture}");
    }
    let message = gateway.seen().last("old").unwrap().problem.clone().unwrap().message;
    assert!(message.contains(&format!("requires protocol {}", PROTOCOL + 1)), "{message}");
    assert_eq!(scratch.runs().len(), 0);
}

#[test]
fn a_worker_that_hangs_is_killed_and_one_that_crashes_is_reported() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; trap '' TERM; while [ -e \"$0\" ]; do sleep 0.05; done");
    let _agent = Agent::sidecar(&scratch, &gateway, &[("FLEETPROF_WORKER_GRACE", "3")]);
    let short = |name: &str| fleetprof_crds::wire::Order { duration_ms: 200, ..order(name) };
    gateway.order(|o| *o = vec![short("hangs")]);
    let report = gateway.wait_for_state("hangs", CaptureState::Failed);
    assert_eq!((report.uploaded, report.problem.unwrap().reason), (1, Reason::CaptureTimedOut));
    for (name, body, reason) in [
        ("crashes", "slice 0 10; kill -SEGV $$", Reason::CollectorCrashed),
        ("babbles", "while :; do echo nonsense; done", Reason::CollectorCrashed),
        ("endless", "head -c 100000 /dev/zero | tr '\\0' x; sleep 9", Reason::CollectorCrashed),
    ] {
        scratch.worker(body);
        gateway.order(|o| *o = vec![order(name)]);
        let report = gateway.wait_for_state(name, CaptureState::Failed);
        assert_eq!(report.problem.unwrap().reason, reason, "{name}");
    }
    assert_eq!(gateway.seen().last("crashes").unwrap().uploaded, 1);
}

#[test]
fn asked_to_end_the_agent_ends_its_worker_and_uploads() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker(
        "started; trap 'slice 0 5000; finished 10 true' TERM; while [ -e \"$0\" ]; do sleep 0.05; done",
    );
    let agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| o.push(order("a")));
    gateway.wait_for_state("a", CaptureState::Running);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end(Duration::from_secs(10)), Some(0));
    assert_eq!(gateway.seen().slices[&("a".into(), 0)], scratch.kept(0));
    let seen = gateway.seen();
    assert_eq!((seen.state("a"), seen.reason("a")), (Some(CaptureState::Failed), Some(Reason::AgentGone)));
}

/// A kubelet kills what takes longer, and a Job's podFailurePolicy sees the exit code.
#[test]
fn an_agent_whose_pod_ends_at_once_does_not_wait_for_the_gateway() {
    // What else the machine does only adds, so the quickest of a few counts.
    let grace = [("FLEETPROF_SHUTDOWN_GRACE", "1")];
    let took: Vec<Duration> =
        (0..3).map(|_| ends_without_a_gateway(&grace, Duration::from_secs(8))).collect();
    assert!(took.iter().any(|took| *took <= Duration::from_millis(1900)), "{took:?}");
}

#[test]
fn without_a_gateway_the_agent_still_ends_in_time() {
    ends_without_a_gateway(&[], Duration::from_secs(8));
}

/// How long an agent takes to end.
fn ends_without_a_gateway(variables: &[(&str, &str)], limit: Duration) -> Duration {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker(HANG);
    let agent = Agent::sidecar(&scratch, &gateway, variables);
    gateway.order(|o| o.push(order("a")));
    gateway.wait_for_state("a", CaptureState::Running);
    gateway.seen().faults.extend([super::support::Fault::Status(503, Some(60)); 20]);
    gateway.set_online(false);
    let asked = std::time::Instant::now();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end(limit), Some(0));
    let took = asked.elapsed();
    let is_record = |p: &std::path::Path| p.extension().is_some_and(|e| e == "json");
    assert!(any_file(&scratch.path("spool/captures"), &is_record));
    took
}
