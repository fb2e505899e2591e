//! The ends of a capture, and what they leave behind.

use std::process::{Command, Stdio};
use std::time::Duration;

use fleetprof_agent::capture::protocol::{Event, FailureReason};
use fleetprof_agent::capture::runtime::{Runtime, detect};
use fleetprof_agent::proc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::worker::{AUTO, NATIVE, PYTHON, Target, Worker, deaths, directory, request, within};

/// Whether the target goes on using CPU time.
fn runs_on(target: &Target) -> bool {
    let before = target.cpu();
    let busy = within(Duration::from_secs(5), || target.cpu() > before + Duration::from_millis(100));
    busy && target.status("TracerPid") == "0"
}

#[test]
fn a_target_runs_on_when_its_tracing_worker_is_killed() {
    let target = Target::hot(&["spin", "3"]);
    for (round, moment) in deaths(5, Duration::from_millis(10)) {
        let mut worker = Worker::start(&["-s"], &request(target.pid(), NATIVE, 60_000));
        assert!(matches!(worker.event(), Some(Event::Started(s)) if s.method == "ptrace"));
        // At a different moment of a sample in each round.
        std::thread::sleep(Duration::from_millis(300) + moment);
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
        assert!(runs_on(&target), "round {round}: {}", target.status("State"));
        for tid in proc::threads(target.pid()).unwrap() {
            let stat = std::fs::read(format!("/proc/{}/task/{tid}/stat", target.pid())).unwrap();
            let state = proc::parse_stat(&stat).unwrap().state;
            assert!(
                matches!(state, b'R' | b'S'),
                "round {round}: thread {tid} is in state {}",
                char::from(state)
            );
        }
    }
}

#[test]
fn sigterm_ends_a_capture_with_its_last_slice() {
    let target = Target::hot(&["spin"]);
    for launch in [&[][..], &["-s"][..]] {
        let mut worker = Worker::start(launch, &request(target.pid(), NATIVE, 60_000));
        assert!(matches!(worker.event(), Some(Event::Started(_))));
        assert!(matches!(worker.event(), Some(Event::Slice(_))), "the first slice");
        std::thread::sleep(Duration::from_millis(500));
        worker.signal(Signal::SIGTERM);
        let outcome = worker.finish();
        let Some(Event::Finished(finished)) = outcome.events.last() else { panic!("{outcome:?}") };
        assert!(finished.stopped && !finished.target_exited && finished.slices == 2, "{finished:?}");
        assert_eq!(outcome.files().len(), 2);
        assert!(runs_on(&target));
    }
}

#[test]
fn what_was_sampled_before_the_target_ended_is_kept() {
    for (launch, collector) in [(&[][..], NATIVE), (&["-s"][..], NATIVE)] {
        let mut target = Target::hot(&["burst", "2500"]);
        let worker = Worker::start(launch, &request(target.pid(), collector, 30_000));
        // Nobody reaps the target meanwhile: a zombie has ended too.
        let outcome = worker.finish();
        assert!(
            outcome.finished().target_exited && outcome.finished().samples > 20,
            "{:?}",
            outcome.finished()
        );
        outcome.blames_the_guilty();
        assert!(target.0.wait().unwrap().success());
    }
}

#[test]
fn a_python_target_that_ends_is_kept_too() {
    let mut command = Command::new("python3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/capture/targets/busy.py");
    let target = Target::start(command.args([script, "4"]));
    // Where versions of Python are chosen by a script, it is a shell first.
    assert!(within(Duration::from_secs(30), || matches!(detect(target.pid()), Runtime::Python(_))));
    let outcome = Worker::start(&[], &request(target.pid(), PYTHON, 30_000)).finish();
    assert!(outcome.finished().target_exited && outcome.finished().samples > 20, "{:?}", outcome.finished());
}

#[test]
fn an_idle_target_is_no_samples() {
    let target = Target::hot(&["idle"]);
    for launch in [&[][..], &["-s"][..]] {
        let outcome = Worker::start(launch, &request(target.pid(), NATIVE, 1000)).finish();
        assert_eq!(outcome.failed().reason, FailureReason::NoSamples);
        assert_eq!(outcome.files().len(), 0);
    }
}

#[test]
fn a_stopped_target_stays_stopped() {
    let target = Target::hot(&["spin"]);
    kill(Pid::from_raw(target.pid()), Signal::SIGSTOP).unwrap();
    let outcome = Worker::start(&["-s"], &request(target.pid(), NATIVE, 1000)).finish();
    assert_eq!(outcome.failed().reason, FailureReason::NoSamples);
    assert!(target.status("State").starts_with('T'), "{}", target.status("State"));
    kill(Pid::from_raw(target.pid()), Signal::SIGCONT).unwrap();
    assert!(runs_on(&target));
}

#[test]
fn a_process_that_is_not_there_is_said_so() {
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let pid = i32::try_from(ended.id()).unwrap();
    let outcome = Worker::start(&[], &request(pid, AUTO, 1000)).finish();
    assert_eq!(outcome.failed().reason, FailureReason::NoSuchProcess);
    let target = Target::hot(&["idle"]);
    let mut reused = request(target.pid(), AUTO, 1000);
    reused.start_ticks = Some(proc::start_ticks(target.pid()).unwrap() - 1);
    let outcome = Worker::start(&[], &reused).finish();
    assert_eq!(outcome.failed().reason, FailureReason::NoSuchProcess);
    assert!(outcome.failed().message.contains("another process"), "{:?}", outcome.failed());
}

#[test]
fn a_request_out_of_range_is_refused_by_field() {
    let mut wrong = request(1, AUTO, 1000);
    wrong.frequency_hz = 0;
    let outcome = Worker::start(&[], &wrong).finish();
    assert_eq!(outcome.failed().reason, FailureReason::Internal);
    assert!(outcome.failed().message.contains("frequencyHz"), "{:?}", outcome.failed());
}

#[test]
fn a_worker_ends_with_its_parent() {
    let target = Target::hot(&["spin"]);
    let wanted = request(target.pid(), NATIVE, 60_000);
    let file = directory().join("request.json");
    std::fs::write(&file, serde_json::to_string(&wanted).unwrap()).unwrap();
    // The shell starts the worker, says its pid, and ends.
    let script = r#""$0" < "$1" > /dev/null & echo $!; sleep 1"#;
    let parent = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_fleetprof-worker")])
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = parent.wait_with_output().unwrap();
    let worker: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let gone = || proc::stat(worker).map_or(true, |s| s.state == b'Z');
    assert!(within(Duration::from_secs(3), gone), "the worker outlives its parent");
    assert!(runs_on(&target));
}
