//! What happens to containers that start after the agent, and to orders for them?

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{CaptureState, Heartbeat};
use nix::sys::signal::Signal;

use super::support::gateway::Seen;
use super::support::{Agent, BOX, FakeGateway, Scratch, Sleeper, now, order};

const ENDS: &str = "started; slice 0 10; finished 10 false";

fn knows_the_container(beat: &Heartbeat) -> bool {
    beat.containers.iter().any(|row| row.id == BOX)
}

#[test]
fn a_container_that_starts_after_the_agent_is_told_long_before_the_next_heartbeat_is_due() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    gateway.seen().next_ms = 300_000;
    std::fs::create_dir_all(scratch.path("proc")).unwrap();
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(1);
    std::thread::sleep(Duration::from_secs(1));
    let before = gateway.seen().heartbeats.len();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(gateway.seen().heartbeats.len(), before, "nothing happened");
    let (start, _target) = (Instant::now(), Sleeper::new(&scratch));
    let told = gateway.wait("the container", |seen| {
        seen.heartbeats.iter().find(|(_, beat)| knows_the_container(beat)).map(|(at, _)| *at)
    });
    let delay = told.duration_since(start);
    assert!(delay < Duration::from_secs(5), "{delay:?}");
}

/// Its spool is in memory of the pod, which the app may have filled when the agent is started again.
#[test]
fn a_sidecar_without_room_for_its_spool_stays_and_captures_once_there_is_room() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let _target = Sleeper::new(&scratch);
    scratch.worker(ENDS);
    let agent = Agent::sidecar_of_full_memory(&scratch, &gateway);
    gateway.order(|orders| orders.push(order("a")));
    gateway.wait_for_state("a", CaptureState::Failed);
    assert_eq!(gateway.seen().reason("a"), Some(Reason::SpoolFailed));
    agent.free_memory();
    gateway.order(|orders| orders.push(order("b")));
    gateway.wait_for_state("b", CaptureState::Finished);
    assert_eq!(gateway.seen().state("a"), Some(CaptureState::Failed), "it is not run later");
}

#[test]
fn a_sidecar_that_cannot_work_stays_so_that_its_pod_is_ready() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let agent = Agent::sidecar(&scratch, &gateway, &[("FLEETPROF_CA", "nonsense")]);
    std::thread::sleep(Duration::from_secs(2));
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.end(Duration::from_secs(10)), Some(0));
}

#[test]
fn a_shell_that_becomes_another_program_is_told() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    gateway.seen().next_ms = 300_000;
    let script = "read line; exec python3 -c 'import time; time.sleep(1000)'";
    let mut shell = Command::new("sh").arg("-c").arg(script).stdin(Stdio::piped()).spawn().unwrap();
    scratch.put_process(shell.id());
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    let runtime = |seen: &Seen| {
        let (_, beat) = seen.heartbeats.last()?;
        beat.containers.iter().find(|row| row.id == BOX).map(|row| row.runtime.clone())
    };
    gateway.wait("the shell", |seen| (runtime(seen)? == "Native").then_some(()));
    std::thread::sleep(Duration::from_secs(3));
    shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let comm = || std::fs::read_to_string(format!("/proc/{}/comm", shell.id())).unwrap();
    while !comm().starts_with("python") {
        std::thread::sleep(Duration::from_millis(20));
    }
    scratch.put_process(shell.id());
    let start = Instant::now();
    gateway.wait("Python", |seen| runtime(seen)?.starts_with("Python").then_some(()));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    shell.kill().unwrap();
    shell.wait().unwrap();
}

#[test]
fn an_order_that_comes_before_its_container_starts_as_soon_as_it_is_there() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    std::fs::create_dir_all(scratch.path("proc")).unwrap();
    let _pause = Pause::new(&scratch);
    scratch.worker(ENDS);
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.order(|orders| orders.push(order("a")));
    gateway.wait_for_state("a", CaptureState::Accepted);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(gateway.seen().state("a"), Some(CaptureState::Accepted), "it waits");
    let (start, _target) = (Instant::now(), Sleeper::new(&scratch));
    gateway.wait_for_state("a", CaptureState::Finished);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn an_order_for_a_container_that_does_not_come_is_given_up_at_its_deadline_and_before_when_it_is_cancelled() {
    let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
    let target = Sleeper::new(&scratch);
    scratch.worker(ENDS);
    let _agent = Agent::sidecar(&scratch, &gateway, &[]);
    gateway.wait_for_heartbeats(2);
    gateway.order(|orders| {
        let (mut late, mut cancelled) = (order("late"), order("cancelled"));
        (late.container_id, late.start_before) = ("e".repeat(64), now() + 4);
        (cancelled.container_id, cancelled.start_before) = ("f".repeat(64), now() + 60);
        *orders = vec![late, cancelled];
    });
    gateway.wait_for_state("cancelled", CaptureState::Accepted);
    gateway.order(|orders| orders[1].cancel = true);
    let cancelled = gateway.wait_for_state("cancelled", CaptureState::Cancelled);
    assert_eq!(cancelled.problem.unwrap().reason, Reason::Cancelled);
    let late = gateway.wait_for_state("late", CaptureState::Failed);
    assert_eq!(late.problem.unwrap().reason, Reason::ContainerRestarted);
    // One that was here is not waited for.
    std::fs::remove_dir_all(scratch.path(&format!("proc/{}", target.0.id()))).unwrap();
    let _pause = Pause::new(&scratch);
    gateway.wait("it has ended", |seen| seen.heartbeats.last()?.1.containers.is_empty().then_some(()));
    let start = Instant::now();
    gateway.order(|orders| *orders = vec![order("gone")]);
    let gone = gateway.wait_for_state("gone", CaptureState::Failed);
    assert_eq!(gone.problem.unwrap().reason, Reason::ContainerRestarted);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(scratch.runs().len(), 0);
}

/// The process that holds the pod's namespaces open, so that the agent knows that it would see containers.
struct Pause(Child);

impl Pause {
    fn new(scratch: &Scratch) -> Self {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let dir = scratch.path(&format!("proc/{}", child.id()));
        std::fs::create_dir_all(&dir).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        std::fs::write(dir.join("stat"), stat.replace("(sleep)", "(pause)")).unwrap();
        std::fs::write(dir.join("cgroup"), "0::/\n").unwrap();
        Self(child)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU time of an agent that waits, of all its threads.
fn cpu_time(agent: &Agent) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", agent.0.id())).unwrap().flatten();
    let ran = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(ran).sum())
}

/// A measurement: of the whole machine's processes and of one, in the first minute and after it.
#[test]
#[ignore = "takes five minutes; prints figures"]
fn cost_of_waiting() {
    for all in [false, true] {
        let (scratch, gateway) = (Scratch::new(), FakeGateway::start());
        {
            let mut seen = gateway.seen();
            (seen.next_ms, seen.takes_changes) = (30_000, true);
        }
        let _target = Sleeper::new(&scratch);
        let real = [("FLEETPROF_PROC", "/proc")];
        let agent = Agent::sidecar(&scratch, &gateway, if all { &real } else { &[] });
        gateway.wait_for_heartbeats(1);
        std::thread::sleep(Duration::from_secs(5));
        for what in ["in the first minute", "after it"] {
            let (start, before) = (Instant::now(), cpu_time(&agent));
            std::thread::sleep(Duration::from_secs(60));
            let share = (cpu_time(&agent) - before).as_secs_f64() / start.elapsed().as_secs_f64();
            let beats = gateway.seen().heartbeats.len();
            println!("{:.4} % of a core {what}, {beats} heartbeats, all processes: {all}", 100.0 * share);
        }
        println!("bodies of heartbeats: {:?} bytes", gateway.seen().bodies);
    }
}
