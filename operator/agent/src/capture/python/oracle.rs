//! Does the reader see what py-spy sees? The same interpreter, stopped at the same moments. With
//! `FLEETPROF_PYTHON` the tests run another interpreter than the `python3` of the path.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use py_spy::PythonSpy;

use super::reader::Reader;
use crate::proc;

type Stack = Vec<(String, String, i32)>;

/// Functions called in every way, in five threads.
const PROGRAM: &str = r"
import functools, threading, time

def spin(n):
    return sum(i * i for i in range(n))

class Größe:
    @property
    def wert(self):
        return [spin(300) for _ in range(3)]
    def __lt__(self, other):
        return spin(50) < 0

def down(n):
    if n == 0:
        return Größe().wert
    return down(n - 1)

def pull():
    for _ in range(3):
        yield spin(200)

def through_c():
    sorted([Größe(), Größe(), Größe()])
    return functools.reduce(lambda a, b: a + spin(20), range(5))

def made_here():
    exec(compile('def made():\n    return spin(100)\nmade()', 'made-%d' % (time.monotonic_ns() % 3), 'exec'), globals())

def forever(job):
    while True:
        job()

jobs = [lambda: down(700), lambda: list(pull()), through_c, made_here, lambda: time.sleep(0.01)]
for job in jobs:
    threading.Thread(target=forever, args=(job,), daemon=True).start()
time.sleep(600)
";

struct Target(Child);

impl Target {
    fn start() -> Self {
        let program = std::env::var("FLEETPROF_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut command = Command::new(program);
        Self(command.args(["-c", PROGRAM]).stdout(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    fn stop(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGSTOP).unwrap();
        let is_stopped = |tid: &i32| proc::thread_stat(self.pid(), *tid).is_ok_and(|stat| stat.state == b'T');
        let by = Instant::now() + Duration::from_secs(10);
        while !proc::threads(self.pid()).unwrap().iter().all(is_stopped) {
            assert!(Instant::now() < by, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn go_on(&self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGCONT).unwrap();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn spy(pid: i32) -> PythonSpy {
    let config = py_spy::Config {
        blocking: py_spy::config::LockingStrategy::NonBlocking,
        lineno: py_spy::config::LineNo::LastInstruction,
        full_filenames: true,
        ..py_spy::Config::default()
    };
    PythonSpy::retry_new(pid, &config, 200).unwrap()
}

/// A stack that both see, of each thread.
fn of_the_spy(spy: &mut PythonSpy) -> Vec<(i32, Stack)> {
    let traces = spy.get_stack_traces().unwrap();
    // The first instruction of a module belongs to line 0, for which the reader gives the first line.
    let stack = |trace: &py_spy::StackTrace| {
        let frame = |frame: &py_spy::Frame| (frame.name.clone(), frame.filename.clone(), frame.line.max(1));
        trace.frames.iter().map(frame).collect()
    };
    let mut all: Vec<(i32, Stack)> = traces
        .iter()
        .map(|trace| (i32::try_from(trace.os_thread_id.unwrap()).unwrap(), stack(trace)))
        .filter(|(_, stack): &(i32, Stack)| !stack.is_empty())
        .collect();
    all.sort_unstable();
    all
}

fn of_the_reader(reader: &mut Reader) -> Vec<(i32, Stack)> {
    reader.refresh().unwrap();
    let mut all = Vec::new();
    for id in reader.threads() {
        let mut names: Stack = Vec::new();
        reader.forget_numbers();
        let mut number = |name: &str, file: &str, line: i32| {
            names.push((name.to_owned(), file.to_owned(), line));
            u32::try_from(names.len() - 1).unwrap()
        };
        let numbers = reader.stack(id, &mut number).unwrap();
        let stack: Stack = numbers.iter().map(|n| names[*n as usize].clone()).collect();
        if !stack.is_empty() {
            all.push((id, stack));
        }
    }
    all.sort_unstable();
    all
}

/// Functions of the target, each of which runs again and again.
const WANTED: [&str; 7] =
    ["spin", "down", "Größe.wert", "pull", "through_c", "through_c.<locals>.<lambda>", "forever"];

#[test]
fn the_reader_sees_what_py_spy_sees() {
    let target = Target::start();
    let mut spy = spy(target.pid());
    if !(11..=14).contains(&spy.version.minor) {
        assert!(
            Reader::open(target.pid(), spy.version.minor, spy.addresses.interpreter_address as u64).is_none()
        );
        return;
    }
    let mut reader = loop {
        let address = spy.addresses.interpreter_address as u64;
        let reader =
            Reader::open(target.pid(), spy.version.minor, address).expect("its structures are known");
        if reader.threads().len() >= 6 {
            break reader;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut names = std::collections::BTreeSet::new();
    let lacks = |names: &std::collections::BTreeSet<String>| {
        WANTED.into_iter().find(|wanted| !names.contains(*wanted))
    };
    // On a busy machine a thread may not run for a while.
    for moment in 0..600 {
        if moment >= 60 && lacks(&names).is_none() {
            break;
        }
        std::thread::sleep(Duration::from_millis(7));
        target.stop();
        // Code may have been replaced since the last moment, within the time for which it is trusted.
        std::thread::sleep(Duration::from_millis(if moment % 20 == 0 { 300 } else { 0 }));
        let (mut ours, mut theirs) = (of_the_reader(&mut reader), of_the_spy(&mut spy));
        let is_made = |frame: &&mut (String, String, i32)| frame.1.starts_with("made");
        // One that was made after another can have each of its parts where the other one had it; then nothing that
        // is looked at tells them apart.
        for stacks in [&mut ours, &mut theirs] {
            let frames = stacks.iter_mut().flat_map(|(_, stack)| stack);
            frames.filter(is_made).for_each(|frame| frame.1 = "made".to_owned());
        }
        let made = |stacks: &[(i32, Stack)]| {
            stacks.iter().any(|(_, stack)| stack.iter().any(|f| f.1.starts_with("made")))
        };
        if !made(&theirs) || moment % 20 == 0 {
            assert_eq!(ours, theirs, "moment {moment}");
        }
        names.extend(ours.iter().flat_map(|(_, stack)| stack.iter().map(|frame| frame.0.clone())));
        target.go_on();
    }
    assert_eq!(lacks(&names), None, "not in {names:?}");
}
