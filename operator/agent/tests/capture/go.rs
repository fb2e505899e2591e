//! Go programs that serve `net/http/pprof`, or could.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use fleetprof_agent::capture::collector;
use fleetprof_agent::capture::protocol::{CaptureRequest, Event, FailureReason};
use fleetprof_agent::capture::sight::Sight;
use fleetprof_agent::proc;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::ProfileKind::{Alloc, Block, Cpu, Goroutine, Heap, Lock};
use nix::sys::signal::Signal;

use crate::worker::{AUTO, Outcome, Target, Worker, built_go, request, stripped_go, within};

/// A program that serves its profiles, once it listens.
fn served(arguments: &[&str]) -> Target {
    let target = Target::start(Command::new(built_go("served.go")).args(arguments));
    assert!(within(Duration::from_secs(30), || !listeners(&target).is_empty()), "it does not listen");
    target
}

fn unserved() -> Target {
    Target::start(Command::new(built_go("served.go")).arg("unserved"))
}

fn listeners(target: &Target) -> Vec<SocketAddr> {
    proc::listeners(target.pid()).unwrap()
}

fn wanted(target: &Target, kinds: &[ProfileKind], duration_ms: u64) -> CaptureRequest {
    CaptureRequest { profiles: kinds.to_vec(), ..request(target.pid(), AUTO, duration_ms) }
}

fn capture(target: &Target, kinds: &[ProfileKind], duration_ms: u64) -> Outcome {
    Worker::start(&[], &wanted(target, kinds, duration_ms)).finish()
}

/// The kinds that are offered, and the problems of the others.
fn offers(target: &Target) -> (Vec<(ProfileKind, String)>, String) {
    let all = collector::offers(&Sight::of(target.pid()));
    let good = all.iter().filter(|offer| offer.problem.is_none());
    let good = good.map(|offer| (offer.kind, offer.collector.clone())).collect();
    let problems = all.iter().filter_map(|offer| offer.problem.as_ref()).map(|p| p.message.clone());
    (good, problems.collect::<Vec<_>>().join("\n"))
}

/// Whether the program would record its CPU for another client now.
fn is_free(server: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.write_all(b"GET /debug/pprof/profile?seconds=1 HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _cut = stream.read_to_end(&mut answer);
    answer.starts_with(b"HTTP/1.0 200")
}

/// The first function of `go tool pprof -top` over the slices of a kind.
fn top(outcome: &Outcome, kind: &str) -> String {
    let text = outcome.pprof_of(kind, &["-top"]);
    let row = text.lines().skip_while(|l| !l.trim_start().starts_with("flat")).nth(1);
    row.and_then(|row| row.split_ascii_whitespace().nth(5)).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn cpu_memory_and_goroutines_are_pulled_with_functions_and_lines() {
    let target = served(&[]);
    let before = target.cpu();
    let outcome = capture(&target, &[Cpu, Heap, Goroutine], 6000);
    let used = target.cpu() - before;
    let started = outcome.started();
    assert_eq!(
        (started.method.as_str(), started.collector.as_str()),
        ("go-pprof", "go-pprof"),
        "{started:?}"
    );
    assert!(started.runtime.starts_with("Go 1."), "{started:?}");
    outcome.blames("main.guilty");
    let source = include_str!("targets/served.go");
    let line = source.lines().position(|l| l.ends_with("// the guilty line")).unwrap() + 1;
    let lines = outcome.pprof(&["-top", "-lines"]);
    let is_guilty = |l: &str| {
        l.contains("main.guilty") && [line, line - 1].iter().any(|n| l.contains(&format!("served.go:{n}")))
    };
    assert!(lines.lines().any(is_guilty), "{lines}");
    let part = outcome.cpu().as_secs_f64() / used.as_secs_f64();
    assert!((0.6..1.2).contains(&part), "{part} of the CPU time is in the profile");
    assert_eq!(top(&outcome, "heap"), "main.hoard");
    let traces = outcome.pprof_of("goroutine", &["-traces"]);
    assert!(traces.contains("main.stuck") && traces.contains("runtime.chanrecv"), "{traces}");
    let finished = outcome.finished();
    assert_eq!((&finished.note, &finished.low), (&None, &None), "{finished:?}");
    for kind in ["cpu", "heap", "goroutine"] {
        let tags = outcome.pprof_of(kind, &["-tags"]);
        assert!(tags.contains("k8s.pod.name") && tags.contains("served-go"), "{kind}: {tags}");
    }
    assert_eq!((outcome.files_of("heap").len(), outcome.files_of("goroutine").len()), (1, 1), "at the end");
    assert!(outcome.files_of("cpu").len() >= 2, "{:?}", outcome.files());
}

#[test]
fn what_is_counted_from_the_start_of_the_program_is_counted_from_the_begin_of_the_capture() {
    let target = served(&["rates"]);
    let outcome = capture(&target, &[Alloc, Lock, Block], 3000);
    assert_eq!(top(&outcome, "alloc"), "main.churn");
    let alloc = outcome.pprof_of("alloc", &["-top", "-nodefraction=0"]);
    assert!(!alloc.contains("main.hoard"), "what was allocated before does not count: {alloc}");
    for kind in ["lock", "block"] {
        let traces = outcome.pprof_of(kind, &["-traces"]);
        assert!(traces.contains("main.contend"), "{kind}: {traces}");
    }
    let file = &outcome.files_of("alloc")[0];
    let limits = fleetprof_profile::Limits::default();
    let profile = fleetprof_profile::decode_valid(&std::fs::read(file).unwrap(), &limits).unwrap();
    let seconds = profile.duration_nanos as f64 / 1e9;
    assert!(
        (2.5..6.0).contains(&seconds),
        "it stands for the whole capture, not for the last slice: {seconds}"
    );
    assert!(profile.period > 1, "the period is Go's own: {}", profile.period);
}

#[test]
fn what_go_does_not_count_is_said_with_what_to_switch_on() {
    let target = served(&[]);
    let alone = capture(&target, &[Lock], 1000);
    let failed = alone.failed();
    assert_eq!(failed.reason, FailureReason::NoSamples, "{failed:?}");
    let advice = "runtime.SetMutexProfileFraction";
    assert!(failed.message.contains("waited for no lock") && failed.message.contains(advice), "{failed:?}");
    let beside = capture(&target, &[Heap, Lock], 1000);
    let note = beside.finished().note.clone().unwrap_or_default();
    assert!(note.contains("No lock samples") && note.contains(advice), "{note}");
    assert_eq!(top(&beside, "heap"), "main.hoard");
}

#[test]
fn a_program_without_the_handlers_falls_back_to_native_and_offers_what_helps() {
    let target = Target::start(&mut Command::new(stripped_go()));
    let (good, problems) = offers(&target);
    assert_eq!(good, [(Cpu, "native".to_owned())]);
    assert!(problems.contains("does not hold net/http/pprof: import the package"), "{problems}");
    let outcome = capture(&target, &[Cpu, Heap], 2500);
    assert_eq!(outcome.started().collector, "native");
    outcome.blames("main.guilty");
    let note = outcome.finished().note.clone().unwrap_or_default();
    assert!(note.contains("heap was not captured: the Go program does not hold net/http/pprof"), "{note}");
    let heap = capture(&target, &[Heap], 1000);
    assert_eq!(heap.failed().reason, FailureReason::UnsupportedRuntime, "{:?}", heap.failed());
}

#[test]
fn a_program_that_could_serve_and_does_not_falls_back_to_native() {
    let target = unserved();
    let (good, problems) = offers(&target);
    assert_eq!(good, [(Cpu, "native".to_owned())]);
    assert!(problems.contains("does not listen at any TCP port; serve net/http/pprof"), "{problems}");
    let outcome = capture(&target, &[Cpu], 2500);
    assert_eq!(outcome.started().collector, "native");
    outcome.blames("main.guilty");
}

#[test]
fn where_another_client_records_cpu_native_takes_its_place() {
    let target = served(&["profiled"]);
    let outcome = capture(&target, &[Cpu, Heap], 2500);
    let started = outcome.started();
    assert_eq!(started.collector, "go-pprof, native", "{started:?}");
    assert!(started.why.contains("cpu profiling already in use; captured by native instead"), "{started:?}");
    outcome.blames("main.guilty");
    assert_eq!(top(&outcome, "heap"), "main.hoard");
}

#[test]
fn nothing_goes_on_in_the_target_once_the_worker_is_gone() {
    let target = served(&[]);
    let server = listeners(&target)[0];
    assert_eq!(offers(&target).0.len(), 7);
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        let mut request = wanted(&target, &[Cpu, Heap, Alloc], 60_000);
        request.slice_ms = 15_000;
        let mut worker = Worker::start(&[], &request);
        assert!(matches!(worker.event(), Some(Event::Started(s)) if s.collector == "go-pprof"));
        assert!(!is_free(server), "the program records");
        worker.signal(signal);
        let asked = Instant::now();
        if signal == Signal::SIGTERM {
            let outcome = worker.finish();
            assert_eq!(top(&outcome, "heap"), "main.hoard", "what can be had at the end is taken");
            assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
        } else {
            worker.child.wait().unwrap();
        }
        assert!(within(Duration::from_secs(5), || is_free(server)), "{signal}: it records still");
    }
}

#[test]
fn a_hostile_program_is_bounded_and_said_of() {
    let target = served(&["hostile"]);
    let start = Instant::now();
    let outcome = capture(&target, &[Cpu, Heap, Goroutine, Lock], 3000);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(
        outcome.started().collector,
        "go-pprof, native",
        "garbage is not taken: {:?}",
        outcome.started()
    );
    outcome.blames("main.guilty");
    let note = outcome.finished().note.clone().unwrap_or_default();
    assert!(
        ["heap", "goroutine", "lock"].iter().all(|kind| note.contains(&format!("{kind} was not"))),
        "{note}"
    );
    let each = [(Heap, "has more than"), (Goroutine, "took too long"), (Lock, "of no use")];
    for (kind, wanted) in each {
        let outcome = capture(&target, &[kind], 1000);
        assert!(outcome.failed().message.contains(wanted), "{kind}: {:?}", outcome.failed());
    }
}
