//! What tells that a container has a hard time, beside its use of CPU and memory? Figures that need no right but to
//! read its cgroup.

use serde::{Deserialize, Serialize};

/// Figures of a container that a trigger can wait for, or lines for them. Measured while a line for one of them is
/// watched. They are coarse, so that a heartbeat need not tell them again with each tremble: shares come in steps
/// of 5 %, rounded down; counts above 100 are rounded down to two digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signals {
    /// Share of the CPU limit's periods in which it was throttled, in %. Absent without a CPU limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_percent: Option<i32>,
    /// Share of the time in which one of its threads waited for a CPU, in %. Absent where the kernel does not tell,
    /// as the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_pressure_percent: Option<i32>,
    /// The same of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_pressure_percent: Option<i32>,
    /// The same of block devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_pressure_percent: Option<i32>,
    /// Number of its threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<i32>,
}

/// How many figures there are.
const FIGURES: usize = 5;
/// Steps of shares, in %.
const STEP: i32 = 5;

impl Signals {
    /// The figures as they are told.
    #[must_use]
    pub fn coarse(self) -> Self {
        let share = |percent: i32| percent / STEP * STEP;
        let [throttled, cpu, memory, io, threads] = self.figures();
        let shares = [throttled, cpu, memory, io].map(|percent| percent.map(share));
        let [throttled, cpu, memory, io] = shares;
        Self::of([throttled, cpu, memory, io, threads.map(two_digits)])
    }

    /// Whether none of them is there.
    // Serde passes what it skips by reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether one of these figures has reached its line in `lines`.
    #[must_use]
    pub fn reach(self, lines: Self) -> bool {
        let reached = |(value, line): (Option<i32>, Option<i32>)| matches!((value, line), (Some(value), Some(line)) if value >= line);
        self.figures().into_iter().zip(lines.figures()).any(reached)
    }

    /// The lower one of both, figure by figure.
    #[must_use]
    pub fn or_lower(self, other: Self) -> Self {
        let mut lower = self.figures();
        for (one, other) in lower.iter_mut().zip(other.figures()) {
            *one = one.iter().chain(&other).min().copied();
        }
        Self::of(lower)
    }

    /// Each of them within these bounds.
    #[must_use]
    pub fn within(self, most_percent: i32, most_threads: i32) -> Self {
        let [throttled, cpu, memory, io, threads] = self.figures();
        let [throttled, cpu, memory, io] =
            [throttled, cpu, memory, io].map(|percent| percent.map(|p| p.clamp(0, most_percent)));
        Self::of([throttled, cpu, memory, io, threads.map(|n| n.clamp(0, most_threads))])
    }

    const fn figures(self) -> [Option<i32>; FIGURES] {
        // Without `..`: a new figure cannot be forgotten.
        let Self {
            throttled_percent,
            cpu_pressure_percent,
            memory_pressure_percent,
            io_pressure_percent,
            threads,
        } = self;
        [throttled_percent, cpu_pressure_percent, memory_pressure_percent, io_pressure_percent, threads]
    }

    const fn of(figures: [Option<i32>; FIGURES]) -> Self {
        let [throttled_percent, cpu_pressure_percent, memory_pressure_percent, io_pressure_percent, threads] =
            figures;
        Self {
            throttled_percent,
            cpu_pressure_percent,
            memory_pressure_percent,
            io_pressure_percent,
            threads,
        }
    }
}

/// Rounded down to two digits, where it has more than that and is above 100.
fn two_digits(count: i32) -> i32 {
    let mut unit = 1;
    while count / unit > 100 {
        unit *= 10;
    }
    count / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(figures: [i32; FIGURES]) -> Signals {
        Signals::of(figures.map(Some))
    }

    #[test]
    fn figures_are_rounded_down_so_that_a_line_on_a_step_is_exact() {
        assert_eq!(signals([4, 5, 99, 100, 100]).coarse(), signals([0, 5, 95, 100, 100]));
        for (count, told) in
            [(0, 0), (99, 99), (101, 100), (119, 110), (120, 120), (1249, 1200), (123_456, 120_000)]
        {
            assert_eq!(Signals { threads: Some(count), ..Signals::default() }.coarse().threads, Some(told));
        }
        assert_eq!(Signals::default().coarse(), Signals::default());
    }

    #[test]
    fn a_line_is_reached_by_its_own_figure_alone() {
        let line = Signals { io_pressure_percent: Some(50), ..Signals::default() };
        assert!(signals([0, 0, 0, 50, 0]).reach(line) && !signals([99, 99, 99, 45, 99]).reach(line));
        assert!(!Signals::default().reach(line) && !signals([99; FIGURES]).reach(Signals::default()));
        let threads = Signals { threads: Some(7), ..Signals::default() };
        assert_eq!(line.or_lower(threads), Signals { threads: Some(7), ..line });
        assert_eq!(signals([5; FIGURES]).or_lower(signals([9, 1, 9, 1, 9])), signals([5, 1, 5, 1, 5]));
    }
}
