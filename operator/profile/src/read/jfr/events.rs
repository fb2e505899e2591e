//! What does an event count for, and in which kind of profile?

use super::bytes::Cursor;
use super::chunk::{Chunk, Event, Value};
use super::stacks::Stacks;
use crate::kind::ProfileKind;
use crate::read::ReadError;

/// Classes on which a thread is parked while it waits for a lock. Those of queues, timers and pools are left
/// out: their threads wait for work.
const LOCKS: [&str; 4] = [
    "java.util.concurrent.locks.ReentrantLock",
    "java.util.concurrent.locks.ReentrantReadWriteLock",
    "java.util.concurrent.locks.StampedLock",
    "java.util.concurrent.Semaphore",
];

/// The types of events that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// CPU time of a thread, from Java 25 on.
    CpuTime,
    /// A look at threads that run Java code.
    Execution,
    /// An allocation that stands for all since the last one, from Java 16 on.
    Allocation,
    /// The first allocation in a thread's new buffer.
    NewBuffer,
    /// An allocation outside of these buffers.
    OutsideBuffer,
    /// Waiting to enter a monitor.
    Monitor,
    /// Waiting without one: the locks of `java.util.concurrent`, among others.
    Park,
}

/// What an event adds.
pub(super) struct Count {
    /// Type and number of the stack.
    pub(super) stack: (u64, u64),
    /// One value for each sample type of the kind.
    pub(super) values: [u64; 2],
}

/// What is known of all events of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Ticks in a second.
    pub(super) ticks_per_second: u64,
    /// What an [`Execution`](Source::Execution) sample stands for, in nanoseconds.
    pub(super) period_nanos: u64,
}

impl Source {
    pub(super) const ALL: [Self; 7] = [
        Self::CpuTime,
        Self::Execution,
        Self::Allocation,
        Self::NewBuffer,
        Self::OutsideBuffer,
        Self::Monitor,
        Self::Park,
    ];

    /// The name of the event's type.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::CpuTime => "jdk.CPUTimeSample",
            Self::Execution => "jdk.ExecutionSample",
            Self::Allocation => "jdk.ObjectAllocationSample",
            Self::NewBuffer => "jdk.ObjectAllocationInNewTLAB",
            Self::OutsideBuffer => "jdk.ObjectAllocationOutsideTLAB",
            Self::Monitor => "jdk.JavaMonitorEnter",
            Self::Park => "jdk.ThreadPark",
        }
    }

    /// The kind of profile that it belongs to.
    pub(super) const fn kind(self) -> ProfileKind {
        match self {
            Self::CpuTime | Self::Execution => ProfileKind::Cpu,
            Self::Allocation | Self::NewBuffer | Self::OutsideBuffer => ProfileKind::Alloc,
            Self::Monitor | Self::Park => ProfileKind::Lock,
        }
    }

    /// Whether it says the same as another one, with less certainty, so that it counts only without that one.
    pub(super) const fn replaced_by(self) -> Option<Self> {
        match self {
            Self::Execution => Some(Self::CpuTime),
            Self::NewBuffer | Self::OutsideBuffer => Some(Self::Allocation),
            _ => None,
        }
    }

    /// What an event of this type counts for; `None` if for nothing.
    pub(super) fn count(
        self,
        chunk: &Chunk<'_>,
        stacks: &Stacks<'_, '_>,
        event: Event,
        clock: Clock,
    ) -> Result<Option<Count>, ReadError> {
        let names = ["stackTrace", self.measure(), "allocationSize", "parkedClass"];
        let [stack, measure, size, parked] = chunk.fields(&mut chunk.cursor(event.at), event.class, names)?;
        let stack = if let Value::Constant(class, key) = stack { (class, key) } else { (0, 0) };
        let amount = clock.amount(&measure);
        let values = match self {
            Self::Execution => [1, clock.period_nanos],
            // The buffer is full of objects of which this is one.
            Self::NewBuffer => [(amount / clock.amount(&size).max(1)).max(1), amount],
            Self::OutsideBuffer => [1, clock.amount(&size)],
            Self::Park if !is_lock(&stacks.class_name(&parked)?) => return Ok(None),
            _ => [1, amount],
        };
        Ok(Some(Count { stack, values }))
    }

    /// The field that says how much.
    const fn measure(self) -> &'static str {
        match self {
            Self::CpuTime | Self::Execution => "samplingPeriod",
            Self::Allocation => "weight",
            Self::NewBuffer | Self::OutsideBuffer => "tlabSize",
            Self::Monitor | Self::Park => "duration",
        }
    }
}

impl Clock {
    /// A number, or a duration in nanoseconds; 0 for a negative one.
    fn amount(self, value: &Value<'_>) -> u64 {
        let positive = |number: &u64| i64::try_from(*number).map_or(0, |_| *number);
        match value {
            Value::Number(number) => positive(number),
            Value::Ticks(ticks) => self.nanos(positive(ticks)),
            _ => 0,
        }
    }

    /// Ticks as nanoseconds.
    pub(super) fn nanos(self, ticks: u64) -> u64 {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

fn is_lock(class: &str) -> bool {
    LOCKS.iter().any(|lock| {
        class.strip_prefix(lock).is_some_and(|rest| matches!(rest.chars().next(), None | Some('$')))
    })
}

/// Samples that an event says were lost.
pub(super) fn lost(chunk: &Chunk<'_>, event: Event) -> Result<u64, ReadError> {
    let mut cursor: Cursor<'_> = chunk.cursor(event.at);
    let [lost] = chunk.fields(&mut cursor, event.class, ["lostSamples"])?;
    Ok(if let Value::Number(lost) = lost { lost.min(u64::from(u32::MAX)) } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_locks_are_waited_for() {
        assert!(is_lock("java.util.concurrent.locks.ReentrantLock$NonfairSync"));
        assert!(is_lock("java.util.concurrent.locks.ReentrantLock"));
        assert!(!is_lock("java.util.concurrent.locks.ReentrantLockOfMine"));
        assert!(!is_lock("java.util.concurrent.locks.AbstractQueuedSynchronizer$ConditionObject"));
    }

    #[test]
    fn ticks_become_nanoseconds() {
        let clock = Clock { ticks_per_second: 2_500_000_000, period_nanos: 1 };
        assert_eq!(clock.amount(&Value::Ticks(25)), 10);
        assert_eq!(clock.amount(&Value::Ticks(u64::MAX)), 0, "negative");
        assert_eq!(clock.amount(&Value::Number(25)), 25);
        assert_eq!(Clock { ticks_per_second: 0, period_nanos: 1 }.nanos(u64::MAX), u64::MAX);
    }
}
