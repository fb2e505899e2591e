//! Does a function of a workload use more and more, from session to session of one revision?
//!
//! ```text
//! PodCapture of each session ─► units ─► table ───► order ─────► steady ─► Trend
//!                               mean of  amounts    how often    or is it  and how small a growth
//!                               its pods by function does chance a step,   could have been seen
//!                                                   do as much?  a cycle?  (sensitivity)
//! ```
//! The unit is the session. If nothing grows, its place among the others says nothing, and any order of the
//! sessions is as likely as the real one; growth is a rise that hardly any other order shows. It is the test of
//! [`verdict`](crate::verdict) with orders in place of revisions, and there is one look at each session. Why this
//! test, and what it misses: decision record 0077.
//!
//! Everything is finite and bounded, whatever the profiles hold: 60 sessions, 512 functions, 100,000 orders.

mod judge;
mod order;
mod sensitivity;
mod settings;
mod steady;
mod table;
#[cfg(test)]
mod tests;
mod units;
pub mod words;

use std::collections::BTreeMap;

use crate::kind::ProfileKind;
use crate::verdict::PodCapture;

pub use settings::{LEAST_SESSIONS, MOST_SESSIONS, Settings};

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// At least one function grew, by enough to count, steadily, and chance rarely does that.
    Growing,
    /// None did, and a growth of twice the size that counts would have been seen.
    NotGrowing,
    /// It cannot be told.
    Inconclusive(Why),
}

/// Why it cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Too few sessions have usable profiles.
    FewSessions,
    /// A function rose, but in a step, a cycle, or less and less.
    NotSteady,
    /// The load changed over the sessions.
    DifferentLoad,
    /// The sessions differ too much from each other to see growth of the size that counts.
    NotEnoughSamples,
}

/// Whether functions of a workload grow.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// What is used: `Cpu` in cores by pod, at the same load; `Heap` in bytes by pod.
    pub kind: ProfileKind,
    /// What came of it.
    pub outcome: Outcome,
    /// In which part of the orders any function grows as clearly; 1 where none grew by enough to count. `None`
    /// where there was nothing to test.
    pub p: Option<f64>,
    /// Sessions that were looked at.
    pub sessions: usize,
    /// Captures of pods in these.
    pub captures: usize,
    /// The smallest growth of a function of 5 % that is seen in 4 of 5 such looks, as a part of all that a pod
    /// uses. `None` where none could have been seen.
    pub smallest: Option<f64>,
    /// How many sessions would be enough, where more of them help.
    pub enough: Option<usize>,
    /// Load at the end ÷ load at the beginning; `None` where it is not known.
    pub load: Option<f64>,
    /// Variance of an amount between sessions ÷ its mean, in its unit, for the typical function.
    pub dispersion: Option<f64>,
    /// All that a pod uses, mean of the sessions.
    pub total: f64,
    /// At most 5 functions: what grows, then what rose unsteadily, then what rose most by chance.
    pub functions: Vec<Growth>,
}

/// How a function grew. Amounts are in cores or bytes by pod, on the line through all sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// Its name, as every build has it.
    pub name: String,
    /// The last part of its source file's path, or empty.
    pub file: String,
    /// Whether the amounts include what it calls.
    pub cumulative: bool,
    /// At the first session.
    pub from: f64,
    /// At the last one.
    pub to: f64,
    /// In which part of the orders any function grows as clearly; 1 where it did not grow by enough to count.
    pub p: f64,
    /// What it came to.
    pub what: What,
}

/// What the rise of a function came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It grows.
    Grows,
    /// It rose, but not from session to session: in a step, in a cycle, or less and less.
    NotSteady,
    /// It rose by too little to count, or no more than by chance.
    Noise,
}

/// Looks at the sessions of one revision once. `about.moment` of a capture is the number of its session, which
/// rises with time; `loads` are cores by pod in sessions where they are known, for kinds other than `Cpu`. `seed`
/// draws the orders: derive it from what identifies the look, so that it can be repeated.
#[must_use]
pub fn trend(
    kind: ProfileKind,
    captures: &[PodCapture],
    loads: &BTreeMap<u32, f64>,
    settings: &Settings,
    seed: u64,
) -> Trend {
    let settings = settings.bounded();
    let units = units::units(kind, captures, &settings);
    if units.len() < LEAST_SESSIONS {
        return Trend {
            kind,
            outcome: Outcome::Inconclusive(Why::FewSessions),
            p: None,
            sessions: units.len(),
            captures: units.iter().map(|unit| unit.captures.len()).sum(),
            smallest: None,
            enough: Some(LEAST_SESSIONS),
            load: None,
            dispersion: None,
            total: 0.0,
            functions: Vec::new(),
        };
    }
    judge::judge(kind, &units, loads, &settings, seed)
}

/// Cores by pod in each session, of captures of CPU time: what `loads` of [`trend`] is.
#[must_use]
pub fn loads(captures: &[PodCapture], settings: &Settings) -> BTreeMap<u32, f64> {
    let units = units::units(ProfileKind::Cpu, captures, &settings.bounded());
    units.iter().map(|unit| (unit.moment, units::total(ProfileKind::Cpu, unit))).collect()
}
