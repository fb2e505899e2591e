//! What do agents measure of a container, and which line does a policy draw for it?

use std::fmt;

use fleetprof_crds::Duration;
use fleetprof_crds::session::Trigger;
use fleetprof_crds::triggers::{Checks, LevelTrigger, ShareTrigger, ThreadsTrigger, Triggers};
use fleetprof_crds::wire::{ContainerReport, Signals, Watch};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// CPU time.
    Cpu,
    /// Working set.
    Memory,
    /// Periods of the CPU limit in which the container was throttled.
    Throttling,
    /// Time in which a thread waited for a CPU.
    CpuPressure,
    /// Time in which a thread waited for memory.
    MemoryPressure,
    /// Time in which a thread waited for a block device.
    IoPressure,
    /// Number of threads.
    Threads,
}

/// One measured value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// In %, or a count of threads.
    pub value: i32,
    /// It is of the node, since the container has no limit of its own.
    pub of_node: bool,
}

/// The line that a policy draws for a measure, and what follows from crossing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is measured.
    pub measure: Measure,
    /// The line, as [`Level::value`].
    pub threshold: i32,
    /// For how long it has to be crossed, where there are no `checks`.
    pub window: Duration,
    /// How many of the last measurements have to be over it.
    pub checks: Option<Checks>,
    /// How long to capture.
    pub duration: Duration,
    /// For how long no other session of the workload starts.
    pub cooldown: Duration,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Cpu,
        Self::Memory,
        Self::Throttling,
        Self::CpuPressure,
        Self::MemoryPressure,
        Self::IoPressure,
        Self::Threads,
    ];

    /// The trigger that waits for it.
    #[must_use]
    pub const fn trigger(self) -> Trigger {
        match self {
            Self::Cpu => Trigger::Cpu,
            Self::Memory => Trigger::Memory,
            Self::Throttling => Trigger::Throttling,
            Self::CpuPressure | Self::MemoryPressure | Self::IoPressure => Trigger::Pressure,
            Self::Threads => Trigger::Threads,
        }
    }

    /// Its name among the sources of a policy: the field of `spec.triggers`.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Throttling => "throttling",
            Self::CpuPressure => "pressure.cpu",
            Self::MemoryPressure => "pressure.memory",
            Self::IoPressure => "pressure.io",
            Self::Threads => "threads",
        }
    }

    /// Whether it is one of [`Signals`].
    #[must_use]
    pub const fn is_signal(self) -> bool {
        !matches!(self, Self::Cpu | Self::Memory)
    }

    /// What is needed to measure it, as a part of a sentence; of signals.
    #[must_use]
    pub const fn needs(self) -> &'static str {
        match self {
            Self::Throttling => "it needs a CPU limit of the container",
            Self::CpuPressure | Self::MemoryPressure | Self::IoPressure => {
                "it needs cgroup v2 and a kernel with PSI (psi=1)"
            }
            Self::Cpu | Self::Memory | Self::Threads => "the agent cannot read the container's cgroup",
        }
    }

    /// What an agent measured of it; `None` where it did not.
    #[must_use]
    pub fn of(self, row: &ContainerReport) -> Option<Level> {
        let signals = row.signals.unwrap_or_default();
        let (value, of_node) = match self {
            Self::Cpu => (row.cpu_percent, row.cpu_of_node),
            Self::Memory => (row.memory_percent, row.memory_of_node),
            Self::Throttling => (signals.throttled_percent, false),
            Self::CpuPressure => (signals.cpu_pressure_percent, false),
            Self::MemoryPressure => (signals.memory_pressure_percent, false),
            Self::IoPressure => (signals.io_pressure_percent, false),
            Self::Threads => (signals.threads, false),
        };
        value.map(|value| Level { value, of_node })
    }

    /// How it is called at the start of a sentence, and what a value of it is of.
    fn words(self, of_node: bool) -> (&'static str, &'static str) {
        match (self, of_node) {
            (Self::Cpu, false) => ("CPU", " % of its limit"),
            (Self::Cpu, true) => ("CPU", " % of the node's cores (it has no CPU limit)"),
            (Self::Memory, false) => ("Memory", " % of its limit"),
            (Self::Memory, true) => ("Memory", " % of the node's memory (it has no memory limit)"),
            (Self::Throttling, _) => ("CPU throttling", " % of its periods"),
            (Self::CpuPressure, _) => ("CPU pressure", " % of the time"),
            (Self::MemoryPressure, _) => ("Memory pressure", " % of the time"),
            (Self::IoPressure, _) => ("I/O pressure", " % of the time"),
            (Self::Threads, _) => ("The number of threads", ""),
        }
    }

    /// How it is called at the start of a sentence.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words(false).0
    }

    /// A value of it, as in `93 % of its limit`.
    #[must_use]
    pub fn value(self, value: i64, of_node: bool) -> String {
        format!("{value}{}", self.words(of_node).1)
    }
}

impl Rule {
    /// The lines that a policy draws.
    #[must_use]
    pub fn all(triggers: &Triggers) -> Vec<Self> {
        // Without `..`: a new trigger cannot be forgotten.
        let Triggers { cpu, memory, throttling, pressure, threads, alerts: _, prom_ql: _, rollout: _ } =
            triggers;
        let level = |measure, t: &Option<LevelTrigger>| t.as_ref().map(|t| Self::of_level(measure, t));
        let share = |measure, t: &Option<ShareTrigger>| t.as_ref().map(|t| Self::of_share(measure, t));
        let all = [
            level(Measure::Cpu, cpu),
            level(Measure::Memory, memory),
            share(Measure::Throttling, throttling),
            share(Measure::CpuPressure, &pressure.cpu),
            share(Measure::MemoryPressure, &pressure.memory),
            share(Measure::IoPressure, &pressure.io),
            threads.as_ref().map(Self::of_threads),
        ];
        all.into_iter().flatten().collect()
    }

    fn of_level(measure: Measure, trigger: &LevelTrigger) -> Self {
        let LevelTrigger { threshold, window, checks, duration, cooldown } = *trigger;
        Self { measure, threshold, window, checks, duration, cooldown }
    }

    fn of_share(measure: Measure, trigger: &ShareTrigger) -> Self {
        let ShareTrigger { threshold, window, checks, duration, cooldown } = *trigger;
        Self { measure, threshold, window, checks, duration, cooldown }
    }

    fn of_threads(trigger: &ThreadsTrigger) -> Self {
        let ThreadsTrigger { threshold, window, checks, duration, cooldown } = *trigger;
        Self { measure: Measure::Threads, threshold, window, checks, duration, cooldown }
    }

    /// A value below this one ends a run: a container that hovers around the line is over it as a whole or not.
    #[must_use]
    pub const fn end(&self) -> i32 {
        match self.measure {
            Measure::Threads => self.threshold.saturating_sub(self.threshold / 20),
            _ => self.threshold.saturating_sub(HYSTERESIS),
        }
    }
}

/// Points below the threshold at which a run of percentages ends.
const HYSTERESIS: i32 = 5;

/// The lines that agents are asked to watch for these rules.
#[must_use]
pub fn watch(rules: &[Rule]) -> Watch {
    let line = |measure| rules.iter().find(|rule| rule.measure == measure).map(|rule| rule.threshold);
    Watch {
        cpu_percent: line(Measure::Cpu),
        memory_percent: line(Measure::Memory),
        signals: Signals {
            throttled_percent: line(Measure::Throttling),
            cpu_pressure_percent: line(Measure::CpuPressure),
            memory_pressure_percent: line(Measure::MemoryPressure),
            io_pressure_percent: line(Measure::IoPressure),
            threads: line(Measure::Threads),
        },
    }
}

impl fmt::Display for Rule {
    /// The line, as in `threshold 80 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.measure == Measure::Threads { "" } else { " %" };
        write!(f, "threshold {}{unit}", self.threshold)
    }
}
