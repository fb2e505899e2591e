//! How does the profile that a target wrote become a slice of fleetprof?
//!
//! Its stacks, names, lines and mappings stay as they are. Only the values that the kind counts are taken. Its
//! labels are left out, since the target chose them and a destination may keep a series for each, but for the ids
//! of traces and spans, by which profiles are found from traces.

use std::collections::HashMap;

use super::frame::{Frame, Label, Line, LocationId, MappingId, MappingInfo};
use super::{BuildError, ProfileBuilder};
use crate::kind::ProfileKind;
use crate::labels::TRACE_LABELS;
use crate::proto::{self, Location, Mapping, Profile};
use crate::view::{View, sample_types, value};

/// The part of a builder's stacks that may have ids of spans: with these, hardly two samples are the same, and many
/// slices of as many would not fit into one profile.
const WITH_IDS: usize = 4;
/// Fewest and most digits of an id: 64 bits of a span, 128 of a trace.
const DIGITS: std::ops::RangeInclusive<usize> = 8..=32;

/// What came in with a profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adopted {
    /// The sum of the first value: samples, objects, goroutines.
    pub samples: u64,
    /// The sum of the last value: nanoseconds, bytes.
    pub worth: u64,
}

/// Why a profile was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// It counts something else.
    #[error("it counts [{have}] and lacks {need}, which a {kind} profile counts")]
    SampleTypes {
        /// What is to be counted.
        kind: ProfileKind,
        /// What it counts.
        have: String,
        /// What it lacks.
        need: String,
    },
    /// A sample of it cannot be added.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl ProfileBuilder {
    /// Adds the samples of a profile that another program wrote, with these labels in place of its own.
    /// Ids of traces and spans ([`TRACE_LABELS`]) are kept, unless there are more than a slice should hold.
    /// Samples that are all 0 are left out, and negative values count as 0. The first profile of an empty
    /// builder tells the period.
    ///
    /// # Errors
    /// It does not count what this builder's kind counts, or a label is reserved.
    pub fn adopt(&mut self, profile: &Profile, labels: &[Label<'_>]) -> Result<Adopted, AdoptError> {
        let columns = columns(self.kind, profile)?;
        if self.is_empty() && profile.period > 0 {
            self.period_ns = profile.period;
        }
        let view = View::new(profile);
        let mut moving = Moving { builder: self, view: &view, known: HashMap::new() };
        if let Some(main) = profile.mapping.first() {
            moving.mapping(main);
        }
        let with_ids =
            moving.builder.samples.len() + profile.sample.len() <= moving.builder.limits.stacks / WITH_IDS;
        let mut adopted = Adopted::default();
        for sample in &profile.sample {
            let values: Vec<i64> = columns.iter().map(|column| value(sample, *column).max(0)).collect();
            if values.iter().all(|value| *value == 0) {
                continue;
            }
            let mut stack: Vec<LocationId> =
                sample.location_id.iter().filter_map(|id| moving.location(*id)).collect();
            if stack.is_empty() {
                stack.push(moving.builder.location(&Frame::default()));
            }
            let ids = ids(&view, sample);
            if with_ids {
                let all: Vec<Label<'_>> = labels.iter().copied().chain(ids).collect();
                moving.builder.add_locations(&stack, &values, &all)?;
            } else {
                moving.builder.cut.labels += ids.count() as u64;
                moving.builder.add_locations(&stack, &values, labels)?;
            }
            let of = |value: Option<&i64>| value.map_or(0, |value| value.unsigned_abs());
            adopted.samples = adopted.samples.saturating_add(of(values.first()));
            adopted.worth = adopted.worth.saturating_add(of(values.last()));
        }
        Ok(adopted)
    }
}

/// The ids of the trace and the span that a sample is of, as far as they are ids.
fn ids<'a>(view: &View<'a>, sample: &'a proto::Sample) -> impl Iterator<Item = Label<'a>> {
    sample.label.iter().filter_map(|label| {
        let (key, id) = (view.text(label.key), view.text(label.str));
        let is_id = DIGITS.contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_id && TRACE_LABELS.contains(&key)).then(|| Label::text(key, id))
    })
}

/// The indexes of the values of a kind in the samples of a profile.
fn columns(kind: ProfileKind, profile: &Profile) -> Result<Vec<usize>, AdoptError> {
    let have = sample_types(profile);
    let column = |wanted: &(&str, &str)| {
        have.iter().position(|(name, unit)| *name == wanted.0 && *unit == wanted.1).ok_or_else(|| {
            let shown: Vec<String> = have.iter().map(|(name, unit)| format!("{name}/{unit}")).collect();
            let have = shown.join(" ").chars().take(200).collect();
            AdoptError::SampleTypes { kind, have, need: format!("{}/{}", wanted.0, wanted.1) }
        })
    };
    kind.sample_types().iter().map(column).collect()
}

/// A profile that is moved into a builder; what was moved once is remembered.
struct Moving<'a, 'b> {
    builder: &'b mut ProfileBuilder,
    view: &'b View<'a>,
    known: HashMap<u64, LocationId>,
}

impl<'a> Moving<'a, '_> {
    fn mapping(&mut self, mapping: &'a Mapping) -> MappingId {
        self.builder.mapping(&MappingInfo {
            memory_start: mapping.memory_start,
            // An end before the start would make the whole profile invalid; 0 says that it is unknown.
            memory_limit: if mapping.memory_limit < mapping.memory_start { 0 } else { mapping.memory_limit },
            file_offset: mapping.file_offset,
            file: self.view.text(mapping.filename),
            build_id: self.view.text(mapping.build_id),
        })
    }

    fn location(&mut self, id: u64) -> Option<LocationId> {
        if let Some(known) = self.known.get(&id) {
            return Some(*known);
        }
        let location = self.view.profile.location.get(self.view.location_position(id)?)?;
        let mapping = self.view.mapping(location.mapping_id).map(|mapping| self.mapping(mapping));
        let frame = self.frame(location, mapping);
        let moved = self.builder.location(&frame);
        self.known.insert(id, moved);
        Some(moved)
    }

    /// The last line is the function itself; those before it are inlined into it, innermost first.
    fn frame(&self, location: &Location, mapping: Option<MappingId>) -> Frame<'a> {
        let address = (location.address != 0).then_some(location.address);
        let Some((own, inlined)) = location.line.split_last() else {
            return Frame { address, mapping, ..Frame::default() };
        };
        let Line { function, system_name, file, line, start_line } = self.line(own);
        let inlined = inlined.iter().map(|line| self.line(line)).collect();
        Frame { function, system_name, file, line, start_line, address, mapping, inlined }
    }

    fn line(&self, line: &proto::Line) -> Line<'a> {
        let Some(function) = self.view.function(line.function_id) else { return Line::default() };
        Line {
            function: self.view.text(function.name),
            system_name: self.view.text(function.system_name),
            file: self.view.text(function.filename),
            line: line.line.max(0),
            start_line: function.start_line.max(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::validate::validate;
    use crate::{Limits, decode, encode, sample_types, total};

    /// A heap profile as Go writes it: four values, a label, an inlined function.
    fn go_heap() -> Profile {
        let strings = [
            "",
            "alloc_objects",
            "count",
            "alloc_space",
            "bytes",
            "inuse_objects",
            "inuse_space",
            "space",
            "main.hoard",
            "/src/main.go",
            "/bin/app",
            "main.inlined",
            "request",
            "secret",
            "build",
        ];
        let value_type = |name, unit| proto::ValueType { r#type: name, unit };
        let function = |id, name| proto::Function { id, name, system_name: name, filename: 9, start_line: 3 };
        let line = |function_id, line| proto::Line { function_id, line, ..proto::Line::default() };
        let label = proto::Label { key: 12, str: 13, ..proto::Label::default() };
        let sample =
            |value: &[i64]| proto::Sample { location_id: vec![7], value: value.to_vec(), label: vec![label] };
        Profile {
            sample_type: vec![value_type(1, 2), value_type(3, 4), value_type(5, 2), value_type(6, 4)],
            sample: vec![sample(&[9, 900, 2, 200]), sample(&[5, 500, 0, 0])],
            mapping: vec![Mapping {
                id: 3,
                memory_start: 0x1000,
                memory_limit: 0x2000,
                filename: 10,
                build_id: 14,
                ..Mapping::default()
            }],
            location: vec![Location {
                id: 7,
                mapping_id: 3,
                address: 0x1234,
                line: vec![line(2, 44), line(1, 12)],
                ..Location::default()
            }],
            function: vec![function(1, 8), function(2, 11)],
            string_table: strings.map(str::to_owned).to_vec(),
            period_type: Some(value_type(7, 4)),
            period: 524_288,
            ..Profile::default()
        }
    }

    fn adopted(kind: ProfileKind, profile: &Profile) -> Result<(Adopted, Profile), AdoptError> {
        let mut builder = ProfileBuilder::new(kind, 1, 5);
        let adopted = builder.adopt(profile, &[Label::text("process", "app")])?;
        Ok((adopted, builder.finish(10, &[])))
    }

    #[test]
    fn of_many_values_those_of_the_kind_are_taken_and_stacks_stay_as_they_are() {
        let (sums, heap) = adopted(ProfileKind::Heap, &go_heap()).unwrap();
        assert_eq!(sums, Adopted { samples: 2, worth: 200 });
        assert_eq!(validate(&heap), Ok(()));
        assert_eq!(sample_types(&heap), ProfileKind::Heap.sample_types());
        assert_eq!((heap.sample.len(), heap.period), (1, 524_288), "what was freed is left out");
        let text = |n: i64| heap.string_table[usize::try_from(n).unwrap()].as_str();
        let location = &heap.location[0];
        assert_eq!((location.address, heap.mapping[0].memory_limit), (0x1234, 0x2000));
        assert_eq!((text(heap.mapping[0].filename), text(heap.mapping[0].build_id)), ("/bin/app", "build"));
        let names: Vec<(&str, i64)> = location
            .line
            .iter()
            .map(|l| (text(heap.function[usize::try_from(l.function_id).unwrap() - 1].name), l.line))
            .collect();
        assert_eq!(names, [("main.inlined", 44), ("main.hoard", 12)]);
        let (sums, alloc) = adopted(ProfileKind::Alloc, &go_heap()).unwrap();
        assert_eq!(sums, Adopted { samples: 14, worth: 1400 });
        assert_eq!(total(&alloc, 1), 1400);
    }

    #[test]
    fn the_words_of_the_target_are_no_labels() {
        let (_, heap) = adopted(ProfileKind::Heap, &go_heap()).unwrap();
        let text = |n: i64| heap.string_table[usize::try_from(n).unwrap()].as_str();
        let labels: Vec<(&str, &str)> =
            heap.sample[0].label.iter().map(|l| (text(l.key), text(l.str))).collect();
        assert_eq!(labels, [("process", "app")]);
        assert!(!heap.string_table.iter().any(|text| text == "secret"));
    }

    /// The profile with as many samples, each with these labels; `N` in a value is the number of the sample.
    fn labelled(samples: usize, labels: &[(&str, &str)]) -> Profile {
        let mut profile = go_heap();
        let mut intern = |text: String| {
            profile.string_table.push(text);
            profile.string_table.len() as i64 - 1
        };
        let of_sample = |n: usize, intern: &mut dyn FnMut(String) -> i64| -> Vec<proto::Label> {
            let label = |(key, value): &(&str, &str), intern: &mut dyn FnMut(String) -> i64| proto::Label {
                key: intern((*key).to_owned()),
                str: intern(value.replace('N', &format!("{n:016x}"))),
                ..proto::Label::default()
            };
            labels.iter().map(|pair| label(pair, intern)).collect()
        };
        let labels: Vec<Vec<proto::Label>> = (0..samples).map(|n| of_sample(n, &mut intern)).collect();
        let sample = |label| proto::Sample { location_id: vec![7], value: vec![9, 900, 2, 200], label };
        profile.sample = labels.into_iter().map(sample).collect();
        profile
    }

    fn labels_of(profile: &Profile) -> Vec<Vec<(String, String)>> {
        let text = |n: i64| profile.string_table[usize::try_from(n).unwrap()].clone();
        let of = |sample: &proto::Sample| {
            let mut labels: Vec<_> = sample.label.iter().map(|l| (text(l.key), text(l.str))).collect();
            labels.sort();
            labels
        };
        profile.sample.iter().map(of).collect()
    }

    #[test]
    fn ids_of_traces_and_spans_stay_on_their_samples() {
        let ids = [("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"), ("span_id", "N"), ("request", "secret")];
        let (_, heap) = adopted(ProfileKind::Heap, &labelled(2, &ids)).unwrap();
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let of = |n: usize| {
            vec![own("process", "app"), own("span_id", &format!("{n:016x}")), own("trace_id", ids[0].1)]
        };
        assert_eq!(labels_of(&heap), [of(0), of(1)]);
        assert_eq!(validate(&heap), Ok(()));
    }

    #[test]
    fn what_is_no_id_is_left_out_whatever_its_key() {
        let words = [("span_id", "password"), ("trace_id", "0123"), ("profile_id", "g0f067aa0ba902b7")];
        let (_, heap) = adopted(ProfileKind::Heap, &labelled(1, &words)).unwrap();
        assert_eq!(labels_of(&heap), [[("process".to_owned(), "app".to_owned())]]);
        let long = [("span_id", "NNN")];
        let (_, heap) = adopted(ProfileKind::Heap, &labelled(1, &long)).unwrap();
        assert_eq!(labels_of(&heap)[0].len(), 1);
    }

    #[test]
    fn more_spans_than_a_slice_should_hold_cost_no_samples() {
        let many = labelled(16_000 / WITH_IDS + 1, &[("span_id", "N")]);
        let mut builder = ProfileBuilder::new(ProfileKind::Heap, 1, 5);
        builder.adopt(&many, &[]).unwrap();
        assert_eq!((builder.truncation().stacks, builder.truncation().labels), (0, 4_001));
        let heap = builder.finish(10, &[]);
        assert_eq!((heap.sample.len(), total(&heap, 0)), (1, 8_002));
    }

    #[test]
    fn a_profile_of_something_else_is_refused_with_what_it_lacks() {
        let refused = adopted(ProfileKind::Cpu, &go_heap()).unwrap_err().to_string();
        assert!(
            refused.contains("lacks samples/count") && refused.contains("alloc_objects/count"),
            "{refused}"
        );
    }

    proptest! {
        #[test]
        fn damaged_profiles_are_read_to_an_end_and_what_comes_of_them_is_valid(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
        ) {
            let mut bytes = prost::Message::encode_to_vec(&go_heap());
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(profile) = decode(&bytes, &Limits::default())
                && let Ok((_, heap)) = adopted(ProfileKind::Heap, &profile)
            {
                prop_assert_eq!(validate(&heap), Ok(()));
                prop_assert!(encode(&heap).is_ok());
            }
        }
    }
}
