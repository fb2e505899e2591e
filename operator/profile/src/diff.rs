//! Which functions got heavier or lighter between two profiles?

use std::collections::HashMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::merge::MergeError;
use crate::proto::Profile;
use crate::text::printable;
use crate::top::{Top, TopRow, top};
use crate::view::sample_types;

/// Two profiles compared function by function. Shares of the total are compared, not values: captures differ
/// in length and number of targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// The sample type compared, such as `cpu`.
    pub sample_type: String,
    /// Its unit.
    pub unit: String,
    /// The sum of the profile before.
    pub base_total: i64,
    /// The sum of the profile after.
    pub total: i64,
    /// The largest change of self share first, whatever its sign.
    pub rows: Vec<DiffRow>,
}

/// How one function changed; shares are in percent of each profile's own total, deltas in percentage points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffRow {
    /// The function's name.
    pub name: String,
    /// Its source file, or empty.
    pub file: String,
    /// Self share before.
    pub base_self_percent: f64,
    /// Self share after.
    pub self_percent: f64,
    /// Change of the self share.
    pub self_delta: f64,
    /// Cumulative share before.
    pub base_cum_percent: f64,
    /// Cumulative share after.
    pub cum_percent: f64,
    /// Change of the cumulative share.
    pub cum_delta: f64,
}

/// The `n` functions whose share of the value at `value_index` changed most from `base` to `profile`.
///
/// # Errors
/// The two count different things at that index.
pub fn diff(base: &Profile, profile: &Profile, value_index: usize, n: usize) -> Result<Diff, MergeError> {
    let kind = |profile| sample_types(profile).get(value_index).copied().unwrap_or_default();
    let (before, after) = (kind(base), kind(profile));
    if before != after {
        return Err(MergeError::SampleTypes {
            have: format!("{}/{}", after.0, after.1),
            need: format!("{}/{}", before.0, before.1),
        });
    }
    let before = top(base, value_index, usize::MAX);
    let after = top(profile, value_index, usize::MAX);
    Ok(compare(before, after, n))
}

fn compare(base: Top, after: Top, n: usize) -> Diff {
    let mut rows: HashMap<(String, String), DiffRow> = HashMap::new();
    for row in &base.rows {
        let entry = entry(&mut rows, row);
        entry.base_self_percent = row.self_percent;
        entry.base_cum_percent = row.cum_percent;
    }
    for row in &after.rows {
        let entry = entry(&mut rows, row);
        entry.self_percent = row.self_percent;
        entry.cum_percent = row.cum_percent;
    }
    let mut rows: Vec<DiffRow> = rows.into_values().map(with_deltas).collect();
    rows.sort_by(larger_change);
    rows.truncate(n);
    Diff {
        sample_type: after.sample_type,
        unit: after.unit,
        base_total: base.total,
        total: after.total,
        rows,
    }
}

fn entry<'a>(rows: &'a mut HashMap<(String, String), DiffRow>, row: &TopRow) -> &'a mut DiffRow {
    rows.entry((row.name.clone(), row.file.clone())).or_insert_with(|| DiffRow {
        name: row.name.clone(),
        file: row.file.clone(),
        base_self_percent: 0.0,
        self_percent: 0.0,
        self_delta: 0.0,
        base_cum_percent: 0.0,
        cum_percent: 0.0,
        cum_delta: 0.0,
    })
}

fn with_deltas(row: DiffRow) -> DiffRow {
    DiffRow {
        self_delta: row.self_percent - row.base_self_percent,
        cum_delta: row.cum_percent - row.base_cum_percent,
        ..row
    }
}

fn larger_change(one: &DiffRow, other: &DiffRow) -> std::cmp::Ordering {
    other
        .self_delta
        .abs()
        .total_cmp(&one.self_delta.abs())
        .then_with(|| other.cum_delta.abs().total_cmp(&one.cum_delta.abs()))
        .then_with(|| (&one.name, &one.file).cmp(&(&other.name, &other.file)))
}

/// The comparison as a plain-text table. Names are made safe for a terminal.
pub fn render_diff(diff: &Diff) -> String {
    let mut text = format!(
        "Type: {}, shares of each profile's own total\n  self before     after    change   cum change\n",
        printable(&diff.sample_type)
    );
    for row in &diff.rows {
        let _ = writeln!(
            text,
            "{:>12.2}% {:>8.2}% {:>+8.2}  {:>+10.2}   {}",
            row.base_self_percent,
            row.self_percent,
            row.self_delta,
            row.cum_delta,
            printable(&row.name)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cpu;

    #[test]
    fn shares_are_compared_not_values() {
        let base = cpu(&[(&["a", "main"], 50), (&["b", "main"], 50)]);
        let after = cpu(&[(&["a", "main"], 160), (&["c", "main"], 40)]);
        let diff = diff(&base, &after, 0, 10).expect("the same type");
        let rows: Vec<(&str, f64, f64)> =
            diff.rows.iter().map(|row| (row.name.as_str(), row.self_delta, row.cum_delta)).collect();
        let expected = [("b", -50.0, -50.0), ("a", 30.0, 30.0), ("c", 20.0, 20.0), ("main", 0.0, 0.0)];
        assert_eq!(rows, expected);
        assert_eq!((diff.base_total, diff.total), (100, 200));
    }

    #[test]
    fn a_profile_compared_with_itself_has_no_change() {
        let profile = cpu(&[(&["a", "main"], 3), (&["main"], 4)]);
        let diff = diff(&profile, &profile, 1, 10).expect("the same type");
        assert!(diff.rows.iter().all(|row| row.self_delta == 0.0 && row.cum_delta == 0.0));
        insta::assert_snapshot!(render_diff(&diff), @"
    Type: cpu, shares of each profile's own total
      self before     after    change   cum change
           42.86%    42.86%    +0.00       +0.00   a
           57.14%    57.14%    +0.00       +0.00   main
    ");
    }

    #[test]
    fn other_types_are_refused() {
        let heap = crate::ProfileBuilder::new(crate::ProfileKind::Heap, 1, 0).finish(1, &[]);
        let error = diff(&heap, &cpu(&[]), 1, 1).expect_err("heap and cpu").to_string();
        assert!(error.contains("cpu/nanoseconds") && error.contains("inuse_space/bytes"), "{error}");
    }
}
