//! How much does an agent cost the leader? Thousands of agents in a process of their own, with the
//! connections that real ones hold (HTTP/1.1 over TLS: one for the hanging poll, one for heartbeats), and the
//! gateway in this one.
//!
//! Not run by default; bounded in number and time, on loopback only:
//! `cargo test --release -p fleetprof-operator --lib gateway::tests::load -- --ignored --nocapture`

mod agents;

use std::net::Ipv4Addr;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetprof_crds::wire::CaptureState;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::rig::{MemorySink, Table, order, scope};
use crate::gateway::{
    Fleet, GatewayConfig, GatewayMetrics, GatewayState, ServedNamespaces, router, system_clock,
};
use crate::server::{ConnectionMetrics, Limits};
use crate::tickets::Tickets;
use crate::tls::{TlsMaterial, TlsSource, serve};
use crate::watched::Pods;

const AGENTS: usize = 2_000;
const TARGETS: usize = 50;
const ROUNDS: usize = 5;
const STEADY: Duration = Duration::from_secs(40);
const TIMEOUT: Duration = Duration::from_secs(120);
/// Tells the second process where to dial, and its part of the certificate to trust.
const DIAL: &str = "FLEETPROF_LOAD_DIAL";
const TRUST: &str = "FLEETPROF_LOAD_TRUST";

#[test]
#[ignore = "two processes and a minute"]
fn two_thousand_agents_are_served_from_little_memory_and_hear_of_orders_at_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match (std::env::var(DIAL), std::env::var(TRUST)) {
        (Ok(port), Ok(pem)) => runtime.block_on(agents::run(port.parse().unwrap(), &pem, AGENTS)),
        _ => runtime.block_on(measure()),
    }
}

async fn measure() {
    let fleet = Fleet::new();
    fleet.set_synced(true, jiff::Timestamp::now());
    let (port, pem) = listen(&fleet).await;
    let idle = resident_kib();
    let _agents = Stopped(second_process(port, &pem));
    until("all agents report", || fleet.agents().len() == AGENTS).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let per_agent = (resident_kib() - idle) as f64 / AGENTS as f64;
    let (cpu, since) = (cpu_seconds(), Instant::now());
    tokio::time::sleep(STEADY).await;
    let busy = (cpu_seconds() - cpu) / since.elapsed().as_secs_f64();
    let mut answers = Vec::new();
    for round in 0..ROUNDS {
        answers.push(order_and_wait(&fleet, round).await);
    }
    println!("{AGENTS} agents: {per_agent:.1} KiB each, {:.1} % of one CPU when idle", busy * 100.0);
    println!("{TARGETS} orders until all had reported back: {answers:?}");
    assert!(per_agent < 200.0, "{per_agent} KiB");
    answers.sort();
    assert!(answers[ROUNDS / 2] < Duration::from_secs(2), "{answers:?}");
}

/// Orders a capture from some agents; how long until each of them has reported that it took it.
async fn order_and_wait(fleet: &Fleet, round: usize) -> Duration {
    let ordered = Instant::now();
    let captures: Vec<String> = (0..TARGETS).map(|n| format!("round{round}-{n}")).collect();
    for (n, capture) in captures.iter().enumerate() {
        fleet.open(scope(capture, &format!("{}", (n * 37 + round) % AGENTS)), order(capture));
    }
    let taken =
        |capture: &String| fleet.report(capture).is_some_and(|report| report.state == CaptureState::Accepted);
    until("all orders are taken", || captures.iter().all(taken)).await;
    let took = ordered.elapsed();
    captures.iter().for_each(|capture| fleet.close(capture));
    took
}

async fn listen(fleet: &Fleet) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (feed, tls) = TlsSource::channel();
    feed.replace(TlsMaterial::from_pem(pem.as_bytes(), key.as_bytes(), pem.as_bytes()).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = GatewayState::new(GatewayConfig {
        fleet: fleet.clone(),
        identify: Arc::new(Table::default()),
        tickets: Arc::new(Tickets::new(&[1; 32])),
        pods: Arc::new(Pods::default()),
        nodes: ServedNamespaces::default(),
        sink: Arc::new(MemorySink::default()),
        metrics: GatewayMetrics::register(&mut Registry::default(), fleet),
        clock: system_clock(),
    });
    let limits = Limits::new("gateway", (200_000, u32::MAX), ConnectionMetrics::default());
    tokio::spawn(async move {
        let _feed = feed;
        serve(listener, tls, router(state), None, limits, std::future::pending()).await
    });
    (port, pem)
}

fn second_process(port: u16, pem: &str) -> Child {
    let name = std::thread::current().name().unwrap().to_owned();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &name, "--ignored", "--nocapture"]).env(DIAL, port.to_string()).env(TRUST, pem);
    command.spawn().unwrap()
}

/// A process that ends with this value.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < TIMEOUT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// CPU time of this process; a tick is 10 ms on Linux.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
