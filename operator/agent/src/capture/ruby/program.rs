//! How is rbspy run? As a child that ends with the thread that started it, whatever happens to the worker.
//!
//! It gets no environment, may allocate a part of the worker's memory, and its output is bounded. It is told to
//! end by SIGINT, and then writes a profile; one that does not is killed.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};

use crate::capture::protocol::{Failure, FailureReason, bounded};
use crate::capture::undo::{Undo, on_timeout};
use crate::proc;

/// The name of the program, which lies beside the agent's own.
const NAME: &str = "rbspy";
/// Most bytes of a profile, and of what is said on the way.
const MAX_OUTPUT: u64 = 8 << 20;
const MAX_ERRORS: u64 = 4096;
/// Most bytes of what rbspy says that go into a sentence.
const MAX_SAID: usize = 300;
/// Memory of rbspy's own: it took a tenth of that with large programs.
const MEMORY: u64 = 256 << 20;
/// How often it is looked whether it has ended, or whether it has to.
const LOOK: Duration = Duration::from_millis(20);
/// How long the output of a process that was killed is waited for.
const KILLED: Duration = Duration::from_secs(1);
/// Stack of the thread that reads the output.
const STACK: usize = 256 << 10;

/// Where rbspy is, if it is installed.
pub fn find() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.join(NAME);
    path.is_file().then_some(path)
}

/// Until when something is waited for, and whether it is given up before.
#[derive(Clone, Copy)]
pub struct Deadline<'a> {
    /// The latest moment.
    pub by: Instant,
    /// Whether it is given up.
    pub is_aborted: &'a dyn Fn() -> bool,
}

impl Deadline<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.by || (self.is_aborted)()
    }
}

/// rbspy, and what it is to do.
pub struct Rbspy {
    /// The program.
    pub path: PathBuf,
    /// The Ruby process.
    pub pid: i32,
    /// Samples a second.
    pub frequency_hz: u32,
    /// Most bytes of memory that it may allocate.
    pub memory: usize,
}

impl Rbspy {
    /// Has it read one stack.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn look(&self, deadline: Deadline<'_>) -> Result<(), Failure> {
        let pid = self.pid.to_string();
        let ended = self.start(&["snapshot", "--nonblocking", "--pid", &pid])?.finish(deadline);
        ended.failure.map_or(Ok(()), Err)
    }

    /// Has it record until it is interrupted.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn record(&self) -> Result<Running, Failure> {
        let (pid, rate) = (self.pid.to_string(), self.frequency_hz.to_string());
        let (nothing, stdout) = ("/dev/null", "-");
        self.start(&[
            "record",
            "--silent",
            "--nonblocking",
            "--on-cpu",
            "--format=pprof",
            "--file",
            stdout,
            "--raw-file",
            nothing,
            "--rate",
            &rate,
            "--pid",
            &pid,
        ])
    }

    fn start(&self, arguments: &[&str]) -> Result<Running, Failure> {
        let mut command = Command::new(&self.path);
        command.args(arguments).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        confine(&mut command, MEMORY.min(u64::try_from(self.memory).unwrap_or(MEMORY)));
        let child = command.spawn();
        let child = child.map_err(|e| Failure::internal(format!("failed to start rbspy: {e}")))?;
        let mut running = Running::new(child, self.pid)?;
        running.undo = Some(running.killed_on_timeout());
        Ok(running)
    }
}

/// Has the child end with the thread that starts it, and bounds its memory.
#[allow(unsafe_code)]
fn confine(command: &mut Command, memory: u64) {
    let parent = getpid();
    let confine = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(std::io::Error::other("the worker has ended"));
        }
        let (_, hard) = getrlimit(Resource::RLIMIT_DATA)?;
        Ok(setrlimit(Resource::RLIMIT_DATA, memory.min(hard), memory.min(hard))?)
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated but for an error.
    unsafe { command.pre_exec(confine) };
}

/// rbspy at work.
pub struct Running {
    child: Child,
    target: i32,
    output: Receiver<(Vec<u8>, Vec<u8>)>,
    /// Ends it where the watchdog ends the worker.
    undo: Option<Undo>,
}

/// What came of it.
pub struct Ended {
    /// What it wrote.
    pub output: Vec<u8>,
    /// Why it did not do what it should.
    pub failure: Option<Failure>,
}

impl Running {
    fn new(mut child: Child, target: i32) -> Result<Self, Failure> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (give, output) = sync_channel(1);
        let reader = std::thread::Builder::new().name("rbspy output".into()).stack_size(STACK);
        let read = move || {
            let (mut profile, mut said) = (Vec::new(), Vec::new());
            if let Some(stdout) = stdout {
                let _torn = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut profile);
            }
            if let Some(stderr) = stderr {
                let _torn = stderr.take(MAX_ERRORS).read_to_end(&mut said);
            }
            let _nobody_waits = give.send((profile, said));
        };
        let running = Self { child, target, output, undo: None };
        match reader.spawn(read) {
            Ok(_ends_by_itself) => Ok(running),
            Err(e) => Err(Failure::internal(format!("failed to start a thread for rbspy: {e}"))),
        }
    }

    fn killed_on_timeout(&self) -> Undo {
        let pid = self.pid();
        // It is waited for by nobody before this is dropped, so that its number stays its own.
        on_timeout(move || {
            let _gone = kill(pid, Signal::SIGKILL);
        })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Tells it to end, and to write what it has.
    pub fn interrupt(&self) {
        let _gone = kill(self.pid(), Signal::SIGINT);
    }

    /// Waits for its end; kills it where that takes too long.
    pub fn finish(mut self, deadline: Deadline<'_>) -> Ended {
        let read = self.read(deadline);
        let status = self.end(deadline);
        let (output, said) = match read {
            Some(read) => read,
            None => self.output.recv_timeout(KILLED).unwrap_or_default(),
        };
        let failure = self.failure(status, &output, &said);
        Ended { output: if failure.is_some() && is_cut(&output) { Vec::new() } else { output }, failure }
    }

    fn read(&self, deadline: Deadline<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
        loop {
            match self.output.recv_timeout(LOOK) {
                Ok(read) => return Some(read),
                Err(RecvTimeoutError::Disconnected) => return Some(Default::default()),
                Err(RecvTimeoutError::Timeout) if deadline.is_over() => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Its status; `None` where it had to be killed.
    fn end(&mut self, deadline: Deadline<'_>) -> Option<ExitStatus> {
        // Its number may be that of another process once it was waited for.
        self.undo = None;
        while !deadline.is_over() {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => std::thread::sleep(LOOK),
                Err(_) => break,
            }
        }
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        None
    }

    fn failure(&self, status: Option<ExitStatus>, output: &[u8], said: &[u8]) -> Option<Failure> {
        let Some(status) = status else {
            return Some(Failure::new(FailureReason::CollectorCrashed, "rbspy did not end and was killed"));
        };
        if is_cut(output) {
            let text = "the profile of rbspy is larger than 8 MiB: capture shorter slices";
            return Some(Failure::new(FailureReason::CollectorCrashed, text));
        }
        // One that has just been started does not handle the signal yet.
        let was_interrupted = status.signal() == Some(Signal::SIGINT as i32);
        if status.success() || was_interrupted {
            return None;
        }
        if proc::stat(self.target).is_err() {
            let text = format!("process {} ended while rbspy looked at it", self.target);
            return Some(Failure::new(FailureReason::NoSuchProcess, text));
        }
        Some(failure(self.target, status.code(), &String::from_utf8_lossy(said)))
    }
}

impl Drop for Running {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

const fn is_cut(output: &[u8]) -> bool {
    output.len() as u64 > MAX_OUTPUT
}

/// Why rbspy failed, by what it said.
fn failure(pid: i32, code: Option<i32>, said: &str) -> Failure {
    let chain: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    let is_refused = ["ermission denied", "not permitted", "ermissions error", "EPERM", "EACCES"];
    if chain.iter().any(|line| is_refused.iter().any(|word| line.contains(word))) {
        return Failure::unreadable("Ruby", pid, "rbspy was refused");
    }
    // It quotes what it read of the target.
    let said: String = chain.join(": ").chars().filter(|c| !c.is_control()).collect();
    let said = bounded(said, MAX_SAID);
    match (code, said.is_empty()) {
        (Some(_), false) => {
            let text = format!("rbspy cannot read the interpreter of process {pid}: {said}");
            Failure::new(FailureReason::UnsupportedRuntime, text)
        }
        (Some(code), true) => {
            let text = format!("rbspy ended with {code} and gave no reason");
            Failure::new(FailureReason::UnsupportedRuntime, text)
        }
        (None, _) => {
            Failure::new(FailureReason::CollectorCrashed, "rbspy crashed; the target is not affected")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, by: Duration) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        confine(&mut command, MEMORY);
        let me = i32::try_from(std::process::id()).unwrap();
        let running = Running::new(command.spawn().unwrap(), me).unwrap();
        running.finish(Deadline { by: Instant::now() + by, is_aborted: &|| false })
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_it_says_becomes_a_reason() {
        use FailureReason::{CollectorCrashed, PermissionDenied, UnsupportedRuntime};
        let cases = [
            (
                Some(1),
                "Oh\n- new spy\n- rbspy doesn't support Ruby 9.9.9 yet.\n",
                UnsupportedRuntime,
                "9.9.9 yet.",
            ),
            (
                Some(1),
                "- get ruby VM state\n- Permission denied (os error 13)",
                PermissionDenied,
                "runAsUser",
            ),
            (Some(1), "- a\u{1b}[31m\u{7}b", UnsupportedRuntime, ": a[31mb"),
            (Some(101), "thread 'main' panicked", UnsupportedRuntime, "ended with 101"),
            (None, "", CollectorCrashed, "crashed"),
        ];
        for (code, said, reason, wanted) in cases {
            let failure = failure(7, code, said);
            assert_eq!(failure.reason, reason, "{said}");
            assert!(failure.message.contains(wanted), "{failure}");
        }
        assert!(failure(7, Some(1), &format!("- {}", "ä".repeat(9999))).message.len() < 400);
    }

    #[test]
    fn what_it_wrote_is_read_to_its_end_and_no_further() {
        let ended = run("echo profile", LONG);
        assert_eq!((ended.output.as_slice(), ended.failure), (b"profile\n".as_slice(), None));
        let ended = run("head -c 9000000 /dev/zero", LONG);
        assert!(ended.output.is_empty() && ended.failure.unwrap().message.contains("8 MiB"));
        let ended = run("echo part; echo '- torn' >&2; exit 1", LONG);
        assert_eq!(ended.output, b"part\n");
        assert!(ended.failure.unwrap().message.ends_with("torn"));
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let start = Instant::now();
        let ended = run("trap '' INT; while :; do :; done", Duration::from_millis(300));
        assert!(ended.failure.unwrap().message.contains("killed") && start.elapsed() < LONG);
    }

    #[test]
    fn it_ends_with_the_thread_that_started_it() {
        let mut child = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            command.arg("60");
            confine(&mut command, MEMORY);
            command.spawn().unwrap()
        })
        .join()
        .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start = Instant::now();
        let is_dead =
            || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z"));
        while !is_dead() {
            assert!(start.elapsed() < LONG, "it is still there");
            std::thread::sleep(LOOK);
        }
        let _reaped = child.wait();
    }
}
