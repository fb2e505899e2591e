//! Profiles for tests: small ones written by hand, and arbitrary ones.

use proptest::prelude::*;

use crate::builder::{Frame, Label, Line, MappingInfo, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::proto::Profile;
use crate::view::{Symbols, View};

/// 10 ms.
pub(crate) const PERIOD: i64 = 10_000_000;

/// A CPU profile of stacks of function names, leaf first, with hits; every function `f` is in `f.rs`, line 7.
pub(crate) fn cpu(stacks: &[(&[&str], u32)]) -> Profile {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, 1_000);
    for (stack, hits) in stacks {
        let files: Vec<String> = stack.iter().map(|name| format!("{name}.rs")).collect();
        let frames: Vec<Frame<'_>> =
            stack.iter().zip(&files).map(|(name, file)| Frame::named(name, file, 7)).collect();
        builder.add_hits(&frames, *hits, &[]).expect("a sample");
    }
    builder.finish(10_000_000_000, &[])
}

/// One frame of an arbitrary stack: which function, which line, whether native, what is inlined.
#[derive(Debug, Clone)]
struct ArbitraryFrame {
    function: usize,
    line: i64,
    address: Option<u64>,
    inlined: Option<usize>,
}

const NAMES: [&str; 6] = ["main", "run", "größe", "a::b<T>", "", "x;y"];
const FILES: [&str; 3] = ["a.rs", "b.rs", ""];

fn frame() -> impl Strategy<Value = ArbitraryFrame> {
    let address = proptest::option::of(0x1000_u64..0x1010);
    let inlined = proptest::option::of(0..NAMES.len());
    (0..NAMES.len(), 0..4_i64, address, inlined)
        .prop_map(|(function, line, address, inlined)| ArbitraryFrame { function, line, address, inlined })
}

type ArbitrarySample = (Vec<ArbitraryFrame>, u32, Option<u8>);

/// A valid CPU profile with recursion, inlined frames, unsymbolized frames and labels.
pub(crate) fn profiles() -> impl Strategy<Value = Profile> {
    let label = proptest::option::of(0..3_u8);
    let sample = (proptest::collection::vec(frame(), 0..6), 0..50_u32, label);
    let samples = proptest::collection::vec(sample, 0..20);
    (samples, 0..4_u64, 0..1_000_i64).prop_map(|(samples, slide, time)| build(&samples, slide, time))
}

fn build(samples: &[ArbitrarySample], slide: u64, time: i64) -> Profile {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, PERIOD, time);
    let start = 0x1000 + slide * 0x1_0000;
    let mapping = builder.mapping(&MappingInfo {
        memory_start: start,
        memory_limit: start + 0x1000,
        file_offset: 0,
        file: "/app/main",
        build_id: "abcdef",
    });
    for (stack, hits, label) in samples {
        let frames: Vec<Frame<'_>> = stack
            .iter()
            .map(|frame| {
                let native = frame.address.map(|address| address + slide * 0x1_0000);
                let inlined = frame.inlined.map(|name| Line {
                    function: NAMES[name],
                    file: FILES[name % FILES.len()],
                    line: frame.line + 1,
                    ..Line::default()
                });
                Frame {
                    address: native,
                    mapping: native.map(|_| mapping),
                    inlined: inlined.into_iter().collect(),
                    ..Frame::named(NAMES[frame.function], FILES[frame.function % 3], frame.line)
                }
            })
            .collect();
        let text = label.map(|label| format!("t{label}"));
        let labels: Vec<Label<'_>> = text.iter().map(|text| Label::text("thread", text)).collect();
        builder.add_hits(&frames, *hits, &labels).expect("a sample");
    }
    builder.finish(10_000_000_000, &["made by a test"])
}

/// A profile as a sorted list of texts, so that two with other ids or another order compare equal when they
/// say the same.
pub(crate) fn canonical(profile: &Profile) -> Vec<String> {
    let symbols = Symbols::new(profile);
    let view = View::new(profile);
    let mut lines: Vec<String> = profile
        .sample
        .iter()
        .map(|sample| {
            let frames: Vec<String> = symbols
                .frames(sample)
                .map(|place| format!("{:?}:{}", symbols.names[place.name], place.line))
                .collect();
            let offsets: Vec<u64> = sample
                .location_id
                .iter()
                .filter_map(|id| profile.location.iter().find(|location| location.id == *id))
                .map(|location| match view.mapping(location.mapping_id) {
                    Some(mapping) => location.address.wrapping_sub(mapping.memory_start),
                    None => location.address,
                })
                .collect();
            let mut labels: Vec<String> = sample
                .label
                .iter()
                .map(|label| format!("{}={}{}", view.text(label.key), view.text(label.str), label.num))
                .collect();
            labels.sort();
            format!("{frames:?} {offsets:?} {labels:?} {:?}", sample.value)
        })
        .collect();
    lines.sort();
    lines
}
