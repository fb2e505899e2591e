//! Machine code: perf events and ptrace.

use std::time::Duration;

use fleetprof_agent::capture::protocol::FailureReason;

use crate::worker::{AUTO, DEFAULT_CAPABILITIES, NATIVE, Outcome, Target, Worker, compiled, request};

/// The part of the target's CPU time that is in the profile.
fn covered(outcome: &Outcome, used: Duration) -> f64 {
    outcome.cpu().as_secs_f64() / used.as_secs_f64()
}

/// The line with the work, or that of the loop above it.
fn blames_the_guilty_line(outcome: &Outcome) {
    blames_the_line_of(outcome, "hot.c", include_str!("targets/hot.c"));
}

fn blames_the_line_of(outcome: &Outcome, file: &str, source: &str) {
    let line = source.lines().position(|l| l.ends_with("// the guilty line")).unwrap() + 1;
    let places = [format!("{file}:{line}"), format!("{file}:{}", line - 1)];
    let lines = outcome.pprof(&["-top", "-lines"]);
    assert!(
        lines.lines().any(|l| l.contains("guilty") && places.iter().any(|p| l.ends_with(p))),
        "{places:?}\n{lines}"
    );
}

#[test]
fn perf_blames_the_guilty_function_with_its_line() {
    let target = Target::hot(&["spin", "3"]);
    let before = target.cpu();
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 4000)).finish();
    let used = target.cpu() - before;
    outcome.blames_the_guilty();
    assert_eq!((outcome.started().method.as_str(), outcome.started().runtime.as_str()), ("perf", "Native"));
    blames_the_guilty_line(&outcome);
    let tree = outcome.pprof(&["-peek", "^guilty$"]);
    assert!(tree.contains("work"), "the caller is known without frame pointers: {tree}");
    let part = covered(&outcome, used);
    assert!((0.7..1.2).contains(&part), "{part} of the CPU time is in the profile");
    let finished = outcome.finished();
    assert!(
        finished.slices >= 2 && finished.taken.abs_diff(finished.expected) <= finished.expected / 4,
        "{finished:?}"
    );
}

#[test]
fn a_slice_names_the_program_its_build_and_the_labels() {
    let target = Target::hot(&["spin"]);
    let outcome = Worker::start(&[], &request(target.pid(), NATIVE, 1500)).finish();
    let profile = &outcome.profiles()[0];
    let text = |n: i64| profile.string_table[usize::try_from(n).unwrap()].clone();
    let main = &profile.mapping[0];
    assert_eq!(text(main.filename), compiled("hot").to_str().unwrap());
    assert_eq!(text(main.build_id).len(), 40, "{}", text(main.build_id));
    let label = &profile.sample[0].label[0];
    assert_eq!((text(label.key), text(label.str)), ("k8s.pod.name".into(), "orders-0".into()));
    assert_eq!(profile.period, 1_000_000_000 / 99);
    assert!(profile.duration_nanos > 1_000_000_000 && profile.time_nanos > 1_600_000_000_000_000_000);
}

#[test]
fn perf_follows_threads_that_start_and_end_during_the_capture() {
    let target = Target::hot(&["churn"]);
    let before = target.cpu();
    let outcome = Worker::start(&[], &request(target.pid(), NATIVE, 3000)).finish();
    let part = covered(&outcome, target.cpu() - before);
    outcome.blames_the_guilty();
    assert!((0.6..1.2).contains(&part), "{part} of the CPU time of short threads is in the profile");
}

#[test]
fn where_perf_is_refused_ptrace_blames_the_guilty_function() {
    let target = Target::hot(&["spin", "2"]);
    let before = target.cpu();
    let outcome = Worker::start(&["-s"], &request(target.pid(), AUTO, 4000)).finish();
    let part = covered(&outcome, target.cpu() - before);
    outcome.blames_the_guilty();
    let started = outcome.started();
    assert_eq!(started.method, "ptrace");
    assert!(started.why.contains("EPERM") && started.why.contains("using ptrace"), "{}", started.why);
    assert!(
        (0.7..1.2).contains(&part),
        "{part} of the CPU time is in the profile, however many samples came late"
    );
    blames_the_guilty_line(&outcome);
}

#[test]
fn ptrace_passes_signals_on_that_arrive_meanwhile() {
    let mut target = Target::hot(&["signals"]);
    let outcome = Worker::start(&["-s"], &request(target.pid(), NATIVE, 4000)).finish();
    outcome.blames_the_guilty();
    assert_eq!(outcome.started().method, "ptrace");
    let pid = nix::unistd::Pid::from_raw(target.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let mut output = String::new();
    std::io::Read::read_to_string(target.0.stdout.as_mut().unwrap(), &mut output).unwrap();
    let counts: Vec<u32> = output.split_ascii_whitespace().map(|n| n.parse().unwrap()).collect();
    // 500 and about 100 a second for over four seconds, but the machine may be busy.
    assert!(counts[0] > 400 && counts[1] > 40, "alarms and queued signals: {counts:?}");
    assert!(target.0.wait().unwrap().success(), "the target ended by itself");
}

#[test]
fn the_same_user_without_capabilities_is_enough() {
    let target = Target::hot_as("1000", &["spin"]);
    let perf = Worker::start(&["-u", "1000", "-c", "0"], &request(target.pid(), AUTO, 2500)).finish();
    perf.blames_the_guilty();
    assert_eq!(perf.started().method, "perf");
    assert!(perf.started().why.contains("user time only"), "{}", perf.started().why);
    let ptrace = Worker::start(&["-u", "1000", "-c", "0", "-s"], &request(target.pid(), AUTO, 2500)).finish();
    ptrace.blames_the_guilty();
    assert_eq!(ptrace.started().method, "ptrace");
}

#[test]
fn root_with_default_capabilities_becomes_the_targets_user() {
    let target = Target::hot_as("1000", &["spin"]);
    let mut wanted = request(target.pid(), AUTO, 2500);
    let refused = Worker::start(&["-c", DEFAULT_CAPABILITIES], &wanted).finish();
    assert_eq!(refused.failed().reason, FailureReason::PermissionDenied);
    assert!(refused.failed().message.contains("runAsUser"), "{:?}", refused.failed());
    wanted.assume_target_uid = true;
    for more in [&[][..], &["-s"][..]] {
        wanted.output_dir = crate::worker::directory();
        let outcome = Worker::start(&[&["-c", DEFAULT_CAPABILITIES], more].concat(), &wanted).finish();
        outcome.blames_the_guilty();
        let ptrace = outcome.started().method == "ptrace";
        assert_eq!(
            outcome.finished().notes.iter().any(|n| n.contains("stopped a thread")),
            ptrace,
            "{:?}",
            outcome.finished()
        );
    }
}

#[test]
fn another_user_is_refused_with_a_reason() {
    let target = Target::hot_as("1000", &["spin"]);
    let outcome = Worker::start(&["-u", "1001", "-c", "0"], &request(target.pid(), NATIVE, 1000)).finish();
    let failed = outcome.failed();
    assert_eq!(failed.reason, FailureReason::PermissionDenied);
    assert!(failed.message.contains("perf_event_open") && failed.message.contains("ptrace"), "{failed:?}");
}

#[test]
fn a_stripped_go_program_is_named_by_its_own_table() {
    let target = Target::start(&mut std::process::Command::new(crate::worker::stripped_go()));
    for launch in [&[][..], &["-s"][..]] {
        let outcome = Worker::start(launch, &request(target.pid(), AUTO, 2500)).finish();
        assert!(outcome.started().runtime.starts_with("Go 1."), "{}", outcome.started().runtime);
        outcome.blames("main.guilty");
        blames_the_line_of(&outcome, "hot.go", include_str!("targets/hot.go"));
        let callers = outcome.pprof(&["-traces", "-focus=main.guilty"]);
        let chain = ["main.guilty", "main.work", "main.main", "runtime.main"];
        let found =
            chain.iter().try_fold(0, |from, name| callers.get(from..)?.find(name).map(|at| from + at));
        assert!(found.is_some(), "the callers of a function without frame are known: {callers}");
    }
}

#[test]
fn code_that_a_runtime_made_has_the_name_that_it_tells() {
    let target = Target::hot(&["jit"]);
    let outcome = Worker::start(&[], &request(target.pid(), NATIVE, 2000)).finish();
    std::fs::remove_file(format!("/tmp/perf-{}.map", target.pid())).unwrap();
    outcome.blames("made:guilty");
    let without = Worker::start(&[], &request(target.pid(), NATIVE, 2000)).finish();
    without.blames("[anon]");
    let note = without.finished().note.clone().unwrap_or_default();
    assert!(note.contains("/tmp/perf-PID.map"), "{:?}", without.finished());
}

#[test]
fn a_stack_that_is_too_large_for_a_sample_says_so() {
    let target = Target::hot(&["deep"]);
    let outcome = Worker::start(&[], &request(target.pid(), NATIVE, 2000)).finish();
    outcome.blames_the_guilty();
    let traces = outcome.pprof(&["-traces"]);
    assert!(traces.contains("deep") && traces.contains("[callers beyond the sampled stack]"), "{traces}");
    let whole = {
        let shallow = Target::hot(&["spin"]);
        Worker::start(&[], &request(shallow.pid(), NATIVE, 1500)).finish()
    };
    assert!(!whole.pprof(&["-traces"]).contains("[callers beyond"), "{}", whole.pprof(&["-traces"]));
}

#[test]
fn ptrace_blames_no_sleep_for_the_work_before_it() {
    let target = Target::hot(&["doze"]);
    let before = target.cpu();
    let outcome = Worker::start(&["-s"], &request(target.pid(), NATIVE, 4000)).finish();
    let used = target.cpu() - before;
    assert_eq!(outcome.started().method, "ptrace");
    let top = outcome.pprof(&["-top", "-nodefraction=0"]);
    let asleep: f64 = top
        .lines()
        .filter(|l| l.contains("nanosleep"))
        .map(|l| l.split_ascii_whitespace().nth(1).unwrap().trim_end_matches('%').parse::<f64>().unwrap())
        .sum();
    assert!(asleep < 5.0, "{asleep} % in nanosleep:\n{top}");
    outcome.blames_the_guilty();
    let part = covered(&outcome, used);
    assert!((0.7..1.2).contains(&part), "{part} of the CPU time is in the profile");
}
