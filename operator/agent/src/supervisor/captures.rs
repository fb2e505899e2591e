//! What does the agent do for each order, and where does each capture stand? A table in memory; no I/O, no
//! clock.
//!
//! ```text
//!           decide                 worker                  uploads done
//! Order ──► Accepted ─► Running ─► Uploading ────────────► Finished | Failed | Cancelled ─► settled (kept 48 h)
//!    └────► Skipped | Cancelled | Failed (nothing was started)                               ▲
//!                                            HeartbeatReply.settled, or 410 to an upload ────┘
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use fleetprof_crds::wire::{CaptureReport, CaptureState, Order, Problem, SliceId};
use fleetprof_crds::{ProfileKind, Reason, names};
use tokio::sync::watch;

use super::order::{container_id, is_legal, refusal, split};
use super::spool::{Outcome, Record};
use crate::capture::protocol::bounded;

/// Most settled captures that are remembered in memory.
const MAX_SETTLED: usize = 512;

/// Why a running worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The order says so, or is not in the list any more.
    Cancelled,
    /// The agent itself ends.
    Shutdown,
}

/// A capture that is not settled.
#[derive(Debug)]
pub struct Capture {
    /// What is also on disk.
    pub record: Record,
    /// Slices in the spool and their bytes.
    pub pending: BTreeMap<SliceId, u64>,
    /// Ends the worker; `None` when none runs.
    pub worker: Option<watch::Sender<Option<Stop>>>,
    /// No upload before this, and since when the gateway says that it does not know the capture.
    pub unknown: Option<(Instant, Instant)>,
    /// The gateway wants nothing of it any more; it is settled once its worker has ended.
    pub unwanted: bool,
}

/// What to do with an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run it, as far as its kinds can be captured; the problem says why the rest cannot.
    Start(Order, Option<Problem>),
    /// Report a final state without having run it.
    Conclude(Order, CaptureState, Problem),
    /// End the worker of this capture.
    Cancel(String),
}

/// Every capture that the agent knows.
#[derive(Debug, Default)]
pub struct Captures {
    /// What the collectors capture.
    kinds: Vec<ProfileKind>,
    /// Most captures that are not settled; with more, orders wait.
    most: usize,
    live: Vec<Capture>,
    /// Settled captures and when their orders were taken, seconds since 1970.
    settled: HashMap<String, i64>,
}

impl Captures {
    /// An empty table of an agent that captures these kinds, with `most` captures that are not settled.
    #[must_use]
    pub fn of(kinds: &[ProfileKind], most: usize) -> Self {
        Self { kinds: kinds.to_vec(), most, live: Vec::new(), settled: HashMap::new() }
    }

    /// The table after a restart. A capture whose worker was running has lost it: `AgentGone`.
    #[must_use]
    pub fn restore(kinds: &[ProfileKind], most: usize, records: Vec<Record>) -> Self {
        let mut table = Self::of(kinds, most);
        for mut record in records {
            if record.settled {
                table.settled.insert(record.report.capture, record.taken_at);
                continue;
            }
            if record.outcome.is_none() {
                let message =
                    "the agent was restarted during the capture; data captured before that is uploaded";
                record.outcome = Some(Outcome {
                    state: CaptureState::Failed,
                    problem: Some(problem(Reason::AgentGone, message)),
                });
            }
            table.live.push(Capture {
                record,
                pending: BTreeMap::new(),
                worker: None,
                unknown: None,
                unwanted: false,
            });
        }
        table.live.sort_by_key(|c| c.record.taken_at);
        table
    }

    /// Adds what another table knows and this one does not.
    pub fn add_all(&mut self, other: Self) {
        for capture in other.live {
            let name = &capture.record.report.capture;
            if self.get(name).is_none() && !self.settled.contains_key(name) {
                self.live.push(capture);
            }
        }
        for (name, at) in other.settled {
            if self.get(&name).is_none() {
                self.settled.entry(name).or_insert(at);
            }
        }
    }

    /// Decides on a list of orders at `now` (seconds since 1970). An order that has to wait brings no action.
    #[must_use]
    pub fn decide(&self, orders: &[Order], now: i64) -> Vec<Action> {
        let mut actions: Vec<Action> = Vec::new();
        let mut busy: HashSet<&str> = self.running().map(|c| c.record.container.as_str()).collect();
        let mut free = self.most.saturating_sub(self.live.len());
        let mut seen = HashSet::new();
        for order in orders.iter().filter(|o| is_legal(o) && seen.insert(o.capture.as_str())) {
            if let Some(capture) = self.get(&order.capture) {
                if order.cancel && capture.worker.is_some() {
                    actions.push(Action::Cancel(order.capture.clone()));
                }
            } else if !self.settled.contains_key(&order.capture) && free > 0 {
                let (profiles, skipped) = split(&order.profiles, &self.kinds);
                let refused = refusal(order, now, busy.contains(container_id(order)));
                let action = match (refused, skipped) {
                    (Some((state, problem)), _) => Action::Conclude(order.clone(), state, problem),
                    (None, Some(problem)) if profiles.is_empty() => {
                        Action::Conclude(order.clone(), CaptureState::Skipped, problem)
                    }
                    (None, skipped) if busy.insert(container_id(order)) => {
                        Action::Start(Order { profiles, ..order.clone() }, skipped)
                    }
                    (None, _) => continue,
                };
                free -= 1;
                actions.push(action);
            }
        }
        let unwanted =
            self.running().map(|c| &c.record.report.capture).filter(|name| !seen.contains(name.as_str()));
        actions.extend(unwanted.map(|name| Action::Cancel(name.clone())));
        actions
    }

    /// When the first waiting order may no longer be started, seconds since 1970; `None` when none waits.
    #[must_use]
    pub fn next_deadline(&self, orders: &[Order]) -> Option<i64> {
        let waiting = |o: &&Order| {
            is_legal(o) && self.get(&o.capture).is_none() && !self.settled.contains_key(&o.capture)
        };
        orders.iter().filter(waiting).map(|o| o.start_before).min()
    }

    /// Adds the capture of an order.
    pub fn add(&mut self, record: Record, worker: Option<watch::Sender<Option<Stop>>>) {
        self.live.push(Capture { record, pending: BTreeMap::new(), worker, unknown: None, unwanted: false });
    }

    /// A capture that is not settled.
    #[must_use]
    pub fn get(&self, capture: &str) -> Option<&Capture> {
        self.live.iter().find(|c| c.record.report.capture == capture)
    }

    /// A capture that is not settled, to change it.
    pub fn get_mut(&mut self, capture: &str) -> Option<&mut Capture> {
        self.live.iter_mut().find(|c| c.record.report.capture == capture)
    }

    /// Every capture that is not settled, oldest first.
    pub fn live(&self) -> impl Iterator<Item = &Capture> {
        self.live.iter()
    }

    /// The captures whose workers run.
    pub fn running(&self) -> impl Iterator<Item = &Capture> {
        self.live.iter().filter(|c| c.worker.is_some())
    }

    /// Whether no worker runs and no slice waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.live.iter().all(|c| c.worker.is_none() && c.pending.is_empty())
    }

    /// The reports for a heartbeat, oldest capture first.
    #[must_use]
    pub fn reports(&self) -> Vec<CaptureReport> {
        self.live.iter().take(self.most).map(|c| c.record.report.clone()).collect()
    }

    /// The next slice to upload: the oldest of the oldest capture that may be tried at `now`.
    #[must_use]
    pub fn next_upload(&self, now: Instant) -> Option<(String, SliceId)> {
        let ready = |c: &&Capture| !c.unwanted && c.unknown.is_none_or(|(not_before, _)| not_before <= now);
        let first = |c: &Capture| Some((c.record.report.capture.clone(), *c.pending.keys().next()?));
        self.live.iter().filter(ready).find_map(first)
    }

    /// When an upload that was put off may be tried again.
    #[must_use]
    pub fn next_try(&self) -> Option<Instant> {
        self.live.iter().filter(|c| !c.pending.is_empty()).filter_map(|c| Some(c.unknown?.0)).min()
    }

    /// The oldest slices that must go so that at most `limit` bytes wait: those of the oldest captures first.
    #[must_use]
    pub fn over_limit(&self, limit: u64) -> Vec<(String, SliceId)> {
        let all =
            || self.live.iter().flat_map(|c| c.pending.iter().map(move |(slice, bytes)| (c, *slice, *bytes)));
        let mut total = all().fold(0_u64, |sum, (_, _, bytes)| sum.saturating_add(bytes));
        let mut dropped = Vec::new();
        for (capture, slice, bytes) in all() {
            if total <= limit {
                break;
            }
            total = total.saturating_sub(bytes);
            dropped.push((capture.record.report.capture.clone(), slice));
        }
        dropped
    }

    /// Takes a capture out of the table for good; it is remembered, so that it never runs again. `None` when
    /// it is not known, or its worker still runs: then it is marked.
    pub fn settle(&mut self, capture: &str) -> Option<Record> {
        if let Some(running) = self.get_mut(capture).filter(|c| c.worker.is_some()) {
            running.unwanted = true;
            return None;
        }
        let at = self.live.iter().position(|c| c.record.report.capture == capture)?;
        let mut record = self.live.remove(at).record;
        record.settled = true;
        self.settled.insert(capture.to_owned(), record.taken_at);
        Some(record)
    }

    /// Forgets settled captures that were taken before `oldest` (seconds since 1970), and the oldest ones of
    /// too many.
    pub fn prune(&mut self, oldest: i64) -> Vec<String> {
        let mut by_age: Vec<(i64, String)> =
            self.settled.iter().map(|(name, at)| (*at, name.clone())).collect();
        by_age.sort_unstable();
        let too_many = by_age.len().saturating_sub(MAX_SETTLED);
        let gone = by_age.into_iter().enumerate().filter(|(n, (at, _))| *n < too_many || *at < oldest);
        let names: Vec<String> = gone.map(|(_, (_, name))| name).collect();
        self.settled.retain(|name, _| !names.contains(name));
        names
    }

    /// Captures that nobody has settled since `oldest` (seconds since 1970): nobody will.
    #[must_use]
    pub fn abandoned(&self, oldest: i64) -> Vec<String> {
        let old = self.live.iter().filter(|c| c.worker.is_none() && c.record.taken_at < oldest);
        old.map(|c| c.record.report.capture.clone()).collect()
    }
}

impl Capture {
    /// A slice was written.
    pub fn written(&mut self, slice: SliceId, bytes: u64) {
        if !self.record.stored.contains(&slice) && !self.record.lost.contains(&slice) {
            self.pending.insert(slice, bytes);
        }
        self.count();
    }

    /// A slice was stored by the gateway.
    pub fn stored(&mut self, slice: SliceId) {
        self.pending.remove(&slice);
        self.record.stored.insert(slice);
        self.unknown = None;
        self.count();
    }

    /// A slice is given up.
    pub fn lost(&mut self, slice: SliceId, why: Problem) {
        self.pending.remove(&slice);
        self.record.lost.insert(slice);
        self.record.loss.get_or_insert(why);
        self.count();
    }

    /// The gateway does not know the capture: try again at `not_before`. Says how long that has been so.
    pub fn unknown_until(&mut self, now: Instant, not_before: Instant) -> Duration {
        let since = self.unknown.map_or(now, |(_, since)| since);
        self.unknown = Some((not_before, since));
        now.duration_since(since)
    }

    /// The worker has ended, or never started.
    pub fn ended(&mut self, outcome: Outcome, now: i64) {
        self.worker = None;
        if self.record.report.started_at.is_some() {
            self.record.report.ended_at.get_or_insert(now);
        }
        self.record.outcome = Some(outcome);
        self.count();
    }

    /// Brings the report in line with the slices: final once sampling is over and no slice waits.
    fn count(&mut self) {
        let record = &mut self.record;
        let report = &mut record.report;
        report.uploaded = u32::try_from(record.stored.len()).unwrap_or(u32::MAX);
        let all = record.stored.len() + record.lost.len() + self.pending.len();
        report.slices = u32::try_from(all).unwrap_or(u32::MAX);
        let Some(outcome) = &record.outcome else {
            report.problem.clone_from(&record.loss);
            return;
        };
        let lossy = outcome.state == CaptureState::Finished && record.loss.is_some();
        report.problem = match lossy {
            true => record.loss.clone(),
            false => outcome.problem.clone().or_else(|| record.skipped.clone()),
        };
        report.state = match (self.pending.is_empty(), lossy) {
            (false, _) => CaptureState::Uploading,
            (true, true) => CaptureState::Failed,
            (true, false) => outcome.state,
        };
    }
}

/// A fresh record of an order.
#[must_use]
pub fn record(order: &Order, state: CaptureState, now: i64) -> Record {
    Record {
        session: bounded(order.session.clone(), 128),
        container: container_id(order).to_owned(),
        profiles: order.profiles.clone(),
        skipped: None,
        taken_at: now,
        outcome: None,
        stored: std::collections::BTreeSet::new(),
        lost: std::collections::BTreeSet::new(),
        loss: None,
        settled: false,
        report: CaptureReport::new(order.capture.clone(), state),
    }
}

/// A problem with its sentence cut to what fits a status.
pub fn problem(reason: Reason, message: impl std::fmt::Display) -> Problem {
    Problem { reason, message: bounded(message.to_string(), names::MAX_MESSAGE) }
}

#[cfg(test)]
#[path = "captures_tests.rs"]
mod tests;
