//! Which entry of the merged tables is the same as this one of a source?

use super::Tables;
use crate::proto::{Function, Label, Line, Location, Mapping, Sample};
use crate::samples::sort_labels;
use crate::view::View;

/// Mappings are compared by size in pages: loaders round differently.
const PAGE: u64 = 0x1000;

/// One profile being moved into the merged tables; what was moved once is remembered.
pub(super) struct Source<'a> {
    view: View<'a>,
    tables: &'a mut Tables,
    strings: Vec<Option<i64>>,
    /// The ids of locations and functions in the merged tables; 0 is not moved yet.
    locations: Vec<u32>,
    functions: Vec<u32>,
    /// The stack, the labels and the lines that are being moved.
    stack: Vec<u32>,
    labels: Vec<Label>,
    lines: Vec<Line>,
}

impl<'a> Source<'a> {
    pub(super) fn new(view: View<'a>, tables: &'a mut Tables) -> Self {
        let profile = view.profile;
        Self {
            strings: vec![None; profile.string_table.len()],
            locations: vec![0; profile.location.len()],
            functions: vec![0; profile.function.len()],
            stack: Vec::new(),
            labels: Vec::new(),
            lines: Vec::new(),
            view,
            tables,
        }
    }

    /// Moves the first mapping before all others: it is the main binary.
    pub(super) fn main_mapping(&mut self) {
        if let Some(main) = self.view.profile.mapping.first() {
            self.mapping(main);
        }
    }

    /// Stack and labels of a sample in the merged tables.
    pub(super) fn sample_key(&mut self, sample: &Sample) -> (&[u32], &[Label]) {
        self.stack.clear();
        for id in &sample.location_id {
            if let Some(id) = self.location(*id) {
                self.stack.push(id);
            }
        }
        self.labels.clear();
        for label in &sample.label {
            let label = self.label(label);
            self.labels.push(label);
        }
        sort_labels(&mut self.labels);
        (&self.stack, &self.labels)
    }

    fn label(&mut self, label: &Label) -> Label {
        Label {
            key: self.text(label.key),
            str: self.text(label.str),
            num: label.num,
            num_unit: self.text(label.num_unit),
        }
    }

    /// The number of a text in the merged table.
    fn text(&mut self, index: i64) -> i64 {
        let position = usize::try_from(index).ok();
        let Some(slot) = position.and_then(|position| self.strings.get_mut(position)) else {
            return 0;
        };
        match slot {
            Some(number) => *number,
            None => *slot.insert(self.tables.strings.intern(self.view.text(index))),
        }
    }

    /// The id of a location in the merged table, or nothing where the source has none.
    fn location(&mut self, id: u64) -> Option<u32> {
        let position = self.view.location_position(id)?;
        match self.locations.get(position) {
            None | Some(0) => {}
            Some(id) => return Some(*id),
        }
        let location = self.view.profile.location.get(position)?;
        let id = u32::try_from(self.new_location(location)).ok()?;
        *self.locations.get_mut(position)? = id;
        Some(id)
    }

    fn new_location(&mut self, location: &Location) -> u64 {
        let (mapping_id, address) = match self.view.mapping(location.mapping_id) {
            Some(mapping) => self.moved_address(mapping, location.address),
            None => (0, location.address),
        };
        self.lines.clear();
        for line in &location.line {
            let line = self.line(line);
            self.lines.push(line);
        }
        let moved = Location { mapping_id, address, is_folded: location.is_folded, ..Location::default() };
        self.tables.locations.id(&moved, &self.lines)
    }

    /// An address of a mapping where the merged profile has that mapping; 0 stays "unknown".
    fn moved_address(&mut self, mapping: &Mapping, address: u64) -> (u64, u64) {
        let id = self.mapping(mapping);
        let start = self.tables.mappings.get(id as usize - 1).map_or(0, |merged| merged.memory_start);
        let moved = address.wrapping_sub(mapping.memory_start).wrapping_add(start);
        (id, if address == 0 { 0 } else { moved })
    }

    fn mapping(&mut self, mapping: &Mapping) -> u64 {
        let filename = self.text(mapping.filename);
        let build_id = self.text(mapping.build_id);
        let size = mapping.memory_limit.wrapping_sub(mapping.memory_start);
        let pages = size.div_ceil(PAGE);
        let identity = if build_id == 0 { filename } else { build_id };
        // What has neither build id nor file is a made-up mapping, and all of those are one.
        let key = if identity == 0 { (0, 0, 0) } else { (pages, mapping.file_offset, identity) };
        let id = *self.tables.mapping_ids.entry(key).or_insert_with(|| {
            let id = self.tables.mappings.len() as u64 + 1;
            self.tables.mappings.push(Mapping { id, filename, build_id, ..*mapping });
            self.tables.lowest.push(mapping.memory_start);
            id
        });
        if let Some(lowest) = self.tables.lowest.get_mut(id as usize - 1) {
            *lowest = mapping.memory_start.min(*lowest);
        }
        id
    }

    fn line(&mut self, line: &Line) -> Line {
        let position = self.view.function_position(line.function_id);
        let function_id = match position.and_then(|position| self.functions.get(position)) {
            None => self.new_function(&Function::default()),
            Some(0) => self.first_function(position.unwrap_or_default()),
            Some(id) => u64::from(*id),
        };
        Line { function_id, ..*line }
    }

    /// Moves the function at a position that was not moved yet.
    fn first_function(&mut self, position: usize) -> u64 {
        let functions = &self.view.profile.function;
        let id = self.new_function(&functions.get(position).copied().unwrap_or_default());
        if let Some(slot) = self.functions.get_mut(position) {
            *slot = u32::try_from(id).unwrap_or_default();
        }
        id
    }

    fn new_function(&mut self, function: &Function) -> u64 {
        let moved = Function {
            id: 0,
            name: self.text(function.name),
            system_name: self.text(function.system_name),
            filename: self.text(function.filename),
            start_line: function.start_line,
        };
        let Tables { functions, function_index, .. } = &mut *self.tables;
        let hash = function_index.hash([moved.name, moved.system_name, moved.filename, moved.start_line]);
        let is_equal = |other: &Function| Function { id: 0, ..*other } == moved;
        let position = function_index.find(hash, |at| functions.get(at).is_some_and(is_equal));
        let id = position.unwrap_or(functions.len()) as u64 + 1;
        if position.is_none() {
            function_index.insert(hash, functions.len());
            functions.push(Function { id, ..moved });
        }
        id
    }
}
