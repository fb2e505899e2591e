//! .NET processes. The runtime and its compiler come from `tests/dotnet.sh`; `FLEETPROF_DOTNET` is a command
//! line that runs a program with another runtime.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use fleetprof_agent::capture::collector;
use fleetprof_agent::capture::protocol::{CaptureRequest, Event};
use fleetprof_agent::capture::sight::Sight;
use fleetprof_crds::ProfileKind::{self, Alloc, Cpu};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::container::{Container, capture_busy};
use crate::worker::{AUTO, Outcome, Target, Worker, compiled, deaths, directory, request, source, within};

/// What the threads of the runtime are called that send the events of a session; one more takes commands.
const SENDER: &str = ".NET EventPipe";

/// The runtime, where every user can run it. It is large, so that one copy is kept.
fn runtime() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/dotnet.sh");
        let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "tests/dotnet.sh brought no .NET");
        let cached = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        let version = cached.file_name().unwrap().to_str().unwrap();
        let copy = std::env::temp_dir().join(format!("fleetprof-{version}"));
        if !copy.exists() {
            let fresh = directory().join("dotnet");
            let status = Command::new("cp").arg("-r").args([&cached, &fresh]).status().unwrap();
            assert!(status.success());
            // Another run of the tests may be first.
            let _kept = std::fs::rename(fresh, &copy);
        }
        copy
    })
}

/// `Busy.cs`, compiled, with its debug information beside it.
fn program() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| program_of("busy", "Busy.cs", "beside"))
}

/// `Orders.cs`, compiled, with its debug information in it.
fn orders() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| program_of("orders", "Orders.cs", "embedded"))
}

/// The .NET service that waits, once it is ready.
pub fn ordering(arguments: &[&str]) -> Target {
    let words = words_of(orders(), arguments);
    said_ready(Target::start(Command::new(&words[0]).args(&words[1..]).stderr(Stdio::null())))
}

/// A program in a directory of its own, with the lines of its methods `beside` it, `embedded` in it, or with
/// `none`.
pub fn program_of(name: &str, file: &str, lines: &str) -> PathBuf {
    let own = directory().join(format!("{name}-{lines}"));
    std::fs::create_dir_all(&own).unwrap();
    let out = own.join(format!("{name}.dll"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/csharp.sh");
    let status = Command::new(script).arg(lines).arg(source(file)).arg(&out).status();
    assert!(status.unwrap().success(), "tests/csharp.sh could not compile {file}");
    let config = r#"{"runtimeOptions": {"tfm": "net8.0", "framework": {"name": "Microsoft.NETCore.App",
        "version": "8.0.0"}, "configProperties": {"System.Globalization.Invariant": true}}}"#;
    std::fs::write(out.with_extension("runtimeconfig.json"), config).unwrap();
    out
}

/// The words of a command line that runs `Busy.cs`.
fn words(work: &[&str]) -> Vec<String> {
    words_of(program(), work)
}

fn words_of(program: &Path, work: &[&str]) -> Vec<String> {
    let own = || format!("{} exec", runtime().join("dotnet").display());
    let command = std::env::var("FLEETPROF_DOTNET").unwrap_or_else(|_| own());
    let fixed = command.split_ascii_whitespace().chain(program.to_str());
    fixed.chain(work.iter().copied()).map(str::to_owned).collect()
}

/// One that runs another compilation of `Busy.cs`, and does this work already.
pub fn busy_by(program: &Path, work: &[&str]) -> Target {
    let words = words_of(program, work);
    ready(Target::start(Command::new(&words[0]).args(&words[1..]).stderr(Stdio::null())))
}

/// A .NET process that will do this work.
pub fn started(work: &[&str]) -> Target {
    let words = words(work);
    said_ready(Target::start(Command::new(&words[0]).args(&words[1..]).stderr(Stdio::null())))
}

/// One that does this work already.
fn busy(work: &[&str]) -> Target {
    busy_with(work, &[])
}

/// The same with variables in its environment.
fn busy_with(work: &[&str], environment: &[(&str, &str)]) -> Target {
    let words = words(work);
    let mut command = Command::new(&words[0]);
    ready(Target::start(command.args(&words[1..]).envs(environment.iter().copied()).stderr(Stdio::null())))
}

fn ready(target: Target) -> Target {
    let target = said_ready(target);
    // Compiling the program again, better, is over then.
    works(&target, Duration::from_secs(1));
    target
}

fn said_ready(mut target: Target) -> Target {
    let mut said = [0; 6];
    std::io::Read::read_exact(target.0.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(&said, b"ready\n");
    target
}

/// Waits until the target has used so much CPU time: a busy machine gives it little.
pub fn works(target: &Target, cpu: Duration) {
    let before = target.cpu();
    within(Duration::from_secs(50), || target.cpu() >= before + cpu);
}

pub fn wanted(target: &Target, kinds: &[ProfileKind], duration_ms: u64) -> CaptureRequest {
    CaptureRequest { profiles: kinds.to_vec(), ..request(target.pid(), AUTO, duration_ms) }
}

/// Captures until the target has used two seconds of CPU time.
pub fn capture(target: &Target, kinds: &[ProfileKind]) -> Outcome {
    let mut worker = Worker::start(&[], &wanted(target, kinds, 60_000));
    let first = worker.event().unwrap();
    if matches!(first, Event::Started(_)) {
        works(target, Duration::from_secs(2));
        worker.signal(Signal::SIGTERM);
    }
    let mut outcome = worker.finish();
    outcome.events.insert(0, first);
    outcome
}

/// Sessions that are open in a process.
fn sessions(target: &Target) -> usize {
    let names = std::fs::read_dir(format!("/proc/{}/task", target.pid())).unwrap().flatten();
    let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == SENDER).count().saturating_sub(1)
}

/// Whether the target goes on using CPU time.
fn runs_on(target: &Target) -> bool {
    let before = target.cpu();
    within(Duration::from_secs(10), || target.cpu() > before + Duration::from_millis(100))
}

/// Asserts that nothing is left in the target: it runs, no session is open, and no map of methods is there.
pub fn is_well(target: &Target) {
    assert!(runs_on(target), "{}", target.status("State"));
    assert!(within(Duration::from_secs(5), || sessions(target) == 0), "{} sessions", sessions(target));
    for name in ["perf-PID.map", "perfinfo-PID.map"] {
        let map = Path::new("/tmp").join(name.replace("PID", &target.pid().to_string()));
        assert!(!map.exists(), "{}", map.display());
    }
}

/// The share of a function in %, by `go tool pprof -top` over the slices of a kind.
pub fn share(outcome: &Outcome, kind: &str, function: &str) -> f64 {
    let text = outcome.pprof_of(kind, &["-top", "-nodefraction=0"]);
    let row = text.lines().find(|row| row.ends_with(&format!(" {function}")));
    row.map_or(0.0, |row| row.split_ascii_whitespace().nth(1).unwrap().trim_end_matches('%').parse().unwrap())
}

#[test]
fn the_guilty_method_is_blamed_and_waiting_threads_are_not() {
    let target = busy(&["spin", "sleep"]);
    let outcome = capture(&target, &[Cpu]);
    outcome.blames("Busy.Guilty");
    let started = outcome.started();
    assert_eq!((&*started.collector, &*started.method, &*started.runtime), ("eventpipe", "perf", ".NET"));
    assert!(started.why.contains(" told the names of "), "{started:?}");
    assert!(share(&outcome, "cpu", "Busy.Innocent") > 3.0, "{}", outcome.pprof(&["-top"]));
    let waiting = share(&outcome, "cpu", "Busy.Sleep");
    assert!(waiting < 3.0, "{}", outcome.pprof(&["-top"]));
    // Two seconds, and what was used while the capture ended.
    let seconds = outcome.cpu().as_secs_f64();
    assert!((1.2..4.0).contains(&seconds), "{seconds} s of CPU time are in the profile");
    // The callers of the guilty one are named as well, down to the runtime.
    let stacks = outcome.pprof(&["-traces"]);
    assert!(
        ["Busy.Spins", "Busy.Spin\n", "libcoreclr.so"].iter().all(|part| stacks.contains(part)),
        "{stacks}"
    );
    assert!(!outcome.finished().notes.iter().any(|note| note.contains("without names")), "{outcome:?}");
    is_well(&target);
}

#[test]
fn the_method_that_allocates_is_blamed_beside_the_one_that_computes() {
    let target = busy(&["spin", "alloc"]);
    let outcome = Worker::start(&[], &wanted(&target, &[Cpu, Alloc], 6000)).finish();
    assert!(share(&outcome, "cpu", "Busy.Guilty") > 50.0, "{}", outcome.pprof(&["-top"]));
    assert!(share(&outcome, "alloc", "Busy.Allocates") > 80.0, "{}", outcome.pprof_of("alloc", &["-top"]));
    assert!(outcome.files_of("alloc").len() >= 2, "{:?}", outcome.files());
    is_well(&target);
    let outcome = capture(&target, &[Alloc]);
    assert_eq!(outcome.started().method, "eventpipe");
    assert!(share(&outcome, "alloc", "Busy.Allocates") > 80.0, "{}", outcome.pprof_of("alloc", &["-top"]));
    is_well(&target);
}

#[test]
fn a_method_that_was_compiled_before_the_program_ran_has_its_name() {
    // It lies in a file that has no symbols, and stays there.
    let target = busy_with(&["hash"], &[("DOTNET_TieredCompilation", "0")]);
    let outcome = capture(&target, &[Cpu]);
    outcome.blames("System.Marvin.ComputeHash32");
    is_well(&target);
}

#[test]
fn a_target_survives_the_death_of_its_worker_at_any_moment() {
    let target = busy(&["spin", "alloc"]);
    for (round, moment) in deaths(6, Duration::from_millis(1600)) {
        let kinds: &[ProfileKind] = if round % 2 == 0 { &[Cpu, Alloc] } else { &[Cpu] };
        let mut worker = Worker::start(&[], &wanted(&target, kinds, 60_000));
        // From before the first session to the second slice.
        std::thread::sleep(moment);
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
        assert!(runs_on(&target), "round {round}: {}", target.status("State"));
    }
    // What the killed ones left has ended by itself, or ends with the next session.
    let outcome = capture(&target, &[Cpu]);
    assert_eq!(outcome.started().collector, "eventpipe", "{:?}", outcome.started());
    assert!(share(&outcome, "cpu", "Busy.Guilty") > 50.0, "{}", outcome.pprof(&["-top"]));
    is_well(&target);
}

#[test]
fn sigterm_ends_a_capture_with_its_last_slice_and_ends_the_session() {
    let target = busy(&["spin", "alloc"]);
    let mut worker = Worker::start(&[], &wanted(&target, &[Cpu, Alloc], 60_000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    assert_eq!(sessions(&target), 1);
    works(&target, Duration::from_secs(2));
    worker.signal(Signal::SIGTERM);
    let outcome = worker.finish();
    assert!(outcome.finished().stopped && outcome.finished().samples > 10, "{:?}", outcome.finished());
    assert!(share(&outcome, "cpu", "Busy.Guilty") > 50.0, "{}", outcome.pprof(&["-top"]));
    assert!(share(&outcome, "alloc", "Busy.Allocates") > 80.0, "{}", outcome.pprof_of("alloc", &["-top"]));
    is_well(&target);
}

#[test]
fn a_target_that_stops_is_left_in_order() {
    let target = busy(&["spin", "alloc"]);
    let signal = |signal| kill(Pid::from_raw(target.pid()), signal).unwrap();
    let mut worker = Worker::start(&[], &wanted(&target, &[Cpu, Alloc], 3000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    signal(Signal::SIGSTOP);
    // It ends in time, though the target does not answer.
    let _outcome = worker.finish();
    assert!(target.status("State").starts_with('T'), "{}", target.status("State"));
    signal(Signal::SIGCONT);
    is_well(&target);
}

#[test]
fn what_was_recorded_before_the_target_ended_is_kept() {
    let target = busy(&["spin", "alloc"]);
    let mut worker = Worker::start(&[], &wanted(&target, &[Cpu, Alloc], 60_000));
    while !matches!(worker.event().expect("a slice before the worker ends"), Event::Slice(_)) {}
    kill(Pid::from_raw(target.pid()), Signal::SIGKILL).unwrap();
    let outcome = worker.finish();
    assert!(outcome.events.iter().any(|e| matches!(e, Event::Finished(f) if f.target_exited)), "{outcome:?}");
}

#[test]
fn without_a_socket_machine_code_is_profiled_and_what_helps_is_said() {
    let target = busy_with(&["spin"], &[("DOTNET_EnableDiagnostics", "0")]);
    let offers = collector::offers(&Sight::of(target.pid()));
    let of = |kind| offers.iter().find(|offer| offer.kind == kind).unwrap();
    assert_eq!((&*of(Cpu).collector, &of(Cpu).problem), ("native", &None));
    let problem = of(Alloc).problem.clone().unwrap().message;
    assert!(problem.contains("DOTNET_EnableDiagnostics is 0"), "{problem}");
    // What is lacking is said of a capture that went to its end.
    let outcome = Worker::start(&[], &wanted(&target, &[Cpu], 2500)).finish();
    assert_eq!(outcome.started().collector, "native");
    let note = outcome.finished().note.clone().unwrap_or_default();
    assert!(note.contains("without names") && note.contains("DOTNET_EnableDiagnostics is 0"), "{note}");
    // A collector that is told to try says the same.
    let forced = CaptureRequest { collector: Some("eventpipe".into()), ..wanted(&target, &[Cpu], 1000) };
    let forced = Worker::start(&[], &forced).finish();
    assert!(forced.failed().message.contains("DOTNET_EnableDiagnostics is 0"), "{:?}", forced.failed());
}

#[test]
fn the_socket_is_found_where_the_process_keeps_temporary_files() {
    let own = directory();
    let target = busy_with(&["spin"], &[("TMPDIR", own.to_str().unwrap())]);
    let outcome = capture(&target, &[Cpu]);
    assert_eq!(outcome.started().collector, "eventpipe", "{:?}", outcome.started());
    outcome.blames("Busy.Guilty");
    is_well(&target);
}

#[test]
fn as_the_same_user_without_any_capability_under_a_strict_filter() {
    let mut launch = Command::new(compiled("launch"));
    launch.args(["-u", "1000"]).args(words(&["spin", "sleep"])).stderr(Stdio::null());
    let target = ready(Target::start(&mut launch));
    let outcome =
        Worker::start(&["-u", "1000", "-c", "0", "-s"], &request(target.pid(), AUTO, 8000)).finish();
    let started = outcome.started();
    assert_eq!((&*started.collector, &*started.method), ("eventpipe", "ptrace"), "{started:?}");
    outcome.blames("Busy.Guilty");
    is_well(&target);
}

#[test]
fn all_processes_of_a_container_are_captured_with_their_names() {
    let container = Container::new();
    let dotnet = words(&["spin"]).join(" ");
    let all = format!("{dotnet} & {dotnet} & {} spin & wait", compiled("hot").display());
    let shell = container.start(&["sh", "-c", &all]);
    let outcome = capture_busy(&container, &shell, 8000);
    let (managed, native) = (share(&outcome, "cpu", "Busy.Guilty"), share(&outcome, "cpu", "guilty"));
    let top = outcome.pprof(&["-top"]);
    assert!(managed > 30.0 && native > 10.0 && managed + native > 70.0, "{managed} {native}\n{top}");
    assert_eq!(outcome.finished().cover.unwrap().processes, 3, "{:?}", outcome.finished());
}

#[test]
fn a_program_that_only_looks_like_dotnet_is_captured_as_machine_code() {
    // It has the library of the runtime mapped, and nobody listens.
    let library = directory().join("libcoreclr.so");
    std::fs::copy(compiled("hot"), &library).unwrap();
    let target = Target::start(Command::new(&library).arg("spin"));
    let outcome = capture(&target, &[Cpu]);
    assert_eq!(outcome.started().collector, "native", "{:?}", outcome.started());
    assert!(outcome.started().why.contains("mount an emptyDir at /tmp"), "{:?}", outcome.started());
    outcome.blames_the_guilty();
}
