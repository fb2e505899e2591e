//! Programs that hold a runtime under another name.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fleetprof_agent::capture::runtime::{Runtime, detect};
use fleetprof_crds::ProfileKind;

use crate::worker::{AUTO, Target, Worker, directory, request, within};

/// The file of a program of the path, which may be a script that starts it, as pyenv's.
fn program(name: &str, prints_itself: &[&str]) -> PathBuf {
    let output = Command::new(name).args(prints_itself).output().unwrap();
    let path = String::from_utf8(output.stdout).unwrap();
    std::fs::canonicalize(path.trim()).unwrap_or_else(|e| panic!("{name} {path}: {e}"))
}

/// A copy called `shop`, with an application at its end, as tools that pack both into one file leave it.
fn packed(program: &Path) -> PathBuf {
    let copy = directory().join("shop");
    let mut bytes = std::fs::read(program).unwrap();
    bytes.extend_from_slice(b"the files of the application");
    std::fs::write(&copy, bytes).unwrap();
    std::fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

/// Starts it, and waits until it is what it becomes.
fn started(command: &mut Command, wanted: &str) -> Target {
    let target = Target::start(command.stderr(Stdio::null()));
    let is_there = || detect(target.pid()).to_string().starts_with(wanted);
    assert!(within(Duration::from_secs(30), is_there), "{}, not {wanted}", detect(target.pid()));
    target
}

#[test]
fn a_node_js_program_with_another_name_is_captured_by_its_inspector() {
    let shop = packed(&program("node", &["-p", "process.execPath"]));
    let mut command = Command::new(&shop);
    command.arg("--inspect-port=0").arg(crate::node::script()).arg("spin");
    let target = started(&mut command, "Node.js");
    let before = target.cpu();
    assert!(within(Duration::from_secs(30), || target.cpu() > before + Duration::from_millis(500)));
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 3000)).finish();
    assert_eq!(
        (outcome.started().runtime.as_str(), outcome.started().method.as_str()),
        ("Node.js", "inspector")
    );
    let top = outcome.pprof(&["-top"]);
    assert!(top.contains("guilty"), "{top}");
}

#[test]
fn a_python_program_with_another_name_is_captured_by_its_frames() {
    for name in ["python3", "/usr/bin/python3"] {
        if name.starts_with('/') && !Path::new(name).exists() {
            continue;
        }
        let python = program(name, &["-c", "import sys; print(sys.executable)"]);
        let home = program(name, &["-c", "import sys; print(sys.base_prefix)"]);
        let mut command = Command::new(packed(&python));
        command.env("PYTHONHOME", home).arg(crate::worker::source("busy.py"));
        let target = started(&mut command, "Python 3");
        let outcome = Worker::start(&[], &request(target.pid(), AUTO, 3000)).finish();
        assert!(outcome.started().runtime.starts_with("Python 3."), "{}", outcome.started().runtime);
        outcome.blames("guilty");
    }
}

#[test]
fn a_php_program_with_another_name_is_captured_by_its_frames() {
    let shop = packed(&program("php", &["-r", "echo PHP_BINARY;"]));
    let mut command = Command::new(shop);
    let target = started(command.arg(crate::worker::source("busy.php")), "PHP");
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 3000)).finish();
    assert_eq!(outcome.started().method, "php");
    outcome.blames("Shop::guilty");
}

#[test]
fn a_ruby_program_with_another_name_is_known() {
    let shop = packed(&program("ruby", &["-e", "print RbConfig.ruby"]));
    let _target = started(Command::new(shop).arg(crate::worker::source("busy.rb")), "Ruby");
}

/// There is no SDK of .NET, nor Erlang with another name, on the machines of the tests: programs that export
/// the same names stand for them.
#[test]
fn programs_are_known_by_the_names_that_they_export() {
    let exporting = |name: &str| {
        let source = directory().join("exports.c");
        let text = format!("#include <unistd.h>\nint {name} = 1;\nint main(void) {{ for (;;) pause(); }}\n");
        std::fs::write(&source, text).unwrap();
        let program = directory().join(format!("app-{name}"));
        let status =
            Command::new("gcc").arg("-rdynamic").arg("-o").arg(&program).arg(&source).status().unwrap();
        assert!(status.success());
        Target::start(&mut Command::new(program))
    };
    for (name, runtime) in [
        ("DotNetRuntimeInfo", Runtime::DotNet),
        ("enif_send", Runtime::Beam),
        ("enif_sender", Runtime::Native),
        ("Py_Initialize", Runtime::Python(None)),
    ] {
        let target = exporting(name);
        let exe = format!("/proc/{}/exe", target.pid());
        let is_started = || std::fs::read_link(&exe).is_ok_and(|path| path.ends_with(format!("app-{name}")));
        assert!(within(Duration::from_secs(10), is_started), "{name}");
        assert_eq!(detect(target.pid()), runtime, "{name}");
    }
}

/// The kinds that a renamed program offers are those of its runtime.
#[test]
fn a_renamed_program_offers_what_its_runtime_can_give() {
    use fleetprof_agent::capture::collector::offers;
    use fleetprof_agent::capture::sight::Sight;
    let shop = packed(&program("node", &["-p", "process.execPath"]));
    let mut command = Command::new(shop);
    command.arg("--inspect-port=0").arg(crate::node::script()).arg("spin");
    let target = started(&mut command, "Node.js");
    let offered = offers(&Sight::of(target.pid()));
    assert!(
        offered.iter().any(|offer| offer.kind == ProfileKind::Alloc && offer.collector == "inspector"),
        "{offered:?}"
    );
    assert!(!offered.iter().any(|offer| offer.kind == ProfileKind::Wall && offer.collector == "native-wall"));
}
