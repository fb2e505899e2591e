//! By how much may a function get heavier? `self>5%`: its own share may rise by 5 percentage points.

use std::fmt;
use std::str::FromStr;

use fleetprof_profile::{Diff, DiffRow};

/// A bound of `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    value: Value,
    points: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Own,
    Total,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a bound: write self>5% or total>10%, in percentage points");
        let (value, points) = text.split_once('>').ok_or_else(wrong)?;
        let value = match value.trim() {
            "self" => Value::Own,
            "total" | "cum" => Value::Total,
            _ => return Err(wrong()),
        };
        let points: f64 =
            points.trim().strip_suffix('%').unwrap_or(points.trim()).trim().parse().map_err(|_| wrong())?;
        match (0.0..=100.0).contains(&points) {
            true => Ok(Self { value, points }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>{}%", if self.value == Value::Own { "self" } else { "total" }, self.points)
    }
}

impl Bound {
    /// The change of the function in percentage points, and whether it may be chance.
    fn change(self, row: &DiffRow) -> (f64, bool) {
        match self.value {
            Value::Own => (row.self_delta, row.self_noise == Some(true)),
            Value::Total => (row.cum_delta, row.cum_noise == Some(true)),
        }
    }
}

/// A sentence for each function that exceeds a bound. `diff` must be on the basis of shares.
pub(crate) fn exceeding(diff: &Diff, bounds: &[Bound]) -> Vec<String> {
    let over = |bound: &Bound, row: &DiffRow| {
        let (points, noise) = bound.change(row);
        (points > bound.points && !noise).then(|| {
            format!(
                "{}: {} rose by {points:.1} percentage points, more than {bound} allows",
                row.name.escape_debug(),
                name(bound.value)
            )
        })
    };
    bounds.iter().flat_map(|bound| diff.rows.iter().filter_map(move |row| over(bound, row))).collect()
}

const fn name(value: Value) -> &'static str {
    match value {
        Value::Own => "self",
        Value::Total => "total",
    }
}

#[cfg(test)]
mod tests {
    use fleetprof_profile::{Basis, DiffSide};

    use super::*;

    fn diff(rows: Vec<DiffRow>) -> Diff {
        let side = DiffSide { total: 100, samples: Some(100), pod_seconds: None };
        Diff {
            sample_type: "cpu".into(),
            unit: "nanoseconds".into(),
            basis: Basis::Share,
            base: side,
            after: side,
            functions: rows.len(),
            left_out: 0,
            rows,
        }
    }

    fn row(name: &str, own: f64, noise: Option<bool>) -> DiffRow {
        DiffRow {
            name: name.into(),
            file: String::new(),
            base_self: 0,
            self_value: 0,
            self_delta: own,
            self_noise: noise,
            base_cum: 0,
            cum_value: 0,
            cum_delta: 2.0 * own,
            cum_noise: Some(false),
        }
    }

    #[test]
    fn bounds_are_read_and_written_alike() {
        for (text, same) in [("self>5%", "self>5%"), (" total > 2.5 ", "total>2.5%"), ("cum>0%", "total>0%")]
        {
            assert_eq!(text.parse::<Bound>().unwrap().to_string(), same);
        }
        for bad in
            ["", "self", "self<5%", "own>5%", "self>x", "self>-1%", "self>101%", "self>nan", "self>5%%"]
        {
            assert!(bad.parse::<Bound>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_rises_count_that_chance_does_not_explain() {
        let bound = |text: &str| vec![text.parse::<Bound>().unwrap()];
        let diff = diff(vec![
            row("hot", 6.0, Some(false)),
            row("maybe", 6.0, Some(true)),
            row("unknown", 6.0, None),
            row("same", 5.0, Some(false)),
            row("cooler", -50.0, Some(false)),
        ]);
        let over = exceeding(&diff, &bound("self>5%"));
        assert_eq!(over.len(), 2, "{over:?}");
        assert_eq!(over[0], "hot: self rose by 6.0 percentage points, more than self>5% allows");
        assert_eq!(exceeding(&diff, &bound("total>5%")).len(), 4, "totals are another bound");
        assert!(exceeding(&diff, &bound("self>10%")).is_empty());
    }
}
