//! What does a profile count?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a profile counts; the names are those of `profiles[]` in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleKind {
    /// Time on a processor.
    Cpu,
    /// Time passed, waiting included.
    Wall,
    /// Memory allocated during the capture.
    Alloc,
    /// Memory in use at the end of the capture.
    Heap,
    /// Waiting for locks.
    Lock,
    /// Goroutines (or threads) by what they do.
    Goroutine,
}

/// A type and its unit, such as `("cpu", "nanoseconds")`.
pub type TypeAndUnit = (&'static str, &'static str);

impl SampleKind {
    /// Every kind, in the order of the API.
    pub const ALL: [Self; 6] = [Self::Cpu, Self::Wall, Self::Alloc, Self::Heap, Self::Lock, Self::Goroutine];

    /// The name in the API, in keys and in labels: lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::Alloc => "alloc",
            Self::Heap => "heap",
            Self::Lock => "lock",
            Self::Goroutine => "goroutine",
        }
    }

    /// The sample types, counts first. The last one is what people look at first.
    pub const fn sample_types(self) -> &'static [TypeAndUnit] {
        match self {
            Self::Cpu => &[("samples", "count"), ("cpu", "nanoseconds")],
            Self::Wall => &[("samples", "count"), ("wall", "nanoseconds")],
            Self::Alloc => &[("alloc_objects", "count"), ("alloc_space", "bytes")],
            Self::Heap => &[("inuse_objects", "count"), ("inuse_space", "bytes")],
            Self::Lock => &[("contentions", "count"), ("delay", "nanoseconds")],
            Self::Goroutine => &[("goroutine", "count")],
        }
    }

    /// What lies between two samples.
    pub const fn period_type(self) -> TypeAndUnit {
        match self {
            Self::Cpu => ("cpu", "nanoseconds"),
            Self::Wall => ("wall", "nanoseconds"),
            Self::Alloc | Self::Heap => ("space", "bytes"),
            Self::Lock => ("contentions", "count"),
            Self::Goroutine => ("goroutine", "count"),
        }
    }

    /// The values of `hits` samples that stand `period` apart: `[hits, hits × period]`, saturating.
    pub fn values(self, hits: i64, period: i64) -> Vec<i64> {
        match self.sample_types().len() {
            1 => vec![hits],
            _ => vec![hits, hits.saturating_mul(period)],
        }
    }
}

impl fmt::Display for SampleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no [`SampleKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no kind of profile: use one of cpu, wall, alloc, heap, lock, goroutine")]
pub struct UnknownKind(String);

impl FromStr for SampleKind {
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
        for kind in SampleKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("CPU".parse::<SampleKind>().is_err());
    }

    #[test]
    fn counts_come_first_and_hits_are_weighed_by_the_period() {
        for kind in SampleKind::ALL {
            assert_eq!(kind.sample_types()[0].1, "count", "{kind}");
            assert_eq!(kind.values(1, 1).len(), kind.sample_types().len(), "{kind}");
        }
        assert_eq!(SampleKind::Cpu.values(3, 10_101_010), [3, 30_303_030]);
        assert_eq!(SampleKind::Wall.values(2, i64::MAX), [2, i64::MAX]);
    }
}
