//! Did a new revision of a workload get slower, in which functions, and how sure is that?
//!
//! ```text
//! profiles ─► PodCapture ─► plan ─► table ──► permute ──► level · moved ─► Verdict
//!             by function   what    shares    how often    is it cost,       and how small a change
//!                           may be  and their does chance  did it move?      could have been seen
//!                           exchanged noise   do as much?                    (sensitivity)
//! ```
//! The unit is the capture of a pod, never its samples: those of one pod and moment resemble each other.
//! There is one look at captures that were chosen before; looking again until it is significant calls every
//! revision slower in the end. Why this test and not another one, and what it misses: decision record 0063.
//!
//! Everything is finite and bounded, whatever the profiles hold: 64 captures of each revision, 2,048
//! functions of each capture, 512 of them compared, 100,000 arrangements.

mod arrange;
mod capture;
#[cfg(test)]
mod capture_tests;
mod dispersion;
mod judge;
mod level;
mod moved;
mod names;
pub(crate) mod numbers;
mod permute;
mod plan;
mod sensitivity;
mod settings;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod words;

use serde::{Deserialize, Serialize};

pub use capture::{About, Call, FunctionUse, MAX_CALLS, MAX_FUNCTIONS, NotOfKind, PodCapture, Side};
pub use dispersion::{Dispersion, dispersion};
pub use numbers::REFERENCE;
pub use plan::MAX_CAPTURES;
pub use settings::{Effect, Settings};

use numbers::mean;

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", content = "reason")]
pub enum Outcome {
    /// At least one function costs more, by enough to count, and chance rarely does that.
    Regressed,
    /// None does, and a change of twice the size that counts would have been seen.
    NotRegressed,
    /// It cannot be told.
    Inconclusive(Why),
}

/// Why it cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Too few pods of a revision.
    FewPods,
    /// The revisions were captured at different moments, and at too few of them.
    FewMoments,
    /// Too few samples to see a change of the size that counts.
    NotEnoughSamples,
    /// The revisions ran under different loads.
    DifferentLoad,
    /// Too little of the CPU time is in the profiles, or of one revision much less than of the other.
    LowCoverage,
}

/// The verdict on a revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How often chance makes any function rise as clearly; 1 where none rose by enough to count. `None`
    /// where there was nothing to test.
    pub p: Option<f64>,
    /// How many arrangements of old and new were looked at.
    pub arrangements: u64,
    /// Whether these are all that there are.
    pub every: bool,
    /// The smallest rise of the self share of a function of 5 % that is seen in 4 of 5 such comparisons;
    /// 0.01 is one percentage point. `None` where no change could have been seen.
    pub smallest: Option<f64>,
    /// What would be enough for a verdict, where it is captures that are missing.
    pub enough: Option<Enough>,
    /// Load of the new revision ÷ load of the old one, by functions that did not change; `None` where CPU
    /// time by pod is not known.
    pub load: Option<f64>,
    /// Variance of shares between captures of one revision ÷ what counting samples alone would give.
    pub dispersion: Option<f64>,
    /// At most 5 functions: what costs more, then what moved, then what rose most by chance.
    pub functions: Vec<FunctionChange>,
    /// What was compared of the old revision.
    pub old: Revision,
    /// What was compared of the new one.
    pub new: Revision,
}

/// What would be enough for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enough {
    /// Pods of the old revision, captured at the same moment as those of the new one.
    pub old_pods: usize,
    /// Pods of the new revision.
    pub new_pods: usize,
    /// Or, where the revisions cannot be captured together, moments of the old revision.
    pub old_moments: Option<usize>,
    /// Samples in each pod, where more of them help.
    pub samples_per_pod: Option<i64>,
}

/// How a function changed. Shares are of the CPU time, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionChange {
    /// Its name, as every build has it.
    pub name: String,
    /// The last part of its source file's path, or empty.
    pub file: String,
    /// Whether the shares include what it calls.
    pub cumulative: bool,
    /// Share before.
    pub old_share: f64,
    /// Share now.
    pub new_share: f64,
    /// Cores by pod before; `None` where CPU time by pod is not known.
    pub old_cores: Option<f64>,
    /// Cores by pod now.
    pub new_cores: Option<f64>,
    /// How often chance makes any function rise as clearly; 1 where it did not rise by enough to count.
    pub p: f64,
    /// What it came to.
    pub what: What,
    /// The smallest rise of it that is seen in 4 of 5 such comparisons.
    pub smallest: Option<f64>,
    /// The rise of its share less and plus what chance makes of any function in all but the error rate of
    /// arrangements, by its own spread. It holds for all functions together. `None` where no score is enough.
    pub interval: Option<(f64, f64)>,
}

/// What the rise of a function came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum What {
    /// It costs more.
    Rose,
    /// Its cost moved here from functions that belong to it.
    Moved,
    /// Its share rose since the rest of the program got cheaper.
    ShareOnly,
    /// It rose by too little to count, or no more than by chance.
    Noise,
}

/// What was compared of a revision.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its pods.
    pub pods: usize,
    /// Captures of them.
    pub captures: usize,
    /// Samples in these.
    pub samples: i64,
    /// Mean coverage in %, of captures of which it is known.
    pub coverage: Option<f64>,
}

impl Revision {
    fn of<'a>(captures: impl Iterator<Item = &'a PodCapture>) -> Self {
        let captures: Vec<&PodCapture> = captures.collect();
        let pods: std::collections::BTreeSet<&String> = captures.iter().map(|c| &c.about.pod).collect();
        let coverage: Vec<f64> = captures.iter().filter_map(|c| c.about.coverage).map(f64::from).collect();
        Self {
            pods: pods.len(),
            captures: captures.len(),
            samples: captures.iter().map(|c| c.samples.max(0)).fold(0, i64::saturating_add),
            coverage: (!coverage.is_empty()).then(|| mean(coverage.into_iter())),
        }
    }
}

/// Compares the captures of two revisions of a workload, once. `seed` draws arrangements where there are too
/// many to look at each: derive it from what identifies the comparison, such as the session's uid, so that
/// the verdict can be repeated.
#[must_use]
pub fn verdict(captures: &[PodCapture], settings: &Settings, seed: u64) -> Verdict {
    let settings = settings.bounded();
    match plan::plan(captures, &settings) {
        Ok(plan) => judge::judge(&plan, &settings, seed),
        Err(short) => undecided(captures, short),
    }
}

/// The verdict without a look.
fn undecided(captures: &[PodCapture], short: plan::Short) -> Verdict {
    let of_side = |side| Revision::of(captures.iter().filter(move |capture| capture.about.side == side));
    Verdict {
        outcome: Outcome::Inconclusive(short.why),
        p: None,
        arrangements: 0,
        every: false,
        smallest: None,
        enough: Some(short.enough),
        load: None,
        dispersion: None,
        functions: Vec::new(),
        old: of_side(Side::Old),
        new: of_side(Side::New),
    }
}
