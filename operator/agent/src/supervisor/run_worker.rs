//! How does a capture run? One worker process: started, listened to, measured, stopped, and killed when it
//! overstays.

use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{CaptureState, Order, Problem};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::agent::{Agent, steady_seconds};
use super::captures::{Stop, problem};
use super::gauge::Gauge;
use super::inspect::{Wanted, inspect};
use super::memory::{Promise, of_worker};
use super::observe::Target;
use super::order::container_id;
use super::outcome::{Ending, before_its_start, outcome};
use super::spool::Outcome;
use crate::capture::protocol::{CaptureRequest, Event, bounded};
use crate::capture::sight::HOST_NETWORK;

/// Longest line of a worker.
const MAX_LINE: usize = 16 * 1024;
/// How long a worker may take to end after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How often a container that is not seen is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Runs the capture of an order from start to end, and records how it ended.
pub async fn run(agent: Rc<Agent>, order: Order, mut stop: watch::Receiver<Option<Stop>>) {
    let begun = tokio::select! {
        begun = start(&agent, &order) => begun,
        Ok(()) = stop.changed() => Err(before_its_start(*stop.borrow())),
    };
    let outcome = match begun {
        Ok((target, worker)) => Run::new(&agent, &order, target, worker, stop).until_it_ends().await,
        Err(outcome) => outcome,
    };
    agent.ended(&order, outcome);
}

/// A worker with its memory.
type Worker = (Child, Promise);

async fn start(agent: &Agent, order: &Order) -> Result<(Target, Worker), Outcome> {
    let failed = |problem| Outcome { state: CaptureState::Failed, problem: Some(problem) };
    let target = find(agent, order).await.map_err(failed)?;
    let worker = begin(agent, order, &target).await.map_err(failed)?;
    Ok((target, worker))
}

/// Starts the worker.
async fn begin(agent: &Agent, order: &Order, target: &Target) -> Result<Worker, Problem> {
    tracing::info!(
        fleetprof.capture = order.capture,
        fleetprof.session.uid = order.session,
        container.id = container_id(order),
        process.pid = target.pid,
        process.command = target.command,
        processes = target.processes,
        duration_ms = order.duration_ms,
        "capture starts"
    );
    let failed = |e: std::io::Error| {
        problem(Reason::Internal, format!("failed to start the collector: {e}; see the agent's log"))
    };
    let spooled =
        |e: std::io::Error| problem(Reason::SpoolFailed, format!("failed to prepare the spool: {e}"));
    let promise = promise(agent, target).await?;
    let output_dir = agent.spool.slices_dir(&order.capture).map_err(spooled)?;
    let request = CaptureRequest {
        pid: target.pid,
        start_ticks: Some(target.start_ticks),
        container: Some(container_id(order).to_owned()),
        profiles: order.profiles.clone(),
        collector: None,
        duration_ms: order.duration_ms,
        frequency_hz: order.frequency_hz,
        slice_ms: order.slice_ms,
        output_dir,
        labels: std::collections::BTreeMap::new(),
        assume_target_uid: true,
        memory_bytes: Some(promise.bytes),
        owner: None,
    };
    Ok((spawn(agent, &request).await.map_err(failed)?, promise))
}

/// The memory of a worker. Nothing waits between the question and the promise, so that no two get the same.
async fn promise(agent: &Agent, target: &Target) -> Result<Promise, Problem> {
    let (readings, containers) = {
        let observer = agent.observer.lock().await;
        (observer.memory_of(target.pid).await, observer.containers())
    };
    // Another container of the pod may be captured before this capture ends: the session of it may come at any time.
    let captures = agent.captures.borrow().running().count().max(containers);
    let bytes = of_worker(agent.mode, readings, agent.promises.others(captures))?;
    Ok(agent.promises.make(bytes))
}

/// The container of an order. It may be behind its status, so it is looked for twice; one that was never
/// here, until the order may not be started any more.
async fn find(agent: &Agent, order: &Order) -> Result<Target, Problem> {
    let container = container_id(order);
    let mut was_looked_for = false;
    loop {
        let observer = agent.observer.lock().await;
        let problem = match observer.target(container) {
            Ok(target) => return Ok(target),
            Err(problem) => problem,
        };
        let may_come = problem.reason == Reason::ContainerRestarted
            && !observer.has_ended(container)
            && steady_seconds() < order.start_before;
        drop(observer);
        if was_looked_for && !may_come {
            return Err(problem);
        }
        was_looked_for = true;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The environment stays here: it holds what a worker with the target's user id must not carry.
async fn spawn(agent: &Agent, request: &CaptureRequest) -> std::io::Result<Child> {
    let mut command = Command::new(agent.settings.worker_program()?);
    command.env_clear();
    let handed_on = |name| std::env::var(name).ok().map(|value| (name, value));
    command.envs(["FLEETPROF_LOG", HOST_NETWORK].into_iter().filter_map(handed_on));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        // A worker that is gone already says so by its exit status.
        let _ = stdin.write_all(&line).await;
    }
    Ok(child)
}

struct Run<'a> {
    agent: &'a Agent,
    order: &'a Order,
    target: Target,
    child: Child,
    lines: Lines,
    stop: watch::Receiver<Option<Stop>>,
    gauge: Gauge,
    started: Instant,
    kill_at: Instant,
    ending: Ending,
    _promise: Promise,
}

impl<'a> Run<'a> {
    fn new(
        agent: &'a Agent,
        order: &'a Order,
        target: Target,
        (mut child, promise): Worker,
        stop: watch::Receiver<Option<Stop>>,
    ) -> Self {
        let lines = Lines { from: child.stdout.take(), buffer: Vec::new() };
        let started = Instant::now();
        let allowed = Duration::from_millis(order.duration_ms.min(3_600_000))
            + Duration::from_secs(agent.settings.worker_grace);
        let gauge = Gauge::new(agent.node);
        Self {
            agent,
            order,
            target,
            child,
            lines,
            stop,
            gauge,
            started,
            kill_at: started + allowed,
            ending: Ending { profiles: order.profiles.clone(), ..Ending::default() },
            _promise: promise,
        }
    }

    async fn until_it_ends(mut self) -> Outcome {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.lines.next(), if self.lines.from.is_some() => self.hear(event),
                status = self.child.wait(), if self.lines.from.is_none() => {
                    self.ending.status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                    break;
                }
                Ok(()) = self.stop.changed(), if self.ending.stop.is_none() => self.ask_to_stop(),
                () = tokio::time::sleep_until(self.kill_at), if !self.ending.killed => self.kill(),
                _ = second.tick() => self.measure().await,
            }
        }
        self.measure().await;
        self.conclude()
    }

    fn hear(&mut self, event: Option<Result<Event, String>>) {
        match event {
            None => self.lines.from = None,
            Some(Ok(event @ (Event::Finished(_) | Event::Failed(_)))) => {
                tracing::debug!(fleetprof.capture = self.order.capture, "collector finished");
                self.agent.progress(&self.order.capture, event.clone());
                self.ending.last = Some(event);
            }
            Some(Ok(event)) => self.agent.progress(&self.order.capture, event),
            Some(Err(error)) => {
                tracing::warn!(
                    fleetprof.capture = self.order.capture,
                    error,
                    "invalid output from collector, killing it"
                );
                let _ = self.child.start_kill();
                self.lines.from = None;
            }
        }
    }

    fn ask_to_stop(&mut self) {
        self.ending.stop = *self.stop.borrow_and_update();
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        self.kill_at = self.kill_at.min(Instant::now() + STOP_GRACE);
    }

    fn kill(&mut self) {
        tracing::warn!(fleetprof.capture = self.order.capture, "collector does not exit, killing it");
        let _ = self.child.start_kill();
        self.ending.killed = true;
        // Something that the worker started may hold its stdout open for ever.
        self.lines.from = None;
    }

    async fn measure(&mut self) {
        let mut inspection = inspect(&self.agent.tree, self.target.pid, Wanted::default()).await;
        if inspection.usage.is_none() {
            // The process may have ended; any other one shows the container's cgroup as well.
            if let Ok(target) = self.agent.observer.lock().await.target(container_id(self.order)) {
                inspection = inspect(&self.agent.tree, target.pid, Wanted::default()).await;
                self.target = target;
            }
        }
        self.gauge.take(&inspection, std::time::Instant::now());
        self.agent.measured(&self.order.capture, &self.gauge);
    }

    fn conclude(mut self) -> Outcome {
        self.ending.overdue = self.started.elapsed() >= Duration::from_millis(self.order.duration_ms);
        if let Some(Event::Finished(done)) = &self.ending.last {
            tracing::info!(
                fleetprof.capture = self.order.capture,
                samples = done.samples,
                expected = done.expected,
                taken = done.taken,
                lost = done.lost,
                slices = done.slices,
                notes = bounded(done.notes.join(" "), 1000),
                "sampling finished"
            );
        }
        outcome(&self.ending)
    }
}

/// The lines of a worker, as events.
struct Lines {
    from: Option<ChildStdout>,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next event; an error for a line that is none. `None` at the end. Dropping the future loses
    /// nothing.
    async fn next(&mut self) -> Option<Result<Event, String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).map_err(|e| e.to_string()));
            }
            if self.buffer.len() > MAX_LINE {
                return Some(Err(format!("line longer than {MAX_LINE} bytes")));
            }
            let mut chunk = [0_u8; 2048];
            match self.from.as_mut()?.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.buffer.extend_from_slice(chunk.get(..n)?),
            }
        }
    }
}
