//! Do attached agents pile up? Months of hourly rounds over pods without sidecars, in which agents are attached,
//! stay, leave and die.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use fleetprof_core::agent::{IDLE, INFORMED, Resident, stay};
use fleetprof_core::hash::hash;
use fleetprof_core::pick::{Candidate, cycle, pick};
use fleetprof_core::pod::Workload;
use jiff::SignedDuration;
use proptest::prelude::*;

/// After so many hours without an answer an agent leaves.
const UNANSWERED: u64 = 24;

struct Pod {
    app: usize,
    /// When its agent worked last, in hours; `None` where it has no agent.
    agent: Option<u64>,
    /// Agents that were attached to it so far.
    entries: usize,
    captures: usize,
}

struct World {
    pods: BTreeMap<String, Pod>,
    places: usize,
    hour: u64,
    /// The hour in which a leader answered last.
    answered: u64,
    most: usize,
}

impl World {
    fn new(apps: usize, replicas: usize, places: usize) -> Self {
        let pod = |app| Pod { app, agent: None, entries: 0, captures: 0 };
        let pods = (0..apps).flat_map(|app| (0..replicas).map(move |n| (format!("{app}-{n}"), pod(app))));
        Self { pods: pods.collect(), places, hour: 0, answered: 0, most: 0 }
    }

    fn agents(&self) -> usize {
        self.pods.values().filter(|pod| pod.agent.is_some()).count()
    }

    /// An hour: a round, unless the operator is away; then agents ask, or find out that nobody answers.
    fn pass(&mut self, away: bool) {
        self.hour += 1;
        if away {
            if self.hour - self.answered >= UNANSWERED {
                self.pods.values_mut().for_each(|pod| pod.agent = None);
            }
            return;
        }
        self.answered = self.hour;
        self.round();
        self.most = self.most.max(self.agents());
        self.ask();
    }

    fn round(&mut self) {
        let candidate = |(uid, pod): (&String, &Pod)| Candidate {
            pod_uid: uid.clone(),
            workload: Workload { kind: "Deployment".into(), name: pod.app.to_string() },
            has_agent: pod.agent.is_some(),
        };
        let candidates: Vec<Candidate> = self.pods.iter().map(candidate).collect();
        for uid in pick("policy", self.hour, &candidates, |_| 1, 10_000) {
            let pod = self.pods.get_mut(&uid).unwrap();
            pod.entries += usize::from(pod.agent.is_none());
            pod.captures += 1;
            pod.agent = Some(self.hour);
        }
    }

    /// One agent after another asks, and those that leave say so.
    fn ask(&mut self) {
        let mut agents = self.agents();
        for pod in self.pods.values_mut() {
            let Some(worked) = pod.agent else { continue };
            let resident =
                Resident { kept: true, working: false, led_for: Some(INFORMED), agents, places: self.places };
            let idle = SignedDuration::from_hours(i64::try_from(self.hour - worked).unwrap());
            if stay(&resident).is_some_and(|most| idle >= most) {
                pod.agent = None;
                agents -= 1;
            }
        }
    }
}

#[test]
fn an_agent_is_attached_to_each_pod_once_and_used_for_months() {
    let mut world = World::new(5, 7, 1_000);
    for _ in 0..90 * 24 {
        world.pass(false);
    }
    for (name, pod) in &world.pods {
        assert_eq!(pod.entries, 1, "{name}");
        assert!(pod.captures > 200, "{name} was captured {} times", pod.captures);
    }
}

#[test]
fn on_the_first_day_few_agents_are_attached() {
    let mut world = World::new(1, 50, 1_000);
    (0..24).for_each(|_| world.pass(false));
    assert!(world.agents() <= 4, "{} agents for 24 rounds", world.agents());
}

#[test]
fn agents_never_use_up_the_places_of_the_leader() {
    let (apps, replicas, places) = (20, 30, 400);
    let mut world = World::new(apps, replicas, places);
    for _ in 0..120 * 24 {
        world.pass(false);
    }
    assert!(world.most < places, "{} of {places}", world.most);
    assert!(world.agents() > places / 2, "room that is there is used: {}", world.agents());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the number of replicas: a pod gets a new agent only when its last one ended, because its app was
    /// restarted or nobody answered for a day.
    #[test]
    fn an_agent_is_attached_again_only_after_the_last_one_ended(replicas in 1usize..12, seed in 0u64..1_000) {
        let mut world = World::new(2, replicas, 1_000);
        let chance = |what: &str, hour: u64, of: u64| hash(&[what, &seed.to_string(), &hour.to_string()]) % of;
        let mut ended: BTreeMap<String, usize> = BTreeMap::new();
        let mut away = 0;
        for hour in 0..60 * 24 {
            if chance("outage", hour, 300) == 0 {
                away = chance("length", hour, 40);
            }
            let before: Vec<String> = world.pods.iter().filter(|(_, p)| p.agent.is_some()).map(|(uid, _)| uid.clone()).collect();
            world.pass(away > 0);
            away = away.saturating_sub(1);
            for uid in before.iter().filter(|uid| world.pods[*uid].agent.is_none()) {
                *ended.entry(uid.clone()).or_default() += 1;
            }
            if chance("restart", hour, 50) == 0 {
                let pods: Vec<String> = world.pods.keys().cloned().collect();
                let uid = &pods[usize::try_from(chance("which", hour, pods.len() as u64)).unwrap()];
                *ended.entry(uid.clone()).or_default() += usize::from(world.pods[uid].agent.is_some());
                world.pods.get_mut(uid).unwrap().agent = None;
            }
        }
        for (uid, pod) in &world.pods {
            let gone = ended.get(uid).copied().unwrap_or_default();
            prop_assert!(pod.entries <= 1 + gone, "{uid}: {} agents, {gone} of them ended", pod.entries);
        }
    }

    /// In a time in which nothing ends, every pod has its turn.
    #[test]
    fn every_pod_is_captured_although_agents_are_attached_rarely(replicas in 1usize..12) {
        let mut world = World::new(3, replicas, 1_000);
        let rounds = 8 * (cycle(replicas, 1) + 1);
        (0..rounds).for_each(|_| world.pass(false));
        prop_assert!(world.pods.values().all(|pod| pod.captures > 0));
    }
}

#[test]
fn who_is_idle_for_less_than_two_hours_is_not_sent_away() {
    assert_eq!(IDLE, SignedDuration::from_hours(2));
}
