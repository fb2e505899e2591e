//! What does the agent do between captures, and how does a capture come about? The supervisor: one thread,
//! little memory.
//!
//! ```text
//!            orders (long poll) ─► captures::decide ─► run_worker ─► a process `fleetprof-worker`
//! gateway ◄─ heartbeats ◄───────── captures (table) ◄─ events ─────┘        │ slices
//!         ◄─ uploads ◄──────────── spool (records, slices) ◄────────────────┘
//! ```
//! Decisions are pure: [`captures`], `order`, [`choose`], [`offers`], [`outcome`], [`backoff`], [`stay`],
//! [`usage`], [`told`]. What is in the spool decides what happens after a crash: a record is synced before
//! its worker starts, and a slice is removed after it is stored.

mod agent;
pub mod backoff;
pub mod captures;
pub mod choose;
mod credential;
mod gateway;
mod gauge;
pub mod glance;
mod heartbeat;
pub mod inspect;
mod loops;
mod memory;
mod observe;
pub mod offers;
mod order;
pub mod outcome;
mod run_worker;
mod settings;
mod signals;
mod spool;
pub mod stay;
pub mod told;
pub mod usage;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fleetprof_crds::wire::{AgentMode, Heartbeat};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::LocalSet;

use crate::proc::ProcTree;
use agent::{Agent, most_rows};
use captures::Captures;
use credential::Credential;
use gateway::Gateway;
use memory::Promises;
use observe::Observer;
pub use settings::Settings;
use spool::Spool;
use told::Message;

/// How often an attached agent looks whether it may leave.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Runs the agent until SIGTERM or SIGINT or, attached, until it may not stay any longer.
pub fn run(settings: Settings, mode: AgentMode) -> anyhow::Result<ExitCode> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // The one blocking thread resolves names; it ends when it is idle.
    let runtime =
        builder.enable_all().max_blocking_threads(1).thread_keep_alive(Duration::from_secs(2)).build()?;
    let result = LocalSet::new().block_on(&runtime, serve(settings, mode));
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings, mode: AgentMode) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let agent = match assemble(settings, mode) {
        Ok(agent) => Rc::new(agent),
        Err(error) if mode == AgentMode::Sidecar => return Ok(stay_idle(&error, terminate, interrupt).await),
        Err(error) => return Err(error),
    };
    agent.restore();
    tracing::info!(
        mode = ?mode,
        instance = agent.instance,
        spool = ?agent.spool.root().ok(),
        version = env!("CARGO_PKG_VERSION"),
        "agent runs"
    );
    let mut loops = start(&agent);
    let ended = tokio::select! {
        _ = terminate.recv() => Ok("received SIGTERM"),
        _ = interrupt.recv() => Ok("received SIGINT"),
        why = may_leave(&agent) => Ok(why),
        Some(ended) = loops.join_next() => Err(ended.unwrap_or_else(broken)),
    };
    tracing::info!(why = ended.as_ref().ok(), "agent shutting down");
    // The loops that are left upload what waits.
    take_leave(&agent).await;
    if mode == AgentMode::Ephemeral {
        // An ephemeral container is never restarted.
        agent.spool.remove();
    }
    ended.map(|_| ExitCode::SUCCESS)
}

/// While a sidecar is down its pod is not Ready, and no restart changes what it was told.
async fn stay_idle(error: &anyhow::Error, mut terminate: Signal, mut interrupt: Signal) -> ExitCode {
    tracing::error!(%error, "the agent cannot work; it stays, so that its pod is ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    ExitCode::SUCCESS
}

/// Starts what the agent does all day; whatever ends, ends the agent.
fn start(agent: &Rc<Agent>) -> tokio::task::JoinSet<anyhow::Error> {
    let mut loops = tokio::task::JoinSet::new();
    loops.spawn_local(loops::heartbeats(Rc::clone(agent)));
    loops.spawn_local(loops::orders(Rc::clone(agent)));
    loops.spawn_local(loops::levels(Rc::clone(agent)));
    loops.spawn_local(loops::changes(Rc::clone(agent)));
    loops.spawn_local(loops::uploads(Rc::clone(agent)));
    loops.spawn_local(loops::deadlines(Rc::clone(agent)));
    loops
}

fn broken(error: tokio::task::JoinError) -> anyhow::Error {
    anyhow::anyhow!("a task of the agent ended: {error}")
}

fn assemble(settings: Settings, mode: AgentMode) -> anyhow::Result<Agent> {
    let instance = spool::hex(&agent::random_bytes::<8>());
    let spool = spool(&settings.spool_candidates(&instance), mode)?;
    let gateway = gateway(&settings, &spool, credential(&settings, mode)?)?;
    let tree = ProcTree::new(settings.proc.clone());
    let observer = Observer::new(tree.clone(), most_rows(mode));
    Ok(Agent {
        mode,
        instance,
        node: observer.node(),
        observer: Mutex::new(observer),
        tree,
        spool,
        gateway,
        captures: RefCell::new(Captures::of(&settings.kinds(), most_rows(mode))),
        promises: Promises::default(),
        orders: RefCell::new(Vec::new()),
        beat: Notify::new(),
        told: RefCell::default(),
        lines: RefCell::default(),
        last_beat: Cell::new(Instant::now()),
        hot: Cell::new(heartbeat::HOT),
        upload: Notify::new(),
        shutdown: watch::Sender::new(false),
        last_work: Cell::new(Instant::now()),
        last_answer: Cell::new(Instant::now()),
        stay: Cell::new(None),
        settings,
    })
}

/// The memory of a pod, where a sidecar's spool is, may be full when it is started again: orders fail until there is
/// room, and the pod is ready meanwhile.
fn spool(candidates: &[PathBuf], mode: AgentMode) -> anyhow::Result<Spool> {
    let spool = Spool::closed(candidates);
    match spool.reopen() {
        Err(error) if mode == AgentMode::Sidecar => {
            tracing::warn!(%error, "no capture can run until there is room for the spool");
        }
        opened => drop(opened?),
    }
    Ok(spool)
}

/// What an agent proves itself with: the token of its pod, or the ticket of one that was attached.
fn credential(settings: &Settings, mode: AgentMode) -> anyhow::Result<Credential> {
    match (mode, &settings.ticket) {
        (AgentMode::Sidecar | AgentMode::Node | AgentMode::Unknown, _) => {
            Ok(Credential::token_file(settings.token_file.clone()))
        }
        (AgentMode::Ephemeral, Some(ticket)) => Ok(Credential::ticket(ticket.trim().to_owned())),
        (AgentMode::Ephemeral, None) => {
            anyhow::bail!("FLEETPROF_TICKET is not set; attached agents need a ticket")
        }
    }
}

/// The CA that the gateway sent last is newer than the one in the environment.
fn gateway(settings: &Settings, spool: &Spool, credential: Credential) -> anyhow::Result<Gateway> {
    let gateway = Gateway::new(&settings.gateway, &settings.ca, credential)?;
    if let Some(ca) = spool.ca()
        && let Err(error) = gateway.trust(&ca)
    {
        tracing::warn!(%error, "invalid CA in the spool, using the one in FLEETPROF_CA");
    }
    Ok(gateway)
}

/// Returns once an attached agent may leave, and says why; any other stays with its pod.
async fn may_leave(agent: &Agent) -> &'static str {
    if agent.mode != AgentMode::Ephemeral {
        return std::future::pending().await;
    }
    loop {
        let left = stay::left(&agent.idle());
        let is_busy = agent.captures.borrow().live().next().is_some();
        if left.is_zero() && !is_busy {
            return "no work";
        }
        let pause = if is_busy { agent.settings.idle_exit() } else { left };
        // What the gateway says may change meanwhile.
        tokio::time::sleep(pause.clamp(Duration::from_secs(1), LOOK_AGAIN)).await;
    }
}

/// Ends the workers, and uploads what can be uploaded in a few seconds; the rest stays in the spool.
async fn take_leave(agent: &Agent) {
    agent.shutdown.send_replace(true);
    agent.stop_all();
    let done = async {
        while !agent.captures.borrow().is_idle() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let leaving = agent.mode == AgentMode::Ephemeral;
        let heartbeat = Heartbeat { leaving, ..agent.heartbeat().await };
        if leaving || agent.captures.borrow().live().next().is_some() {
            let _ = agent.gateway.tell(&Message::Whole(heartbeat)).await;
        }
    };
    let grace = Duration::from_secs(agent.settings.shutdown_grace);
    if tokio::time::timeout(grace, done).await.is_err() {
        tracing::warn!("shutting down before everything was uploaded");
    }
}
