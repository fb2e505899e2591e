//! Java processes, of every Java on this machine: the one in the path, those of the distribution, and those that
//! `FLEETPROF_JAVA` names, with colons between them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use fleetprof_agent::capture::collector;
use fleetprof_agent::capture::jvm::ask;
use fleetprof_agent::capture::protocol::{CaptureRequest, Event, FailureReason};
use fleetprof_agent::capture::sight::Sight;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::ProfileKind::{Alloc, Cpu, Heap, Lock};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;

use crate::worker::{AUTO, Outcome, Target, Worker, compiled, deaths, directory, request, source, within};

/// The distinct Javas of this machine.
pub fn javas() -> &'static BTreeSet<PathBuf> {
    static FOUND: OnceLock<BTreeSet<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let named = std::env::var("FLEETPROF_JAVA").unwrap_or_default();
        let named = named.split(':').filter(|name| !name.is_empty()).map(PathBuf::from);
        let installed = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
        let installed = installed.map(|entry| entry.path().join("bin/java"));
        let all = named.chain(installed).chain([PathBuf::from("/usr/bin/java")]);
        let found: BTreeSet<PathBuf> = all.filter_map(|java| java.canonicalize().ok()).collect();
        assert!(!found.is_empty(), "these tests need a JDK, such as default-jdk-headless");
        found
    })
}

/// `Busy.java` and `Orders.java`, compiled for every Java since 11.
fn classes() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(|| {
        let (out, sources) = (directory(), ["Busy.java", "Orders.java"].map(source));
        let status = Command::new("javac").args(["--release", "11", "-d"]).arg(&out).args(sources).status();
        assert!(status.unwrap().success(), "javac could not compile the targets");
        out
    })
}

/// One Java at a time: it compiles itself in its first seconds, which takes more than a core, and two of them beside
/// a third test would leave each other too little to be sampled.
static TURN: Mutex<()> = Mutex::new(());

/// A Java process.
pub struct Java {
    pub target: Target,
    /// Where it runs: nothing may appear there.
    home: PathBuf,
    /// What it prints.
    log: PathBuf,
    /// Given back when the process has ended.
    _turn: MutexGuard<'static, ()>,
}

impl Java {
    /// One that does this work, once it is ready.
    fn busy(java: &Path, options: &[&str], work: &[&str]) -> Self {
        Self::start(java, options, "Busy", work)
    }

    /// One that runs this class, once it is ready.
    pub fn start(java: &Path, options: &[&str], class: &str, arguments: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (home, log) = (directory(), directory().join("log"));
        let mut command = Command::new(java);
        // Of a loop that another garbage collector compiles, Java before 25 sees nothing.
        command.args(["-XX:+UseG1GC", "-Xmx256m"]).args(options);
        command.arg("-cp").arg(classes()).arg(class).args(arguments).current_dir(&home);
        let out = std::fs::File::create(&log).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        let found = Self { target: Target(command.spawn().unwrap()), home, log, _turn: turn };
        assert!(
            within(Duration::from_secs(60), || found.printed().contains("ready\n")),
            "{}",
            found.printed()
        );
        found
    }

    pub fn pid(&self) -> i32 {
        self.target.pid()
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Recordings that run, by Java's own list.
    fn running(&self) -> String {
        let list = ask(self.pid(), "JFR.check", Duration::from_secs(10)).unwrap();
        list.lines().filter(|line| line.contains("(running)")).collect()
    }

    /// Nothing of a capture is left: no recording, no file in /tmp or where the process runs.
    pub fn assert_clean(&self) {
        assert!(within(Duration::from_secs(5), || self.running().is_empty()), "{}", self.running());
        assert_eq!(left(self.pid()), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(&self.home).unwrap().count(), 0, "{}", self.home.display());
    }
}

fn wanted(java: &Java, kinds: &[ProfileKind], duration_ms: u64) -> CaptureRequest {
    CaptureRequest { profiles: kinds.to_vec(), slice_ms: 2000, ..request(java.pid(), AUTO, duration_ms) }
}

/// Functions by `go tool pprof -top` over the slices of a kind, with their share in %, the heaviest first.
fn shares(outcome: &Outcome, kind: &str, options: &[&str]) -> Vec<(String, f64)> {
    let text = outcome.pprof_of(kind, &[&["-top", "-nodefraction=0"][..], options].concat());
    let rows = text.lines().skip_while(|l| !l.trim_start().starts_with("flat")).skip(1);
    let row = |row: &str| {
        let fields: Vec<&str> = row.split_ascii_whitespace().collect();
        (fields[5..].join(" "), fields[1].trim_end_matches('%').parse().unwrap())
    };
    rows.map(row).collect()
}

/// Files of a capture in /tmp, and directories of Java's recorder.
pub fn left(pid: i32) -> Vec<String> {
    let names = std::fs::read_dir("/tmp").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
    let ours = [format!(".fleetprof-{pid}."), format!(".attach_pid{pid}")];
    let is_left = |name: &String| {
        ours.iter().any(|ours| name.starts_with(ours))
            || name.ends_with(&format!("_{pid}")) && name.starts_with("20")
    };
    names.filter(is_left).collect()
}

/// The first Java of this machine, doing this work.
fn any(options: &[&str], work: &[&str]) -> Java {
    Java::busy(javas().iter().next().unwrap(), options, work)
}

#[test]
fn cpu_allocations_and_locks_are_recorded_with_methods_and_lines_of_every_java() {
    for path in javas() {
        let (java, path) = (Java::busy(path, &[], &["cpu", "alloc", "lock", "park"]), path.display());
        let before = java.target.cpu();
        let outcome = Worker::start(&[], &wanted(&java, &[Cpu, Alloc, Lock], 7000)).finish();
        let used = java.target.cpu() - before;
        let (started, finished) = (outcome.started(), outcome.finished());
        assert_eq!((&*started.method, &*started.runtime), ("jfr", "JVM"), "{path}: {started:?}");
        assert_eq!((&finished.note, &finished.low), (&None, &None), "{path}: {finished:?}");
        assert!(outcome.files_of("cpu").len() >= 2, "{path}: {:?}", outcome.files());
        outcome.blames("Busy.guilty");
        let part = outcome.cpu().as_secs_f64() / used.as_secs_f64();
        assert!((0.4..1.1).contains(&part), "{path}: {part} of the CPU time is in the profile");
        let lines = outcome.pprof(&["-top", "-lines"]);
        // The loop and what it does.
        let is_guilty = |l: &str| [16, 17].iter().any(|n| l.contains(&format!("Busy.guilty Busy:{n}")));
        assert!(lines.lines().any(is_guilty), "{path}: {lines}");
        let (allocates, share) = shares(&outcome, "alloc", &[]).remove(0);
        assert!(allocates == "Busy.allocates" && share > 80.0, "{path}: {allocates} {share}");
        let waits: Vec<String> = shares(&outcome, "lock", &["-cum"]).into_iter().map(|row| row.0).collect();
        let waited = |name: &str| waits.iter().any(|wait| wait == name);
        assert!(waited("Busy.contends") && waited("Busy.awaitsLock"), "{path}: {waits:?}");
        assert!(
            !waits.iter().any(|wait| wait.contains("parkNanos")),
            "only waits for locks count: {waits:?}"
        );
        java.assert_clean();
    }
}

#[test]
fn the_heap_is_counted_by_class_at_the_end_of_every_java() {
    for path in javas() {
        let (java, path) = (Java::busy(path, &[], &["hoard"]), path.display());
        let outcome = Worker::start(&[], &wanted(&java, &[Heap], 3000)).finish();
        let (started, finished) = (outcome.started(), outcome.finished());
        assert_eq!((&*started.collector, &*started.method), ("jvm-heap", "class-histogram"), "{path}");
        assert_eq!(outcome.files_of("heap").len(), 1, "{path}: a heap is of one moment");
        assert!(finished.samples >= 300_000, "{path}: {finished:?}");
        let (class, share) = shares(&outcome, "heap", &[]).remove(0);
        assert!(class == "Busy$Kept" && share > 50.0, "{path}: {class} {share}");
        let objects = outcome.pprof_of("heap", &["-top", "-sample_index=inuse_objects", "-unit=count"]);
        let row =
            objects.lines().find(|line| line.ends_with("Busy$Kept")).unwrap_or_else(|| panic!("{objects}"));
        assert!(row.trim_start().starts_with("300000"), "{path}: {row}");
        java.assert_clean();
    }
}

#[test]
fn java_runs_on_when_the_worker_that_has_its_heap_counted_is_killed() {
    let mut java = any(&[], &["hoard", "cpu"]);
    for (round, moment) in deaths(3, Duration::from_millis(300)) {
        let mut worker = Worker::start(&[], &wanted(&java, &[Heap], 1000));
        assert!(matches!(worker.event(), Some(Event::Started(_))), "{round}");
        std::thread::sleep(Duration::from_millis(900) + moment);
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
        let before = java.target.cpu();
        assert!(within(Duration::from_secs(10), || java.target.cpu() > before), "round {round}");
    }
    assert!(java.target.0.try_wait().unwrap().is_none());
    assert_eq!(left(java.pid()), Vec::<String>::new());
}

#[test]
fn nothing_is_left_and_the_target_runs_on_when_the_worker_is_killed() {
    let mut java = any(&[], &["cpu", "alloc"]);
    for (round, moment) in deaths(6, Duration::from_millis(1250)) {
        let mut request = wanted(&java, &[Cpu, Alloc, Lock], 60_000);
        request.slice_ms = 1000;
        let mut worker = Worker::start(&[], &request);
        // Some rounds end while it attaches, the others while it records or writes a slice.
        if round % 3 == 0 {
            std::thread::sleep(moment / 6);
        } else {
            let event = worker.event();
            assert!(matches!(&event, Some(Event::Started(s)) if s.collector == "jfr"), "{round}: {event:?}");
            std::thread::sleep(moment);
        }
        worker.signal(Signal::SIGKILL);
        worker.child.wait().unwrap();
        let before = java.target.cpu();
        assert!(within(Duration::from_secs(10), || java.target.cpu() > before), "round {round}");
        assert!(java.target.0.try_wait().unwrap().is_none(), "round {round}");
    }
    // The next capture removes what the killed ones left, and ends what they began.
    let outcome = Worker::start(&[], &wanted(&java, &[Cpu], 3000)).finish();
    assert_eq!(outcome.started().collector, "jfr", "{:?}", outcome.started());
    outcome.blames("Busy.guilty");
    java.assert_clean();
}

#[test]
fn sigterm_ends_the_recording_and_keeps_what_it_holds() {
    let java = any(&[], &["cpu"]);
    let mut worker = Worker::start(&[], &wanted(&java, &[Cpu], 60_000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    assert!(java.running().contains("name=fleetprof-"), "{}", java.running());
    // The virtual machine compiles its recorder first, for most of a second.
    std::thread::sleep(Duration::from_millis(5000));
    worker.signal(Signal::SIGTERM);
    let outcome = worker.finish();
    assert!(outcome.finished().stopped, "{:?}", outcome.finished());
    outcome.blames("Busy.guilty");
    java.assert_clean();
}

#[test]
fn another_recording_is_seen_and_left_alone() {
    let java = any(&[], &["cpu"]);
    ask(java.pid(), "JFR.start name=nightly disk=false", Duration::from_secs(10)).unwrap();
    let outcome = Worker::start(&[], &wanted(&java, &[Cpu], 1000)).finish();
    let failed = outcome.failed();
    assert_eq!(failed.reason, FailureReason::OtherProfiler, "{failed:?}");
    assert!(failed.message.contains("the recording \"nightly\" runs"), "{failed:?}");
    assert!(java.running().contains("nightly"), "{}", java.running());
}

#[test]
fn java_that_handles_no_signals_listens_and_is_not_signalled() {
    for path in javas() {
        let mut java = Java::busy(path, &["-Xrs"], &["cpu"]);
        let outcome = Worker::start(&[], &wanted(&java, &[Cpu], 2500)).finish();
        assert_eq!(outcome.started().collector, "jfr", "{}: {:?}", path.display(), outcome.started());
        outcome.blames("Busy.guilty");
        assert!(java.target.0.try_wait().unwrap().is_none(), "{}", path.display());
    }
}

#[test]
fn java_that_does_not_listen_is_not_signalled_and_says_what_to_change() {
    for path in javas() {
        let java = Java::busy(path, &["-XX:+DisableAttachMechanism"], &["cpu"]);
        let offers = collector::offers(&Sight::of(java.pid()));
        let problem = |kind| offers.iter().find(|o| o.kind == kind).and_then(|o| o.problem.clone());
        let message = problem(Alloc).unwrap().message;
        assert!(message.contains("DisableAttachMechanism; start it without"), "{message}");
        assert_eq!(problem(Cpu), None, "native code is sampled");
        let outcome = Worker::start(&[], &wanted(&java, &[Cpu, Alloc], 2000)).finish();
        assert_eq!(outcome.started().collector, "native", "{}", path.display());
        // A collector that is told to try does not send the signal either, at which Java prints its stacks.
        let forced = CaptureRequest { collector: Some("jfr".to_owned()), ..wanted(&java, &[Cpu], 1000) };
        let forced = Worker::start(&[], &forced).finish();
        assert!(forced.failed().message.contains("DisableAttachMechanism"), "{:?}", forced.failed());
        assert!(!java.printed().contains("Full thread dump"), "{}", java.printed());
    }
}

#[test]
fn a_runtime_without_the_recorder_falls_back_to_native_and_says_what_to_add() {
    let jlink = javas().iter().map(|java| java.with_file_name("jlink")).find(|jlink| jlink.exists()).unwrap();
    let bare = directory().join("bare");
    let status = Command::new(jlink).args(["--add-modules", "java.base", "--output"]).arg(&bare).status();
    assert!(status.unwrap().success());
    let java = Java::busy(&bare.join("bin/java"), &[], &["cpu"]);
    let outcome = Worker::start(&[], &wanted(&java, &[Cpu], 2000)).finish();
    let started = outcome.started();
    assert_eq!(started.collector, "native", "{started:?}");
    assert!(started.why.contains("jlink --add-modules jdk.jfr"), "{started:?}");
}

#[test]
fn as_the_same_user_without_any_capability_under_a_strict_filter() {
    let java = javas().iter().next().unwrap().to_str().unwrap();
    let mut launch = Command::new(compiled("launch"));
    launch.args(["-u", "1000", java, "-XX:+UseG1GC", "-cp"]).arg(classes()).args(["Busy", "cpu"]);
    let target = Target::start(&mut launch);
    std::thread::sleep(Duration::from_secs(1));
    let request = CaptureRequest { slice_ms: 2000, ..request(target.pid(), AUTO, 4000) };
    let outcome = Worker::start(&["-u", "1000", "-c", "0", "-s"], &request).finish();
    assert_eq!(outcome.started().collector, "jfr", "{:?}", outcome.started());
    outcome.blames("Busy.guilty");
}

/// Rounds of work for each second of CPU time that a Java process does, and the share of a core that a worker
/// takes which captures it, if one does.
fn pace(options: &[&str], captures: bool) -> (f64, f64) {
    let mut java = any(options, &["cpu", "alloc", "lock", "park", "20"]);
    let before = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let outcome = captures.then(|| {
        let mut request = wanted(&java, &[Cpu, Alloc, Lock], 15_000);
        request.slice_ms = 10_000;
        Worker::start(&[], &request).finish()
    });
    assert!(outcome.is_none_or(|outcome| outcome.started().collector == "jfr"));
    let after = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |usage: nix::sys::resource::Usage| {
        let time = usage.user_time() + usage.system_time();
        time.num_microseconds() as f64 / 1e6
    };
    let worker = (seconds(after) - seconds(before)) / 15.0;
    assert!(within(Duration::from_secs(60), || java.printed().contains("rounds ")));
    let printed = java.printed();
    let rounds: f64 = printed.split("rounds ").nth(1).unwrap().trim().parse().unwrap();
    let start = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    java.target.0.wait().unwrap();
    let cpu = seconds(getrusage(UsageWho::RUSAGE_CHILDREN).unwrap()) - seconds(start);
    (rounds / cpu, worker)
}

#[test]
#[ignore = "measures for some minutes, on an idle machine"]
fn figures_beside_plain_jfr() {
    let file = directory().join("plain.jfr");
    let plain = format!("-XX:StartFlightRecording=settings=profile,filename={}", file.display());
    let mut paces = [const { Vec::new() }; 3];
    let mut worker = 0.0;
    for _ in 0..3 {
        paces[0].push(pace(&[], false).0);
        paces[1].push(pace(&[&plain], false).0);
        let (ours, share) = pace(&[], true);
        paces[2].push(ours);
        worker = share;
    }
    let median = |paces: &mut Vec<f64>| {
        paces.sort_by(f64::total_cmp);
        paces[paces.len() / 2]
    };
    let [alone, plain, ours] = paces.each_mut().map(median);
    println!(
        "work for each second of CPU time, beside a process that is left alone: plain JFR {:.3}, captured {:.3}; \
         the worker takes {:.2} % of a core",
        plain / alone,
        ours / alone,
        100.0 * worker
    );
    assert!(ours > 0.9 * plain, "{ours} rounds, with plain JFR {plain}");
}
