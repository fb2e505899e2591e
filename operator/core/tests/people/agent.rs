//! An agent as the leader sees it: it captures a container once at a time, starts what waits when it is free,
//! and takes a moment to stop.

use std::collections::{BTreeMap, HashSet};

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{CaptureReport, CaptureState, Order, Problem};
use jiff::{SignedDuration, Timestamp};

/// How long a collector takes to stop and to write its last slice.
const STOPS_IN: SignedDuration = SignedDuration::from_millis(300);

/// How long an attached agent stays without an order: the default of `FLEETPROF_IDLE_EXIT`.
const IDLE_EXIT: SignedDuration = SignedDuration::from_hours(2);

#[derive(Default)]
pub struct Agent {
    pub orders: BTreeMap<String, Order>,
    running: Vec<Running>,
    known: HashSet<String>,
    /// Since when an attached agent has nothing to do.
    idle: Option<Timestamp>,
    /// It does not answer before then.
    silent_until: Option<Timestamp>,
}

struct Running {
    order: Order,
    since: Timestamp,
    stops: Option<Timestamp>,
}

impl Running {
    fn whole(&self) -> Timestamp {
        self.since + SignedDuration::from_millis(i64::try_from(self.order.duration_ms).unwrap())
    }

    fn slices(&self, now: Timestamp) -> u32 {
        u32::try_from(now.duration_since(self.since).as_secs() / 10).unwrap()
    }
}

impl Agent {
    /// One that was attached now.
    pub fn attached(now: Timestamp) -> Self {
        Self { idle: Some(now), ..Self::default() }
    }

    /// Whether the leader hears of it.
    pub fn reports(&self, now: Timestamp) -> bool {
        self.silent_until.is_none_or(|until| until <= now)
    }

    /// It is killed, and another one takes its place after so long; it knows nothing of what ran.
    pub fn restart(&mut self, now: Timestamp, after: SignedDuration) {
        let idle = self.idle.map(|_| now);
        *self = Self { silent_until: Some(now + after), idle, ..Self::default() };
    }

    /// Whether it has left for want of work.
    pub fn has_left(&self, now: Timestamp) -> bool {
        self.idle.is_some_and(|since| now.duration_since(since) >= IDLE_EXIT)
    }

    /// The capture is over for the leader.
    pub fn forget(&mut self, capture: &str) {
        self.orders.remove(capture);
        if self.running.iter().all(|r| r.order.capture != capture) {
            self.known.remove(capture);
        }
    }

    /// How much it remembers.
    pub fn remembers(&self) -> usize {
        self.orders.len() + self.running.len() + self.known.len()
    }

    /// When it does something next.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.reports(now) {
            return self.silent_until;
        }
        let is_free = |o: &Order| self.running.iter().all(|r| r.order.container_id != o.container_id);
        let starts =
            self.orders.values().any(|o| !self.known.contains(&o.capture) && (o.cancel || is_free(o)));
        let stops = |r: &&Running| r.stops.is_none() && self.is_cancelled(&r.order.capture);
        let at_once = (starts || self.running.iter().any(|r| stops(&r))).then_some(now);
        self.running.iter().map(|r| r.stops.unwrap_or(r.whole()).min(r.whole())).chain(at_once).min()
    }

    fn is_cancelled(&self, capture: &str) -> bool {
        self.orders.get(capture).is_none_or(|order| order.cancel)
    }

    /// The captures that run, with their containers.
    pub fn captures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.running.iter().map(|r| (r.order.capture.as_str(), r.order.container_id.as_str()))
    }

    /// What it reports that is new at `now`.
    pub fn tick(&mut self, now: Timestamp) -> Vec<CaptureReport> {
        let mut reports = Vec::new();
        if !self.reports(now) {
            return reports;
        }
        for running in &mut self.running {
            let order = self.orders.get(&running.order.capture);
            if running.stops.is_none() && order.is_none_or(|order| order.cancel) {
                running.stops = Some(now + STOPS_IN);
            }
        }
        self.running.retain(|r| {
            let report = match r.stops {
                _ if now >= r.whole() => report(&r.order, CaptureState::Finished, r.slices(now), None),
                Some(at) if now >= at => {
                    report(&r.order, CaptureState::Cancelled, r.slices(now), Some(Reason::Cancelled))
                }
                _ => return true,
            };
            reports.push(CaptureReport { started_at: Some(r.since.as_second()), ..report });
            false
        });
        let new: Vec<Order> =
            self.orders.values().filter(|o| !self.known.contains(&o.capture)).cloned().collect();
        for order in new {
            let busy = self.running.iter().any(|r| r.order.container_id == order.container_id);
            let report = match () {
                () if order.cancel => report(&order, CaptureState::Cancelled, 0, Some(Reason::Cancelled)),
                () if now.as_second() > order.start_before => {
                    report(&order, CaptureState::Skipped, 0, Some(Reason::StartDeadlineExceeded))
                }
                () if busy => continue,
                () => {
                    self.running.push(Running { order: order.clone(), since: now, stops: None });
                    let started_at = Some(now.as_second());
                    CaptureReport { started_at, ..report(&order, CaptureState::Running, 0, None) }
                }
            };
            self.known.insert(order.capture);
            reports.push(report);
        }
        self.known.retain(|capture| {
            self.orders.contains_key(capture) || self.running.iter().any(|r| r.order.capture == *capture)
        });
        if !self.orders.is_empty() {
            self.idle = self.idle.map(|_| now);
        }
        reports
    }
}

fn report(order: &Order, state: CaptureState, slices: u32, problem: Option<Reason>) -> CaptureReport {
    CaptureReport {
        problem: problem.map(|reason| Problem { reason, message: String::new() }),
        samples: i64::from(slices) * 990,
        slices,
        uploaded: slices,
        ..CaptureReport::new(order.capture.clone(), state)
    }
}
