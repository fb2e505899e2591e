//! Processes of several users in one container, by an agent that is root with the runtime's default capabilities:
//! it may become each of them, and look at none of them as root.

use std::time::Duration;

use fleetprof_agent::capture::protocol::{CaptureRequest, Event, Finished};
use fleetprof_agent::proc;
use nix::sys::signal::Signal;

use crate::container::{Container, coverage, forks, is_whole, processes};
use crate::worker::{DEFAULT_CAPABILITIES, Outcome, Target, Worker, compiled, directory, request, within};

const LAUNCH: &[&str] = &["-c", DEFAULT_CAPABILITIES];

/// Starts a program in the container as a user, root with the capabilities that containers have.
fn start_as(container: &Container, uid: &str, command: &[&str]) -> Target {
    let launch = compiled("launch");
    let launch = [launch.to_str().unwrap(), "-c", DEFAULT_CAPABILITIES, "-u", uid];
    container.start(&[&launch, command].concat())
}

fn hot(container: &Container, uid: &str, mode: &str) -> Target {
    start_as(container, uid, &[compiled("hot").to_str().unwrap(), mode])
}

/// What the supervisor asks for.
fn wanted(container: &Container, target: &Target, duration_ms: u64) -> CaptureRequest {
    CaptureRequest { assume_target_uid: true, ..container.request(target, duration_ms) }
}

fn capture(container: &Container, target: &Target, duration_ms: u64) -> Outcome {
    Worker::start(LAUNCH, &wanted(container, target, duration_ms)).finish()
}

/// The workers of users that a worker has started: their pids.
fn workers_of(worker: &Worker) -> Vec<i32> {
    let parent = i32::try_from(worker.child.id()).unwrap();
    let all = proc::ProcTree::new("/proc").processes().unwrap();
    all.into_iter().filter(|p| p.parent == parent && p.is_alive()).map(|p| p.pid).collect()
}

/// A line of a status file, its fields separated by one space.
fn status(pid: i32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_root_master_with_workers_of_other_users_is_captured_whole() {
    let container = Container::new();
    let master = hot(&container, "0", "doze");
    let (_www, _app) = (hot(&container, "33", "spin"), hot(&container, "1000", "spin"));
    container.works(&master);
    let outcome = capture(&container, &master, 5000);
    is_whole(&outcome);
    let finished = outcome.finished();
    println!("coverage {} % of several users", coverage(finished));
    assert_eq!(finished.cover.unwrap().processes, 3, "{finished:?}");
    assert!(processes(&outcome).contains("hot"));
    let seconds: i64 = outcome.profiles().iter().map(|p| p.duration_nanos / 1_000_000).sum();
    assert!((3000..=6500).contains(&seconds), "{seconds} ms are not the length of one capture");
}

#[test]
fn the_same_container_by_one_worker_is_mostly_out_of_reach() {
    let container = Container::new();
    let master = hot(&container, "0", "doze");
    let (_www, _app) = (hot(&container, "33", "spin"), hot(&container, "1000", "spin"));
    // Too little memory for several workers.
    let request = CaptureRequest { memory_bytes: Some(40 << 20), ..wanted(&container, &master, 4000) };
    let outcome = Worker::start(LAUNCH, &request).finish();
    let finished: &Finished = outcome.finished();
    println!("coverage {} % of one user", coverage(finished));
    let low = finished.low.clone().unwrap_or_default();
    assert!(coverage(finished) < 50 && low.contains("processes could not be captured"), "{finished:?}");
}

#[test]
fn each_worker_is_one_user_alone() {
    let container = Container::new();
    let master = hot(&container, "0", "spin");
    let www = hot(&container, "33", "spin");
    let mut worker = Worker::start(LAUNCH, &wanted(&container, &master, 6000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    let become_users =
        || workers_of(&worker).iter().filter(|pid| status(**pid, "Uid:") == "33 33 33 33").count() == 1;
    assert!(within(Duration::from_secs(5), become_users), "{:?}", workers_of(&worker));
    let pids = workers_of(&worker);
    assert_eq!(pids.len(), 2);
    for pid in pids {
        let (uid, gid) = (status(pid, "Uid:"), status(pid, "Gid:"));
        let rights = u64::from_str_radix(&status(pid, "CapEff:"), 16).unwrap();
        match uid.as_str() {
            "33 33 33 33" => {
                assert_eq!((gid.as_str(), rights, status(pid, "Groups:").as_str()), ("33 33 33 33", 0, ""));
                assert_eq!(u64::from_str_radix(&status(pid, "CapPrm:"), 16), Ok(0));
            }
            "0 0 0 0" => assert_eq!(rights & !u64::from_str_radix(DEFAULT_CAPABILITIES, 16).unwrap(), 0),
            other => panic!("a worker of user {other}"),
        }
    }
    // Who traces whom: nobody traces a process of another user.
    for target in [&master, &www] {
        let tracer: i32 = target.status("TracerPid").parse().unwrap();
        assert!(tracer == 0 || status(tracer, "Uid:") == status(target.pid(), "Uid:"));
    }
    is_whole(&worker.finish());
}

#[test]
fn a_worker_of_one_user_captures_no_process_of_another() {
    let container = Container::new();
    let master = hot(&container, "0", "spin");
    let www = hot(&container, "33", "spin");
    for (target, uid) in [(&master, 0), (&www, 33)] {
        let owner = Some(proc::Owner { uid, gid: uid });
        let request = CaptureRequest { owner, output_dir: directory(), ..wanted(&container, target, 2500) };
        // With every capability it could look at all of them.
        let outcome = Worker::start(&[], &request).finish();
        let finished = outcome.finished();
        assert_eq!(finished.cover.unwrap().processes, 1, "{finished:?}");
        let facts = &finished.findings.as_ref().unwrap().facts;
        assert_eq!((facts.refused, facts.left_out), (0, 0), "{finished:?}");
        assert!((20..80).contains(&coverage(finished)), "{} %", coverage(finished));
    }
    // The process of a request must be of the user that it names.
    let owner = Some(proc::Owner { uid: 33, gid: 33 });
    let request = CaptureRequest { container: None, owner, ..wanted(&container, &master, 1000) };
    Worker::start(&[], &request).finish().failed();
}

#[test]
fn a_process_that_gave_up_root_is_said_beside_those_that_are_captured() {
    let container = Container::new();
    let master = hot(&container, "0", "doze");
    let child = container.start(&["python3", &forks(), "giveuproot"]);
    let gave_up = || proc::owner(child.pid()).is_ok_and(|owner| owner.uid == 1000);
    assert!(within(Duration::from_secs(30), gave_up), "it is root still");
    std::thread::sleep(Duration::from_millis(500));
    let outcome = capture(&container, &master, 4000);
    outcome.blames_the_guilty();
    let finished = outcome.finished();
    let said = finished.low.clone().unwrap_or_default();
    assert!(
        said.contains("1 process could not be captured") && said.contains("PR_SET_DUMPABLE"),
        "{finished:?}"
    );
}

#[test]
fn a_user_that_comes_later_is_captured_too() {
    let container = Container::new();
    let master = hot(&container, "0", "doze");
    let www = hot(&container, "33", "doze");
    let mut worker = Worker::start(LAUNCH, &wanted(&container, &master, 120_000));
    let has_processes = |event: Option<Event>, n: u32| match event {
        Some(Event::Slice(slice)) => slice.cover.unwrap().processes >= n,
        Some(Event::Started(_)) => false,
        other => panic!("{other:?}"),
    };
    while !has_processes(worker.event(), 2) {}
    // One of two users goes, so that there is room for the third.
    drop(www);
    let _late = hot(&container, "1000", "spin");
    while !has_processes(worker.event(), 3) {}
    worker.signal(Signal::SIGTERM);
    let outcome = worker.finish();
    let Some(Event::Finished(finished)) = outcome.events.last() else { panic!("{outcome:?}") };
    assert!(finished.stopped && finished.cover.unwrap().processes == 3, "{finished:?}");
}

#[test]
fn sigterm_ends_all_workers_with_their_last_slices() {
    let container = Container::new();
    let master = hot(&container, "0", "spin");
    let _www = hot(&container, "33", "spin");
    let mut worker = Worker::start(LAUNCH, &wanted(&container, &master, 60_000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    assert!(matches!(worker.event(), Some(Event::Slice(_))));
    let pids = workers_of(&worker);
    worker.signal(Signal::SIGTERM);
    let outcome = worker.finish();
    let Some(Event::Finished(finished)) = outcome.events.last() else { panic!("{outcome:?}") };
    assert!(
        finished.stopped && finished.slices >= 2 && finished.cover.unwrap().processes == 2,
        "{finished:?}"
    );
    assert_eq!(outcome.files().len(), finished.slices as usize, "no directory of a worker is left");
    assert!(pids.len() == 2 && pids.iter().all(|pid| status(*pid, "Uid:").is_empty()));
}

#[test]
fn no_worker_outlives_the_one_that_started_it() {
    let container = Container::new();
    let master = hot(&container, "0", "spin");
    let www = hot(&container, "33", "spin");
    let mut worker = Worker::start(LAUNCH, &wanted(&container, &master, 60_000));
    assert!(matches!(worker.event(), Some(Event::Started(_))));
    assert!(within(Duration::from_secs(5), || workers_of(&worker).len() == 2));
    let pids = workers_of(&worker);
    worker.signal(Signal::SIGKILL);
    worker.child.wait().unwrap();
    let gone = |pid: &i32| proc::stat(*pid).map_or(true, |s| s.state == b'Z');
    assert!(within(Duration::from_secs(5), || pids.iter().all(gone)), "{pids:?}");
    for target in [&master, &www] {
        let before = target.cpu();
        let runs_on = || target.cpu() > before + Duration::from_millis(100);
        assert!(within(Duration::from_secs(60), runs_on) && target.status("TracerPid") == "0");
    }
}

#[test]
fn one_process_alone_has_one_worker_whatever_runs_beside_it() {
    let target = Target::hot_as("33", &["spin"]);
    let alone = CaptureRequest { assume_target_uid: true, ..request(target.pid(), None, 2000) };
    let outcome = Worker::start(LAUNCH, &alone).finish();
    outcome.blames_the_guilty();
}
