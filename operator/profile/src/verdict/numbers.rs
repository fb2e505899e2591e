//! Small statistics that give a finite number for whatever they are given.

/// The median; 0 of nothing.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    let at = |position: usize| values.get(position).copied().unwrap_or(0.0);
    if values.len() % 2 == 1 { at(half) } else { (at(half.saturating_sub(1)) + at(half)) / 2.0 }
}

/// The value at which half of the weight is reached; `None` without weight.
pub(crate) fn weighted_median(values: &mut [(f64, f64)]) -> Option<f64> {
    values.sort_unstable_by(|(one, _), (other, _)| one.total_cmp(other));
    let all: f64 = values.iter().map(|(_, weight)| weight).sum();
    let mut sum = 0.0;
    values
        .iter()
        .find(|(_, weight)| {
            sum += weight;
            all > 0.0 && sum >= all / 2.0
        })
        .map(|(value, _)| *value)
}

/// `part / whole`; 0 where there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    let ratio = part / whole;
    if ratio.is_finite() { ratio } else { 0.0 }
}

/// The mean; 0 of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    ratio(sum, count)
}

/// The median of χ² with so many degrees of freedom, for each of them (Wilson and Hilferty 1931). What is
/// estimated by the median of variances is divided by it.
pub(crate) fn chi_square_median(degrees: f64) -> f64 {
    let root = 1.0 - 2.0 / (9.0 * degrees.max(1.0));
    root * root * root
}

/// The share of the function that stands for all others when the smallest visible change is told.
pub const REFERENCE: f64 = 0.05;
/// So many standard errors above the threshold, and a change is seen by 80 % of the tests.
pub(crate) const POWER: f64 = 0.841_6;
/// "It did not change" needs that so many times the change that counts would have been seen.
pub(crate) const VISIBLE: f64 = 2.0;
/// How many units the spread that functions have in common counts for beside that of a function itself. With
/// few units, some function always varies little by chance (Smyth 2004: moderated statistics).
pub(crate) const PRIOR: f64 = 4.0;

/// Standard errors that a rise needs to be significant above the `critical` score; infinite where none is enough: a
/// rise adds to its own spread, so its score cannot exceed a bound, whatever its size.
pub(crate) fn errors_of_significance(critical: f64, degrees: f64) -> f64 {
    let left = degrees - critical * critical;
    if left > 0.0 { critical * (degrees / left).sqrt() } else { f64::INFINITY }
}

/// In how many ways `picked` of `all` are picked; `u64::MAX` where there are more.
pub(crate) fn combinations(all: usize, picked: usize) -> u64 {
    let picked = picked.min(all.saturating_sub(picked)) as u128;
    let mut ways: u128 = 1;
    for n in 0..picked {
        ways = ways * (all as u128 - n) / (n + 1);
        if ways > u128::from(u64::MAX) {
            return u64::MAX;
        }
    }
    u64::try_from(ways).unwrap_or(u64::MAX)
}

/// Numbers that look random and are the same for a seed (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 where that is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        // The bias is below 2^-50 for as few units as there are.
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle_and_nothing_has_none() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
        assert_eq!(weighted_median(&mut [(1.0, 1.0), (2.0, 5.0), (9.0, 1.0)]), Some(2.0));
        assert_eq!(weighted_median(&mut [(1.0, 0.0)]), None);
        assert_eq!((ratio(1.0, 0.0), ratio(0.0, 0.0), mean([].into_iter())), (0.0, 0.0, 0.0));
    }

    #[test]
    fn ways_are_counted_and_never_too_many() {
        assert_eq!((combinations(13, 1), combinations(16, 4), combinations(6, 3)), (13, 1_820, 20));
        assert_eq!((combinations(5, 0), combinations(3, 9), combinations(256, 128)), (1, 1, u64::MAX));
    }

    #[test]
    fn the_median_of_chi_square_is_that_of_the_tables() {
        for (degrees, median) in [(1.0, 0.455), (2.0, 1.386), (5.0, 4.351), (14.0, 13.339)] {
            assert!((chi_square_median(degrees) * degrees - median).abs() < 0.02, "{degrees}");
        }
    }
}
