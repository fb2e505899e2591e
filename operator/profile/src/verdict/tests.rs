//! Is the verdict right where the answer is known, and finite where there is none?

use proptest::prelude::*;

use super::capture::{About, Call, FunctionUse};
use super::testing::{captures_at, with};
use super::*;

type Functions<'f> = &'f [(&'f str, i64)];

/// Four captures of each revision; each varies a little, in the same way.
fn compared(old: Functions<'_>, new: Functions<'_>, calls: &[(&str, &str)]) -> Vec<PodCapture> {
    let wobbled = |functions: Functions<'_>, n: i64| -> Vec<(String, i64)> {
        let wobble = |at: i64| (at * 7 + n * 3) % 5 - 2;
        let wobbled = |samples: i64, at: i64| (samples + wobble(at)).max(0);
        (0..).zip(functions).map(|(at, (name, n))| ((*name).to_owned(), wobbled(*n, at))).collect()
    };
    let mut captures = Vec::new();
    for (side, functions) in [(Side::Old, old), (Side::New, new)] {
        for n in 0..4 {
            let functions = wobbled(functions, n);
            let functions: Vec<(&str, i64)> = functions.iter().map(|(f, n)| (f.as_str(), *n)).collect();
            captures.push(with(&format!("{side:?}-{n}"), side, 0, &functions));
        }
    }
    for capture in &mut captures {
        call(capture, calls);
    }
    captures
}

/// Adds calls, and to the cumulative values of callers what they call.
fn call(capture: &mut PodCapture, calls: &[(&str, &str)]) {
    for (caller, callee) in calls {
        let at = |name: &str| capture.functions.iter().position(|f| f.name == name);
        let (Some(from), Some(to)) = (at(caller), at(callee)) else { continue };
        capture.functions[from].cum += capture.functions[to].cum;
        capture.calls.push(Call { caller: from as u32, callee: to as u32 });
    }
}

fn judged(captures: &[PodCapture]) -> Verdict {
    verdict(captures, &Settings::default(), 1)
}

fn named(verdict: &Verdict, what: What) -> Vec<&str> {
    let named = verdict.functions.iter().filter(|f| f.what == what);
    let mut names: Vec<&str> = named.map(|f| f.name.as_str()).collect();
    names.sort_unstable();
    names
}

const BEFORE: Functions<'_> = &[("main", 100), ("digest", 500), ("parse", 4_000), ("render", 5_400)];

#[test]
fn a_function_that_got_slower_is_named_with_what_it_cost_before_and_now() {
    let after = &[("main", 100), ("digest", 1_000), ("parse", 4_000), ("render", 5_400)];
    let verdict = judged(&compared(BEFORE, after, &[]));
    assert_eq!((verdict.outcome, named(&verdict, What::Rose)), (Outcome::Regressed, vec!["digest"]));
    assert_eq!((verdict.arrangements, verdict.every), (70, true));
    let digest = &verdict.functions[0];
    assert!(
        (digest.old_share - 0.05).abs() < 0.001 && (digest.new_share - 0.095).abs() < 0.001,
        "{digest:?}"
    );
    let (from, to) = digest.interval.unwrap();
    assert!(0.0 < from && from < 0.045 && 0.045 < to && to < 0.1, "beyond chance: {digest:?}");
    assert!(digest.p <= 0.05 && verdict.load.is_some_and(|load| (load - 1.0).abs() < 0.01), "{verdict:?}");
    insta::assert_snapshot!(verdict.message().replace(". ", ".\n"), @"
    The new revision is slower: digest (digest.rs) 5.0 % → 9.5 % of CPU time, 0.083 → 0.167 cores by pod.
    Compared 4 pods (41998 samples) with 4 pods (39998 samples) of the old revision (p = 0.014).
    A function of 5 % that takes 1.1 percentage points more would be found in 4 of 5 such comparisons.
    ");
}

#[test]
fn nothing_changed_and_the_smallest_change_that_would_have_been_seen_is_told() {
    let verdict = judged(&compared(BEFORE, BEFORE, &[]));
    assert_eq!((verdict.outcome, verdict.p), (Outcome::NotRegressed, Some(1.0)));
    assert!(verdict.smallest.is_some_and(|smallest| smallest < 0.02), "{:?}", verdict.smallest);
    insta::assert_snapshot!(verdict.message().replace(". ", ".\n"), @"
    No function got slower by enough to count.
    Compared 4 pods (39998 samples) with 4 pods (39998 samples) of the old revision (p = 1.000).
    A function of 5 % that takes 1.0 percentage points more would be found in 4 of 5 such comparisons.
    ");
}

#[test]
fn equal_captures_have_no_spread_and_harm_nothing() {
    let verdict = judged(&captures_at(0, 3, 3));
    assert_eq!((verdict.outcome, verdict.p), (Outcome::NotRegressed, Some(1.0)));
    let functions = |wait: i64| [("main", 1_000), ("work", 900), ("wait", wait)];
    let mut captures: Vec<PodCapture> =
        (0..3).map(|n| with(&format!("old-{n}"), Side::Old, 0, &functions(100))).collect();
    captures.extend((0..3).map(|n| with(&format!("new-{n}"), Side::New, 0, &functions(200))));
    let verdict = judged(&captures);
    assert_eq!((verdict.outcome, verdict.p), (Outcome::Regressed, Some(0.05)), "one of twenty arrangements");
    captures[5] = with("new-2", Side::New, 0, &functions(100));
    let verdict = judged(&captures);
    assert!(verdict.p.is_some_and(|p| p > 0.05), "a tie counts against the verdict: {verdict:?}");
}

#[test]
fn a_saving_elsewhere_is_no_regression_of_the_rest() {
    let before = &[("a", 2_500), ("b", 2_500), ("c", 2_000), ("d", 1_500), ("e", 1_500)];
    let after = &[("a", 1_000), ("b", 2_500), ("c", 2_000), ("d", 1_500), ("e", 1_500)];
    let verdict = judged(&compared(before, after, &[]));
    assert_eq!((verdict.outcome, named(&verdict, What::Rose)), (Outcome::NotRegressed, vec![]));
    assert_eq!(named(&verdict, What::ShareOnly), ["b", "c", "d", "e"]);
    assert!(verdict.message().contains("since other functions got cheaper"), "{}", verdict.message());
}

/// These functions beside ten others, of 700 samples each.
fn beside_others<'f>(functions: Functions<'f>) -> Vec<(&'f str, i64)> {
    let others = ["o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8", "o9"];
    functions.iter().copied().chain(others.map(|name| (name, 700))).collect()
}

#[test]
fn cost_that_moved_between_functions_that_belong_together_is_no_regression() {
    let calls = [("parse", "digest"), ("parse", "hash"), ("parse", "mix")];
    let before = beside_others(&[("main", 100), ("parse", 900), ("digest", 2_000)]);
    let to = |functions: Functions<'_>, calls: &[(&str, &str)]| {
        judged(&compared(&before, &beside_others(functions), calls))
    };
    // Split in two.
    let verdict = to(&[("main", 100), ("parse", 900), ("hash", 1_200), ("mix", 800)], &calls);
    assert_eq!((verdict.outcome, named(&verdict, What::Moved)), (Outcome::NotRegressed, vec!["hash", "mix"]));
    // Inlined into its caller.
    let verdict = to(&[("main", 100), ("parse", 2_900)], &calls);
    assert_eq!((verdict.outcome, named(&verdict, What::Moved)), (Outcome::NotRegressed, vec!["parse"]));
    // Split, and slower on the way.
    let verdict = to(&[("main", 100), ("parse", 900), ("hash", 2_200), ("mix", 800)], &calls);
    let rose = named(&verdict, What::Rose);
    assert_eq!((verdict.outcome, rose), (Outcome::Regressed, vec!["hash", "mix", "parse"]));
    // The same as the first without anything that joins them.
    let verdict = to(&[("main", 100), ("parse", 900), ("hash", 2_000)], &[]);
    assert_eq!((verdict.outcome, named(&verdict, What::Rose)), (Outcome::Regressed, vec!["hash"]));
}

#[test]
fn a_function_put_between_two_others_is_no_regression() {
    let before = &[("parse", 900), ("digest", 2_000), ("render", 7_000)];
    let after = &[("digest", 2_000), ("wrapper", 0), ("parse", 900), ("render", 7_000)];
    let mut captures = compared(before, after, &[]);
    for capture in &mut captures {
        call(capture, &[("wrapper", "digest"), ("parse", "wrapper")]);
        if capture.about.side == Side::Old {
            call(capture, &[("parse", "digest")]);
        }
    }
    let verdict = judged(&captures);
    assert_eq!((verdict.outcome, named(&verdict, What::Moved)), (Outcome::NotRegressed, vec!["wrapper"]));
}

#[test]
fn a_cost_spread_over_many_callees_is_found_in_their_caller() {
    let names: Vec<String> = (0..10).map(|n| format!("leaf-{n}")).collect();
    let with_leaves = |each: i64| -> Vec<(&str, i64)> {
        let mut functions: Vec<(&str, i64)> = names.iter().map(|name| (name.as_str(), each)).collect();
        functions.extend([("parse", 100), ("render", 5_000), ("main", 3_000)]);
        functions
    };
    let calls: Vec<(&str, &str)> = names.iter().map(|name| ("parse", name.as_str())).collect();
    let verdict = judged(&compared(&with_leaves(190), &with_leaves(250), &calls));
    assert_eq!((verdict.outcome, named(&verdict, What::Rose)), (Outcome::Regressed, vec!["parse"]));
    assert!(verdict.functions[0].cumulative);
}

#[test]
fn another_load_is_no_verdict_but_a_full_pod_and_a_dearer_one_are() {
    let after = &[("main", 100), ("digest", 1_000), ("parse", 4_000), ("render", 5_400)];
    let mut captures = compared(BEFORE, after, &[]);
    captures.iter_mut().for_each(|capture| capture.about.cpu_seconds = Some(100.0));
    assert_eq!(judged(&captures).outcome, Outcome::Regressed, "at its limit, the rest gets less done");
    for capture in captures.iter_mut().filter(|c| c.about.side == Side::New) {
        capture.about.cpu_seconds = Some(50.0);
    }
    let verdict = judged(&captures);
    assert_eq!(verdict.outcome, Outcome::Inconclusive(Why::DifferentLoad));
    assert!(verdict.message().contains("0.5 times the load"), "{}", verdict.message());
    let slow = &[("main", 100), ("digest", 9_000), ("parse", 4_000), ("render", 5_400)];
    let verdict = judged(&compared(BEFORE, slow, &[]));
    assert_eq!(verdict.outcome, Outcome::Regressed, "CPU time that the regression itself adds is not load");
}

#[test]
fn coverage_that_differs_between_the_revisions_is_no_verdict() {
    let mut captures = compared(BEFORE, BEFORE, &[]);
    for capture in captures.iter_mut().filter(|c| c.about.side == Side::New) {
        capture.about.coverage = Some(60);
    }
    assert_eq!(judged(&captures).outcome, Outcome::Inconclusive(Why::LowCoverage));
}

#[test]
fn too_few_samples_are_said_with_how_many_would_be_enough() {
    let few = &[("main", 2), ("digest", 5), ("parse", 40), ("render", 54)];
    let verdict = judged(&compared(few, few, &[]));
    assert_eq!(verdict.outcome, Outcome::Inconclusive(Why::NotEnoughSamples));
    let enough = verdict.enough.and_then(|enough| enough.samples_per_pod).expect("more samples help");
    assert!((100..100_000).contains(&enough), "{enough}");
    let one = judged(&captures_at(0, 12, 1));
    assert_eq!((one.outcome, one.smallest), (Outcome::Inconclusive(Why::FewPods), None));
    insta::assert_snapshot!(one.message().replace(". ", ".\n"), @"
    There are too few pods for a verdict: capture 3 pods of the new revision and 12 of the old one at the same time.
    Compared 1 pod (1000 samples) with 12 pods (12000 samples) of the old revision.
    No change could have been found, however large.
    ");
}

/// All ways to call `new` of the captures new ones.
fn relabelled(captures: &[PodCapture], new: usize) -> Vec<Vec<PodCapture>> {
    let is_one = |mask: &u32| mask.count_ones() as usize == new;
    let masks = (0..1_u32 << captures.len()).filter(is_one);
    let label = |mask: u32| {
        let mut captures = captures.to_vec();
        for (at, capture) in captures.iter_mut().enumerate() {
            capture.about.side = if mask >> at & 1 == 1 { Side::New } else { Side::Old };
        }
        captures
    };
    masks.map(label).collect()
}

fn some_captures(count: usize) -> impl Strategy<Value = Vec<PodCapture>> {
    let functions = proptest::collection::vec(prop_oneof![3 => 0..400_i64, 1 => Just(100)], 5);
    proptest::collection::vec(functions, count).prop_map(|captures| {
        let names = ["a", "b", "c", "d", "e"];
        let capture = |(n, samples): (usize, Vec<i64>)| {
            let functions: Vec<(&str, i64)> = names.into_iter().zip(samples).chain([("main", 500)]).collect();
            with(&format!("pod-{n}"), Side::Old, 0, &functions)
        };
        captures.into_iter().enumerate().map(capture).collect()
    })
}

/// A capture whose every number may be anything.
fn wild_capture() -> impl Strategy<Value = PodCapture> {
    let number = || prop_oneof![2 => 0..2_000_i64, 1 => any::<i64>()];
    let seconds = || prop_oneof![2 => 0.0..100.0_f64, 1 => any::<f64>()];
    let name = || prop_oneof![3 => "[a-e]", 1 => any::<String>()];
    let function = (name(), number(), number()).prop_map(|(name, own, cum)| FunctionUse {
        name,
        file: String::new(),
        own,
        cum,
    });
    let call = (0..8_u32, any::<u32>()).prop_map(|(caller, callee)| Call { caller, callee: callee % 9 });
    let about = (0..12_u8, any::<bool>(), 0..3_u32, seconds(), seconds(), proptest::option::of(any::<i32>()))
        .prop_map(|(pod, is_new, moment, pod_seconds, cpu_seconds, coverage)| About {
            pod: format!("pod-{pod}"),
            side: if is_new { Side::New } else { Side::Old },
            moment,
            pod_seconds,
            cpu_seconds: Some(cpu_seconds),
            coverage,
        });
    let lists = (proptest::collection::vec(function, 0..8), proptest::collection::vec(call, 0..8));
    (about, number(), number(), lists).prop_map(|(about, samples, value, (functions, calls))| PodCapture {
        about,
        samples,
        value,
        functions,
        calls,
    })
}

fn numbers(verdict: &Verdict) -> Vec<f64> {
    let of_function = |f: &FunctionChange| {
        let maybe = [f.old_cores, f.new_cores, f.smallest].map(|number| number.unwrap_or(0.0));
        [vec![f.old_share, f.new_share, f.p], maybe.to_vec()].concat()
    };
    let maybe = [verdict.p, verdict.smallest, verdict.load, verdict.dispersion, verdict.old.coverage];
    let mut numbers: Vec<f64> = verdict.functions.iter().flat_map(of_function).collect();
    numbers.extend(maybe.map(|number| number.unwrap_or(0.0)));
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What makes the test right: of all ways to call half of some captures new, whatever is in them, at most
    /// 5 % are called a regression.
    #[test]
    fn at_most_the_error_rate_of_all_arrangements_is_a_regression(captures in some_captures(6)) {
        let all = relabelled(&captures, 3);
        prop_assert_eq!(all.len(), 20);
        let regressed = all.iter().filter(|c| judged(c).outcome == Outcome::Regressed).count();
        prop_assert!(regressed <= 1, "{} of 20", regressed);
        let sure = all.iter().filter(|c| judged(c).p.is_some_and(|p| p <= 0.2)).count();
        prop_assert!(sure <= 4, "{} of 20 have a p of at most 0.2", sure);
    }

    #[test]
    fn the_order_of_captures_does_not_matter(captures in some_captures(7), seed in any::<u64>()) {
        let mut captures = relabelled(&captures, 3).swap_remove(20);
        let forth = verdict(&captures, &Settings::default(), seed);
        captures.reverse();
        let back = verdict(&captures, &Settings::default(), seed);
        prop_assert_eq!(forth.outcome, back.outcome);
        prop_assert!((forth.p.unwrap_or(0.0) - back.p.unwrap_or(0.0)).abs() < 1e-9);
    }

    #[test]
    fn whatever_captures_hold_the_verdict_is_finite_and_reads_back(
        captures in proptest::collection::vec(wild_capture(), 0..24),
        min_pods in 0..4_usize,
        error_rate in prop_oneof![Just(0.05), Just(0.5), any::<f64>()],
        seed in any::<u64>(),
    ) {
        let settings = Settings { min_pods, error_rate, min_coverage: 0, ..Settings::default() };
        let verdict = verdict(&captures, &settings, seed);
        prop_assert!(numbers(&verdict).iter().all(|number| number.is_finite()), "{:?}", verdict);
        prop_assert!(verdict.p.is_none_or(|p| p > 0.0 && p <= 1.0), "{:?}", verdict);
        prop_assert!(!verdict.message().chars().any(char::is_control));
        let json = serde_json::to_string(&verdict).expect("json");
        let read: Verdict = serde_json::from_str(&json).expect("a verdict");
        prop_assert_eq!(read.outcome, verdict.outcome);
    }
}

#[test]
fn drawn_arrangements_repeat_with_their_seed_and_agree_with_all_of_them() {
    let after = &[("main", 100), ("digest", 503), ("parse", 4_000), ("render", 5_400)];
    let captures = compared(BEFORE, after, &[]);
    let effect = Effect { points: 0.001, relative: 0.0, least: 0.001 };
    let every = verdict(&captures, &Settings { effect, ..Settings::default() }, 7);
    let few = Settings { effect, arrangements: 100, ..Settings::default() };
    assert_eq!(verdict(&captures, &few, 7), every, "70 are fewer than 100");
    let twelve: Vec<PodCapture> = (0..3)
        .flat_map(|n| {
            let mut captures = captures.clone();
            captures.iter_mut().for_each(|c| c.about.pod.push_str(&format!("-{n}")));
            captures
        })
        .collect();
    let drawn = verdict(&twelve, &few, 7);
    assert_eq!((drawn.arrangements, drawn.every), (100, false));
    assert_eq!(drawn, verdict(&twelve, &few, 7));
    assert!(drawn.p.is_some_and(|p| p >= 0.01), "the real arrangement counts as one of them");
}
