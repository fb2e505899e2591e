//! Does `go tool pprof` read what we write as we mean it?

#![allow(clippy::expect_used)]

mod support;

use fleetprof_profile::{
    Frame, Label, Limits, MappingInfo, Overlap, Profile, ProfileBuilder, ProfileKind, decode_valid,
    default_value_index, merge, sample_types, set_labels, top, total,
};
use support::{PERIOD, Stored, our_top, pprof, pprof_text, pprof_top, rich};

const BY_FILE: [&str; 2] = ["-filefunctions", "-unit=ms"];

#[test]
fn every_function_has_the_values_and_percents_that_pprof_computes() {
    let profile = rich(1, 0);
    let theirs = pprof_top(&BY_FILE, &[&Stored::new(&profile)]);
    let ours = our_top(&top(&profile, 1, usize::MAX), 1_000_000);
    assert_eq!(ours.len(), 7);
    assert_eq!(ours, theirs);
}

#[test]
fn counts_agree_as_well_as_times() {
    let profile = rich(3, 0);
    let theirs = pprof_top(&["-filefunctions", "-sample_index=samples"], &[&Stored::new(&profile)]);
    assert_eq!(our_top(&top(&profile, 0, usize::MAX), 1), theirs);
}

#[test]
fn the_line_of_a_function_is_the_one_pprof_finds_hottest() {
    let profile = rich(1, 0);
    let lines = pprof_top(&["-lines", "-unit=ms"], &[&Stored::new(&profile)]);
    let ours = top(&profile, 1, usize::MAX);
    let mut compared = 0;
    for row in ours.rows.iter().filter(|row| row.self_value > 0 && !row.file.is_empty()) {
        let function = format!("{} {}:", row.name, row.file);
        let (hottest, _) = lines
            .iter()
            .filter(|(place, _)| place.starts_with(&function))
            .max_by_key(|(_, theirs)| theirs.own)
            .expect("pprof knows the function");
        assert_eq!(*hottest, format!("{function}{}", row.line));
        compared += 1;
    }
    assert_eq!(compared, 4);
}

#[test]
fn the_raw_listing_shows_every_part_as_it_was_given() {
    let mut profile = rich(1, 0);
    set_labels(&mut profile, &[("pod", "cart-0"), ("namespace", "shop")]);
    let raw = pprof_text(&["-raw"], &[&Stored::new(&profile)]);
    for expected in [
        "PeriodType: cpu nanoseconds",
        "Period: 10000000",
        "Duration: 10s",
        "samples/count cpu/nanoseconds[dflt]",
        "made for the oracle",
        "/app/cart aa11 [FN][FL][LN][IN]",
        "/lib/libc.so.6 bb22 ",
        "hash::mix mix.rs:7:0 s=0",
        "hash::finish hash.rs:8:0 s=0",
        "lookup lookup.rs:9:0 s=0",
        "main main.rs:10:0 s=3",
        "0x7f000123 M=2",
    ] {
        assert!(raw.contains(expected), "{expected} is missing in\n{raw}");
    }
    let labelled = raw.matches("namespace:[shop] pod:[cart-0]").count();
    assert_eq!(labelled, profile.sample.len(), "{raw}");
}

#[test]
fn a_fleet_is_focused_by_the_labels_of_its_samples() {
    let (mut one, mut two) = (rich(1, 0), rich(2, 0));
    set_labels(&mut one, &[("pod", "cart-0")]);
    set_labels(&mut two, &[("pod", "cart-1")]);
    let merged = merge([&one, &two], Overlap::Parallel).expect("they merge");
    let focused = ["-filefunctions", "-unit=ms", "-tagfocus=pod=cart-1", "-relative_percentages"];
    let theirs = pprof_top(&focused, &[&Stored::new(&merged)]);
    assert_eq!(our_top(&top(&two, 1, usize::MAX), 1_000_000), theirs);
}

#[test]
fn a_merge_is_what_pprof_merges() {
    let (one, two) = (rich(1, 0), rich(4, 0x1000_0000));
    let theirs = pprof(&["-proto"], &[&Stored::new(&one), &Stored::new(&two)]);
    let theirs = decode_valid(&theirs, &Limits::default()).expect("what pprof wrote is valid");
    let ours = merge([&one, &two], Overlap::Sequential).expect("they merge");
    for index in 0..2 {
        assert_eq!(total(&ours, index), total(&theirs, index));
        assert_eq!(top(&ours, index, 99).rows, top(&theirs, index, 99).rows);
    }
    let sizes = |profile: &Profile| {
        let Profile { sample, mapping, location, function, .. } = profile;
        (sample.len(), mapping.len(), location.len(), function.len())
    };
    assert_eq!(sizes(&ours), sizes(&theirs));
    assert_eq!(ours.duration_nanos, theirs.duration_nanos);
    assert_eq!((ours.time_nanos, ours.period), (theirs.time_nanos, theirs.period));
}

#[test]
fn a_mapping_with_one_location_without_a_name_is_left_to_resolvers() {
    let slice = |frame: Frame<'static>| {
        let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 0);
        let program = MappingInfo { memory_limit: 0x9000, file: "/app/cart", ..MappingInfo::default() };
        let mapping = builder.mapping(&MappingInfo { build_id: "aa11", ..program });
        builder.add_hits(&[frame.at(0x1230, Some(mapping))], 1, &[]).expect("a sample");
        builder.finish(1, &[])
    };
    let (named, nameless) = (slice(Frame::named("main", "main.rs", 1)), slice(Frame::default()));
    let raw = |profile: &Profile| pprof_text(&["-raw"], &[&Stored::new(profile)]);
    assert!(raw(&named).contains("/app/cart aa11 [FN][FL][LN][IN]"), "{}", raw(&named));
    for pair in [[&named, &nameless], [&nameless, &named]] {
        let merged = raw(&merge(pair, Overlap::Sequential).expect("they merge"));
        assert!(merged.contains("/app/cart aa11 \n") && !merged.contains("[FN]"), "{merged}");
    }
}

#[test]
fn pprof_shows_every_kind_with_the_value_we_mean_first() {
    for kind in ProfileKind::ALL {
        let mut builder = ProfileBuilder::new(kind, 1_000_000, 1_000);
        let size = [Label::number("bytes", 64, "bytes")];
        builder.add_hits(&[Frame::named("main", "main.rs", 1)], 6, &size).expect("a sample");
        let profile = builder.finish(1_000_000_000, &[]);
        let shown = pprof_text(&["-top"], &[&Stored::new(&profile)]);
        let (first, _) = sample_types(&profile)[default_value_index(&profile)];
        assert!(shown.contains(&format!("Type: {first}\n")), "{kind}:\n{shown}");
        assert!(shown.contains("100%  main"), "{kind}:\n{shown}");
    }
}

#[test]
fn what_was_cut_is_shown_as_truncated() {
    let limits = fleetprof_profile::BuilderLimits { stacks: 2, ..Default::default() };
    let mut builder = ProfileBuilder::with_limits(ProfileKind::Cpu, PERIOD, 0, limits);
    for line in 0..10 {
        builder.add_hits(&[Frame::named("f", "a.rs", line)], 1, &[]).expect("a sample");
    }
    let theirs = pprof_top(&BY_FILE, &[&Stored::new(&builder.finish(1, &[]))]);
    assert_eq!(theirs["[truncated]"].own, 90);
    assert_eq!(theirs["f a.rs"].own, 10);
}
