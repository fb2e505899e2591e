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
    assert_eq!((report.collector.as_deref(), report.uploaded), (Some("py-spy"), report.slices));
    let (_, heartbeat) = gateway.seen().heartbeats.last().cloned().unwrap();
    assert!(heartbeat.containers[0].runtime.starts_with("Python 3."), "{heartbeat:?}");
    assert_eq!(heartbeat.containers[0].offers, [Offer::good(ProfileKind::Cpu, "py-spy")]);
    let slices = gateway.seen().slices.clone();
    assert!(slices.len() >= 2);
    for slice in slices.values() {
        let profile = fleetprof_profile::decode_valid(slice, &fleetprof_profile::Limits::default()).unwrap();
        let folded = fleetprof_profile::fold(&profile, 0);
        assert!(folded.contains("burn_the_cpu"), "{folded}");
    }
}
