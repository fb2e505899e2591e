//! How small a change could have been seen, and what would be enough to see a smaller one?

use super::Enough;
use super::capture::Side;
use super::numbers::{
    POWER, PRIOR, REFERENCE, VISIBLE, chi_square_median, errors_of_significance, median, ratio,
};
use super::permute::{Score, Tested};
use super::plan::Plan;
use super::settings::{Effect, Settings};
use super::table::{LEAST_NOISE, Row, Table, binomial};

/// Where captures alone cannot give more information, since samples of a pod resemble each other.
const MOST_CORRELATED: f64 = 0.9;

/// How the test sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sensitivity {
    /// Variance between captures of one revision ÷ what counting samples alone would give.
    pub dispersion: f64,
    /// The score that is not enough.
    critical: f64,
    information: f64,
    degrees: f64,
    /// Variance of a share `p` in a unit of weight 1 ÷ `p (1 - p)`, as the test takes it to be.
    assumed: f64,
    /// The same within the revisions, so that what changed between them does not count.
    within: f64,
    effect: Effect,
}

impl Sensitivity {
    pub(super) fn of(table: &Table<'_>, tested: &Tested, settings: &Settings) -> Self {
        let (degrees, information) = (table.noise.degrees, tested.information);
        let within = within(table, tested);
        let samples: f64 = table.samples.iter().sum();
        Self {
            dispersion: within * ratio(samples, table.weights.iter().sum()),
            critical: tested.critical.max(0.0),
            information,
            degrees,
            assumed: table.noise.scale,
            within,
            effect: settings.effect,
        }
    }

    /// The smallest rise of a function of 5 % that is seen in 80 % of comparisons; `None` where none is.
    pub(super) fn smallest(&self) -> Option<f64> {
        self.seen(REFERENCE, false, self.within * binomial(REFERENCE))
    }

    /// The same for a row, by its own spread.
    pub(super) fn smallest_of(&self, row: &Row, old: f64, effect: f64) -> Option<f64> {
        let own = (row.variance * self.degrees - self.information * effect * effect).max(0.0);
        let common = PRIOR * self.within * binomial(old);
        self.seen(old, row.cumulative, (common + own) / (PRIOR + self.degrees - 1.0))
    }

    /// The smallest rise of a share that varies so much within the revisions.
    fn seen(&self, old: f64, cumulative: bool, variance: f64) -> Option<f64> {
        let error = ratio(variance, self.information).sqrt();
        let significant = self.factor() * self.error_of_test(binomial(old), variance);
        let smallest = self.effect.smallest(old, cumulative).max(significant) + POWER * error;
        (smallest.is_finite() && smallest < 1.0 - old).then_some(smallest)
    }

    /// Standard errors, as the test has them, that a rise needs to be significant.
    fn factor(&self) -> f64 {
        errors_of_significance(self.critical, PRIOR + self.degrees)
    }

    fn error_of_test(&self, binomial: f64, variance: f64) -> f64 {
        let moderated = PRIOR * self.assumed * binomial + self.degrees * variance;
        ratio(moderated, (PRIOR + self.degrees) * self.information).sqrt()
    }

    /// Whether a change of the size that matters would have been seen.
    pub(super) fn suffices(&self) -> bool {
        self.smallest().is_some_and(|smallest| smallest <= VISIBLE * self.effect.points)
    }

    /// What would make it suffice: more samples in each pod, or where these say too much of the same, more
    /// pods.
    pub(super) fn enough(&self, plan: &Plan<'_>, table: &Table<'_>) -> Enough {
        let [old, new] = [Side::Old, Side::New].map(|side| plan.pods(side));
        let most = VISIBLE * self.effect.points;
        let above = most - self.effect.smallest(REFERENCE, false);
        let wanted = f64::min(most / (self.factor() + POWER), above / POWER);
        let variance = self.within.max(self.assumed) * binomial(REFERENCE);
        let growth = ratio(ratio(variance, self.information), wanted * wanted);
        // What was not enough is never said to be.
        let growth = if growth > 0.0 { growth.max(1.1) } else { 0.0 };
        let correlation = table.noise.correlation;
        let mut samples: Vec<f64> =
            plan.units.iter().flat_map(|unit| &unit.captures).map(|capture| capture.samples as f64).collect();
        let samples = median(&mut samples);
        let worth = growth * samples / (1.0 + correlation * (samples - 1.0));
        if growth <= 0.0 || correlation * worth >= MOST_CORRELATED {
            let factor = if growth > 0.0 { growth.clamp(1.0, 100.0) } else { 2.0 };
            let more = |pods: usize| (pods as f64 * factor).ceil() as usize;
            return Enough { old_pods: more(old), new_pods: more(new), ..Enough::default() };
        }
        let needed = worth * (1.0 - correlation) / (1.0 - correlation * worth);
        Enough {
            old_pods: old,
            new_pods: new,
            samples_per_pod: Some(needed.ceil() as i64),
            ..Enough::default()
        }
    }
}

/// The variance within the revisions: what is left of each row's when its effect is taken off.
fn within(table: &Table<'_>, tested: &Tested) -> f64 {
    let degrees = table.noise.degrees;
    let left = |(row, score): (&Row, &Score)| {
        let left = row.variance * degrees - tested.information * score.effect * score.effect;
        ratio(left.max(0.0), (degrees - 1.0).max(1.0) * binomial(row.mean))
    };
    let rows = table.rows.iter().zip(&tested.scores).filter(|(row, _)| binomial(row.mean) > 0.0);
    let mut left: Vec<f64> = rows.map(left).collect();
    (median(&mut left) / chi_square_median(degrees - 1.0)).max(LEAST_NOISE)
}
