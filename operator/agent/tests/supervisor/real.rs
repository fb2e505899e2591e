//! The whole way with the real collector: a Python process, an order, a profile that names its function.

use std::process::{Command, Stdio};

use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::{CaptureState, Offer, Order};

use super::support::{Agent, FakeGateway, Scratch, Sleeper, order};

const PROGRAM: &str = "
def burn_the_cpu():
    n = 0
    while True:
        n += 1
burn_the_cpu()
";

#[test]
fn a_python_process_is_captured_and_uploaded() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let python = Command::new("python3").args(["-c", PROGRAM]).stdin(Stdio::null()).spawn();
    let Ok(python) = python else {
        panic!("this test needs python3");
    };
    let target = Sleeper(python);
    // A launcher may replace itself with the interpreter first.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    scratch.put_process(target.0.id());
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|o| o.push(Order { duration_ms: 4000, slice_ms: 2000, ..order("a") }));
    let report = gateway.wait_for_state("a", CaptureState::Finished);
    assert!(report.samples > 20, "{report:?}");
    assert!(report.runtime.is_some_and(|r| r.starts_with("Python 3.")));
    assert_eq!((report.collector.as_deref(), report.uploaded), (Some("cpython"), report.slices));
    let (_, heartbeat) = gateway.seen().heartbeats.last().cloned().unwrap();
    assert!(heartbeat.containers[0].runtime.starts_with("Python 3."), "{heartbeat:?}");
    assert_eq!(
        heartbeat.containers[0].offers,
        [ProfileKind::Cpu, ProfileKind::Wall].map(|kind| Offer::good(kind, "python"))
    );
    let slices = gateway.seen().slices.clone();
    assert!(slices.len() >= 2);
    for slice in slices.values() {
        let profile = fleetprof_profile::decode_valid(slice, &fleetprof_profile::Limits::default()).unwrap();
        let folded = fleetprof_profile::fold(&profile, 0);
        assert!(folded.contains("burn_the_cpu"), "{folded}");
    }
}

/// A Go program, built for this test.
fn go_program(scratch: &Scratch, source: &str, argument: &str) -> Sleeper {
    let (source, out) =
        (format!("{}/tests/capture/targets/{source}", env!("CARGO_MANIFEST_DIR")), scratch.path("go"));
    let built = Command::new("go").args(["build", "-o"]).arg(&out).arg(source).status().unwrap();
    assert!(built.success(), "this test needs Go");
    let program = Sleeper(Command::new(out).arg(argument).stdin(Stdio::null()).spawn().unwrap());
    let start = std::time::Instant::now();
    let pid = i32::try_from(program.0.id()).unwrap();
    let listens = || fleetprof_agent::proc::listeners(pid).is_ok_and(|found| !found.is_empty());
    while argument != "unserved" && !listens() {
        assert!(start.elapsed() < std::time::Duration::from_secs(60), "the program does not listen");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    scratch.put_process(program.0.id());
    program
}

#[test]
fn a_go_program_offers_what_it_serves_and_an_order_of_several_kinds_is_uploaded() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = go_program(&scratch, "served.go", "rates");
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    let kinds = vec![ProfileKind::Heap, ProfileKind::Cpu];
    gateway.order(|o| {
        o.push(Order { duration_ms: 3000, slice_ms: 2000, profiles: kinds, protocol: 2, ..order("a") });
    });
    let report = gateway.wait_for_state("a", CaptureState::Finished);
    assert_eq!((report.collector.as_deref(), report.problem, report.note), (Some("go-pprof"), None, None));
    let (_, heartbeat) = gateway.seen().heartbeats.last().cloned().unwrap();
    let container = &heartbeat.containers[0];
    assert!(container.runtime.starts_with("Go 1."), "{container:?}");
    let wanted: Vec<Offer> = fleetprof_agent::capture::collector::kinds()
        .into_iter()
        .map(|kind| Offer::good(kind, "go-pprof"))
        .collect();
    assert_eq!(container.offers, wanted);
    let slices = gateway.seen().slices.clone();
    let heap = slices.iter().filter(|(name, _)| format!("{name:?}").to_lowercase().contains("heap"));
    let folded: Vec<String> = heap
        .map(|(_, slice)| {
            let limits = fleetprof_profile::Limits::default();
            fleetprof_profile::fold(&fleetprof_profile::decode_valid(slice, &limits).unwrap(), 1)
        })
        .collect();
    assert!(folded.len() == 1 && folded[0].contains("main.hoard"), "{folded:?}");
}

#[test]
fn a_go_program_that_serves_nothing_offers_cpu_and_says_what_helps() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = go_program(&scratch, "served.go", "unserved");
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(1);
    let (_, heartbeat) = gateway.seen().heartbeats[0].clone();
    let offers = &heartbeat.containers[0].offers;
    assert_eq!(offers[0], Offer::good(ProfileKind::Cpu, "native"));
    for offer in &offers[1..] {
        let problem = offer.problem.as_ref().unwrap();
        assert!(problem.message.contains("serve net/http/pprof at a port"), "{problem:?}");
    }
    assert_eq!(offers.len(), 7);
}
