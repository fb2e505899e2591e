//! What holds whatever happens in whatever order?

use std::collections::{BTreeMap, BTreeSet};

use fleetprof_core::agent::AgentId;
use fleetprof_crds::wire::{CaptureState, Watch};
use jiff::Timestamp;
use proptest::prelude::*;

use super::rig::{START, beat, order, pod as pod_of, report, scope, uid};
use crate::gateway::fleet::Admission;
use crate::gateway::{Fleet, PodId};

const PODS: u8 = 4;
const CAPTURES: u8 = 6;

#[derive(Clone, Debug)]
enum Event {
    Open { capture: u8, pod: u8, cancel: bool },
    Close { capture: u8 },
    Heartbeat { pod: u8, captures: Vec<(u8, CaptureState)> },
    Stored { capture: u8 },
    Pass { seconds: i64 },
    Expire,
    Synced(bool),
}

fn event() -> impl Strategy<Value = Event> {
    use CaptureState::{Accepted, Cancelled, Failed, Finished, Running, Skipped, Uploading};
    let state =
        proptest::sample::select(vec![Accepted, Running, Uploading, Finished, Failed, Cancelled, Skipped]);
    let captures = proptest::collection::vec((0..CAPTURES, state), 0..8);
    prop_oneof![
        4 => (0..CAPTURES, 0..PODS, any::<bool>()).prop_map(|(capture, pod, cancel)| Event::Open { capture, pod, cancel }),
        2 => (0..CAPTURES).prop_map(|capture| Event::Close { capture }),
        4 => (0..PODS, captures).prop_map(|(pod, captures)| Event::Heartbeat { pod, captures }),
        1 => (0..CAPTURES).prop_map(|capture| Event::Stored { capture }),
        2 => (0i64..60).prop_map(|seconds| Event::Pass { seconds }),
        1 => Just(Event::Expire),
        1 => any::<bool>().prop_map(Event::Synced),
    ]
}

/// The simplest thing that could be right, beside the fleet.
struct Both {
    fleet: Fleet,
    now: Timestamp,
    open: BTreeMap<String, (String, bool)>,
    finals: BTreeMap<String, CaptureState>,
}

impl Both {
    fn apply(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Open { capture, pod, cancel } => self.open(&capture.to_string(), &pod.to_string(), cancel),
            Event::Close { capture } => {
                self.fleet.close(&capture.to_string());
                self.open.remove(&capture.to_string());
                self.finals.remove(&capture.to_string());
            }
            Event::Heartbeat { pod, captures } => self.heartbeat(&pod.to_string(), &captures)?,
            Event::Stored { capture } => self.fleet.note_stored(&capture.to_string()),
            Event::Pass { seconds } => self.now += jiff::SignedDuration::from_secs(seconds),
            Event::Expire => drop(self.fleet.expire(self.now)),
            Event::Synced(synced) => self.fleet.set_synced(synced, self.now),
        }
        Ok(())
    }

    fn open(&mut self, capture: &str, pod: &str, cancel: bool) {
        let mut wanted = order(capture);
        wanted.cancel = cancel;
        self.fleet.open(scope(capture, pod), wanted);
        let before = self.open.insert(capture.to_owned(), (pod.to_owned(), cancel));
        if before.is_some_and(|(before, _)| before != pod) {
            self.finals.remove(capture);
        }
        self.note_final(capture);
    }

    fn heartbeat(&mut self, name: &str, captures: &[(u8, CaptureState)]) -> Result<(), TestCaseError> {
        let reports = captures.iter().map(|(capture, state)| report(&capture.to_string(), *state)).collect();
        let settled = self.fleet.heartbeat(&pod_of(name).into(), beat(reports), self.now).unwrap().0.settled;
        let reported: BTreeSet<String> = captures.iter().map(|(capture, _)| capture.to_string()).collect();
        for capture in &settled {
            prop_assert!(reported.contains(capture), "settled {capture}, which was not reported");
            let owner = self.open.get(capture).map(|(owner, _)| owner.as_str());
            prop_assert!(owner != Some(name), "settled {capture} while it is open");
        }
        self.open.keys().cloned().collect::<Vec<_>>().iter().for_each(|capture| self.note_final(capture));
        Ok(())
    }

    /// Remembers the first final state of an open capture.
    fn note_final(&mut self, capture: &str) {
        if let Some(report) = self.fleet.report(capture).filter(|report| report.state.is_final()) {
            self.finals.entry(capture.to_owned()).or_insert(report.state);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let open: BTreeSet<_> = self.fleet.open_captures().into_iter().collect();
        prop_assert_eq!(open, self.open.keys().cloned().collect::<BTreeSet<_>>());
        for n in 0..PODS {
            let name = n.to_string();
            let mut wanted: Vec<_> = self.open.iter().filter(|(_, (pod, _))| *pod == name).collect();
            wanted.sort();
            let listed = self.fleet.orders_now(&uid(&name)).orders;
            let listed: Vec<_> = listed.iter().map(|order| (order.capture.clone(), order.cancel)).collect();
            let wanted: Vec<_> =
                wanted.into_iter().map(|(capture, (_, cancel))| (capture.clone(), *cancel)).collect();
            prop_assert_eq!(listed, wanted);
        }
        for (capture, (pod, _)) in &self.open {
            let admitted =
                matches!(self.fleet.admit(capture, &AgentId::Pod(pod_of(pod).into())), Admission::Open(..));
            prop_assert!(admitted, "an open capture takes slices of its pod");
            let elsewhere = PodId { namespace: "other".into(), ..pod_of(pod) };
            for alien in [pod_of("alien"), elsewhere] {
                let admitted =
                    matches!(self.fleet.admit(capture, &AgentId::Pod(alien.into())), Admission::Open(..));
                prop_assert!(!admitted, "and of no other");
            }
        }
        for (capture, state) in &self.finals {
            prop_assert_eq!(self.fleet.report(capture).unwrap().state, *state, "a final state stays");
        }
        let held = self.fleet.held();
        prop_assert!(held.agents <= PODS.into() && held.captures <= CAPTURES.into(), "{:?}", held);
        prop_assert!(held.pods <= self.open.len() && held.closed <= CAPTURES.into(), "{:?}", held);
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_open_order_is_lost_and_no_open_capture_settled(events in proptest::collection::vec(event(), 0..120)) {
        let now = Timestamp::from_second(START).unwrap();
        let mut both = Both { fleet: Fleet::new(), now, open: BTreeMap::new(), finals: BTreeMap::new() };
        for event in events {
            both.apply(event)?;
            both.check()?;
        }
    }
}

#[test]
fn what_many_captures_leave_behind_is_bounded() {
    let fleet = Fleet::new();
    for n in 0..100_000 {
        let (capture, pod) = (format!("c{n}"), format!("p{}", n % 1000));
        fleet.open(scope(&capture, &pod), order(&capture));
        fleet.close(&capture);
    }
    let held = fleet.held();
    assert_eq!((held.agents, held.captures, held.pods), (0, 0, 0));
    assert_eq!(held.closed, 8192);
}

/// A day of 30 pods, of which one is replaced every minute; each is captured and watched meanwhile.
#[test]
fn what_replaced_pods_leave_behind_is_bounded() {
    let fleet = Fleet::new();
    let at = |second: i64| Timestamp::from_second(START + second).unwrap();
    fleet.set_synced(true, at(0));
    for minute in 0..24 * 60 {
        for pod in minute..minute + 30 {
            let (name, capture) = (pod.to_string(), format!("{pod}-{minute}"));
            let watch = Watch { cpu_percent: Some(80), ..Watch::default() };
            fleet.watch([(uid(&name), watch)], at(minute * 60 + 30));
            if pod % 10 == minute % 10 {
                fleet.open(scope(&capture, &name), order(&capture));
            }
            for second in [0, 20, 40] {
                let finished = report(&capture, CaptureState::Finished);
                fleet
                    .heartbeat(&pod_of(&name).into(), beat(vec![finished]), at(minute * 60 + second))
                    .unwrap();
            }
            fleet.close(&capture);
        }
        fleet.expire(at(minute * 60 + 59));
        let held = fleet.held();
        assert!(held.agents <= 32 && held.watches == 0, "{held:?}");
        assert_eq!((held.captures, held.pods), (0, 0));
    }
    fleet.expire(at(25 * 3600));
    let held = fleet.held();
    assert_eq!((held.agents, held.closed), (0, 4320), "{held:?}");
}
