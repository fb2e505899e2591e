//! Which functions are the hottest?

use std::collections::HashMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::idle::IDLE;
use crate::proto::Profile;
use crate::sums::Sums;
use crate::text::{percent, printable, value_with_unit};
use crate::view::{Symbols, sample_types};

/// The heaviest functions of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Top {
    /// The sample type that was summed, such as `cpu`.
    pub sample_type: String,
    /// Its unit, such as `nanoseconds`.
    pub unit: String,
    /// The sum over all samples; percentages are of this.
    pub total: i64,
    /// How long the capture lasted, in nanoseconds; 0 where unknown.
    pub duration_nanos: i64,
    /// How many functions there are in all.
    pub functions: usize,
    /// The heaviest first: by self value, then cumulative value, then name. The row [`IDLE`] comes last,
    /// however heavy, and beside those that were asked for.
    pub rows: Vec<TopRow>,
}

/// One function: functions of the same name in different files are different ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopRow {
    /// The function's name; `[file]` for what could not be symbolized in that file.
    pub name: String,
    /// Its source file, or empty.
    pub file: String,
    /// Its hottest line by self value; where it has none of its own, the line it begins on; 0 where unknown.
    pub line: i64,
    /// Self value, as the leaf of stacks.
    pub self_value: i64,
    /// The same in percent of the total.
    pub self_percent: f64,
    /// Cumulative value including callees; recursion counts once per sample.
    pub cum_value: i64,
    /// The same in percent of the total.
    pub cum_percent: f64,
}

/// The `n` heaviest functions by the value at `value_index`. Frames inlined into others are functions of
/// their own. The profile's `drop_frames` is not applied: a pattern from a target is hostile.
pub fn top(profile: &Profile, value_index: usize, n: usize) -> Top {
    let symbols = Symbols::new(profile);
    let sums = Sums::of(profile, &symbols, value_index);
    let (sample_type, unit) = sample_types(profile).get(value_index).copied().unwrap_or_default();
    let mut numbers: Vec<usize> = sums.used().collect();
    let functions = numbers.len();
    let idle = numbers.iter().position(|number| is_idle(&symbols, *number)).map(|at| numbers.swap_remove(at));
    numbers.sort_unstable_by(|one, other| sums.heavier(&symbols, *one, *other));
    numbers.truncate(n);
    numbers.extend(idle);
    let lines = sums.hottest_lines();
    Top {
        sample_type: sample_type.to_owned(),
        unit: unit.to_owned(),
        total: sums.total,
        duration_nanos: profile.duration_nanos,
        functions,
        rows: numbers.into_iter().map(|number| row(&symbols, &sums, &lines, number)).collect(),
    }
}

impl TopRow {
    /// Whether it stands for threads that had nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.name == IDLE && self.file.is_empty()
    }
}

fn is_idle(symbols: &Symbols<'_>, number: usize) -> bool {
    symbols.names.get(number).is_some_and(|(name, file)| name == IDLE && file.is_empty())
}

fn row(symbols: &Symbols<'_>, sums: &Sums, lines: &HashMap<usize, i64>, number: usize) -> TopRow {
    let (name, file) = symbols.names.get(number).cloned().unwrap_or_default();
    let begins = symbols.start_lines.get(number).copied().unwrap_or(0);
    let (own, cum) = (sums.own(number), sums.cum(number));
    TopRow {
        name: name.into_owned(),
        file: file.to_owned(),
        line: lines.get(&number).copied().unwrap_or(begins),
        self_value: own,
        self_percent: percent(own, sums.total),
        cum_value: cum,
        cum_percent: percent(cum, sums.total),
    }
}

/// The table as plain text, in the columns of `go tool pprof -top`. Names are made safe for a terminal.
pub fn render_top(top: &Top) -> String {
    let shown = top.rows.iter().fold(0_i64, |sum, row| sum.saturating_add(row.self_value));
    let unit = |value| value_with_unit(value, &top.unit);
    let mut text = format!("Type: {}\n", printable(&top.sample_type));
    if top.duration_nanos > 0 {
        let duration = value_with_unit(top.duration_nanos, "nanoseconds");
        let _ = writeln!(text, "Duration: {duration}");
    }
    let _ = writeln!(
        text,
        "Showing {} of {} functions, {} ({:.2}%) of {} total",
        top.rows.len(),
        top.functions,
        unit(shown),
        percent(shown, top.total),
        unit(top.total),
    );
    text.push_str("      flat  flat%   sum%        cum   cum%\n");
    let mut sum = 0_i64;
    for row in &top.rows {
        sum = sum.saturating_add(row.self_value);
        let _ = writeln!(
            text,
            "{:>10} {:>5.2}% {:>5.2}% {:>10} {:>5.2}%  {}",
            unit(row.self_value),
            row.self_percent,
            percent(sum, top.total),
            unit(row.cum_value),
            row.cum_percent,
            place(row),
        );
    }
    text
}

/// `name file:line`, as far as known.
fn place(row: &TopRow) -> String {
    let name = printable(&row.name);
    match (row.file.as_str(), row.line) {
        ("", _) => name,
        (file, 0) => format!("{name} {}", printable(file)),
        (file, line) => format!("{name} {}:{line}", printable(file)),
    }
}

#[cfg(test)]
mod tests;
