//! Ruby targets.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use fleetprof_agent::capture::protocol::{Event, FailureReason};
use fleetprof_agent::capture::runtime::{Runtime, detect};
use fleetprof_agent::proc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::container::Container;
use crate::worker::{AUTO, Outcome, Target, Worker, deaths, directory, install_rbspy, request, within};

const RBSPY: Option<&str> = Some("rbspy");
/// What is waited for on a machine that has other work.
const LONG: Duration = Duration::from_secs(30);

/// `busy.rb`, where every user can read it.
fn script() -> PathBuf {
    let path = directory().join("busy.rb");
    std::fs::write(&path, include_str!("targets/busy.rb")).unwrap();
    path
}

/// Starts `busy.rb`, and waits until it works.
fn ruby(launch: &[&str], mode: &str) -> Target {
    install_rbspy();
    let (program, arguments) = launch.split_first().unwrap_or((&"ruby", &[]));
    let mut command = Command::new(program);
    command.args(arguments).args(launch.first().map(|_| "ruby")).arg(script()).arg(mode);
    let target = Target::start(command.stderr(Stdio::null()));
    assert!(mode == "sleep" || runs_on(&target), "{}", target.status("State"));
    target
}

/// Whether the target goes on using CPU time.
fn runs_on(target: &Target) -> bool {
    let before = target.cpu();
    within(LONG, || target.cpu() > before + Duration::from_millis(300))
}

/// The rbspy processes that look at a process, and how they show themselves.
fn watchers(target: &Target) -> Vec<i32> {
    let pid = target.pid().to_string();
    let is_watcher = |pid_of: &i32| {
        let text = std::fs::read(format!("/proc/{pid_of}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
        words.first().is_some_and(|word| word.ends_with(b"/rbspy")) && words.contains(&pid.as_bytes())
    };
    let names =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).filter(is_watcher).collect()
}

fn capture(target: &Target, duration_ms: u64) -> Outcome {
    Worker::start(&[], &request(target.pid(), AUTO, duration_ms)).finish()
}

/// Share of a function with what it calls, in %.
fn share(outcome: &Outcome, name: &str) -> f64 {
    let top = outcome.pprof(&["-top", "-cum", "-nodefraction=0"]);
    let row = top.lines().find(|line| line.ends_with(&format!(" {name}")));
    row.map_or(0.0, |row| {
        row.split_ascii_whitespace().nth(4).unwrap().trim_end_matches('%').parse::<f64>().unwrap()
    })
}

#[test]
fn the_guilty_method_is_blamed_with_its_place() {
    let target = ruby(&[], "spin");
    assert_eq!(detect(target.pid()), Runtime::Ruby);
    let before = target.cpu();
    let outcome = capture(&target, 4000);
    let used = target.cpu() - before;
    outcome.blames_the_guilty();
    let started = outcome.started();
    assert_eq!((started.method.as_str(), started.collector.as_str()), ("rbspy", "rbspy"));
    assert_eq!(started.runtime, "Ruby");
    let lines = outcome.pprof(&["-top", "-lines"]);
    let line = 1 + include_str!("targets/busy.rb")
        .lines()
        .position(|l| l.ends_with("# of the guilty method"))
        .unwrap();
    assert!(lines.lines().any(|l| l.contains("guilty") && l.contains(&format!("busy.rb:{line}"))), "{lines}");
    assert!(share(&outcome, "<main>") > 80.0, "frames of files keep their names: {lines}");
    let part = outcome.cpu().as_secs_f64() / used.as_secs_f64();
    assert!((0.6..1.1).contains(&part), "{part} of the CPU time is in the profile");
    let finished = outcome.finished();
    assert!(finished.slices >= 2 && finished.note.is_none(), "{finished:?}");
    assert!(watchers(&target).is_empty() && runs_on(&target));
}

#[test]
fn threads_are_profiled_and_one_that_sleeps_is_not() {
    let target = ruby(&[], "threads");
    let before = target.cpu();
    let outcome = capture(&target, 4000);
    let used = target.cpu() - before;
    outcome.blames_the_guilty();
    assert!(share(&outcome, "sleeper") < 5.0, "sleeping is not CPU time");
    let part = outcome.cpu().as_secs_f64() / used.as_secs_f64();
    assert!((0.6..1.1).contains(&part), "{part} of the CPU time of both is in the profile");
}

#[test]
fn sleeping_is_not_cpu_time() {
    let target = ruby(&[], "sleep");
    let outcome = capture(&target, 2500);
    // It wakes forty times a second, and Ruby may still be starting.
    let is_idle =
        matches!(outcome.events.last(), Some(Event::Failed(f)) if f.reason == FailureReason::NoSamples);
    assert!(is_idle || outcome.cpu() <= target.cpu() + Duration::from_millis(20), "{outcome:?}");
    assert!(is_idle || outcome.cpu() < Duration::from_millis(300), "{outcome:?}");
}

#[test]
fn sigterm_ends_a_capture_with_its_last_slice_and_rbspy() {
    let target = ruby(&[], "spin");
    let mut worker = Worker::start(&[], &request(target.pid(), RBSPY, 60_000));
    while !matches!(worker.event().expect("a slice before the worker ends"), Event::Slice(_)) {}
    let before = target.cpu();
    assert!(within(LONG, || target.cpu() > before + Duration::from_millis(500)));
    worker.signal(Signal::SIGTERM);
    let outcome = worker.finish();
    assert!(matches!(outcome.events.last(), Some(Event::Finished(f)) if f.stopped), "{outcome:?}");
    assert!(outcome.files().len() >= 2, "{outcome:?}");
    outcome.blames_the_guilty();
    assert!(watchers(&target).is_empty() && runs_on(&target));
}

#[test]
fn a_worker_that_is_killed_leaves_the_target_well_and_no_rbspy() {
    let target = ruby(&[], "spin");
    for (round, moment) in deaths(4, Duration::from_millis(1700)) {
        let mut worker = Worker::start(&[], &request(target.pid(), RBSPY, 60_000));
        // From the first look to the second slice.
        if round > 0 {
            assert!(matches!(worker.event(), Some(Event::Started(_))));
        }
        std::thread::sleep(moment);
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
        assert!(within(LONG, || watchers(&target).is_empty()), "round {round}: {:?}", watchers(&target));
        assert!(runs_on(&target), "round {round}: {}", target.status("State"));
        assert_eq!(target.status("TracerPid"), "0");
    }
    capture(&target, 2500).blames_the_guilty();
}

#[test]
fn what_was_recorded_before_the_target_ended_is_kept() {
    let target = ruby(&[], "spin");
    let mut worker = Worker::start(&[], &request(target.pid(), RBSPY, 60_000));
    while !matches!(worker.event().expect("a slice before the worker ends"), Event::Slice(_)) {}
    kill(Pid::from_raw(target.pid()), Signal::SIGKILL).unwrap();
    let outcome = worker.finish();
    assert!(outcome.events.iter().any(|e| matches!(e, Event::Finished(f) if f.target_exited)), "{outcome:?}");
}

#[test]
fn under_a_strict_seccomp_filter_as_the_same_user_unseen_by_the_target() {
    let launch = crate::worker::compiled("launch");
    let target = ruby(&[launch.to_str().unwrap(), "-u", "1000"], "spin");
    let mut worker = Worker::start(&["-u", "1000", "-c", "0", "-s"], &request(target.pid(), AUTO, 4000));
    let Some(Event::Started(started)) = worker.event() else { panic!("not started") };
    assert_eq!(started.method, "rbspy", "{started:?}");
    let hidden = |pid: &i32| proc::is_dumpable(*pid) == Some(false);
    assert!(
        within(LONG, || watchers(&target).iter().any(hidden)),
        "the target could look into the agent by rbspy"
    );
    worker.finish().blames_the_guilty();
}

#[test]
fn another_users_process_is_refused_with_what_helps() {
    let target = ruby(&[], "spin");
    let outcome = Worker::start(&["-u", "1000"], &request(target.pid(), RBSPY, 2000)).finish();
    let failed = outcome.failed();
    assert_eq!(failed.reason, FailureReason::PermissionDenied, "{failed:?}");
    assert!(failed.message.contains("runAsUser"), "{failed:?}");
}

#[test]
fn without_rbspy_its_machine_code_is_profiled_and_what_is_lacking_is_said() {
    let target = ruby(&[], "spin");
    let outcome = Worker::start_bare(&request(target.pid(), RBSPY, 2000)).finish();
    assert!(outcome.failed().message.contains("rbspy is not beside"), "{:?}", outcome.failed());
    let outcome = Worker::start_bare(&request(target.pid(), AUTO, 2000)).finish();
    assert_eq!(outcome.started().collector, "native", "{:?}", outcome.started());
    let note = outcome.finished().note.clone().unwrap_or_default();
    assert!(note.contains("the Ruby interpreter"), "{note}");
}

#[test]
fn every_process_of_a_container_is_profiled() {
    install_rbspy();
    let container = Container::new();
    let primary = container.start(&["ruby", script().to_str().unwrap(), "forks"]);
    container.works(&primary);
    let outcome = Worker::start(&[], &container.request(&primary, 5000)).finish();
    outcome.blames_the_guilty();
    let cover = outcome.finished().cover.unwrap();
    assert!(cover.processes >= 2, "{:?}", outcome.finished());
    let share = cover.cpu_nanos * 100 / cover.used_nanos.unwrap();
    assert!((50..=110).contains(&share), "{share} % {:?}", outcome.finished());
    assert_eq!(outcome.started().method, "rbspy");
}
