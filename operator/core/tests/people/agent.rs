//! An agent as the leader sees it: it captures a container once at a time, starts what waits when it is free,
//! and takes a moment to stop.

use std::collections::{BTreeMap, HashSet};

use fleetprof_crds::Reason;
use fleetprof_crds::wire::{CaptureReport, CaptureState, Order, Problem};
use jiff::{SignedDuration, Timestamp};

/// How long a collector takes to stop and to write its last slice.
const STOPS_IN: SignedDuration = SignedDuration::from_millis(300);

#[derive(Default)]
pub struct Agent {
    pub orders: BTreeMap<String, Order>,
    running: Vec<Running>,
    known: HashSet<String>,
}

struct Running {
    order: Order,
    since: Timestamp,
    stops: Option<Timestamp>,
}

impl Running {
    fn slices(&self, now: Timestamp) -> u32 {
        u32::try_from(now.duration_since(self.since).as_secs() / 10).unwrap()
    }
}

impl Agent {
    /// The captures that run, with their containers.
    pub fn captures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.running.iter().map(|r| (r.order.capture.as_str(), r.order.container_id.as_str()))
    }

    /// What it reports that is new at `now`.
    pub fn tick(&mut self, now: Timestamp) -> Vec<CaptureReport> {
        let mut reports = Vec::new();
        for running in &mut self.running {
            let order = self.orders.get(&running.order.capture);
            if running.stops.is_none() && order.is_none_or(|order| order.cancel) {
                running.stops = Some(now + STOPS_IN);
            }
        }
        self.running.retain(|r| {
            let whole = r.since + SignedDuration::from_millis(i64::try_from(r.order.duration_ms).unwrap());
            let report = match r.stops {
                _ if now >= whole => report(&r.order, CaptureState::Finished, r.slices(now), None),
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
