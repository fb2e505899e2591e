//! Captures for tests.

use super::capture::{About, FunctionUse, PodCapture, Side};

/// A capture of a minute: 1,000 samples, of which `work` has 900 and `wait` 100.
pub(super) fn capture(pod: &str, side: Side, moment: u32) -> PodCapture {
    with(pod, side, moment, &[("work", 900), ("wait", 100)])
}

/// One of these functions, each with its samples of 10 ms; none calls another.
pub(super) fn with(pod: &str, side: Side, moment: u32, functions: &[(&str, i64)]) -> PodCapture {
    let samples: i64 = functions.iter().map(|(_, samples)| samples).sum();
    let nanos = |samples: i64| samples * 10_000_000;
    let function = |(name, samples): &(&str, i64)| FunctionUse {
        name: (*name).to_owned(),
        file: format!("{name}.rs"),
        own: nanos(*samples),
        cum: nanos(*samples),
    };
    let about =
        About { pod: pod.to_owned(), side, moment, pod_seconds: 60.0, cpu_seconds: None, coverage: Some(95) };
    let functions = functions.iter().map(function).collect();
    PodCapture { about, samples, value: nanos(samples), functions, calls: Vec::new() }
}

/// So many captures of each revision at one moment.
pub(super) fn captures_at(moment: u32, old: u32, new: u32) -> Vec<PodCapture> {
    let of = |side, name: &'static str, count: u32| {
        (0..count).map(move |n| capture(&format!("{name}-{n}"), side, moment))
    };
    of(Side::Old, "old", old).chain(of(Side::New, "new", new)).collect()
}
