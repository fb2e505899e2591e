//! How small a growth could have been seen, and how many sessions would be enough to see a smaller one?

use super::order::{Places, Score, Tested};
use super::settings::{MOST_SESSIONS, Settings};
use super::table::{Row, Table};
use crate::verdict::numbers::{
    POWER, PRIOR, REFERENCE, VISIBLE, chi_square_median, errors_of_significance, median, ratio,
};

/// How the test sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sensitivity {
    /// Variance ÷ mean of an amount beside the line.
    within: f64,
    assumed: f64,
    critical: f64,
    information: f64,
    degrees: f64,
    sessions: usize,
    total: f64,
    counts: f64,
}

impl Sensitivity {
    pub(super) fn of(table: &Table<'_>, tested: &Tested, places: &Places, settings: &Settings) -> Self {
        let sessions = table.levels.len();
        let degrees = sessions.saturating_sub(1).max(1) as f64;
        Self {
            within: within(table, tested, places, degrees),
            assumed: table.dispersion,
            critical: tested.critical.max(0.0),
            information: places.information(),
            degrees,
            sessions,
            total: table.total,
            counts: settings.smallest(REFERENCE * table.total, table.total),
        }
    }

    /// The smallest growth of a function of 5 % that is seen in 80 % of looks, as a part of all that is used.
    pub(super) fn smallest(&self) -> Option<f64> {
        let reference = REFERENCE * self.total;
        let error = ratio(self.within * reference, self.information).sqrt();
        let moderated = (PRIOR * self.assumed + self.degrees * self.within) / (PRIOR + self.degrees);
        let error_of_test = ratio(moderated * reference, self.information).sqrt();
        let seen = self.counts.max(self.factor() * error_of_test) + POWER * error;
        let part = seen / self.total;
        (self.total > 0.0 && part.is_finite() && part < 1.0).then_some(part)
    }

    /// Standard errors that a rise needs to be significant.
    fn factor(&self) -> f64 {
        errors_of_significance(self.critical, PRIOR + self.degrees)
    }

    /// Whether growth of the size that matters would have been seen.
    pub(super) fn suffices(&self) -> bool {
        self.smallest().is_some_and(|smallest| smallest * self.total <= VISIBLE * self.counts * (1.0 + 1e-9))
    }

    /// How many sessions would make it suffice; `None` where more than a look takes.
    pub(super) fn enough(&self) -> Option<usize> {
        let wanted = f64::min(VISIBLE * self.counts / (self.factor() + POWER), self.counts / POWER);
        let variance = self.within.max(self.assumed) * REFERENCE * self.total;
        let times = ratio(ratio(variance, self.information), wanted * wanted).max(1.1);
        let sessions = (self.sessions as f64 * times).ceil();
        // What was not enough is never said to be.
        (wanted > 0.0 && sessions <= MOST_SESSIONS as f64).then_some(sessions as usize)
    }
}

/// Variance ÷ mean beside the lines, of the typical function.
fn within(table: &Table<'_>, tested: &Tested, places: &Places, degrees: f64) -> f64 {
    let left = |(row, score): (&Row, &Score)| {
        let left = row.variance * degrees - places.information() * score.rise * score.rise;
        ratio(left.max(0.0), (degrees - 1.0).max(1.0) * row.mean)
    };
    let rows = table.rows.iter().zip(&tested.scores).filter(|(row, _)| !row.cumulative && row.mean > 0.0);
    let mut left: Vec<f64> = rows.map(left).collect();
    median(&mut left) / chi_square_median(degrees - 1.0)
}
