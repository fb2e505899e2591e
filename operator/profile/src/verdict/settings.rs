//! How large a change counts, and how sure must it be?

/// What a verdict needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Least pods of each revision; at least 2.
    pub min_pods: usize,
    /// The smallest change that counts.
    pub effect: Effect,
    /// How often an unchanged revision may be called slower; 0.001 to 0.2.
    pub error_rate: f64,
    /// A capture with less coverage than this, in %, is left out.
    pub min_coverage: i32,
    /// Most arrangements that are looked at; where there are more, so many less one are drawn.
    pub arrangements: u32,
}

/// The smallest rise of a function's share of CPU time that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// Rise of the self share that is enough in itself: 0.01 is one percentage point.
    pub points: f64,
    /// Rise of the self or cumulative share as a part of what it was, if it is also at least `least`.
    pub relative: f64,
    /// See `relative`.
    pub least: f64,
}

impl Default for Effect {
    /// One percentage point self, or 20 % and half a percentage point.
    fn default() -> Self {
        Self { points: 0.01, relative: 0.2, least: 0.005 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_pods: 3,
            effect: Effect::default(),
            error_rate: 0.05,
            min_coverage: 50,
            arrangements: 10_000,
        }
    }
}

impl Effect {
    /// The smallest rise that counts for a function that had this share.
    pub(super) fn smallest(&self, old: f64, cumulative: bool) -> f64 {
        let relative = self.least.max(self.relative * old);
        if cumulative { relative } else { relative.min(self.points) }
    }
}

impl Settings {
    /// The same within the ranges that its fields name.
    pub(super) fn bounded(&self) -> Self {
        let within = |value: f64, least: f64, most: f64, default: f64| {
            if value.is_finite() { value.clamp(least, most) } else { default }
        };
        let (effect, usual) = (self.effect, Effect::default());
        Self {
            min_pods: self.min_pods.max(2),
            effect: Effect {
                points: within(effect.points, 0.001, 1.0, usual.points),
                relative: within(effect.relative, 0.0, 100.0, usual.relative),
                least: within(effect.least, 0.001, 1.0, usual.least),
            },
            error_rate: within(self.error_rate, 0.001, 0.2, 0.05),
            min_coverage: self.min_coverage.clamp(0, 100),
            arrangements: self.arrangements.clamp(100, 100_000),
        }
    }

    /// Of so many arrangements, how many may be at least as extreme as the real one, itself included.
    pub(super) fn allowed(&self, arrangements: u64) -> u64 {
        // A rate of 5 % allows 1 of 20, whatever the last bit of their product says.
        (self.error_rate * arrangements as f64 + 1e-9).floor() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_by_points_or_in_proportion() {
        let effect = Effect::default();
        for (old, own, cumulative) in [(0.0, 0.005, 0.005), (0.03, 0.006, 0.006), (0.5, 0.01, 0.1)] {
            assert_eq!((effect.smallest(old, false), effect.smallest(old, true)), (own, cumulative), "{old}");
        }
    }

    #[test]
    fn one_of_twenty_is_five_percent() {
        let settings = Settings::default();
        assert_eq!([13, 19, 20, 39, 40, 70].map(|n| settings.allowed(n)), [0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn settings_without_sense_are_bounded() {
        let effect = Effect { points: f64::NAN, relative: -1.0, least: 0.0 };
        let wild = Settings { min_pods: 0, effect, error_rate: 7.0, min_coverage: -5, arrangements: 0 };
        let effect = Effect { points: 0.01, relative: 0.0, least: 0.001 };
        let bounded = Settings { min_pods: 2, effect, error_rate: 0.2, min_coverage: 0, arrangements: 100 };
        assert_eq!(wild.bounded(), bounded);
        assert_eq!(Settings::default().bounded(), Settings::default());
    }
}
