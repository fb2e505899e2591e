//! What do the tables of a request hold? What its samples need, each entry once.

use std::collections::HashMap;

use prost::Message;

use super::proto::{
    AnyValue, Function, KeyValueAndUnit, Line, Link, Location, Mapping, ProfilesDictionary, Stack,
};
use crate::proto;
use crate::view::View;

/// Zeros in the lengths that ids of traces and spans have: what stands for no span.
const NO_TRACE: usize = 16;
const NO_SPAN: usize = 8;

/// Most bytes of an attribute of the profile itself.
const MOST_TEXT: usize = 2 << 10;
/// Most bytes by which an entry is longer in its table: its field number and length.
const AROUND: usize = 6;

/// Entries of one table by what they are on the wire, so that equal ones are one. The zero value is entry 0.
struct Table<T> {
    rows: Vec<T>,
    known: HashMap<Vec<u8>, i32>,
}

impl<T: Message + Default> Table<T> {
    fn new() -> Self {
        Self { rows: vec![T::default()], known: HashMap::from([(Vec::new(), 0)]) }
    }

    fn add(&mut self, row: T, bytes: &mut usize) -> i32 {
        let (next, encoded) = (index(self.rows.len()), row.encode_to_vec());
        if let Some(known) = self.known.get(&encoded) {
            return *known;
        }
        *bytes += encoded.len() + AROUND;
        self.rows.push(row);
        self.known.insert(encoded, next);
        next
    }
}

/// A request has far fewer entries than there are numbers: 2 MiB of them.
fn index(position: usize) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

/// The tables while they are filled.
pub(super) struct Dictionary<'a> {
    pub(super) view: &'a View<'a>,
    /// At most how many bytes the tables take.
    pub(super) bytes: usize,
    strings: Vec<&'a str>,
    known_strings: HashMap<&'a str, i32>,
    mappings: Table<Mapping>,
    functions: Table<Function>,
    locations: Table<Location>,
    stacks: Table<Stack>,
    links: Table<Link>,
    attributes: Table<KeyValueAndUnit>,
    /// Entries by the ids of the profile's own locations.
    known_locations: HashMap<u64, i32>,
}

impl<'a> Dictionary<'a> {
    pub(super) fn new(view: &'a View<'a>) -> Self {
        let mut links = Table::<Link>::new();
        links.rows = vec![Link { trace_id: vec![0; NO_TRACE], span_id: vec![0; NO_SPAN] }];
        Self {
            view,
            bytes: 0,
            strings: vec![""],
            known_strings: HashMap::from([("", 0)]),
            mappings: Table::new(),
            functions: Table::new(),
            locations: Table::new(),
            stacks: Table::new(),
            links,
            attributes: Table::new(),
            known_locations: HashMap::new(),
        }
    }

    pub(super) fn finish(self) -> ProfilesDictionary {
        ProfilesDictionary {
            mapping_table: self.mappings.rows,
            location_table: self.locations.rows,
            function_table: self.functions.rows,
            link_table: self.links.rows,
            string_table: self.strings.into_iter().map(str::to_owned).collect(),
            attribute_table: self.attributes.rows,
            stack_table: self.stacks.rows,
        }
    }

    pub(super) fn string(&mut self, text: &'a str) -> i32 {
        if let Some(known) = self.known_strings.get(text) {
            return *known;
        }
        let next = index(self.strings.len());
        self.bytes += text.len() + AROUND;
        self.strings.push(text);
        self.known_strings.insert(text, next);
        next
    }

    /// An attribute without unit.
    pub(super) fn attribute(&mut self, key: &'a str, value: impl Into<AnyValue>) -> i32 {
        self.attribute_of(key, value.into(), "")
    }

    pub(super) fn attribute_of(&mut self, key: &'a str, value: AnyValue, unit: &'a str) -> i32 {
        let (key_strindex, unit_strindex) = (self.string(key), self.string(unit));
        let row = KeyValueAndUnit { key_strindex, value: Some(value), unit_strindex };
        self.attributes.add(row, &mut self.bytes)
    }

    pub(super) fn link(&mut self, trace_id: Vec<u8>, span_id: Vec<u8>) -> i32 {
        self.links.add(Link { trace_id, span_id }, &mut self.bytes)
    }

    /// The stack of a sample, leaf first; places that the profile does not have are left out.
    pub(super) fn stack(&mut self, locations: &[u64]) -> i32 {
        let location_indices = locations.iter().filter_map(|id| self.location(*id)).collect();
        self.stacks.add(Stack { location_indices }, &mut self.bytes)
    }

    fn location(&mut self, id: u64) -> Option<i32> {
        if let Some(known) = self.known_locations.get(&id) {
            return Some(*known);
        }
        let location = self.view.profile.location.get(self.view.location_position(id)?)?;
        let mapping_index = self.view.mapping(location.mapping_id).map_or(0, |mapping| self.mapping(mapping));
        let lines = location.line.iter().map(|line| Line {
            function_index: self
                .view
                .function(line.function_id)
                .map_or(0, |function| self.function(function)),
            line: line.line,
            column: line.column,
        });
        let lines = lines.collect();
        let folded = location.is_folded.then(|| self.attribute("pprof.location.is_folded", true));
        let attribute_indices = folded.into_iter().collect();
        let location = Location { mapping_index, address: location.address, lines, attribute_indices };
        let known = self.locations.add(location, &mut self.bytes);
        self.known_locations.insert(id, known);
        Some(known)
    }

    fn function(&mut self, function: &proto::Function) -> i32 {
        let view = self.view;
        let function = Function {
            name_strindex: self.string(view.text(function.name)),
            system_name_strindex: self.string(view.text(function.system_name)),
            filename_strindex: self.string(view.text(function.filename)),
            start_line: function.start_line,
        };
        self.functions.add(function, &mut self.bytes)
    }

    fn mapping(&mut self, mapping: &proto::Mapping) -> i32 {
        let view = self.view;
        let build_id = view.text(mapping.build_id);
        let mut attribute_indices = Vec::new();
        if !build_id.is_empty() {
            attribute_indices.push(self.attribute("process.executable.build_id.gnu", build_id));
        }
        let flags = [
            ("pprof.mapping.has_functions", mapping.has_functions),
            ("pprof.mapping.has_filenames", mapping.has_filenames),
            ("pprof.mapping.has_line_numbers", mapping.has_line_numbers),
            ("pprof.mapping.has_inline_frames", mapping.has_inline_frames),
        ];
        for (key, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            attribute_indices.push(self.attribute(key, true));
        }
        let mapping = Mapping {
            memory_start: mapping.memory_start,
            memory_limit: mapping.memory_limit,
            file_offset: mapping.file_offset,
            filename_strindex: self.string(view.text(mapping.filename)),
            attribute_indices,
        };
        self.mappings.add(mapping, &mut self.bytes)
    }

    /// Attributes of the profile itself, which each request repeats: long texts are left out.
    pub(super) fn of_profile(&mut self) -> Vec<i32> {
        let (profile, view) = (self.view.profile, self.view);
        let mut attributes = Vec::new();
        let comments = profile.comment.iter().map(|comment| view.text(*comment));
        let length: usize = comments.clone().map(|comment| comment.len() + AROUND).sum();
        if (1..=MOST_TEXT).contains(&length) {
            let comments: Vec<AnyValue> = comments.map(AnyValue::from).collect();
            attributes.push(self.attribute("pprof.profile.comment", comments));
        }
        let texts = [
            ("pprof.profile.doc_url", profile.doc_url),
            ("pprof.profile.drop_frames", profile.drop_frames),
            ("pprof.profile.keep_frames", profile.keep_frames),
        ];
        for (key, text) in texts.map(|(key, text)| (key, view.text(text))) {
            if (1..=MOST_TEXT).contains(&text.len()) {
                attributes.push(self.attribute(key, text));
            }
        }
        attributes
    }
}
