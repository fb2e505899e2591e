//! Which functions got heavier or lighter between two profiles?

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::basis::{Basis, SIDES, Side, Totals};
use crate::functions::Functions;
use crate::noise::{Counts, is_noise};
use crate::proto::Profile;
use crate::sums::Sums;
use crate::text::{printable, value_with_unit};
use crate::view::{Symbols, sample_types, samples_index};

/// Two profiles under comparison, function by function; each can be dropped once it is added.
#[derive(Debug, Default)]
pub struct Differ {
    functions: Functions,
    /// By function, then by [`Side`].
    rows: Vec<[Counted; 2]>,
    sample_type: String,
    unit: String,
    totals: [Totals; 2],
    left_out: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    own: i64,
    cum: i64,
    own_samples: i64,
    cum_samples: i64,
}

/// Which change makes a function come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// That of its self value, then that of its cumulative value.
    #[default]
    #[serde(rename = "self")]
    Own,
    /// That of its cumulative value, then that of its self value.
    #[serde(rename = "total")]
    Total,
}

/// Two profiles compared function by function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// The sample type compared, such as `cpu`.
    pub sample_type: String,
    /// Its unit.
    pub unit: String,
    /// What deltas are of: units by pod and second, percentage points, or units.
    pub basis: Basis,
    /// The profile before.
    pub base: DiffSide,
    /// The profile after.
    pub after: DiffSide,
    /// How many functions there are in either.
    pub functions: usize,
    /// Functions that were not compared, because there are too many; the lightest ones.
    pub left_out: usize,
    /// By which change functions are ordered.
    #[serde(default)]
    pub order: Order,
    /// The largest change first, whatever its sign: what is left out changed no more than the last of them.
    pub rows: Vec<DiffRow>,
}

/// What a profile of a comparison sums up to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffSide {
    /// The sum over all samples.
    pub total: i64,
    /// How many samples were taken; nothing where the profile counts something else.
    pub samples: Option<i64>,
    /// For how long pods were captured, in seconds, added up over the pods; nothing where it is not known.
    pub pod_seconds: Option<f64>,
}

/// How one function changed. Values are as in the profiles; deltas are on the basis of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffRow {
    /// The function's name.
    pub name: String,
    /// Its source file, or empty.
    pub file: String,
    /// Self value before.
    pub base_self: i64,
    /// Self value after.
    pub self_value: i64,
    /// Change of the self value.
    pub self_delta: f64,
    /// Whether this change may be chance; nothing where the profiles count no samples.
    pub self_noise: Option<bool>,
    /// Cumulative value before.
    pub base_cum: i64,
    /// Cumulative value after.
    pub cum_value: i64,
    /// Change of the cumulative value.
    pub cum_delta: f64,
    /// Whether this change may be chance; nothing where the profiles count no samples.
    pub cum_noise: Option<bool>,
}

impl Differ {
    /// Adds the value at `value_index` of one of the profiles.
    pub fn add(&mut self, side: Side, profile: &Profile, value_index: usize, pod_nanos: Option<i64>) {
        let symbols = Symbols::new(profile);
        let sums = Sums::of(profile, &symbols, value_index);
        let counts = samples_index(profile).map(|index| Sums::of(profile, &symbols, index));
        let (sample_type, unit) = sample_types(profile).get(value_index).copied().unwrap_or_default();
        (self.sample_type, self.unit) = (sample_type.to_owned(), unit.to_owned());
        let samples = counts.as_ref().map(|counts| counts.total);
        self.totals[side as usize] = Totals { value: sums.total, samples, pod_nanos };
        let mut numbers: Vec<usize> = sums.used().collect();
        numbers.sort_unstable_by(|one, other| sums.heavier(&symbols, *one, *other));
        for number in numbers {
            let name = symbols.names.get(number);
            let Some(row) = name.and_then(|name| self.functions.number(name)) else {
                self.left_out += 1;
                continue;
            };
            let row = row as usize;
            self.rows.resize(self.rows.len().max(row + 1), Default::default());
            let counted = &mut self.rows[row][side as usize];
            let count = |of: fn(&Sums, usize) -> i64| counts.as_ref().map_or(0, |counts| of(counts, number));
            counted.own = counted.own.saturating_add(sums.own(number));
            counted.cum = counted.cum.saturating_add(sums.cum(number));
            counted.own_samples = counted.own_samples.saturating_add(count(Sums::own));
            counted.cum_samples = counted.cum_samples.saturating_add(count(Sums::cum));
        }
    }

    /// What was summed of a side.
    #[must_use]
    pub const fn totals(&self, side: Side) -> Totals {
        self.totals[side as usize]
    }

    /// The `n` functions that changed most by this order.
    #[must_use]
    pub fn finish(&self, basis: Basis, order: Order, n: usize) -> Diff {
        let mut changes: Vec<(f64, f64, u32)> = (0_u32..)
            .zip(&self.rows)
            .map(|(number, row)| {
                (self.delta(row, basis, |c| c.own), self.delta(row, basis, |c| c.cum), number)
            })
            .collect();
        changes.sort_unstable_by(|one, other| {
            let larger = |of: fn(&(f64, f64, u32)) -> f64| of(other).abs().total_cmp(&of(one).abs());
            let texts = |number| self.functions.texts(number);
            let (own, total) = (larger(|c| c.0), larger(|c| c.1));
            let by_change = match order {
                Order::Own => own.then(total),
                Order::Total => total.then(own),
            };
            by_change.then_with(|| texts(one.2).cmp(&texts(other.2)))
        });
        let [after, base] = SIDES.map(|side| DiffSide::of(self.totals(side)));
        let rows = changes.iter().take(n).map(|(own, cum, number)| self.row(*number, basis, *own, *cum));
        Diff {
            sample_type: self.sample_type.clone(),
            unit: self.unit.clone(),
            basis,
            base,
            after,
            functions: self.rows.len(),
            left_out: self.left_out,
            order,
            rows: rows.collect(),
        }
    }

    fn delta(&self, row: &[Counted; 2], basis: Basis, part: fn(&Counted) -> i64) -> f64 {
        let on = |side: Side| basis.of(part(&row[side as usize]), self.totals(side));
        on(Side::After) - on(Side::Base)
    }

    fn row(&self, number: u32, basis: Basis, self_delta: f64, cum_delta: f64) -> DiffRow {
        let row = self.rows.get(number as usize).copied().unwrap_or_default();
        let [after, base] = SIDES.map(|side| row[side as usize]);
        let noise = |part: fn(&Counted) -> i64| {
            let counts = |side: Side| Counts::of(self.totals(side), part(&row[side as usize]), basis);
            Some(is_noise(counts(Side::Base)?, counts(Side::After)?, basis))
        };
        DiffRow {
            name: self.functions.name(number).to_owned(),
            file: self.functions.file(number).to_owned(),
            base_self: base.own,
            self_value: after.own,
            self_delta,
            self_noise: noise(|counted| counted.own_samples),
            base_cum: base.cum,
            cum_value: after.cum,
            cum_delta,
            cum_noise: noise(|counted| counted.cum_samples),
        }
    }
}

impl DiffSide {
    fn of(totals: Totals) -> Self {
        Self { total: totals.value, samples: totals.samples, pod_seconds: totals.pod_seconds() }
    }
}

/// The comparison as a plain-text table. Names are made safe for a terminal.
pub fn render_diff(diff: &Diff) -> String {
    let mut text = render_head(diff);
    text.push_str("   self before        after       change     cum change\n");
    for row in &diff.rows {
        let on = |value: i64, side: DiffSide| shown(diff, diff.basis.of(value, side.into()));
        let change = |delta: f64, noise| {
            let sign = if delta > 0.0 { "+" } else { "" };
            format!("{sign}{}{}", shown(diff, delta), if noise == Some(true) { "~" } else { " " })
        };
        let _ = writeln!(
            text,
            "  {:>12} {:>12} {:>13} {:>14}  {}",
            on(row.base_self, diff.base),
            on(row.self_value, diff.after),
            change(row.self_delta, row.self_noise),
            change(row.cum_delta, row.cum_noise),
            printable(&row.name)
        );
    }
    text
}

/// What is compared, how, and how much of it is shown.
fn render_head(diff: &Diff) -> String {
    let per = match diff.basis {
        Basis::PerPodSecond => "by pod and second",
        Basis::Share => "as shares of each profile's own total",
        Basis::Absolute => "as they are",
    };
    let (sample_type, basis) = (printable(&diff.sample_type), diff.basis.name());
    let mut text = format!("Type: {sample_type}, values {per} (basis {basis})\n");
    for (name, side) in [("Base", diff.base), ("After", diff.after)] {
        let _ = write!(text, "{name}: {}", value_with_unit(side.total, &diff.unit));
        if let Some(samples) = side.samples {
            let _ = write!(text, ", {samples} samples");
        }
        if let Some(seconds) = side.pod_seconds {
            let _ = write!(text, ", {seconds:.0} pod-seconds");
        }
        text.push('\n');
    }
    let (rows, functions) = (diff.rows.len(), diff.functions);
    let _ = writeln!(text, "Showing {rows} of {functions} functions; ~ marks changes that may be chance");
    text
}

/// A value on the basis of the comparison.
fn shown(diff: &Diff, value: f64) -> String {
    match diff.basis {
        Basis::Share => format!("{value:.2}%"),
        Basis::PerPodSecond => format!("{}/s", rounded(value, &diff.unit)),
        Basis::Absolute => rounded(value, &diff.unit),
    }
}

fn rounded(value: f64, unit: &str) -> String {
    // Casting saturates.
    value_with_unit(value.round() as i64, unit)
}

impl From<DiffSide> for Totals {
    fn from(side: DiffSide) -> Self {
        let nanos = |seconds: f64| (seconds * 1e9).round() as i64;
        Self { value: side.total, samples: side.samples, pod_nanos: side.pod_seconds.map(nanos) }
    }
}

#[cfg(test)]
mod tests;
