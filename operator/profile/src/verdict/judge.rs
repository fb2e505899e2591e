//! What is the verdict on captures that are enough for one?

use std::collections::BTreeSet;

use super::capture::Side;
use super::level::{Level, cores};
use super::moved::{Calls, Change, Groups, own_share};
use super::numbers::mean;
use super::permute::{self, Score, Tested};
use super::plan::Plan;
use super::sensitivity::Sensitivity;
use super::settings::Settings;
use super::table::{Name, Row, Table};
use super::{FunctionChange, Outcome, Revision, Verdict, What, Why};

/// Most functions that a verdict names.
const MOST_NAMED: usize = 5;
/// Coverage of the revisions that differs by so many percentage points is of different things.
const MOST_COVERAGE: f64 = 20.0;
/// A rise of a share is one of cost where so much of it is left beside the rest of the program.
const LEAST_LEFT: f64 = 0.5;
/// What is set aside as suspect leaves this part of all self shares to tell the level by.
const LEAST_TYPICAL: f64 = 0.2;

/// All that is known when functions are judged.
struct Facts<'p, 'a> {
    plan: &'p Plan<'a>,
    table: &'p Table<'a>,
    tested: &'p Tested,
    settings: &'p Settings,
    level: Level,
    old: Vec<usize>,
}

pub(super) fn judge(plan: &Plan<'_>, settings: &Settings, seed: u64) -> Verdict {
    let table = Table::of(plan);
    let tested = permute::test(&table, plan, settings, seed);
    let calls = Calls::of(plan);
    let suspect = most_suspect(&table, &tested, settings);
    let level = Level::of(plan, &table, &set_aside(plan, &table, &calls, suspect));
    let old = plan.side(Side::Old);
    let facts = Facts { plan, table: &table, tested: &tested, settings, level, old };
    let judged = facts.judged(&calls);
    let seen = Sensitivity::of(&table, &tested, settings);
    let [old, new] = [Side::Old, Side::New].map(|side| Revision::of(plan.captures(side)));
    let outcome = outcome(&judged, level, &seen, [&old, &new]);
    let is_short = outcome == Outcome::Inconclusive(Why::NotEnoughSamples);
    Verdict {
        outcome,
        p: Some(tested.p()),
        arrangements: tested.arrangements,
        every: tested.every,
        smallest: seen.smallest(),
        enough: is_short.then(|| seen.enough(plan, &table)),
        load: level.load,
        dispersion: Some(seen.dispersion),
        functions: facts.named(&judged, &seen),
        old,
        new,
    }
}

fn outcome(judged: &[(usize, What)], level: Level, seen: &Sensitivity, sides: [&Revision; 2]) -> Outcome {
    let [old, new] = sides.map(|side| side.coverage);
    let is_uneven = old.zip(new).is_some_and(|(old, new)| (old - new).abs() >= MOST_COVERAGE);
    if is_uneven {
        Outcome::Inconclusive(Why::LowCoverage)
    } else if level.differs {
        Outcome::Inconclusive(Why::DifferentLoad)
    } else if judged.iter().any(|(_, what)| *what == What::Rose) {
        Outcome::Regressed
    } else if seen.suffices() {
        Outcome::NotRegressed
    } else {
        Outcome::Inconclusive(Why::NotEnoughSamples)
    }
}

/// The rows that rose by enough, and more often than chance lets them.
fn suspects(tested: &Tested, settings: &Settings) -> Vec<usize> {
    let is_suspect = |score: &Score| score.rises && is_sure(tested.p_of_rise(score), settings);
    (0..).zip(&tested.scores).filter(|(_, score)| is_suspect(score)).map(|(row, _)| row).collect()
}

fn is_sure(p: f64, settings: &Settings) -> bool {
    p <= settings.error_rate + 1e-9
}

/// The row that rose most clearly, of self shares if any is suspect.
fn most_suspect<'t>(table: &'t Table<'_>, tested: &Tested, settings: &Settings) -> Option<&'t Row> {
    let rows = suspects(tested, settings).into_iter();
    let rows = rows.filter_map(|at| Some((table.rows.get(at)?, tested.scores.get(at)?.t)));
    let most = rows
        .max_by(|(one, t), (other, u)| other.cumulative.cmp(&one.cumulative).then_with(|| t.total_cmp(u)));
    most.map(|(row, _)| row)
}

/// The functions that the level is not told by: the most suspect one, and with it what it calls if only its
/// cumulative share is suspect and enough others are left.
fn set_aside<'a>(plan: &Plan<'a>, table: &Table<'a>, calls: &Calls<'a>, suspect: Option<&Row>) -> Vec<usize> {
    let Some(Row { function, cumulative, .. }) = suspect else { return Vec::new() };
    let name = table.functions.get(*function).filter(|_| *cumulative);
    let Some(below) = name.map(|name| calls.below(*name)) else { return vec![*function] };
    let is_below = |at: usize| table.functions.get(at).is_some_and(|name| below.contains(name));
    let old = plan.side(Side::Old);
    let (mut left, mut all) = (0.0, 0.0);
    for (at, row) in (0..).zip(&table.rows).filter(|(_, row)| !row.cumulative) {
        let share = table.mean(&old, at);
        all += share;
        left += if is_below(row.function) { 0.0 } else { share };
    }
    if left < LEAST_TYPICAL * all {
        return vec![*function];
    }
    (0..table.functions.len()).filter(|at| is_below(*at)).collect()
}

impl<'a> Facts<'_, 'a> {
    fn name(&self, row: usize) -> Option<Name<'a>> {
        self.table.functions.get(self.table.rows.get(row)?.function).copied()
    }

    fn is_cumulative(&self, row: usize) -> bool {
        self.table.rows.get(row).is_some_and(|row| row.cumulative)
    }

    /// The share before and after.
    fn shares(&self, row: usize) -> (f64, f64) {
        let old = self.table.mean(&self.old, row);
        let effect = self.tested.scores.get(row).map_or(0.0, |score| score.effect);
        (old, (old + effect).clamp(0.0, 1.0))
    }

    /// What a row changed beyond the rest of the program.
    fn change(&self, row: usize) -> Option<Change<'a>> {
        let (old, new) = self.shares(row);
        Some(Change { name: self.name(row)?, old, rise: self.level.rise(old, new) })
    }

    /// Every row that is suspect, with what it came to.
    fn judged(&self, calls: &Calls<'a>) -> Vec<(usize, What)> {
        let suspects = suspects(self.tested, self.settings);
        let (real, others): (Vec<usize>, Vec<usize>) =
            suspects.into_iter().partition(|row| self.is_of_cost(*row));
        let (cumulative, own): (Vec<usize>, Vec<usize>) =
            real.into_iter().partition(|row| self.is_cumulative(*row));
        let rises: Vec<Change<'_>> = own.iter().filter_map(|row| self.change(*row)).collect();
        let groups = Groups::of(&rises, &self.falls(), calls);
        let moved = groups.moved(&self.settings.effect);
        let of_own = |row: usize| match self.name(row).is_some_and(|name| moved.contains(&name)) {
            true => What::Moved,
            false => What::Rose,
        };
        let of_cumulative = |row: usize| match self.costs_more_below(row, calls, &groups) {
            true => What::Rose,
            false => What::Moved,
        };
        let mut judged: Vec<(usize, What)> = own.iter().map(|row| (*row, of_own(*row))).collect();
        judged.extend(cumulative.iter().map(|row| (*row, of_cumulative(*row))));
        judged.extend(others.iter().map(|row| (*row, What::ShareOnly)));
        judged
    }

    /// Whether the share rose against the rest of the program too, rather than since something else got
    /// cheaper.
    fn is_of_cost(&self, row: usize) -> bool {
        let (old, new) = self.shares(row);
        self.level.rise(old, new) >= LEAST_LEFT * (new - old)
    }

    /// The self shares that fell, more than the rest of the program did.
    fn falls(&self) -> Vec<Change<'a>> {
        let fell = |score: &Score| score.falls && is_sure(self.tested.p_of_fall(score), self.settings);
        let rows = (0..).zip(&self.tested.scores).filter(|(_, score)| fell(score)).map(|(row, _)| row);
        rows.filter(|row| !self.is_cumulative(*row))
            .filter_map(|row| self.change(row))
            .filter(|change| -change.rise >= self.settings.effect.least)
            .collect()
    }

    /// Whether what a function calls, down to the leaves, costs as much more by itself as its cumulative
    /// share says.
    fn costs_more_below(&self, row: usize, calls: &Calls<'a>, groups: &Groups<'a>) -> bool {
        let Some(change) = self.change(row) else { return false };
        let mut names: BTreeSet<Name<'a>> = calls.below(change.name);
        names.extend(groups.falls_beside(&names));
        let [old, new] = [Side::Old, Side::New].map(|side| own_share(self.plan, side, &names));
        self.level.rise(old, new) >= LEAST_LEFT * change.rise
    }

    /// The functions to name: what rose first, then what explains itself, then what rose most.
    fn named(&self, judged: &[(usize, What)], seen: &Sensitivity) -> Vec<FunctionChange> {
        let what =
            |row: usize| judged.iter().find(|(of, _)| *of == row).map_or(What::Noise, |(_, what)| *what);
        let rose = |row: &usize| self.tested.scores.get(*row).is_some_and(|score| score.effect > 0.0);
        let mut rows: Vec<usize> = (0..self.table.rows.len()).filter(rose).collect();
        let t = |row: usize| self.tested.scores.get(row).map_or(0.0, |score| score.t);
        rows.sort_by(|one, other| {
            let order = |row: usize| (what(row), self.is_cumulative(row));
            order(*one).cmp(&order(*other)).then_with(|| t(*other).total_cmp(&t(*one)))
        });
        let mut seen_before = BTreeSet::new();
        rows.retain(|row| self.table.rows.get(*row).is_some_and(|row| seen_before.insert(row.function)));
        rows.into_iter().take(MOST_NAMED).filter_map(|row| self.function(row, what(row), seen)).collect()
    }

    fn function(&self, row: usize, what: What, seen: &Sensitivity) -> Option<FunctionChange> {
        let (facts, score) = (self.table.rows.get(row)?, self.tested.scores.get(row)?);
        let (name, file) = self.name(row)?;
        let (old_share, new_share) = self.shares(row);
        let [old_cores, new_cores] = [Side::Old, Side::New].map(|side| self.cores(row, side));
        Some(FunctionChange {
            name: name.to_owned(),
            file: file.to_owned(),
            cumulative: facts.cumulative,
            old_share,
            new_share,
            old_cores,
            new_cores,
            p: self.tested.p_of_rise(score),
            what,
            smallest: seen.smallest_of(facts, old_share, score.effect),
            interval: self.tested.interval(facts, score),
        })
    }

    /// Cores by pod that the row's share stands for.
    fn cores(&self, row: usize, side: Side) -> Option<f64> {
        let of_unit = |at: &usize| {
            let share = self.table.shares.get(*at)?.get(row)?;
            Some(share * cores(self.plan.units.get(*at)?)?)
        };
        let units: Option<Vec<f64>> = self.plan.side(side).iter().map(of_unit).collect();
        units.map(|cores| mean(cores.into_iter()))
    }
}
