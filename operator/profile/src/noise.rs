//! Is a change between two profiles more than chance? Told by how many samples there are on both sides.
//!
//! Samples of one stack are counted as independent events, as in a Poisson process. If nothing changed, those
//! of both profiles together fall to either one in proportion to what it had to sample: a binomial
//! distribution, or, where shares of totals are compared, a hypergeometric one. A change is noise within 1.96
//! standard deviations of that, two-sided and with a correction for continuity: some 95 of 100 changes by
//! chance.
//!
//! Samples of one pod and moment are alike, so the true spread is wider. What is marked as noise tells
//! nothing; what is not marked may still be chance, and among thousands of functions some always are.

use crate::basis::{Basis, Totals};

/// Fewer samples on both sides together never are more than noise: 5 of 5 on one side happen by chance in 6
/// of 100 cases.
const FEWEST: f64 = 6.0;
/// Standard deviations of the normal distribution that hold 95 %.
const DEVIATIONS: f64 = 1.96;

/// Samples of one profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counts {
    /// Those of the stack or function.
    samples: f64,
    /// Those of the profile.
    all: f64,
    /// How many samples one unit of the basis gives, such as a pod-second: another rate gives more.
    exposure: f64,
}

impl Counts {
    /// `samples` of a profile of these totals; `None` where it does not count samples, or has none.
    pub(crate) fn of(totals: Totals, samples: i64, basis: Basis) -> Option<Self> {
        let all = totals.samples.filter(|all| *all > 0)? as f64;
        let value = Some(totals.value).filter(|value| *value > 0)? as f64;
        let exposure = match basis {
            Basis::PerPodSecond => totals.pod_seconds()? * all / value,
            Basis::Share => all,
            Basis::Absolute => all / value,
        };
        Some(Self { samples: samples as f64, all, exposure })
    }
}

/// Whether the change from `base` to `after` may be chance.
pub(crate) fn is_noise(base: Counts, after: Counts, basis: Basis) -> bool {
    let samples = base.samples + after.samples;
    if samples < FEWEST {
        return true;
    }
    let part = after.exposure / (base.exposure + after.exposure);
    let all = base.all + after.all;
    let finite = if basis == Basis::Share { (all - samples).max(0.0) / (all - 1.0).max(1.0) } else { 1.0 };
    let deviation = (samples * part * (1.0 - part) * finite).sqrt();
    (after.samples - samples * part).abs() - 0.5 <= DEVIATIONS * deviation
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A profile of 10 ms a sample.
    fn totals(samples: i64, pod_seconds: i64) -> Totals {
        let pod_nanos = Some(pod_seconds * 1_000_000_000);
        Totals { value: samples * 10_000_000, samples: Some(samples), pod_nanos }
    }

    fn noise(base: (i64, Totals), after: (i64, Totals), basis: Basis) -> bool {
        let counts = |(samples, totals)| Counts::of(totals, samples, basis).expect("samples");
        is_noise(counts(base), counts(after), basis)
    }

    #[test]
    fn few_samples_tell_nothing_and_many_do() {
        let one = totals(1_000, 100);
        for basis in [Basis::PerPodSecond, Basis::Share, Basis::Absolute] {
            for (base, after, wanted) in [
                (0, 5, true),
                (0, 6, false),
                (50, 60, true),
                (50, 80, false),
                (500, 520, true),
                (100, 100, true),
            ] {
                assert_eq!(noise((base, one), (after, one), basis), wanted, "{basis:?} {base} {after}");
            }
        }
    }

    #[test]
    fn what_was_captured_longer_or_faster_is_expected_to_have_more() {
        let (short, long) = (totals(1_000, 100), totals(4_000, 400));
        assert!(noise((50, short), (200, long), Basis::PerPodSecond));
        assert!(!noise((50, short), (50, long), Basis::PerPodSecond));
        assert!(!noise((50, short), (200, long), Basis::Absolute), "four times the value is a change");
        let fast = Totals { samples: Some(4_000), ..short };
        assert!(noise((50, short), (200, fast), Basis::PerPodSecond), "the same time, sampled more often");
        let busy = totals(4_000, 100);
        assert!(!noise((50, short), (200, busy), Basis::PerPodSecond));
        assert!(noise((50, short), (200, busy), Basis::Share), "the same share of more load");
    }

    #[test]
    fn where_no_samples_are_counted_nothing_is_said() {
        let counts = |totals| Counts::of(totals, 1, Basis::Share);
        assert_eq!(counts(Totals { value: 5, samples: None, pod_nanos: None }), None);
        assert_eq!(counts(Totals::default()), None);
        assert_eq!(Counts::of(Totals { pod_nanos: None, ..totals(9, 1) }, 1, Basis::PerPodSecond), None);
    }

    /// Numbers that look random and are the same every time.
    struct Numbers(u64);

    impl Numbers {
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// How many of `n` tries succeed.
        fn binomial(&mut self, n: i64, chance: f64) -> i64 {
            (0..n).filter(|_| self.unit() < chance).count() as i64
        }
    }

    #[test]
    fn of_changes_by_chance_about_95_in_100_are_noise() {
        let mut numbers = Numbers(7);
        for (n, chance) in [(2_000, 0.005), (2_000, 0.05), (500, 0.3)] {
            let tries = 1_000;
            let noisy = (0..tries).filter(|_| {
                let (base, after) = (numbers.binomial(n, chance), numbers.binomial(2 * n, chance));
                noise((base, totals(n, n)), (after, totals(2 * n, 2 * n)), Basis::Share)
            });
            let noisy = noisy.count();
            assert!((935..=990).contains(&noisy), "{noisy} of {tries} at {chance} of {n}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_which_one_is_the_base(
            base in 0..1_000_i64, after in 0..1_000_i64, short in 1..1_000_i64, long in 1..1_000_i64,
        ) {
            for basis in [Basis::PerPodSecond, Basis::Share, Basis::Absolute] {
                let (one, two) = ((base, totals(base + short, short)), (after, totals(after + long, long)));
                prop_assert_eq!(noise(one, two, basis), noise(two, one, basis));
                prop_assert!(noise(one, one, basis), "nothing has changed");
            }
        }
    }
}
