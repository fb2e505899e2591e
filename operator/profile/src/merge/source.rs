//! Which entry of the merged tables is the same as this one of a source?

use super::Tables;
use crate::proto::{Function, Label, Line, Location, Mapping, Sample};
use crate::samples::{SampleKey, sort_labels};
use crate::view::View;

/// Mappings are compared by size in pages: loaders round differently.
const PAGE: u64 = 0x1000;

/// One profile being moved into the merged tables; what was moved once is remembered.
pub(super) struct Source<'a> {
    view: View<'a>,
    tables: &'a mut Tables,
    strings: Vec<Option<i64>>,
    locations: Vec<Option<u64>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(view: View<'a>, tables: &'a mut Tables) -> Self {
        let profile = view.profile;
        Self {
            strings: vec![None; profile.string_table.len()],
            locations: vec![None; profile.location.len()],
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

    pub(super) fn sample_key(&mut self, sample: &Sample) -> SampleKey {
        let locations = sample.location_id.iter().filter_map(|id| self.location(*id)).collect();
        let mut labels: Vec<Label> = sample.label.iter().map(|label| self.label(label)).collect();
        sort_labels(&mut labels);
        (locations, labels)
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
    fn location(&mut self, id: u64) -> Option<u64> {
        let position = self.view.location_position(id)?;
        if let Some(Some(id)) = self.locations.get(position) {
            return Some(*id);
        }
        let location = self.view.profile.location.get(position)?;
        let id = self.new_location(location);
        if let Some(slot) = self.locations.get_mut(position) {
            *slot = Some(id);
        }
        Some(id)
    }

    fn new_location(&mut self, location: &Location) -> u64 {
        let (mapping_id, address) = match self.view.mapping(location.mapping_id) {
            Some(mapping) => self.moved_address(mapping, location.address),
            None => (0, location.address),
        };
        let lines: Vec<Line> = location.line.iter().map(|line| self.line(line)).collect();
        let key = (mapping_id, address, lines, location.is_folded);
        if let Some(id) = self.tables.location_ids.get(&key) {
            return *id;
        }
        let id = self.tables.locations.len() as u64 + 1;
        self.tables.locations.push(Location {
            id,
            mapping_id,
            address,
            line: key.2.clone(),
            is_folded: location.is_folded,
        });
        self.tables.location_ids.insert(key, id);
        id
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
        let function_id = match self.view.function(line.function_id) {
            Some(function) => self.function(function),
            None => self.function(&Function::default()),
        };
        Line { function_id, ..*line }
    }

    fn function(&mut self, function: &Function) -> u64 {
        let key = Function {
            id: 0,
            name: self.text(function.name),
            system_name: self.text(function.system_name),
            filename: self.text(function.filename),
            start_line: function.start_line,
        };
        if let Some(id) = self.tables.function_ids.get(&key) {
            return *id;
        }
        let id = self.tables.functions.len() as u64 + 1;
        self.tables.functions.push(Function { id, ..key });
        self.tables.function_ids.insert(key, id);
        id
    }
}
