//! How are profiles merged?
//!
//! The rules are those of `go tool pprof`: the profiles must count the same things; samples with the same
//! stack and the same labels are added up; functions, locations and mappings are told apart by what they are,
//! not by id; addresses are taken relative to their mapping, so two processes with different layouts meet.
//! Samples that are all 0 go away. Other than there, durations are added only where the profiles follow one
//! another, a merged mapping lies where it lies lowest, and its flags tell what is known of all of its
//! locations, so that the order of the profiles does not matter.

mod places;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::codec::encode_with;
use crate::index::Index;
use crate::named::set_flags;
use crate::proto::{Function, Location, Mapping, Profile, ValueType};
use crate::samples::SampleTable;
use crate::strings::StringTable;
use crate::view::{View, sample_types, text};
use places::Places;
use source::Source;

/// How the durations of profiles combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Consecutive slices of one target: durations are added.
    Sequential,
    /// Concurrently captured targets: the longest duration counts.
    Parallel,
}

/// Why profiles could not be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// No profile at all.
    #[error("no profile to merge: at least one is required")]
    Nothing,
    /// The profiles count different things.
    #[error("a profile of [{have}] cannot be merged into one of [{need}]: merge only profiles of one type")]
    SampleTypes {
        /// The sample and period types of the profile that differs.
        have: String,
        /// Those of the first profile.
        need: String,
    },
    /// The compressor failed.
    #[error("the merged profile was not written: {0}")]
    Encode(String),
}

/// Merges profiles, all of them in memory at once; for many use a [`Merger`].
///
/// # Errors
/// No profile, or profiles of different types.
pub fn merge<'a>(
    profiles: impl IntoIterator<Item = &'a Profile>,
    overlap: Overlap,
) -> Result<Profile, MergeError> {
    let mut merger = Merger::new(overlap);
    for profile in profiles {
        merger.add(profile)?;
    }
    merger.finish()
}

/// Merges profiles one by one; holds the result only.
#[derive(Debug)]
pub struct Merger {
    overlap: Overlap,
    header: Option<Profile>,
    types: String,
    tables: Tables,
    samples: SampleTable,
}

/// The tables of the merged profile; an id is a position plus one.
#[derive(Debug)]
struct Tables {
    strings: StringTable,
    mappings: Vec<Mapping>,
    /// The lowest start of each mapping in any of the profiles.
    lowest: Vec<u64>,
    locations: Places,
    functions: Vec<Function>,
    mapping_ids: HashMap<MappingKey, u64>,
    function_index: Index,
}

/// Size in pages, offset, build id or else file.
type MappingKey = (u64, u64, i64);

impl Tables {
    /// Moves every mapping, which lies where the first profile had it, to the lowest place that one had, and
    /// its `locations` with it.
    ///
    /// Slices of earlier versions hold addresses of a running process: linked ones, which a resolver needs,
    /// are lower.
    fn move_down(&mut self, locations: &mut [Location]) {
        let down = |mapping: &Mapping, lowest: &u64| mapping.memory_start.saturating_sub(*lowest);
        let down: Vec<u64> =
            self.mappings.iter().zip(&self.lowest).map(|(m, lowest)| down(m, lowest)).collect();
        for (mapping, down) in self.mappings.iter_mut().zip(&down) {
            mapping.memory_start -= down;
            mapping.memory_limit = mapping.memory_limit.saturating_sub(*down);
        }
        for location in locations.iter_mut().filter(|location| location.address != 0) {
            let position = usize::try_from(location.mapping_id).ok().and_then(|id| id.checked_sub(1));
            let down = position.and_then(|position| down.get(position)).copied().unwrap_or_default();
            location.address = location.address.wrapping_sub(down);
        }
    }

    /// Lists and maps may hold twice what they need; texts and mappings are stored as keys as well.
    fn memory(&self) -> usize {
        let strings = self.strings.bytes() + 2 * size_of::<(String, i64)>() * self.strings.len();
        let functions = (2 * size_of::<Function>() + Index::ENTRY) * self.functions.len();
        let mappings = 2 * (size_of::<Mapping>() + size_of::<(MappingKey, u64)>()) * self.mappings.len();
        strings + self.locations.memory() + functions + mappings
    }
}

impl Merger {
    /// An empty merger.
    pub fn new(overlap: Overlap) -> Self {
        Self {
            overlap,
            header: None,
            types: String::new(),
            tables: Tables {
                strings: StringTable::new(),
                mappings: Vec::new(),
                lowest: Vec::new(),
                locations: Places::default(),
                functions: Vec::new(),
                mapping_ids: HashMap::new(),
                function_index: Index::default(),
            },
            samples: SampleTable::default(),
        }
    }

    /// Adds a profile.
    ///
    /// # Errors The profile counts different things than the first one; the merger is unchanged then.
    pub fn add(&mut self, profile: &Profile) -> Result<(), MergeError> {
        let types = type_names(profile);
        if self.header.is_some() && types != self.types {
            return Err(MergeError::SampleTypes { have: types, need: self.types.clone() });
        }
        self.types = types;
        self.add_header(profile);
        let width = profile.sample_type.len();
        let mut source = Source::new(View::new(profile), &mut self.tables);
        source.main_mapping();
        for sample in &profile.sample {
            if sample.value.iter().any(|value| *value != 0) {
                let (stack, labels) = source.sample_key(sample);
                self.samples.add(stack, labels, &sample.value, width);
            }
        }
        Ok(())
    }

    /// Different stacks held so far.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.samples.len() == 0
    }

    /// Upper bound of the memory it uses, in bytes, so that callers can stop early.
    pub fn memory(&self) -> usize {
        self.tables.memory() + self.samples.memory()
    }

    /// The merged profile.
    ///
    /// # Errors
    /// Nothing was added.
    pub fn finish(self) -> Result<Profile, MergeError> {
        let (profile, samples) = self.into_parts()?;
        Ok(Profile { sample: samples.into_samples(), ..profile })
    }

    /// The merged profile, [encoded](crate::encode), in less memory: its samples are made and written one by
    /// one.
    ///
    /// # Errors
    /// Nothing was added. `Encode` has no cause in practice.
    pub fn encode(self) -> Result<Vec<u8>, MergeError> {
        let (profile, samples) = self.into_parts()?;
        let encoded = encode_with(&profile, |write| samples.each(write));
        encoded.map_err(|error| MergeError::Encode(error.to_string()))
    }

    /// The merged profile without samples, and these.
    fn into_parts(mut self) -> Result<(Profile, SampleTable), MergeError> {
        let header = self.header.ok_or(MergeError::Nothing)?;
        let mut location = std::mem::take(&mut self.tables.locations).into_locations();
        self.tables.move_down(&mut location);
        let mut profile = Profile {
            mapping: self.tables.mappings,
            location,
            function: self.tables.functions,
            string_table: self.tables.strings.into_entries(0),
            ..header
        };
        set_flags(&mut profile);
        Ok((profile, self.samples))
    }

    fn add_header(&mut self, profile: &Profile) {
        let strings = &mut self.tables.strings;
        let comment =
            profile.comment.iter().map(|index| strings.intern(text(&profile.string_table, *index))).collect();
        match &mut self.header {
            None => self.header = Some(first_header(profile, comment, strings)),
            Some(header) => join_header(header, profile, comment, self.overlap),
        }
    }
}

/// What the merged profile takes from the first one.
fn first_header(profile: &Profile, comment: Vec<i64>, strings: &mut StringTable) -> Profile {
    let mut moved = |index: i64| strings.intern(text(&profile.string_table, index));
    let [drop_frames, keep_frames, default_sample_type, doc_url] =
        [profile.drop_frames, profile.keep_frames, profile.default_sample_type, profile.doc_url]
            .map(&mut moved);
    let mut moved_type = |kind: &ValueType| ValueType { r#type: moved(kind.r#type), unit: moved(kind.unit) };
    Profile {
        sample_type: profile.sample_type.iter().map(&mut moved_type).collect(),
        period_type: profile.period_type.as_ref().map(&mut moved_type),
        drop_frames,
        keep_frames,
        default_sample_type,
        doc_url,
        comment: unique(comment),
        time_nanos: profile.time_nanos,
        duration_nanos: profile.duration_nanos,
        period: profile.period,
        ..Profile::default()
    }
}

/// What the merged profile takes from every other one.
fn join_header(header: &mut Profile, profile: &Profile, comment: Vec<i64>, overlap: Overlap) {
    header.comment.extend(comment);
    header.comment = unique(std::mem::take(&mut header.comment));
    header.time_nanos = earliest(header.time_nanos, profile.time_nanos);
    header.period = header.period.max(profile.period);
    header.duration_nanos = match overlap {
        Overlap::Sequential => header.duration_nanos.saturating_add(profile.duration_nanos),
        Overlap::Parallel => header.duration_nanos.max(profile.duration_nanos),
    };
}

/// The earlier of two times; 0 means unknown.
fn earliest(one: i64, other: i64) -> i64 {
    match (one, other) {
        (0, known) | (known, 0) => known,
        (one, other) => one.min(other),
    }
}

/// Each number once, in the order of first appearance.
fn unique(mut numbers: Vec<i64>) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    numbers.retain(|number| seen.insert(*number));
    numbers
}

/// What a profile counts, as a text to compare and to show: `samples/count cpu/nanoseconds per
/// cpu/nanoseconds`.
fn type_names(profile: &Profile) -> String {
    let strings = &profile.string_table;
    let mut names: Vec<String> =
        sample_types(profile).iter().map(|(name, unit)| format!("{name}/{unit}")).collect();
    if let Some(period) = &profile.period_type {
        let (name, unit) = (text(strings, period.r#type), text(strings, period.unit));
        names.push(format!("per {name}/{unit}"));
    }
    names.join(" ")
}
