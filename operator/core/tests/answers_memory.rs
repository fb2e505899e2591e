//! Does reading an answer of Prometheus take no more memory than what is kept of it?
//!
//! One test alone in its process, because it looks at the process's peak.

#![allow(clippy::expect_used)]
#![cfg(target_os = "linux")]

use std::fmt::Write;

use fleetprof_core::trigger::promql::{MAX_BYTES, parse};

/// The most memory this process ever held, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kilobytes = line.split_whitespace().nth(1).expect("a number");
    kilobytes.parse::<usize>().expect("a number") << 10
}

/// An answer as large as may be, with this text again and again in the only series.
fn answer(before: &str, after: &str, part: impl Fn(usize) -> String) -> String {
    let mut body = format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{before}"#);
    let mut n = 0;
    while body.len() + 100 < MAX_BYTES {
        let comma = if n == 0 { "" } else { "," };
        write!(body, "{comma}{}", part(n)).expect("memory takes text");
        n += 1;
    }
    body + after + "]}}"
}

#[test]
fn an_answer_that_swells_takes_no_more_than_its_own_bytes() {
    let labels = answer(r#"{"metric":{"#, r#"},"value":[1,"0"]}"#, |n| format!(r#""{n:x}":"""#));
    let values = answer(r#"{"metric":{"pod":"a"},"value":["#, "]}", |_| "[]".to_owned());
    let series = answer("", "", |_| r#"{"metric":{}}"#.to_owned());
    let before = peak();
    assert_eq!(parse(labels.as_bytes()).map(|series| series.len()), Ok(1));
    assert_eq!(parse(values.as_bytes()).map(|series| series.len()), Ok(1));
    assert!(parse(series.as_bytes()).is_err(), "more series than are kept");
    let taken = peak() - before;
    assert!(taken < 8 << 20, "{taken} bytes for {MAX_BYTES}");
    let all: Result<serde_json::Value, _> = serde_json::from_str(&labels);
    assert!(all.is_ok() && peak() - before > 32 << 20, "the test makes something that swells");
}
