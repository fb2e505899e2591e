//! Which captures are compared, and what may be exchanged between the revisions?
//!
//! If nothing changed, it does not matter which of two captures is of the new revision, as long as nothing
//! else tells them apart. The time does: all pods of a moment share the traffic, the caches and the
//! neighbours of that moment. So
//!
//! 1. where both revisions were captured at the same moments, captures are exchanged within a moment;
//! 2. where they were not, moments are exchanged, each with the mean of its captures.
//!
//! Captures of one moment against those of others, exchanged one by one, would take the difference between
//! two hours for one between two revisions: see the decision record 0063.

use std::collections::{BTreeMap, BTreeSet};

use super::arrange::{Block, count};
use super::capture::{About, PodCapture, Side};
use super::numbers::combinations;
use super::settings::Settings;
use super::{Enough, Why};

/// Most captures of a revision that are compared; what comes after them is left out.
pub const MAX_CAPTURES: usize = 64;
/// A capture with fewer samples than this says nothing.
const FEWEST_SAMPLES: i64 = 20;

/// What is exchanged as one: a capture, or those of a moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit<'a> {
    pub side: Side,
    pub captures: Vec<&'a PodCapture>,
}

/// The units, and between which of them exchanges are made. Every unit is in one block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan<'a> {
    pub units: Vec<Unit<'a>>,
    pub blocks: Vec<Block>,
}

/// Why captures are not enough for a verdict, and how many would be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Short {
    pub why: Why,
    pub enough: Enough,
}

/// Chooses the captures and the way to exchange them.
pub(super) fn plan<'a>(captures: &'a [PodCapture], settings: &Settings) -> Result<Plan<'a>, Short> {
    let all = distinct(captures);
    let sampled = |c: &&PodCapture| c.samples >= FEWEST_SAMPLES && c.value > 0;
    let covered = |c: &&PodCapture| c.about.coverage.is_none_or(|share| share >= settings.min_coverage);
    let with_samples: Vec<&PodCapture> = all.iter().copied().filter(sampled).collect();
    let good: Vec<&PodCapture> = with_samples.iter().copied().filter(covered).collect();
    arrange(&good, settings).map_err(|short| {
        // The first thing that is missing is what to mend.
        let enough = |captures: &[&'a PodCapture]| arrange(captures, settings).is_ok();
        let why = if enough(&with_samples) {
            Why::LowCoverage
        } else if enough(&all) {
            Why::NotEnoughSamples
        } else {
            short.why
        };
        Short { why, ..short }
    })
}

/// The first capture of each pod at each moment, as many of each revision as are compared: of every moment
/// one, then of every moment a second one, and so on.
fn distinct(captures: &[PodCapture]) -> Vec<&PodCapture> {
    let mut seen = BTreeSet::new();
    let mut of_moment: BTreeMap<(Side, u32), usize> = BTreeMap::new();
    let mut ranked: Vec<(Side, usize, &PodCapture)> = Vec::new();
    for capture in captures {
        let About { pod, side, moment, .. } = &capture.about;
        if seen.insert((side, pod, moment)) {
            let rank = of_moment.entry((*side, *moment)).or_default();
            ranked.push((*side, *rank, capture));
            *rank += 1;
        }
    }
    ranked.sort_by_key(|(side, rank, _)| (*side, *rank));
    let of_side = |wanted| {
        let all = ranked.iter().filter(move |(side, ..)| *side == wanted);
        all.map(|(_, _, capture)| *capture).take(MAX_CAPTURES)
    };
    of_side(Side::Old).chain(of_side(Side::New)).collect()
}

fn arrange<'a>(captures: &[&'a PodCapture], settings: &Settings) -> Result<Plan<'a>, Short> {
    let together = enough(of_captures(at_shared_moments(captures)), Why::FewPods, settings);
    match together {
        Err(short) => {
            let apart = enough(of_moments(captures), Why::FewMoments, settings);
            apart.map_err(|other| if has_shared_moment(captures) { short } else { other })
        }
        together => together,
    }
}

/// The plan, if it can come to a verdict at all.
fn enough<'a>(plan: Plan<'a>, why: Why, settings: &Settings) -> Result<Plan<'a>, Short> {
    let [old, new] = [Side::Old, Side::New].map(|side| plan.pods(side));
    if new < settings.min_pods || old < settings.min_pods {
        return Err(Short { why: Why::FewPods, enough: enough_pods(old, settings) });
    }
    if settings.allowed(count(&plan.blocks)) == 0 {
        let enough = match why {
            Why::FewMoments => {
                Enough { old_moments: Some(plan.enough_moments(settings)), ..enough_pods(old, settings) }
            }
            _ => enough_pods(old, settings),
        };
        return Err(Short { why, enough });
    }
    Ok(plan)
}

/// Enough pods for a verdict, captured at one moment, with at least so many of the old revision.
fn enough_pods(old: usize, settings: &Settings) -> Enough {
    let old_pods = old.max(settings.min_pods);
    let suffice = |new: &usize| settings.allowed(combinations(old_pods + new, *new)) > 0;
    let new_pods = (settings.min_pods..=MAX_CAPTURES).find(suffice).unwrap_or(MAX_CAPTURES);
    Enough { old_pods, new_pods, ..Enough::default() }
}

impl Plan<'_> {
    /// The captures of a revision.
    pub(super) fn captures(&self, side: Side) -> impl Iterator<Item = &PodCapture> {
        self.units.iter().filter(move |unit| unit.side == side).flat_map(|unit| unit.captures.iter().copied())
    }

    /// Its different pods.
    pub(super) fn pods(&self, side: Side) -> usize {
        self.captures(side).map(|capture| &capture.about.pod).collect::<BTreeSet<_>>().len()
    }

    /// The units of a revision.
    pub(super) fn side(&self, side: Side) -> Vec<usize> {
        (0..self.units.len()).filter(|at| self.units.get(*at).is_some_and(|u| u.side == side)).collect()
    }

    /// At how many moments the old revision has to be captured, with the new ones as they are.
    fn enough_moments(&self, settings: &Settings) -> usize {
        let new = self.side(Side::New).len();
        let suffice = |old: &usize| settings.allowed(combinations(old + new, new)) > 0;
        (1..1_000).find(suffice).unwrap_or(1_000)
    }
}

fn moments<'a>(captures: &[&'a PodCapture]) -> BTreeMap<u32, Vec<&'a PodCapture>> {
    let mut moments: BTreeMap<u32, Vec<&PodCapture>> = BTreeMap::new();
    for capture in captures {
        moments.entry(capture.about.moment).or_default().push(capture);
    }
    moments
}

fn has_both(captures: &[&PodCapture]) -> bool {
    [Side::Old, Side::New].iter().all(|side| captures.iter().any(|capture| capture.about.side == *side))
}

fn has_shared_moment(captures: &[&PodCapture]) -> bool {
    moments(captures).values().any(|captures| has_both(captures))
}

/// The captures of moments at which both revisions were captured. A pod counts once, at the first of them:
/// what makes it different from others does so at every moment.
fn at_shared_moments<'a>(captures: &[&'a PodCapture]) -> BTreeMap<u32, Vec<&'a PodCapture>> {
    let mut shared = moments(captures);
    shared.retain(|_, captures| has_both(captures));
    let mut seen = BTreeSet::new();
    for captures in shared.values_mut() {
        captures.retain(|capture| seen.insert((capture.about.side, &capture.about.pod)));
    }
    shared.retain(|_, captures| has_both(captures));
    shared
}

/// Every capture is a unit, every moment a block.
fn of_captures(moments: BTreeMap<u32, Vec<&PodCapture>>) -> Plan<'_> {
    let mut plan = Plan { units: Vec::new(), blocks: Vec::new() };
    for captures in moments.into_values() {
        let first = plan.units.len();
        plan.units.extend(captures.iter().map(|c| Unit { side: c.about.side, captures: vec![*c] }));
        plan.blocks.push(block(first, &plan.units));
    }
    plan
}

/// Captures of one revision: every capture is a unit, every moment a block.
pub(super) fn by_capture<'a>(captures: &[&'a PodCapture]) -> Plan<'a> {
    of_captures(moments(captures))
}

/// Captures of one revision: every moment is a unit, and all of them are one block.
pub(super) fn by_moment<'a>(captures: &[&'a PodCapture]) -> Plan<'a> {
    let unit = |captures| Unit { side: Side::Old, captures };
    let units: Vec<Unit<'a>> = moments(captures).into_values().map(unit).collect();
    let blocks = vec![block(0, &units)];
    Plan { units, blocks }
}

/// Every moment is a unit, and all of them are one block. Those of the old revision have no more captures
/// than the smallest of the new one: a mean of more would spread less, and the new revision would stand out.
fn of_moments<'a>(captures: &[&'a PodCapture]) -> Plan<'a> {
    let mut units: BTreeMap<(Side, u32), Vec<&PodCapture>> = BTreeMap::new();
    for capture in captures {
        units.entry((capture.about.side, capture.about.moment)).or_default().push(capture);
    }
    let of_new = units.iter().filter(|((side, _), _)| *side == Side::New).map(|(_, captures)| captures.len());
    let most = of_new.min().unwrap_or(usize::MAX);
    let units: Vec<Unit<'_>> = units
        .into_iter()
        .map(|((side, _), mut captures)| {
            captures.truncate(if side == Side::Old { most } else { usize::MAX });
            Unit { side, captures }
        })
        .collect();
    let blocks = vec![block(0, &units)];
    Plan { units, blocks }
}

/// The block of the units from `first` on.
fn block(first: usize, units: &[Unit<'_>]) -> Block {
    let members: Vec<usize> = (first..units.len()).collect();
    let new = units.iter().skip(first).filter(|unit| unit.side == Side::New).count();
    Block { members, new }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::testing::{capture, captures_at};

    fn counts(captures: &[PodCapture]) -> Result<(usize, Vec<(usize, usize)>), Short> {
        let plan = plan(captures, &Settings::default())?;
        let blocks = plan.blocks.iter().map(|block| (block.members.len(), block.new)).collect();
        Ok((plan.units.len(), blocks))
    }

    #[test]
    fn captures_of_the_same_moment_are_exchanged_within_it() {
        let mut captures = captures_at(0, 4, 3);
        assert_eq!(counts(&captures), Ok((7, vec![(7, 3)])));
        captures.extend(captures_at(1, 2, 2));
        // The pods have the same names again, so they count once.
        assert_eq!(counts(&captures), Ok((7, vec![(7, 3)])));
        for capture in &mut captures[7..] {
            capture.about.pod.push_str("-other");
        }
        assert_eq!(counts(&captures), Ok((11, vec![(7, 3), (4, 2)])));
    }

    #[test]
    fn captures_of_different_moments_are_exchanged_moment_by_moment() {
        let mut captures: Vec<PodCapture> =
            (0..19).map(|n| capture(&format!("o{n}"), Side::Old, n)).collect();
        captures.extend((0..4).map(|n| capture(&format!("n{n}"), Side::New, 100)));
        assert_eq!(counts(&captures), Ok((20, vec![(20, 1)])));
        captures.remove(0);
        let short = counts(&captures).expect_err("1 of 19 is more than 5 %");
        assert_eq!((short.why, short.enough.old_moments), (Why::FewMoments, Some(19)));
    }

    #[test]
    fn one_new_pod_is_never_enough_and_what_would_be_is_said() {
        for old in [3, 12, 40] {
            let short = counts(&captures_at(0, old, 1)).expect_err("one pod");
            assert_eq!(short.why, Why::FewPods);
            assert_eq!((short.enough.old_pods, short.enough.new_pods), (old as usize, 3));
        }
        assert_eq!(counts(&captures_at(0, 3, 3)), Ok((6, vec![(6, 3)])));
        let strict = Settings { error_rate: 0.01, ..Settings::default() };
        let short = plan(&captures_at(0, 3, 3), &strict).expect_err("1 of 20 is more than 1 %");
        assert_eq!((short.why, short.enough.old_pods, short.enough.new_pods), (Why::FewPods, 3, 7));
        assert_eq!(counts(&[]).expect_err("nothing").why, Why::FewPods);
    }

    #[test]
    fn captures_without_samples_or_coverage_do_not_count_and_are_named_as_the_cause() {
        let mut captures = captures_at(0, 3, 3);
        captures[4].about.coverage = Some(49);
        assert_eq!(counts(&captures).expect_err("five are left").why, Why::LowCoverage);
        captures[4].about.coverage = Some(50);
        captures[5].samples = 19;
        assert_eq!(counts(&captures).expect_err("five are left").why, Why::NotEnoughSamples);
    }

    #[test]
    fn units_of_the_old_revision_are_as_small_as_those_of_the_new_one() {
        let mut captures: Vec<PodCapture> = (0..30).flat_map(|n| captures_at(n, 5, 0)).collect();
        captures.extend(captures_at(100, 0, 3));
        let plan = plan(&captures, &Settings::default()).expect("64 captures of 30 moments");
        assert!(plan.units.iter().all(|unit| unit.captures.len() <= 3));
    }
}
