//! Does a rise go on from session to session?
//!
//! The test of orders takes sessions to be alike but for growth. They are not where the time of day, a cache that
//! fills or a job that began yesterday stands behind a rise: then what is left beside the line through the sessions
//! stays on one side of it for long. That is seen by how much each session resembles the next one.

use super::order::Places;
use super::table::Row;
use crate::verdict::numbers::{ratio, weighted_median};

/// Neighbours of sessions that differ by chance alone correlate by less than this many standard errors.
const STANDARD_ERRORS: f64 = 1.64;
/// The typical function of sessions that are of any order does so by less than this many standard errors of one.
const TYPICAL_ERRORS: f64 = 0.75;
/// A rise goes on where the later half rises by at least this part of what a line would.
const LEAST_LATER: f64 = 0.5;

/// Whether amounts that rise by so much on the line through them do so steadily.
pub(super) fn is_steady(amounts: &[f64], mean: f64, places: &Places) -> bool {
    let limit = STANDARD_ERRORS / (amounts.len().max(1) as f64).sqrt();
    let later = amounts.get(amounts.len() / 2..).unwrap_or_default();
    let goes_on = Places::of(later.len()).rise(later) >= LEAST_LATER * places.rise(amounts) / 2.0;
    correlation(&places.beside(amounts, mean)) < limit && goes_on
}

/// Whether sessions resemble the next one by more than chance, over all functions: then no order but the real one is
/// like it, and a rise says little.
pub(super) fn resemble_neighbours(rows: &[Row], places: &Places) -> bool {
    let of_row = |row: &Row| (correlation(&places.beside(&row.amounts, row.mean)), row.mean);
    let mut typical: Vec<(f64, f64)> = rows.iter().filter(|row| !row.cumulative).map(of_row).collect();
    let sessions = rows.first().map_or(0, |row| row.amounts.len()).max(1) as f64;
    // What is left beside a line changes sides more often than what it is left of.
    let expected = -2.0 / sessions;
    weighted_median(&mut typical)
        .is_some_and(|typical| typical - expected >= TYPICAL_ERRORS / sessions.sqrt())
}

/// How much each value resembles the next one; -1 to 1.
fn correlation(values: &[f64]) -> f64 {
    let next = values.iter().skip(1);
    let products: f64 = values.iter().zip(next).map(|(value, next)| value * next).sum();
    ratio(products, values.iter().map(|value| value * value).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::numbers::Random;

    fn steady(amount: impl Fn(f64) -> f64) -> bool {
        let mut random = Random::new(7);
        let mut noise = || random.below(1_000) as f64 / 1_000.0 - 0.5;
        let amounts: Vec<f64> = (0..24).map(|at| amount(f64::from(at) / 23.0) + noise()).collect();
        let mean = amounts.iter().sum::<f64>() / 24.0;
        is_steady(&amounts, mean, &Places::of(24))
    }

    #[test]
    fn a_line_goes_on_and_a_step_a_cycle_and_what_fills_up_do_not() {
        assert!(steady(|at| 10.0 * at));
        assert!(!steady(|at| if at > 0.4 { 10.0 } else { 0.0 }));
        assert!(!steady(|at| 5.0 * (std::f64::consts::TAU * at - 3.0).sin()));
        assert!(!steady(|at| 10.0 * (1.0 - (-6.0 * at).exp())));
    }

    #[test]
    fn too_little_is_read_to_an_end() {
        for amounts in [&[][..], &[1.0], &[1.0, 2.0], &[3.0; 24]] {
            let _any = is_steady(amounts, 1.0, &Places::of(amounts.len()));
        }
    }
}
