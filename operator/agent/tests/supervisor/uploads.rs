//! Uploads: retried until stored, refused ones said, the spool bounded.

use fleetprof_crds::wire::{CaptureState, Order};
use fleetprof_crds::{ProfileKind, Reason};

use super::support::{Agent, FakeGateway, Fault, Scratch, Sleeper, order};

#[test]
fn a_slice_is_retried_until_it_is_stored_byte_for_byte() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 3000000; slice 1 2000; slice 2 10; finished 30 false");
    gateway.seen().faults.extend([
        Fault::Status(503, Some(1)),
        Fault::Cut,
        Fault::Status(429, None),
        Fault::Cut,
        Fault::Status(500, None),
        Fault::CutAfterStoring,
    ]);
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| o.push(order("a")));
    let report = gateway.wait_for_state("a", CaptureState::Finished);
    assert_eq!((report.slices, report.uploaded, report.samples, report.problem), (3, 3, 30, None));
    let seen = gateway.seen();
    for seq in 0..3 {
        assert_eq!(seen.slices[&("a".into(), seq)], scratch.kept(seq), "slice {seq}");
    }
    assert_eq!(seen.attempts[&("a".into(), 0)], 7, "six failures, the last of which had stored it");
    assert_eq!(seen.attempts[&("a".into(), 2)], 1);
    drop(seen);
    assert_eq!(scratch.spooled(), 0);
}

#[test]
fn each_kind_is_uploaded_as_what_it_is() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker(
        "started; slice 0 100; slice 0 200 wall; slice 1 300 wall; slice 0 9 heap; finished 30 false",
    );
    let _agent = Agent::sidecar(&scratch, &gateway, &[("FLEETPROF_WORKER_PROFILES", "cpu,wall")]);
    let profiles = vec![ProfileKind::Wall, ProfileKind::Cpu, ProfileKind::Lock];
    gateway.order(|o| o.push(Order { protocol: 2, profiles, ..order("a") }));
    let report = gateway.wait_for_state("a", CaptureState::Finished);
    assert_eq!((report.slices, report.uploaded), (3, 3), "what was not ordered is not sent");
    assert_eq!(report.samples, 20, "the first kind is counted");
    let problem = report.problem.unwrap();
    assert_eq!(problem.reason, Reason::AgentTooOld);
    assert_eq!(problem.message, "the order asks for lock; this agent captures cpu, wall");
    let (_, request) = scratch.runs().remove(0);
    assert!(request.contains(r#""profiles":["wall","cpu"]"#), "{request}");
    let seen = gateway.seen();
    for (kind, seq) in [(ProfileKind::Cpu, 0), (ProfileKind::Wall, 0), (ProfileKind::Wall, 1)] {
        assert_eq!(seen.slices[&(format!("a/{kind}"), seq)], scratch.kept_of(kind, seq), "{kind} {seq}");
    }
    assert_eq!(seen.slices.len(), 3);
}

#[test]
fn a_kind_that_is_not_captured_is_skipped_before_anything_runs() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 100; finished 30 false");
    let _agent = Agent::sidecar(&scratch, &gateway, &[("FLEETPROF_WORKER_PROFILES", "cpu")]);
    let wall = vec![ProfileKind::Wall];
    gateway.order(|o| o.push(Order { protocol: 2, profiles: wall, ..order("a") }));
    let report = gateway.wait_for_state("a", CaptureState::Skipped);
    let problem = report.problem.unwrap();
    assert_eq!(problem.reason, Reason::AgentTooOld);
    assert_eq!(problem.message, "the order asks for wall; this agent captures cpu");
    assert_eq!(scratch.runs().len(), 0);
}

#[test]
fn an_outage_in_mid_capture_loses_nothing() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 5000; sleep 1; slice 1 5000; sleep 1; slice 2 5000; finished 30 false");
    let agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| o.push(order("a")));
    gateway.wait("the first slice", |s| s.slices.contains_key(&("a".into(), 0)).then_some(()));
    gateway.set_online(false);
    let start = std::time::Instant::now();
    while !(scratch.path("kept/cpu-1").exists() && scratch.spooled() >= 1) {
        assert!(start.elapsed() < std::time::Duration::from_secs(40), "there is no second slice");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    agent.kill_9();
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    std::thread::sleep(std::time::Duration::from_millis(1000));
    gateway.set_online(true);
    let report = gateway.wait_for_state("a", CaptureState::Failed);
    assert!(report.uploaded >= 2 && report.uploaded == report.slices, "{report:?}");
    assert_eq!(gateway.seen().slices[&("a".into(), 1)], scratch.kept(1));
    gateway.order(|o| *o = vec![order("b")]);
    gateway.wait_for_state("b", CaptureState::Finished);
}

#[test]
fn a_refused_slice_is_said_and_not_tried_again() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; slice 1 10; slice 2 10; finished 30 false");
    gateway.seen().refused.insert(("a".into(), 1), 422);
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| o.push(order("a")));
    let report = gateway.wait_for_state("a", CaptureState::Failed);
    let problem = report.problem.unwrap();
    assert_eq!((problem.reason, problem.message.as_str()), (Reason::UploadRejected, "the test answers 422"));
    assert_eq!((report.slices, report.uploaded), (3, 2));
    gateway.wait_for_heartbeats(2);
    assert_eq!(gateway.seen().attempts[&("a".into(), 1)], 1);
}

#[test]
fn a_capture_that_is_not_wanted_any_more_is_forgotten() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; slice 0 10; slice 1 10; finished 30 false");
    gateway.seen().refused.extend([(("a".into(), 0), 410), (("a".into(), 1), 410)]);
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| o.push(order("a")));
    gateway.wait("an upload", |s| s.attempts.contains_key(&("a".into(), 0)).then_some(()));
    gateway.wait("the capture is gone", |s| (s.last("a").is_none() && scratch.spooled() == 0).then_some(()));
    assert_eq!(scratch.runs().len(), 1);
    gateway.order(|_| ());
    gateway.wait_for_heartbeats(2);
    assert!(gateway.seen().last("a").is_none());
    assert_eq!((scratch.runs().len(), scratch.spooled()), (1, 0));
}

#[test]
fn a_full_spool_drops_the_oldest_slices_and_says_so() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker("started; for i in 0 1 2 3 4 5; do slice $i 1000; done; finished 60 false");
    gateway.seen().faults.extend([Fault::Status(503, Some(8))]);
    let _agent = Agent::sidecar(&scratch, &gateway, &[("FLEETPROF_SPOOL_LIMIT", "3500")]);
    gateway.order(|o| o.push(order("a")));
    let report = gateway.wait_for_state("a", CaptureState::Failed);
    assert_eq!((report.slices, report.uploaded), (6, 3));
    let problem = report.problem.unwrap();
    assert_eq!(problem.reason, Reason::SpoolFull);
    let stored: Vec<u32> = gateway.seen().slices.keys().map(|(_, seq)| *seq).collect();
    assert_eq!(stored, [3, 4, 5], "the newest are kept");
}

#[test]
fn a_slice_that_is_no_file_is_not_sent() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker(
        "started; slice 1 10; ln -s /etc/passwd $out/cpu-0.pb.gz; mkfifo $out/cpu-2.pb.gz; head -c 5000000 /dev/zero > $out/cpu-3.pb.gz
         for i in 0 2 3; do echo '{\"slice\":{\"kind\":\"cpu\",\"seq\":'$i',\"bytes\":10,\"samples\":1,\"startNanos\":1,\"durationNanos\":1}}'; done
         finished 10 false",
    );
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| o.push(order("a")));
    let report = gateway.wait_for_state("a", CaptureState::Failed);
    assert_eq!((report.uploaded, report.problem.unwrap().reason), (1, Reason::SpoolFailed));
    assert_eq!(gateway.seen().attempts.keys().map(|(_, seq)| *seq).collect::<Vec<_>>(), [1]);
}
