//! Wall time: what waits is on top, in its state, for the time of the clock, and costs little to find.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::worker::{AUTO, Outcome, Target, Worker, compiled, directory, linked_statically, request, source};
use fleetprof_agent::capture::protocol::{CaptureRequest, FailureReason};
use fleetprof_agent::proc;
use fleetprof_crds::ProfileKind::{Cpu, Wall};
use fleetprof_profile::{IDLE, Limits, Overlap, Profile, decode_valid, fold_idle, merge, top};

/// How long the third party takes for an answer.
const ANSWER: Duration = Duration::from_millis(200);

/// A third party that answers slowly; gives back its port. It ends with the test.
pub fn third_party(answer: fn(&mut TcpStream) -> std::io::Result<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut client = client;
                while answer(&mut client).is_ok() {}
            });
        }
    });
    port
}

/// A byte for a byte.
fn echo(client: &mut TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    client.read_exact(&mut byte)?;
    std::thread::sleep(ANSWER);
    client.write_all(&byte)
}

/// An answer to a request.
pub fn http(client: &mut TcpStream) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    std::thread::sleep(ANSWER);
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")?;
    Err(std::io::ErrorKind::ConnectionAborted.into())
}

/// A request for wall time, and CPU time with it.
pub fn both(pid: i32, duration_ms: u64) -> CaptureRequest {
    CaptureRequest { profiles: vec![Cpu, Wall], slice_ms: 2500, ..request(pid, AUTO, duration_ms) }
}

/// One sample: function names, leaf first, its labels, and nanoseconds.
pub struct Sample {
    names: Vec<String>,
    labels: BTreeMap<String, String>,
    nanos: f64,
}

/// The profile of a kind, of all slices together.
pub fn profile(outcome: &Outcome, kind: &str) -> Profile {
    let read = |file| decode_valid(&std::fs::read(file).unwrap(), &Limits::default()).unwrap();
    let slices: Vec<Profile> = outcome.files_of(kind).iter().map(read).collect();
    assert!(!slices.is_empty(), "no {kind} slice: {outcome:?}");
    merge(&slices, Overlap::Sequential).unwrap()
}

pub fn samples(outcome: &Outcome, kind: &str) -> Vec<Sample> {
    let profile = profile(outcome, kind);
    let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].clone();
    let at = |id: u64| usize::try_from(id).unwrap() - 1;
    let names = |id: &u64| {
        let lines = &profile.location[at(*id)].line;
        lines.iter().map(|line| text(profile.function[at(line.function_id)].name)).collect::<Vec<_>>()
    };
    let sample = |sample: &fleetprof_profile::proto::Sample| Sample {
        names: sample.location_id.iter().flat_map(names).collect(),
        labels: sample.label.iter().map(|label| (text(label.key), text(label.str))).collect(),
        nanos: sample.value[1] as f64,
    };
    profile.sample.iter().map(sample).collect()
}

/// The nanoseconds of samples with a function in their stack and these labels.
pub fn time(samples: &[Sample], function: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |sample: &&Sample| {
        (function.is_empty() || sample.names.iter().any(|name| name == function))
            && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
    };
    samples.iter().filter(has).map(|sample| sample.nanos).sum()
}

/// How long the slices say that they are, in nanoseconds.
pub fn elapsed(outcome: &Outcome) -> f64 {
    profile(outcome, "wall").duration_nanos as f64
}

pub fn within_a_tenth(have: f64, wanted: f64, what: &str) {
    assert!((0.9..1.1).contains(&(have / wanted)), "{what}: {have} ns of {wanted} ns");
}

#[test]
fn a_python_function_that_waits_for_an_answer_is_on_top_of_wall_time_and_not_of_cpu_time() {
    let script = directory().join("orders.py");
    std::fs::copy(source("orders.py"), &script).unwrap();
    let port = third_party(http).to_string();
    let target = Target::start(Command::new("python3").arg(script).arg(port));
    // The pool is there.
    let is_ready = || proc::threads(target.pid()).unwrap().len() == 4;
    assert!(crate::worker::within(Duration::from_secs(30), is_ready));
    let outcome = Worker::start(&[], &both(target.pid(), 6000)).finish();
    assert_eq!(outcome.started().method, "cpython");
    let (wall, cpu) = (samples(&outcome, "wall"), samples(&outcome, "cpu"));

    let (waited, worked) = (time(&wall, "pay", &[]), time(&wall, "guilty", &[]));
    assert!(waited > 1.5 * worked && worked > 0.0, "pay {waited} ns, guilty {worked} ns");
    let of_cpu = time(&cpu, "pay", &[]) / time(&cpu, "", &[]);
    assert!(of_cpu < 0.2, "pay has {of_cpu} of CPU time");
    assert!(time(&cpu, "guilty", &[]) > 0.6 * time(&cpu, "", &[]));

    let state = |function, labels: &[(&str, &str)]| time(&wall, function, labels);
    assert!(state("pay", &[("thread_state", "blocked"), ("waits_for", "socket")]) > 0.8 * waited);
    assert!(state("guilty", &[("thread_state", "blocked")]) < 0.1 * worked);
    assert!(state("guilty", &[("thread_state", "running")]) > 0.0);
    within_a_tenth(state("main", &[]), elapsed(&outcome), "the main thread");
    within_a_tenth(state("_worker", &[]), 3.0 * elapsed(&outcome), "the pool");

    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let top = top(&folded, 1, 5);
    let idle = top.rows.last().unwrap();
    assert_eq!(idle.name, IDLE, "{top:?}");
    within_a_tenth(idle.self_value as f64, 3.0 * elapsed(&outcome), "what is folded");
    let heaviest = top.rows.iter().take(5).max_by_key(|row| row.self_value).unwrap();
    assert!(heaviest.file.ends_with("/socket.py"), "the wait for the answer is first: {top:?}");
}

#[test]
fn a_php_function_that_waits_for_an_answer_is_on_top_of_wall_time_and_not_of_cpu_time() {
    let script = directory().join("orders.php");
    std::fs::copy(source("orders.php"), &script).unwrap();
    let target = Target::start(Command::new("php").arg(script).arg(third_party(http).to_string()));
    let outcome = Worker::start(&[], &both(target.pid(), 6000)).finish();
    assert_eq!(outcome.started().collector, "php", "{:?}", outcome.started());
    let (wall, cpu) = (samples(&outcome, "wall"), samples(&outcome, "cpu"));
    let state = |function, labels: &[(&str, &str)]| time(&wall, function, labels);

    let (waited, worked) = (state("Shop::pay", &[]), state("Shop::guilty", &[("thread_state", "running")]));
    assert!(waited > 1.5 * worked && worked > 0.0, "pay {waited} ns, guilty {worked} ns");
    let of_cpu = time(&cpu, "Shop::pay", &[]) / time(&cpu, "", &[]);
    assert!(of_cpu < 0.2, "pay has {of_cpu} of CPU time");
    let polls = state("Shop::pay", &[("thread_state", "blocked"), ("waits_for", "poll")]);
    let reads = state("Shop::pay", &[("thread_state", "blocked"), ("waits_for", "socket")]);
    assert!(polls + reads > 0.8 * waited, "{polls} ns in poll, {reads} ns for a socket of {waited} ns");
    within_a_tenth(state("order", &[]), elapsed(&outcome), "the process");

    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let top = top(&folded, 1, 5);
    assert!(top.rows.iter().all(|row| row.name != IDLE), "nobody is idle: {top:?}");
    assert_eq!(top.rows[0].name, "file_get_contents", "{top:?}");
}

#[test]
fn wall_time_of_php_alone_has_the_distance_of_its_own_turns() {
    let script = directory().join("orders.php");
    std::fs::copy(source("orders.php"), &script).unwrap();
    let target = Target::start(Command::new("php").arg(script).arg(third_party(http).to_string()));
    let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 3000) };
    let outcome = Worker::start(&[], &ask).finish();
    let finished = outcome.finished();
    assert!(finished.taken <= 65 && finished.taken <= finished.expected, "{finished:?}");
    within_a_tenth(time(&samples(&outcome, "wall"), "order", &[]), elapsed(&outcome), "the process");
}

#[test]
fn a_c_function_that_waits_for_an_answer_is_on_top_with_its_callers() {
    for launch in [&[][..], &["-s"][..]] {
        let port = third_party(echo).to_string();
        let target = Target::start(Command::new(compiled("wait")).args(["pay", &port]));
        let outcome = Worker::start(launch, &both(target.pid(), 5000)).finish();
        let method = if launch.is_empty() { "perf, procfs" } else { "ptrace, procfs" };
        assert_eq!(outcome.started().method, method);
        let (wall, cpu) = (samples(&outcome, "wall"), samples(&outcome, "cpu"));

        let (waited, worked) = (time(&wall, "pay", &[]), time(&wall, "guilty", &[]));
        assert!(waited > 1.5 * worked && worked > 0.0, "pay {waited} ns, guilty {worked} ns");
        assert!(time(&cpu, "pay", &[]) < 0.1 * time(&cpu, "", &[]), "pay is not in CPU time");
        let blocked = [("thread_state", "blocked"), ("waits_for", "socket")];
        assert!(time(&wall, "pay", &blocked) > 0.9 * waited);
        within_a_tenth(time(&wall, "orders", &[]), elapsed(&outcome), "the main thread");
        within_a_tenth(time(&wall, "framed_orders", &[]), elapsed(&outcome), "the other thread");
        let framed = time(&wall, "framed", &[]);
        assert!(framed > 0.9 * time(&wall, "framed_orders", &[]), "a caller with a frame pointer is known");

        let mut folded = profile(&outcome, "wall");
        fold_idle(&mut folded);
        assert!(top(&folded, 1, 9).rows.iter().all(|row| row.name != IDLE), "nobody is idle");
    }
}

#[test]
fn five_hundred_parked_threads_cost_less_than_a_tenth_of_a_cpu_and_are_idle() {
    let target = Target::start(Command::new(compiled("wait")).args(["pool", "500"]));
    let all_parked = || proc::threads(target.pid()).unwrap().len() == 501;
    assert!(crate::worker::within(Duration::from_secs(30), all_parked));
    let before = target.cpu();
    let ask = CaptureRequest { profiles: vec![Wall], slice_ms: 5000, ..request(target.pid(), AUTO, 10_000) };
    let mut worker = Worker::start(&[], &ask);
    let pid = i32::try_from(worker.child.id()).unwrap();
    let mut events = Vec::new();
    while let Some(event) = worker.event() {
        events.push(event);
    }
    // Until it is waited for, its counts stay.
    let stat = proc::stat(pid).unwrap();
    let used = Duration::from_millis(10 * (stat.user_ticks + stat.system_ticks));
    let outcome = Outcome { events, ..worker.finish() };
    assert!(used < Duration::from_secs(1), "{used:?} of CPU time in 10 s");
    assert!(target.cpu() - before < Duration::from_millis(100), "the target is left alone");
    let wall = samples(&outcome, "wall");
    within_a_tenth(time(&wall, "parked", &[]), 500.0 * elapsed(&outcome), "the pool");
    let blocked = [("thread_state", "blocked"), ("waits_for", "futex")];
    assert!(time(&wall, "parked", &blocked) > 0.99 * time(&wall, "parked", &[]));
    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let idle = top(&folded, 1, 5).rows.into_iter().find(|row| row.name == IDLE).unwrap();
    within_a_tenth(idle.self_value as f64, 500.0 * elapsed(&outcome), "what is folded");
}

#[test]
fn threads_that_wait_for_a_cpu_are_runnable() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let target = Target::hot(&["spin", &(4 * cpus).to_string()]);
    let outcome = Worker::start(&[], &both(target.pid(), 4000)).finish();
    let wall = samples(&outcome, "wall");
    let in_state = |state| time(&wall, "work", &[("thread_state", state)]);
    let (running, runnable, blocked) = (in_state("running"), in_state("runnable"), in_state("blocked"));
    assert!(runnable > running && running > 0.0, "{running} ns running, {runnable} ns runnable");
    assert!(blocked < 0.05 * runnable, "{blocked} ns blocked");
    assert!(time(&wall, "guilty", &[]) > 0.7 * (running + runnable), "with the stacks of work");
}

#[test]
fn a_thread_that_waits_for_a_lock_is_not_idle() {
    let target = Target::start(Command::new(compiled("wait")).arg("lock"));
    let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 2500) };
    let outcome = Worker::start(&[], &ask).finish();
    let wall = samples(&outcome, "wall");
    let blocked = time(&wall, "contended", &[("thread_state", "blocked"), ("waits_for", "futex")]);
    within_a_tenth(blocked, elapsed(&outcome), "the lock");
    let slept = time(&wall, "main", &[("waits_for", "sleep")]);
    within_a_tenth(slept, elapsed(&outcome), "the main thread");
    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    assert!(top(&folded, 1, 9).rows.iter().any(|row| row.name == "contended"));
}

#[test]
fn threads_of_a_static_program_that_pause_or_sleep_in_main_are_idle() {
    for (mode, threads, waits_for) in [("pause", 2.0, "signal"), ("nothing", 1.0, "sleep")] {
        let target = Target::start(Command::new(linked_statically("wait")).arg(mode));
        let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 2500) };
        let outcome = Worker::start(&[], &ask).finish();
        let wall = samples(&outcome, "wall");
        let waited = time(&wall, "", &[("thread_state", "blocked"), ("waits_for", waits_for)]);
        within_a_tenth(waited, threads * elapsed(&outcome), mode);
        let mut folded = profile(&outcome, "wall");
        fold_idle(&mut folded);
        let idle = top(&folded, 1, 5).rows.into_iter().find(|row| row.name == IDLE);
        let idle = idle.unwrap_or_else(|| panic!("{mode}: {:?}", top(&folded, 1, 9)));
        within_a_tenth(idle.self_value as f64, threads * elapsed(&outcome), mode);
    }
}

#[test]
fn another_users_threads_are_refused_with_a_reason() {
    let target = Target::start(
        Command::new(compiled("launch")).args(["-u", "1000"]).arg(compiled("wait")).args(["pool", "1"]),
    );
    let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 1000) };
    let outcome = Worker::start(&["-u", "1001", "-c", "0"], &ask).finish();
    let failed = outcome.failed();
    assert_eq!(failed.reason, FailureReason::PermissionDenied);
    assert!(failed.message.contains("ptrace") && failed.message.contains("runAsUser"), "{failed:?}");
}
