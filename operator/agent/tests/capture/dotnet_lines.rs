//! Lines of .NET methods, by the maps that the runtime tells and the debug information that `tests/csharp.sh`
//! writes.

use std::path::PathBuf;
use std::time::Duration;

use fleetprof_agent::capture::protocol::Event;
use fleetprof_crds::ProfileKind::{Alloc, Cpu};
use nix::sys::signal::Signal;

use crate::dotnet::{busy_by, capture, is_well, program_of, share, started, wanted, works};
use crate::worker::{Outcome, Worker, directory};

/// The line of `Busy.cs` in which there is a text.
fn line_with(text: &str) -> usize {
    1 + include_str!("targets/Busy.cs").lines().position(|line| line.contains(text)).unwrap()
}

/// Asserts that nearly all of a function is at one line of `Busy.cs`.
fn is_at_line(outcome: &Outcome, kind: &str, function: &str, line: usize) {
    let text = outcome.pprof_of(kind, &["-top", "-lines", "-nodefraction=0"]);
    let is_it =
        |row: &&str| row.contains(&format!(" {function} ")) && row.ends_with(&format!("Busy.cs:{line}"));
    let row = text.lines().find(is_it).unwrap_or_else(|| panic!("{function} is not at {line}:\n{text}"));
    let at_line: f64 = row.split_ascii_whitespace().nth(1).unwrap().trim_end_matches('%').parse().unwrap();
    let whole = share(outcome, kind, function);
    assert!(at_line > 0.95 * whole, "{at_line} % of {whole} % is at line {line}:\n{text}");
}

fn top_row(text: &str) -> (String, f64) {
    let row = text.lines().skip_while(|line| !line.trim_start().starts_with("flat")).nth(1).unwrap();
    let fields: Vec<&str> = row.split_ascii_whitespace().collect();
    (fields[5..].join(" "), fields[1].trim_end_matches('%').parse().unwrap())
}

#[test]
fn lines_are_told_by_debug_information_in_the_assembly_as_by_that_beside_it() {
    for lines in ["beside", "embedded"] {
        let target = busy_by(&program_of("busy", "Busy.cs", lines), &["spin", "alloc"]);
        let outcome = capture(&target, &[Cpu, Alloc]);
        is_at_line(&outcome, "cpu", "Busy.Guilty", line_with("// the guilty line"));
        is_at_line(&outcome, "alloc", "Busy.Allocates", line_with("kept = new byte["));
        // A caller is where it called.
        let callers = outcome.pprof(&["-top", "-cum", "-lines", "-nodefraction=0"]);
        for (caller, text) in [("Busy.Spins", "return Guilty(n)"), ("Busy.Spin", "n += Spins(n)")] {
            let wanted = format!("Busy.cs:{}", line_with(text));
            let is_it = |row: &str| row.contains(&format!(" {caller} ")) && row.ends_with(&wanted);
            assert!(callers.lines().any(is_it), "{lines}: {caller} is not at {wanted}:\n{callers}");
        }
        is_well(&target);
    }
}

/// The program `busy` without its debug information, in a folder of that name.
fn bare(folder: &str) -> PathBuf {
    let own = program_of("busy", "Busy.cs", "beside");
    let folder = directory().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["busy.dll", "busy.runtimeconfig.json"] {
        std::fs::copy(own.with_file_name(name), folder.join(name)).unwrap();
    }
    folder.join("busy.dll")
}

#[test]
fn without_debug_information_of_the_same_build_there_are_names_and_no_lines() {
    let none = program_of("busy", "Busy.cs", "none");
    // The same source, compiled as an assembly of another name.
    let other = bare("other");
    let again = program_of("again", "Busy.cs", "beside");
    std::fs::copy(again.with_extension("pdb"), other.with_extension("pdb")).unwrap();
    for program in [none, other] {
        let target = busy_by(&program, &["spin"]);
        let outcome = capture(&target, &[Cpu]);
        outcome.blames("Busy.Guilty");
        let lines = outcome.pprof(&["-top", "-lines"]);
        assert!(!lines.contains("Busy.cs"), "{}: {lines}", program.display());
        is_well(&target);
    }
}

#[test]
fn a_pipe_in_the_place_of_debug_information_is_left_alone() {
    let program = bare("pipe");
    // Opening a pipe to read it would block until something writes.
    nix::unistd::mkfifo(&program.with_extension("pdb"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let target = busy_by(&program, &["spin"]);
    let outcome = capture(&target, &[Cpu]);
    outcome.blames("Busy.Guilty");
    assert!(!outcome.pprof(&["-top", "-lines"]).contains("Busy.cs"));
    is_well(&target);
}

#[test]
fn a_method_that_is_compiled_during_the_capture_has_its_name_and_its_line() {
    let begin = directory().join("begin");
    let target = started(&[&format!("late={}", begin.display())]);
    let mut worker = Worker::start(&[], &wanted(&target, &[Cpu], 60_000));
    assert!(matches!(worker.event(), Some(Event::Started(s)) if s.collector == "eventpipe"));
    std::fs::write(&begin, "").unwrap();
    works(&target, Duration::from_secs(3));
    worker.signal(Signal::SIGTERM);
    let outcome = worker.finish();
    let late = outcome.pprof(&["-top"]);
    let row = late.lines().find(|row| row.ends_with(" Busy.Late")).unwrap_or_else(|| panic!("{late}"));
    let (name, most) = top_row(&late);
    assert!(name == "Busy.Late" && most > 60.0, "{row}");
    is_at_line(&outcome, "cpu", "Busy.Late", line_with("i < 1000000"));
    is_well(&target);
}
