//! What do the agent's loops share? The table of captures, the spool, the gateway; and every change of the
//! table.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fleetprof_crds::wire::{
    AgentMode, CaptureState, MAX_NODE_ROWS, MAX_ROWS, MAX_SLICES, Order, Problem, SliceId, Stay,
};
use fleetprof_crds::{Reason, names};
use tokio::sync::{Mutex, Notify, watch};

use super::captures::{Action, Captures, Stop, problem, record};
use super::gateway::Gateway;
use super::gauge::Gauge;
use super::heartbeat::Lines;
use super::memory::Promises;
use super::observe::Observer;
use super::run_worker;
use super::settings::{MEMORY_LIMIT, Settings};
use super::spool::{KEPT, Outcome, Record, Spool};
use super::stay::ABANDONED;
use super::told::Told;
use super::usage::Node;
use crate::capture::protocol::{Cover, Event, SliceWritten, Started, bounded};
use crate::proc::ProcTree;

/// Most containers that an agent reports, and most captures of it that are not settled.
#[must_use]
pub const fn most_rows(mode: AgentMode) -> usize {
    match mode {
        AgentMode::Node => MAX_NODE_ROWS,
        AgentMode::Sidecar | AgentMode::Ephemeral | AgentMode::Unknown => MAX_ROWS,
    }
}

/// The agent.
pub struct Agent {
    /// What it was told at its start.
    pub settings: Settings,
    /// How it came into the pod.
    pub mode: AgentMode,
    /// Random name of this process.
    pub instance: String,
    /// The processes it sees.
    pub tree: ProcTree,
    /// What a container without limits is measured against.
    pub node: Node,
    /// What outlives it.
    pub spool: Spool,
    /// Whom it talks to.
    pub gateway: Gateway,
    /// Watches the containers.
    pub observer: Mutex<Observer>,
    /// Every capture.
    pub captures: RefCell<Captures>,
    /// The memory of its workers.
    pub promises: Promises,
    /// The newest list of orders.
    pub orders: RefCell<Vec<Order>>,
    /// A heartbeat is due at once.
    pub beat: Notify,
    /// What the gateway was told of the containers.
    pub told: RefCell<Told>,
    /// Lines that the gateway wants to know of at once.
    pub lines: RefCell<Lines>,
    /// When the last heartbeat was sent.
    pub last_beat: Cell<Instant>,
    /// How often it is told that a container is still over a line.
    pub hot: Cell<Duration>,
    /// There may be something to upload.
    pub upload: Notify,
    /// The agent is to end.
    pub shutdown: watch::Sender<bool>,
    /// When there was something to do last.
    pub last_work: Cell<Instant>,
    /// When the gateway answered a heartbeat last.
    pub last_answer: Cell<Instant>,
    /// How long it may stay without work, as the gateway said last.
    pub stay: Cell<Option<Stay>>,
}

impl Agent {
    /// Takes over what the spool holds, so that no capture runs twice and every slice is still uploaded.
    pub fn restore(&self) {
        let mut table = Captures::restore(&self.settings.kinds(), most_rows(self.mode), self.spool.load());
        table.add_all(self.captures.take());
        for gone in table.prune(seconds() - i64::try_from(KEPT.as_secs()).unwrap_or(0)) {
            self.spool.forget(&gone);
        }
        let unsettled: Vec<String> = table.live().map(|c| c.record.report.capture.clone()).collect();
        *self.captures.borrow_mut() = table;
        for capture in &unsettled {
            tracing::info!(fleetprof.capture = capture, "resuming a capture from before the restart");
            self.rescan(capture);
        }
    }

    /// Obeys the newest list of orders.
    pub fn obey(self: &Rc<Self>) {
        if *self.shutdown.borrow() {
            return;
        }
        self.find_room();
        let actions = self.captures.borrow().decide(&self.orders.borrow(), steady_seconds());
        for action in actions {
            self.last_work.set(Instant::now());
            match action {
                Action::Start(order, skipped) => self.start(order, skipped),
                Action::Conclude(order, state, why) => self.conclude(&order, state, why),
                Action::Cancel(capture) => self.stop(&capture, Stop::Cancelled),
            }
        }
    }

    /// Opens the spool, where there was no room for it when the agent started.
    fn find_room(&self) {
        if self.spool.reopen().is_ok_and(|was_closed| was_closed) {
            tracing::info!(spool = ?self.spool.root().ok(), "there is room for the spool again");
            self.restore();
        }
    }

    /// The record is on disk before the worker exists: an agent that dies in between never runs the capture
    /// again.
    fn start(self: &Rc<Self>, order: Order, skipped: Option<Problem>) {
        let record = Record { skipped, ..record(&order, CaptureState::Accepted, seconds()) };
        if let Err(error) = self.spool.save(&record) {
            let why = problem(
                Reason::SpoolFailed,
                format!("failed to record the capture, not running it: {error}"),
            );
            return self.conclude(&order, CaptureState::Failed, why);
        }
        let (stop, stopped) = watch::channel(None);
        self.captures.borrow_mut().add(record, Some(stop));
        self.beat.notify_one();
        tokio::task::spawn_local(run_worker::run(Rc::clone(self), order, stopped));
    }

    fn conclude(&self, order: &Order, state: CaptureState, why: Problem) {
        tracing::info!(
            fleetprof.capture = order.capture,
            fleetprof.session.uid = order.session,
            reason = %why.reason,
            message = why.message,
            "not run"
        );
        self.captures.borrow_mut().add(record(order, state, seconds()), None);
        self.change(&order.capture, |c| c.ended(Outcome { state, problem: Some(why) }, seconds()));
    }

    /// Whether a container started, or another thing can be captured of one, since the gateway was told.
    pub async fn has_news(&self) -> bool {
        let mut observer = self.observer.lock().await;
        if !observer.may_have_changed() {
            return false;
        }
        let signals = self.lines.borrow().signals();
        let containers = observer.observe(&signals).await;
        self.told.borrow().differs_from(&containers)
    }

    /// Asks a worker to end.
    fn stop(&self, capture: &str, why: Stop) {
        if let Some(worker) = self.captures.borrow().get(capture).and_then(|c| c.worker.as_ref()) {
            worker.send_if_modified(|stop| stop.replace(why).is_none());
        }
    }

    /// Asks every worker to end.
    pub fn stop_all(&self) {
        let running: Vec<String> =
            self.captures.borrow().running().map(|c| c.record.report.capture.clone()).collect();
        running.iter().for_each(|capture| self.stop(capture, Stop::Shutdown));
    }

    /// A worker says how it goes.
    pub fn progress(&self, capture: &str, event: Event) {
        match event {
            Event::Started(started) => self.change(capture, |c| {
                tracing::info!(
                    fleetprof.capture = capture,
                    method = started.method,
                    why = started.why,
                    "sampling"
                );
                apply_started(&mut c.record, started);
            }),
            Event::Slice(SliceWritten { slice, bytes, samples, cover, .. }) => {
                self.change(capture, |c| {
                    apply_cover(&mut c.record, cover);
                    // Kinds count different things, so that their sum says nothing.
                    if c.record.profiles.first() == Some(&slice.kind) {
                        let samples = i64::try_from(samples).unwrap_or(0);
                        c.record.report.samples = c.record.report.samples.saturating_add(samples);
                    }
                    if slice.seq < MAX_SLICES && c.record.profiles.contains(&slice.kind) {
                        c.written(slice, bytes);
                    }
                });
                self.drop_over_limit();
                self.upload.notify_one();
            }
            Event::Finished(finished) => self.change(capture, |c| {
                apply_cover(&mut c.record, finished.cover);
                c.record.report.note = finished.note.map(|note| bounded(note, names::MAX_MESSAGE));
            }),
            Event::Failed(failed) => self.change(capture, |c| apply_cover(&mut c.record, failed.cover)),
        }
    }

    /// The target's use of CPU and memory during its capture; goes with the next heartbeat.
    pub fn measured(&self, capture: &str, gauge: &Gauge) {
        if let Some(capture) = self.captures.borrow_mut().get_mut(capture) {
            let report = &mut capture.record.report;
            report.cpu_percent = gauge.cpu_percent();
            report.memory_percent = gauge.memory_percent();
            report.throttled_percent = gauge.throttled_percent();
        }
    }

    /// A capture's worker is gone.
    pub fn ended(self: &Rc<Self>, order: &Order, outcome: Outcome) {
        let (state, why) =
            (outcome.state, outcome.problem.as_ref().map(|p| p.message.clone()).unwrap_or_default());
        tracing::info!(
            fleetprof.capture = order.capture,
            fleetprof.session.uid = order.session,
            state = ?state,
            message = why,
            "capture ended"
        );
        for (slice, bytes) in self.spool.slices(&order.capture) {
            if let Some(capture) = self.captures.borrow_mut().get_mut(&order.capture)
                && capture.record.profiles.contains(&slice.kind)
            {
                capture.written(slice, bytes);
            }
        }
        let mut unwanted = false;
        self.change(&order.capture, |c| {
            c.ended(outcome, seconds());
            unwanted = c.unwanted;
        });
        if unwanted {
            self.settle(&order.capture);
        }
        self.last_work.set(Instant::now());
        self.upload.notify_one();
        self.obey();
    }

    /// Looks in the spool for slices of a capture that no event told of.
    fn rescan(&self, capture: &str) {
        let found = self.spool.slices(capture);
        self.change(capture, |c| {
            found.iter().for_each(|(slice, bytes)| c.written(*slice, *bytes));
            if let Some(outcome) = c.record.outcome.clone() {
                c.ended(outcome, seconds());
            }
        });
        self.drop_over_limit();
    }

    /// A slice is stored: recorded first, then removed, so that a crash in between loses neither.
    pub fn stored(&self, capture: &str, slice: SliceId) {
        self.change(capture, |c| c.stored(slice));
        self.spool.remove_slice(capture, slice);
        self.last_work.set(Instant::now());
    }

    /// A slice is given up, and said so.
    pub fn lose(&self, capture: &str, slice: SliceId, why: Problem) {
        tracing::warn!(
            fleetprof.capture = capture,
            fleetprof.profile.kind = slice.kind.name(),
            fleetprof.slice = slice.seq,
            reason = %why.reason,
            message = why.message,
            "dropping a slice"
        );
        self.change(capture, |c| c.lost(slice, why));
        self.spool.remove_slice(capture, slice);
    }

    fn drop_over_limit(&self) {
        let limit =
            self.settings.spool_limit.min(if self.spool.is_shared() { MEMORY_LIMIT } else { u64::MAX });
        let dropped = self.captures.borrow().over_limit(limit);
        for (capture, slice) in dropped {
            let mib = limit / (1024 * 1024);
            self.lose(
                &capture,
                slice,
                problem(
                    Reason::SpoolFull,
                    format!("dropped {slice}: more than {mib} MiB were waiting to be uploaded"),
                ),
            );
        }
    }

    /// Changes a capture, records that, and has it reported at once.
    fn change(&self, capture: &str, change: impl FnOnce(&mut super::captures::Capture)) {
        let mut table = self.captures.borrow_mut();
        let Some(found) = table.get_mut(capture) else { return };
        change(found);
        if let Err(error) = self.spool.save(&found.record) {
            tracing::error!(fleetprof.capture = capture, %error, "failed to write the capture's record");
        }
        self.beat.notify_one();
    }

    /// Forgets a capture, but not that it ran; a running one is stopped first.
    pub fn settle(&self, capture: &str) {
        self.stop(capture, Stop::Cancelled);
        let settled = self.captures.borrow_mut().settle(capture);
        if let Some(mut record) = settled {
            self.spool.remove_slices(capture);
            shrink(&mut record);
            if let Err(error) = self.spool.save(&record) {
                tracing::error!(
                    fleetprof.capture = capture,
                    %error,
                    "failed to write the capture's record"
                );
            }
            tracing::info!(fleetprof.capture = capture, "settled");
        }
    }

    /// Forgets what is too old: records of settled captures, and captures that nobody settles.
    pub fn tidy(&self) {
        let before = |age: Duration| seconds() - i64::try_from(age.as_secs()).unwrap_or(0);
        let abandoned = self.captures.borrow().abandoned(before(ABANDONED));
        abandoned.iter().for_each(|capture| self.settle(capture));
        let gone = self.captures.borrow_mut().prune(before(KEPT));
        gone.iter().for_each(|capture| self.spool.forget(capture));
    }
}

fn apply_started(record: &mut Record, started: Started) {
    let report = &mut record.report;
    report.state = CaptureState::Running;
    report.runtime = Some(bounded(started.runtime, 64));
    report.collector = Some(bounded(started.method, 64));
    report.collector_why = Some(bounded(started.why, 256));
    report.started_at = i64::try_from(started.start_nanos / 1_000_000_000).ok();
}

fn apply_cover(record: &mut Record, cover: Option<Cover>) {
    let Some(Cover { processes, cpu_nanos, used_nanos }) = cover else { return };
    let millis = |nanos: u64| i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX);
    let report = &mut record.report;
    report.processes = Some(processes);
    report.profiled_ms = Some(millis(cpu_nanos));
    report.used_ms = used_nanos.map(millis);
}

/// Of a settled capture only its name and time are kept.
fn shrink(record: &mut Record) {
    let report = &mut record.report;
    (report.problem, report.collector_why, record.outcome, record.loss) = (None, None, None, None);
    record.stored.clear();
    record.lost.clear();
}

/// Seconds since 1970 by a clock that nobody sets: it counts from when it was first read. For deadlines
/// alone.
#[must_use]
pub fn steady_seconds() -> i64 {
    static BEGAN: OnceLock<(Instant, i64)> = OnceLock::new();
    let (began, at) = BEGAN.get_or_init(|| (Instant::now(), seconds()));
    at.saturating_add(i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX))
}

/// Milliseconds since 1970.
#[must_use]
pub fn milliseconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Seconds since 1970.
#[must_use]
pub fn seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// Random in `0.0..1.0`.
#[must_use]
pub fn chance() -> f64 {
    let bytes = random_bytes::<4>();
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// Random bytes from the provider of TLS.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
    debug_assert!(filled.is_ok());
    bytes
}
