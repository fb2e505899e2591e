//! Which locations have been merged?
//!
//! Nearly all have one line, which stands beside the address: to compare a location is then to look at one
//! place in memory.

use crate::index::Index;
use crate::proto::{Line, Location};

/// The locations of the merged profile; an id is a position plus one.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    /// The lines of all locations, but each one's first.
    rest: Vec<Line>,
    index: Index,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    mapping_id: u64,
    address: u64,
    /// The first of its lines, if it has any.
    first: Line,
    /// Where the others begin in the list of all.
    begin: usize,
    lines: u32,
    is_folded: bool,
}

impl Places {
    /// The id of a location with these lines; what else `location` says of lines and id does not count.
    pub(super) fn id(&mut self, location: &Location, lines: &[Line]) -> u64 {
        let place = Place {
            mapping_id: location.mapping_id,
            address: location.address,
            first: lines.first().copied().unwrap_or_default(),
            begin: self.rest.len(),
            lines: lines.len() as u32,
            is_folded: location.is_folded,
        };
        let rest = lines.get(1..).unwrap_or_default();
        let hash = self.index.hash((place.numbers(), rest));
        let is_equal = |other: &Place| other.numbers() == place.numbers() && self.rest(other) == rest;
        if let Some(at) = self.index.find(hash, |at| self.places.get(at).is_some_and(is_equal)) {
            return at as u64 + 1;
        }
        self.index.insert(hash, self.places.len());
        self.places.push(place);
        self.rest.extend_from_slice(rest);
        self.places.len() as u64
    }

    /// Bytes of memory, estimated from above, when it needs most: when all has become locations.
    pub(super) fn memory(&self) -> usize {
        const PLACE: usize =
            2 * size_of::<Place>() + Index::ENTRY + size_of::<Location>() + size_of::<Line>();
        PLACE * self.places.len() + 3 * size_of_val(self.rest.as_slice())
    }

    /// The locations in the order of their ids.
    pub(super) fn into_locations(self) -> Vec<Location> {
        let location = |(position, place): (usize, &Place)| {
            let first = (place.lines > 0).then_some(place.first);
            let mut line = Vec::with_capacity(place.lines as usize);
            line.extend(first);
            line.extend_from_slice(self.rest(place));
            let Place { mapping_id, address, is_folded, .. } = *place;
            Location { id: position as u64 + 1, mapping_id, address, line, is_folded }
        };
        self.places.iter().enumerate().map(location).collect()
    }

    fn rest(&self, place: &Place) -> &[Line] {
        let count = place.lines.saturating_sub(1) as usize;
        self.rest.get(place.begin..place.begin + count).unwrap_or_default()
    }
}

impl Place {
    /// All but the other lines.
    fn numbers(&self) -> [u64; 6] {
        let Line { function_id, line, column } = self.first;
        let shape = u64::from(self.lines) << 1 | u64::from(self.is_folded);
        [self.mapping_id, self.address, function_id, line as u64, column as u64, shape]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_that_differ_anywhere_are_told_apart_and_come_back_as_they_were() {
        let line = |function_id| Line { function_id, line: 3, column: 0 };
        let plain = Location { mapping_id: 1, address: 2, ..Location::default() };
        let with = |lines: &[Line]| Location { line: lines.to_vec(), ..plain.clone() };
        let different = [
            plain.clone(),
            Location { mapping_id: 2, ..plain.clone() },
            Location { address: 3, ..plain.clone() },
            Location { is_folded: true, ..plain.clone() },
            with(&[Line::default()]),
            with(&[line(1)]),
            with(&[Line { column: 1, ..line(1) }]),
            with(&[Line { line: 4, ..line(1) }]),
            with(&[line(1), line(2)]),
            with(&[line(1), line(3)]),
            with(&[line(1), line(2), line(3)]),
        ];
        let mut places = Places::default();
        for _ in 0..2 {
            let ids: Vec<u64> =
                different.iter().map(|location| places.id(location, &location.line)).collect();
            assert_eq!(ids, (1..=different.len() as u64).collect::<Vec<_>>());
        }
        let mut back = places.into_locations();
        back.iter_mut().for_each(|location| location.id = 0);
        assert_eq!(back, different);
    }
}
