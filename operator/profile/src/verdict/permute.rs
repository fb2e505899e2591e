//! How often would exchanging units between the revisions look as bad as what was seen?
//!
//! Every arrangement is scored like the real one: by the function whose share rises most, measured by its
//! spread. A function's p is the share of arrangements in which any function scores at least as high (Westfall
//! and Young 1993: max-T), so it holds for all functions together, however they move with one another. Whether
//! a rise is large enough to count is asked afterwards, which only makes false alarms rarer.

use super::arrange::{Arrangements, count};
use super::capture::Side;
use super::numbers::ratio;
use super::plan::Plan;
use super::settings::Settings;
use super::table::{Row, Table};

/// Scores that differ by less than this part are equal, and so are shares that differ by less.
const EQUAL: f64 = 1e-9;
/// A variance of less than this is what rounding leaves of equal shares.
const DUST: f64 = 1e-12;

/// How one row differs between the units called new and the others.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Score {
    /// New share less old share.
    pub effect: f64,
    /// The same by its spread.
    pub t: f64,
    /// Whether it rose by enough to count.
    pub rises: bool,
    /// Whether it fell by as much.
    pub falls: bool,
}

/// The result for the real arrangement, and what chance makes of others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tested {
    /// Of each row.
    pub scores: Vec<Score>,
    /// How many samples of weight the comparison is worth: variance of an effect = variance of a unit of
    /// weight 1 ÷ this.
    pub information: f64,
    /// How many arrangements were looked at, the real one included.
    pub arrangements: u64,
    /// Whether these are all that there are.
    pub every: bool,
    /// The highest score of arrangements that is not enough; infinitely low where any is.
    pub critical: f64,
    /// The highest score of each arrangement, the highest first.
    rises: Vec<f64>,
    /// The lowest score of each, turned around.
    falls: Vec<f64>,
}

/// Room for the sums of one arrangement.
#[derive(Default)]
struct Scratch {
    sums: Vec<f64>,
    blocks: Vec<f64>,
}

pub(super) fn test(table: &Table<'_>, plan: &Plan<'_>, settings: &Settings, seed: u64) -> Tested {
    let mut scratch = Scratch::default();
    let rules = Rules::of(table, settings);
    let real = plan.side(Side::New);
    let (information, scores) = rules.scores(&real, &mut scratch);
    let all = count(&plan.blocks);
    let every = all <= u64::from(settings.arrangements);
    let mut arrangements = match every {
        true => Arrangements::every(&plan.blocks),
        false => Arrangements::drawn(&plan.blocks, settings.arrangements as usize - 1, seed),
    };
    let (mut rises, mut falls, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
    while arrangements.next(&mut chosen) {
        let (rise, fall) = rules.extremes(&chosen, &mut scratch);
        rises.push(rise);
        falls.push(fall);
    }
    if !every {
        // The real one is one of those that could have been drawn (Phipson and Smyth 2010).
        let (rise, fall) = rules.extremes(&real, &mut scratch);
        rises.push(rise);
        falls.push(fall);
    }
    for highest in [&mut rises, &mut falls] {
        highest.sort_unstable_by(|one, other| other.total_cmp(one));
    }
    let arrangements = rises.len() as u64;
    let critical = critical(&rises, highest(&scores), settings.allowed(arrangements));
    Tested { scores, information, arrangements, every, critical, rises, falls }
}

impl Tested {
    /// How often chance makes a rise as clear as that of this row; 1 where it did not rise by enough.
    pub(super) fn p_of_rise(&self, score: &Score) -> f64 {
        if score.rises { share_at_least(&self.rises, score.t) } else { 1.0 }
    }

    /// The same of a fall.
    pub(super) fn p_of_fall(&self, score: &Score) -> f64 {
        if score.falls { share_at_least(&self.falls, -score.t) } else { 1.0 }
    }

    /// What of a row's change is beyond chance, from and to.
    pub(super) fn interval(&self, row: &Row, score: &Score) -> Option<(f64, f64)> {
        let half = self.critical * ratio(row.moderated, self.information).sqrt();
        (half.is_finite() && half > 0.0).then_some((score.effect - half, score.effect + half))
    }

    /// The least p of any row.
    pub(super) fn p(&self) -> f64 {
        self.scores.iter().map(|score| self.p_of_rise(score)).fold(1.0, f64::min)
    }
}

/// The score of the row that rose most clearly.
fn highest(scores: &[Score]) -> f64 {
    scores.iter().map(|score| score.t).fold(f64::NEG_INFINITY, f64::max)
}

fn margin(score: f64) -> f64 {
    score - EQUAL * score.abs()
}

fn share_at_least(highest: &[f64], score: f64) -> f64 {
    let least = margin(score);
    ratio(highest.partition_point(|other| *other >= least) as f64, highest.len() as f64)
}

/// The score of other arrangements that the real one has to exceed: as many as are allowed, less itself, may
/// be as high.
fn critical(sorted: &[f64], real: f64, allowed: u64) -> f64 {
    let itself = sorted.partition_point(|other| margin(*other) > real);
    let position = usize::try_from(allowed).unwrap_or(usize::MAX).saturating_sub(1);
    let position = if position >= itself { position.saturating_add(1) } else { position };
    sorted.get(position).copied().unwrap_or(f64::NEG_INFINITY)
}

/// What turns sums into scores.
struct Rules<'t, 'a> {
    table: &'t Table<'a>,
    settings: &'t Settings,
    /// 1 ÷ the spread of each row; 0 for rows that do not vary.
    steps: Vec<f64>,
    weight: f64,
}

impl<'t, 'a> Rules<'t, 'a> {
    fn of(table: &'t Table<'a>, settings: &'t Settings) -> Self {
        let step = |row: &Row| if row.moderated > DUST { ratio(1.0, row.moderated.sqrt()) } else { 0.0 };
        let steps = table.rows.iter().map(step).collect();
        Self { table, settings, steps, weight: table.weights.iter().sum() }
    }

    /// The information of an arrangement, and the share of the weight that is new. Leaves the sums of pushes
    /// in `scratch`.
    fn sum(&self, chosen: &[usize], scratch: &mut Scratch) -> (f64, f64) {
        let table = self.table;
        scratch.sums.clear();
        scratch.sums.resize(table.rows.len(), 0.0);
        scratch.blocks.clear();
        scratch.blocks.resize(table.block_weights.len(), 0.0);
        let mut new = 0.0;
        for unit in chosen {
            let (Some(pushes), Some(weight)) = (table.pushes.get(*unit), table.weights.get(*unit)) else {
                continue;
            };
            for (sum, push) in scratch.sums.iter_mut().zip(pushes) {
                *sum += push;
            }
            let block = table.block_of.get(*unit).and_then(|block| scratch.blocks.get_mut(*block));
            if let Some(sum) = block {
                *sum += weight;
            }
            new += weight;
        }
        let blocks = scratch.blocks.iter().zip(&table.block_weights);
        let information = blocks.map(|(new, all)| ratio(new * (all - new), *all)).sum();
        (information, ratio(new, self.weight))
    }

    fn score(&self, row: usize, sum: f64, information: f64, new: f64) -> Score {
        let Some(facts) = self.table.rows.get(row) else { return Score::default() };
        let step = self.steps.get(row).copied().unwrap_or(0.0);
        let effect = ratio(sum, information);
        let old = (facts.mean - effect * new).max(0.0);
        let smallest = self.settings.effect.smallest(old, facts.cumulative);
        let t = ratio(sum, information.sqrt()) * step;
        let is_enough = |change: f64| change + EQUAL >= smallest;
        Score { effect, t, rises: is_enough(effect), falls: is_enough(-effect) }
    }

    fn scores(&self, chosen: &[usize], scratch: &mut Scratch) -> (f64, Vec<Score>) {
        let (information, new) = self.sum(chosen, scratch);
        let score = |(row, sum): (usize, &f64)| self.score(row, *sum, information, new);
        (information, scratch.sums.iter().enumerate().map(score).collect())
    }

    /// The highest score of any row, and the lowest one turned around.
    fn extremes(&self, chosen: &[usize], scratch: &mut Scratch) -> (f64, f64) {
        let (information, _) = self.sum(chosen, scratch);
        let scale = ratio(1.0, information.sqrt());
        let scores = scratch.sums.iter().zip(&self.steps).map(|(sum, step)| sum * scale * step);
        scores.fold((f64::NEG_INFINITY, f64::NEG_INFINITY), |(rise, fall), t| (rise.max(t), fall.max(-t)))
    }
}
