//! How large is the object of a session?

use std::collections::HashMap;
use std::sync::Arc;

use crate::world::*;
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::names::MAX_TARGETS;
use fleetprof_crds::session_status::{Phase, TopFunction};
use fleetprof_crds::wire::CaptureState;
use fleetprof_crds::{ProfileSession, Reason};
use serde_json::json;

/// Most bytes of a session of as many targets as there can be, without what the API server adds.
const MOST: usize = 18_900;

/// Names as long as they are in production: a hash of the template and one of the pod, nodes of a cloud.
fn target(n: usize) -> PodFacts {
    let name = format!("checkout-{:010x}-{:05x}", 0x6d_4b75_cb6d_u64, n * 7_919);
    let mut pod = pod(&name);
    pod.uid = format!("{n:08x}-7c51-4d6f-9a57-1f2f0c6d9a11");
    pod.node = format!("ip-10-0-{}-17.eu-central-1.compute.internal", n % 12).into();
    pod.labels = Arc::new([("pod-template-hash".to_owned(), "6d4b75cb6d".to_owned())].into());
    pod.containers[0].id = format!("{n:064x}");
    pod
}

fn world() -> (World, Vec<PodFacts>) {
    let pods: Vec<PodFacts> = (0..MAX_TARGETS).map(target).collect();
    let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
    let mut world = World::new(json!({"target": {"pods": names}, "duration": "60s"}));
    world.session.metadata.uid = Some("0b8e2a52-7c51-4d6f-9a57-1f2f0c6d9a11".into());
    for pod in &pods {
        world = world.with_pod(pod.clone()).with_agent(&pod.name);
        let mut agent = world.observed.agents.remove(&format!("uid-{}", pod.name)).unwrap();
        agent.runtimes = HashMap::from([(pod.containers[0].id.clone(), "Python 3.11".into())]);
        world.observed.agents.insert(pod.uid.clone(), agent);
    }
    (world, pods)
}

/// A session of as many targets as there can be after its end, as the controller writes it.
fn ended() -> ProfileSession {
    let (mut world, pods) = world();
    world.step();
    for pod in &pods {
        world.report(&pod.name, CaptureState::Running, 0, None);
    }
    world.after(60);
    for (n, pod) in pods.iter().enumerate() {
        // Captures do not end all in one moment.
        if n % 20 == 19 {
            world.after(1);
        }
        world.report_with(&pod.name, CaptureState::Finished, 6, None, |report| {
            (report.processes, report.profiled_ms, report.used_ms) =
                (Some(1), Some(980 - n as i64), Some(1_000));
            (report.cpu_percent, report.memory_percent) = (Some(n as i32), Some(50 - n as i32 / 2));
            // Few containers are throttled.
            report.throttled_percent = Some(i32::from(n % 20 == 0) * 12);
        });
    }
    world.is(Phase::Succeeded, Reason::Completed);
    let mut session = world.session;
    let status = session.status.as_mut().unwrap();
    let folder = "production/shop/Deployment-checkout/2026-12-01/0b8e2a52-7c51-4d6f-9a57-1f2f0c6d9a11";
    for (n, target) in status.targets.iter_mut().enumerate() {
        let profile = &mut target.profiles[0];
        profile.uri = format!("{folder}/{}_app_cpu.pb.gz", target.pod);
        (profile.bytes, profile.samples) = (12_345 + n as i64, 1_000 + n as i64);
        target.samples = profile.samples;
    }
    let function = |n: usize| TopFunction {
        name: format!("checkout.cart.pricing.apply_discounts_{n}"),
        location: format!("pricing.py:{n}"),
        self_percent: "87.3".into(),
    };
    status.top_functions = (0..5).map(function).collect();
    session
}

#[test]
fn a_session_of_the_most_targets_is_small_and_nothing_of_it_is_lost() {
    let session = ended();
    assert!(session.status.as_ref().unwrap().targets.len() == MAX_TARGETS);
    let bytes = serde_json::to_vec(&session).unwrap();
    let read: ProfileSession = serde_json::from_slice(&bytes).unwrap();
    let mut wanted = session.clone();
    wanted.status.iter_mut().flat_map(|status| &mut status.targets).for_each(|t| t.container_id.truncate(13));
    assert_eq!(read, wanted, "all but digits of container ids that tools of a node do not print");
    let spec = serde_json::to_vec(&session.spec).unwrap().len();
    let (first, shared) = {
        let object: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        (object["status"]["targets"][0].to_string(), object["status"]["shared"].to_string())
    };
    let size = bytes.len() - spec;
    assert!(size <= MOST, "{size} bytes, and {spec} of the spec; shared: {shared}; a target: {first}");
}
