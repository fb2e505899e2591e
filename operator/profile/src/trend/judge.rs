//! What do sessions say that are enough for a look?

use std::collections::BTreeMap;

use super::order::{self, Places, Score, Tested};
use super::sensitivity::Sensitivity;
use super::settings::{LEAST_SESSIONS, Settings};
use super::steady::{is_steady, resemble_neighbours};
use super::table::{Row, Table};
use super::units::{Unit, total};
use super::{Growth, Outcome, Trend, What, Why};
use crate::kind::ProfileKind;
use crate::verdict::numbers::{mean, ratio};

/// Most functions that a look names.
const MOST_NAMED: usize = 5;
/// The load changed where the line through it rises or falls by this part of its mean,
const LEAST_LOAD: f64 = 0.1;
/// and chance does that in fewer cases than this: more than any growth may have, which the load would explain.
const LOAD_RATE: f64 = 0.05;

/// A function rises by at most so many times as much as the load that it is of, in proportion.
const MOST_OF_LOAD: f64 = 3.0;

/// How the load changed over the sessions.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Load {
    /// At the end ÷ at the beginning.
    ratio: f64,
    /// -1: it fell; 1: it rose; 0: neither is sure.
    side: i8,
}

pub(super) fn judge(
    kind: ProfileKind,
    units: &[Unit<'_>],
    loads: &BTreeMap<u32, f64>,
    settings: &Settings,
    seed: u64,
) -> Trend {
    let table = Table::of(kind, units);
    let places = Places::of(units.len());
    let tested = order::test(&table, &places, settings, seed);
    let seen = Sensitivity::of(&table, &tested, &places, settings);
    let steady = !resemble_neighbours(&table.rows, &places);
    let judged: Vec<(usize, What)> = (0..)
        .zip(table.rows.iter().zip(&tested.scores))
        .map(|(at, of)| (at, what(of, &tested, (&places, steady), settings)))
        .collect();
    let load = load(kind, units, &table, (loads, settings, seed));
    let outcome = outcome(kind, &judged, load, (&table, &tested, &seen));
    let is_short = outcome == Outcome::Inconclusive(Why::NotEnoughSamples);
    Trend {
        kind,
        outcome,
        p: Some(tested.p()),
        sessions: units.len(),
        captures: units.iter().map(|unit| unit.captures.len()).sum(),
        smallest: seen.smallest(),
        enough: seen.enough().filter(|_| is_short),
        load: load.map(|load| load.ratio),
        dispersion: Some(table.dispersion),
        total: table.total,
        functions: named(&table, &tested, judged),
    }
}

fn what(
    (row, score): (&Row, &Score),
    tested: &Tested,
    (places, steady): (&Places, bool),
    settings: &Settings,
) -> What {
    if tested.p_of(score) > settings.error_rate + 1e-9 {
        What::Noise
    } else if steady && is_steady(&row.amounts, row.mean, places) {
        What::Grows
    } else {
        What::NotSteady
    }
}

fn outcome(
    kind: ProfileKind,
    judged: &[(usize, What)],
    load: Option<Load>,
    (table, tested, seen): (&Table<'_>, &Tested, &Sensitivity),
) -> Outcome {
    let load = load.filter(|load| load.side != 0);
    let rose = |wanted: What| judged.iter().filter(move |(_, what)| *what == wanted).map(|(at, _)| *at);
    let explained =
        |at: usize| load.is_some_and(|load| explains(kind, load, table.rows.get(at), tested.scores.get(at)));
    if rose(What::Grows).any(|at| !explained(at)) {
        Outcome::Growing
    } else if rose(What::Grows).chain(rose(What::NotSteady)).any(explained) {
        Outcome::Inconclusive(Why::DifferentLoad)
    } else if rose(What::NotSteady).next().is_some() {
        Outcome::Inconclusive(Why::NotSteady)
    } else if load.is_some_and(|load| kind == ProfileKind::Cpu || load.side < 0) {
        // The whole program may have become slower; and memory may have grown while the load fell.
        Outcome::Inconclusive(Why::DifferentLoad)
    } else if seen.suffices() {
        Outcome::NotGrowing
    } else {
        Outcome::Inconclusive(Why::NotEnoughSamples)
    }
}

/// Whether a rise may come of the load: what rose by many times as much in proportion does not, nor does memory
/// that rose while the load fell.
fn explains(kind: ProfileKind, load: Load, row: Option<&Row>, score: Option<&Score>) -> bool {
    let (Some(row), Some(score)) = (row, score) else { return false };
    let before = (row.mean - score.rise / 2.0).max(0.0);
    let fell = kind != ProfileKind::Cpu && load.side < 0;
    // Less load leaves more of the CPU time to what does not depend on it, by as much as more load takes.
    let change = load.ratio.max(ratio(1.0, load.ratio)) - 1.0;
    !fell && score.rise <= MOST_OF_LOAD * change * before
}

/// How the load changed; `None` where it is known of too few sessions.
fn load(
    kind: ProfileKind,
    units: &[Unit<'_>],
    table: &Table<'_>,
    (loads, settings, seed): (&BTreeMap<u32, f64>, &Settings, u64),
) -> Option<Load> {
    let change = |loads: &[f64]| change_of(loads, settings, seed);
    if kind != ProfileKind::Cpu {
        let known: Vec<f64> = units.iter().filter_map(|unit| loads.get(&unit.moment).copied()).collect();
        return (known.len() >= LEAST_SESSIONS).then(|| change(&known));
    }
    let all: Vec<f64> = units.iter().map(|unit| total(kind, unit)).collect();
    let [all, typical] = [&all, &table.levels].map(|loads| change(loads));
    // A function that takes more of the whole is not load, and neither is what others take less for it.
    Some(Load { side: if all.side == typical.side { all.side } else { 0 }, ..typical })
}

fn change_of(loads: &[f64], settings: &Settings, seed: u64) -> Load {
    let places = Places::of(loads.len());
    let (rise, mean) = (places.rise(loads), mean(loads.iter().copied()));
    let ratio = ratio(mean + rise / 2.0, mean - rise / 2.0);
    let far = rise.abs() >= LEAST_LOAD * mean;
    let sure = far && order::p_of_change(loads, &places, settings, seed) <= LOAD_RATE;
    let side = if sure { i8::from(rise > 0.0) - i8::from(rise < 0.0) } else { 0 };
    Load { ratio, side }
}

/// The functions that a look names: what grows first, and then what rose most clearly. Of a function, its self
/// amounts, or where only its callees grow, the cumulative ones.
fn named(table: &Table<'_>, tested: &Tested, mut judged: Vec<(usize, What)>) -> Vec<Growth> {
    let t = |at: usize| tested.scores.get(at).map_or(f64::NEG_INFINITY, |score| score.t);
    let cumulative = |at: usize| table.rows.get(at).is_some_and(|row| row.cumulative);
    judged.retain(|(at, _)| t(*at) > 0.0);
    judged.sort_by(|(one, first), (other, second)| {
        let by_row = cumulative(*one).cmp(&cumulative(*other));
        first.cmp(second).then(by_row).then(t(*other).total_cmp(&t(*one))).then(one.cmp(other))
    });
    let mut seen = std::collections::BTreeSet::new();
    judged.retain(|(at, _)| table.rows.get(*at).is_some_and(|row| seen.insert(row.function)));
    judged.truncate(MOST_NAMED);
    judged.into_iter().filter_map(|(at, what)| growth(table, tested, at, what)).collect()
}

fn growth(table: &Table<'_>, tested: &Tested, at: usize, what: What) -> Option<Growth> {
    let (row, score) = (table.rows.get(at)?, tested.scores.get(at)?);
    let (name, file) = table.functions.get(row.function)?;
    Some(Growth {
        name: (*name).to_owned(),
        file: (*file).to_owned(),
        cumulative: row.cumulative,
        from: (row.mean - score.rise / 2.0).max(0.0),
        to: (row.mean + score.rise / 2.0).max(0.0),
        p: tested.p_of(score),
        what,
    })
}
