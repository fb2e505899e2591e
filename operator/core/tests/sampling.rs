//! Fleets are simulated round by round: each workload keeps some cores busy, more or less from round to round, and
//! the effort follows.
#![allow(missing_docs, clippy::unwrap_used)]

use fleetprof_core::hash::hash;
use fleetprof_core::sampling::{Effort, Goal, MOST, Round, SHORTEST, SLOWEST};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

const START: i64 = 1_800_000_000;

/// The goal of a policy with a round every hour.
fn goal(samples: i32, pods: usize, seconds: u32, frequency_hz: u32) -> Goal {
    let schedule = json!({"every": "1h", "duration": format!("{seconds}s")});
    let sampling = json!({"samplesPerHour": samples, "replicasPerWorkload": pods});
    let spec =
        json!({"selector": {}, "schedule": schedule, "frequencyHz": frequency_hz, "sampling": sampling});
    goal_of(spec).unwrap()
}

fn goal_of(spec: Value) -> Option<Goal> {
    let now = Timestamp::from_second(START).unwrap();
    Goal::of("uid", &serde_json::from_value(spec).unwrap(), now)
}

/// How many times a pod is looked at.
fn ticks(effort: Effort) -> f64 {
    f64::from(u32::try_from(effort.pods).unwrap())
        * f64::from(effort.seconds)
        * f64::from(effort.frequency_hz)
}

/// A number from 0 to 1 that chance has drawn.
fn chance(seed: u64, round: usize) -> f64 {
    f64::from(u32::try_from(hash(&[&seed.to_string(), &round.to_string()]) >> 32).unwrap())
        / f64::from(u32::MAX)
}

/// A workload and its rounds, the newest first.
struct Fleet {
    goal: Goal,
    /// The most that its policy allows of it.
    most: Effort,
    pods: usize,
    past: Vec<Round>,
}

impl Fleet {
    /// Of a workload with so many pods.
    fn new(samples: i32, most: Effort, pods: usize) -> Self {
        let goal = goal(samples, most.pods, most.seconds, most.frequency_hz);
        Self { goal, most: Effort { pods: most.pods.min(pods), ..most }, pods, past: Vec::new() }
    }

    /// One more round, in which each pod keeps so many cores busy.
    fn round(&mut self, cores: f64) -> Round {
        let effort = self.goal.effort(self.pods, &self.past);
        let ticks = ticks(effort);
        let started = Timestamp::from_second(START + 3600 * i64::try_from(self.past.len()).unwrap()).unwrap();
        #[allow(clippy::cast_possible_truncation)]
        let round = Round { started, effort, ticks, samples: (ticks * cores).round() as i64 };
        self.past.insert(0, round);
        // As many as a policy keeps by default.
        self.past.truncate(10);
        round
    }
}

/// What a policy with the default duration and rate allows.
const fn most(pods: usize) -> Effort {
    Effort { pods, seconds: 120, frequency_hz: 99 }
}

#[test]
fn the_first_round_is_what_a_policy_does_by_default() {
    assert_eq!(goal(5000, 10, 120, 99).effort(30, &[]), Effort { pods: 1, seconds: 120, frequency_hz: 99 });
}

#[test]
fn a_busy_app_is_captured_for_less_time_and_a_quiet_one_in_more_pods() {
    let effort = |pods, seconds, frequency_hz| Effort { pods, seconds, frequency_hz };
    // (cores that a pod keeps busy, samples wanted of a round, the effort after ten rounds)
    let cases = [
        ("as it is", 0.7, 5_000, effort(1, 120, 99)),
        ("busy", 1.0, 5_000, effort(1, 70, 99)),
        ("very busy", 8.0, 5_000, effort(1, 30, 29)),
        ("quiet", 0.03, 2_000, effort(8, 110, 99)),
        ("quieter than the limits allow for", 0.001, 2_000, effort(20, 120, 99)),
        ("idle", 0.0, 2_000, effort(20, 120, 99)),
    ];
    for (name, cores, samples, wanted) in cases {
        let mut fleet = Fleet::new(samples, most(20), 40);
        let last = (0..10).map(|_| fleet.round(cores)).last().unwrap();
        assert_eq!(last.effort, wanted, "{name}");
    }
}

#[test]
fn pods_are_at_most_doubled_from_round_to_round() {
    let mut fleet = Fleet::new(100_000, most(50), 60);
    let pods: Vec<usize> = (0..8).map(|_| fleet.round(0.01).effort.pods).collect();
    assert_eq!(pods, [1, 2, 4, 8, 16, 32, 50, 50]);
}

#[test]
fn rounds_without_a_capture_change_nothing() {
    let effort = Effort { pods: 3, seconds: 60, frequency_hz: 99 };
    let started = Timestamp::from_second(START).unwrap();
    let lost = Round { started, effort, ticks: 0.0, samples: 0 };
    assert_eq!(goal(5000, 10, 120, 99).effort(30, &[lost, lost]), effort);
    let narrower = Effort { pods: 2, seconds: 30, frequency_hz: 50 };
    assert_eq!(goal(5000, 10, 30, 50).effort(2, &[lost]), narrower, "within the limits as they are now");
}

#[test]
fn the_goal_of_a_round_follows_from_the_schedule() {
    // One pod at 100 Hz kept one core busy for 100 s: as many seconds are needed as hundreds of samples.
    let before = Effort { pods: 1, seconds: 100, frequency_hz: 100 };
    let started = Timestamp::from_second(START).unwrap();
    let past = [Round { started, effort: before, ticks: 10_000.0, samples: 10_000 }];
    let seconds = |schedule: Value, samples: i32| {
        let sampling = json!({"samplesPerHour": samples, "replicasPerWorkload": 5});
        let spec = json!({"selector": {}, "schedule": schedule, "frequencyHz": 100, "sampling": sampling});
        goal_of(spec).unwrap().effort(9, &past).seconds
    };
    assert_eq!(seconds(json!({"duration": "6m"}), 30_000), 195, "30 000 × 1.3 in two pods");
    assert_eq!(seconds(json!({"every": "10m", "duration": "6m"}), 24_000), 55, "4 000 × 1.3");
    assert_eq!(seconds(json!({"cron": "0 3 * * *", "duration": "6m"}), 1000), 315, "24 000 × 1.3");
    assert_eq!(seconds(json!({"preset": "High", "duration": "1m"}), 84_000), 40, "2 800 × 1.3");
    assert_eq!(goal_of(json!({"selector": {}})), None);
    let never =
        json!({"selector": {}, "schedule": {"cron": "0 0 30 2 *"}, "sampling": {"samplesPerHour": 1000}});
    assert_eq!(goal_of(never), None);
}

#[test]
fn lower_rates_do_not_keep_step_with_timers() {
    for cores in 1..60 {
        let mut fleet = Fleet::new(5000, most(1), 1);
        let hz = (0..3).map(|_| fleet.round(cores.into())).last().unwrap().effort.frequency_hz;
        assert!(hz == 99 || hz >= 11 && (2..hz).all(|n| hz % n != 0), "{hz} Hz with {cores} cores");
    }
}

proptest! {
    /// Whatever was before: nothing is more than the policy allows, nor nothing at all.
    #[test]
    fn the_limits_of_the_policy_hold(
        samples in 100..10_000_000, replicas in 1usize..51, seconds in 10u32..361, hz in 1u32..1001, pods in 0usize..200,
        past in prop::collection::vec((0usize..200, 0u32..1000, 0u32..5000, prop_oneof![Just(0.0), 0.1f64..1e9], 0i64..i64::MAX), 0..6)
    ) {
        let goal = goal(samples, replicas, seconds, hz);
        let started = Timestamp::from_second(START).unwrap();
        let round = |(pods, seconds, frequency_hz, ticks, samples)| Round {
            started, effort: Effort { pods, seconds, frequency_hz }, ticks, samples
        };
        let past: Vec<Round> = past.into_iter().map(round).collect();
        let effort = goal.effort(pods, &past);
        prop_assert!((1..=replicas.min(pods).max(1)).contains(&effort.pods));
        prop_assert!(effort.seconds <= seconds && effort.frequency_hz <= hz);
        prop_assert_eq!(effort, goal.effort(pods, &past), "the same question has the same answer");
    }

    /// With a load that stays, the goal is reached within some rounds if the limits allow for it, and from then on
    /// nothing changes.
    #[test]
    fn efforts_converge_to_the_goal_and_stay(
        cores in 0.0005f64..16.0, samples in 100..200_000, replicas in 1usize..51, pods in 1usize..100,
        seconds in 30u32..361, hz in 20u32..1000
    ) {
        let mut fleet = Fleet::new(samples, Effort { pods: replicas, seconds, frequency_hz: hz }, pods);
        let rounds: Vec<Round> = (0..16).map(|_| fleet.round(cores)).collect();
        let last = rounds[15];
        for round in &rounds[8..] {
            prop_assert_eq!(round.effort, last.effort, "after eight rounds nothing changes");
        }
        let (gives, most, samples) = (ticks(last.effort) * cores, fleet.most, f64::from(samples));
        prop_assert!(gives >= samples || last.effort == most, "{} of {}: {:?}", gives, samples, last.effort);
        let least = last.effort.pods == 1 && last.effort.seconds == SHORTEST && last.effort.frequency_hz == SLOWEST;
        prop_assert!(gives <= samples * MOST || least, "{} of {}: {:?}", gives, samples, last.effort);
    }

    /// With a load that goes up and down by a fifth, a round in ten changes its effort at most, and the samples are
    /// never fewer than half of what is wanted.
    #[test]
    fn efforts_do_not_flap(
        cores in 0.01f64..4.0, samples in 200..20_000, replicas in 1usize..51, seed: u64
    ) {
        let mut fleet = Fleet::new(samples, most(replicas), 60);
        let wanted = f64::from(samples);
        let noisy = |round| cores * (0.8 + 0.4 * chance(seed, round));
        let rounds: Vec<Round> = (0..60).map(|n| fleet.round(noisy(n))).collect();
        let settled = &rounds[10..];
        let changes = settled.windows(2).filter(|pair| pair[0].effort != pair[1].effort).count();
        prop_assert!(changes <= 5, "{changes} changes: {:?}", settled.iter().map(|r| r.effort).collect::<Vec<_>>());
        let limited = |round: &Round| round.effort == fleet.most;
        for round in settled {
            #[allow(clippy::cast_precision_loss)]
            let gave = round.samples as f64;
            prop_assert!(gave >= wanted / 2.0 || limited(round), "{} of {}: {:?}", gave, wanted, round.effort);
        }
    }

    /// After a deployment that does ten times as much, or a tenth, the goal is reached again.
    #[test]
    fn efforts_follow_a_load_that_changes(cores in 0.02f64..2.0, samples in 500..5_000, tenfold: bool) {
        let mut fleet = Fleet::new(samples, most(50), 60);
        let changed = if tenfold { cores * 10.0 } else { cores / 10.0 };
        for _ in 0..10 {
            fleet.round(cores);
        }
        let rounds: Vec<Round> = (0..12).map(|_| fleet.round(changed)).collect();
        let last = rounds[11].effort;
        let (gives, samples) = (ticks(last) * changed, f64::from(samples));
        prop_assert!(gives >= samples || last == fleet.most, "{gives} of {samples}: {last:?}");
        let least = last.pods == 1 && last.seconds == SHORTEST && last.frequency_hz == SLOWEST;
        prop_assert!(gives <= samples * MOST || least, "{gives} of {samples}: {last:?}");
    }
}
