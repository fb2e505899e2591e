//! What does the ledger of places cost when many wait? 2,000 targets ask every second while the fleet is
//! full.
//!
//! `cargo run --release -p fleetprof-core --example places`
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::time::Instant;

use fleetprof_core::budget::{Asker, Claim, Ledger, Limits};
use jiff::{SignedDuration, Timestamp};

const WAITING: usize = 2_000;
const FLEET: usize = 1_000;
const SECONDS: usize = 10;

fn main() {
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    let limits = Limits { node: 1, policy_on_node: 1, namespace: 100, policy: 10, fleet: FLEET, people: 50 };
    let claim = |n: usize| Claim {
        capture: format!("7f9c0d52-8d0e-4f2a-9a55-000000000000-{n:05}"),
        session: format!("7f9c0d52-8d0e-4f2a-9a55-{n:012}"),
        name: format!("session-{n}"),
        namespace: format!("team-{}", n % 200),
        policy: format!("policy-{}", n % 1_000),
        node: format!("node-{n}"),
        container: format!("7f9c0d52-8d0e-4f2a-9a55-{n:012}/app"),
        asker: Asker::Policy,
        priority: 0,
        since: start + SignedDuration::from_secs(i64::try_from(n % 60).unwrap()),
        limits,
    };
    let mut ledger = Ledger::default();
    (0..FLEET).for_each(|n| ledger.hold(claim(n)));
    let began = Instant::now();
    for second in 0..SECONDS {
        let now = start + SignedDuration::from_secs(i64::try_from(second).unwrap());
        for n in FLEET..FLEET + WAITING {
            let _ = ledger.claim(claim(n), now);
        }
    }
    let each = began.elapsed().as_secs_f64() / SECONDS as f64;
    println!(
        "| {WAITING} targets that wait for a place ask once | {:.1} ms, {:.2} µs each | – | |",
        each * 1e3,
        each * 1e6 / WAITING as f64
    );
}
