//! Does a capture say what its profile says?

use proptest::prelude::*;

use super::capture::{About, Call, FunctionUse, MAX_CALLS, MAX_FUNCTIONS, PodCapture, Side};
use crate::builder::{BuilderLimits, Frame, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::proto::Profile;
use crate::testing::{cpu, profiles};
use crate::top::top;

fn about() -> About {
    About {
        pod: "orders-0".into(),
        side: Side::New,
        moment: 0,
        pod_seconds: 10.0,
        cpu_seconds: Some(2.0),
        coverage: None,
    }
}

fn captured(profile: &Profile) -> PodCapture {
    PodCapture::of_profile(profile, about()).expect("a CPU profile")
}

fn call_names(capture: &PodCapture) -> Vec<(&str, &str)> {
    let name = |at: u32| capture.functions[at as usize].name.as_str();
    capture.calls.iter().map(|Call { caller, callee }| (name(*caller), name(*callee))).collect()
}

#[test]
fn functions_have_their_self_and_cumulative_time_and_who_calls_them() {
    let capture = captured(&cpu(&[(&["b", "a", "main"], 3), (&["a", "main"], 1), (&["main"], 2)]));
    assert_eq!((capture.samples, capture.value), (6, 60_000_000));
    let rows: Vec<(&str, &str, i64, i64)> =
        capture.functions.iter().map(|f| (f.name.as_str(), f.file.as_str(), f.own, f.cum)).collect();
    let wanted = [
        ("main", "main.rs", 20_000_000, 60_000_000),
        ("a", "a.rs", 10_000_000, 40_000_000),
        ("b", "b.rs", 30_000_000, 30_000_000),
    ];
    assert_eq!(rows, wanted);
    assert_eq!(call_names(&capture), [("main", "a"), ("a", "b")]);
}

#[test]
fn names_of_two_builds_meet_and_their_values_are_added() {
    let capture = captured(&cpu(&[
        (&["shop::add::h0123456789abcdef", "main"], 3),
        (&["shop::add::hfedcba9876543210", "main"], 2),
    ]));
    let add = capture.functions.iter().find(|f| f.name == "shop::add").expect("one function");
    assert_eq!((add.own, add.file.as_str()), (30_000_000, "shop::add::h0123456789abcdef.rs"));
}

#[test]
fn recursion_counts_once_and_calls_itself_no_more() {
    let capture = captured(&cpu(&[(&["f", "g", "f", "f", "main"], 4)]));
    let f = capture.functions.iter().find(|f| f.name == "f").expect("f");
    assert_eq!((f.own, f.cum), (40_000_000, 40_000_000));
    assert_eq!(call_names(&capture).len(), 3, "{:?}", call_names(&capture));
}

#[test]
fn only_cpu_time_is_compared() {
    let heap = ProfileBuilder::new(ProfileKind::Heap, 1, 0).finish(1, &[]);
    let error = PodCapture::of_profile(&heap, about()).expect_err("memory").to_string();
    assert!(error.contains("inuse_space/bytes") && error.ends_with("of the type cpu"), "{error}");
    assert!(PodCapture::of_profile(&Profile::default(), about()).is_err());
}

#[test]
fn a_profile_of_any_size_leaves_a_bounded_capture_of_its_heaviest_functions() {
    let limits = BuilderLimits { depth: 10_000, ..BuilderLimits::default() };
    let mut builder = ProfileBuilder::with_limits(ProfileKind::Cpu, 1, 0, limits);
    let names: Vec<String> = (0..9_000).map(|n| format!("f{n}")).collect();
    for part in names.chunks(3_000) {
        let frames: Vec<Frame<'_>> = part.iter().map(|name| Frame::named(name, "", 1)).collect();
        builder.add_hits(&frames, 100, &[]).expect("a deep stack");
    }
    builder.add_hits(&[Frame::named("rare", "", 1)], 0, &[]).expect("a sample");
    let capture = captured(&builder.finish(1, &[]));
    assert_eq!(capture.functions.len(), MAX_FUNCTIONS);
    assert!(capture.calls.len() <= MAX_CALLS && !capture.calls.is_empty());
}

#[test]
fn what_is_too_small_to_be_compared_is_left_out() {
    let capture = captured(&cpu(&[(&["rare", "main"], 1), (&["often", "main"], 9_999)]));
    let names: Vec<&str> = capture.functions.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["main", "often"]);
}

proptest! {
    /// Names and files of these profiles are the same in every build, so the rows have to be those of `top`.
    #[test]
    fn values_are_those_of_top(profile in profiles()) {
        let capture = captured(&profile);
        let top = top(&profile, 1, usize::MAX);
        prop_assert_eq!(capture.value, top.total);
        for FunctionUse { name, file, own, cum } in &capture.functions {
            let row = top.rows.iter().find(|row| row.name == *name && row.file == *file);
            prop_assert_eq!(row.map(|row| (row.self_value, row.cum_value)), Some((*own, *cum)));
            prop_assert!(*own <= *cum && *cum <= capture.value);
        }
        let own: i64 = capture.functions.iter().map(|f| f.own).sum();
        prop_assert!(own <= capture.value);
        let within = |call: &Call| (call.caller.max(call.callee) as usize) < capture.functions.len();
        prop_assert!(capture.calls.iter().all(within));
    }
}
