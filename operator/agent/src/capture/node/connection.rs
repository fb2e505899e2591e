//! How is an inspector used, and closed again on every way out?

use std::time::{Duration, Instant};

use super::endpoint::{self, Endpoint, refused};
use super::profiler::{Plan, Profilers};
use super::protocol::{AskError, Conversation};
use super::scripts;
use super::websocket::WebSocket;
use crate::capture::protocol::{Failure, FailureReason};
use crate::capture::sight::Sight;
use crate::capture::undo::{self, Undo};
use crate::proc::{self, read_bounded};

/// How long a process may take to answer before it is profiled.
const ANSWERS: Duration = Duration::from_secs(5);
/// How long an agent may be late before the target closes its inspector by itself.
const LATE: Duration = Duration::from_secs(60);
/// How long the watchdog's closing may take.
const UNDONE: Duration = Duration::from_secs(1);
/// How often a listener is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// The primary of a cluster passes the signal on to its workers, one of which gets the port. So long the others
/// are not signalled, so that it is seen which one has it.
const PASSED_ON: Duration = Duration::from_secs(1);

fn has_children(pid: i32) -> bool {
    let children = read_bounded(format!("/proc/{pid}/task/{pid}/children"), 64);
    children.is_ok_and(|children| !children.is_empty())
}

/// A process whose inspector is in use.
pub struct Connection {
    pid: i32,
    endpoint: Endpoint,
    /// What profiles it.
    pub profilers: Profilers,
    undo: Option<Undo>,
}

impl Connection {
    /// Opens the inspector of a process and begins to profile; `left` is how long that is meant to go on.
    /// Where other processes may need the usual port, it is moved to another one.
    ///
    /// # Errors
    /// The inspector cannot be used; one that was opened is closed, now or by itself.
    pub fn open(sight: &Sight, plan: Plan, is_crowded: bool, left: Duration) -> Result<Self, Failure> {
        let by = Instant::now() + ANSWERS;
        let waits = || Instant::now() < by;
        let connection = Self::connected(sight.pid, endpoint::open(sight)?, plan)?;
        if connection.endpoint.is_asked_for {
            return connection.after(|it| it.begin(&waits));
        }
        let left = left.saturating_add(LATE);
        let mut connection = connection.after(|it| it.arm(left, &waits))?;
        if is_crowded {
            connection = connection.relocated(plan, left)?;
            if has_children(sight.pid) {
                std::thread::sleep(PASSED_ON);
            }
        }
        connection.after(|it| it.begin(&waits))
    }

    /// The connection after a step; where that fails, the inspector is closed.
    fn after(mut self, step: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<Self, Failure> {
        match step(&mut self) {
            Ok(()) => Ok(self),
            Err(failure) => {
                let _closed = self.close(Instant::now() + UNDONE);
                Err(failure)
            }
        }
    }

    fn begin(&mut self, waits: &dyn Fn() -> bool) -> Result<(), Failure> {
        let begun = self.profilers.fit_to_version(waits).and_then(|()| self.profilers.begin(waits));
        begun.map_err(|error| self.failure(&error))
    }

    fn connected(pid: i32, endpoint: Endpoint, plan: Plan) -> Result<Self, Failure> {
        let by = Instant::now() + ANSWERS;
        let socket =
            WebSocket::connect(endpoint.address, &endpoint.path, plan.most_bytes, by).map_err(|e| {
                refused(format!("the inspector of process {pid} at {} cannot be used: {e}", endpoint.address))
            })?;
        let profilers = Profilers::new(Conversation::new(socket), plan);
        let mut connection = Self { pid, endpoint, profilers, undo: None };
        let closer = connection.profilers.closer(connection.last_words().as_deref());
        connection.undo =
            closer.ok().map(|closer| undo::on_timeout(move || closer.close(Instant::now() + UNDONE)));
        Ok(connection)
    }

    /// What closes the inspector; nothing where its user asked for it.
    fn last_words(&self) -> Option<String> {
        (!self.endpoint.is_asked_for).then(|| scripts::close(self.endpoint.port))
    }

    /// Has the target close its inspector where nobody else does. One that cannot be closed is not used.
    fn arm(&mut self, left: Duration, waits: &dyn Fn() -> bool) -> Result<(), Failure> {
        let script = scripts::arm(self.endpoint.port, left);
        match self.profilers.evaluate(&script, waits) {
            Ok(answer) if answer == scripts::DONE => Ok(()),
            Ok(answer) => Err(refused(format!(
                "process {} cannot close its inspector ({answer}), so that it would stay open: start it with \
                 --inspect=127.0.0.1:9229 if that is wanted",
                self.pid
            ))),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Moves the inspector to a port of the target's own choice, where it closes by itself after `left`.
    fn relocated(self, plan: Plan, left: Duration) -> Result<Self, Failure> {
        let Self { pid, endpoint, profilers, undo } = self;
        let by = Instant::now() + ANSWERS;
        let closer =
            profilers.closer(Some(&scripts::relocate(endpoint.port, left))).map_err(Failure::internal)?;
        closer.close(by);
        drop((profilers, undo));
        let is_new = |at: &std::net::SocketAddr| *at != endpoint.address && at.ip().is_loopback();
        while Instant::now() < by {
            let listeners = proc::listeners(pid).unwrap_or_default();
            let mut new = listeners.into_iter().filter(is_new);
            if let Some((address, path)) = new.find_map(|at| Some((at, endpoint::ask(at)?))) {
                return Self::connected(pid, Endpoint { address, path, ..endpoint }, plan);
            }
            std::thread::sleep(LOOK);
        }
        Err(refused(format!("the inspector of process {pid} could not be moved from port {}", endpoint.port)))
    }

    /// Why the process is not profiled (any more).
    pub fn failure(&self, error: &AskError) -> Failure {
        let pid = self.pid;
        match error {
            AskError::Lost(_) if proc::stat(pid).is_err() => {
                Failure::new(FailureReason::TargetExited, format!("process {pid} exited"))
            }
            error => refused(format!("process {pid} is not profiled: {error}")),
        }
    }

    /// Ends the conversation, and closes the inspector unless its user asked for it, soon after `by`. Says so
    /// where it stays open.
    pub fn close(self, by: Instant) -> Option<String> {
        let Self { pid, ref endpoint, ref profilers, .. } = self;
        // Closing waits for all clients, and the target with it.
        let others = proc::clients(pid, endpoint.address).saturating_sub(1);
        let last = self.last_words().filter(|_| others == 0);
        let closed = profilers.closer(last.as_deref()).map(|closer| closer.close(by));
        if endpoint.is_asked_for {
            return None;
        }
        let is_open = || proc::listeners(pid).is_ok_and(|all| all.contains(&endpoint.address));
        while closed.is_ok() && others == 0 && is_open() && Instant::now() < by {
            std::thread::sleep(LOOK);
        }
        is_open().then(|| match others {
            0 => format!("process {pid} has not closed its inspector at {} yet", endpoint.address),
            _ => format!(
                "the inspector of process {pid} at {} stays open, because a debugger is connected to it",
                endpoint.address
            ),
        })
    }
}
