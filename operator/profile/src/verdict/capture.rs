//! What does the capture of one pod say of each function?

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::names;
use crate::kind::ProfileKind;
use crate::proto::{Profile, Sample};
use crate::view::{Name, Symbols, sample_types, value};

/// Most functions of a capture that are told apart, those with the largest cumulative value.
pub const MAX_FUNCTIONS: usize = 2_048;
/// Most calls of a capture that are known, those with the largest value.
pub const MAX_CALLS: usize = 8_192;
/// A function or call with less than this part of the capture is left out.
const SMALLEST: f64 = 0.000_5;
/// Most calls that are counted before the largest of them are kept.
const MAX_COUNTED_CALLS: usize = 262_144;

/// Which revision a pod belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The revision that ran before.
    Old,
    /// The revision that is judged.
    New,
}

/// What is known of a capture beside its profile.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// What tells the pod from others, such as its uid.
    pub pod: String,
    /// Its revision.
    pub side: Side,
    /// Captures with the same number were taken at the same time, as those of one session.
    pub moment: u32,
    /// Seconds for which the pod was captured.
    pub pod_seconds: f64,
    /// CPU time in seconds that the container used meanwhile; that in the profile where unknown.
    pub cpu_seconds: Option<f64>,
    /// CPU time in the profile in % of what the container used; 0 to 100.
    pub coverage: Option<i32>,
}

/// The capture of one pod, function by function.
#[derive(Debug, Clone, PartialEq)]
pub struct PodCapture {
    /// What is known beside the profile.
    pub about: About,
    /// Samples in the profile.
    pub samples: i64,
    /// CPU time in the profile, in nanoseconds.
    pub value: i64,
    /// The functions, each name once.
    pub functions: Vec<FunctionUse>,
    /// Which function calls which, as positions in `functions`.
    pub calls: Vec<Call>,
}

/// What one function used in one capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionUse {
    /// Its name, without what differs between builds; at most 256 bytes.
    pub name: String,
    /// The last part of its source file's path, or empty.
    pub file: String,
    /// Self value in nanoseconds.
    pub own: i64,
    /// Cumulative value in nanoseconds; recursion counts once per sample.
    pub cum: i64,
}

/// A function that calls another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Position of the function that calls.
    pub caller: u32,
    /// Position of the function that is called.
    pub callee: u32,
}

/// Why a profile cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a profile of [{have}] is not of the type {wanted}: compare profiles of the type {wanted}")]
pub struct NotOfKind {
    /// The sample types that it has; at most 120 characters.
    have: String,
    /// The type that was asked for.
    wanted: ProfileKind,
}

impl PodCapture {
    /// The capture that left this profile, by its values of CPU time. Negative values count as 0. Takes time
    /// and memory in proportion to the profile.
    ///
    /// # Errors
    /// The profile is not of CPU time.
    pub fn of_profile(profile: &Profile, about: About) -> Result<Self, NotOfKind> {
        Self::of_kind(profile, ProfileKind::Cpu, about)
    }

    /// The same of a kind whose second value is an amount, such as the bytes of `Heap`: `value`, `own` and `cum`
    /// are of its unit, and `samples` of its first value.
    ///
    /// # Errors
    /// The profile is not of this kind, or the kind has no second value.
    pub fn of_kind(profile: &Profile, kind: ProfileKind, about: About) -> Result<Self, NotOfKind> {
        let types = sample_types(profile);
        if types != kind.sample_types() || types.len() != 2 {
            let have: Vec<String> = types.iter().map(|(name, unit)| format!("{name}/{unit}")).collect();
            return Err(NotOfKind { have: have.join(" ").escape_debug().take(120).collect(), wanted: kind });
        }
        let symbols = Symbols::new(profile);
        let mut sums = Sums::new(&symbols);
        for (position, sample) in profile.sample.iter().enumerate() {
            sums.add(&symbols, sample, position);
        }
        let (functions, kept) = sums.functions();
        let calls = sums.calls(&kept);
        Ok(Self { about, samples: sums.samples, value: sums.value, functions, calls })
    }
}

/// Sums by function as every build names it.
struct Sums {
    samples: i64,
    value: i64,
    keys: Vec<(String, String)>,
    /// Of each number in [`Symbols::names`], the position in `keys`.
    key_of: Vec<usize>,
    own: Vec<i64>,
    cum: Vec<i64>,
    /// The number of the last sample that counted a function, so that recursion counts once.
    counted: Vec<usize>,
    calls: HashMap<(usize, usize), i64>,
}

impl Sums {
    fn new(symbols: &Symbols<'_>) -> Self {
        let mut keys: Vec<(String, String)> = Vec::new();
        let mut index: HashMap<(String, String), usize> = HashMap::new();
        let mut number = |(name, file): &Name<'_>| {
            let key = (names::function(name), names::file(file));
            *index.entry(key).or_insert_with_key(|key| {
                keys.push(key.clone());
                keys.len() - 1
            })
        };
        let key_of: Vec<usize> = symbols.names.iter().map(&mut number).collect();
        let none = vec![0; keys.len()];
        Self {
            samples: 0,
            value: 0,
            key_of,
            own: none.clone(),
            cum: none,
            counted: vec![0; keys.len()],
            calls: HashMap::new(),
            keys,
        }
    }

    fn add(&mut self, symbols: &Symbols<'_>, sample: &Sample, position: usize) {
        let spent = value(sample, 1).max(0);
        self.samples = self.samples.saturating_add(value(sample, 0).max(0));
        self.value = self.value.saturating_add(spent);
        let mut callee = None;
        for place in symbols.frames(sample) {
            let Some(&key) = self.key_of.get(place.name) else { continue };
            if let Some(callee) = callee {
                self.call(key, callee, spent);
            } else if let Some(own) = self.own.get_mut(key) {
                *own = own.saturating_add(spent);
            }
            if let (Some(last), Some(cum)) = (self.counted.get_mut(key), self.cum.get_mut(key))
                && *last <= position
            {
                *last = position + 1;
                *cum = cum.saturating_add(spent);
            }
            callee = Some(key);
        }
    }

    fn call(&mut self, caller: usize, callee: usize, spent: i64) {
        let full = self.calls.len() >= MAX_COUNTED_CALLS;
        if caller == callee || (full && !self.calls.contains_key(&(caller, callee))) {
            return;
        }
        let sum = self.calls.entry((caller, callee)).or_insert(0);
        *sum = sum.saturating_add(spent);
    }

    /// Whether so much is worth to be kept.
    fn counts(&self, spent: i64) -> bool {
        spent > 0 && spent as f64 >= self.value as f64 * SMALLEST
    }

    /// The heaviest functions, and of each key where among them it is.
    fn functions(&self) -> (Vec<FunctionUse>, HashMap<usize, u32>) {
        let uses = self.keys.iter().zip(self.own.iter().zip(&self.cum)).enumerate();
        let mut uses: Vec<(usize, FunctionUse)> = uses
            .filter(|(_, (_, (_, cum)))| self.counts(**cum))
            .map(|(key, ((name, file), (own, cum)))| {
                (key, FunctionUse { name: name.clone(), file: file.clone(), own: *own, cum: *cum })
            })
            .collect();
        uses.sort_by(|(_, one), (_, other)| {
            let by_value = (other.cum, other.own).cmp(&(one.cum, one.own));
            by_value.then_with(|| (&one.name, &one.file).cmp(&(&other.name, &other.file)))
        });
        uses.truncate(MAX_FUNCTIONS);
        let kept = uses.iter().zip(0..).map(|((key, _), at)| (*key, at)).collect();
        (uses.into_iter().map(|(_, function)| function).collect(), kept)
    }

    /// The heaviest calls between functions that are kept.
    fn calls(&self, kept: &HashMap<usize, u32>) -> Vec<Call> {
        let mut calls: Vec<(i64, u32, u32)> = self
            .calls
            .iter()
            .filter(|(_, spent)| self.counts(**spent))
            .filter_map(|((caller, callee), spent)| Some((*spent, *kept.get(caller)?, *kept.get(callee)?)))
            .collect();
        calls.sort_unstable_by_key(|(spent, caller, callee)| (std::cmp::Reverse(*spent), *caller, *callee));
        calls.truncate(MAX_CALLS);
        calls.into_iter().map(|(_, caller, callee)| Call { caller, callee }).collect()
    }
}
