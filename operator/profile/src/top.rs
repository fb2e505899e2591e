//! Which functions are the hottest?

use std::collections::HashMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::idle::IDLE;
use crate::proto::Profile;
use crate::text::{percent, printable, value_with_unit};
use crate::view::{Symbols, sample_types, value};

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
    let mut rows: Vec<TopRow> = sums.rows(&symbols);
    let functions = rows.len();
    let idle = rows.iter().position(|row| row.is_idle()).map(|at| rows.swap_remove(at));
    rows.sort_by(heavier);
    rows.truncate(n);
    rows.extend(idle);
    Top {
        sample_type: sample_type.to_owned(),
        unit: unit.to_owned(),
        total: sums.total,
        duration_nanos: profile.duration_nanos,
        functions,
        rows,
    }
}

impl TopRow {
    /// Whether it stands for threads that had nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.name == IDLE && self.file.is_empty()
    }
}

fn heavier(one: &TopRow, other: &TopRow) -> std::cmp::Ordering {
    let by_value = (other.self_value, other.cum_value).cmp(&(one.self_value, one.cum_value));
    by_value.then_with(|| (&one.name, &one.file).cmp(&(&other.name, &other.file)))
}

/// Sums by function number.
struct Sums {
    total: i64,
    own: Vec<i64>,
    cum: Vec<i64>,
    lines: HashMap<(usize, i64), i64>,
}

impl Sums {
    fn of(profile: &Profile, symbols: &Symbols<'_>, value_index: usize) -> Self {
        let functions = symbols.names.len();
        let mut sums =
            Self { total: 0, own: vec![0; functions], cum: vec![0; functions], lines: HashMap::new() };
        // The number of the last sample that counted a function, so that recursion counts once.
        let mut counted = vec![0_usize; functions];
        for (position, sample) in profile.sample.iter().enumerate() {
            let value = value(sample, value_index);
            sums.total = sums.total.saturating_add(value);
            if value == 0 {
                continue;
            }
            for (depth, place) in symbols.frames(sample).enumerate() {
                if depth == 0 {
                    sums.leaf(place.name, place.line, value);
                }
                if let Some(last) = counted.get_mut(place.name).filter(|last| **last <= position) {
                    *last = position + 1;
                    add(&mut sums.cum, place.name, value);
                }
            }
        }
        sums
    }

    fn leaf(&mut self, name: usize, line: i64, value: i64) {
        add(&mut self.own, name, value);
        let sum = self.lines.entry((name, line)).or_insert(0);
        *sum = sum.saturating_add(value);
    }

    /// Functions that any counted sample passes through.
    fn rows(&self, symbols: &Symbols<'_>) -> Vec<TopRow> {
        let hottest = self.hottest_lines();
        let number = |sums: &[i64], position: usize| sums.get(position).copied().unwrap_or(0);
        symbols
            .names
            .iter()
            .enumerate()
            .filter(|(position, _)| number(&self.cum, *position) != 0)
            .map(|(position, (name, file))| {
                let (own, cum) = (number(&self.own, position), number(&self.cum, position));
                TopRow {
                    name: name.clone(),
                    file: file.clone(),
                    line: hottest
                        .get(&position)
                        .map_or_else(|| number(&symbols.start_lines, position), |(_, line)| *line),
                    self_value: own,
                    self_percent: percent(own, self.total),
                    cum_value: cum,
                    cum_percent: percent(cum, self.total),
                }
            })
            .collect()
    }

    /// For each function `(value, line)` of its hottest line; the smaller line wins a tie.
    fn hottest_lines(&self) -> HashMap<usize, (i64, i64)> {
        let mut hottest: HashMap<usize, (i64, i64)> = HashMap::new();
        for (&(name, line), &value) in &self.lines {
            let best = hottest.entry(name).or_insert((value, line));
            if (value, -line) > (best.0, -best.1) {
                *best = (value, line);
            }
        }
        hottest
    }
}

fn add(sums: &mut [i64], position: usize, value: i64) {
    if let Some(sum) = sums.get_mut(position) {
        *sum = sum.saturating_add(value);
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
