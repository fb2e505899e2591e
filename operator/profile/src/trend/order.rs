//! In how many other orders would the sessions look as much like growth?
//!
//! Every order is scored like the real one: by the function whose line through the sessions is steepest, measured
//! by its spread. A function's p is the share of orders in which any function scores at least as high (Westfall
//! and Young 1993: max-T), so it holds for all functions together, however they move with one another.

use super::settings::Settings;
use super::table::{Row, Table};
use crate::verdict::numbers::{Random, ratio};

/// Scores that differ by less than this part are equal.
const EQUAL: f64 = 1e-9;
/// A spread of less than this part of the mean is what rounding leaves of equal amounts.
const DUST: f64 = 1e-9;

/// The line through the sessions, by their places: how far each is before or behind the middle.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Places {
    steps: Vec<f64>,
    squares: f64,
}

impl Places {
    pub(super) fn of(sessions: usize) -> Self {
        let middle = sessions.saturating_sub(1) as f64 / 2.0;
        let steps: Vec<f64> = (0..sessions).map(|at| at as f64 - middle).collect();
        Self { squares: steps.iter().map(|step| step * step).sum(), steps }
    }

    /// How much the line rises from the first session to the last.
    pub(super) fn rise(&self, amounts: &[f64]) -> f64 {
        let sum: f64 = self.steps.iter().zip(amounts).map(|(step, amount)| step * amount).sum();
        ratio(sum, self.squares) * self.steps.len().saturating_sub(1) as f64
    }

    /// What is left of the amounts beside the line.
    pub(super) fn beside(&self, amounts: &[f64], mean: f64) -> Vec<f64> {
        let step = ratio(self.rise(amounts), self.steps.len().saturating_sub(1) as f64);
        self.steps.iter().zip(amounts).map(|(at, amount)| amount - mean - at * step).collect()
    }

    /// Variance of an amount ÷ variance of a rise.
    pub(super) fn information(&self) -> f64 {
        ratio(self.squares, (self.steps.len().saturating_sub(1) as f64).powi(2))
    }
}

/// What was seen of a row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Score {
    /// How much the line rises.
    pub rise: f64,
    /// The same by its spread.
    pub t: f64,
    /// Whether it rose by enough to count.
    pub counts: bool,
}

/// The result for the real order, and what chance makes of others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tested {
    /// Of each row.
    pub scores: Vec<Score>,
    /// The highest score of other orders that is not enough.
    pub critical: f64,
    /// The highest score of each order, the highest first.
    highest: Vec<f64>,
}

impl Tested {
    /// How often chance makes a rise as clear as that of this row; 1 where it did not rise by enough.
    pub(super) fn p_of(&self, score: &Score) -> f64 {
        let least = score.t - EQUAL * score.t.abs();
        let as_high = self.highest.partition_point(|other| *other >= least);
        if score.counts { ratio(as_high as f64, self.highest.len() as f64) } else { 1.0 }
    }

    /// The least p of any row.
    pub(super) fn p(&self) -> f64 {
        self.scores.iter().map(|score| self.p_of(score)).fold(1.0, f64::min)
    }
}

pub(super) fn test(table: &Table<'_>, places: &Places, settings: &Settings, seed: u64) -> Tested {
    let scores: Vec<Score> = table.rows.iter().map(|row| score(row, table, places, settings)).collect();
    // The real order is one of those that could have been drawn (Phipson and Smyth 2010).
    let real = scores.iter().map(|score| score.t).fold(f64::NEG_INFINITY, f64::max);
    let mut highest = vec![real];
    let standard = by_session(&table.rows, places);
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..places.steps.len()).collect();
    let mut sums = vec![0.0; table.rows.len()];
    for _ in 1..settings.orders {
        shuffle(&mut order, &mut random);
        highest.push(highest_of(&order, &standard, places, &mut sums));
    }
    highest.sort_unstable_by(|one, other| other.total_cmp(one));
    let allowed = usize::try_from(settings.allowed(u64::from(settings.orders))).unwrap_or(0).max(1);
    let critical = highest.get(allowed).copied().unwrap_or(f64::INFINITY);
    Tested { scores, critical, highest }
}

/// In which part of the orders a series moves as far as it did, up or down.
pub(super) fn p_of_change(amounts: &[f64], places: &Places, settings: &Settings, seed: u64) -> f64 {
    let real = places.rise(amounts).abs();
    let mut random = Random::new(seed);
    let mut shuffled = amounts.to_vec();
    let mut as_far = 1_u32;
    for _ in 1..settings.orders {
        shuffle(&mut shuffled, &mut random);
        as_far += u32::from(places.rise(&shuffled).abs() >= real - EQUAL * real);
    }
    f64::from(as_far) / f64::from(settings.orders)
}

/// Puts things into an order, each as likely as any other (Fisher and Yates).
fn shuffle<T>(things: &mut [T], random: &mut Random) {
    for last in (1..things.len()).rev() {
        things.swap(last, random.below(last + 1));
    }
}

fn score(row: &Row, table: &Table<'_>, places: &Places, settings: &Settings) -> Score {
    let rise = places.rise(&row.amounts);
    let before = (row.mean - rise / 2.0).max(0.0);
    let smallest = settings.smallest(before, table.total);
    Score { rise, t: rise * step(row, places), counts: rise >= smallest * (1.0 - EQUAL) }
}

/// 1 ÷ the spread of a row's rise; 0 where it does not vary.
fn step(row: &Row, places: &Places) -> f64 {
    let spread = row.moderated.max(0.0).sqrt();
    if spread > DUST * row.mean { ratio(places.information().sqrt(), spread) } else { 0.0 }
}

/// Of each session, how far each row lies above its mean, in units that make sums over places scores.
fn by_session(rows: &[Row], places: &Places) -> Vec<Vec<f64>> {
    let length = places.steps.len().saturating_sub(1) as f64;
    let mut turned = vec![Vec::with_capacity(rows.len()); places.steps.len()];
    for row in rows {
        let step = step(row, places) * ratio(length, places.squares);
        for (session, amount) in turned.iter_mut().zip(&row.amounts) {
            session.push((amount - row.mean) * step);
        }
    }
    turned
}

/// The highest score of any row in an order.
fn highest_of(order: &[usize], standard: &[Vec<f64>], places: &Places, sums: &mut [f64]) -> f64 {
    sums.fill(0.0);
    for (session, place) in order.iter().zip(&places.steps) {
        let Some(values) = standard.get(*session) else { continue };
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += place * value;
        }
    }
    sums.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
