use proptest::prelude::*;

use super::*;
use crate::builder::{Frame, Line as SourceLine, MappingInfo, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::testing::{PERIOD, profiles};
use crate::validate::validate;
use crate::view::{Symbols, total};

const ID: &str = "00112233445566778899aabbccddeeff00112233";

/// A profile of frames at 0x1000, 0x1001, …, each in a sample of its own with as many hits.
fn profile(build_id: &str, frames: &[(Frame<'_>, u32)]) -> Profile {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 0);
    let mapping = builder.mapping(&MappingInfo {
        memory_start: 0x1000,
        memory_limit: 0x9000,
        file: "/app/shop",
        build_id,
        ..MappingInfo::default()
    });
    for (address, (frame, hits)) in (0x1000..).zip(frames) {
        builder.add_hits(&[frame.clone().at(address, Some(mapping))], *hits, &[]).expect("a sample");
    }
    builder.finish(1, &[])
}

fn line<'a>(function: &'a str, file: &'a str, line: i64) -> SourceLine<'a> {
    SourceLine { function, file, line, ..SourceLine::default() }
}

fn names(places: &[(u64, bool, &[SourceLine<'_>])]) -> Names {
    let mut file = FileNames::default();
    places.iter().for_each(|(address, exact, lines)| file.add(*address, *exact, lines));
    Names::from([(ID.to_owned(), file)])
}

/// The functions of each sample with file and line, innermost first.
fn shown(profile: &Profile) -> Vec<Vec<String>> {
    let symbols = Symbols::new(profile);
    let place = |place: crate::view::Place| {
        let (name, file) = &symbols.names[place.name];
        format!("{name} {file}:{}", place.line)
    };
    profile.sample.iter().map(|sample| symbols.frames(sample).map(place).collect()).collect()
}

#[test]
fn only_a_build_id_may_become_part_of_a_path() {
    assert!(is_build_id(ID) && is_build_id("0123456789abcdef"));
    let long = "ab".repeat(33);
    for text in
        ["", "ab", "../../etc/passwd", "ABCDEF0123", "abcdef012", "0123456789abcdeg", "01234567/89", &long]
    {
        assert!(!is_build_id(text), "{text}");
    }
}

#[test]
fn what_lacks_a_name_a_file_or_a_line_is_asked_for() {
    let frames = [
        (Frame::named("done", "done.c", 3), 1),
        (Frame::default(), 1),
        (Frame::named("exported", "", 0), 1),
        (Frame::named("lines", "lines.c", 0), 1),
    ];
    let asked = lacking(&profile(ID, &frames));
    assert_eq!(
        asked,
        [Lacking { build_id: ID.to_owned(), addresses: vec![0x1001, 0x1002, 0x1003], unnamed: 1 }]
    );
    assert_eq!(lacking(&profile("", &frames)), [], "addresses without a build id are those of the process");
    assert_eq!(lacking(&profile("../../../../etc/passwd", &frames)), []);
}

#[test]
fn names_fill_what_is_lacking_and_leave_the_rest() {
    let frames = [
        (Frame::named("done", "done.c", 3), 1),
        (Frame::default(), 1),
        (Frame::named("exported", "", 0), 1),
        (Frame::named("other", "", 0), 1),
    ];
    let mut named = profile(ID, &frames);
    assert!(!named.mapping[0].has_functions);
    let whole = [line("inlined", "a.h", 7), line("outer", "a.c", 20)];
    name(
        &mut named,
        &names(&[
            (0x1000, true, &[line("wrong", "wrong.c", 1)]),
            (0x1001, true, &whole),
            (0x1002, true, &[line("exported_really", "b.c", 5)]),
            (0x1003, false, &[line("a_symbol", "", 0)]),
            (0x7000, true, &[line("nobody", "n.c", 1)]),
        ]),
    );
    assert_eq!(
        shown(&named),
        [
            vec!["done done.c:3"],
            vec!["inlined a.h:7", "outer a.c:20"],
            vec!["exported_really b.c:5"],
            vec!["other :0"],
        ]
    );
    assert_eq!(validate(&named), Ok(()));
    let mapping = &named.mapping[0];
    assert_eq!((mapping.has_functions, mapping.has_line_numbers), (true, false), "one has no line");
}

#[test]
fn a_symbol_alone_is_better_than_none() {
    let mut named = profile(ID, &[(Frame::default(), 1)]);
    name(&mut named, &names(&[(0x1000, false, &[line("a_symbol", "", 0)])]));
    assert_eq!(shown(&named), [["a_symbol :0"]]);
}

#[test]
fn one_function_at_two_addresses_is_one_function() {
    let mut named = profile(ID, &[(Frame::default(), 1), (Frame::default(), 1)]);
    let lines = [line("work", "w.c", 4)];
    name(&mut named, &names(&[(0x1000, true, &lines), (0x1001, true, &lines)]));
    assert_eq!((named.function.len(), validate(&named)), (1, Ok(())));
}

#[test]
fn the_names_of_a_file_stay_within_bounds() {
    let mut file = FileNames::default();
    for address in 0..100_000_u64 {
        let name = format!("{address:05}{}", "x".repeat(5_000));
        file.add(address, true, &vec![line(&name, "a.c", 3); 100]);
    }
    assert!((12 << 20..13 << 20).contains(&file.memory()), "{}", file.memory());
    let addresses: Vec<u64> = (0..100_000).collect();
    assert!(file.answers(&addresses), "names are cut, and functions at one address are limited");
}

#[test]
fn an_answer_that_names_a_function_without_a_text_is_refused() {
    let mut file = FileNames::default();
    file.add(0x1000, true, &[line("", "a.c", 3)]);
    assert!(file.is_empty());
    file.add(0x1000, true, &[line("f", "a.c", 3)]);
    file.add(0x0fff, true, &[line("g", "a.c", 3)]);
    assert_eq!((file.len(), file.answers(&[0x1000])), (1, true), "addresses come in order");
    assert!(!file.answers(&[0x1001]), "nobody asked for it");
    let hostile = r#"{"texts":["f"],"places":[{"address":4096,"exact":true,"lines":[
        {"function":0,"system_name":9,"file":0,"line":1}]}]}"#;
    let hostile: FileNames = serde_json::from_str(hostile).expect("it has the right shape");
    assert!(!hostile.answers(&[0x1000]));
}

#[test]
fn the_standing_weighs_frames_and_names_what_lacks() {
    let seen = standing(&profile(ID, &[(Frame::named("done", "done.c", 3), 1), (Frame::default(), 2)]), 5);
    assert_eq!(seen.named, Some(33));
    assert_eq!(seen.missing, [Missing { file: "/app/shop".to_owned(), build_id: ID.to_owned() }]);
    let all = standing(&profile(ID, &[(Frame::named("done", "", 0), 1)]), 5);
    assert_eq!(all, Standing { named: Some(100), missing: Vec::new() });
    assert_eq!(
        standing(&crate::testing::cpu(&[(&["main"], 1)]), 5).named,
        None,
        "no native code, nothing to tell"
    );
    assert_eq!(standing(&Profile::default(), 5), Standing::default());
}

fn places() -> impl Strategy<Value = Names> {
    let lines = proptest::collection::vec(("[a-c]{0,2}", "[a-c]{0,2}", 0..3_i64), 0..70);
    let place = (0x1000_u64..0x1010, any::<bool>(), lines);
    proptest::collection::vec(place, 0..20).prop_map(|mut places| {
        places.sort_by_key(|(address, ..)| *address);
        let mut file = FileNames::default();
        for (address, exact, lines) in &places {
            let lines: Vec<_> = lines.iter().map(|(name, path, at)| line(name, path, *at)).collect();
            file.add(*address, *exact, &lines);
        }
        Names::from([("abcdef01".to_owned(), file)])
    })
}

/// An arbitrary profile whose build id can be asked for.
fn with_id() -> impl Strategy<Value = Profile> {
    profiles().prop_map(|mut profile| {
        profile.string_table.iter_mut().filter(|text| *text == "abcdef").for_each(|text| text.push_str("01"));
        profile
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn naming_keeps_a_profile_valid_and_its_sums(mut profile in with_id(), names in places()) {
        let (before, sums) = (standing(&profile, 5), total(&profile, 0));
        let asked: Vec<Lacking> = lacking(&profile);
        name(&mut profile, &names);
        prop_assert_eq!(validate(&profile), Ok(()));
        prop_assert_eq!(total(&profile, 0), sums);
        prop_assert!(standing(&profile, 5).named >= before.named);
        // What is complete is not asked for again, and nothing that was complete is asked for now.
        for file in lacking(&profile) {
            let old = asked.iter().find(|old| old.build_id == file.build_id).expect("it lacked something before");
            prop_assert!(file.addresses.iter().all(|address| old.addresses.contains(address)));
        }
    }

    #[test]
    fn naming_twice_is_naming_once(mut profile in with_id(), names in places()) {
        name(&mut profile, &names);
        let once = profile.clone();
        name(&mut profile, &names);
        prop_assert_eq!(once, profile);
    }

    #[test]
    fn what_crosses_between_processes_is_the_same(names in places()) {
        for file in names.values() {
            let text = serde_json::to_string(file).expect("it is written");
            let read: FileNames = serde_json::from_str(&text).expect("it is read");
            prop_assert_eq!(read.len(), file.len());
            let all: Vec<u64> = (0x1000..0x1010).collect();
            prop_assert!(read.answers(&all));
        }
    }
}
