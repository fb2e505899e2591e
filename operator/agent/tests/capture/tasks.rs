//! Tasks of asyncio, which Python shows from 3.14 on. The interpreter comes from `tests/pythons.py`.

use std::process::{Command, Stdio};
use std::time::Duration;

use fleetprof_agent::capture::protocol::CaptureRequest;
use fleetprof_agent::proc;
use fleetprof_crds::ProfileKind::Wall;
use fleetprof_profile::{ASYNCIO_TASK, IDLE, fold_idle, top};

use crate::wall::{both, elapsed, http, profile, samples, third_party, time, within_a_tenth};
use crate::worker::{AUTO, Target, Worker, directory, request, source, within};

/// `tasks.py` with Python 3.14.
fn target(arguments: &[&str]) -> Target {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/pythons.py");
    let output = Command::new(script).arg("3.14").stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "tests/pythons.py brought no Python 3.14");
    let program = directory().join("tasks.py");
    std::fs::copy(source("tasks.py"), &program).unwrap();
    let python = String::from_utf8(output.stdout).unwrap();
    Target::start(Command::new(python.trim()).arg(program).args(arguments))
}

#[test]
fn a_coroutine_that_awaits_an_answer_is_on_top_of_wall_time_and_not_of_cpu_time() {
    let target = target(&[&third_party(http).to_string()]);
    assert!(within(Duration::from_secs(30), || proc::threads(target.pid()).unwrap().len() == 2));
    let outcome = Worker::start(&[], &both(target.pid(), 6000)).finish();
    assert_eq!(outcome.started().method, "cpython");
    let (wall, cpu) = (samples(&outcome, "wall"), samples(&outcome, "cpu"));
    let state = |function, labels: &[(&str, &str)]| time(&wall, function, labels);
    let blocked = |function, what| state(function, &[("thread_state", "blocked"), ("waits_for", what)]);

    let (waited, worked) = (state("pay", &[]), state("guilty", &[]));
    assert!(waited > 1.5 * worked && worked > 0.0, "pay {waited} ns, guilty {worked} ns");
    let of_cpu = time(&cpu, "pay", &[]) / time(&cpu, "", &[]);
    assert!(of_cpu < 0.2, "pay has {of_cpu} of CPU time");
    assert!(blocked("pay", "socket") > 0.8 * waited, "{waited}");
    within_a_tenth(state("order", &[]), elapsed(&outcome), "the task that orders");
    within_a_tenth(blocked("worker", "channel"), 3.0 * elapsed(&outcome), "the pool");
    within_a_tenth(blocked("pieces", "sleep"), elapsed(&outcome), "the generator");
    within_a_tenth(blocked("stream", "sleep"), elapsed(&outcome), "who asks the generator");
    within_a_tenth(blocked("silent", "condition"), elapsed(&outcome), "the other loop");
    within_a_tenth(blocked("main", "condition"), elapsed(&outcome), "the task that waits for the others");
    within_a_tenth(state("[asyncio task worker-#]", &[]), 3.0 * elapsed(&outcome), "those with names");
    within_a_tenth(state("[asyncio task stream[#m]", &[]), elapsed(&outcome), "one with an odd name");
    assert!(state(ASYNCIO_TASK, &[]) > 2.0 * waited, "those without");

    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let top = top(&folded, 1, 5);
    assert_eq!(top.rows.last().unwrap().name, IDLE, "{top:?}");
    let rows = || top.rows.iter().filter(|row| row.name != IDLE && !row.file.ends_with("/asyncio/tasks.py"));
    let heaviest = rows().max_by_key(|row| row.self_value).unwrap();
    assert!(heaviest.file.ends_with("/asyncio/streams.py"), "the wait for the answer is first: {top:?}");
}

#[test]
fn hundreds_of_tasks_that_come_and_go_add_up() {
    let target = target(&["crowd", "300"]);
    assert!(within(Duration::from_secs(30), || proc::threads(target.pid()).unwrap().len() == 2));
    let ask = CaptureRequest { profiles: vec![Wall], ..request(target.pid(), AUTO, 4000) };
    let outcome = Worker::start(&[], &ask).finish();
    let wall = samples(&outcome, "wall");
    within_a_tenth(time(&wall, "again", &[]), 300.0 * elapsed(&outcome), "those that stay");
    within_a_tenth(
        time(&wall, "brief", &[]),
        300.0 * elapsed(&outcome),
        "one at a time of those that come and go",
    );
    let finished = outcome.finished();
    assert!(finished.lost * 10 < finished.taken, "{finished:?}");
}
