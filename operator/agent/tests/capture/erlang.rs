//! Erlang targets: machine code, which the virtual machine names where it is asked to.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use fleetprof_agent::capture::runtime::{Runtime, detect};

use crate::worker::{AUTO, Target, Worker, directory, request, source, within};

/// A folder with the compiled module.
fn compiled() -> PathBuf {
    let folder = directory();
    let status = Command::new("erlc").arg("-o").arg(&folder).arg(source("busy.erl")).status().unwrap();
    assert!(status.success(), "erlc could not compile busy.erl");
    folder
}

/// Starts the module, and waits until it works.
fn erlang(flags: &str) -> Target {
    let mut command = Command::new("erl");
    command.env("ERL_FLAGS", flags).args(["-noshell", "-pa"]).arg(compiled()).args(["-s", "busy", "main"]);
    let target = Target::start(&mut command);
    let is_started = || detect(target.pid()) == Runtime::Beam;
    assert!(within(Duration::from_secs(30), is_started), "{}", detect(target.pid()));
    let before = target.cpu();
    assert!(within(Duration::from_secs(30), || target.cpu() > before + Duration::from_millis(500)));
    target
}

#[test]
fn functions_are_named_where_the_virtual_machine_names_them() {
    let target = erlang("+JPperf true");
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 3000)).finish();
    outcome.blames("$busy:guilty/2");
    assert_eq!(outcome.started().runtime, "Erlang");
    let callers = outcome.pprof(&["-peek", "guilty"]);
    assert!(callers.contains("$busy:main/0"), "{callers}");
    assert_eq!(outcome.finished().note, None);
    let _removed = std::fs::remove_file(format!("/tmp/perf-{}.map", target.pid()));
}

#[test]
fn what_gives_names_is_said_where_they_are_lacking() {
    let target = erlang("");
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 3000)).finish();
    let note = outcome.finished().note.clone().unwrap_or_default();
    assert!(note.contains("ERL_FLAGS=\"+JPperf true\""), "{note} {:?}", outcome.finished());
}
