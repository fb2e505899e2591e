//! What share of each unit does every function have, and how much do shares vary by themselves?
//!
//! Nothing here may depend on which unit is new, or the test would be biased by its own result. So a
//! function is in the table if the units in which it is largest say so, whatever their revision; and its
//! spread is that of all units around the mean of their block.

use std::collections::HashMap;

use super::capture::{PodCapture, Side};
use super::numbers::{PRIOR, chi_square_median, mean, median, ratio};
use super::plan::{Plan, Unit};

/// Most functions that are compared, those with the largest cumulative share.
const MAX_FUNCTIONS: usize = 512;
/// A function is compared if it has this share in as many units as the smaller revision has.
const SMALLEST_SHARE: f64 = 0.005;
/// A function varies at least by this part of what counting alone would give.
pub(super) const LEAST_NOISE: f64 = 0.1;

/// A function by name and file.
pub(super) type Name<'a> = (&'a str, &'a str);

/// One share that is compared: the self or the cumulative one of a function.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Position of the function.
    pub function: usize,
    pub cumulative: bool,
    /// The mean share of all units, by their weights.
    pub mean: f64,
    /// Variance of the share of a unit of weight 1, around the mean of its block.
    pub variance: f64,
    /// The same with what functions have in common.
    pub moderated: f64,
}

/// How shares vary where nothing differs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Noise {
    /// Correlation of two samples of a unit, 0 to 0.5.
    pub correlation: f64,
    /// Variance of a share `p` in a unit of weight 1 ÷ `p (1 - p)`.
    pub scale: f64,
    /// Units less blocks.
    pub degrees: f64,
}

/// The shares of all units.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table<'a> {
    pub functions: Vec<Name<'a>>,
    pub rows: Vec<Row>,
    /// Of each unit how many samples it has, and how many it is worth.
    pub samples: Vec<f64>,
    pub weights: Vec<f64>,
    pub block_of: Vec<usize>,
    pub block_weights: Vec<f64>,
    /// Of each unit the share of each row.
    pub shares: Vec<Vec<f64>>,
    /// Of each unit, how far its share of each row lies above the mean of its block, times its weight.
    pub pushes: Vec<Vec<f64>>,
    pub noise: Noise,
}

/// The shares of all units in one row.
struct Column {
    function: usize,
    cumulative: bool,
    shares: Vec<f64>,
}

impl<'a> Table<'a> {
    pub(super) fn of(plan: &Plan<'a>) -> Self {
        let (functions, columns) = columns(plan);
        let block_of = block_of(plan);
        let samples = samples(plan);
        let mut noise = noise(&columns, &samples, &block_of);
        let worth = |n: &f64| n / (1.0 + noise.correlation * (n - 1.0));
        let weights: Vec<f64> = samples.iter().map(worth).collect();
        let centred: Vec<Centred> =
            columns.iter().map(|column| Centred::of(&column.shares, &weights, &block_of)).collect();
        noise.scale = scale(&centred, noise.degrees);
        let rows: Vec<Row> =
            columns.iter().zip(&centred).map(|(column, centred)| row(column, centred, noise)).collect();
        let mut block_weights = vec![0.0; plan.blocks.len()];
        for (block, weight) in block_of.iter().zip(&weights) {
            if let Some(sum) = block_weights.get_mut(*block) {
                *sum += weight;
            }
        }
        let units = plan.units.len();
        let shares = by_unit(columns.iter().map(|column| &column.shares), units);
        let pushes = by_unit(centred.iter().map(|centred| &centred.pushes), units);
        Self { functions, rows, samples, weights, block_of, block_weights, shares, pushes, noise }
    }

    /// The mean share of a row in some units, by their weights.
    pub(super) fn mean(&self, units: &[usize], row: usize) -> f64 {
        let share = |unit: usize| at(self.shares.get(unit), row);
        let weight = |unit: usize| at(Some(&self.weights), unit);
        let sum: f64 = units.iter().map(|unit| share(*unit) * weight(*unit)).sum();
        ratio(sum, units.iter().map(|unit| weight(*unit)).sum())
    }
}

fn at(values: Option<&Vec<f64>>, position: usize) -> f64 {
    values.and_then(|values| values.get(position)).copied().unwrap_or(0.0)
}

/// Rows of units turned into units of rows.
fn by_unit<'r>(rows: impl Iterator<Item = &'r Vec<f64>>, units: usize) -> Vec<Vec<f64>> {
    let mut turned: Vec<Vec<f64>> = vec![Vec::new(); units];
    for row in rows {
        for (unit, value) in turned.iter_mut().zip(row) {
            unit.push(*value);
        }
    }
    turned
}

fn row(column: &Column, centred: &Centred, noise: Noise) -> Row {
    let common = noise.scale * binomial(centred.mean);
    let own = ratio(centred.squares, noise.degrees);
    Row {
        function: column.function,
        cumulative: column.cumulative,
        mean: centred.mean,
        variance: own,
        moderated: (PRIOR * common + noise.degrees * own) / (PRIOR + noise.degrees),
    }
}

/// Variance of one sample that is in a function or not.
pub(super) fn binomial(share: f64) -> f64 {
    (share * (1.0 - share)).max(0.0)
}

/// A capture's share of one of its functions.
pub(super) fn share(capture: &PodCapture, value: i64) -> f64 {
    ratio(value.max(0) as f64, capture.value.max(0) as f64).min(1.0)
}

fn block_of(plan: &Plan<'_>) -> Vec<usize> {
    let mut block_of = vec![0; plan.units.len()];
    for (number, block) in plan.blocks.iter().enumerate() {
        for member in &block.members {
            if let Some(of) = block_of.get_mut(*member) {
                *of = number;
            }
        }
    }
    block_of
}

/// The functions that are large enough, and their shares. A function without callees has one row: its
/// cumulative share is its self share.
fn columns<'a>(plan: &Plan<'a>) -> (Vec<Name<'a>>, Vec<Column>) {
    let fewest = plan.side(Side::Old).len().min(plan.side(Side::New).len()).max(1);
    let is_large = |shares: &[f64]| mean_of_largest(shares, fewest) >= SMALLEST_SHARE;
    let mut found: Vec<(Name<'a>, [Vec<f64>; 2])> = uses(&plan.units)
        .into_iter()
        .map(|(name, uses)| (name, dense(&uses, plan.units.len())))
        .filter(|(_, [_, cum])| is_large(cum))
        .collect();
    found.sort_by(|(one, [_, first]), (other, [_, second])| {
        let sum = |shares: &[f64]| shares.iter().sum::<f64>();
        sum(second).total_cmp(&sum(first)).then_with(|| one.cmp(other))
    });
    found.truncate(MAX_FUNCTIONS);
    let (mut names, mut columns) = (Vec::new(), Vec::new());
    for (function, (name, [own, cum])) in found.into_iter().enumerate() {
        names.push(name);
        let differs = own.iter().zip(&cum).any(|(own, cum)| cum - own > 0.01 * cum);
        let has_own = is_large(&own);
        if has_own {
            columns.push(Column { function, cumulative: false, shares: own });
        }
        if differs || !has_own {
            columns.push(Column { function, cumulative: true, shares: cum });
        }
    }
    (names, columns)
}

/// Where a function was seen: the unit, and its self and cumulative share there.
type Uses = Vec<(usize, [f64; 2])>;

fn uses<'a>(units: &[Unit<'a>]) -> HashMap<Name<'a>, Uses> {
    let mut uses: HashMap<Name<'a>, Uses> = HashMap::new();
    for (unit, captures) in units.iter().map(|unit| &unit.captures).enumerate() {
        let part = 1.0 / captures.len().max(1) as f64;
        for capture in captures {
            for function in &capture.functions {
                let shares = [function.own, function.cum].map(|value| part * share(capture, value));
                uses.entry((&function.name, &function.file)).or_default().push((unit, shares));
            }
        }
    }
    uses
}

/// Of every unit the self and the cumulative share.
fn dense(uses: &Uses, units: usize) -> [Vec<f64>; 2] {
    let mut dense = [vec![0.0; units], vec![0.0; units]];
    for (unit, shares) in uses {
        for (sums, share) in dense.iter_mut().zip(shares) {
            if let Some(sum) = sums.get_mut(*unit) {
                *sum = f64::min(*sum + share, 1.0);
            }
        }
    }
    dense
}

fn mean_of_largest(shares: &[f64], count: usize) -> f64 {
    let mut sorted = shares.to_vec();
    sorted.sort_unstable_by(|one, other| other.total_cmp(one));
    mean(sorted.into_iter().take(count))
}

/// Shares around the means of their blocks.
struct Centred {
    mean: f64,
    pushes: Vec<f64>,
    /// The sum of squares, by weight.
    squares: f64,
}

impl Centred {
    fn of(shares: &[f64], weights: &[f64], block_of: &[usize]) -> Self {
        let blocks = block_of.iter().max().map_or(0, |last| last + 1);
        let mut sums = vec![(0.0, 0.0); blocks];
        for ((share, weight), block) in shares.iter().zip(weights).zip(block_of) {
            if let Some((sum, all)) = sums.get_mut(*block) {
                *sum += share * weight;
                *all += weight;
            }
        }
        let (sum, all) = sums.iter().fold((0.0, 0.0), |(s, a), (sum, all)| (s + sum, a + all));
        let above =
            |share: f64, block: usize| sums.get(block).map_or(0.0, |(sum, all)| share - ratio(*sum, *all));
        let mut centred =
            Self { mean: ratio(sum, all), pushes: Vec::with_capacity(shares.len()), squares: 0.0 };
        for ((share, weight), block) in shares.iter().zip(weights).zip(block_of) {
            let above = above(*share, *block);
            centred.pushes.push(weight * above);
            centred.squares += weight * above * above;
        }
        centred
    }
}

/// How much more shares vary around the means of their blocks than by counting, for the typical function; `None`
/// where no function is large enough.
pub(super) fn dispersion_of(plan: &Plan<'_>) -> Option<f64> {
    let (_, columns) = columns(plan);
    let is_large = |column: &Column| mean(column.shares.iter().copied()) >= SMALLEST_SHARE;
    let large: Vec<Column> = columns.into_iter().filter(|c| !c.cumulative && is_large(c)).collect();
    let noise = dispersion(&large, &samples(plan), &block_of(plan));
    (!large.is_empty()).then_some(noise)
}

/// How many samples each unit has.
fn samples(plan: &Plan<'_>) -> Vec<f64> {
    plan.units.iter().map(|unit| unit.captures.iter().map(|c| c.samples as f64).sum()).collect()
}

/// How much more shares vary than by counting: the median over the self shares, so that some functions may
/// have changed.
fn dispersion(columns: &[Column], samples: &[f64], block_of: &[usize]) -> f64 {
    let blocks = block_of.iter().max().map_or(0, |last| last + 1);
    let degrees = samples.len().saturating_sub(blocks).max(1) as f64;
    let own = columns.iter().filter(|column| !column.cumulative);
    let mut dispersions: Vec<f64> = own
        .map(|column| Centred::of(&column.shares, samples, block_of))
        .filter(|centred| binomial(centred.mean) > 0.0)
        .map(|centred| ratio(centred.squares, degrees * binomial(centred.mean)))
        .collect();
    match dispersions.is_empty() {
        true => 1.0,
        false => median(&mut dispersions) / chi_square_median(degrees),
    }
}

/// How samples of a unit resemble each other, by how much more shares vary than by counting.
fn noise(columns: &[Column], samples: &[f64], block_of: &[usize]) -> Noise {
    let blocks = block_of.iter().max().map_or(0, |last| last + 1);
    let degrees = samples.len().saturating_sub(blocks).max(1) as f64;
    let dispersion = dispersion(columns, samples, block_of);
    let size = typical_size(samples, block_of, blocks) / degrees;
    let correlation = ratio(dispersion - 1.0, size - 1.0).clamp(0.0, 0.5);
    Noise { correlation, scale: 1.0, degrees }
}

/// The size that counts in an analysis of variance of groups of different sizes, times its degrees of
/// freedom.
fn typical_size(samples: &[f64], block_of: &[usize], blocks: usize) -> f64 {
    let of_block = |block: usize| {
        let sizes = || samples.iter().zip(block_of).filter(move |(_, b)| **b == block).map(|(n, _)| *n);
        let all: f64 = sizes().sum();
        all - ratio(sizes().map(|n| n * n).sum(), all)
    };
    (0..blocks).map(of_block).sum()
}

/// What is left of the variance when weights have taken account of the sizes; near 1.
fn scale(centred: &[Centred], degrees: f64) -> f64 {
    let with_noise = centred.iter().filter(|row| binomial(row.mean) > 0.0);
    let mut ratios: Vec<f64> =
        with_noise.map(|row| ratio(row.squares, degrees * binomial(row.mean))).collect();
    (median(&mut ratios) / chi_square_median(degrees)).max(LEAST_NOISE)
}
