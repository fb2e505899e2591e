//! Does decoding stay within the memory its limits promise?
//!
//! One test alone in its process, because it looks at the process's peak.

#![allow(clippy::expect_used)]
#![cfg(target_os = "linux")]

use std::io::Write;

use fleetprof_profile::proto::{Label, Sample};
use fleetprof_profile::{Limits, Profile, decode, encode};

/// The most memory this process ever held, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kilobytes = line.split_whitespace().nth(1).expect("a number");
    kilobytes.parse::<usize>().expect("a number") << 10
}

/// Few bytes that become many, gzipped: `samples` samples of 4 000 empty labels, two bytes each.
fn swelling(samples: usize) -> Vec<u8> {
    let sample = Sample { label: vec![Label::default(); 4_000], ..Sample::default() };
    let one = prost::Message::encode_to_vec(&Profile { sample: vec![sample], ..Profile::default() });
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&one.repeat(samples)).expect("memory takes bytes");
    gzip.finish().expect("memory takes bytes")
}

#[test]
fn decoding_never_takes_more_than_the_limits_say() {
    let limits = Limits::default();
    let fits = swelling(1_000);
    let too_much = swelling(1_100);
    assert!(too_much.len() < 1 << 20, "it is small as it comes");
    let before = peak();
    let error = decode(&too_much, &limits).expect_err("over the limit of memory");
    assert!(error.to_string().contains("bytes in memory"), "{error}");
    assert!(peak() - before < 32 << 20, "it was unpacked and measured, not decoded");
    let profile = decode(&fits, &limits).expect("just below the limit of memory");
    let taken = peak() - before;
    assert!(taken > 64 << 20, "the test makes something large: {taken}");
    assert!(taken <= limits.memory_bytes + limits.uncompressed_bytes, "{taken}");
    assert!(encode(&profile).is_ok());
}
