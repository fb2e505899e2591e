//! Wall time that a runtime tells itself, of Go, Java and .NET, and of Ruby's own lists.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fleetprof_agent::capture::protocol::{CaptureRequest, Event, FailureReason};
use fleetprof_agent::proc;
use fleetprof_crds::ProfileKind::Wall;
use fleetprof_profile::{IDLE, fold_idle, top};
use nix::sys::signal::Signal;

use crate::dotnet::{is_well, ordering};
use crate::jvm::{Java, javas, left};
use crate::wall::{Sample, both, elapsed, http, profile, samples, third_party, time, within_a_tenth};
use crate::worker::{AUTO, Target, Worker, built_go, deaths, directory, request, source, within};

#[test]
fn a_go_function_that_waits_for_an_answer_is_on_top_of_wall_time_and_not_of_cpu_time() {
    let target = go_orders(&[]);
    let outcome = Worker::start(&[], &both(target.pid(), 8000)).finish();
    assert_eq!(outcome.started().collector, "go-pprof", "{:?}", outcome.started());
    let (wall, cpu) = (samples(&outcome, "wall"), samples(&outcome, "cpu"));

    let (waited, worked) = (time(&wall, "main.pay", &[]), computed(&wall, "main.guilty"));
    assert!(waited > 1.5 * worked && worked > 0.0, "pay {waited} ns, guilty {worked} ns");
    let of_cpu = time(&cpu, "main.pay", &[]) / time(&cpu, "", &[]);
    assert!(of_cpu < 0.2, "pay has {of_cpu} of CPU time");
    let state = |function, labels: &[(&str, &str)]| time(&wall, function, labels);
    assert!(state("main.pay", &[("thread_state", "blocked"), ("waits_for", "socket")]) > 0.8 * waited);
    assert!(state("main.guilty", &[("thread_state", "blocked")]) < 0.1 * state("main.guilty", &[]));
    within_a_tenth(state("main.order", &[]), elapsed(&outcome), "the main goroutine");
    within_a_tenth(state("main.worker", &[]), 3.0 * elapsed(&outcome), "the pool");
    let pool = [("thread_state", "blocked"), ("waits_for", "channel")];
    within_a_tenth(state("main.worker", &pool), 3.0 * elapsed(&outcome), "the pool waits for a channel");
    let contend = |what| state("main.contend", &[("thread_state", "blocked"), ("waits_for", what)]);
    let (locked, slept) = (contend("lock"), contend("sleep"));
    within_a_tenth(locked + slept, 2.0 * elapsed(&outcome), "two that contend");
    assert!(locked > 0.7 * slept && slept > 0.7 * locked, "{locked} ns for the lock, {slept} ns asleep");

    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let top = top(&folded, 1, 1000);
    assert_eq!(top.rows.last().unwrap().name, IDLE, "{top:?}");
    let names: Vec<&str> = top.rows.iter().map(|row| row.name.as_str()).collect();
    assert!(!names.contains(&"main.worker"), "{names:?}");
    assert!(names.iter().all(|name| !name.contains("pprof.")), "who makes profiles is left out: {names:?}");
    let shown = |function: &str| {
        let row = top.rows.iter().find(|row| row.name == function);
        row.map_or(0, |row| row.cum_value)
    };
    assert!(shown("main.pay") as f64 > worked, "{top:?}");
    assert!(outcome.finished().samples > 0);
}

#[test]
fn many_goroutines_are_looked_at_less_often_and_it_is_said() {
    let target = go_orders(&["crowd", "30000"]);
    let before = target.cpu();
    let ask = CaptureRequest { profiles: vec![Wall], slice_ms: 5000, ..request(target.pid(), AUTO, 10_000) };
    let outcome = Worker::start(&[], &ask).finish();
    let used = target.cpu() - before;
    let wall = samples(&outcome, "wall");
    let crowd = time(&wall, "main.crowd.func1", &[]) + time(&wall, "[not sampled]", &[]);
    assert!(crowd > 0.7 * 30_000.0 * elapsed(&outcome), "{crowd} ns");
    let note = outcome.finished().note.clone().unwrap_or_default();
    assert!(note.contains("The goroutines were asked what they do every"), "{note}");
    // What it works itself, and as much as an answer may cost.
    assert!(used < Duration::from_secs(8), "{used:?}");
}

#[test]
fn a_go_program_runs_on_when_the_worker_that_looks_at_its_goroutines_is_killed() {
    let mut target = go_orders(&[]);
    for (_, moment) in deaths(4, Duration::from_millis(300)) {
        let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 60_000) };
        let mut worker = Worker::start(&[], &ask);
        let event = worker.event();
        assert!(matches!(&event, Some(Event::Started(s)) if s.collector == "go-pprof"), "{event:?}");
        std::thread::sleep(Duration::from_millis(100) + moment);
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
    }
    assert!(target.0.try_wait().unwrap().is_none());
    // No goroutine of a connection stays behind.
    let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 3000) };
    let outcome = Worker::start(&[], &ask).finish();
    let wall = samples(&outcome, "wall");
    within_a_tenth(time(&wall, "main.order", &[]), elapsed(&outcome), "the main goroutine");
    assert!(time(&wall, "net/http/pprof.Index", &[]) < 0.1 * elapsed(&outcome), "who answers is left out");
}

/// The time in which a function computed; on a busy machine it may have waited for a CPU for much longer.
fn computed(samples: &[Sample], function: &str) -> f64 {
    time(samples, function, &[("thread_state", "running")])
}

/// The Go service, once it listens.
fn go_orders(more: &[&str]) -> Target {
    let port = third_party(http).to_string();
    let target = Target::start(Command::new(built_go("orders.go")).arg(port).args(more));
    let listens = || !proc::listeners(target.pid()).unwrap().is_empty();
    assert!(within(Duration::from_secs(30), listens), "it does not listen");
    target
}

#[test]
fn a_java_method_that_waits_for_an_answer_is_on_top_of_wall_time_and_not_of_cpu_time() {
    for path in javas() {
        let (java, path) = (java_orders(path, &[]), path.display());
        let outcome = Worker::start(&[], &both(java.pid(), 9000)).finish();
        assert_eq!(outcome.started().collector, "jfr, jvm-threads", "{path}: {:?}", outcome.started());
        let (wall, cpu) = (samples(&outcome, "wall"), samples(&outcome, "cpu"));
        let state = |function, labels: &[(&str, &str)]| time(&wall, function, labels);
        let blocked = |function, what| state(function, &[("thread_state", "blocked"), ("waits_for", what)]);

        let (waited, worked) = (state("Orders.pay", &[]), computed(&wall, "Orders.guilty"));
        assert!(waited > 1.5 * worked && worked > 0.0, "{path}: pay {waited} ns, guilty {worked} ns");
        let of_cpu = time(&cpu, "Orders.pay", &[]) / time(&cpu, "", &[]);
        assert!(of_cpu < 0.3, "{path}: pay has {of_cpu} of CPU time");
        assert!(blocked("Orders.pay", "socket") > 0.7 * waited, "{path}: {waited}");
        let idle = state("Orders.guilty", &[("thread_state", "blocked")]);
        assert!(idle < 0.1 * state("Orders.guilty", &[]), "{path}: {idle}");
        mostly(state("Orders.order", &[]), elapsed(&outcome), "the main thread");
        mostly(blocked("Orders.wants", "lock"), elapsed(&outcome), "who wants the lock");
        mostly(blocked("Orders.holds", "sleep"), elapsed(&outcome), "who sleeps with it");
        let pool = "java.util.concurrent.ThreadPoolExecutor.getTask";
        mostly(blocked(pool, "condition"), 3.0 * elapsed(&outcome), "the pool");

        let mut folded = profile(&outcome, "wall");
        fold_idle(&mut folded);
        let top = top(&folded, 1, 1000);
        assert_eq!(top.rows.last().unwrap().name, IDLE, "{path}: {top:?}");
        assert!(top.rows.iter().all(|row| row.name != pool), "{path}: {top:?}");
        let shown = |name: &str| top.rows.iter().find(|row| row.name == name).map_or(0, |row| row.cum_value);
        assert!(shown("Orders.pay") as f64 > worked, "{path}: {top:?}");
        java.assert_clean();
    }
}

#[test]
fn java_with_very_many_threads_is_not_stopped_for_their_stacks() {
    let java = java_orders(javas().iter().next().unwrap(), &["1100"]);
    let ask = CaptureRequest { profiles: vec![Wall], ..request(java.pid(), AUTO, 2000) };
    let outcome = Worker::start(&[], &ask).finish();
    let failed = outcome.failed();
    assert_eq!(failed.reason, FailureReason::UnsupportedRuntime, "{failed:?}");
    assert!(failed.message.contains("more than 1000 threads"), "{failed:?}");
}

#[test]
fn java_runs_on_when_the_worker_that_asks_for_its_threads_is_killed() {
    let mut java = java_orders(javas().iter().next().unwrap(), &[]);
    for (round, moment) in deaths(4, Duration::from_millis(300)) {
        let ask = CaptureRequest { profiles: vec![Wall], ..request(java.pid(), AUTO, 60_000) };
        let mut worker = Worker::start(&[], &ask);
        let event = worker.event();
        assert!(matches!(&event, Some(Event::Started(s)) if s.collector == "jvm-threads"), "{event:?}");
        std::thread::sleep(Duration::from_millis(100) + moment);
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
        let before = java.target.cpu();
        assert!(within(Duration::from_secs(10), || java.target.cpu() > before), "{round}");
    }
    assert!(java.target.0.try_wait().unwrap().is_none());
    assert_eq!(left(java.pid()), Vec::<String>::new());
    let ask = CaptureRequest { profiles: vec![Wall], ..request(java.pid(), AUTO, 3000) };
    let outcome = Worker::start(&[], &ask).finish();
    mostly(time(&samples(&outcome, "wall"), "Orders.order", &[]), elapsed(&outcome), "the main thread");
}

/// On a busy machine Java takes long to answer, and is asked so seldom that some of the time is not sampled.
fn mostly(have: f64, wanted: f64, what: &str) {
    assert!((0.6..1.1).contains(&(have / wanted)), "{what}: {have} ns of {wanted} ns");
}

/// The Java service, once it is ready.
fn java_orders(java: &Path, more: &[&str]) -> Java {
    let port = third_party(http).to_string();
    Java::start(java, &[], "Orders", &[&[port.as_str()], more].concat())
}

#[test]
fn a_dotnet_method_that_waits_for_an_answer_is_on_top_of_wall_time_and_not_of_cpu_time() {
    let target = ordering(&[&third_party(http).to_string()]);
    let outcome = Worker::start(&[], &both(target.pid(), 12_000)).finish();
    assert_eq!(outcome.started().collector, "eventpipe", "{:?}", outcome.started());
    let (wall, cpu) = (samples(&outcome, "wall"), samples(&outcome, "cpu"));
    let state = |function, labels: &[(&str, &str)]| time(&wall, function, labels);
    let blocked = |function, what| state(function, &[("thread_state", "blocked"), ("waits_for", what)]);

    let (waited, worked) = (state("Orders.Pay", &[]), computed(&wall, "Orders.Guilty"));
    assert!(waited > 1.5 * worked && worked > 0.0, "pay {waited} ns, guilty {worked} ns");
    let of_cpu = time(&cpu, "Orders.Pay", &[]) / time(&cpu, "", &[]);
    assert!(of_cpu < 0.3, "pay has {of_cpu} of CPU time");
    assert!(blocked("Orders.Pay", "socket") > 0.7 * waited, "{waited}");
    within_a_fifth(state("Orders.Order", &[]), elapsed(&outcome), "the main thread");
    // No method of .NET 8 waits for a lock.
    within_a_fifth(blocked("Orders.Wants", "futex"), elapsed(&outcome), "who wants the lock");
    let unnamed =
        state("[anon]", &[("thread_state", "running")]) + state("[anon]", &[("thread_state", "runnable")]);
    assert!(unnamed < 0.2 * elapsed(&outcome), "{unnamed} ns of methods without a name");
    within_a_fifth(blocked("Orders.Holds", "sleep"), elapsed(&outcome), "who sleeps with it");
    within_a_fifth(blocked("Orders.Parked", "condition"), 3.0 * elapsed(&outcome), "who has nothing to do");

    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let top = top(&folded, 1, 1000);
    assert_eq!(top.rows.last().unwrap().name, IDLE, "{top:?}");
    assert!(top.rows.iter().all(|row| row.name != "Orders.Parked"), "{top:?}");
    let shown = |name: &str| top.rows.iter().find(|row| row.name == name).map_or(0, |row| row.cum_value);
    assert!(shown("Orders.Pay") as f64 > worked, "{top:?}");
    let line =
        1 + include_str!("targets/Orders.cs").lines().position(|l| l.contains("stream.Read(")).unwrap();
    let pay = wall_lines(&outcome, "Orders.Pay");
    assert!(pay.contains(&(line as i64)), "{pay:?} and not {line}");
    is_well(&target);
}

#[test]
fn dotnet_runs_on_when_the_worker_that_looks_at_its_threads_is_killed() {
    let mut target = ordering(&[&third_party(http).to_string()]);
    for (_, moment) in deaths(4, Duration::from_millis(300)) {
        let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 60_000) };
        let mut worker = Worker::start(&[], &ask);
        let event = worker.event();
        assert!(matches!(&event, Some(Event::Started(s)) if s.collector == "eventpipe"), "{event:?}");
        std::thread::sleep(Duration::from_millis(100) + moment);
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
    }
    assert!(target.0.try_wait().unwrap().is_none());
    is_well(&target);
    let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 5000) };
    let outcome = Worker::start(&[], &ask).finish();
    within_a_fifth(
        time(&samples(&outcome, "wall"), "Orders.Order", &[]),
        elapsed(&outcome),
        "the main thread",
    );
}

/// A look may come while the sampler has no tick: its threads are missed.
fn within_a_fifth(have: f64, wanted: f64, what: &str) {
    assert!((0.8..1.2).contains(&(have / wanted)), "{what}: {have} ns of {wanted} ns");
}

#[test]
fn a_ruby_method_that_waits_for_an_answer_is_on_top_of_wall_time() {
    let script = directory().join("orders.rb");
    std::fs::copy(source("orders.rb"), &script).unwrap();
    let target = Target::start(Command::new("ruby").arg(script).arg(third_party(http).to_string()));
    // The pool, the two threads with the lock, the main thread, and one of Ruby itself.
    assert!(within(Duration::from_secs(30), || proc::threads(target.pid()).unwrap().len() >= 6));
    let ask = CaptureRequest { profiles: vec![Wall], slice_ms: 2500, ..request(target.pid(), AUTO, 6000) };
    let outcome = Worker::start(&[], &ask).finish();
    assert_eq!(outcome.started().collector, "ruby-threads", "{:?}", outcome.started());
    let wall = samples(&outcome, "wall");
    let state = |function, labels: &[(&str, &str)]| time(&wall, function, labels);
    let blocked = |function, what| state(function, &[("thread_state", "blocked"), ("waits_for", what)]);

    let (waited, worked) = (state("pay", &[]), computed(&wall, "guilty"));
    assert!(waited > 1.5 * worked && worked > 0.0, "pay {waited} ns, guilty {worked} ns");
    let answer = blocked("pay", "poll") + blocked("pay", "socket");
    assert!(answer > 0.7 * waited, "{answer} ns of {waited} ns");
    assert!(state("guilty", &[("thread_state", "blocked")]) < 0.1 * state("guilty", &[]));
    within_a_tenth(state("order", &[]), elapsed(&outcome), "the main thread");
    // One of those that sleep does it in `ppoll`, where it looks for signals for all of Ruby: whichever came first.
    let sleeps = |function| blocked(function, "futex") + blocked(function, "poll");
    within_a_tenth(sleeps("wants"), elapsed(&outcome), "who wants the lock");
    within_a_tenth(sleeps("holds"), elapsed(&outcome), "who sleeps with it");

    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let top = top(&folded, 1, 1000);
    let idle = top.rows.last().unwrap();
    assert_eq!(idle.name, IDLE, "{top:?}");
    assert!(idle.self_value as f64 > 2.9 * elapsed(&outcome), "the pool: {top:?}");
    let line = 1 + include_str!("targets/orders.rb").lines().position(|l| l.ends_with("# the wait")).unwrap();
    let pay = wall_lines(&outcome, "pay");
    assert!(pay.contains(&(line as i64)) && pay.len() == 1, "{pay:?}");
    assert!(target.cpu() > Duration::ZERO && outcome.finished().note.is_none(), "{:?}", outcome.finished());
}

#[test]
fn ruby_threads_that_wait_for_the_lock_of_the_interpreter_wait_for_a_lock_and_are_not_idle() {
    let script = directory().join("contend.rb");
    std::fs::write(&script, "2.times.map { Thread.new { loop { 7 * 7 } } }.each(&:join)\n").unwrap();
    let target = Target::start(Command::new("ruby").arg(script));
    let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 4000) };
    let outcome = Worker::start(&[], &ask).finish();
    let wall = samples(&outcome, "wall");
    let of = |labels: &[(&str, &str)]| time(&wall, "block (3 levels) in <main>", labels);
    let waited = of(&[("thread_state", "blocked"), ("waits_for", "lock")]);
    assert!((0.6..1.4).contains(&(waited / elapsed(&outcome))), "one of two waits: {waited} ns");
    assert!(of(&[("waits_for", "futex")]) < 0.2 * waited, "{} ns", of(&[("waits_for", "futex")]));
    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let top = top(&folded, 1, 9);
    let busy = top.rows.iter().find(|row| row.name == "block (2 levels) in <main>");
    assert!(busy.is_some_and(|row| row.cum_value as f64 > 1.8 * elapsed(&outcome)), "{top:?}");
}

/// The lines of a function in the profile.
fn wall_lines(outcome: &crate::worker::Outcome, function: &str) -> std::collections::BTreeSet<i64> {
    let profile = profile(outcome, "wall");
    let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
    let is_it = |id: u64| profile.function.iter().any(|f| f.id == id && text(f.name) == function);
    let lines = profile.location.iter().flat_map(|location| &location.line);
    lines.filter(|line| is_it(line.function_id)).map(|line| line.line).collect()
}
