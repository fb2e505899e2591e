//! The test that stood at the beginning, to compare with: every capture exchanged with every other, whatever
//! its moment; difference by spread as it is; and only then the smallest change that counts.

use std::collections::BTreeMap;

use fleetprof_profile::verdict::{PodCapture, Side};

/// A function's self or cumulative share in each capture.
struct Row {
    cumulative: bool,
    shares: Vec<f64>,
    sum: f64,
    spread: f64,
}

/// It looks at the last so many captures of the old revision.
const SESSIONS: usize = 12;

/// Whether a revision would be called slower, at 5 %.
pub fn regressed(captures: &[PodCapture]) -> bool {
    let old = captures.iter().filter(|capture| capture.about.side == Side::Old);
    let new = captures.iter().filter(|capture| capture.about.side == Side::New);
    let captures: Vec<&PodCapture> = old.rev().take(SESSIONS).chain(new).collect();
    let rows = rows(&captures);
    let real: Vec<usize> = (0..captures.len()).filter(|at| captures[*at].about.side == Side::New).collect();
    let score = |row: &Row, new: &[usize]| {
        let (new_share, old_share) = means(row, new);
        if row.spread > 0.0 { (new_share - old_share) / row.spread } else { 0.0 }
    };
    let highest = |new: &[usize]| rows.iter().map(|row| score(row, new)).fold(0.0, f64::max);
    let others: Vec<f64> = subsets(captures.len(), real.len()).iter().map(|new| highest(new)).collect();
    let p = |score: f64| {
        others.iter().filter(|other| **other >= score - 1e-9).count() as f64 / others.len() as f64
    };
    rows.iter().any(|row| {
        let (new, old) = means(row, &real);
        let rise = new - old;
        let relative = rise >= 0.005 && rise >= 0.2 * old;
        let counts = relative || (!row.cumulative && rise >= 0.01);
        counts && p(score(row, &real)) <= 0.05
    })
}

fn rows(captures: &[&PodCapture]) -> Vec<Row> {
    let mut shares: BTreeMap<(&str, bool), Vec<f64>> = BTreeMap::new();
    for (at, capture) in captures.iter().enumerate() {
        for function in &capture.functions {
            for (cumulative, value) in [(false, function.own), (true, function.cum)] {
                let row =
                    shares.entry((&function.name, cumulative)).or_insert_with(|| vec![0.0; captures.len()]);
                row[at] = value as f64 / capture.value as f64;
            }
        }
    }
    let side = |shares: &[f64], side: Side| {
        let of: Vec<f64> =
            captures.iter().zip(shares).filter(|(c, _)| c.about.side == side).map(|(_, s)| *s).collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    let large = |shares: &[f64]| side(shares, Side::Old).max(side(shares, Side::New)) >= 0.005;
    let rows = shares.into_iter().filter(|(_, shares)| large(shares));
    rows.map(|((_, cumulative), shares)| {
        let sum = shares.iter().sum::<f64>();
        let mean = sum / shares.len() as f64;
        let spread = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>().sqrt();
        Row { cumulative, shares, sum, spread }
    })
    .collect()
}

/// The mean of the captures called new, and that of the others.
fn means(row: &Row, new: &[usize]) -> (f64, f64) {
    let sum: f64 = new.iter().map(|at| row.shares[*at]).sum();
    (sum / new.len() as f64, (row.sum - sum) / (row.shares.len() - new.len()) as f64)
}

fn subsets(all: usize, size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let with_last = |last: usize| {
        subsets(last, size - 1).into_iter().map(move |mut subset| {
            subset.push(last);
            subset
        })
    };
    (size - 1..all).flat_map(with_last).collect()
}
