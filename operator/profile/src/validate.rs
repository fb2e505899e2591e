//! Does a profile follow the rules of the format?

use std::collections::HashSet;

use crate::labels::is_reserved;
use crate::proto::{Profile, Sample, ValueType};
use crate::view::text;

/// Maximum number of sample types.
pub const MAX_SAMPLE_TYPES: usize = 16;

/// The violated rule, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Entry 0 of the string table is not the empty string.
    #[error("string_table[0] is not the empty string: write \"\" as the first entry")]
    FirstString,
    /// No sample types, too many, or one without a name.
    #[error("the profile has {0} sample types: it needs 1 to {MAX_SAMPLE_TYPES}, each with a type")]
    SampleTypes(usize),
    /// An id is 0.
    #[error("{table} {position} has the id 0: ids begin at 1")]
    ZeroId {
        /// `mapping`, `location` or `function`.
        table: &'static str,
        /// Position in its table, from 0.
        position: usize,
    },
    /// An id is used twice.
    #[error("{table} id {id} is used twice: every id of a table must be unique")]
    DuplicateId {
        /// `mapping`, `location` or `function`.
        table: &'static str,
        /// The id.
        id: u64,
    },
    /// An id points at nothing.
    #[error(
        "{holder} {position} points at {table} {id}, which does not exist: write it or leave the reference \
         out"
    )]
    Dangling {
        /// What holds the reference.
        holder: &'static str,
        /// Position of the holder in its table, from 0.
        position: usize,
        /// What it points at.
        table: &'static str,
        /// The id that is missing.
        id: u64,
    },
    /// A string index points at nothing.
    #[error("{holder} {position} points at string {index}, but the string table has {strings} entries")]
    DanglingString {
        /// What holds the reference.
        holder: &'static str,
        /// Position of the holder in its table, from 0.
        position: usize,
        /// The index.
        index: i64,
        /// Length of the string table.
        strings: usize,
    },
    /// A sample has not one value for each sample type.
    #[error("sample {position} has {have} values for {need} sample types: give one for each")]
    ValueCount {
        /// Position of the sample, from 0.
        position: usize,
        /// How many it has.
        have: usize,
        /// How many it needs.
        need: usize,
    },
    /// A number is below 0.
    #[error(
        "{holder} {position} has the negative number {value}: only a comparison may contain one, and it is \
         not capture"
    )]
    Negative {
        /// What holds the number.
        holder: &'static str,
        /// Position of the holder in its table, from 0.
        position: usize,
        /// The number.
        value: i64,
    },
    /// A mapping ends before it begins.
    #[error("mapping {0} ends before it begins: memory_limit must not be below memory_start")]
    MappingRange(usize),
    /// A label is reserved, has no key, or has a text and a number.
    #[error("sample {position} has the label \"{key}\": {why}")]
    Label {
        /// Position of the sample, from 0.
        position: usize,
        /// The key, shortened.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Checks all rules; all readers interpret a valid profile alike.
///
/// # Errors The first violated rule, as a message.
pub fn validate(profile: &Profile) -> Result<(), Invalid> {
    if profile.string_table.first().is_none_or(|first| !first.is_empty()) {
        return Err(Invalid::FirstString);
    }
    let check = Check { profile };
    check.header()?;
    let mappings = Ids::unique("mapping", profile.mapping.iter().map(|mapping| mapping.id))?;
    let functions = Ids::unique("function", profile.function.iter().map(|function| function.id))?;
    let locations = Ids::unique("location", profile.location.iter().map(|location| location.id))?;
    check.mappings()?;
    check.functions()?;
    check.locations(&mappings, &functions)?;
    check.samples(&locations)
}

/// The ids of a table.
enum Ids {
    /// From 1 to this one, as nearly all writers number.
    Dense(u64),
    Some(HashSet<u64>),
}

impl Ids {
    /// The ids of a table in its order: none is 0, none is there twice.
    fn unique(table: &'static str, ids: impl Iterator<Item = u64> + Clone) -> Result<Self, Invalid> {
        let mut last = 0;
        if ids.clone().all(|id| std::mem::replace(&mut last, id).checked_add(1) == Some(id)) {
            return Ok(Self::Dense(last));
        }
        let mut seen = HashSet::new();
        for (position, id) in ids.enumerate() {
            if id == 0 {
                return Err(Invalid::ZeroId { table, position });
            }
            if !seen.insert(id) {
                return Err(Invalid::DuplicateId { table, id });
            }
        }
        Ok(Self::Some(seen))
    }

    fn contains(&self, id: u64) -> bool {
        match self {
            Self::Dense(last) => (1..=*last).contains(&id),
            Self::Some(ids) => ids.contains(&id),
        }
    }
}

struct Check<'a> {
    profile: &'a Profile,
}

impl Check<'_> {
    fn header(&self) -> Result<(), Invalid> {
        let profile = self.profile;
        let types = &profile.sample_type;
        let named = |kind: &ValueType| !text(&profile.string_table, kind.r#type).is_empty();
        for (position, kind) in types.iter().chain(&profile.period_type).enumerate() {
            self.strings("sample type", position, &[kind.r#type, kind.unit])?;
        }
        if types.is_empty() || types.len() > MAX_SAMPLE_TYPES || !types.iter().all(named) {
            return Err(Invalid::SampleTypes(types.len()));
        }
        let indices =
            [profile.drop_frames, profile.keep_frames, profile.default_sample_type, profile.doc_url];
        self.strings("header", 0, &indices)?;
        self.strings("comment", 0, &profile.comment)?;
        let numbers = [profile.time_nanos, profile.duration_nanos, profile.period];
        not_negative("header", 0, &numbers)
    }

    fn mappings(&self) -> Result<(), Invalid> {
        for (position, mapping) in self.profile.mapping.iter().enumerate() {
            self.strings("mapping", position, &[mapping.filename, mapping.build_id])?;
            if mapping.memory_limit != 0 && mapping.memory_limit < mapping.memory_start {
                return Err(Invalid::MappingRange(position));
            }
        }
        Ok(())
    }

    fn functions(&self) -> Result<(), Invalid> {
        for (position, function) in self.profile.function.iter().enumerate() {
            let indices = [function.name, function.system_name, function.filename];
            self.strings("function", position, &indices)?;
            not_negative("function", position, &[function.start_line])?;
        }
        Ok(())
    }

    fn locations(&self, mappings: &Ids, functions: &Ids) -> Result<(), Invalid> {
        for (position, location) in self.profile.location.iter().enumerate() {
            if location.mapping_id != 0 {
                exists("location", position, "mapping", mappings, location.mapping_id)?;
            }
            for line in &location.line {
                exists("location", position, "function", functions, line.function_id)?;
                not_negative("location", position, &[line.line, line.column])?;
            }
        }
        Ok(())
    }

    fn samples(&self, locations: &Ids) -> Result<(), Invalid> {
        let need = self.profile.sample_type.len();
        for (position, sample) in self.profile.sample.iter().enumerate() {
            let have = sample.value.len();
            if have != need {
                return Err(Invalid::ValueCount { position, have, need });
            }
            not_negative("sample", position, &sample.value)?;
            for id in &sample.location_id {
                exists("sample", position, "location", locations, *id)?;
            }
            self.labels(position, sample)?;
        }
        Ok(())
    }

    fn labels(&self, position: usize, sample: &Sample) -> Result<(), Invalid> {
        for label in &sample.label {
            self.strings("sample", position, &[label.key, label.str, label.num_unit])?;
            let key = text(&self.profile.string_table, label.key);
            let why = if key.is_empty() {
                "a label needs a key"
            } else if is_reserved(key) {
                "keys that begin with \"pprof::\" belong to pprof, rename it"
            } else if label.str != 0 && label.num != 0 {
                "a label has a text or a number, not both"
            } else {
                continue;
            };
            let key = key.chars().take(64).collect();
            return Err(Invalid::Label { position, key, why });
        }
        Ok(())
    }

    fn strings(&self, holder: &'static str, position: usize, indices: &[i64]) -> Result<(), Invalid> {
        let strings = self.profile.string_table.len();
        let missing = |index: &&i64| usize::try_from(**index).map_or(true, |index| index >= strings);
        match indices.iter().find(missing) {
            None => Ok(()),
            Some(&index) => Err(Invalid::DanglingString { holder, position, index, strings }),
        }
    }
}

fn exists(
    holder: &'static str,
    position: usize,
    table: &'static str,
    ids: &Ids,
    id: u64,
) -> Result<(), Invalid> {
    if ids.contains(id) {
        return Ok(());
    }
    Err(Invalid::Dangling { holder, position, table, id })
}

fn not_negative(holder: &'static str, position: usize, numbers: &[i64]) -> Result<(), Invalid> {
    match numbers.iter().find(|number| **number < 0) {
        None => Ok(()),
        Some(&value) => Err(Invalid::Negative { holder, position, value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::set_labels;
    use crate::testing::cpu;

    fn accepts(change: impl FnOnce(&mut Profile)) {
        let mut profile = cpu(&[(&["leaf", "main"], 2)]);
        set_labels(&mut profile, &[("pod", "cart-0")]);
        change(&mut profile);
        assert_eq!(validate(&profile), Ok(()));
    }

    fn rejects(change: impl FnOnce(&mut Profile), sentence: &str) {
        let mut profile = cpu(&[(&["leaf", "main"], 2)]);
        set_labels(&mut profile, &[("pod", "cart-0")]);
        profile.mapping.push(crate::proto::Mapping { id: 1, ..Default::default() });
        change(&mut profile);
        let error = validate(&profile).expect_err(sentence).to_string();
        assert!(error.starts_with(sentence), "{error}");
    }

    #[test]
    fn what_breaks_no_rule_is_taken() {
        accepts(|_| {});
        accepts(|profile| profile.sample.clear());
        accepts(|profile| profile.sample[0].location_id.clear());
        accepts(|profile| profile.location[0].line.clear());
        accepts(|profile| {
            profile.location[0].id = u64::MAX;
            profile.sample[0].location_id[0] = u64::MAX;
        });
    }

    #[test]
    fn the_tables_must_hold_together() {
        rejects(|p| p.string_table[0] = "x".into(), "string_table[0] is not");
        rejects(|p| p.string_table.clear(), "string_table[0] is not");
        rejects(|p| p.location[1].id = 0, "location 1 has the id 0");
        rejects(|p| p.location[1].id = 1, "location id 1 is used twice");
        rejects(|p| p.function[1].id = 1, "function id 1 is used twice");
        rejects(|p| p.mapping[0].id = 0, "mapping 0 has the id 0");
        rejects(|p| p.location[0].mapping_id = 9, "location 0 points at mapping 9");
        rejects(|p| p.location[0].line[0].function_id = 9, "location 0 points at function 9");
        rejects(|p| p.sample[0].location_id[1] = 0, "sample 0 points at location 0");
        let backwards = |p: &mut Profile| (p.mapping[0].memory_start, p.mapping[0].memory_limit) = (9, 8);
        rejects(backwards, "mapping 0 ends before it begins");
    }

    #[test]
    fn every_text_must_exist() {
        rejects(|p| p.function[0].name = 999, "function 0 points at string 999");
        rejects(|p| p.function[0].filename = -1, "function 0 points at string -1");
        rejects(|p| p.mapping[0].build_id = 999, "mapping 0 points at string 999");
        rejects(|p| p.comment.push(999), "comment 0 points at string 999");
        rejects(|p| p.doc_url = 999, "header 0 points at string 999");
        rejects(|p| p.sample[0].label[0].str = 999, "sample 0 points at string 999");
        rejects(|p| p.sample_type[1].unit = 999, "sample type 1 points at string 999");
    }

    #[test]
    fn values_must_fit_the_sample_types() {
        rejects(|p| p.sample[0].value.truncate(1), "sample 0 has 1 values for 2");
        rejects(|p| p.sample[0].value[1] = -5, "sample 0 has the negative number -5");
        rejects(|p| p.location[0].line[0].line = -5, "location 0 has the negative number");
        rejects(|p| p.period = -1, "header 0 has the negative number");
        rejects(|p| p.sample_type.clear(), "the profile has 0 sample types");
        rejects(|p| p.sample_type[0].r#type = 0, "the profile has 2 sample types");
    }

    #[test]
    fn labels_must_have_a_key_that_is_free() {
        let reserved = |p: &mut Profile| {
            p.string_table.push("pprof::base".into());
            p.sample[0].label[0].key = p.string_table.len() as i64 - 1;
        };
        rejects(reserved, "sample 0 has the label \"pprof::base\"");
        rejects(|p| p.sample[0].label[0].key = 0, "sample 0 has the label \"\"");
        rejects(|p| p.sample[0].label[0].num = 1, "sample 0 has the label \"pod\"");
    }
}
