//! Node.js targets. Their inspectors open at a port of the system's choice, so that tests do not wait for
//! each other; where the usual port matters, one test has it at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleetprof_agent::capture::protocol::{CaptureRequest, Event, FailureReason};
use fleetprof_agent::proc;
use fleetprof_crds::ProfileKind;
use fleetprof_profile::{Limits, Overlap, decode_valid, merge, top};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::worker::{AUTO, Outcome, Target, Worker, deaths, directory, request, within};

const INSPECTOR: Option<&str> = Some("inspector");
const ANY_PORT: &str = "--inspect-port=0";
const USUAL_PORT: u16 = 9229;

/// The usual port belongs to one test at a time.
fn usual_port() -> MutexGuard<'static, ()> {
    static PORT: Mutex<()> = Mutex::new(());
    PORT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `busy.js`, where every user can read it.
pub fn script() -> PathBuf {
    let path = directory().join("busy.js");
    std::fs::write(&path, include_str!("targets/busy.js")).unwrap();
    path
}

/// The Node.js to test with: that of the path, or `FLEETPROF_NODE`.
fn program() -> String {
    std::env::var("FLEETPROF_NODE").unwrap_or_else(|_| "node".to_owned())
}

fn major_version() -> u32 {
    let output = Command::new(program()).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    version.trim_start_matches('v').split('.').next().unwrap().parse().unwrap()
}

/// Starts `busy.js`, and waits until it works: that takes a while on a busy machine.
fn node(flags: &[&str], mode: &str) -> Target {
    let mut command = Command::new(program());
    ready(Target::start(command.args(flags).arg(script()).arg(mode).stderr(Stdio::null())))
}

fn ready(target: Target) -> Target {
    assert!(within(Duration::from_secs(30), || handles_the_signal(&target)), "Node.js does not start");
    assert!(runs_on(&target) && runs_on(&target), "{}", target.status("State"));
    target
}

fn handles_the_signal(target: &Target) -> bool {
    proc::caught_signals(target.pid()).is_some_and(|set| set.holds(Signal::SIGUSR1 as i32))
}

fn listeners(target: &Target) -> Vec<SocketAddr> {
    proc::listeners(target.pid()).unwrap()
}

/// Whether the target goes on using CPU time.
fn runs_on(target: &Target) -> bool {
    let before = target.cpu();
    within(Duration::from_secs(10), || target.cpu() > before + Duration::from_millis(100))
}

/// Asserts that nothing is left in the target: it runs, and its inspector is closed.
fn is_well(target: &Target) {
    assert!(runs_on(target), "{}", target.status("State"));
    assert!(within(Duration::from_secs(3), || listeners(target).is_empty()), "{:?}", listeners(target));
}

fn capture(target: &Target, kinds: &[ProfileKind], duration_ms: u64) -> Outcome {
    let wanted = request(target.pid(), INSPECTOR, duration_ms);
    Worker::start(&[], &CaptureRequest { profiles: kinds.to_vec(), ..wanted }).finish()
}

/// The hottest functions of all slices of a kind, with their share in %.
fn hottest(outcome: &Outcome, kind: ProfileKind) -> Vec<(String, i64)> {
    let is_wanted = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(kind.name());
    let files = std::fs::read_dir(&outcome.directory).unwrap().map(|file| file.unwrap().path());
    let read = |path: PathBuf| decode_valid(&std::fs::read(path).unwrap(), &Limits::default()).unwrap();
    let profiles: Vec<_> = files.filter(is_wanted).map(read).collect();
    assert!(!profiles.is_empty(), "no {kind}: {outcome:?}");
    let whole = merge(&profiles, Overlap::Sequential).unwrap();
    let sum = fleetprof_profile::total(&whole, 1);
    top(&whole, 1, 3).rows.iter().map(|row| (row.name.clone(), 100 * row.self_value / sum)).collect()
}

#[test]
fn the_guilty_function_is_blamed_with_its_line() {
    let target = node(&[ANY_PORT], "spin");
    let before = target.cpu();
    let wanted = request(target.pid(), AUTO, 4000);
    let outcome = Worker::start(&[], &wanted).finish();
    let used = target.cpu() - before;
    outcome.blames_the_guilty();
    let started = outcome.started();
    assert_eq!((started.method.as_str(), started.collector.as_str()), ("inspector", "inspector"));
    assert_eq!(started.runtime, "Node.js");
    let lines = outcome.pprof(&["-top", "-lines"]);
    let line =
        1 + include_str!("targets/busy.js").lines().position(|l| l.ends_with("// the guilty line")).unwrap();
    assert!(lines.lines().any(|l| l.contains("guilty") && l.contains(&format!("busy.js:{line}"))), "{lines}");
    let part = outcome.cpu().as_secs_f64() / used.as_secs_f64();
    assert!((0.6..1.1).contains(&part), "{part} of the CPU time is in the profile");
    assert!(outcome.finished().slices >= 2, "{:?}", outcome.finished());
    is_well(&target);
}

#[test]
fn the_functions_that_keep_and_that_drop_memory_are_told_apart() {
    let target = node(&[ANY_PORT], "spin");
    let outcome = capture(&target, &[ProfileKind::Heap, ProfileKind::Cpu], 4000);
    assert_eq!(hottest(&outcome, ProfileKind::Heap)[0].0, "hoard");
    assert_eq!(hottest(&outcome, ProfileKind::Cpu)[0].0, "guilty");
    is_well(&target);
    let outcome = capture(&target, &[ProfileKind::Alloc], 4000);
    if major_version() < 20 {
        assert!(outcome.failed().message.contains("before version 20"), "{:?}", outcome.failed());
        return is_well(&target);
    }
    let all = hottest(&outcome, ProfileKind::Alloc);
    // Where the texts of `repeat` are counted differs with the version.
    let dropped: i64 = all.iter().filter(|row| row.0 != "hoard").map(|row| row.1).sum();
    assert!(all.iter().any(|row| row.0 == "churn" && row.1 > 30) && dropped > 80, "{all:?}");
    is_well(&target);
}

#[test]
fn heap_is_not_captured_beside_alloc_and_says_so() {
    let target = node(&[ANY_PORT], "spin");
    let outcome = capture(&target, &[ProfileKind::Heap, ProfileKind::Alloc], 2500);
    let (captured, wanted) = match major_version() {
        ..20 => (ProfileKind::Heap, "before version 20"),
        _ => (ProfileKind::Alloc, "session of its own"),
    };
    assert!(!hottest(&outcome, captured).is_empty());
    let said = format!("{:?}", outcome.events.last());
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn worker_threads_are_profiled() {
    let target = node(&[ANY_PORT], "workers");
    let before = target.cpu();
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 4000)).finish();
    let used = target.cpu() - before;
    outcome.blames_the_guilty();
    let part = outcome.cpu().as_secs_f64() / used.as_secs_f64();
    assert!((0.5..1.1).contains(&part), "{part} of the CPU time of both is in the profile");
    is_well(&target);
}

#[test]
fn a_loop_that_never_comes_back_is_profiled() {
    let target = node(&[ANY_PORT], "sync");
    let outcome = Worker::start(&[], &request(target.pid(), INSPECTOR, 3000)).finish();
    outcome.blames_the_guilty();
    is_well(&target);
}

#[test]
fn an_inspector_that_was_asked_for_stays_open() {
    let _port = usual_port();
    let target = node(&["--inspect"], "spin");
    let open = listeners(&target);
    assert_eq!(open.len(), 1);
    let outcome = Worker::start(&[], &request(target.pid(), INSPECTOR, 2500)).finish();
    outcome.blames_the_guilty();
    assert!(runs_on(&target));
    assert_eq!(listeners(&target), open);
}

#[test]
fn what_a_killed_agent_left_open_is_used_and_closed() {
    let _port = usual_port();
    let target = node(&[], "spin");
    let mut worker = Worker::start(&[], &request(target.pid(), INSPECTOR, 60_000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    worker.signal(Signal::SIGKILL);
    worker.child.wait().unwrap();
    assert!(runs_on(&target));
    assert_eq!(listeners(&target).iter().map(SocketAddr::port).collect::<Vec<_>>(), [USUAL_PORT]);
    Worker::start(&[], &request(target.pid(), INSPECTOR, 2500)).finish().blames_the_guilty();
    is_well(&target);
}

#[test]
fn an_inspector_that_a_killed_agent_left_open_closes_by_itself() {
    let target = node(&[ANY_PORT], "spin");
    let mut worker = Worker::start(&[], &request(target.pid(), INSPECTOR, 1000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    worker.signal(Signal::SIGKILL);
    worker.child.wait().unwrap();
    assert_eq!(listeners(&target).len(), 1, "the agent was killed before it closed it");
    let is_closed = within(Duration::from_secs(90), || listeners(&target).is_empty());
    assert!(is_closed && runs_on(&target), "{:?}", listeners(&target));
}

#[test]
fn a_process_that_is_being_debugged_is_left_alone() {
    let _port = usual_port();
    let target = node(&["--inspect"], "spin");
    let mut debugger = TcpStream::connect(listeners(&target)[0]).unwrap();
    debugger.write_all(b"GET /json/list HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    debugger.read_exact(&mut [0; 12]).unwrap();
    let outcome = Worker::start(&[], &request(target.pid(), INSPECTOR, 2000)).finish();
    assert!(outcome.failed().message.contains("a debugger is connected"), "{:?}", outcome.failed());
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 2000)).finish();
    assert_eq!(outcome.started().collector, "native", "machine code is profiled instead");
    assert!(outcome.started().why.contains("a debugger is connected"), "{:?}", outcome.started());
}

#[test]
fn a_signal_that_is_not_handled_is_never_sent() {
    // The program has the name of Node.js, and would end by SIGUSR1.
    let program = directory().join("node");
    std::fs::copy(crate::worker::compiled("hot"), &program).unwrap();
    let target = Target::start(Command::new(&program).arg("spin"));
    let outcome = Worker::start(&[], &request(target.pid(), INSPECTOR, 2000)).finish();
    assert_eq!(outcome.failed().reason, FailureReason::UnsupportedRuntime);
    assert!(outcome.failed().message.contains("does not handle SIGUSR1"), "{:?}", outcome.failed());
    Worker::start(&[], &request(target.pid(), AUTO, 2000)).finish().blames_the_guilty();
    assert!(runs_on(&target));
}

#[test]
fn a_process_that_handles_the_signal_itself_gets_it_once() {
    let mut target = node(&[ANY_PORT], "deaf");
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 2000)).finish();
    assert_eq!(outcome.started().collector, "native");
    assert!(outcome.started().why.contains("did not open its inspector"), "{:?}", outcome.started());
    assert!(runs_on(&target));
    target.0.kill().unwrap();
    let mut said = String::new();
    target.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "SIGUSR1\n");
}

#[test]
fn an_inspector_stays_closed_when_a_busy_function_has_returned() {
    let mut target = node(&[ANY_PORT], "late");
    let outcome = Worker::start(&[], &request(target.pid(), INSPECTOR, 1000)).finish();
    assert!(outcome.finished().samples > 10, "{:?}", outcome.finished());
    let mut line = String::new();
    BufReader::new(target.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "back\n");
    // Node.js would open it again at once.
    std::thread::sleep(Duration::from_millis(500));
    is_well(&target);
}

#[test]
fn no_inspector_is_opened_in_the_network_of_the_node() {
    let target = node(&[ANY_PORT], "spin");
    let launch = ["/usr/bin/env", "FLEETPROF_HOST_NETWORK=true"];
    let outcome = Worker::start(&launch, &request(target.pid(), INSPECTOR, 1000)).finish();
    assert!(outcome.failed().message.contains("hostNetwork"), "{:?}", outcome.failed());
    let outcome = Worker::start(&launch, &request(target.pid(), AUTO, 2000)).finish();
    assert_eq!(outcome.started().collector, "native");
    assert!(outcome.started().why.contains("hostNetwork"), "{:?}", outcome.started());
    is_well(&target);
}

#[test]
fn a_stopped_target_is_not_signalled_and_one_that_stops_later_is_left_in_order() {
    let target = node(&[ANY_PORT], "spin");
    let stop = |signal| kill(Pid::from_raw(target.pid()), signal).unwrap();
    stop(Signal::SIGSTOP);
    assert!(within(Duration::from_secs(10), || target.status("State").starts_with('T')));
    let outcome = Worker::start(&[], &request(target.pid(), INSPECTOR, 2000)).finish();
    assert!(outcome.failed().message.contains("is stopped"), "{:?}", outcome.failed());
    stop(Signal::SIGCONT);
    let mut worker = Worker::start(&[], &request(target.pid(), INSPECTOR, 3000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    stop(Signal::SIGSTOP);
    // It ends in time, though the target does not answer.
    let _outcome = worker.finish();
    assert!(target.status("State").starts_with('T'), "{}", target.status("State"));
    stop(Signal::SIGCONT);
    assert!(runs_on(&target), "{}", target.status("State"));
    // It may have stopped before it was told to close: then it does so by itself, a minute after the capture.
    let is_closed = within(Duration::from_secs(90), || listeners(&target).is_empty());
    assert!(is_closed, "{:?}", listeners(&target));
}

#[test]
fn what_was_recorded_before_the_target_ended_is_kept() {
    let target = node(&[ANY_PORT], "spin");
    let mut worker = Worker::start(&[], &request(target.pid(), INSPECTOR, 60_000));
    while !matches!(worker.event().expect("a slice before the worker ends"), Event::Slice(_)) {}
    kill(Pid::from_raw(target.pid()), Signal::SIGKILL).unwrap();
    let outcome = worker.finish();
    assert!(outcome.events.iter().any(|e| matches!(e, Event::Finished(f) if f.target_exited)), "{outcome:?}");
}

#[test]
fn sigterm_ends_a_capture_with_its_last_slice_and_closes_the_inspector() {
    let target = node(&[ANY_PORT], "spin");
    let mut worker = Worker::start(&[], &request(target.pid(), INSPECTOR, 60_000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    std::thread::sleep(Duration::from_millis(700));
    worker.signal(Signal::SIGTERM);
    let outcome = worker.finish();
    assert!(outcome.finished().stopped && outcome.finished().samples > 10, "{:?}", outcome.finished());
    is_well(&target);
}

#[test]
fn a_target_survives_the_death_of_its_worker_at_any_moment() {
    let target = node(&[ANY_PORT], "spin");
    for (round, moment) in deaths(6, Duration::from_millis(2500)) {
        let mut worker = Worker::start(&[], &request(target.pid(), INSPECTOR, 60_000));
        // From before the inspector opens to the second slice.
        std::thread::sleep(moment);
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
        assert!(runs_on(&target), "round {round}: {}", target.status("State"));
        assert!(listeners(&target).len() <= 1, "round {round}: {:?}", listeners(&target));
    }
    let outcome = Worker::start(&[], &request(target.pid(), INSPECTOR, 2500)).finish();
    assert!(outcome.finished().samples > 50, "{outcome:?}");
    outcome.blames_the_guilty();
    is_well(&target);
}

#[test]
fn under_a_strict_seccomp_filter_as_the_same_user() {
    let script = script();
    let launch = crate::worker::compiled("launch");
    let mut command = Command::new(launch);
    command.args(["-u", "1000", &program(), ANY_PORT]).arg(script).arg("spin");
    let target = ready(Target::start(&mut command));
    let outcome =
        Worker::start(&["-u", "1000", "-c", "0", "-s"], &request(target.pid(), AUTO, 3000)).finish();
    assert_eq!(outcome.started().method, "inspector", "{:?}", outcome.started());
    outcome.blames_the_guilty();
    is_well(&target);
}

/// The processes of a cluster all open their inspectors at the same port.
#[test]
fn every_process_of_a_cluster_is_profiled() {
    let _port = usual_port();
    let container = crate::container::Container::new();
    let primary = container.start(&[&program(), script().to_str().unwrap(), "cluster"]);
    container.works(&primary);
    let outcome = Worker::start(&[], &container.request(&primary, 5000)).finish();
    outcome.blames_the_guilty();
    let cover = outcome.finished().cover.unwrap();
    assert!(cover.processes >= 2, "{:?}", outcome.finished());
    let share = cover.cpu_nanos * 100 / cover.used_nanos.unwrap();
    assert!((50..=110).contains(&share), "{share} % {:?}", outcome.finished());
    assert_eq!(outcome.started().method, "inspector");
    for pid in container.pids() {
        let is_closed = || proc::listeners(pid.as_raw()).is_ok_and(|all| all.is_empty());
        assert!(within(Duration::from_secs(3), is_closed), "{:?}", proc::listeners(pid.as_raw()));
    }
}

/// Microseconds of CPU time that a fixed amount of work takes, and those of a worker that `watched` starts.
fn work(flags: &[&str], watched: impl FnOnce(&Target) -> Option<Worker>) -> (f64, f64) {
    let mut command = Command::new(program());
    command.args(flags).arg(script()).arg("steps").current_dir(directory());
    let mut target = Target::start(command.stdin(Stdio::piped()).stderr(Stdio::null()));
    assert!(within(Duration::from_secs(30), || handles_the_signal(&target)), "Node.js does not start");
    let worker = watched(&target);
    target.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut said = String::new();
    BufReader::new(target.0.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    let agent = worker.map_or(0.0, |worker| {
        let stat = proc::stat(i32::try_from(worker.child.id()).unwrap()).unwrap();
        worker.signal(Signal::SIGTERM);
        let _outcome = worker.finish();
        (stat.user_ticks + stat.system_ticks) as f64 * 10_000.0
    });
    (said.trim().parse().unwrap(), agent)
}

/// `cargo test -p fleetprof-agent --test capture -- --ignored --nocapture beside_cpu_prof`
#[test]
#[ignore = "a measurement, which takes minutes and a machine without other work"]
fn cost_beside_cpu_prof() {
    let watch = |kinds: &'static [ProfileKind]| {
        move |target: &Target| {
            let wanted = request(target.pid(), INSPECTOR, 120_000);
            let wanted = CaptureRequest { profiles: kinds.to_vec(), slice_ms: 12_000, ..wanted };
            let mut worker = Worker::start(&[], &wanted);
            assert!(matches!(worker.event(), Some(Event::Started(_))));
            Some(worker)
        }
    };
    let mut rows: [Vec<(f64, f64)>; 5] = Default::default();
    for _ in 0..5 {
        rows[0].push(work(&[ANY_PORT], |_| None));
        rows[1].push(work(&["--cpu-prof", "--cpu-prof-interval=10101"], |_| None));
        rows[2].push(work(&[ANY_PORT], watch(&[ProfileKind::Cpu])));
        rows[3].push(work(&[ANY_PORT], watch(&[ProfileKind::Alloc])));
        rows[4].push(work(&[ANY_PORT], watch(&[ProfileKind::Heap])));
    }
    let middle = |values: &mut dyn Iterator<Item = f64>| {
        let mut all: Vec<f64> = values.collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let base = middle(&mut rows[0].iter().map(|row| row.0));
    for (name, row) in ["nothing", "--cpu-prof", "cpu", "alloc", "heap"].iter().zip(&rows) {
        let (target, agent) = (middle(&mut row.iter().map(|r| r.0)), middle(&mut row.iter().map(|r| r.1)));
        println!("{name:12} target x{:.3}  agent {:.1} % of it", target / base, 100.0 * agent / target);
    }
}
