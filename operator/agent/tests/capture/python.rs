//! Python targets.

use std::process::Command;

use fleetprof_agent::capture::runtime::{Runtime, detect};

use crate::worker::{AUTO, PYTHON, Target, Worker, request};

/// The Python that `FLEETPROF_PYTHON` names, else every Python 3 on this machine: the one in the path, and the
/// distribution's.
fn interpreters() -> Vec<String> {
    if let Ok(named) = std::env::var("FLEETPROF_PYTHON") {
        return vec![named];
    }
    let real = |name: &str| {
        let output = Command::new(name).args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    let mut found: Vec<String> = ["python3", "/usr/bin/python3"].into_iter().filter_map(real).collect();
    found.dedup();
    assert!(!found.is_empty(), "these tests need python3");
    found
}

/// What reads an interpreter.
fn method(runtime: &str) -> &'static str {
    let is_known = (11..=14).any(|minor| runtime == format!("Python 3.{minor}"));
    if is_known { "cpython" } else { "py-spy" }
}

#[test]
fn the_guilty_function_is_blamed_with_its_line() {
    for interpreter in interpreters() {
        let target = Target::python(&interpreter);
        let before = target.cpu();
        let outcome = Worker::start(&[], &request(target.pid(), AUTO, 4000)).finish();
        let used = target.cpu() - before;
        outcome.blames_the_guilty();
        let started = outcome.started();
        assert_eq!(
            (started.method.as_str(), started.collector.as_str()),
            (method(&started.runtime), "python"),
            "{interpreter}"
        );
        assert!(started.runtime.starts_with("Python 3."), "{}", started.runtime);
        let lines = outcome.pprof(&["-top", "-lines"]);
        assert!(
            lines
                .lines()
                .any(|l| l.contains("guilty") && (l.contains("busy.py:10") || l.contains("busy.py:9"))),
            "{lines}"
        );
        let part = outcome.cpu().as_secs_f64() / used.as_secs_f64();
        assert!((0.7..1.2).contains(&part), "{part} of the CPU time is in the profile");
    }
}

#[test]
fn a_sleeping_thread_and_the_names_of_python_code() {
    let target = Target::python(&interpreters()[0]);
    let outcome = Worker::start(&[], &request(target.pid(), PYTHON, 3000)).finish();
    let top = outcome.pprof(&["-top", "-cum", "-nodefraction=0"]);
    let share = |name: &str| {
        let row = top.lines().find(|l| l.ends_with(&format!(" {name}")));
        row.map_or(0.0, |r| {
            r.split_ascii_whitespace().nth(4).unwrap().trim_end_matches('%').parse::<f64>().unwrap()
        })
    };
    assert!(share("sleeper") < 5.0, "sleeping is not CPU time:\n{top}");
    assert!(share("<module>") > 80.0, "the module's frame keeps its name:\n{top}");
}

#[test]
fn under_a_strict_seccomp_filter_as_the_same_user() {
    let target = Target::start(
        Command::new(crate::worker::compiled("launch"))
            .args(["-u", "1000", "/usr/bin/python3"])
            .arg(script()),
    );
    let outcome =
        Worker::start(&["-u", "1000", "-c", "0", "-s"], &request(target.pid(), AUTO, 3000)).finish();
    outcome.blames_the_guilty();
    assert_eq!(outcome.started().method, "cpython");
}

fn script() -> std::path::PathBuf {
    let script = crate::worker::directory().join("busy.py");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/capture/targets/busy.py"), &script).unwrap();
    script
}

#[test]
fn runtimes_of_real_processes_are_told() {
    let python = Target::python(&interpreters()[0]);
    assert!(matches!(detect(python.pid()), Runtime::Python(Some((3, _)))), "{}", detect(python.pid()));
    assert_eq!(detect(Target::hot(&["idle"]).pid()), Runtime::Native);
}
