//! What does a profile count? The one list of kinds for the API, the wire, the collectors and the keys.
//!
//! A kind is a row of this table: name, sample types, period, how many samples are possible, and how to say
//! that there were none. What a runtime calls it is the collector's business: Go's `allocs`, `mutex` and
//! `block` are [`Alloc`](ProfileKind::Alloc), [`Lock`](ProfileKind::Lock) and [`Block`](ProfileKind::Block).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most threads of a target that run at one moment: more than any node has CPUs.
pub const MAX_RUNNING_THREADS: i64 = 4_096;
/// Most threads of a target: more than a pod may have in usual clusters (`podPidsLimit`).
const MAX_THREADS: i64 = 65_536;
/// Most events or objects of one profile that are believed: the largest count that every JSON reader reads
/// exactly.
const MAX_COUNT: i64 = 1 << 53;

/// What a profile counts. The names are those of `profiles[]` in a policy; the schema offers those that a
/// collector captures today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(description = "Type of profile."))]
#[serde(rename_all = "lowercase")]
pub enum ProfileKind {
    /// Time on a processor.
    Cpu,
    /// Time passed, waiting included: of each thread the time that it lived during the capture.
    Wall,
    /// Memory allocated during the capture.
    Alloc,
    /// Memory in use at the end of the capture: by stack, or by class where a runtime knows no more (a heap
    /// histogram).
    Heap,
    /// Waiting for locks.
    Lock,
    /// Waiting for anything: locks, channels, timers.
    Block,
    /// Goroutines (or threads) by what they do.
    Goroutine,
    /// A kind of a newer version. It is skipped with a reason; nothing is captured in its place.
    #[cfg_attr(feature = "schema", schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// A type and its unit, such as `("cpu", "nanoseconds")`.
pub type TypeAndUnit = (&'static str, &'static str);

/// How long and how often a target is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Length of the capture in seconds.
    pub seconds: u32,
    /// Samples a second and thread.
    pub frequency_hz: u32,
}

impl ProfileKind {
    /// Every kind that this version knows, in the order of the API.
    pub const ALL: [Self; 7] =
        [Self::Cpu, Self::Wall, Self::Alloc, Self::Heap, Self::Lock, Self::Block, Self::Goroutine];

    /// The name in the API, on the wire, in keys and in labels: lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::Alloc => "alloc",
            Self::Heap => "heap",
            Self::Lock => "lock",
            Self::Block => "block",
            Self::Goroutine => "goroutine",
            Self::Unknown => "unknown",
        }
    }

    /// Whether this version knows the kind.
    #[must_use]
    pub const fn is_known(self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// The sample types, counts first. The last one is what people look at first.
    #[must_use]
    pub const fn sample_types(self) -> &'static [TypeAndUnit] {
        match self {
            Self::Cpu => &[("samples", "count"), ("cpu", "nanoseconds")],
            Self::Wall => &[("samples", "count"), ("wall", "nanoseconds")],
            Self::Alloc => &[("alloc_objects", "count"), ("alloc_space", "bytes")],
            Self::Heap => &[("inuse_objects", "count"), ("inuse_space", "bytes")],
            Self::Lock | Self::Block => &[("contentions", "count"), ("delay", "nanoseconds")],
            Self::Goroutine => &[("goroutine", "count")],
            Self::Unknown => &[("unknown", "count")],
        }
    }

    /// What lies between two samples.
    #[must_use]
    pub const fn period_type(self) -> TypeAndUnit {
        match self {
            Self::Cpu => ("cpu", "nanoseconds"),
            Self::Wall => ("wall", "nanoseconds"),
            Self::Alloc | Self::Heap => ("space", "bytes"),
            Self::Lock | Self::Block => ("contentions", "count"),
            Self::Goroutine => ("goroutine", "count"),
            Self::Unknown => ("unknown", "count"),
        }
    }

    /// Whether stacks are taken at a rate, so that `frequencyHz` means something.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        matches!(self, Self::Cpu | Self::Wall)
    }

    /// Whether it shows what is there at one moment, so that a rate of it means nothing.
    #[must_use]
    pub const fn is_momentary(self) -> bool {
        matches!(self, Self::Heap | Self::Goroutine)
    }

    /// Maximum number of samples of a capture. Reports of more are ignored.
    #[must_use]
    pub fn most_samples(self, rate: Rate) -> i64 {
        let ticks = i64::from(rate.seconds).saturating_mul(rate.frequency_hz.into());
        match self {
            Self::Cpu => ticks.saturating_mul(MAX_RUNNING_THREADS),
            Self::Wall => ticks.saturating_mul(MAX_THREADS),
            _ => MAX_COUNT,
        }
    }

    /// What a target did whose profile is empty, as in "the target used no CPU".
    #[must_use]
    pub const fn nothing(self) -> &'static str {
        match self {
            Self::Cpu => "used no CPU",
            Self::Wall => "had no thread",
            Self::Alloc => "allocated nothing",
            Self::Heap => "held no memory",
            Self::Lock => "waited for no lock",
            Self::Block => "never waited",
            Self::Goroutine => "had no goroutine",
            Self::Unknown => "was not captured",
        }
    }

    /// The values of `hits` samples that stand `period` apart: `[hits, hits × period]`, saturating.
    #[must_use]
    pub fn values(self, hits: i64, period: i64) -> Vec<i64> {
        match self.sample_types().len() {
            1 => vec![hits],
            _ => vec![hits, hits.saturating_mul(period)],
        }
    }
}

impl fmt::Display for ProfileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no [`ProfileKind`] has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a kind of profile: use one of cpu, wall, alloc, heap, lock, block, goroutine")]
pub struct UnknownKind(String);

impl FromStr for ProfileKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind(name.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for kind in ProfileKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        let error = "CPU".parse::<ProfileKind>().unwrap_err().to_string();
        assert!(ProfileKind::ALL.iter().all(|kind| error.contains(kind.name())), "{error}");
    }

    #[test]
    fn a_kind_of_a_newer_version_is_read_and_never_taken_for_another() {
        let kinds: Vec<ProfileKind> = serde_json::from_str(r#"["wall","energy","unknown"]"#).unwrap();
        assert_eq!(kinds, [ProfileKind::Wall, ProfileKind::Unknown, ProfileKind::Unknown]);
        assert!("unknown".parse::<ProfileKind>().is_err() && !ProfileKind::Unknown.is_known());
    }

    #[test]
    fn counts_come_first_and_hits_are_weighed_by_the_period() {
        for kind in ProfileKind::ALL {
            assert_eq!(kind.sample_types()[0].1, "count", "{kind}");
            assert_eq!(kind.values(1, 1).len(), kind.sample_types().len(), "{kind}");
        }
        assert_eq!(ProfileKind::Cpu.values(3, 10_101_010), [3, 30_303_030]);
        assert_eq!(ProfileKind::Wall.values(2, i64::MAX), [2, i64::MAX]);
    }

    #[test]
    fn a_sampled_kind_is_bounded_by_its_rate_and_the_others_by_what_a_reader_reads() {
        let rate = Rate { seconds: 10, frequency_hz: 99 };
        assert_eq!(ProfileKind::Cpu.most_samples(rate), 990 * MAX_RUNNING_THREADS);
        let longest = Rate { seconds: u32::MAX, frequency_hz: u32::MAX };
        for kind in ProfileKind::ALL {
            let (few, many) = (kind.most_samples(rate), kind.most_samples(longest));
            assert_eq!(few < many, kind.is_sampled(), "{kind}");
            assert!(few > 0 && many > 0, "{kind}");
        }
    }
}
