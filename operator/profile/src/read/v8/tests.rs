//! Profiles of a real Node.js 20, what they must say, and what becomes of them when they are damaged.
//!
//! The program behind `tests/data` computes in `guilty` (line 6) for 12 of 20 ms, makes texts in `churn` below
//! 90 calls of `deep`, and keeps what `hoard` makes.

use proptest::prelude::*;

use super::heap::objects_of;
use super::{V8Limits, read_cpu, read_heap};
use crate::kind::ProfileKind;
use crate::proto::Profile;
use crate::read::ReadError;
use crate::view::{Symbols, total};
use crate::{top, validate};

const CPU: &str = include_str!("../../../tests/data/node20.cpuprofile");
const LIVE: &str = include_str!("../../../tests/data/node20-live.heapprofile");
const ALL: &str = include_str!("../../../tests/data/node20-all.heapprofile");
const PERIOD: i64 = 10_101_010;
const INTERVAL: i64 = 65_536;

fn cpu(text: &str) -> Result<Profile, ReadError> {
    read_cpu(text.as_bytes(), PERIOD, 5, &V8Limits::default())
}

fn heap(text: &str, kind: ProfileKind) -> Result<Profile, ReadError> {
    read_heap(text.as_bytes(), kind, INTERVAL, 5, &V8Limits::default())
}

/// Stacks as `leaf:line;caller:line…` with their values.
fn stacks(profile: &Profile) -> Vec<(String, Vec<i64>)> {
    let symbols = Symbols::new(profile);
    let shown = |sample: &crate::proto::Sample| {
        let frames = symbols.frames(sample).map(|p| format!("{}:{}", symbols.names[p.name].0, p.line));
        (frames.collect::<Vec<_>>().join(";"), sample.value.clone())
    };
    profile.sample.iter().map(shown).collect()
}

/// The share of the last value in stacks that end in a function, in %.
fn share(profile: &Profile, function: &str) -> i64 {
    let flat: i64 = stacks(profile).iter().filter(|s| s.0.starts_with(function)).map(|s| s.1[1]).sum();
    100 * flat / total(profile, 1)
}

#[test]
fn the_guilty_function_has_the_time_and_its_line() {
    let profile = cpu(CPU).unwrap();
    assert_eq!(validate(&profile), Ok(()));
    assert!(share(&profile, "guilty:6;tick:20;listOnTimeout:") > 80, "{:?}", stacks(&profile));
    let (hits, nanos) = (total(&profile, 0), total(&profile, 1));
    assert!((30..60).contains(&hits), "{hits} of 70 turns, the others were idle");
    assert!((250_000_000..550_000_000).contains(&nanos), "{nanos} ns of 700 ms");
    assert!(stacks(&profile).iter().all(|(stack, _)| !stack.contains("(idle)") && !stack.contains("(root)")));
    let files: Vec<&String> = profile.string_table.iter().filter(|text| text.ends_with("app.js")).collect();
    assert_eq!(files, ["/srv/orders/app.js"]);
    assert_eq!((profile.period, profile.time_nanos), (PERIOD, 5));
    assert!(profile.duration_nanos > 600_000_000);
}

#[test]
fn the_function_that_keeps_memory_is_told_from_the_one_that_drops_it() {
    let live = heap(LIVE, ProfileKind::Heap).unwrap();
    let all = heap(ALL, ProfileKind::Alloc).unwrap();
    for profile in [&live, &all] {
        assert_eq!(validate(profile), Ok(()));
        assert!(total(profile, 0) > 0 && total(profile, 1) > INTERVAL, "{:?}", stacks(profile));
    }
    assert!(share(&live, "hoard:10;tick:20;") > 60, "{:?}", stacks(&live));
    assert!(share(&all, "churn:13;deep:18;deep:18;") > 50, "{:?}", stacks(&all));
    let deepest = stacks(&all).iter().map(|s| s.0.matches("deep").count()).max();
    assert_eq!(deepest, Some(91), "deeper than a recursive parser goes");
    assert_eq!(top(&live, 1, 1).rows[0].name, "hoard");
}

#[test]
fn an_idle_thread_has_no_cpu_time() {
    let idle = r#"{"nodes":[{"id":1,"callFrame":{"functionName":"(root)"},"children":[2]},
        {"id":2,"callFrame":{"functionName":"(idle)"}}],"samples":[2,2,1],"timeDeltas":[1,10000,10000]}"#;
    assert!(cpu(idle).unwrap().sample.is_empty());
}

/// A profile of `root → main → work`, idle, program and collector, with these samples and microseconds.
fn recording(samples: &str, deltas: &str, ticks: &str) -> String {
    let call = |name: &str, line: i64| {
        let url = if line < 0 { "" } else { "file:///app.js" };
        format!(r#""callFrame":{{"functionName":"{name}","url":"{url}","lineNumber":{line}}}"#)
    };
    let nodes = [
        format!(r#"{{"id":1,{},"children":[2,4,5,6]}}"#, call("(root)", -1)),
        format!(r#"{{"id":2,{},"children":[3]}}"#, call("main", 0)),
        format!(r#"{{"id":3,{},"positionTicks":[{ticks}]}}"#, call("work", 9)),
        format!(r#"{{"id":4,{}}}"#, call("(idle)", -1)),
        format!(r#"{{"id":5,{}}}"#, call("(program)", -1)),
        format!(r#"{{"id":6,{}}}"#, call("(garbage collector)", -1)),
    ];
    format!(r#"{{"nodes":[{}],"samples":[{samples}],"timeDeltas":[{deltas}]}}"#, nodes.join(","))
}

fn read(samples: &str, deltas: &str, ticks: &str) -> Vec<(String, Vec<i64>)> {
    let mut found = stacks(&cpu(&recording(samples, deltas, ticks)).unwrap());
    found.sort();
    found
}

#[test]
fn hits_are_spread_over_the_lines_of_their_function() {
    let ticks = r#"{"line":12,"ticks":3},{"line":14,"ticks":1}"#;
    let found = read("3,3,3,3", "1000,10000,10000,10000", ticks);
    let wanted = [("work:12;main:1", [3, 23_250_000]), ("work:14;main:1", [1, 7_750_000])];
    assert_eq!(found, wanted.map(|(stack, values)| (stack.to_owned(), values.to_vec())));
    assert_eq!(read("3", "1000", "")[0].0, "work:10;main:1", "without ticks where the function begins");
    let none = r#"{"line":12,"ticks":0},{"line":14,"ticks":-4}"#;
    assert_eq!(read("3", "1000", none)[0].0, "work:10;main:1", "nor with none of them");
}

#[test]
fn the_collector_stands_on_what_ran_before_it() {
    let found = read("3,6,6,4,6,5,6", "0,1,1,1,1,1,1", "");
    let wanted = [
        ("(garbage collector):0", [2, 2_000]),
        ("(garbage collector):0;work:10;main:1", [2, 2_000]),
        ("(program):0", [1, 1_000]),
        ("work:10;main:1", [1, 0]),
    ];
    assert_eq!(found, wanted.map(|(stack, values)| (stack.to_owned(), values.to_vec())));
}

#[test]
fn a_sample_weighs_no_more_than_a_few_periods() {
    let found = read("3,3,3,9", "99999999,99999999,-5,1", "");
    assert_eq!(found, [("work:10;main:1".to_owned(), vec![3, 5 * PERIOD])]);
}

#[test]
fn a_tree_that_bites_its_tail_ends() {
    let looped = r#"{"nodes":[{"id":1,"callFrame":{"functionName":"a"},"children":[2,1]},
        {"id":2,"callFrame":{"functionName":"b"},"children":[1]}],"samples":[2],"timeDeltas":[1]}"#;
    let profile = cpu(looped).unwrap();
    assert_eq!(validate(&profile), Ok(()));
    assert!(profile.sample[0].location_id.len() <= 512);
}

#[test]
fn what_is_too_large_is_named() {
    let limits = V8Limits { bytes: 1 << 20, nodes: 60, depth: 50, samples: 20 };
    let with = |limits: V8Limits| {
        let cpu = read_cpu(CPU.as_bytes(), PERIOD, 0, &limits).map(drop);
        let heap = read_heap(ALL.as_bytes(), ProfileKind::Alloc, INTERVAL, 0, &limits).map(drop);
        [cpu, heap].map(|read| read.unwrap_err().to_string())
    };
    let cases = [
        (V8Limits { bytes: 99, ..limits }, ["bytes, the limit is 99:"; 2]),
        (limits, ["61 children, the limit is 60:", "51 frames in a stack, the limit is 50:"]),
        (V8Limits { nodes: 1000, depth: 999, ..limits }, ["21 samples, the limit is 20:"; 2]),
    ];
    for (limits, wanted) in cases {
        for (error, wanted) in with(limits).iter().zip(wanted) {
            assert!(error.contains(wanted), "{error}");
        }
    }
}

#[test]
fn what_is_no_profile_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        "null",
        r#"{"nodes":[]}"#,
        r#"{"nodes":7}"#,
        r#"{"head":[]}"#,
        CPU.get(..99).unwrap(),
    ] {
        assert!(cpu(text).is_err() && heap(text, ProfileKind::Heap).is_err(), "{text}");
    }
}

#[test]
fn objects_are_estimated_from_what_a_sample_stands_for() {
    // Of an object of `size` bytes, as V8 writes it.
    let written = |size: f64| {
        let count = (1.0 / (1.0 - (-size / 65_536.0).exp())).round();
        ((size * count) as i64, count as i64)
    };
    for size in [16.0, 24.0, 56.0, 512.0, 4_096.0, 65_536.0, 1_048_576.0, 33_554_432.0] {
        let (bytes, count) = written(size);
        let estimate = objects_of(bytes, INTERVAL);
        assert!((count / 2..=count * 2 + 1).contains(&estimate), "{size}: {estimate} of {count}");
    }
    for (bytes, interval) in [(0, 0), (-1, -1), (i64::MAX, 1), (1, i64::MAX), (i64::MAX, i64::MAX)] {
        assert!(objects_of(bytes, interval) >= 1, "{bytes} {interval}");
    }
}

/// A text with a few bytes changed, a piece of it repeated or taken out.
fn damaged(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let at = || any::<prop::sample::Index>();
    let bytes = prop_oneof![any::<u8>(), prop::sample::select(b"{}[],:\"\\0-9e".to_vec())];
    let changes = proptest::collection::vec((at(), bytes), 0..8);
    (changes, at(), at(), any::<bool>()).prop_map(move |(changes, from, to, twice)| {
        let mut all = text.as_bytes().to_vec();
        changes.into_iter().for_each(|(at, byte)| {
            let at = at.index(all.len());
            all[at] = byte;
        });
        let (from, to) = (from.index(all.len()), to.index(all.len()));
        let piece = from.min(to)..from.max(to);
        let copy = if twice { all[piece.clone()].repeat(2) } else { Vec::new() };
        all.splice(piece, copy);
        all
    })
}

proptest! {
    #[test]
    fn a_damaged_cpu_profile_is_read_or_refused(bytes in damaged(CPU)) {
        if let Ok(profile) = read_cpu(&bytes, PERIOD, 0, &V8Limits::default()) {
            prop_assert_eq!(validate(&profile), Ok(()));
        }
    }

    #[test]
    fn a_damaged_heap_profile_is_read_or_refused(bytes in damaged(LIVE)) {
        if let Ok(profile) = read_heap(&bytes, ProfileKind::Heap, INTERVAL, 0, &V8Limits::default()) {
            prop_assert_eq!(validate(&profile), Ok(()));
        }
    }
}
