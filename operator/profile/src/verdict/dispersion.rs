//! How much more do shares vary between captures of one revision than counting samples gives?

use super::capture::PodCapture;
use super::numbers::median;
use super::plan::{Plan, by_capture, by_moment};
use super::table;

/// How captures of one revision vary. φ is the variance of a share ÷ that of counting samples, for the typical
/// function: 1 is counting alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dispersion {
    /// φ between pods that were captured at one moment; `None` where no moment has two.
    pub pods: Option<f64>,
    /// φ between moments, of all pods of each together; `None` where there is one moment.
    pub moments: Option<f64>,
    /// Captures that have samples.
    pub captures: usize,
    /// Different moments of these.
    pub count: usize,
    /// Median of the samples of a capture.
    pub samples: f64,
    /// Median of the samples of a moment.
    pub samples_of_moment: f64,
}

/// Measures it. `about.side` does not matter: all captures are taken as one revision's.
#[must_use]
pub fn dispersion(captures: &[PodCapture]) -> Dispersion {
    let sampled: Vec<&PodCapture> = captures.iter().filter(|c| c.samples > 0 && c.value > 0).collect();
    let (pods, moments) = (by_capture(&sampled), by_moment(&sampled));
    let count = moments.units.len();
    let samples = |plan: &Plan<'_>| {
        let of = |captures: &[&PodCapture]| captures.iter().map(|c| c.samples as f64).sum();
        median(&mut plan.units.iter().map(|unit| of(&unit.captures)).collect::<Vec<f64>>())
    };
    Dispersion {
        pods: (sampled.len() > count).then(|| table::dispersion_of(&pods)).flatten(),
        moments: (count > 1).then(|| table::dispersion_of(&moments)).flatten(),
        captures: sampled.len(),
        count,
        samples: samples(&pods),
        samples_of_moment: samples(&moments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Side;
    use crate::verdict::numbers::Random;
    use crate::verdict::testing::with;

    /// Three pods at each of so many moments: of 4,000 samples, each is in `a` to `d` by chance. At every other
    /// moment `a` takes `more` of them besides.
    fn captures(moments: u32, more: i64) -> Vec<PodCapture> {
        let mut random = Random::new(11);
        let mut captures = Vec::new();
        for n in 0..3 * moments {
            let mut counts = [0_i64; 4];
            (0..4_000).for_each(|_| counts[random.below(4)] += 1);
            counts[0] += more * i64::from((n / 3) % 2);
            let functions: Vec<(&str, i64)> = ["a", "b", "c", "d"].into_iter().zip(counts).collect();
            captures.push(with(&format!("pod-{n}"), Side::New, n / 3, &functions));
        }
        captures
    }

    #[test]
    fn counting_alone_is_one_and_what_differs_between_moments_is_told_apart() {
        let plain = dispersion(&captures(30, 0));
        let (pods, moments) = (plain.pods.expect("three pods each"), plain.moments.expect("30 moments"));
        assert!((0.7..1.4).contains(&pods) && (0.6..1.6).contains(&moments), "{plain:?}");
        assert_eq!((plain.captures, plain.count), (90, 30));
        assert_eq!((plain.samples, plain.samples_of_moment), (4_000.0, 12_000.0));
        let differs = dispersion(&captures(30, 1_500));
        assert!(differs.pods.is_some_and(|pods| (0.7..1.4).contains(&pods)), "{differs:?}");
        assert!(differs.moments.is_some_and(|moments| moments > 10.0), "{differs:?}");
    }

    #[test]
    fn one_capture_tells_nothing() {
        let one = dispersion(&captures(1, 0)[..1]);
        assert_eq!((one.pods, one.moments, one.captures), (None, None, 1));
        assert_eq!((dispersion(&[]).pods, dispersion(&[]).count), (None, 0));
    }
}
