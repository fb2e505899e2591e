//! Profiles that a JavaScript runtime wrote: are they refused or read, and is what was read sound?

#![no_main]

use fleetprof_profile::read::v8::{V8Limits, read_cpu, read_heap};
use fleetprof_profile::{ProfileKind, validate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = V8Limits { bytes: 1 << 20, nodes: 1_000, depth: 200, samples: 1_000 };
    if let Ok(profile) = read_cpu(bytes, 10_101_010, 0, &limits) {
        assert_eq!(validate(&profile), Ok(()));
    }
    for kind in [ProfileKind::Heap, ProfileKind::Alloc] {
        if let Ok(profile) = read_heap(bytes, kind, 65_536, 0, &limits) {
            assert_eq!(validate(&profile), Ok(()));
        }
    }
});
