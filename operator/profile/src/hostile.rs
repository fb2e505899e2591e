//! Can untrusted bytes crash a reader? Property tests of all readers.

use proptest::prelude::*;
use prost::Message;

use crate::basis::{Basis, Side};
use crate::codec::{DecodeError, Limits, decode, decode_valid, encode};
use crate::merge::{Overlap, merge};
use crate::proto::Profile;
use crate::testing::profiles;
use crate::tree::{CallTree, Grower, TreeLimits};
use crate::validate::validate;

fn limits() -> Limits {
    Limits {
        compressed_bytes: 1 << 16,
        uncompressed_bytes: 1 << 18,
        samples: 1_000,
        strings: 1_000,
        string_length: 1_000,
        entries: 1_000,
        list_length: 100,
        memory_bytes: 1 << 20,
    }
}

/// Calls all readers of a profile; only checks that they return.
fn read_all(profile: &Profile) {
    let _ = validate(profile);
    for index in [0, 1, usize::MAX] {
        let top = crate::top::top(profile, index, 10);
        let _ = crate::top::render_top(&top);
        let _ = crate::fold::fold(profile, index);
        let _ = compared(profile, index).columns(5, Some(Basis::Absolute));
        let mut differ = crate::diff::Differ::default();
        differ.add(Side::After, profile, index, None);
        let _ = crate::diff::render_diff(&differ.finish(Basis::Share, crate::diff::Order::Own, 10));
        let _ = crate::view::total(profile, index);
    }
    let _ = crate::resolve::standing(profile, 2);
    let mut named = profile.clone();
    crate::resolve::name(&mut named, &names_of(&crate::resolve::lacking(profile)));
    let mut labelled = profile.clone();
    crate::labels::set_labels(&mut labelled, &[("pod", "p"), ("pprof::x", "y"), ("gone", "")]);
    let _ = merge([profile, &labelled], Overlap::Sequential);
}

/// A name for everything that lacks one.
fn names_of(lacking: &[crate::resolve::Lacking]) -> crate::resolve::Names {
    let name = |file: &crate::resolve::Lacking| {
        let mut names = crate::resolve::FileNames::default();
        let line =
            crate::builder::Line { function: "f", file: "f.c", line: 3, ..crate::builder::Line::default() };
        file.addresses.iter().for_each(|address| names.add(*address, true, &[line]));
        (file.build_id.clone(), names)
    };
    lacking.iter().map(name).collect()
}

/// The call tree of a profile compared with itself.
fn compared(profile: &Profile, index: usize) -> CallTree {
    let mut grower = Grower::new(TreeLimits { nodes: 20, steps: 100 });
    grower.add(Side::Base, profile, index, Some(1));
    grower.add(Side::After, profile, index, Some(1));
    grower.finish()
}

fn gzip(message: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(message).expect("memory takes bytes");
    gzip.finish().expect("memory takes bytes")
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(profile) = decode(&bytes, &limits()) {
            read_all(&profile);
        }
        if let Ok(profile) = decode(&gzip(&bytes), &limits()) {
            read_all(&profile);
        }
    }

    #[test]
    fn a_valid_profile_with_changed_bytes_is_taken_or_refused(
        profile in profiles(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut message = profile.encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if let Ok(profile) = decode(&message, &limits()) {
            read_all(&profile);
        }
        let _ = decode_valid(&message[..cut.index(message.len())], &limits());
    }

    #[test]
    fn wild_numbers_are_read_without_harm(profile in wild_profiles()) {
        read_all(&profile);
    }

    #[test]
    fn what_was_written_is_read_back(profile in profiles()) {
        let bytes = encode(&profile).expect("it encodes");
        let read = decode_valid(&bytes, &Limits::default()).expect("it decodes");
        prop_assert_eq!(&read, &profile);
        prop_assert_eq!(encode(&read).expect("it encodes"), bytes);
    }
}

/// Profiles of the right shape whose every number may point anywhere.
fn wild_profiles() -> impl Strategy<Value = Profile> {
    use crate::proto::{Function, Line, Location, Mapping, ValueType};
    let number = || prop_oneof![3 => 0..4_i64, 1 => any::<i64>()];
    let id = || prop_oneof![5 => 0..4_u64, 1 => any::<u64>()];
    let list = proptest::collection::vec::<BoxedStrategy<u64>>;
    let samples = proptest::collection::vec((list(id().boxed(), 0..5), number(), number()), 0..6);
    let tables = proptest::collection::vec((id(), id(), number()), 0..5);
    (samples, tables, number(), number()).prop_map(|(samples, tables, kind, time)| Profile {
        sample_type: vec![ValueType { r#type: kind, unit: kind }; 2],
        sample: samples.into_iter().map(|(ids, value, text)| wild_sample(ids, value, text)).collect(),
        mapping: tables
            .iter()
            .map(|&(id, start, text)| Mapping {
                id,
                memory_start: start,
                filename: text,
                ..Mapping::default()
            })
            .collect(),
        location: tables
            .iter()
            .map(|&(id, other, line)| Location {
                id,
                mapping_id: other,
                address: other,
                line: vec![Line { function_id: other, line, column: line }; 2],
                is_folded: line == 0,
            })
            .collect(),
        function: tables
            .iter()
            .map(|&(id, _, text)| Function {
                id,
                name: text,
                system_name: text,
                filename: text,
                start_line: text,
            })
            .collect(),
        string_table: vec![String::new(), "a".to_owned(), "pprof::b".to_owned()],
        time_nanos: time,
        duration_nanos: time,
        period: kind,
        ..Profile::default()
    })
}

fn wild_sample(location_id: Vec<u64>, value: i64, text: i64) -> crate::proto::Sample {
    let label = crate::proto::Label { key: text, str: value, num: value, num_unit: text };
    crate::proto::Sample { location_id, value: vec![value, text], label: vec![label] }
}

fn refused(bytes: &[u8]) -> DecodeError {
    decode_valid(bytes, &limits()).expect_err("these bytes must be refused")
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    // Eight times what may be unpacked; every deflate there is makes less than 64 KiB of it.
    let bomb = gzip(&vec![0; 2 << 20]);
    assert!(bomb.len() < limits().compressed_bytes);
    assert!(refused(&bomb).is_too_large());
    assert!(refused(&vec![0; 1 << 17]).is_too_large());
}

#[test]
fn small_bytes_that_grow_in_memory_are_refused() {
    let samples = [0x12_u8, 0x00].repeat(50_000);
    assert!(refused(&gzip(&samples)).is_too_large());
    let strings = [0x32_u8, 0x00].repeat(50_000);
    assert!(refused(&gzip(&strings)).is_too_large());
    let comments = [0x68_u8, 0x00].repeat(100_000);
    assert!(refused(&gzip(&comments)).is_too_large());
}

#[test]
fn a_long_string_and_a_long_stack_are_refused() {
    let long = Profile { string_table: vec![String::new(), "x".repeat(1_001)], ..Profile::default() };
    let error = refused(&encode(&long).expect("it encodes"));
    assert_eq!(
        error.to_string(),
        "the profile has 1001 bytes in one string, the limit is 1000: send shorter slices"
    );
    let sample = crate::proto::Sample { location_id: vec![1; 101], ..Default::default() };
    let deep = Profile { sample: vec![sample], ..Profile::default() };
    assert!(refused(&encode(&deep).expect("it encodes")).is_too_large());
}

#[test]
fn broken_gzip_is_named_as_such() {
    let whole = gzip(b"");
    assert!(matches!(refused(&whole[..whole.len() - 3]), DecodeError::Gzip(_)));
    let mut two = whole.clone();
    two.extend_from_slice(&whole);
    assert!(matches!(refused(&two), DecodeError::Trailing(20)));
}

#[test]
fn what_breaks_a_rule_is_decoded_but_not_taken_as_valid() {
    let headless = encode(&Profile::default()).expect("it encodes");
    assert!(decode(&headless, &limits()).is_ok());
    let error = refused(&headless);
    assert!(matches!(error, DecodeError::Invalid(_)) && !error.is_too_large());
    let sentence = error.to_string();
    assert!(sentence.starts_with("the profile breaks a rule of pprof: string_table[0]"), "{sentence}");
}
