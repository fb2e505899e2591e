//! Rollouts of simulated fleets: false alarms, power, and what else may happen to a revision.

use fleetprof_profile::verdict::{Outcome, PodCapture, Settings, What, Why, verdict};

use crate::fleet::{COUNTING, Design, Fleet, LARGE, Noise, SMALL, rollout};
use crate::plain;

/// Samples of a capture of 2 minutes at 99 Hz on one busy core, of one of 30 s, and of a small service.
pub const SIZES: [f64; 3] = [11_880.0, 2_970.0, 356.0];
const FOUR: Design = Design::Together { old: 4, new: 4 };
const TWELVE: Design = Design::Together { old: 12, new: 4 };

/// How rollouts without a change are looked at.
pub struct Unchanged {
    pub name: &'static str,
    pub samples: f64,
    pub noise: Noise,
    pub design: Design,
    /// Samples of a new capture ÷ samples of an old one.
    pub size: f64,
}

/// Sampling noise alone makes a fourth of the variance between pods.
const FOURFOLD: Noise = Noise { dispersion: 4.0, ..COUNTING };
/// Costs of functions differ between pods.
const PODS: Noise = Noise { pods: 0.2, load: 0.3, ..COUNTING };
/// They differ between moments.
const HOURS: Noise = Noise { pods: 0.05, moments: 0.2, ..COUNTING };

/// What differs between pods and moments though nothing changed.
pub fn unchanged() -> Vec<Unchanged> {
    let [long, short, few] = SIZES;
    let three = Design::Together { old: 3, new: 3 };
    let repeated = Design::Repeated { moments: 3, old: 2, new: 2 };
    let sessions = |moments| Design::Sessions { moments, new: 4 };
    let cases: [(&str, f64, Noise, Design, f64); 11] = [
        ("3 + 3 pods, φ = 1", short, COUNTING, three, 1.0),
        ("4 + 4 pods, φ = 1", short, COUNTING, FOUR, 1.0),
        ("4 + 4 pods, φ = 1, few samples", few, COUNTING, FOUR, 1.0),
        ("4 + 4 pods, φ = 4", short, FOURFOLD, FOUR, 1.0),
        ("12 + 4 pods, φ = 4", short, FOURFOLD, TWELVE, 1.0),
        ("12 + 4 pods, costs differ by 20 % between pods", short, PODS, TWELVE, 1.0),
        ("12 + 4 pods, old captures 4 times longer, φ = 1", long, COUNTING, TWELVE, 0.25),
        ("12 + 4 pods, old captures 4 times longer, φ = 4", long, FOURFOLD, TWELVE, 0.25),
        ("3 moments of 2 + 2 pods, costs differ by 20 % between moments", short, HOURS, repeated, 1.0),
        ("24 moments of 1 old pod, then 4 new pods; the same", short, HOURS, sessions(24), 1.0),
        ("12 moments of 1 old pod, then 4 new pods; the same", short, HOURS, sessions(12), 1.0),
    ];
    let case = |(name, samples, noise, design, size)| Unchanged { name, samples, noise, design, size };
    cases.into_iter().map(case).collect()
}

/// The outcomes of rollouts, as parts of all of them.
#[derive(Debug, Default, Clone, Copy)]
pub struct Rates {
    pub regressed: f64,
    pub inconclusive: f64,
    /// By the plain test.
    pub plain: f64,
}

/// The rates of so many rollouts without a change; those of the plain test where it is asked for.
pub fn false_alarms(case: &Unchanged, rollouts: u64, with_plain: bool) -> Rates {
    let fleet = Fleet::new(case.samples, case.noise);
    let costs = fleet.same();
    let (mut regressed, mut inconclusive, mut plain) = (0_u64, 0_u64, 0_u64);
    for seed in 0..rollouts {
        let captures = rollout(&fleet, [&costs, &costs], case.design, case.size, seed);
        match verdict(&captures, &Settings::default(), seed).outcome {
            Outcome::Regressed => regressed += 1,
            Outcome::Inconclusive(_) => inconclusive += 1,
            Outcome::NotRegressed => {}
        }
        plain += u64::from(with_plain && plain::regressed(&captures));
    }
    let part = |count: u64| count as f64 / rollouts as f64;
    Rates { regressed: part(regressed), inconclusive: part(inconclusive), plain: part(plain) }
}

/// A function that takes so much more of the CPU time in the new revision.
#[derive(Clone, Copy)]
pub struct Planted {
    pub function: usize,
    pub rise: f64,
}

/// Whether a test of these captures finds that this function got slower.
pub type Finds = fn(&[PodCapture], u64, usize) -> bool;

/// Whether the verdict names the function.
pub fn names(captures: &[PodCapture], seed: u64, function: usize) -> bool {
    let verdict = verdict(captures, &Settings::default(), seed);
    let name = format!("shop::orders::function_{function}");
    let named = verdict.functions.iter().any(|f| f.name == name && f.what == What::Rose);
    verdict.outcome == Outcome::Regressed && named
}

/// Whether the plain test finds anything.
pub fn plainly(captures: &[PodCapture], _seed: u64, _function: usize) -> bool {
    plain::regressed(captures)
}

/// Of so many rollouts, how many are found.
pub fn power(fleet: &Fleet, planted: Planted, design: Design, rollouts: u64, finds: Finds) -> f64 {
    let Planted { function, rise } = planted;
    let (old, new) = (fleet.same(), fleet.slower(function, rise));
    let is_found = |seed: &u64| finds(&rollout(fleet, [&old, &new], design, 1.0, *seed), *seed, function);
    (0..rollouts).filter(is_found).count() as f64 / rollouts as f64
}

fn outcomes(fleet: &Fleet, costs: [&[f64]; 2], rollouts: u64) -> Vec<Outcome> {
    let judged = |seed| verdict(&rollout(fleet, costs, FOUR, 1.0, seed), &Settings::default(), seed).outcome;
    (0..rollouts).map(judged).collect()
}

#[test]
fn an_unchanged_revision_is_rarely_called_slower() {
    for case in unchanged() {
        let rates = false_alarms(&case, 100, false);
        // 5 % of 100 are at most 11 in 99.5 % of all seeds; `make soak` takes 2,000.
        assert!(rates.regressed <= 0.11, "{}: {rates:?}", case.name);
    }
}

#[test]
fn a_slower_function_is_found_and_named() {
    let fleet = Fleet::new(2_970.0, FOURFOLD);
    for (function, rise) in [(LARGE, 0.05), (SMALL, 0.05), (LARGE, 0.03)] {
        let power = power(&fleet, Planted { function, rise }, TWELVE, 40, names);
        assert!(power >= 0.9, "{rise} of {function}: {power}");
    }
}

#[test]
fn the_smallest_visible_change_is_seen_in_about_four_of_five() {
    let fleet = Fleet::new(2_970.0, COUNTING);
    let costs = fleet.same();
    let told = (0..20).filter_map(|seed| {
        let captures = rollout(&fleet, [&costs, &costs], FOUR, 1.0, seed);
        verdict(&captures, &Settings::default(), seed).smallest
    });
    let mut told: Vec<f64> = told.collect();
    told.sort_by(f64::total_cmp);
    let planted = Planted { function: LARGE, rise: told[told.len() / 2] };
    let power = power(&fleet, planted, FOUR, 150, names);
    assert!((0.65..=0.97).contains(&power), "{power} at {told:?}");
}

#[test]
fn cost_that_moves_to_a_function_beside_it_is_no_regression() {
    let fleet = Fleet::new(11_880.0, Noise { dispersion: 2.0, ..COUNTING });
    // Functions 40, 41 and 42 are called by 13.
    let (old, new) = fleet.moved(40, 41);
    let outcomes = outcomes(&fleet, [&old, &new], 60);
    let regressed = outcomes.iter().filter(|outcome| **outcome == Outcome::Regressed).count();
    assert!(regressed <= 3, "{regressed} of 60");
    let captures = rollout(&fleet, [&old, &new], FOUR, 1.0, 1);
    let verdict = verdict(&captures, &Settings::default(), 1);
    assert!(
        verdict.functions.iter().any(|f| f.what == What::Moved && f.name.ends_with("_41")),
        "{verdict:?}"
    );
}

#[test]
fn a_saving_is_no_regression() {
    let fleet = Fleet::new(11_880.0, COUNTING);
    let (old, mut new) = (fleet.same(), fleet.same());
    // Of 24 % of the CPU time, nine tenths are saved: all other shares rise by a quarter.
    new.iter_mut().take(4).for_each(|cost| *cost *= 0.1);
    let regressed = |outcomes: &[Outcome]| outcomes.iter().filter(|o| **o == Outcome::Regressed).count();
    let outcomes = outcomes(&fleet, [&old, &new], 60);
    assert!(regressed(&outcomes) <= 3, "{outcomes:?}");
}

#[test]
fn twice_the_load_is_said() {
    let fleet = Fleet::new(2_970.0, COUNTING);
    let (old, new) =
        (fleet.same(), fleet.slower(LARGE, 0.05).iter().map(|cost| 2.0 * cost).collect::<Vec<_>>());
    let outcomes = outcomes(&fleet, [&old, &new], 40);
    assert!(outcomes.iter().all(|o| *o == Outcome::Inconclusive(Why::DifferentLoad)), "{outcomes:?}");
}

#[test]
fn one_new_pod_never_gets_a_verdict() {
    let fleet = Fleet::new(11_880.0, COUNTING);
    let (old, new) = (fleet.same(), fleet.slower(LARGE, 0.3));
    for design in [Design::Together { old: 12, new: 1 }, Design::Sessions { moments: 12, new: 1 }] {
        let captures: Vec<PodCapture> = rollout(&fleet, [&old, &new], design, 1.0, 1);
        let outcome = verdict(&captures, &Settings::default(), 1).outcome;
        assert_eq!(outcome, Outcome::Inconclusive(Why::FewPods), "{design:?}");
    }
}
