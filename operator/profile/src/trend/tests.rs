use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::verdict::{About, FunctionUse, Side};

/// A capture of memory with these functions and bytes.
fn capture(session: u32, pod: &str, functions: &[(&str, i64)]) -> PodCapture {
    let about = About {
        pod: pod.to_owned(),
        side: Side::New,
        moment: session,
        pod_seconds: 60.0,
        cpu_seconds: None,
        coverage: None,
    };
    let value = functions.iter().fold(0_i64, |sum, (_, bytes)| sum.saturating_add((*bytes).max(0)));
    let functions = functions
        .iter()
        .map(|(name, bytes)| FunctionUse {
            name: (*name).to_owned(),
            file: "leak.go".to_owned(),
            own: *bytes,
            cum: *bytes,
        })
        .collect();
    PodCapture { about, samples: 100, value, functions, calls: Vec::new() }
}

/// Sessions in which `put` grows by 1 MiB each, beside `keep`; both vary a little.
fn leak(sessions: u32) -> Vec<PodCapture> {
    let of = |n: u32| {
        let (put, keep) = ((10 + i64::from(n)) << 20, (100 << 20) + (i64::from(n * 7 % 5) << 18));
        capture(n, "pod", &[("put", put + (i64::from(n * 5 % 3) << 17)), ("keep", keep)])
    };
    (0..sessions).map(of).collect()
}

fn look(captures: &[PodCapture]) -> Trend {
    trend(ProfileKind::Heap, captures, &BTreeMap::new(), &Settings::default(), 1)
}

#[test]
fn a_leak_is_named_with_what_it_grew_from_and_to() {
    let leaks = look(&leak(12));
    assert_eq!(leaks.outcome, Outcome::Growing, "{leaks:?}");
    let [first, ..] = leaks.functions.as_slice() else { panic!("{leaks:?}") };
    assert_eq!((first.name.as_str(), first.what), ("put", What::Grows));
    assert!((first.from / f64::from(1 << 20) - 10.0).abs() < 0.5, "{first:?}");
    assert!((first.to / f64::from(1 << 20) - 21.0).abs() < 0.5, "{first:?}");
    let said = leaks.message();
    assert!(said.starts_with("Growth in memory by pod: put (leak.go) 10."), "{said}");
    assert!(said.contains("12 captures in 12 sessions (p = 0.0"), "{said}");
    assert!(said.contains("How the load changed is not known."), "{said}");
    let loads = (0..12).map(|n| (n, 0.5)).collect();
    let known = trend(ProfileKind::Heap, &leak(12), &loads, &Settings::default(), 1);
    assert_eq!((known.outcome, known.load), (Outcome::Growing, Some(1.0)));
    assert!(!known.message().contains("not known"), "{}", known.message());
}

#[test]
fn sessions_count_once_by_pod_and_the_last_ones_where_there_are_too_many() {
    let mut twice = leak(12);
    twice.extend(leak(12));
    assert_eq!(look(&twice).captures, 12);
    let trend = look(&leak(90));
    assert_eq!((trend.sessions, trend.captures), (MOST_SESSIONS, MOST_SESSIONS));
    let empty: Vec<PodCapture> = (0..12).map(|n| capture(n, "pod", &[])).collect();
    assert_eq!(look(&empty).outcome, Outcome::Inconclusive(Why::FewSessions));
}

#[test]
fn memory_that_never_changes_does_not_grow() {
    let same: Vec<PodCapture> = (0..12).map(|n| capture(n, "pod", &[("keep", 100 << 20)])).collect();
    let trend = look(&same);
    assert_eq!((trend.outcome, trend.p), (Outcome::NotGrowing, Some(1.0)), "{trend:?}");
}

#[test]
fn what_grows_too_little_to_count_is_no_growth() {
    let of = |n: u32| capture(n, "pod", &[("put", (10 << 20) + (i64::from(n) << 14)), ("keep", 100 << 20)]);
    let little: Vec<PodCapture> = (0..12).map(of).collect();
    assert_eq!(look(&little).outcome, Outcome::NotGrowing);
}

#[test]
fn names_in_messages_are_printable() {
    let mut hostile = leak(12);
    for capture in &mut hostile {
        capture.functions[0].name = "put\u{1b}[2J\n".repeat(50);
    }
    let said = look(&hostile).message();
    assert!(!said.contains('\u{1b}') && !said.contains('\n') && said.len() < 1_000, "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_captures_hold_a_look_comes_to_an_end_with_finite_numbers(
        captures in prop::collection::vec(
            (any::<u32>(), any::<[i64; 3]>(), any::<i64>(), prop_oneof![Just(f64::NAN), any::<f64>()], any::<bool>()),
            0..40,
        ),
        seed in any::<u64>(),
        heap in any::<bool>(),
    ) {
        let kind = if heap { ProfileKind::Heap } else { ProfileKind::Cpu };
        let hostile = |(moment, values, value, seconds, covered): &(u32, [i64; 3], i64, f64, bool)| {
            let mut capture = capture(*moment, "pod", &[("a", values[0]), ("b", values[1]), ("a", values[2])]);
            capture.value = *value;
            capture.samples = values[0];
            capture.about.pod_seconds = *seconds;
            capture.about.cpu_seconds = covered.then_some(*seconds);
            capture
        };
        let captures: Vec<PodCapture> = captures.iter().map(hostile).collect();
        let settings = Settings { orders: 0, ..Settings::default() };
        let load = loads(&captures, &settings);
        let trend = trend(kind, &captures, &load, &settings, seed);
        prop_assert!(trend.sessions <= MOST_SESSIONS);
        prop_assert!(trend.functions.len() <= 5);
        prop_assert!(trend.p.is_none_or(|p| p > 0.0 && p <= 1.0), "{:?}", trend);
        prop_assert!(trend.smallest.is_none_or(f64::is_finite));
        let finite = |growth: &Growth| growth.from.is_finite() && growth.to.is_finite();
        prop_assert!(trend.functions.iter().all(finite), "{:?}", trend);
        let _said = trend.message();
    }
}
