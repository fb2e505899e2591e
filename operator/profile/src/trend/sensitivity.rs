//! How small a growth could have been seen, and how many sessions would be enough to see a smaller one?

use super::order::{Places, Score, Tested};
use super::settings::{MOST_SESSIONS, Settings};
use super::table::{PRIOR, Row, Table};
use crate::verdict::numbers::{chi_square_median, median, ratio};

/// The part of all that is used of the function that stands for others when the smallest visible growth is told.
const REFERENCE: f64 = 0.05;
/// So many standard errors above the threshold, and growth is seen in 80 % of looks.
const POWER: f64 = 0.841_6;
/// "Not growing" needs that so many times the growth that counts would have been seen.
const VISIBLE: f64 = 2.0;

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

    /// Standard errors that a rise needs to be significant; infinite where none is enough: a rise adds to its own
    /// spread, so its score cannot exceed a bound, whatever its size.
    fn factor(&self) -> f64 {
        let degrees = PRIOR + self.degrees;
        let left = degrees - self.critical * self.critical;
        if left > 0.0 { self.critical * (degrees / left).sqrt() } else { f64::INFINITY }
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
