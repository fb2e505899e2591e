//! How much does every function use in each session, and how much does that vary by itself?
//!
//! Nothing here may depend on the order of the sessions, or the test would be biased by its own result. So a
//! function is in the table if the sessions in which it is largest say so, wherever they are, and its spread is
//! that of all sessions around their mean: growth is part of it.

use std::collections::HashMap;

use super::units::{Unit, amount, total};
use crate::kind::ProfileKind;
use crate::verdict::numbers::{PRIOR, chi_square_median, mean, median, ratio, weighted_median};

/// Most functions that are looked at, those that use most with what they call.
const MAX_FUNCTIONS: usize = 512;
/// A function is looked at if it has this part of all that is used in the third of the sessions in which it is
/// largest.
const SMALLEST_PART: f64 = 0.005;

/// A function by name and file.
pub(super) type Name<'a> = (&'a str, &'a str);

/// The self or cumulative amounts of a function.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Position of the function.
    pub function: usize,
    pub cumulative: bool,
    /// In each session.
    pub amounts: Vec<f64>,
    pub mean: f64,
    /// Variance between sessions.
    pub variance: f64,
    /// The same with what functions have in common.
    pub moderated: f64,
}

/// The amounts of all sessions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table<'a> {
    pub functions: Vec<Name<'a>>,
    pub rows: Vec<Row>,
    /// All that a pod uses, mean of the sessions.
    pub total: f64,
    /// How much a typical function used in each session ÷ its mean; 1 throughout for kinds other than `Cpu`.
    pub levels: Vec<f64>,
    /// Variance ÷ mean of the typical function.
    pub dispersion: f64,
}

impl<'a> Table<'a> {
    pub(super) fn of(kind: ProfileKind, units: &[Unit<'a>]) -> Self {
        let total = mean(units.iter().map(|unit| total(kind, unit)));
        let (functions, mut rows) = rows(kind, units, total);
        let levels = match kind {
            ProfileKind::Cpu => levels(&rows, units.len()),
            _ => vec![1.0; units.len()],
        };
        rows.iter_mut().for_each(|row| row.settle(&levels));
        let degrees = units.len().saturating_sub(1).max(1) as f64;
        let dispersion = dispersion(&rows, degrees);
        for row in &mut rows {
            let common = dispersion * row.mean;
            row.moderated = (PRIOR * common + degrees * row.variance) / (PRIOR + degrees);
        }
        Self { functions, rows, total, levels, dispersion }
    }
}

impl Row {
    /// Takes the load off, and sums up what is left.
    fn settle(&mut self, levels: &[f64]) {
        self.amounts.iter_mut().zip(levels).for_each(|(amount, level)| *amount = ratio(*amount, *level));
        self.mean = mean(self.amounts.iter().copied());
        let squares: f64 = self.amounts.iter().map(|amount| (amount - self.mean).powi(2)).sum();
        self.variance = ratio(squares, self.amounts.len().saturating_sub(1) as f64);
    }
}

/// Variance ÷ mean: the median over the self rows, so that some functions may grow.
fn dispersion(rows: &[Row], degrees: f64) -> f64 {
    let own = rows.iter().filter(|row| !row.cumulative && row.mean > 0.0);
    let mut ratios: Vec<f64> = own.map(|row| ratio(row.variance, row.mean)).collect();
    median(&mut ratios) / chi_square_median(degrees)
}

/// What the typical function uses in each session ÷ what it uses in the mean: the load, whatever a few functions
/// do.
fn levels(rows: &[Row], sessions: usize) -> Vec<f64> {
    let own: Vec<(&Row, f64)> = rows
        .iter()
        .filter(|row| !row.cumulative)
        .map(|row| (row, mean(row.amounts.iter().copied())))
        .filter(|(_, mean)| *mean > 0.0)
        .collect();
    let level = |at: usize| {
        let ratio_of =
            |(row, mean): &(&Row, f64)| (ratio(row.amounts.get(at).copied().unwrap_or(0.0), *mean), *mean);
        let mut ratios: Vec<(f64, f64)> = own.iter().map(ratio_of).collect();
        weighted_median(&mut ratios).filter(|level| *level > 0.0).unwrap_or(1.0)
    };
    (0..sessions).map(level).collect()
}

/// The self and cumulative amounts of a function, by session.
type Uses = [Vec<f64>; 2];

/// The functions that are large enough. One without callees has one row: cumulative is self.
fn rows<'a>(kind: ProfileKind, units: &[Unit<'a>], total: f64) -> (Vec<Name<'a>>, Vec<Row>) {
    let is_large = |amounts: &[f64]| mean_of_largest(amounts) >= SMALLEST_PART * total;
    let mut found: Vec<(Name<'a>, Uses)> =
        uses(kind, units).into_iter().filter(|(_, [_, cum])| is_large(cum)).collect();
    found.sort_by(|(one, [_, first]), (other, [_, second])| {
        let sum = |amounts: &[f64]| amounts.iter().sum::<f64>();
        sum(second).total_cmp(&sum(first)).then_with(|| one.cmp(other))
    });
    found.truncate(MAX_FUNCTIONS);
    let (mut names, mut rows) = (Vec::new(), Vec::new());
    for (function, (name, [own, cum])) in found.into_iter().enumerate() {
        names.push(name);
        let row = |cumulative, amounts| Row {
            function,
            cumulative,
            amounts,
            mean: 0.0,
            variance: 0.0,
            moderated: 0.0,
        };
        let differs = own.iter().zip(&cum).any(|(own, cum)| cum - own > 0.01 * cum);
        let has_own = is_large(&own);
        if has_own {
            rows.push(row(false, own));
        }
        if differs || !has_own {
            rows.push(row(true, cum));
        }
    }
    (names, rows)
}

fn uses<'a>(kind: ProfileKind, units: &[Unit<'a>]) -> HashMap<Name<'a>, Uses> {
    let mut uses: HashMap<Name<'a>, Uses> = HashMap::new();
    for (at, unit) in units.iter().enumerate() {
        let part = ratio(1.0, unit.captures.len() as f64);
        for capture in &unit.captures {
            for function in &capture.functions {
                let of = uses
                    .entry((&function.name, &function.file))
                    .or_insert_with(|| [vec![0.0; units.len()], vec![0.0; units.len()]]);
                for (amounts, value) in of.iter_mut().zip([function.own, function.cum]) {
                    if let Some(sum) = amounts.get_mut(at) {
                        *sum += part * amount(kind, capture, value);
                    }
                }
            }
        }
    }
    uses
}

/// The mean of the largest third.
fn mean_of_largest(amounts: &[f64]) -> f64 {
    let mut sorted = amounts.to_vec();
    sorted.sort_unstable_by(|one, other| other.total_cmp(one));
    mean(sorted.iter().copied().take(amounts.len().div_ceil(3)))
}
