//! Are changes found, whichever way they go, and told on the basis that was asked for?

use proptest::prelude::*;

use super::*;
use crate::testing::{cpu, profiles};

/// 10 s of one pod.
const SECONDS: Option<i64> = Some(10_000_000_000);

fn diff_of(base: &Profile, after: &Profile, basis: Basis, n: usize) -> Diff {
    let mut differ = Differ::default();
    differ.add(Side::Base, base, 1, SECONDS);
    differ.add(Side::After, after, 1, SECONDS);
    differ.finish(basis, Order::Own, n)
}

fn deltas(diff: &Diff) -> Vec<(&str, f64, f64)> {
    diff.rows.iter().map(|row| (row.name.as_str(), row.self_delta, row.cum_delta)).collect()
}

#[test]
fn shares_are_of_each_profiles_own_total() {
    let base = cpu(&[(&["a", "main"], 50), (&["b", "main"], 50)]);
    let after = cpu(&[(&["a", "main"], 160), (&["c", "main"], 40)]);
    let diff = diff_of(&base, &after, Basis::Share, 10);
    let expected = [("b", -50.0, -50.0), ("a", 30.0, 30.0), ("c", 20.0, 20.0), ("main", 0.0, 0.0)];
    assert_eq!(deltas(&diff), expected);
    assert_eq!((diff.base.total, diff.after.total), (1_000_000_000, 2_000_000_000));
    assert_eq!((diff.base.samples, diff.after.pod_seconds), (Some(100), Some(10.0)));
}

#[test]
fn what_has_no_samples_of_its_own_comes_first_by_the_change_of_its_total() {
    let base = cpu(&[(&["a", "checkout"], 10), (&["b"], 50), (&["e"], 40)]);
    let spread = [(&["a", "checkout"][..], 10), (&["c", "checkout"], 15), (&["d", "checkout"], 15)];
    let after = cpu(&[&spread[..], &[(&["b"], 35), (&["e"], 25)]].concat());
    let mut differ = Differ::default();
    differ.add(Side::Base, &base, 1, SECONDS);
    differ.add(Side::After, &after, 1, SECONDS);
    let names = |order, n| -> Vec<String> {
        let diff = differ.finish(Basis::Share, order, n);
        assert_eq!((diff.order, diff.functions), (order, 6));
        diff.rows.into_iter().map(|row| row.name).collect()
    };
    assert_eq!(names(Order::Own, 4), ["b", "c", "d", "e"], "it rose by 30 points, but is not among them");
    assert_eq!(names(Order::Total, 2), ["checkout", "b"]);
}

#[test]
fn a_pod_second_is_compared_with_a_pod_second() {
    let profile = cpu(&[(&["a"], 100)]);
    let mut differ = Differ::default();
    differ.add(Side::Base, &profile, 1, SECONDS);
    differ.add(Side::After, &profile, 1, Some(40_000_000_000));
    let diff = differ.finish(Basis::PerPodSecond, Order::Own, 1);
    assert_eq!(deltas(&diff), [("a", 25e6 - 100e6, 25e6 - 100e6)]);
    assert_eq!(diff.rows[0].self_noise, Some(false));
    assert_eq!(deltas(&differ.finish(Basis::Absolute, Order::Own, 1)), [("a", 0.0, 0.0)]);
}

#[test]
fn the_table_names_its_basis_and_marks_what_may_be_chance() {
    let base = cpu(&[(&["a", "main"], 100), (&["b\u{1b}[2J", "main"], 50), (&["main"], 1)]);
    let after = cpu(&[(&["a", "main"], 300), (&["b\u{1b}[2J", "main"], 55)]);
    insta::assert_snapshot!(render_diff(&diff_of(&base, &after, Basis::PerPodSecond, 10)), @"
    Type: cpu, values by pod and second (basis perPodSecond)
    Base: 1.51s, 151 samples, 10 pod-seconds
    After: 3.55s, 355 samples, 10 pod-seconds
    Showing 3 of 3 functions; ~ marks changes that may be chance
       self before        after       change     cum change
           100ms/s      300ms/s     +200ms/s       +200ms/s   a
            50ms/s       55ms/s       +5ms/s~        +5ms/s~  b�[2J
             1ms/s          0/s       -1ms/s~      +204ms/s   main
    ");
    insta::assert_snapshot!(render_diff(&diff_of(&base, &after, Basis::Share, 1)), @"
    Type: cpu, values as shares of each profile's own total (basis share)
    Base: 1.51s, 151 samples, 10 pod-seconds
    After: 3.55s, 355 samples, 10 pod-seconds
    Showing 1 of 3 functions; ~ marks changes that may be chance
       self before        after       change     cum change
            66.23%       84.51%      +18.28%        +18.28%   a
    ");
}

#[test]
fn what_counts_no_samples_has_no_noise() {
    let mut builder = crate::ProfileBuilder::new(crate::ProfileKind::Heap, 1, 0);
    builder.add(&[crate::Frame::named("f", "f.rs", 1)], &[10, 1_000], &[]).expect("a sample");
    let heap = builder.finish(1, &[]);
    let diff = diff_of(&heap, &heap, Basis::Share, 10);
    assert_eq!((diff.rows[0].self_noise, diff.base.samples, diff.unit.as_str()), (None, None, "bytes"));
}

#[test]
fn it_is_read_back_from_json() {
    let profile = cpu(&[(&["a", "main"], 3)]);
    let diff = diff_of(&profile, &profile, Basis::PerPodSecond, 5);
    let json = serde_json::to_string(&diff).expect("json");
    assert!(json.contains("\"basis\":\"perPodSecond\""), "{json}");
    assert_eq!(serde_json::from_str::<Diff>(&json).expect("a comparison"), diff);
}

proptest! {
    #[test]
    fn a_profile_compared_with_itself_has_no_change(profile in profiles()) {
        for basis in [Basis::PerPodSecond, Basis::Share, Basis::Absolute] {
            let diff = diff_of(&profile, &profile, basis, usize::MAX);
            prop_assert!(diff.rows.iter().all(|row| row.self_delta == 0.0 && row.cum_delta == 0.0));
            prop_assert!(diff.rows.iter().all(|row| row.self_noise == Some(true)));
        }
    }

    #[test]
    fn what_grew_one_way_shrank_the_other(base in profiles(), after in profiles()) {
        for basis in [Basis::PerPodSecond, Basis::Share, Basis::Absolute] {
            let (forth, back) = (
                diff_of(&base, &after, basis, usize::MAX), diff_of(&after, &base, basis, usize::MAX),
            );
            prop_assert_eq!(forth.rows.len(), back.rows.len());
            for (one, other) in forth.rows.iter().zip(&back.rows) {
                prop_assert_eq!((&one.name, &one.file), (&other.name, &other.file));
                prop_assert_eq!((one.self_delta, one.cum_delta), (-other.self_delta, -other.cum_delta));
                prop_assert_eq!((one.self_noise, one.cum_noise), (other.self_noise, other.cum_noise));
            }
        }
    }
}
