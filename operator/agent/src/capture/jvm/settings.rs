//! Which events is Java to record, and how often? A pure function of what is asked for and Java's version.
//!
//! Only events that hold nothing but stacks, amounts and durations are switched on: none of the environment, the
//! command line, system properties or other processes.

use std::fmt::Write;
use std::time::Duration;

use fleetprof_profile::ProfileKind;

/// Oldest Java whose recordings are read.
pub const OLDEST: u32 = 11;
/// The first Java that samples allocations at a bounded rate.
const ALLOCATION_SAMPLES: u32 = 16;
/// The first Java that samples by CPU time.
pub const CPU_TIME_SAMPLES: u32 = 25;
/// Shortest distance of samples that every Java before that keeps.
const SHORTEST: Duration = Duration::from_millis(10);
/// Samples of allocations a second, as in the settings `profile` of the JDK.
const ALLOCATIONS: &str = "300/s";
/// Shorter waits for a monitor are not recorded.
const MONITOR: &str = "1 ms";
/// Shorter waits without a monitor are not recorded: idle threads of pools make many of them.
const PARK: &str = "10 ms";

/// The kinds that are recorded.
pub const KINDS: [ProfileKind; 3] = [ProfileKind::Cpu, ProfileKind::Alloc, ProfileKind::Lock];

/// The time for which a CPU sample stands.
#[must_use]
pub fn period(version: u32, frequency_hz: u32) -> Duration {
    let wanted = Duration::from_secs(1) / frequency_hz.max(1);
    if version >= CPU_TIME_SAMPLES {
        return Duration::from_micros(u64::try_from(wanted.as_micros()).unwrap_or(u64::MAX));
    }
    // Whole milliseconds, the nearest.
    let millis = (wanted.as_micros() + 500) / 1000;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)).max(SHORTEST)
}

/// The text of a file of settings for `JFR.start`.
#[must_use]
pub fn settings(kinds: &[ProfileKind], version: u32, frequency_hz: u32) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<configuration version=\"2.0\" label=\"fleetprof\">\n",
    );
    for (name, key, value) in events(kinds, version, frequency_hz) {
        let _infallible = write!(text, "<event name=\"jdk.{name}\"><setting name=\"enabled\">true</setting>");
        // Without it Java takes no stacks; samples have them always.
        let _infallible = write!(text, "<setting name=\"stackTrace\">true</setting>");
        if !key.is_empty() {
            let _infallible = write!(text, "<setting name=\"{key}\">{value}</setting>");
        }
        text.push_str("</event>\n");
    }
    text.push_str("</configuration>\n");
    text
}

/// Event, setting and value.
type Row = (&'static str, &'static str, String);

fn events(kinds: &[ProfileKind], version: u32, frequency_hz: u32) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let period = period(version, frequency_hz);
    for kind in kinds {
        match kind {
            ProfileKind::Cpu if version >= CPU_TIME_SAMPLES => {
                rows.push(("CPUTimeSample", "throttle", format!("{}us", period.as_micros())));
                rows.push(("CPUTimeSamplesLost", "", String::new()));
            }
            ProfileKind::Cpu => {
                rows.push(("ExecutionSample", "period", format!("{} ms", period.as_millis())))
            }
            ProfileKind::Alloc if version >= ALLOCATION_SAMPLES => {
                rows.push(("ObjectAllocationSample", "throttle", ALLOCATIONS.to_owned()));
            }
            ProfileKind::Alloc => {
                rows.push(("ObjectAllocationInNewTLAB", "", String::new()));
                rows.push(("ObjectAllocationOutsideTLAB", "", String::new()));
            }
            ProfileKind::Lock => {
                rows.push(("JavaMonitorEnter", "threshold", MONITOR.to_owned()));
                rows.push(("ThreadPark", "threshold", PARK.to_owned()));
            }
            _ => {}
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_sampled_by_cpu_time_where_java_can() {
        let text = settings(&[ProfileKind::Cpu], 25, 99);
        assert!(
            text.contains("jdk.CPUTimeSample\"") && text.contains("<setting name=\"throttle\">10101us<"),
            "{text}"
        );
        assert!(!text.contains("ExecutionSample"));
        let text = settings(&[ProfileKind::Cpu], 24, 99);
        assert!(
            text.contains("<setting name=\"period\">10 ms<") && !text.contains("CPUTimeSample"),
            "{text}"
        );
    }

    #[test]
    fn the_period_is_one_that_java_keeps() {
        let millis = |version, hz| period(version, hz).as_millis();
        assert_eq!([millis(17, 99), millis(17, 1000), millis(17, 19), millis(17, 1)], [10, 10, 53, 1000]);
        assert_eq!(period(25, 1000), Duration::from_millis(1));
        assert_eq!(period(25, 99), Duration::from_micros(10_101));
    }

    #[test]
    fn only_what_was_asked_for_is_recorded_and_nothing_that_tells_of_the_environment() {
        for version in [11, 17, 21, 25] {
            let text = settings(&KINDS, version, 99);
            let secret = ["Environment", "Property", "JVMInformation", "Process", "Flag", "OSInformation"];
            assert!(secret.iter().all(|name| !text.contains(name)), "{text}");
            let lock = settings(&[ProfileKind::Lock], version, 99);
            assert_eq!(lock.matches("<event").count(), 2, "{lock}");
        }
        assert!(settings(&KINDS, 11, 99).contains("InNewTLAB") && !settings(&KINDS, 16, 99).contains("TLAB"));
    }
}
