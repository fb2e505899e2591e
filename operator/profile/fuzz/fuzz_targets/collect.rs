//! Stacks from a collector that read a hostile process: does the builder stay within bounds and lose nothing?

#![no_main]

use fleetprof_profile::{BuilderLimits, Frame, Label, ProfileBuilder, ProfileKind, total, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stacks: Vec<(Vec<(String, String, i64, Option<u64>)>, u8, String)>| {
    let limits = BuilderLimits {
        stacks: 4,
        depth: 3,
        stack_entries: 8,
        inlined: 1,
        locations: 6,
        mappings: 2,
        strings: 8,
        string_bytes: 64,
        string_length: 16,
        labels: 2,
    };
    let mut builder = ProfileBuilder::with_limits(ProfileKind::Cpu, 10, 0, limits);
    let mut expected = 0_i64;
    for (stack, hits, label) in &stacks {
        let frames: Vec<Frame<'_>> = stack
            .iter()
            .map(|(function, file, line, address)| Frame { address: *address, ..Frame::named(function, file, *line) })
            .collect();
        let labels = [Label::text("thread", label)];
        if builder.add_hits(&frames, u32::from(*hits), &labels).is_ok() {
            expected += i64::from(*hits);
        }
    }
    let profile = builder.finish(1, &[]);
    assert_eq!(validate(&profile), Ok(()));
    assert_eq!(total(&profile, 0), expected);
    assert!(profile.sample.len() <= limits.stacks);
});
