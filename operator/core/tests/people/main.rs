//! Does anybody wait for a machine? An hour of a node with 30 linked workloads: rounds, triggers, people, and
//! a new leader now and then.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod agent;
#[path = "../common/mod.rs"]
mod common;
mod day;
mod effects;
mod sim;
mod volume;

use fleetprof_core::hash::hash;
use fleetprof_crds::Reason;
use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::wire::PROTOCOL;
use jiff::SignedDuration;
use sim::{Live, Sim};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A number below `limit`, another one for each `n`.
fn below(limit: usize, what: &str, n: usize) -> usize {
    usize::try_from(hash(&[what, &n.to_string()]) % u64::try_from(limit).unwrap()).unwrap()
}

/// An hour in which somebody requests a profile every 20 s and a trigger fires every 40 s, then the time until
/// every session has ended.
fn an_hour(sim: &mut Sim) {
    let pods = sim.pod_names();
    for tenth in 0..36_000usize {
        if tenth % 200 == 0 {
            let (namespace, pod) = &pods[below(pods.len(), "person", tenth)];
            if !sim.is_taken_by_a_person(pod) {
                let seconds = u32::try_from(10 + below(111, "duration", tenth)).unwrap();
                sim.request((namespace, pod), Trigger::OnDemand, seconds);
            }
        }
        if tenth % 400 == 0 {
            let (namespace, pod) = &pods[below(pods.len(), "trigger", tenth)];
            sim.request((namespace, pod), Trigger::Cpu, 30);
        }
        if tenth % 7_003 == 7_002 {
            sim.fail_over();
        }
        sim.tick();
        if tenth % 10 == 0 {
            check(sim);
        }
    }
    let rounds = sim.policies.len();
    for _ in 0..36_000 {
        if sim.open() == 0 {
            return;
        }
        sim.tick();
    }
    panic!("{} sessions of {rounds} policies have not ended", sim.open());
}

/// At any moment no more scheduled and triggered captures run than the node has cores, and none of a container
/// that another one captures.
fn check(sim: &Sim) {
    let of = |capture: &str| {
        let has =
            |live: &&Live| live.object.status.iter().flat_map(|s| &s.targets).any(|t| t.capture == capture);
        sim.sessions.values().find(has).unwrap()
    };
    let running: Vec<(&str, &str)> = sim.agents.values().flat_map(|agent| agent.captures()).collect();
    let machines =
        running.iter().filter(|(capture, _)| of(capture).object.spec.trigger != Trigger::OnDemand).count();
    assert!(machines <= 4, "{machines} on a node with 4 cores");
    let mut containers: Vec<&str> = running.iter().map(|(_, container)| *container).collect();
    containers.sort_unstable();
    assert!(containers.windows(2).all(|two| two[0] != two[1]), "{containers:?}");
}

fn people_never_wait(sim: &Sim) {
    let people: Vec<&Live> =
        sim.sessions.values().filter(|live| live.object.spec.trigger == Trigger::OnDemand).collect();
    assert!(people.len() > 150, "{}", people.len());
    for live in people {
        let waited = live.began.map(|began| began.duration_since(live.created));
        assert!(waited.is_some_and(|waited| waited <= SECOND), "{waited:?} {:#?}", live.object);
        assert_eq!(live.status().phase, Phase::Succeeded, "{:#?}", live.object);
    }
}

/// Every round that was due began, and each of its targets has a profile, or gave way to somebody.
fn every_round_runs(sim: &Sim, targets: usize) {
    assert_eq!(sim.missed, 0, "rounds were missed");
    let rounds: Vec<&Live> =
        sim.sessions.values().filter(|live| live.object.spec.trigger == Trigger::Schedule).collect();
    let policies: std::collections::HashSet<_> =
        rounds.iter().map(|live| live.object.metadata.namespace.clone()).collect();
    assert_eq!(policies.len(), sim.policies.len(), "a round of each policy");
    let mut whole = 0;
    for target in rounds.iter().flat_map(|live| &live.status().targets) {
        let yielded = target.reason == Some(Reason::Yielded);
        assert!(target.phase == TargetPhase::Succeeded || yielded, "{target:#?}");
        whole += usize::from(target.reason == Some(Reason::Completed));
    }
    let all: usize = rounds.iter().map(|live| live.status().targets.len()).sum();
    assert!(
        all >= targets && whole * 2 > all,
        "{whole} of {all} targets were captured for the whole duration"
    );
}

#[test]
fn thirty_workloads_of_one_policy() {
    let mut sim = Sim::new(1, 30, PROTOCOL);
    an_hour(&mut sim);
    people_never_wait(&sim);
    every_round_runs(&sim, 30);
}

#[test]
fn thirty_workloads_of_thirty_tenants_with_agents_of_the_first_protocol() {
    let mut sim = Sim::new(30, 1, 1);
    an_hour(&mut sim);
    people_never_wait(&sim);
    every_round_runs(&sim, 30);
}

#[test]
fn a_profile_of_everything_starts_as_a_whole_in_the_middle_of_a_round() {
    let mut sim = Sim::new(1, 30, PROTOCOL);
    while !sim
        .sessions
        .values()
        .any(|live| live.object.status.as_ref().is_some_and(|s| s.phase == Phase::Running))
    {
        sim.tick();
    }
    (0..300).for_each(|_| sim.tick());
    for (namespace, pod) in sim.pod_names() {
        sim.request((&namespace, &pod), Trigger::OnDemand, 60);
    }
    (0..3000).for_each(|_| sim.tick());
    for live in sim.sessions.values().filter(|live| live.object.spec.trigger == Trigger::OnDemand) {
        let waited = live.began.map(|began| began.duration_since(live.created));
        assert!(waited.is_some_and(|waited| waited <= SECOND), "{waited:?}");
    }
    let round = &sim.sessions[&0];
    let yielded = round.status().targets.iter().filter(|t| t.reason == Some(Reason::Yielded)).count();
    assert_eq!(yielded, 4, "those that were being captured: {:#?}", round.status());
}
