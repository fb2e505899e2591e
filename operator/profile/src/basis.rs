//! What is compared of two profiles that were captured for different times, of different numbers of pods?

use serde::{Deserialize, Serialize};

use crate::kind::ProfileKind;
use crate::text::percent;

/// Which of the two profiles of a comparison; a tree of one profile has no base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The profile that is looked at.
    After,
    /// What it is compared with.
    Base,
}

/// Both sides, in the order of their values.
pub(crate) const SIDES: [Side; 2] = [Side::After, Side::Base];

/// What a profile sums up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The sum of the value over all samples.
    pub value: i64,
    /// How many samples were taken; `None` where the profile counts something else.
    pub samples: Option<i64>,
    /// For how long its pods were captured, added up over the pods; `None` where it is not known.
    pub pod_nanos: Option<i64>,
}

/// What a comparison takes as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Basis {
    /// Value by pod and second captured: what a pod costs. More load shows as a change of everything.
    PerPodSecond,
    /// Percent of each profile's own total: what the time goes to. Whatever grows, all others shrink.
    Share,
    /// The values as they are: for captures of the same length and number of pods.
    Absolute,
}

/// Why two profiles cannot be compared as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BasisError {
    /// The time captured is not known of both.
    #[error(
        "one of the profiles does not say for how long it was captured: use basis=share or basis=absolute"
    )]
    NoTime,
    /// The kind counts what is there at one moment.
    #[error("a profile of this type shows one moment, not a time: use basis=share or basis=absolute")]
    Moment,
}

impl Basis {
    /// The basis that is asked for, or else the best one that both profiles allow.
    ///
    /// # Errors
    /// [`Basis::PerPodSecond`] is asked for and cannot be computed.
    pub fn choose(
        asked: Option<Self>,
        kind: ProfileKind,
        base: Totals,
        after: Totals,
    ) -> Result<Self, BasisError> {
        let timed = [base, after].iter().all(|totals| totals.pod_seconds().is_some());
        match asked {
            Some(Self::PerPodSecond) if kind.is_momentary() => Err(BasisError::Moment),
            Some(Self::PerPodSecond) if !timed => Err(BasisError::NoTime),
            Some(basis) => Ok(basis),
            None if timed && !kind.is_momentary() => Ok(Self::PerPodSecond),
            None => Ok(Self::Share),
        }
    }

    /// The name, as in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PerPodSecond => "perPodSecond",
            Self::Share => "share",
            Self::Absolute => "absolute",
        }
    }

    /// A value on this basis; percent for [`Basis::Share`].
    pub fn of(self, value: i64, totals: Totals) -> f64 {
        match self {
            Self::PerPodSecond => value as f64 / totals.pod_seconds().unwrap_or(1.0),
            Self::Share => percent(value, totals.value),
            Self::Absolute => value as f64,
        }
    }
}

impl Totals {
    /// For how long its pods were captured, in seconds; above 0 where it is known.
    #[must_use]
    pub fn pod_seconds(self) -> Option<f64> {
        self.pod_nanos.filter(|nanos| *nanos > 0).map(|nanos| nanos as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMED: Totals = Totals { value: 200, samples: None, pod_nanos: Some(4_000_000_000) };
    const UNTIMED: Totals = Totals { value: 100, samples: None, pod_nanos: None };

    #[test]
    fn the_default_is_what_a_pod_costs_where_that_is_known() {
        let choose = |asked, kind, base| Basis::choose(asked, kind, base, TIMED);
        assert_eq!(choose(None, ProfileKind::Cpu, TIMED), Ok(Basis::PerPodSecond));
        assert_eq!(choose(None, ProfileKind::Cpu, UNTIMED), Ok(Basis::Share));
        assert_eq!(choose(None, ProfileKind::Heap, TIMED), Ok(Basis::Share));
        assert_eq!(choose(Some(Basis::Absolute), ProfileKind::Heap, UNTIMED), Ok(Basis::Absolute));
        let timed = Some(Basis::PerPodSecond);
        assert_eq!(choose(timed, ProfileKind::Cpu, UNTIMED), Err(BasisError::NoTime));
        assert_eq!(choose(timed, ProfileKind::Heap, TIMED), Err(BasisError::Moment));
        let never = Totals { pod_nanos: Some(0), ..TIMED };
        assert_eq!(choose(timed, ProfileKind::Cpu, never), Err(BasisError::NoTime), "0 is not a time");
    }

    #[test]
    fn values_are_put_on_a_basis() {
        assert_eq!(Basis::PerPodSecond.of(100, TIMED), 25.0);
        assert_eq!(Basis::Share.of(100, TIMED), 50.0);
        assert_eq!(Basis::Absolute.of(100, TIMED), 100.0);
        assert_eq!(Basis::Share.of(0, Totals::default()), 0.0, "nothing of nothing");
    }
}
