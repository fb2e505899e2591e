//! How much growth counts, how sure must it be, and how many sessions does that take?

/// Fewest sessions of a look. Five have 120 orders, which would do for an error rate of 1 %, but a rise that
/// beats all other orders is hardly ever seen among hundreds of functions, nor can it be told whether it is steady.
pub const LEAST_SESSIONS: usize = 8;
/// Most sessions of a look; of more, the last ones count.
pub const MOST_SESSIONS: usize = 60;

/// What a look needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Growth of a function over all sessions counts from this part of what it was on.
    pub relative: f64,
    /// It also has to be this part of all that a pod uses; 0.001 to 1.
    pub least: f64,
    /// How often a workload in which nothing grows may be called growing; 0.0005 to 0.2.
    pub error_rate: f64,
    /// A capture of CPU time with less coverage than this, in %, is left out.
    pub min_coverage: i32,
    /// How many orders of the sessions are looked at: the real one, and others that are drawn. 1,000 to 100,000.
    pub orders: u32,
}

impl Default for Settings {
    /// A fifth of what the function was and 1 % of the pod, in 1 of 100 looks at most by chance.
    fn default() -> Self {
        Self { relative: 0.2, least: 0.01, error_rate: 0.01, min_coverage: 50, orders: 10_000 }
    }
}

impl Settings {
    /// The same within the ranges that its fields name.
    pub(super) fn bounded(&self) -> Self {
        let within = |value: f64, least: f64, most: f64, default: f64| {
            if value.is_finite() { value.clamp(least, most) } else { default }
        };
        let usual = Self::default();
        Self {
            relative: within(self.relative, 0.0, 100.0, usual.relative),
            least: within(self.least, 0.001, 1.0, usual.least),
            error_rate: within(self.error_rate, 0.000_5, 0.2, usual.error_rate),
            min_coverage: self.min_coverage.clamp(0, 100),
            orders: self.orders.clamp(1_000, 100_000),
        }
    }

    /// The smallest growth that counts of a function that used so much, in pods that use so much in all.
    pub(super) fn smallest(&self, before: f64, total: f64) -> f64 {
        (self.relative * before).max(self.least * total)
    }

    /// Of so many orders, how many may look at least as much like growth as the real one, itself included.
    pub(super) fn allowed(&self, orders: u64) -> u64 {
        (self.error_rate * orders as f64 + 1e-9).floor() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_counts_by_what_it_was_and_by_all_that_is_used() {
        let settings = Settings::default();
        assert_eq!(settings.smallest(0.0, 100.0), 1.0);
        assert_eq!(settings.smallest(50.0, 100.0), 10.0);
    }

    #[test]
    fn settings_without_sense_are_bounded() {
        let wild =
            Settings { relative: f64::NAN, least: -1.0, error_rate: 7.0, min_coverage: 400, orders: 0 };
        let wanted =
            Settings { relative: 0.2, least: 0.001, error_rate: 0.2, min_coverage: 100, orders: 1_000 };
        assert_eq!(wild.bounded(), wanted);
        assert_eq!(Settings::default().bounded(), Settings::default());
        // The least rate of a policy, of which each of two kinds has half.
        let strict = Settings { error_rate: 0.000_5, ..Settings::default() };
        assert_eq!((strict.bounded().error_rate, strict.allowed(10_000)), (0.000_5, 5));
    }
}
