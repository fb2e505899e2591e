//! Recordings of real Java processes, whole and damaged.
//!
//! The three recordings are of `operator/agent/tests/capture/targets/Busy.java`, 2.5 s each, by Java 11.0.13,
//! 17.0.15 and 25.0.3; the sums below are those of `jfr print --json` of Java 25.

use std::io::Read;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::{Limits, Recording, read};
use crate::kind::ProfileKind::{self, Alloc, Cpu, Heap, Lock};
use crate::proto::Profile;
use crate::read::ReadError;
use crate::{top, total, validate};

/// What the CPU samples of the two older recordings stand for.
const PERIOD: u64 = 10_000_000;

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut bytes).unwrap();
    bytes
}

fn java(version: u32) -> Vec<u8> {
    unpacked(match version {
        11 => include_bytes!("../../../tests/recordings/java11.jfr.gz").as_slice(),
        17 => include_bytes!("../../../tests/recordings/java17.jfr.gz").as_slice(),
        _ => include_bytes!("../../../tests/recordings/java25.jfr.gz").as_slice(),
    })
}

fn all(bytes: &[u8]) -> Result<Recording, ReadError> {
    read(bytes, &Limits::default(), &[Cpu, Alloc, Lock], PERIOD)
}

fn of(recording: &Recording, kind: ProfileKind) -> &Profile {
    let found = recording.profiles.iter().find(|(found, _)| *found == kind);
    &found.unwrap_or_else(|| panic!("no {kind} profile")).1
}

fn texts(profile: &Profile) -> Vec<&str> {
    profile.string_table.iter().map(String::as_str).collect()
}

#[test]
fn the_sums_are_those_of_javas_own_reader() {
    // Samples and nanoseconds of CPU, objects and bytes, contentions and nanoseconds of waiting.
    let cases = [
        (11, [264, 264 * 10_000_000], [2_487 + 14_253, 325_889_992 + 5_984_904], 61 + 78),
        (17, [276, 276 * 10_000_000], [675, 612_469_328], 64 + 81),
        (25, [248, 2_480_000_000], [616, 616_077_560], 60 + 78),
    ];
    let waits =
        [2_422_707_464 + 2_313_283_747, 2_548_707_674 + 2_474_437_262, 2_424_356_739 + 2_341_971_871_i64];
    for ((version, cpu, alloc, locks), wait) in cases.into_iter().zip(waits) {
        let recording = all(&java(version)).unwrap();
        let totals = |kind| [0, 1].map(|index| total(of(&recording, kind), index));
        assert_eq!(totals(Cpu), cpu, "Java {version}");
        assert_eq!(totals(Alloc), alloc, "Java {version}");
        let [contentions, delay] = totals(Lock);
        assert_eq!(contentions, locks, "Java {version}");
        // The oracle rounds each to nanoseconds.
        assert!((delay - wait).abs() <= contentions, "Java {version}: {delay}, not {wait}");
        assert_eq!(recording.lost, 0);
    }
}

#[test]
fn the_guilty_method_of_each_kind_is_on_top_with_its_line() {
    for version in [11, 17, 25] {
        let recording = all(&java(version)).unwrap();
        for (kind, guilty, line) in [(Cpu, "Busy.guilty", 16), (Alloc, "Busy.allocates", 31)] {
            let profile = of(&recording, kind);
            assert_eq!(validate(profile), Ok(()));
            let row = top(profile, 1, 1).rows.remove(0);
            assert_eq!((row.name.as_str(), row.line), (guilty, line), "Java {version}");
            assert_eq!(row.file, "Busy", "the class stands for the file");
        }
        let lock = top(of(&recording, Lock), 1, 20);
        let names: Vec<&str> = lock.rows.iter().map(|row| row.name.as_str()).collect();
        assert!(names.contains(&"Busy.contends") && names.contains(&"Busy.awaitsLock"), "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with("jdk.jfr")), "{names:?}");
        assert!(!texts(of(&recording, Lock)).iter().any(|text| text.contains("0x")), "a run-time name");
    }
}

#[test]
fn only_kinds_that_are_asked_for_are_read() {
    let recording = read(&java(17), &Limits::default(), &[Lock, Heap], PERIOD).unwrap();
    assert_eq!(recording.profiles.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Lock]);
}

#[test]
fn the_time_is_that_of_the_recording() {
    let recording = all(&java(17)).unwrap();
    let profile = of(&recording, Cpu);
    let (start, duration) = (profile.time_nanos / 1_000_000_000, profile.duration_nanos / 1_000_000);
    assert!((1_795_000_000..1_798_000_000).contains(&start), "{start} s since 1970");
    assert!((2_400..4_000).contains(&duration), "{duration} ms");
    assert_eq!(profile.period, 10_000_000);
}

#[test]
fn chunks_that_follow_one_another_are_one_recording() {
    let one = java(17);
    let recording = all(&[one.as_slice(), &one].concat()).unwrap();
    assert_eq!(total(of(&recording, Cpu), 0), 2 * 276);
    assert_eq!(of(&recording, Cpu).sample.len(), of(&all(&one).unwrap(), Cpu).sample.len());
}

#[test]
fn what_is_no_recording_is_refused_with_the_place() {
    let refused = |bytes: &[u8]| all(bytes).unwrap_err().to_string();
    assert!(refused(b"").contains("damaged at byte 0: a chunk does not begin with FLR"), "{}", refused(b""));
    assert!(refused(&[b'x'; 100]).contains("does not begin"), "{}", refused(&[b'x'; 100]));
    let whole = java(17);
    let cut = refused(&whole[..whole.len() - 1]);
    assert!(cut.contains("a chunk is longer than the recording"), "{cut}");
    let mut later = whole.clone();
    later.extend_from_slice(b"junk");
    assert!(refused(&later).contains(&format!("byte {}", whole.len())), "{}", refused(&later));
}

#[test]
fn every_limit_holds() {
    type Change = fn(&mut Limits);
    let cases: [(&str, Change); 6] = [
        ("bytes, the limit is 10", |l| l.bytes = 10),
        ("types, the limit is 10", |l| l.types = 10),
        ("fields, the limit is 10", |l| l.fields = 10),
        ("texts in its metadata, the limit is 10", |l| l.strings = 10),
        ("constants, the limit is 10", |l| l.constants = 10),
        ("bytes of names, the limit is 10", |l| l.name_bytes = 10),
    ];
    let bytes = java(25);
    for (wanted, change) in cases {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = read(&bytes, &limits, &[Cpu, Alloc, Lock], PERIOD).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }) && error.to_string().contains(wanted), "{error}");
    }
}

fn real() -> &'static [Vec<u8>; 3] {
    static REAL: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    REAL.get_or_init(|| [11, 17, 25].map(java))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_recording_with_changed_bytes_is_read_or_refused(
        which in 0..3_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = real()[which].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
            // A shorter chunk that says so is read further than one that is only cut.
            if let Some(size) = bytes.get(8..16).map(|_| bytes.len() as u64) {
                bytes[8..16].copy_from_slice(&size.to_be_bytes());
            }
        }
        if let Ok(recording) = all(&bytes) {
            for (_, profile) in &recording.profiles {
                prop_assert_eq!(validate(profile), Ok(()));
            }
        }
    }

    #[test]
    fn any_bytes_after_a_header_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = real()[1][..68].to_vec();
        bytes.extend_from_slice(&body);
        let size = bytes.len() as u64;
        bytes[8..16].copy_from_slice(&size.to_be_bytes());
        bytes[24..32].copy_from_slice(&68_u64.to_be_bytes());
        let _ = all(&bytes);
    }
}
