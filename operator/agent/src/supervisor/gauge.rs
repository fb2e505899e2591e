//! How much CPU and memory does a target use during its capture, and is it throttled?

use std::time::{Duration, Instant};

use super::inspect::Inspection;
use super::usage::{Node, Reading};

/// Whole nanoseconds.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Measures a target during its capture: mean CPU use and highest memory use.
pub struct Gauge {
    node: Node,
    first: Option<(Reading, Instant)>,
    last: Option<(Reading, Instant)>,
    memory_percent: Option<i32>,
}

impl Gauge {
    /// A gauge without a reading.
    #[must_use]
    pub const fn new(node: Node) -> Self {
        Self { node, first: None, last: None, memory_percent: None }
    }

    /// Takes in what was seen at `at`.
    pub fn take(&mut self, inspection: &Inspection, at: Instant) {
        if let Some(reading) = inspection.usage {
            self.first.get_or_insert((reading, at));
            self.last = Some((reading, at));
            self.memory_percent = self.memory_percent.max(reading.memory_percent(self.node));
        }
    }

    /// Mean CPU use in % of the target's limit; `None` with fewer than two readings.
    #[must_use]
    pub fn cpu_percent(&self) -> Option<i32> {
        let ((first, start), (last, end)) = (self.first?, self.last?);
        last.cpu_percent(&first, nanos(end.duration_since(start)), self.node)
    }

    /// Share of the CPU limit's periods in which the target was throttled, in %; `None` without a limit, or with fewer
    /// than two readings.
    #[must_use]
    pub fn throttled_percent(&self) -> Option<i32> {
        let ((first, start), (last, end)) = (self.first?, self.last?);
        if start == end { None } else { last.throttled_percent(&first) }
    }

    /// Highest memory use in % of the target's limit.
    #[must_use]
    pub const fn memory_percent(&self) -> Option<i32> {
        self.memory_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_tells_the_mean_and_the_peak() {
        let mut gauge = Gauge::new(Node { cpu_millis: 1000, memory_bytes: 1000 });
        let start = Instant::now();
        assert_eq!((gauge.cpu_percent(), gauge.memory_percent()), (None, None));
        let seconds = [(0, 10, 100, 30, None), (1, 11, 900, 30, Some(0)), (4, 12, 200, 40, Some(25))];
        for (second, cpu_seconds, memory, throttled, share) in seconds {
            let usage = Reading {
                cpu_nanos: cpu_seconds * 1_000_000_000,
                cpu_limit_millis: None,
                periods: Some((100 + 10 * second, throttled)),
                memory_bytes: memory,
                memory_limit: None,
            };
            gauge.take(
                &Inspection { usage: Some(usage), ..Inspection::default() },
                start + Duration::from_secs(second),
            );
            assert_eq!(gauge.throttled_percent(), share, "after {second} s");
        }
        gauge.take(&Inspection::default(), start + Duration::from_secs(9));
        assert_eq!((gauge.cpu_percent(), gauge.memory_percent()), (Some(50), Some(90)));
    }
}
