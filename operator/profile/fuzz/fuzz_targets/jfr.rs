//! A recording that a Java process wrote: is it read or refused, and is what was read a sound profile?

#![no_main]

use fleetprof_profile::read::jfr::{Limits, read};
use fleetprof_profile::{ProfileKind, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Random bytes are hardly ever a header, so that one with the right sizes stands before them.
    let mut recording = b"FLR\0\0\x02\0\x01".to_vec();
    let size = 68 + bytes.len() as u64;
    recording.extend_from_slice(&size.to_be_bytes());
    recording.extend_from_slice(&[0; 8]);
    recording.extend_from_slice(&68_u64.to_be_bytes());
    recording.extend_from_slice(&[0; 24]);
    recording.extend_from_slice(&1_000_000_000_u64.to_be_bytes());
    recording.extend_from_slice(&[0, 0, 0, 1]);
    recording.extend_from_slice(bytes);
    let limits = Limits {
        bytes: 1 << 20,
        types: 1_000,
        fields: 1_000,
        strings: 1_000,
        constants: 10_000,
        name_bytes: 1 << 16,
    };
    for input in [bytes, &recording] {
        let kinds = [ProfileKind::Cpu, ProfileKind::Alloc, ProfileKind::Lock];
        if let Ok(read) = read(input, &limits, &kinds, 10_000_000) {
            for (_, profile) in &read.profiles {
                assert_eq!(validate(profile), Ok(()));
            }
        }
    }
});
