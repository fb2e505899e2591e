//! What does the agent tell the gateway of itself, and what does it take from the answer?

use std::time::{Duration, Instant};

use fleetprof_crds::wire::{CaptureReport, Heartbeat, HeartbeatReply, MAX_HEARTBEAT_BYTES, PROTOCOL};

use super::agent::{Agent, milliseconds};
use super::spool::MAX_CA_BYTES;
use super::stay::Idle;

/// The shortest time between two heartbeats of an agent whose container stays over a line.
pub const HOT: Duration = Duration::from_secs(9);

impl Agent {
    /// What to tell the gateway now.
    pub async fn heartbeat(&self) -> Heartbeat {
        let containers = self.observer.lock().await.observe().await;
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
        };
        // The oldest captures come first and are settled first, so the newest can wait for the next
        // heartbeat.
        while serde_json::to_vec(&heartbeat).is_ok_and(|b| b.len() > MAX_HEARTBEAT_BYTES)
            && heartbeat.captures.pop().is_some()
        {}
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
        self.watch.set(reply.watch);
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

/// How long ago a capture started and ended, which is the same by any clock.
fn age(report: &mut CaptureReport, now_ms: i64) {
    let ago = |at: Option<i64>| {
        at.map(|at| u64::try_from(now_ms.saturating_sub(at.saturating_mul(1000))).unwrap_or(0))
    };
    (report.started_ago_ms, report.ended_ago_ms) = (ago(report.started_at), ago(report.ended_at));
}
