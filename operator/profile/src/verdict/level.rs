//! Was the load the same, and what did the rest of the program do?
//!
//! Shares are of a whole: where one function gets cheaper, the shares of all others rise, and where one gets
//! slower, they fall. So a rise is also measured against the functions that did not change, which most did
//! not: by the median of their ratios (Anders and Huber 2010).
//!
//! The load differs where a pod uses more CPU time, or less, both in all and in those functions. One alone
//! is not the load: a regression adds to the sum, and in a pod at its limit it takes from the others.

use super::capture::{PodCapture, Side};
use super::numbers::{mean, median, ratio, weighted_median};
use super::plan::{Plan, Unit};
use super::table::Table;

/// The load differs where that of the new units lies by more than this factor outside of the range of the old
/// ones.
const TOLERANCE: f64 = 1.25;
/// The median of ratios is of functions with so many samples.
const FEWEST_SAMPLES: f64 = 5.0;
/// They have to be this part of all; else everything is looked at.
const LEAST_PART: f64 = 0.1;

/// The level of the new revision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    /// The new share of a typical function ÷ its old share; 1 where nothing else changed.
    pub shares: f64,
    /// The load of the new revision ÷ that of the old one; `None` where CPU time by pod is not known.
    pub load: Option<f64>,
    /// Whether verdicts on such different loads would be void.
    pub differs: bool,
}

/// A function that may be typical: its row, and its share in the old units.
type Typical = (usize, f64);

impl Level {
    /// The level by all rows of self shares but those of these functions.
    pub(super) fn of(plan: &Plan<'_>, table: &Table<'_>, suspects: &[usize]) -> Self {
        let [old, new] = [Side::Old, Side::New].map(|side| plan.side(side));
        let rows: Vec<Typical> = (0..)
            .zip(&table.rows)
            .filter(|(_, row)| !row.cumulative && !suspects.contains(&row.function))
            .map(|(at, _)| (at, table.mean(&old, at)))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        let mut ratios: Vec<(f64, f64)> =
            rows.iter().map(|(row, share)| (ratio(table.mean(&new, *row), *share), *share)).collect();
        let shares = weighted_median(&mut ratios).filter(|ratio| *ratio > 0.0).unwrap_or(1.0);
        let cores: Option<Vec<f64>> = plan.units.iter().map(cores).collect();
        let Some(cores) = cores else { return Self { shares, load: None, differs: false } };
        let typical = plan.units.iter().zip(&cores).enumerate();
        let typical: Vec<f64> =
            typical.map(|(at, (unit, cores))| cores * typical_share(table, &rows, at, unit)).collect();
        let [all, typical] = [&cores, &typical].map(|loads| Load::of(loads, &old, &new));
        Self { shares, load: Some(typical.ratio), differs: all.side != 0 && all.side == typical.side }
    }

    /// How much a share rose beyond what the rest of the program did.
    pub(super) fn rise(&self, old: f64, new: f64) -> f64 {
        ratio(new, self.shares) - old
    }
}

/// CPU time by pod of the new units beside that of the old ones.
struct Load {
    ratio: f64,
    /// -1 where it is less than any of the old ones, by the tolerance; 1 where it is more; else 0.
    side: i8,
}

impl Load {
    fn of(loads: &[f64], old: &[usize], new: &[usize]) -> Self {
        let of = |units: &[usize]| -> Vec<f64> {
            units.iter().filter_map(|unit| loads.get(*unit).copied()).collect()
        };
        let (mut old, mut new) = (of(old), of(new));
        let least = old.iter().copied().fold(f64::INFINITY, f64::min);
        let most = old.iter().copied().fold(0.0, f64::max);
        let (before, after) = (median(&mut old), median(&mut new));
        let side = i8::from(after > most * TOLERANCE) - i8::from(after < least / TOLERANCE);
        Self { ratio: ratio(after, before), side }
    }
}

/// The share of a typical function in a unit ÷ its old share.
fn typical_share(table: &Table<'_>, rows: &[Typical], at: usize, unit: &Unit<'_>) -> f64 {
    let samples: f64 = unit.captures.iter().map(|capture| capture.samples as f64).sum();
    let share = |row: usize| table.shares.get(at).and_then(|shares| shares.get(row)).copied().unwrap_or(0.0);
    let mut ratios: Vec<(f64, f64)> = rows
        .iter()
        .filter(|(_, old)| old * samples >= FEWEST_SAMPLES)
        .map(|(row, old)| (ratio(share(*row), *old), *old))
        .collect();
    let part: f64 = ratios.iter().map(|(_, old)| old).sum();
    if part < LEAST_PART {
        return 1.0;
    }
    weighted_median(&mut ratios).unwrap_or(1.0)
}

/// CPU time by time of a unit's pods, in cores; `None` where one of them does not tell.
pub(super) fn cores(unit: &Unit<'_>) -> Option<f64> {
    let of_captures: Option<Vec<f64>> = unit.captures.iter().map(|capture| cores_of(capture)).collect();
    of_captures.map(|cores| mean(cores.into_iter()))
}

fn cores_of(capture: &PodCapture) -> Option<f64> {
    let about = &capture.about;
    let used = about.cpu_seconds.unwrap_or(capture.value as f64 / 1e9);
    let cores = used / about.pod_seconds;
    (about.pod_seconds > 0.0 && cores.is_finite() && cores > 0.0).then_some(cores)
}
