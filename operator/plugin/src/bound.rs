//! By how much may a function get heavier? `self>5%`: its own share may rise by 5 percentage points.

use std::fmt;
use std::str::FromStr;

use fleetprof_profile::{Diff, DiffRow, Order};

/// A bound of `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    value: Order,
    points: f64,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is not a bound: write self>5% or total>10%, in percentage points");
        let (value, points) = text.split_once('>').ok_or_else(wrong)?;
        let value = match value.trim() {
            "self" => Order::Own,
            "total" | "cum" => Order::Total,
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
        write!(f, "{}>{}%", name(self.value), self.points)
    }
}

impl Bound {
    /// The change of the function in percentage points, and whether it may be chance.
    fn change(self, row: &DiffRow) -> (f64, bool) {
        match self.value {
            Order::Own => (row.self_delta, row.self_noise == Some(true)),
            Order::Total => (row.cum_delta, row.cum_noise == Some(true)),
        }
    }
}

/// The bounds by the order in which the read API has to list functions, so that the first ones decide them.
pub(crate) fn by_order(bounds: &[Bound]) -> impl Iterator<Item = (&'static str, Vec<Bound>)> {
    [Order::Own, Order::Total].into_iter().filter_map(|order| {
        let own: Vec<Bound> = bounds.iter().filter(|bound| bound.value == order).copied().collect();
        (!own.is_empty()).then_some((name(order), own))
    })
}

/// A sentence for each bound that may be exceeded by a function which the comparison does not list. `diff` must be
/// on the basis of shares.
pub(crate) fn unchecked(diff: &Diff, bounds: &[Bound]) -> Vec<String> {
    let listed = diff.rows.len();
    let all = diff.functions + diff.left_out;
    let decided = |bound: &Bound| {
        let least = diff.rows.last().map_or(0.0, |row| bound.change(row).0.abs());
        // In this order, what is not listed changed no more than the last one that is.
        let rest_is_within = diff.order == bound.value && least <= bound.points;
        diff.left_out == 0 && (listed >= diff.functions || rest_is_within)
    };
    let said = |bound: &Bound| {
        format!(
            "{bound} could be checked for {listed} of {all} functions only: narrow it with --pod or --process"
        )
    };
    bounds.iter().filter(|bound| !decided(bound)).map(said).collect()
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

const fn name(value: Order) -> &'static str {
    match value {
        Order::Own => "self",
        Order::Total => "total",
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
            order: Order::Own,
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

    #[test]
    fn a_bound_that_what_is_not_listed_may_exceed_is_not_passed() {
        let rows = || vec![row("hot", 6.0, Some(false)), row("cooler", -3.0, Some(false))];
        let of = |functions, left_out, order| Diff { functions, left_out, order, ..diff(rows()) };
        let cases = [
            ("self>5%", of(2, 0, Order::Own), true),
            ("total>5%", of(2, 0, Order::Own), true),
            // The others changed by 3 points at most, and their totals by 6.
            ("self>3%", of(9000, 0, Order::Own), true),
            ("self>2%", of(9000, 0, Order::Own), false),
            ("total>6%", of(9000, 0, Order::Total), true),
            ("total>5%", of(9000, 0, Order::Total), false),
            // Their totals may be anything: in the order by self, or of an operator that knows no other.
            ("total>50%", of(9000, 0, Order::Own), false),
            ("self>5%", of(9000, 1, Order::Own), false),
            ("total>50%", of(9000, 1, Order::Total), false),
        ];
        for (text, diff, decided) in cases {
            let said = unchecked(&diff, &[text.parse().unwrap()]);
            assert_eq!(said.is_empty(), decided, "{text} {} {}: {said:?}", diff.functions, diff.left_out);
        }
        let said = unchecked(&of(9000, 1, Order::Own), &["total>5%".parse().unwrap()]);
        assert!(said[0].starts_with("total>5% could be checked for 2 of 9001 functions only"), "{said:?}");
    }

    #[test]
    fn each_bound_is_checked_in_the_order_that_decides_it() {
        let bounds: Vec<Bound> =
            ["total>5%", "self>5%", "total>9%"].iter().map(|text| text.parse().unwrap()).collect();
        let asked: Vec<(&str, usize)> = by_order(&bounds).map(|(order, own)| (order, own.len())).collect();
        assert_eq!(asked, [("self", 1), ("total", 2)]);
        assert_eq!(by_order(&bounds[..1]).count(), 1, "nothing is asked for that no bound needs");
    }
}
