//! PHP targets.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fleetprof_agent::capture::protocol::{CaptureRequest, Event, FailureReason};
use fleetprof_agent::capture::runtime::{Runtime, detect};
use fleetprof_crds::ProfileKind;
use fleetprof_profile::{IDLE, fold_idle, top};

use crate::container::Container;
use crate::wall::{elapsed, profile, samples, time};
use crate::worker::{AUTO, Outcome, Target, Worker, directory, request, within};

const PHP: Option<&str> = Some("php");
/// What is waited for on a machine that has other work.
const LONG: Duration = Duration::from_secs(30);

/// `busy.php`, where every user can read it.
fn script() -> PathBuf {
    let path = directory().join("busy.php");
    std::fs::write(&path, include_str!("targets/busy.php")).unwrap();
    path
}

/// Starts `busy.php` with options of PHP, and waits until it works.
fn php(options: &[&str], mode: &str) -> Target {
    let mut command = Command::new("php");
    let target = Target::start(command.args(options).arg(script()).arg(mode));
    assert!(mode == "sleep" || runs_on(&target), "{}", target.status("State"));
    target
}

/// Whether the target goes on using CPU time.
fn runs_on(target: &Target) -> bool {
    let before = target.cpu();
    within(LONG, || target.cpu() > before + Duration::from_millis(300))
}

fn line_of(what: &str) -> usize {
    1 + include_str!("targets/busy.php").lines().position(|line| line.contains(what)).unwrap()
}

fn blames_the_guilty(outcome: &Outcome) {
    outcome.blames("Shop::guilty");
    let lines = outcome.pprof(&["-top", "-lines"]);
    let place = format!("busy.php:{}", line_of("// the guilty line"));
    assert!(lines.lines().any(|l| l.contains("Shop::guilty") && l.contains(&place)), "{lines}");
}

#[test]
fn the_guilty_method_is_blamed_with_its_line() {
    for options in
        [&[][..], &["-dopcache.enable_cli=1"], &["-dopcache.enable_cli=1", "-dopcache.jit_buffer_size=16M"]]
    {
        let target = php(options, "spin");
        assert!(matches!(detect(target.pid()), Runtime::Php(_)), "{}", detect(target.pid()));
        let before = target.cpu();
        let outcome = Worker::start(&[], &request(target.pid(), AUTO, 3000)).finish();
        let used = target.cpu() - before;
        let started = outcome.started();
        assert_eq!((started.method.as_str(), started.collector.as_str()), ("php", "php"), "{started:?}");
        blames_the_guilty(&outcome);
        let callers = outcome.pprof(&["-peek", "Shop::guilty"]);
        assert!(callers.contains("work"), "{callers}");
        let part = outcome.cpu().as_secs_f64() / used.as_secs_f64();
        assert!((0.6..1.1).contains(&part), "{part} of the CPU time is in the profile");
        assert!(runs_on(&target) && outcome.finished().note.is_none(), "{:?}", outcome.finished());
    }
}

#[test]
fn sleeping_is_not_cpu_time() {
    let target = php(&[], "sleep");
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 2000)).finish();
    // It wakes twenty times a second, and may be seen then.
    let is_idle =
        matches!(outcome.events.last(), Some(Event::Failed(f)) if f.reason == FailureReason::NoSamples);
    assert!(is_idle || outcome.cpu() < Duration::from_millis(100), "{outcome:?}");
}

#[test]
fn under_a_strict_seccomp_filter_as_the_same_user() {
    let mut command = Command::new(crate::worker::compiled("launch"));
    let target = Target::start(command.args(["-u", "1000", "php"]).arg(script()).arg("spin"));
    assert!(runs_on(&target));
    let outcome =
        Worker::start(&["-u", "1000", "-c", "0", "-s"], &request(target.pid(), AUTO, 3000)).finish();
    assert_eq!(outcome.started().method, "php", "{:?}", outcome.started());
    blames_the_guilty(&outcome);
}

#[test]
fn another_users_process_is_refused_with_what_helps() {
    let target = php(&[], "spin");
    let outcome = Worker::start(&["-u", "1000"], &request(target.pid(), PHP, 2000)).finish();
    let failed = outcome.failed();
    assert_eq!(failed.reason, FailureReason::PermissionDenied, "{failed:?}");
    assert!(failed.message.contains("runAsUser"), "{failed:?}");
}

/// PHP-FPM of whatever version there is.
fn fpm() -> PathBuf {
    let folders = ["/usr/sbin", "/usr/local/sbin"].map(Path::new);
    let names = folders.into_iter().filter_map(|f| std::fs::read_dir(f).ok()).flatten();
    let is_fpm = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("php-fpm");
    names
        .map(|entry| entry.unwrap().path())
        .find(is_fpm)
        .unwrap_or_else(|| panic!("these tests need php-fpm"))
}

/// Has FPM run a script; waits for its end. A request of the FastCGI protocol, without a body.
fn serve(socket: &Path, script: &Path) -> bool {
    const BEGIN: u8 = 1;
    const PARAMETERS: u8 = 4;
    const BODY: u8 = 5;
    let record = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[1, kind, 0, 1, length[0], length[1], 0, 0], content].concat()
    };
    let pair = |name: &str, value: &str| {
        let lengths = [u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap()];
        [&lengths, name.as_bytes(), value.as_bytes()].concat()
    };
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let parameters =
        [pair("SCRIPT_FILENAME", script.to_str().unwrap()), pair("REQUEST_METHOD", "GET")].concat();
    let all = [
        record(BEGIN, &[0, 1, 0, 0, 0, 0, 0, 0]),
        record(PARAMETERS, &parameters),
        record(PARAMETERS, &[]),
        record(BODY, &[]),
    ];
    stream.write_all(&all.concat()).is_ok() && stream.read_to_end(&mut Vec::new()).is_ok()
}

/// FPM with two workers in a container of its own, once it serves the script.
fn serving(script: &Path) -> (Container, Target, PathBuf) {
    let folder = directory();
    let socket = folder.join("fpm.sock");
    let settings = format!(
        "[global]\nerror_log = /dev/stderr\ndaemonize = no\n[www]\nuser = nobody\ngroup = nogroup\nlisten = {}\n\
         pm = static\npm.max_children = 2\n",
        socket.display()
    );
    let file = folder.join("fpm.conf");
    std::fs::write(&file, settings).unwrap();
    let container = Container::new();
    let program = fpm();
    let master = container.start(&[program.to_str().unwrap(), "-y", file.to_str().unwrap()]);
    assert!(within(LONG, || serve(&socket, script)), "FPM does not serve");
    (container, master, socket)
}

#[test]
fn workers_of_fpm_without_a_request_are_idle() {
    let (container, master, _socket) = serving(&script());
    let ask = CaptureRequest { profiles: vec![ProfileKind::Wall], ..container.request(&master, 2500) };
    let outcome = Worker::start(&[], &ask).finish();
    assert_eq!(outcome.started().method, "php", "{:?}", outcome.started());
    let wall = samples(&outcome, "wall");
    let waits = time(&wall, "[no PHP code]", &[("thread_state", "blocked")]);
    // The one that starts the others, and both of them.
    assert!(waits > 2.5 * elapsed(&outcome), "{waits} ns of {} ns", elapsed(&outcome));
    let mut folded = profile(&outcome, "wall");
    fold_idle(&mut folded);
    let top = top(&folded, 1, 9);
    let idle = top.rows.iter().find(|row| row.name == IDLE).unwrap();
    // The one that starts the others looks after them once a second, and may just do so.
    let rest: i64 = top.rows.iter().filter(|row| row.name != IDLE).map(|row| row.self_value).sum();
    assert!(rest < idle.self_value / 10, "{top:?}");
}

#[test]
fn the_workers_of_fpm_are_profiled() {
    let script = script();
    let (container, master, socket) = serving(&script);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let clients = [(); 2].map(|()| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    serve(&socket, &script);
                }
            })
        });
        let outcome = Worker::start(&[], &container.request(&master, 5000)).finish();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        outcome
    });
    // Opcache has functions run without storing where they are: there may be no line.
    outcome.blames("Shop::guilty");
    assert_eq!(outcome.started().method, "php", "{:?}", outcome.started());
    let cover = outcome.finished().cover.unwrap();
    let share = cover.cpu_nanos * 100 / cover.used_nanos.unwrap();
    assert!((50..=110).contains(&share), "{share} % {:?}", outcome.finished());
}

#[test]
fn a_program_with_phps_name_falls_back_to_machine_code() {
    let program = directory().join("php");
    std::fs::copy(crate::worker::compiled("hot"), &program).unwrap();
    let target = Target::start(Command::new(&program).arg("spin").stderr(Stdio::null()));
    let outcome = Worker::start(&[], &request(target.pid(), AUTO, 2000)).finish();
    outcome.blames_the_guilty();
    assert_eq!(outcome.started().collector, "native", "{:?}", outcome.started());
}
