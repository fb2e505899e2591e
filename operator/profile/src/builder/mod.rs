//! How does a collector turn stacks into a profile?
//!
//! ```text
//! mapping() ─► MappingId ─► location(Frame) ─► LocationId ─► add_locations() ─┐
//!                                  add(&[Frame]) does both ───────────────────┴─► finish() ─► Profile
//! ```
//! Stacks are leaf first. Equal stacks with equal labels become one sample. Values are *unsampled*: the
//! caller has multiplied by the period where that is meant ([`add_hits`](ProfileBuilder::add_hits) does).

mod adopt;
mod frame;
mod limits;
mod strings;
mod tables;
#[cfg(test)]
mod tests;

pub use adopt::{AdoptError, Adopted};
pub use frame::{Frame, Label, LabelValue, Line, LocationId, MappingId, MappingInfo};
pub use limits::{BuilderLimits, Truncation};

use crate::kind::ProfileKind;
use crate::labels::is_reserved;
use crate::named::set_flags;
use crate::proto::{self, Profile, ValueType};
use crate::samples::{SampleTable, sort_labels};
use strings::Strings;
use tables::Tables;

/// The name of the frame that represents truncated frames.
pub const TRUNCATED: &str = "[truncated]";

/// Why something could not be added; the builder is unchanged then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The number of values differs from the number of sample types.
    #[error("a {kind} sample needs {need} values but got {have}: give one for each of its sample types")]
    ValueCount {
        /// The kind of the profile.
        kind: ProfileKind,
        /// Number of values given.
        have: usize,
        /// Number of values required.
        need: usize,
    },
    /// A value below 0.
    #[error("value {0} of a sample is negative: a profile counts what was seen, from 0 up")]
    NegativeValue(i64),
    /// A label reserved by pprof.
    #[error("label \"{0}\" begins with \"pprof::\", which pprof keeps for itself: rename it")]
    ReservedLabel(String),
    /// A location of another builder.
    #[error("location {0} is not known to this builder: a LocationId is valid only where it was made")]
    UnknownLocation(u64),
}

/// Collects the stacks of one slice in bounded memory.
#[derive(Debug)]
pub struct ProfileBuilder {
    kind: ProfileKind,
    period_ns: i64,
    start_ns: i64,
    limits: BuilderLimits,
    strings: Strings,
    tables: Tables,
    samples: SampleTable,
    entries: usize,
    cut: Truncation,
}

impl ProfileBuilder {
    /// A builder for samples of `kind` that stand `period` apart (nanoseconds of time for CPU and wall, bytes
    /// for memory, else 1), with a capture that began at `start_ns` since 1970 UTC.
    pub fn new(kind: ProfileKind, period: i64, start_ns: i64) -> Self {
        Self::with_limits(kind, period, start_ns, BuilderLimits::default())
    }

    /// The same with custom limits.
    pub fn with_limits(kind: ProfileKind, period: i64, start_ns: i64, limits: BuilderLimits) -> Self {
        Self {
            kind,
            period_ns: period,
            start_ns,
            limits,
            strings: Strings::new(),
            tables: Tables::default(),
            samples: SampleTable::default(),
            entries: 0,
            cut: Truncation::default(),
        }
    }

    /// Adds a mapping; the first one must be the main binary's. Equal mappings are deduplicated.
    pub fn mapping(&mut self, info: &MappingInfo<'_>) -> MappingId {
        self.tables.mapping(info, &mut self.strings, &self.limits, &mut self.cut)
    }

    /// Adds a frame; equal frames are deduplicated.
    pub fn location(&mut self, frame: &Frame<'_>) -> LocationId {
        self.tables.location(frame, &mut self.strings, &self.limits, &mut self.cut)
    }

    /// Adds `values` (one for each sample type of the kind) to a stack, leaf first.
    ///
    /// # Errors A wrong number of values, a negative value, or a reserved label; nothing is added then.
    pub fn add(
        &mut self,
        stack: &[Frame<'_>],
        values: &[i64],
        labels: &[Label<'_>],
    ) -> Result<(), BuildError> {
        self.check(values, labels)?;
        let keep = self.kept_depth(stack.len());
        let ids = stack.iter().take(keep).map(|frame| short(self.location(frame))).collect();
        self.insert(ids, stack.len() - keep, values, labels);
        Ok(())
    }

    /// Adds `hits` samples of a stack, each worth one period.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_hits(
        &mut self,
        stack: &[Frame<'_>],
        hits: u32,
        labels: &[Label<'_>],
    ) -> Result<(), BuildError> {
        let values = self.kind.values(i64::from(hits), self.period_ns);
        self.add(stack, &values, labels)
    }

    /// Adds `values` to a stack of known locations, leaf first.
    ///
    /// # Errors
    /// As [`add`](Self::add), and a location of another builder.
    pub fn add_locations(
        &mut self,
        stack: &[LocationId],
        values: &[i64],
        labels: &[Label<'_>],
    ) -> Result<(), BuildError> {
        self.check(values, labels)?;
        if let Some(unknown) = stack.iter().find(|id| !self.tables.knows(**id)) {
            return Err(BuildError::UnknownLocation(unknown.0));
        }
        let keep = self.kept_depth(stack.len());
        let ids = stack.iter().take(keep).map(|id| short(*id)).collect();
        self.insert(ids, stack.len() - keep, values, labels);
        Ok(())
    }

    /// Number of different stacks so far.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether nothing has been added yet.
    pub fn is_empty(&self) -> bool {
        self.samples.len() == 0
    }

    /// What has been truncated so far.
    pub fn truncation(&self) -> Truncation {
        Truncation { texts: self.cut.texts + self.strings.shortened, ..self.cut }
    }

    /// The profile of a capture that lasted `duration_ns`. Truncations are appended to the comments.
    pub fn finish(mut self, duration_ns: i64, comments: &[&str]) -> Profile {
        let cut = self.truncation().sentence();
        let comment = comments
            .iter()
            .copied()
            .chain(cut.as_deref())
            .map(|text| self.strings.intern_own(text))
            .collect();
        let sample_type: Vec<ValueType> =
            self.kind.sample_types().iter().map(|pair| value_type(&mut self.strings, *pair)).collect();
        let mut profile = Profile {
            default_sample_type: sample_type.last().map_or(0, |last| last.r#type),
            sample_type,
            sample: self.samples.into_samples(),
            time_nanos: self.start_ns,
            duration_nanos: duration_ns.max(0),
            period_type: Some(value_type(&mut self.strings, self.kind.period_type())),
            period: self.period_ns.max(0),
            comment,
            mapping: self.tables.mappings,
            location: self.tables.locations,
            function: self.tables.functions,
            string_table: self.strings.into_table(),
            ..Profile::default()
        };
        set_flags(&mut profile);
        profile
    }

    fn check(&self, values: &[i64], labels: &[Label<'_>]) -> Result<(), BuildError> {
        let (have, need) = (values.len(), self.kind.sample_types().len());
        if have != need {
            let kind = self.kind;
            return Err(BuildError::ValueCount { kind, have, need });
        }
        if let Some(negative) = values.iter().find(|value| **value < 0) {
            return Err(BuildError::NegativeValue(*negative));
        }
        match labels.iter().find(|label| is_reserved(label.key)) {
            Some(label) => Err(BuildError::ReservedLabel(label.key.chars().take(64).collect())),
            None => Ok(()),
        }
    }

    /// How many frames of a stack are kept: all, or room is left for the frame that says so.
    fn kept_depth(&self, depth: usize) -> usize {
        if depth <= self.limits.depth { depth } else { self.limits.depth.saturating_sub(1) }
    }

    fn insert(&mut self, mut ids: Vec<u32>, cut: usize, values: &[i64], labels: &[Label<'_>]) {
        if cut > 0 {
            self.cut.frames += cut as u64;
            ids.push(short(self.tables.truncated(&mut self.strings)));
        }
        let mut labels = self.intern_labels(labels);
        if !self.fits(&ids, &labels) {
            self.cut.stacks += 1;
            ids = vec![short(self.tables.truncated(&mut self.strings))];
            labels.clear();
        }
        if self.samples.find(&ids, &labels).is_none() {
            self.entries += ids.len();
        }
        let width = self.kind.sample_types().len();
        self.samples.add(&ids, &labels, values, width);
    }

    /// Whether there is room for this stack; one place is kept for the overflow bucket.
    fn fits(&self, stack: &[u32], labels: &[proto::Label]) -> bool {
        self.samples.find(stack, labels).is_some()
            || self.samples.len() + 1 < self.limits.stacks
                && self.entries + stack.len() <= self.limits.stack_entries
    }

    fn intern_labels(&mut self, labels: &[Label<'_>]) -> Vec<proto::Label> {
        let mut interned: Vec<proto::Label> = labels
            .iter()
            .take(self.limits.labels)
            .filter_map(|label| intern_label(label, &mut self.strings, &self.limits))
            .collect();
        self.cut.labels += (labels.len() - interned.len()) as u64;
        sort_labels(&mut interned);
        interned
    }
}

/// The id of a location in the table of samples: memory ends long before 4 billion locations.
fn short(location: LocationId) -> u32 {
    u32::try_from(location.0).unwrap_or_default()
}

fn intern_label(label: &Label<'_>, strings: &mut Strings, limits: &BuilderLimits) -> Option<proto::Label> {
    let key = strings.intern(label.key, limits)?;
    Some(match label.value {
        LabelValue::Text(text) => {
            proto::Label { key, str: strings.intern(text, limits)?, ..proto::Label::default() }
        }
        LabelValue::Number(num, unit) => {
            proto::Label { key, num, num_unit: strings.intern(unit, limits)?, ..proto::Label::default() }
        }
    })
}

fn value_type(strings: &mut Strings, (name, unit): (&str, &str)) -> ValueType {
    ValueType { r#type: strings.intern_own(name), unit: strings.intern_own(unit) }
}
