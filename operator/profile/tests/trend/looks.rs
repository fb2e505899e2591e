//! False alarms, power, and what else may happen to a revision.

use std::collections::BTreeMap;

use fleetprof_profile::ProfileKind::{self, Cpu, Heap};
use fleetprof_profile::trend::{Outcome, Settings, What, Why, trend};

use crate::fleet::{COUNTING, LARGE, Noise};
use crate::life::{Change, LEAK, Life, Load, PLAIN, cpu, heap, look};

const FOURFOLD: Noise = Noise { dispersion: 4.0, load: 0.3, ..COUNTING };
const HOURS: Noise = Noise { moments: 0.2, load: 0.3, ..COUNTING };

/// Revisions in which nothing grows.
pub fn unchanged() -> Vec<(&'static str, ProfileKind, Life)> {
    let twelve = Life { sessions: 12, ..PLAIN };
    let varies = Life { noise: HOURS, ..PLAIN };
    vec![
        ("CPU, 24 sessions, φ = 1", Cpu, PLAIN),
        ("CPU, 24 sessions, φ = 4, load varies by 30 %", Cpu, Life { noise: FOURFOLD, ..PLAIN }),
        ("CPU, 24 sessions, costs differ by 20 % between sessions", Cpu, varies),
        ("CPU, 12 sessions, the same", Cpu, Life { noise: HOURS, ..twelve }),
        ("CPU, 24 sessions, the same, half of it carries on", Cpu, Life { carries: 0.5, ..varies }),
        ("memory, 24 sessions", Heap, PLAIN),
        ("memory, 24 sessions, differs by 20 % between sessions", Heap, varies),
        ("memory, 8 sessions, the same", Heap, Life { sessions: 8, ..varies }),
        ("memory, 24 sessions, the same, half of it carries on", Heap, Life { carries: 0.5, ..varies }),
    ]
}

/// A revision for how much a change makes.
type Disguise = fn(f64) -> Life;

/// Revisions in which nothing grows, but the time of day or a change looks like it.
pub fn disguised() -> Vec<(&'static str, ProfileKind, Disguise)> {
    let day = |start| Life { load: Load::Day(start), ..PLAIN };
    vec![
        ("CPU, a day, small functions take more of a larger load", Cpu, day),
        ("CPU, load doubles", Cpu, |_| Life { load: Load::Rises(2.0), ..PLAIN }),
        ("CPU, a function doubles at once", Cpu, |_| Life { change: Change::Steps(2.0), ..PLAIN }),
        ("memory, a day, with the load", Heap, |start| Life {
            load: Load::Day(start),
            memory_of_load: 0.8,
            ..PLAIN
        }),
        ("memory, a day, 6 hours after the load", Heap, |start| Life {
            load: Load::Day(start),
            memory_of_load: 0.8,
            later: 6.0,
            ..PLAIN
        }),
        ("memory, a function triples at once", Heap, |_| Life { change: Change::Steps(3.0), ..PLAIN }),
        ("memory, a cache fills to four times", Heap, |_| Life { change: Change::Fills(4.0), ..PLAIN }),
    ]
}

/// How many of so many looks come to what.
#[derive(Debug, Default, Clone, Copy)]
pub struct Rates {
    pub growing: f64,
    pub inconclusive: f64,
}

pub fn rates(looks: u64, settings: &Settings, of: impl Fn(u64) -> (ProfileKind, Life)) -> Rates {
    let (mut growing, mut inconclusive) = (0_u64, 0_u64);
    for seed in 0..looks {
        let (kind, life) = of(seed);
        match look(kind, &life, settings, seed).outcome {
            Outcome::Growing => growing += 1,
            Outcome::Inconclusive(_) => inconclusive += 1,
            Outcome::NotGrowing => {}
        }
    }
    let part = |count: u64| count as f64 / looks as f64;
    Rates { growing: part(growing), inconclusive: part(inconclusive) }
}

/// Whether a look names the function that grows.
pub fn finds(kind: ProfileKind, life: &Life, settings: &Settings, seed: u64) -> bool {
    let trend = look(kind, life, settings, seed);
    let name = format!("shop::orders::function_{}", if kind == Cpu { LARGE } else { LEAK });
    let named = trend.functions.iter().any(|f| f.name == name && f.what == What::Grows);
    trend.outcome == Outcome::Growing && named
}

/// Fewer orders and a larger rate than by default, so that tests take seconds.
fn quick() -> Settings {
    Settings { error_rate: 0.05, orders: 1_000, ..Settings::default() }
}

#[test]
fn where_nothing_grows_nothing_is_called_growing() {
    for (name, kind, life) in unchanged() {
        let rates = rates(60, &quick(), |_| (kind, life));
        // 5 % of 60 are at most 8 in 99.5 % of all seeds; `make soak` takes 300.
        assert!(rates.growing <= 8.0 / 60.0, "{name}: {rates:?}");
    }
}

#[test]
fn load_the_time_of_day_steps_and_caches_are_not_growth() {
    for (name, kind, life) in disguised() {
        let rates = rates(48, &quick(), |seed| (kind, life((seed % 24) as f64 / 24.0)));
        assert!(rates.growing <= 7.0 / 48.0, "{name}: {rates:?}");
    }
}

#[test]
fn twice_the_load_is_said() {
    for seed in 0..20 {
        let life = Life { load: Load::Rises(2.0), ..PLAIN };
        let trend = look(Cpu, &life, &quick(), seed);
        assert_eq!(trend.outcome, Outcome::Inconclusive(Why::DifferentLoad), "{trend:?}");
        assert!(trend.message().contains("cannot be told from load"), "{}", trend.message());
        let load = trend.load.expect("it is known of CPU time");
        assert!((1.4..3.5).contains(&load), "{load}");
        // Memory that rises meanwhile may be load as well, unless it rises by much more.
        let rises = Life { change: Change::Grows(2.5), ..life };
        let outcome = look(Heap, &rises, &quick(), seed).outcome;
        assert!(outcome != Outcome::Growing && outcome != Outcome::NotGrowing, "{outcome:?}");
    }
}

#[test]
fn a_leak_and_a_climb_are_found_and_named() {
    let leaks = |noise, sessions| Life { sessions, noise, change: Change::Grows(4.0), ..PLAIN };
    for (kind, life, least) in [
        (Heap, leaks(COUNTING, 24), 34),
        (Heap, Life { load: Load::Rises(1.3), ..leaks(COUNTING, 24) }, 34),
        (Heap, leaks(HOURS, 24), 30),
        (Heap, leaks(COUNTING, 10), 30),
        (Cpu, Life { change: Change::Grows(2.0), ..PLAIN }, 34),
        (Cpu, Life { change: Change::Grows(2.0), noise: FOURFOLD, ..PLAIN }, 22),
    ] {
        let found = (0..40).filter(|seed| finds(kind, &life, &Settings::default(), *seed)).count();
        assert!(found >= least, "{kind} {life:?}: {found} of 40");
    }
}

#[test]
fn too_few_sessions_are_said_with_how_many_are_needed() {
    for sessions in [2, 7] {
        let life = Life { sessions, change: Change::Grows(9.0), ..PLAIN };
        for kind in [Cpu, Heap] {
            let trend = look(kind, &life, &Settings::default(), 1);
            assert_eq!(trend.outcome, Outcome::Inconclusive(Why::FewSessions));
            assert_eq!((trend.enough, trend.p, trend.sessions), (Some(8), None, sessions as usize));
            assert!(trend.message().contains("at least 8 are needed"), "{}", trend.message());
        }
    }
}

#[test]
fn sessions_that_differ_too_much_are_said_with_how_many_are_enough() {
    let wild = Life { sessions: 10, pods: 1, noise: Noise { moments: 0.15, ..COUNTING }, ..PLAIN };
    let trends: Vec<_> = (0..20).map(|seed| look(Heap, &wild, &quick(), seed)).collect();
    let short = |outcome| outcome == Outcome::Inconclusive(Why::NotEnoughSamples);
    let said: Vec<_> = trends.iter().filter(|trend| short(trend.outcome)).collect();
    assert!(said.len() >= 15, "{trends:?}");
    assert!(said.iter().all(|trend| trend.enough.is_none_or(|enough| enough > 10)), "{said:?}");
    // What is said to be enough is: most looks at so many sessions come to a result.
    let mut enough: Vec<usize> = said.iter().filter_map(|trend| trend.enough).collect();
    enough.sort_unstable();
    let sessions = u32::try_from(*enough.last().expect("at least one")).expect("at most 60");
    let more = rates(20, &quick(), |_| (Heap, Life { sessions, ..wild }));
    assert!(more.inconclusive <= 0.3, "{sessions}: {more:?}");
}

#[test]
fn a_look_says_the_same_again_in_whatever_order_its_captures_come() {
    let life = Life { change: Change::Grows(2.0), ..PLAIN };
    for (kind, mut captures) in [(Cpu, cpu(&life, 2_970.0, 3)), (Heap, heap(&life, 3))] {
        let first = trend(kind, &captures, &BTreeMap::new(), &quick(), 5);
        captures.reverse();
        let again = trend(kind, &captures, &BTreeMap::new(), &quick(), 5);
        assert_eq!((first.outcome, first.p, first.sessions), (again.outcome, again.p, again.sessions));
    }
}
