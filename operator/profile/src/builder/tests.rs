//! Does a builder keep what it is given?

use super::*;
use crate::validate::validate;
use crate::view::{sample_types, total};

fn builder() -> ProfileBuilder {
    ProfileBuilder::new(ProfileKind::Cpu, 10, 5)
}

fn small(limits: BuilderLimits) -> ProfileBuilder {
    ProfileBuilder::with_limits(ProfileKind::Cpu, 10, 5, limits)
}

fn texts(profile: &Profile) -> Vec<&str> {
    profile.string_table.iter().map(String::as_str).collect()
}

#[test]
fn a_cpu_profile_has_counts_first_and_its_period() {
    let profile = builder().finish(7, &["hello"]);
    assert_eq!(sample_types(&profile), [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!((profile.period, profile.time_nanos, profile.duration_nanos), (10, 5, 7));
    assert!(texts(&profile).contains(&"hello"));
    assert_eq!(validate(&profile), Ok(()));
}

#[test]
fn every_kind_makes_a_valid_profile() {
    for kind in ProfileKind::ALL {
        let mut builder = ProfileBuilder::new(kind, 10, 5);
        let frame = Frame::named("main", "a.rs", 1);
        builder.add_hits(&[frame], 3, &[]).expect("a sample");
        let profile = builder.finish(1, &[]);
        assert_eq!(validate(&profile), Ok(()), "{kind}");
        assert_eq!(total(&profile, 0), 3, "{kind}");
    }
}

#[test]
fn equal_stacks_are_one_sample_and_labels_tell_them_apart() {
    let mut builder = builder();
    let stack = [Frame::named("leaf", "a.rs", 3), Frame::named("main", "a.rs", 9)];
    let (one, two) = (Label::text("thread", "1"), Label::number("thread", 1, "id"));
    builder.add_hits(&stack, 1, &[]).expect("a sample");
    builder.add_hits(&stack, 2, &[]).expect("a sample");
    builder.add_hits(&stack, 4, &[one, two]).expect("a sample");
    builder.add_hits(&stack, 8, &[two, one]).expect("a sample");
    let profile = builder.finish(1, &[]);
    let values: Vec<&[i64]> = profile.sample.iter().map(|s| s.value.as_slice()).collect();
    assert_eq!(values, [[3, 30], [12, 120]]);
    assert_eq!((profile.location.len(), profile.function.len()), (2, 2));
    assert_eq!(validate(&profile), Ok(()));
}

#[test]
fn inlined_functions_come_before_the_one_that_holds_them() {
    let mut builder = builder();
    let frame = Frame {
        inlined: vec![
            Line { function: "innermost", ..Line::default() },
            Line { function: "middle", ..Line::default() },
        ],
        ..Frame::named("outer", "a.rs", 3)
    };
    builder.add_hits(&[frame], 1, &[]).expect("a sample");
    let profile = builder.finish(1, &[]);
    let names: Vec<&str> = profile.location[0]
        .line
        .iter()
        .map(|line| &profile.function[line.function_id as usize - 1])
        .map(|function| profile.string_table[function.name as usize].as_str())
        .collect();
    assert_eq!(names, ["innermost", "middle", "outer"]);
}

#[test]
fn known_locations_add_up_like_frames() {
    let mut builder = builder();
    let mapping =
        builder.mapping(&MappingInfo { file: "/bin/app", memory_limit: 9, ..MappingInfo::default() });
    let frame = Frame::named("main", "a.rs", 3).at(4, Some(mapping));
    let location = builder.location(&frame);
    builder.add_locations(&[location], &[1, 10], &[]).expect("a sample");
    builder.add_hits(&[frame], 1, &[]).expect("a sample");
    let profile = builder.finish(1, &[]);
    assert_eq!(profile.sample.len(), 1);
    assert_eq!(profile.sample[0].value, [2, 20]);
    assert!(profile.mapping[0].has_functions);
}

#[test]
fn what_is_wrong_is_refused_and_adds_nothing() {
    let mut builder = builder();
    let frame = [Frame::named("main", "a.rs", 3)];
    let reserved = [Label::text("pprof::base", "x")];
    assert!(matches!(builder.add(&frame, &[1], &[]), Err(BuildError::ValueCount { have: 1, need: 2, .. })));
    assert_eq!(builder.add(&frame, &[1, -1], &[]), Err(BuildError::NegativeValue(-1)));
    assert!(matches!(builder.add(&frame, &[1, 1], &reserved), Err(BuildError::ReservedLabel(_))));
    assert_eq!(builder.add_locations(&[LocationId(9)], &[1, 1], &[]), Err(BuildError::UnknownLocation(9)));
    assert!(builder.is_empty());
    assert!(!builder.truncation().any());
}

#[test]
fn stacks_beyond_the_limit_keep_their_values_in_the_bucket() {
    let mut builder = small(BuilderLimits { stacks: 3, ..BuilderLimits::default() });
    for line in 0..10 {
        builder.add_hits(&[Frame::named("f", "a.rs", line)], 1, &[]).expect("a sample");
    }
    builder.add_hits(&[Frame::named("f", "a.rs", 0)], 5, &[]).expect("a known stack still fits");
    assert_eq!(builder.truncation().stacks, 8);
    let profile = builder.finish(1, &[]);
    assert_eq!(total(&profile, 0), 15);
    assert_eq!(profile.sample.len(), 3);
    assert_eq!(profile.sample[2].value, [8, 80]);
    assert!(texts(&profile).contains(&TRUNCATED));
    assert!(profile.string_table.iter().any(|text| text.contains("8 additions")));
    assert_eq!(validate(&profile), Ok(()));
}

#[test]
fn a_deep_stack_keeps_the_frames_next_to_the_leaf() {
    let mut builder = small(BuilderLimits { depth: 4, ..BuilderLimits::default() });
    let stack: Vec<Frame<'_>> = (0..10).map(|line| Frame::named("f", "a.rs", line)).collect();
    builder.add_hits(&stack, 1, &[]).expect("a sample");
    builder.add_hits(&stack[..4], 1, &[]).expect("a stack at the limit");
    assert_eq!(builder.truncation().frames, 7);
    let profile = builder.finish(1, &[]);
    let depths: Vec<usize> = profile.sample.iter().map(|s| s.location_id.len()).collect();
    assert_eq!(depths, [4, 4]);
    assert_ne!(profile.sample[0].location_id[3], profile.sample[1].location_id[3]);
    assert_eq!(profile.sample[0].location_id[..3], profile.sample[1].location_id[..3]);
}

#[test]
fn full_tables_cut_names_but_no_values() {
    let limits = BuilderLimits { strings: 4, locations: 3, string_length: 8, ..BuilderLimits::default() };
    let mut builder = small(limits);
    for number in 0..20 {
        let name = format!("f{number}");
        builder.add_hits(&[Frame::named(&name, "", 1)], 1, &[Label::text("k", &name)]).expect("a sample");
    }
    let cut = builder.truncation();
    assert_eq!((cut.names, cut.labels, cut.stacks), (18, 18, 0));
    let profile = builder.finish(1, &[]);
    assert_eq!(total(&profile, 0), 20);
    assert_eq!(validate(&profile), Ok(()));
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let mut builder = small(BuilderLimits { string_length: 8, ..BuilderLimits::default() });
    builder.add_hits(&[Frame::named("ääääääää", "", 1)], 1, &[]).expect("a sample");
    assert_eq!(builder.truncation().texts, 1);
    assert!(texts(&builder.finish(1, &[])).contains(&"ää…"));
}

#[test]
fn a_frame_without_a_name_is_an_address_or_unknown() {
    let mut builder = builder();
    builder.add_hits(&[Frame::unsymbolized(0x10, None), Frame::default()], 1, &[]).expect("a sample");
    let profile = builder.finish(1, &[]);
    assert!(profile.location[0].line.is_empty());
    assert_eq!(profile.location[0].address, 0x10);
    assert!(texts(&profile).contains(&"[unknown]"));
}

#[test]
fn what_a_symbolizer_says_is_inlined_is_bounded() {
    let mut builder = small(BuilderLimits { inlined: 2, ..BuilderLimits::default() });
    let inlined = vec![Line::default(); 1_000];
    let frame = Frame { inlined, ..Frame::named("outer", "", 1) };
    builder.add_hits(&[frame], 1, &[]).expect("a sample");
    assert_eq!(builder.truncation().frames, 998);
    assert_eq!(builder.finish(1, &[]).location[0].line.len(), 3);
}
