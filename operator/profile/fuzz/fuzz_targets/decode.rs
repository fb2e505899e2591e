//! Bytes from a target: are they refused or read, and does what was read stay sound?

#![no_main]

use fleetprof_profile::resolve::{FileNames, Names, lacking, name, standing};
use fleetprof_profile::{
    Basis, Differ, Grower, Limits, Line, Order, Overlap, Side, TreeLimits, decode, decode_valid, encode, fold, merge, render_diff,
    render_top, set_labels, top, total, validate,
};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { memory_bytes: 16 << 20, ..Limits::default() };
    let Ok(mut profile) = decode(bytes, &limits) else {
        return;
    };
    for index in 0..3 {
        let _ = render_top(&top(&profile, index, 10));
        let _ = fold(&profile, index);
        let mut grower = Grower::new(TreeLimits { nodes: 1_000, steps: 10_000 });
        let mut differ = Differ::default();
        for side in [Side::Base, Side::After] {
            grower.add(side, &profile, index, Some(1));
            differ.add(side, &profile, index, Some(1));
        }
        let _ = grower.finish().columns(100, Some(Basis::Share));
        let _ = render_diff(&differ.finish(Basis::Share, Order::Own, 10));
    }
    let _ = standing(&profile, 5);
    let mut names = Names::new();
    for file in lacking(&profile) {
        let mut found = FileNames::default();
        let line = Line { function: "f", file: "f.c", line: 3, ..Line::default() };
        file.addresses.iter().for_each(|address| found.add(*address, true, &[line]));
        names.insert(file.build_id, found);
    }
    let valid = validate(&profile).is_ok();
    let mut named = profile.clone();
    name(&mut named, &names);
    assert!(!valid || validate(&named).is_ok(), "a valid profile with names is valid");
    let merged = merge([&profile, &profile], Overlap::Sequential);
    set_labels(&mut profile, &[("pod", "cart-0")]);
    if !valid {
        return;
    }
    let merged = merged.unwrap_or_else(|error| panic!("a profile merges with itself: {error}"));
    assert_eq!(validate(&merged), Ok(()), "a merge of valid profiles is valid");
    assert_eq!(total(&merged, 0), total(&profile, 0).saturating_mul(2), "a merge keeps sums");
    let Ok(written) = encode(&profile) else {
        panic!("a valid profile is written");
    };
    let generous = Limits { memory_bytes: 1 << 30, list_length: usize::MAX, ..Limits::default() };
    match decode_valid(&written, &generous) {
        Ok(read) => assert_eq!(read.encode_to_vec(), profile.encode_to_vec()),
        Err(error) => panic!("what we wrote is read back: {error}"),
    }
});
