//! What does the agent tell the gateway of itself, and what does it take from the answer?

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fleetprof_crds::wire::{
    AgentMode, CaptureReport, ContainerReport, Heartbeat, HeartbeatReply, MAX_HEARTBEAT_BYTES,
    MAX_NODE_HEARTBEAT_BYTES, MAX_NODE_ROWS, PROTOCOL, Watch,
};

use super::agent::{Agent, milliseconds};
use super::spool::MAX_CA_BYTES;
use super::stay::Idle;
use crate::capture::protocol::bounded;

/// The shortest time between two heartbeats of an agent whose container stays over a line.
pub const HOT: Duration = Duration::from_secs(9);
/// Most bytes of what is said of a kind that cannot be captured, where there is not room for all.
const SHORT_MESSAGE: usize = 64;

/// Lines that triggers wait for.
#[derive(Debug, Default)]
pub struct Lines {
    /// Of every container.
    all: Option<Watch>,
    /// By container id.
    containers: BTreeMap<String, Watch>,
}

impl Lines {
    fn of(reply: &HeartbeatReply) -> Self {
        let named = reply.watches.iter().take(MAX_NODE_ROWS);
        Self { all: reply.watch, containers: named.map(|(id, watch)| (id.clone(), *watch)).collect() }
    }

    /// The containers of which signals are waited for.
    pub fn signals(&self) -> SignalsOf {
        let of_all = self.all.is_some_and(|line| !line.signals.is_empty());
        let named = self.containers.iter().filter(|(_, line)| !line.signals.is_empty());
        SignalsOf { all: of_all, containers: named.map(|(id, _)| id.clone()).collect() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.containers.is_empty()
    }

    /// Whether one of the containers has reached one of its lines.
    pub fn reached(&self, containers: &[ContainerReport]) -> bool {
        let line = |row: &ContainerReport| self.containers.get(&row.id).copied().or(self.all);
        containers.iter().any(|row| line(row).is_some_and(|l| l.reached(std::slice::from_ref(row))))
    }
}

/// The containers whose signals are measured: only where a trigger waits for one, since each costs four files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignalsOf {
    all: bool,
    containers: BTreeSet<String>,
}

impl SignalsOf {
    /// Whether they are measured of a container.
    pub fn has(&self, container: &str) -> bool {
        self.all || self.containers.contains(container)
    }
}

impl Agent {
    /// The containers as they are now.
    pub async fn observe(&self) -> Vec<ContainerReport> {
        let signals = self.lines.borrow().signals();
        self.observer.lock().await.observe(&signals).await
    }

    /// What to tell the gateway now.
    pub async fn heartbeat(&self) -> Heartbeat {
        let containers = self.observe().await;
        let mut captures = self.captures.borrow().reports();
        captures.iter_mut().for_each(|report| age(report, milliseconds()));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut heartbeat = Heartbeat {
            version,
            protocol: PROTOCOL,
            mode: self.mode,
            instance: self.instance.clone(),
            containers,
            captures,
            sent_at_ms: Some(milliseconds()),
            leaving: false,
            number: None,
        };
        fit(&mut heartbeat);
        heartbeat
    }

    /// What decides on how long it stays without work.
    pub fn idle(&self) -> Idle {
        Idle {
            work: self.last_work.get().elapsed(),
            answer: self.last_answer.get().elapsed(),
            told: self.stay.get(),
            idle_exit: self.settings.idle_exit(),
        }
    }

    /// Takes in the gateway's answer.
    pub fn heard(&self, reply: &HeartbeatReply) {
        reply.settled.iter().for_each(|capture| self.settle(capture));
        *self.lines.borrow_mut() = Lines::of(reply);
        self.last_answer.set(Instant::now());
        self.stay.set(reply.stay.or(self.stay.get()));
        self.hot.set(HOT.max(Duration::from_millis(reply.next_ms.min(300_000) / 3)));
        let Some(ca) = reply.ca_bundle.as_deref().filter(|ca| ca.len() <= MAX_CA_BYTES) else { return };
        match self.gateway.trust(ca) {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("the gateway's CA changed");
                if let Err(error) = self.spool.save_ca(ca) {
                    tracing::error!(%error, "failed to save the CA for the next start");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "invalid CA from gateway, keeping the current one")
            }
        }
    }
}

/// Cuts a heartbeat to what the gateway takes: first what is said of kinds that cannot be captured, which a
/// skip without a sentence still tells. The oldest captures come first and are settled first, so the newest
/// can wait for the next heartbeat.
fn fit(heartbeat: &mut Heartbeat) {
    let most = match heartbeat.mode {
        AgentMode::Node => MAX_NODE_HEARTBEAT_BYTES,
        AgentMode::Sidecar | AgentMode::Ephemeral | AgentMode::Unknown => MAX_HEARTBEAT_BYTES,
    };
    let is_large = |beat: &Heartbeat| serde_json::to_vec(beat).is_ok_and(|b| b.len() > most);
    for length in [SHORT_MESSAGE, 0] {
        if is_large(heartbeat) {
            let offers = heartbeat.containers.iter_mut().flat_map(|container| &mut container.offers);
            let problems = offers.filter_map(|offer| offer.problem.as_mut());
            problems
                .for_each(|problem| problem.message = bounded(std::mem::take(&mut problem.message), length));
        }
    }
    while is_large(heartbeat) && heartbeat.captures.pop().is_some() {}
}

/// How long ago a capture started and ended, which is the same by any clock.
fn age(report: &mut CaptureReport, now_ms: i64) {
    let ago = |at: Option<i64>| {
        at.map(|at| u64::try_from(now_ms.saturating_sub(at.saturating_mul(1000))).unwrap_or(0))
    };
    (report.started_ago_ms, report.ended_ago_ms) = (ago(report.started_at), ago(report.ended_at));
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::wire::{CaptureState, Offer, Problem};
    use fleetprof_crds::{ProfileKind, Reason};

    use super::*;

    fn heartbeat(containers: usize, captures: usize) -> Heartbeat {
        let problem = || Problem { reason: Reason::UnsupportedRuntime, message: "m".repeat(256) };
        let container = |n: usize| ContainerReport {
            id: format!("{n:064x}"),
            runtime: "Go 1.26".into(),
            cpu_percent: None,
            memory_percent: None,
            cpu_of_node: false,
            signals: None,
            memory_of_node: false,
            problem: None,
            offers: ProfileKind::ALL.map(|kind| Offer::refused(kind, "go-pprof", problem())).to_vec(),
        };
        Heartbeat {
            version: "1".into(),
            protocol: 2,
            mode: AgentMode::Sidecar,
            instance: "i".into(),
            containers: (0..containers).map(container).collect(),
            captures: (0..captures)
                .map(|n| CaptureReport::new(n.to_string(), CaptureState::Running))
                .collect(),
            sent_at_ms: None,
            leaving: false,
            number: None,
        }
    }

    #[test]
    fn a_container_is_held_against_its_own_line() {
        let row = |id: usize, cpu| ContainerReport {
            cpu_percent: Some(cpu),
            ..heartbeat(id + 1, 0).containers.remove(id)
        };
        let line = |cpu| Watch { cpu_percent: Some(cpu), ..Watch::default() };
        let id = |n: usize| format!("{n:064x}");
        let of_node = HeartbeatReply {
            watches: [(id(0), line(80)), (id(1), line(20))].into(),
            ..HeartbeatReply::default()
        };
        let lines = Lines::of(&of_node);
        assert!(!lines.is_empty() && !lines.reached(&[row(0, 50), row(1, 10), row(2, 99)]));
        assert!(lines.reached(&[row(0, 50), row(1, 20)]) && lines.reached(&[row(0, 80)]));
        let of_pod = Lines::of(&HeartbeatReply { watch: Some(line(30)), ..HeartbeatReply::default() });
        assert!(of_pod.reached(&[row(7, 30)]) && !of_pod.reached(&[row(7, 29)]));
        assert!(Lines::of(&HeartbeatReply::default()).is_empty());
    }

    #[test]
    fn what_is_said_of_offers_is_cut_before_a_capture_waits() {
        for (containers, captures, kept, said) in [(3, 64, 64, 256), (45, 8, 8, SHORT_MESSAGE), (64, 8, 8, 0)]
        {
            let mut beat = heartbeat(containers, captures);
            fit(&mut beat);
            assert!(serde_json::to_vec(&beat).unwrap().len() <= MAX_HEARTBEAT_BYTES, "{containers}");
            let message = &beat.containers[0].offers[0].problem.as_ref().unwrap().message;
            assert_eq!((beat.captures.len(), message.len()), (kept, said), "{containers}");
        }
    }
}
