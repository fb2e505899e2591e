//! Triggers, sample by sample: what fires, what becomes a session, what is held back, and what a new leader
//! would do.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod dialects;
mod signals;
mod sources;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::link::PodLink;
use fleetprof_core::pod::{Owner, RevisionObject, Workload};
use fleetprof_core::policy::rounds;
use fleetprof_core::trigger::admit::GLOBAL_COOLDOWN;
use fleetprof_core::trigger::alert::{Alert, Told};
use fleetprof_core::trigger::level::{Level, Measure};
use fleetprof_core::trigger::place::{self, places};
use fleetprof_core::trigger::{Admitted, Firing, Heard, Levels, admit, alert, promql, rollout, verdict};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::{Duration, ProfileSession, ProfilingPolicy, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn policy(triggers: Value) -> ProfilingPolicy {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
        "metadata": {"name": "p", "namespace": "shop", "uid": "uid-p"},
        "spec": {"selector": {}, "triggers": triggers},
    }))
    .unwrap()
}

fn link(pod: &str, app: &str) -> PodLink {
    PodLink {
        mode: None,
        pod: Arc::new(common::pod("shop", pod, app, 1_799_990_000)),
        container: "app".into(),
        linked: true,
        reason: Reason::Linked,
        cause: String::new(),
        has_agent: true,
    }
}

/// What agents tell: CPU and memory of each pod.
fn heard(second: i64, levels: &[(&str, i32, i32)]) -> HashMap<String, Heard> {
    let of = |value| Level { value, of_node: false };
    let one = |(pod, cpu, memory): &(&str, i32, i32)| {
        let id = format!("{pod}-c");
        let levels = [((id.clone(), Measure::Cpu), of(*cpu)), ((id, Measure::Memory), of(*memory))].into();
        (format!("uid-{pod}"), Heard { at: at(second), levels, ..Heard::default() })
    };
    levels.iter().map(one).collect()
}

/// The cluster: sessions that were created, and a leader that can be replaced.
struct World {
    policy: ProfilingPolicy,
    links: Vec<PodLink>,
    levels: Levels,
    sessions: Vec<Arc<ProfileSession>>,
}

impl World {
    fn new(triggers: Value, links: Vec<PodLink>) -> Self {
        Self { policy: policy(triggers), links, levels: Levels::default(), sessions: vec![] }
    }
    fn tell(&mut self, second: i64, levels: &[(&str, i32, i32)]) -> Admitted {
        let firings = self.levels.firings(&(&self.policy).into(), &self.links, &heard(second, levels));
        self.admit(second, firings)
    }
    fn admit(&mut self, second: i64, firings: Vec<Firing>) -> Admitted {
        let admitted = admit(&(&self.policy).into(), firings, &self.sessions, at(second));
        for session in &admitted.create {
            let mut created = session.clone();
            created.metadata.creation_timestamp = Some(Time(at(second)));
            self.sessions.push(Arc::new(created));
        }
        admitted
    }
    fn restart(&mut self) {
        self.levels = Levels::default();
    }
}

fn firing(source: &str, app: &str, key: &str, cooldown: u32) -> Firing {
    Firing {
        trigger: Trigger::Cpu,
        source: source.into(),
        namespace: "shop".into(),
        workload: Workload { kind: "Deployment".into(), name: app.into() },
        pods: vec![],
        cause: "it was so".into(),
        key: key.into(),
        ongoing: None,
        duration: Duration::from_secs(30),
        cooldown: Duration::from_secs(cooldown),
        compare: None,
        labels: BTreeMap::new(),
    }
}

#[test]
fn a_container_over_the_line_for_the_window_starts_one_session_that_says_why() {
    let mut world =
        World::new(json!({"cpu": {"window": "30s", "duration": "20s"}}), vec![link("shop-x", "shop")]);
    for (second, cpu) in [(0, 95), (10, 93), (20, 91)] {
        assert!(world.tell(second, &[("shop-x", cpu, 99)]).create.is_empty(), "too early at {second}");
    }
    let created = world.tell(30, &[("shop-x", 93, 99)]).create.remove(0);
    assert_eq!(
        created.spec.cause,
        "CPU of container app in pod shop-x was 93 % of its limit for 30 s (threshold 80 %)"
    );
    assert_eq!(
        (created.spec.trigger, created.spec.duration.as_secs(), created.spec.ttl.as_secs()),
        (Trigger::Cpu, 20, 604_800)
    );
    assert_eq!(created.spec.target.clone().unwrap().pods.unwrap(), ["shop-x"]);
    assert!(created.metadata.name.unwrap().starts_with("p-cpu-"));
    let again = world.tell(40, &[("shop-x", 93, 99)]);
    assert_eq!((again.create.len(), again.held.len()), (0, 0), "the same run is not a second firing");
}

#[test]
fn the_line_is_crossed_again_only_after_the_cooldown() {
    let mut world = World::new(
        json!({"memory": {"threshold": 50, "window": "10s", "cooldown": "10m"}}),
        vec![link("a", "shop")],
    );
    let mut starts = vec![];
    for second in (0..1500).step_by(10) {
        // It comes and goes: 60 s over the line, 60 s far below.
        let memory = if second / 60 % 2 == 0 { 70 } else { 10 };
        starts.extend(world.tell(second, &[("a", 0, memory)]).create.iter().map(|_| second));
    }
    assert_eq!(starts, [10, 610, 1210]);
}

#[test]
fn a_container_that_stays_hot_fires_again_after_each_cooldown_and_nobody_is_told_in_between() {
    let hot = |history_keeps: usize, leader_every: i64| {
        let mut world =
            World::new(json!({"cpu": {"window": "30s", "cooldown": "10m"}}), vec![link("a", "shop")]);
        let (mut starts, mut held) = (vec![], 0);
        for second in (0..2500).step_by(10) {
            if second > 0 && second % leader_every == 0 {
                world.restart();
            }
            let admitted = world.tell(second, &[("a", 90, 0)]);
            held += admitted.held.len();
            starts.extend(admitted.create.iter().map(|_| second));
            let over = world.sessions.len().saturating_sub(history_keeps);
            world.sessions.drain(..over);
        }
        (starts, held)
    };
    assert_eq!(hot(100, 9999), (vec![30, 630, 1230, 1830, 2430], 0));
    assert_eq!(hot(1, 9999), (vec![30, 630, 1230, 1830, 2430], 0), "history keeps the last one alone");
    let (starts, _) = hot(100, 400);
    assert_eq!(starts, [30, 630, 1230, 1830, 2430], "each new leader finds its window over by then");
}

#[test]
fn two_leaders_give_a_firing_that_comes_again_the_same_name() {
    let mut world = World::new(json!({"cpu": {}}), vec![]);
    let hot = Firing { ongoing: Some(at(-30)), ..firing("cpu", "a", "1", 600) };
    let first = world.admit(0, vec![hot.clone()]).create.remove(0).metadata.name;
    let seen = world.sessions.clone();
    let one = world.admit(600, vec![hot.clone()]).create.remove(0).metadata.name;
    let other = admit(&(&world.policy).into(), vec![hot], &seen, at(605)).create.remove(0).metadata.name;
    assert_eq!((one == first, &one), (false, &other));
}

#[test]
fn many_replicas_that_cross_together_start_one_session_of_the_hottest() {
    let mut world = World::new(
        json!({"cpu": {"window": "10s"}}),
        vec![link("a", "shop"), link("b", "shop"), link("c", "other")],
    );
    world.tell(0, &[("a", 85, 0), ("b", 99, 0), ("c", 90, 0)]);
    let created = world.tell(10, &[("a", 85, 0), ("b", 99, 0), ("c", 90, 0)]).create;
    let targets: Vec<_> =
        created.iter().map(|s| s.spec.target.clone().unwrap().pods.unwrap().join(",")).collect();
    assert_eq!(targets, ["c", "b"], "one for each workload");
    assert!(created[1].spec.cause.ends_with("; 2 pods exceeded it together"), "{}", created[1].spec.cause);
}

#[test]
fn silence_a_short_drop_and_a_missing_limit() {
    let rule = json!({"cpu": {"window": "30s"}});
    let mut world = World::new(rule.clone(), vec![link("a", "shop")]);
    world.tell(0, &[("a", 90, 0)]);
    assert!(world.tell(200, &[("a", 90, 0)]).create.is_empty(), "nothing was heard in between");
    assert_eq!(world.tell(230, &[("a", 90, 0)]).create.len(), 1);
    let mut world = World::new(rule.clone(), vec![link("a", "shop")]);
    let dips: Vec<usize> = [(0, 90), (10, 76), (20, 90), (30, 90)]
        .map(|(s, cpu)| world.tell(s, &[("a", cpu, 0)]).create.len())
        .into();
    assert_eq!(dips, [0, 0, 0, 1], "less than 5 points below the line");
    let mut world = World::new(rule.clone(), vec![link("a", "shop")]);
    for second in (0..600).step_by(10) {
        assert!(
            world.tell(second, &[("a", if second == 0 { 80 } else { 76 }, 0)]).create.is_empty(),
            "below the line as a whole"
        );
    }
    let after: Vec<usize> = [600, 610, 620, 630].map(|s| world.tell(s, &[("a", 81, 0)]).create.len()).into();
    assert_eq!(after, [0, 0, 0, 1], "what was long ago does not count");
    let mut world = World::new(rule, vec![link("a", "shop")]);
    let free = |s| {
        heard(s, &[("a", 90, 0)])
            .into_iter()
            .map(|(k, mut h)| {
                (k, {
                    h.levels.values_mut().for_each(|l| l.of_node = true);
                    h
                })
            })
            .collect()
    };
    world.levels.firings(&(&world.policy).into(), &world.links, &free(0));
    let firings = world.levels.firings(&(&world.policy).into(), &world.links, &free(30));
    assert!(
        firings[0].cause.contains("was 90 % of the node's cores (it has no CPU limit) for 30 s"),
        "{}",
        firings[0].cause
    );
}

#[test]
fn two_minutes_lie_between_sessions_of_different_triggers() {
    let mut world = World::new(json!({"cpu": {}}), vec![]);
    assert_eq!(
        world.admit(0, vec![firing("cpu", "a", "1", 7200), firing("memory", "a", "1", 7200)]).create.len(),
        1,
        "together"
    );
    let held = world.admit(119, vec![firing("memory", "a", "1", 7200)]).held.remove(0);
    assert_eq!((held.after.starts_with("p-cpu-"), held.until), (true, at(120)));
    assert_eq!(
        world.admit(120, vec![firing("memory", "a", "1", 7200), firing("cpu", "b", "1", 7200)]).create.len(),
        2
    );
    assert_eq!(world.admit(7199, vec![firing("cpu", "a", "2", 7200)]).held[0].until, at(7200));
}

#[test]
fn a_session_is_kept_until_its_cooldown_is_over() {
    let mut world =
        World::new(json!({"cpu": {"window": "10s", "cooldown": "168h"}}), vec![link("a", "shop")]);
    world.policy.spec.session.history.succeeded = 0;
    world.policy.spec.session.ttl = Duration::from_secs(60);
    world.tell(0, &[("a", 90, 0)]);
    let mut session = world.tell(10, &[("a", 90, 0)]).create.remove(0);
    assert_eq!(session.spec.ttl.as_secs(), 168 * 3600, "its ttl is not shorter than its cooldown");
    session.metadata.creation_timestamp = Some(Time(at(10)));
    session.status =
        Some(serde_json::from_value(json!({"phase": "Succeeded", "endTime": at(60).to_string()})).unwrap());
    let session = [Arc::new(session)];
    let week = SignedDuration::from_hours(168);
    assert!(rounds::expired(&(&world.policy).into(), &session, at(9) + week).is_empty());
    assert_eq!(rounds::expired(&(&world.policy).into(), &session, at(11) + week).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is measured, and however often the leader changes: the cooldown holds.
    #[test]
    fn never_two_sessions_of_a_workload_within_its_cooldown(
        steps in prop::collection::vec((1i64..90, 60i32..100, 60i32..100, prop::bool::weighted(0.1)), 1..300)
    ) {
        let triggers = json!({"cpu": {"window": "20s", "cooldown": "9m"}, "memory": {"window": "20s", "cooldown": "7m"}});
        let mut world = World::new(triggers, vec![link("a", "shop"), link("b", "shop")]);
        let mut second = 0;
        for (pause, cpu, memory, restart) in steps {
            second += pause;
            if restart {
                world.restart();
            }
            world.tell(second, &[("a", cpu, memory), ("b", memory, cpu)]);
        }
        for (n, one) in world.sessions.iter().enumerate() {
            for other in &world.sessions[n + 1..] {
                let created = |s: &ProfileSession| s.metadata.creation_timestamp.clone().unwrap().0;
                let same = one.spec.trigger == other.spec.trigger;
                let least = match one.spec.trigger {
                    Trigger::Cpu if same => SignedDuration::from_secs(540),
                    _ if same => SignedDuration::from_secs(420),
                    _ => GLOBAL_COOLDOWN,
                };
                prop_assert!(created(other).duration_since(created(one)) >= least);
                prop_assert!(one.metadata.name != other.metadata.name);
            }
        }
    }

    /// A level that dances on the line is over it as a whole or not at all.
    #[test]
    fn no_flapping_around_the_threshold(levels in prop::collection::vec(76i32..90, 60..300)) {
        let mut world = World::new(json!({"cpu": {"window": "20s", "cooldown": "1h"}}), vec![link("a", "shop")]);
        for (n, cpu) in levels.iter().enumerate() {
            world.tell(i64::try_from(n).unwrap() * 10, &[("a", *cpu, 0)]);
        }
        prop_assert!(world.sessions.len() <= 1 + levels.len() * 10 / 3600);
    }

    /// A new leader has the sessions alone, and decides the same about everything that fires.
    #[test]
    fn a_new_leader_decides_the_same(
        fired in prop::collection::vec((0i64..400, 0usize..3, 0usize..3), 1..60)
    ) {
        let (mut old, mut new) = (World::new(json!({"cpu": {}}), vec![]), World::new(json!({"cpu": {}}), vec![]));
        let mut second = 0;
        for (pause, source, app) in fired {
            second += pause;
            let what = firing(["cpu", "memory", "rollout"][source], ["a", "b", "c"][app], &second.to_string(), 600);
            new.restart();
            new.sessions = old.sessions.clone();
            prop_assert_eq!(new.admit(second, vec![what.clone()]), old.admit(second, vec![what]));
        }
    }
}
