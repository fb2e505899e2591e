//! All processes of a container are one target. A container is a cgroup here, as it is for the kernel.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_agent::capture::protocol::{CaptureRequest, Event, FailureReason, Finished};
use fleetprof_crds::ProfileKind::{Cpu, Wall};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::worker::{
    AUTO, DEFAULT_CAPABILITIES, Outcome, Target, Worker, compiled, directory, request, within,
};

/// A container of the kubelet, as far as the kernel knows one.
pub struct Container {
    id: String,
    cgroup: PathBuf,
    /// One container at a time: they fill the machine, and what is measured here is shares of CPU time.
    _alone: MutexGuard<'static, ()>,
}

impl Container {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let id = format!("{:032x}{:032x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let roots = ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"];
        let root = roots.map(Path::new).into_iter().find(|r| r.join("cgroup.procs").exists());
        let cgroup = root.unwrap().join("kubepods/fleetprof-test").join(&id);
        std::fs::create_dir_all(&cgroup).unwrap();
        Self { id, cgroup, _alone: alone }
    }

    /// Starts a command in the container, as its first process or another one.
    pub fn start(&self, command: &[&str]) -> Target {
        let enter = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.cgroup.display());
        Target::start(Command::new("sh").args(["-c", &enter, "sh"]).args(command))
    }

    /// A request to capture it, by one of its processes.
    pub fn request(&self, target: &Target, duration_ms: u64) -> CaptureRequest {
        let container = Some(self.id.clone());
        CaptureRequest { container, ..request(target.pid(), AUTO, duration_ms) }
    }

    /// Waits until the program works: an interpreter starts slowly on a busy machine.
    pub fn works(&self, target: &Target) {
        let used = || fleetprof_agent::proc::container_cpu(target.pid(), &self.id).unwrap_or(0);
        assert!(within(Duration::from_secs(30), || used() > 400_000_000), "the container does not work");
    }

    pub fn pids(&self) -> Vec<Pid> {
        let text = std::fs::read_to_string(self.cgroup.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw).collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let empty = || {
            self.pids().into_iter().for_each(|pid| {
                let _gone = kill(pid, Signal::SIGKILL);
            });
            self.pids().is_empty()
        };
        within(Duration::from_secs(5), empty);
        within(Duration::from_secs(5), || std::fs::remove_dir(&self.cgroup).is_ok());
    }
}

/// A copy of a target's source that every user can read.
fn script(name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = directory().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn busy() -> String {
    script("busy.py", include_str!("targets/busy.py"))
}

pub fn forks() -> String {
    script("forks.py", include_str!("targets/forks.py"))
}

/// Captures a container once it works.
pub fn capture_busy(container: &Container, target: &Target, duration_ms: u64) -> Outcome {
    container.works(target);
    capture(container, target, duration_ms)
}

fn capture(container: &Container, target: &Target, duration_ms: u64) -> Outcome {
    Worker::start(&[], &container.request(target, duration_ms)).finish()
}

/// CPU time in the profile in % of what the cgroup counted.
pub fn coverage(finished: &Finished) -> u64 {
    let cover = finished.cover.unwrap();
    cover.cpu_nanos * 100 / cover.used_nanos.unwrap()
}

/// The values of the label `process`, by `go tool pprof`.
pub fn processes(outcome: &Outcome) -> String {
    let tags = outcome.pprof(&["-tags"]);
    let from = tags.find("process:").unwrap_or_else(|| panic!("no label in {tags}"));
    tags[from..].to_owned()
}

#[test]
fn the_coverage_of_a_capture_without_cpu_time_is_unknown() {
    let container = Container::new();
    let target = container.start(&[compiled("hot").to_str().unwrap(), "spin"]);
    container.works(&target);
    for (kinds, is_known) in [(vec![Wall], false), (vec![Cpu, Wall], true)] {
        let request = CaptureRequest { profiles: kinds, ..container.request(&target, 1500) };
        let outcome = Worker::start(&[], &request).finish();
        let finished = outcome.finished();
        assert_eq!(finished.cover.unwrap().used_nanos.is_some(), is_known, "{finished:?}");
    }
}

/// Asserts that the profile is of the guilty function and of most of the container's CPU time.
pub fn is_whole(outcome: &Outcome) {
    outcome.blames_the_guilty();
    let finished = outcome.finished();
    let share = coverage(finished);
    assert!((70..=130).contains(&share), "{share} % {finished:?}");
    assert_eq!((&finished.low, &finished.note), (&None, &None), "{finished:?}");
    let cover = finished.cover.unwrap();
    assert_eq!(cover.cpu_nanos, u64::try_from(outcome.cpu().as_nanos()).unwrap(), "what is said is true");
}

#[test]
fn a_shell_that_starts_the_program_without_exec() {
    let container = Container::new();
    let entrypoint = script("entrypoint.sh", &format!("#!/bin/sh\necho up\npython3 {}\n", busy()));
    let shell = container.start(&[&entrypoint]);
    let outcome = capture_busy(&container, &shell, 4000);
    is_whole(&outcome);
    assert!(processes(&outcome).contains("python3"), "{}", processes(&outcome));
}

#[test]
fn a_child_that_multiprocessing_spawned() {
    let container = Container::new();
    let parent = container.start(&["python3", &forks(), "spawn"]);
    is_whole(&capture_busy(&container, &parent, 4000));
}

#[test]
fn a_daemon_whose_parent_is_outside_of_the_container() {
    let container = Container::new();
    let daemonize = format!("setsid sh -c 'python3 {} &'; exec tail -f /dev/null", busy());
    let first = container.start(&["sh", "-c", &daemonize]);
    is_whole(&capture_busy(&container, &first, 4000));
}

#[test]
fn workers_that_gave_themselves_names() {
    let container = Container::new();
    let master = container.start(&["python3", &forks(), "prefork"]);
    let outcome = capture_busy(&container, &master, 4000);
    is_whole(&outcome);
    let labels = processes(&outcome);
    assert!(labels.contains("gunicorn: one") && labels.contains("gunicorn: two"), "{labels}");
    assert!(outcome.finished().cover.unwrap().processes >= 2, "{:?}", outcome.finished());
}

#[test]
fn a_process_that_is_born_and_one_that_ends_during_the_capture() {
    let container = Container::new();
    let late = format!("{hot} burst 2500; sleep 1; python3 {}", busy(), hot = compiled("hot").display());
    let shell = container.start(&["sh", "-c", &late]);
    let outcome = capture(&container, &shell, 9000);
    let labels = processes(&outcome);
    assert!(labels.contains("hot") && labels.contains("python3"), "{labels}");
    // The shell between them may be sampled while it starts one.
    assert!((2..=3).contains(&outcome.finished().cover.unwrap().processes), "{:?}", outcome.finished());
    assert!(coverage(outcome.finished()) >= 60, "{:?}", outcome.finished());
    assert!(!outcome.finished().target_exited);
    outcome.blames_the_guilty();
}

#[test]
fn a_program_that_becomes_another_one() {
    let container = Container::new();
    let shell = container.start(&["sh", "-c", &format!("sleep 1; exec python3 {}", busy())]);
    let outcome = capture(&container, &shell, 6000);
    outcome.blames_the_guilty();
    assert!(coverage(outcome.finished()) >= 50, "{:?}", outcome.finished());
}

#[test]
fn more_processes_than_are_captured_at_a_time() {
    let container = Container::new();
    let many = format!("for i in $(seq 20); do {} spin & done; wait", compiled("hot").display());
    let shell = container.start(&["sh", "-c", &many]);
    let outcome = capture_busy(&container, &shell, 5000);
    outcome.blames_the_guilty();
    let finished = outcome.finished();
    let said = finished.low.clone().or(finished.note.clone()).unwrap_or_default();
    assert!(said.contains("left out: at most 16 are captured at a time"), "{finished:?}");
    assert!((16..=20).contains(&finished.cover.unwrap().processes), "{finished:?}");
    assert!((40..=110).contains(&coverage(finished)), "{} % {finished:?}", coverage(finished));
}

#[test]
fn a_starved_agent_says_how_little_it_saw() {
    let container = Container::new();
    let target = container.start(&["python3", &busy()]);
    container.works(&target);
    let mut worker = Worker::start(&[], &container.request(&target, 5000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    // What a loaded node does to an agent: it runs for a moment, and waits for a second.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        worker.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(970));
        worker.signal(Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(15));
    }
    let outcome = worker.finish();
    let finished = outcome.finished();
    assert!(finished.samples > 0 && coverage(finished) < 50, "{} % {finished:?}", coverage(finished));
    let low = finished.low.clone().unwrap_or_default();
    assert!(low.contains("because it got too little CPU time"), "{low}");
}

#[test]
fn a_runtime_that_cannot_be_read_is_captured_as_machine_code() {
    for name in ["python3", "node"] {
        // The programs have the names of interpreters, and are not.
        let program = directory().join(name);
        std::fs::copy(compiled("hot"), &program).unwrap();
        let container = Container::new();
        let target = container.start(&[program.to_str().unwrap(), "spin"]);
        let outcome = capture_busy(&container, &target, 8000);
        assert_eq!(outcome.started().collector, "native", "{name}: {:?}", outcome.started());
        outcome.blames_the_guilty();
        assert!(coverage(outcome.finished()) >= 50, "{name}: {:?}", outcome.finished());
    }
}

#[test]
fn a_container_that_does_nothing_is_idle_by_its_cgroup() {
    let container = Container::new();
    let sleeper = container.start(&["sleep", "1000"]);
    let outcome = capture(&container, &sleeper, 1000);
    assert_eq!(outcome.failed().reason, FailureReason::NoSamples, "{:?}", outcome.failed());
}

#[test]
fn a_busy_process_of_another_user_is_no_idleness() {
    let container = Container::new();
    let (launch, hot) = (compiled("launch"), compiled("hot"));
    let (launch, hot) = (launch.to_str().unwrap(), hot.to_str().unwrap());
    let sleeper = container.start(&[launch, "-c", DEFAULT_CAPABILITIES, "sleep", "1000"]);
    let _busy = container.start(&[launch, "-u", "1000", hot, "spin"]);
    let outcome = Worker::start(&["-c", DEFAULT_CAPABILITIES], &container.request(&sleeper, 2000)).finish();
    assert_eq!(outcome.failed().reason, FailureReason::PermissionDenied, "{:?}", outcome.failed());
    assert!(outcome.failed().cover.unwrap().used_nanos.unwrap() > 500_000_000, "{:?}", outcome.failed());
}

#[test]
fn processes_of_several_users_are_captured_by_an_agent_that_may_trace_all() {
    let container = Container::new();
    let first = container.start(&[compiled("hot").to_str().unwrap(), "spin"]);
    let (launch, hot) = (compiled("launch"), compiled("hot"));
    let _other = container.start(&[launch.to_str().unwrap(), "-u", "1000", hot.to_str().unwrap(), "spin"]);
    let wanted = CaptureRequest { assume_target_uid: true, ..container.request(&first, 3000) };
    let outcome = Worker::start(&[], &wanted).finish();
    is_whole(&outcome);
    assert_eq!(outcome.finished().cover.unwrap().processes, 2);
}

#[test]
fn a_process_that_gave_up_root_without_exec_is_told_from_one_of_another_user() {
    let container = Container::new();
    let target = container.start(&["python3", &forks(), "giveuproot"]);
    let gave_up = || fleetprof_agent::proc::owner(target.pid()).is_ok_and(|owner| owner.uid == 1000);
    assert!(within(Duration::from_secs(30), gave_up), "it is root still");
    let mut wanted = CaptureRequest { assume_target_uid: true, ..container.request(&target, 2000) };
    let outcome = Worker::start(&["-c", DEFAULT_CAPABILITIES], &wanted).finish();
    let failed = outcome.failed();
    assert_eq!(failed.reason, FailureReason::NotDumpable, "{failed:?}");
    for advice in ["changed its user", "CAP_SYS_PTRACE", "PR_SET_DUMPABLE"] {
        assert!(failed.message.contains(advice), "{advice} is not in {failed:?}");
    }
    wanted.output_dir = directory();
    let outcome = Worker::start(&[], &wanted).finish();
    outcome.blames_the_guilty();
}

/// CPU time of the children that were waited for: of the workers, since targets live on.
fn cpu_of_workers() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

#[test]
#[ignore = "a measurement of a minute, for docs/figures.md"]
fn cost_of_sixteen_processes_beside_one() {
    let python = format!("python3 {}", busy());
    let native = format!("{} spin", compiled("hot").display());
    for (what, program) in [("Python", python), ("native", native)] {
        let cost = |n: u32| {
            let container = Container::new();
            let many = format!("for i in $(seq {n}); do {program} & done; wait");
            let shell = container.start(&["sh", "-c", &many]);
            let before = cpu_of_workers();
            let outcome = capture(&container, &shell, 10_000);
            let (cost, finished) = (cpu_of_workers() - before, outcome.finished().clone());
            println!("{what}, {n}: {cost:.2} CPU s, {} %, {finished:?}", coverage(&finished));
            cost
        };
        let (one, sixteen) = (cost(1), cost(16));
        println!(
            "{what}: 16 processes cost {:.1} times one ({sixteen:.2} s and {one:.2} s in 10 s)",
            sixteen / one
        );
    }
}
