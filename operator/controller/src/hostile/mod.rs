//! Can a pod without rights stop the servers? Each runs in a process of its own with the limits of its
//! container; this one attacks it, from other addresses of this machine, while a client that belongs there asks.
//!
//! Not run by default; bounded in number and time, on loopback only:
//! `cargo test --workspace --lib hostile -- --ignored --nocapture --test-threads=1`. It prints the table of
//! SECURITY.md.

mod attack;
mod client;
mod victims;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use attack::{ATTACKS, Attack};
use client::{Caller, Tls};
use victims::{Victim, Welcome};

use crate::server;

/// Production's allocator, so that the memory is production's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tells the second process which server it is.
const VICTIM: &str = "FLEETPROF_HOSTILE_VICTIM";
/// How long an attack lasts at most.
const ATTACK: Duration = Duration::from_secs(4);
/// The longest that a client that belongs there may wait for an answer, connection included: the API server waits
/// 3 s for the webhook. A debug build and its attackers share the cores of this machine.
const BOUND: Duration = Duration::from_secs(3);

fn run(victim: Victim) {
    let _ = server::raise_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match std::env::var(VICTIM) {
        Ok(_) => runtime.block_on(victim.serve()),
        Err(_) => runtime.block_on(attack_all(victim)),
    }
}

#[test]
#[ignore = "a process and half a minute of attacks"]
fn a_pod_without_rights_does_not_stop_the_gateway() {
    run(Victim::Gateway);
}

#[test]
#[ignore = "a process and half a minute of attacks"]
fn a_pod_without_rights_does_not_stop_the_read_api() {
    run(Victim::ReadApi);
}

#[test]
#[ignore = "a process and half a minute of attacks"]
fn a_pod_without_rights_does_not_stop_the_webhook() {
    run(Victim::Webhook);
}

#[test]
#[ignore = "a process and half a minute of attacks"]
fn a_pod_without_rights_does_not_stop_the_alert_receiver() {
    run(Victim::Alerts);
}

/// What was seen during one attack.
struct Seen {
    peak_kib: u64,
    answers: Vec<Duration>,
    failed: usize,
}

async fn attack_all(victim: Victim) {
    let mut faults = Vec::new();
    for attack in ATTACKS {
        let (process, welcome) = second_process();
        let pid = process.0.id();
        let idle = memory_kib(pid, "VmRSS:");
        let seen = under(attack, victim, &welcome, pid).await;
        let mut sorted = seen.answers.clone();
        sorted.sort();
        let p99 = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(Duration::MAX);
        println!(
            "\n| {} | {} | {} MiB, idle {} MiB | {} MiB | {} of {}, p99 {} ms |",
            victim.name(),
            attack.about(),
            seen.peak_kib >> 10,
            idle >> 10,
            victim.limit() >> 20,
            sorted.len(),
            sorted.len() + seen.failed,
            p99.as_millis()
        );
        // What the process holds without callers is not in this one: caches, and the rest of the code.
        let held = (seen.peak_kib.saturating_sub(idle)) << 10;
        if held > victim.planned() || seen.failed > 0 || sorted.len() < 10 || p99 > BOUND {
            faults.push(format!("{}: {} MiB, {} failed, {p99:?}", attack.about(), held >> 20, seen.failed));
        }
    }
    assert!(faults.is_empty(), "{}\n{}", victim.name(), faults.join("\n"));
}

/// One attack, and meanwhile a client that belongs there: on a connection that it keeps, and on new ones.
async fn under(attack: Attack, victim: Victim, welcome: &Welcome, pid: u32) -> Seen {
    let caller = Caller::new(victim, welcome);
    let mut kept = caller.connect([127, 0, 0, 1]).await.unwrap();
    caller.ask(&mut kept).await.unwrap();
    let attackers = tokio::spawn(attack.run(victim, Tls::trusting(&welcome.ca), welcome.port, ATTACK));
    let (mut answers, mut failed) = (Vec::new(), 0);
    let mut peak_kib = 0;
    let begun = std::time::Instant::now();
    while begun.elapsed() < ATTACK {
        for fresh in [false, true] {
            let asked = std::time::Instant::now();
            let answered = tokio::time::timeout(2 * BOUND, async {
                if fresh { caller.ask_on_a_new_connection().await } else { caller.ask(&mut kept).await }
            });
            match answered.await {
                Ok(Ok(())) => answers.push(asked.elapsed()),
                Ok(Err(error)) => {
                    println!("{}: fresh {fresh}: {error}", attack.about());
                    failed += 1;
                }
                Err(_) => failed += 1,
            }
        }
        peak_kib = peak_kib.max(memory_kib(pid, "VmHWM:"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    attackers.abort();
    let _ = attackers.await;
    Seen { peak_kib, answers, failed }
}

/// A process that ends with this value.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn second_process() -> (Stopped, Welcome) {
    let name = std::thread::current().name().unwrap().to_owned();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &name, "--ignored", "--nocapture"]).env(VICTIM, "1").stdout(Stdio::piped());
    let mut process = Stopped(command.spawn().unwrap());
    let lines = BufReader::new(process.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    let welcome = lines.filter_map(|line| Welcome::read(&line)).next().expect("the server did not start");
    (process, welcome)
}

fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
