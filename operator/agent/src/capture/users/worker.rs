//! How does the worker of one user run? As a process of its own, in a directory of its own.

use std::fs::DirBuilder;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::SyncSender;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::protocol::{CaptureRequest, Cover, Event, Failed, Failure, FailureReason, Started};
use crate::proc::Owner;

/// Longest line of a worker: a failure for each kind, and notes.
const MAX_LINE: u64 = 64 * 1024;
/// Stack of a thread that reads lines.
const STACK: usize = 256 * 1024;

/// The worker of a user.
pub struct Worker {
    /// Whose processes it captures.
    pub owner: Owner,
    /// How many there were at its start.
    pub processes: usize,
    /// Its slices.
    pub directory: PathBuf,
    /// How it samples.
    pub started: Option<Started>,
    /// What it covers so far.
    pub cover: Option<Cover>,
    /// How it ended, where it said so.
    pub last: Option<Event>,
    /// It has ended.
    pub is_over: bool,
    child: Option<Child>,
}

impl Worker {
    /// Starts a worker, number `number` of this capture; what it says goes to `said`, and `None` at its end. One
    /// that cannot be started is over, with the reason.
    pub fn start(
        number: usize,
        owner: Owner,
        processes: usize,
        request: CaptureRequest,
        said: &SyncSender<(usize, Option<Event>)>,
    ) -> Self {
        let directory = request.output_dir.join(format!(".user-{number}"));
        let mut worker = Self {
            owner,
            processes,
            directory: directory.clone(),
            started: None,
            cover: None,
            last: None,
            is_over: false,
            child: None,
        };
        let request = CaptureRequest { output_dir: directory, ..request };
        let begun = worker.spawn(&request).and_then(|out| listen(number, out, said.clone()));
        if let Err(error) = begun {
            let uid = owner.uid;
            worker.fail(Failure::internal(format!(
                "failed to start the worker of user {uid} ({error}); see the agent's log"
            )));
            worker.end();
        }
        worker
    }

    /// The directory is root's until the worker has opened it and gives it to its user.
    fn spawn(&mut self, request: &CaptureRequest) -> io::Result<ChildStdout> {
        DirBuilder::new().mode(0o700).create(&self.directory)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("fleetprof-worker").stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = self.child.insert(command.spawn()?);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stdin.ok_or(io::ErrorKind::BrokenPipe)?.write_all(&line)?;
        Ok(stdout.ok_or(io::ErrorKind::BrokenPipe)?)
    }

    /// Takes in what it says, other than slices.
    pub fn hear(&mut self, event: Event) {
        match event {
            Event::Started(started) => self.started = self.started.take().or(Some(started)),
            Event::Slice(_) => {}
            Event::Finished(ref finished) => {
                self.cover = finished.cover.or(self.cover);
                self.last = self.last.take().or(Some(event));
            }
            Event::Failed(ref failed) => {
                self.cover = failed.cover.or(self.cover);
                self.last = self.last.take().or(Some(event));
            }
        }
    }

    /// It did what no worker does: it is ended, and the reason stands for what it would have said.
    pub fn fail(&mut self, failure: Failure) {
        let Failure { reason, message } = failure;
        tracing::warn!(user.id = self.owner.uid, error = message, "ending the worker of a user");
        self.last = Some(Event::Failed(Failed { reason, message, samples: 0, slices: 0, cover: None }));
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
        }
    }

    /// Ends it if it has not ended, and removes what is left of it.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
        self.is_over = true;
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::debug!(%error, "the directory of a worker is left");
        }
    }

    /// Asks it to end with its last slice.
    pub fn ask_to_stop(&self) {
        let pid = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        if let Some(pid) = pid.filter(|_| !self.is_over) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Whether its processes have all ended, so that others of the same user are captured by a new one.
    pub fn may_have_successor(&self) -> bool {
        self.is_over && self.ended_with_its_processes()
    }

    /// Whether its processes have all ended.
    pub fn ended_with_its_processes(&self) -> bool {
        match &self.last {
            Some(Event::Finished(finished)) => finished.target_exited,
            Some(Event::Failed(failed)) => {
                matches!(failed.reason, FailureReason::NoSuchProcess | FailureReason::TargetExited)
            }
            _ => false,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.is_over {
            self.end();
        }
    }
}

/// Reads lines until there are no more, or one that is not an event.
fn listen(number: usize, from: ChildStdout, to: SyncSender<(usize, Option<Event>)>) -> io::Result<()> {
    let listener = std::thread::Builder::new().name(format!("user-{number}")).stack_size(STACK);
    let read = move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            let read = from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            let event = read.ok().and_then(|_| serde_json::from_slice(&line).ok());
            let was_last = event.is_none();
            if to.send((number, event)).is_err() || was_last {
                return;
            }
        }
    };
    listener.spawn(read).map(drop)
}
