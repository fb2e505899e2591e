//! Which id stands for a mapping, a location, a function?

use std::collections::HashMap;

use super::TRUNCATED;
use super::frame::{Frame, Line, LocationId, MappingId, MappingInfo};
use super::limits::{BuilderLimits, Truncation};
use super::strings::Strings;
use crate::proto;
use crate::view::UNKNOWN;

/// The tables of a profile under construction; an id is a position plus one.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) mappings: Vec<proto::Mapping>,
    pub(super) locations: Vec<proto::Location>,
    pub(super) functions: Vec<proto::Function>,
    mapping_ids: HashMap<proto::Mapping, u64>,
    location_ids: HashMap<LocationKey, u64>,
    function_ids: HashMap<proto::Function, u64>,
    truncated: Option<LocationId>,
}

/// Mapping, address, lines.
type LocationKey = (u64, u64, Vec<proto::Line>);

impl Tables {
    pub(super) fn knows(&self, location: LocationId) -> bool {
        (1..=self.locations.len() as u64).contains(&location.0)
    }

    pub(super) fn mapping(
        &mut self,
        info: &MappingInfo<'_>,
        strings: &mut Strings,
        limits: &BuilderLimits,
        cut: &mut Truncation,
    ) -> MappingId {
        let Some(mapping) = mapping_of(info, strings, limits) else {
            cut.mappings += 1;
            return MappingId(0);
        };
        if let Some(id) = self.mapping_ids.get(&mapping) {
            return MappingId(*id);
        }
        if self.mappings.len() >= limits.mappings {
            cut.mappings += 1;
            return MappingId(0);
        }
        let id = self.mappings.len() as u64 + 1;
        self.mappings.push(proto::Mapping { id, ..mapping });
        self.mapping_ids.insert(mapping, id);
        MappingId(id)
    }

    pub(super) fn location(
        &mut self,
        frame: &Frame<'_>,
        strings: &mut Strings,
        limits: &BuilderLimits,
        cut: &mut Truncation,
    ) -> LocationId {
        cut.frames += frame.inlined.len().saturating_sub(limits.inlined) as u64;
        let Some(key) = self.location_key(frame, strings, limits) else {
            cut.names += 1;
            return self.truncated(strings);
        };
        if let Some(id) = self.location_ids.get(&key) {
            return LocationId(*id);
        }
        if self.locations.len() >= limits.locations {
            cut.names += 1;
            return self.truncated(strings);
        }
        self.new_location(key)
    }

    /// The location `[truncated]`, which fits whatever the limits.
    pub(super) fn truncated(&mut self, strings: &mut Strings) -> LocationId {
        if let Some(id) = self.truncated {
            return id;
        }
        let name = strings.intern_own(TRUNCATED);
        let function_id =
            self.new_function(proto::Function { name, system_name: name, ..proto::Function::default() });
        let line = proto::Line { function_id, ..proto::Line::default() };
        let id = self.new_location((0, 0, vec![line]));
        self.truncated = Some(id);
        id
    }

    fn new_location(&mut self, key: LocationKey) -> LocationId {
        let id = self.locations.len() as u64 + 1;
        let (mapping_id, address, line) = key.clone();
        self.location_ids.insert(key, id);
        self.locations.push(proto::Location { id, mapping_id, address, line, is_folded: false });
        LocationId(id)
    }

    fn location_key(
        &mut self,
        frame: &Frame<'_>,
        strings: &mut Strings,
        limits: &BuilderLimits,
    ) -> Option<LocationKey> {
        let mapping = frame.mapping.map_or(0, |id| id.0);
        let mapping = if mapping <= self.mappings.len() as u64 { mapping } else { 0 };
        let named = !frame.function.is_empty() || frame.address.is_none() || !frame.inlined.is_empty();
        let own = named.then(|| frame.own_line());
        let lines = frame
            .inlined
            .iter()
            .take(limits.inlined)
            .copied()
            .chain(own)
            .map(|line| self.line(line, strings, limits))
            .collect::<Option<Vec<_>>>()?;
        Some((mapping, frame.address.unwrap_or(0), lines))
    }

    fn line(&mut self, line: Line<'_>, strings: &mut Strings, limits: &BuilderLimits) -> Option<proto::Line> {
        let name = match line.function {
            "" => strings.intern_own(UNKNOWN),
            name => strings.intern(name, limits)?,
        };
        let system_name = match line.system_name {
            "" => name,
            system_name => strings.intern(system_name, limits)?,
        };
        let function = proto::Function {
            id: 0,
            name,
            system_name,
            filename: strings.intern(line.file, limits)?,
            start_line: line.start_line.max(0),
        };
        Some(proto::Line { function_id: self.function(function, limits)?, line: line.line.max(0), column: 0 })
    }

    fn function(&mut self, function: proto::Function, limits: &BuilderLimits) -> Option<u64> {
        if let Some(id) = self.function_ids.get(&function) {
            return Some(*id);
        }
        (self.functions.len() < limits.locations).then(|| self.new_function(function))
    }

    fn new_function(&mut self, function: proto::Function) -> u64 {
        let id = self.functions.len() as u64 + 1;
        self.functions.push(proto::Function { id, ..function });
        self.function_ids.insert(function, id);
        id
    }
}

fn mapping_of(
    info: &MappingInfo<'_>,
    strings: &mut Strings,
    limits: &BuilderLimits,
) -> Option<proto::Mapping> {
    Some(proto::Mapping {
        memory_start: info.memory_start,
        memory_limit: info.memory_limit,
        file_offset: info.file_offset,
        filename: strings.intern(info.file, limits)?,
        build_id: strings.intern(info.build_id, limits)?,
        ..proto::Mapping::default()
    })
}
