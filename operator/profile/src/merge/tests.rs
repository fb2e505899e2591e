//! Does a merge lose or invent anything?

use proptest::prelude::*;

use super::{MergeError, Merger, Overlap, merge};
use crate::builder::{Frame, Label, MappingInfo, ProfileBuilder};
use crate::codec::encode;
use crate::kind::ProfileKind;
use crate::labels::set_labels;
use crate::proto::Profile;
use crate::testing::{PERIOD, canonical, cpu, profiles};
use crate::top::{Top, top};
use crate::validate::validate;
use crate::view::total;

#[test]
fn equal_stacks_are_added_up_and_functions_stand_once() {
    let one = cpu(&[(&["leaf", "main"], 2), (&["main"], 1)]);
    let two = cpu(&[(&["leaf", "main"], 3), (&["other"], 4)]);
    let merged = merge([&one, &two], Overlap::Sequential).expect("they merge");
    assert_eq!(
        canonical(&merged),
        canonical(&cpu(&[(&["leaf", "main"], 5), (&["main"], 1), (&["other"], 4)]))
    );
    assert_eq!(merged.function.len(), 3);
    assert_eq!(merged.duration_nanos, 20_000_000_000);
}

#[test]
fn samples_keep_the_trace_and_the_span_that_they_are_of() {
    let slice = |span: &str, hits| {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 1);
        let labels =
            [Label::text("span_id", span), Label::text("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")];
        builder.add_hits(&[Frame::named("work", "main.rs", 1)], hits, &labels).expect("a sample");
        let mut slice = builder.finish(10, &[]);
        set_labels(&mut slice, &[("pod", "orders-1")]);
        slice
    };
    let slices = [slice("00f067aa0ba902b7", 1), slice("00f067aa0ba902b8", 2), slice("00f067aa0ba902b7", 4)];
    let merged = merge(&slices, Overlap::Sequential).expect("they merge");
    let text = |index: i64| merged.string_table[usize::try_from(index).expect("an index")].as_str();
    let mut found: Vec<(Vec<(&str, &str)>, i64)> = Vec::new();
    for sample in &merged.sample {
        let mut labels: Vec<_> = sample.label.iter().map(|l| (text(l.key), text(l.str))).collect();
        labels.sort_unstable();
        found.push((labels, sample.value[0]));
    }
    let of =
        |span| vec![("pod", "orders-1"), ("span_id", span), ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")];
    assert_eq!(found, [(of("00f067aa0ba902b7"), 5), (of("00f067aa0ba902b8"), 2)]);
}

#[test]
fn memory_grows_with_what_is_new_alone() {
    let (one, other) = (cpu(&[(&["leaf", "main"], 2)]), cpu(&[(&["another leaf", "main"], 2)]));
    let mut merger = Merger::new(Overlap::Sequential);
    merger.add(&one).expect("it fits");
    let first = merger.memory();
    merger.add(&one).expect("it fits");
    assert!(first > 200 && merger.memory() == first, "{first} {}", merger.memory());
    merger.add(&other).expect("it fits");
    assert!(merger.memory() > first);
}

#[test]
fn targets_at_the_same_time_last_as_long_as_the_longest() {
    let one = cpu(&[(&["main"], 1)]);
    let merged = merge([&one, &one], Overlap::Parallel).expect("they merge");
    assert_eq!(merged.duration_nanos, one.duration_nanos);
    assert_eq!(merged.time_nanos, one.time_nanos);
}

#[test]
fn pods_stay_apart_by_their_labels() {
    let (mut one, mut two) = (cpu(&[(&["main"], 1)]), cpu(&[(&["main"], 1)]));
    set_labels(&mut one, &[("pod", "cart-0")]);
    set_labels(&mut two, &[("pod", "cart-1")]);
    let merged = merge([&one, &two], Overlap::Parallel).expect("they merge");
    assert_eq!(merged.sample.len(), 2);
}

#[test]
fn what_counts_other_things_is_refused_and_leaves_the_merger_usable() {
    let cpu = cpu(&[(&["main"], 1)]);
    let heap = ProfileBuilder::new(ProfileKind::Heap, 1, 0).finish(0, &[]);
    let error = merge([&cpu, &heap], Overlap::Parallel).expect_err("cpu and heap");
    assert!(error.to_string().contains("inuse_space/bytes"), "{error}");
    assert_eq!(merge([], Overlap::Parallel), Err(MergeError::Nothing));
    assert_eq!(Merger::new(Overlap::Parallel).encode(), Err(MergeError::Nothing));

    let mut merger = super::Merger::new(Overlap::Sequential);
    merger.add(&cpu).expect("the first");
    merger.add(&heap).expect_err("another type");
    merger.add(&cpu).expect("the second");
    assert_eq!(total(&merger.finish().expect("two slices"), 0), 2);
}

fn native(start: u64) -> Profile {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 0);
    let mapping = builder.mapping(&MappingInfo {
        memory_start: start,
        memory_limit: start + 0x2000,
        file: "/app/main",
        ..MappingInfo::default()
    });
    let frame = Frame::unsymbolized(start + 0x123, Some(mapping));
    builder.add_hits(&[frame], 1, &[]).expect("a sample");
    builder.finish(1, &[])
}

#[test]
fn two_processes_with_different_layouts_meet() {
    let (low, high) = (native(0x5000_0000), native(0x7000_0000));
    for pair in [[&low, &high], [&high, &low]] {
        let merged = merge(pair, Overlap::Parallel).expect("they merge");
        assert_eq!((merged.sample.len(), merged.location.len(), merged.mapping.len()), (1, 1, 1));
        assert_eq!(total(&merged, 0), 2);
        let mapping = &merged.mapping[0];
        assert_eq!((mapping.memory_start, mapping.memory_limit), (0x5000_0000, 0x5000_2000));
        assert_eq!(merged.location[0].address, 0x5000_0123, "whichever came first");
    }
}

#[test]
fn slices_of_earlier_versions_take_the_addresses_of_newer_ones() {
    let (running, linked) = (native(0x5555_5555_4000), native(0x1000));
    let twice = merge([&running, &running], Overlap::Sequential).expect("they merge");
    assert_eq!(twice.location[0].address, 0x5555_5555_4123, "alone they stay as they are");
    let merged = merge([&twice, &linked], Overlap::Sequential).expect("they merge");
    assert_eq!((merged.location.len(), merged.location[0].address), (1, 0x1123));
    assert_eq!(validate(&merged), Ok(()));
}

#[test]
fn an_unknown_address_stays_unknown() {
    let mut without = native(0x7000_0000);
    without.location[0].address = 0;
    let merged = merge([&without, &native(0x1000)], Overlap::Parallel).expect("they merge");
    let addresses: Vec<u64> = merged.location.iter().map(|location| location.address).collect();
    assert_eq!(addresses, [0, 0x1123]);
}

fn by_function(top: &Top) -> Vec<(String, String, i64, i64)> {
    let mut rows: Vec<_> = top
        .rows
        .iter()
        .map(|row| (row.name.clone(), row.file.clone(), row.self_value, row.cum_value))
        .collect();
    rows.sort();
    rows
}

fn added(one: &Top, other: &Top) -> Vec<(String, String, i64, i64)> {
    let mut sums = std::collections::BTreeMap::new();
    for (name, file, own, cum) in by_function(one).into_iter().chain(by_function(other)) {
        let sum = sums.entry((name, file)).or_insert((0, 0));
        *sum = (sum.0 + own, sum.1 + cum);
    }
    sums.into_iter().map(|((name, file), (own, cum))| (name, file, own, cum)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_does_not_matter(one in profiles(), two in profiles()) {
        let forth = merge([&one, &two], Overlap::Sequential).expect("they merge");
        let back = merge([&two, &one], Overlap::Sequential).expect("they merge");
        prop_assert_eq!(canonical(&forth), canonical(&back));
        prop_assert_eq!(forth.duration_nanos, back.duration_nanos);
        prop_assert_eq!(forth.time_nanos, back.time_nanos);
    }

    #[test]
    fn grouping_does_not_matter(one in profiles(), two in profiles(), three in profiles()) {
        let left = merge([&one, &two], Overlap::Sequential).expect("they merge");
        let left = merge([&left, &three], Overlap::Sequential).expect("they merge");
        let all = merge([&one, &two, &three], Overlap::Sequential).expect("they merge");
        prop_assert_eq!(canonical(&left), canonical(&all));
    }

    #[test]
    fn a_merge_is_valid_and_keeps_every_sum(one in profiles(), two in profiles()) {
        let merged = merge([&one, &two], Overlap::Sequential).expect("they merge");
        prop_assert_eq!(validate(&merged), Ok(()));
        for index in 0..2 {
            prop_assert_eq!(total(&merged, index), total(&one, index) + total(&two, index));
        }
    }

    #[test]
    fn a_merge_is_encoded_as_the_merged_profile_is(one in profiles(), two in profiles()) {
        let merger = || {
            let mut merger = Merger::new(Overlap::Sequential);
            [&one, &two].into_iter().try_for_each(|profile| merger.add(profile)).expect("they merge");
            merger
        };
        let profile = merger().finish().expect("two were added");
        prop_assert_eq!(merger().encode().expect("it encodes"), encode(&profile).expect("it encodes"));
    }

    #[test]
    fn top_of_a_merge_is_the_sum_of_tops(one in profiles(), two in profiles()) {
        let merged = merge([&one, &two], Overlap::Sequential).expect("they merge");
        let sum = added(&top(&one, 1, usize::MAX), &top(&two, 1, usize::MAX));
        prop_assert_eq!(by_function(&top(&merged, 1, usize::MAX)), sum);
    }

    #[test]
    fn a_merge_of_one_says_the_same(one in profiles()) {
        let merged = merge([&one], Overlap::Sequential).expect("it merges");
        let counted = |profile: &Profile| {
            let mut profile = profile.clone();
            profile.sample.retain(|sample| sample.value.iter().any(|value| *value != 0));
            canonical(&profile)
        };
        prop_assert_eq!(counted(&merged), counted(&one));
    }
}
