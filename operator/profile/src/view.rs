//! How are references in a profile resolved?
//!
//! All functions are total: dangling references return an empty string or `None`.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::proto::{Function, Location, Mapping, Profile, Sample};

/// Shown where neither a name nor an address is known.
pub(crate) const UNKNOWN: &str = "[unknown]";

/// The text behind a string index, or the empty one.
pub(crate) fn text(strings: &[String], index: i64) -> &str {
    usize::try_from(index).ok().and_then(|index| strings.get(index)).map_or("", String::as_str)
}

/// `(type, unit)` of every value, in order.
pub fn sample_types(profile: &Profile) -> Vec<(&str, &str)> {
    profile
        .sample_type
        .iter()
        .map(|kind| (text(&profile.string_table, kind.r#type), text(&profile.string_table, kind.unit)))
        .collect()
}

/// Which value counts the samples that were taken, where a profile does: events and objects are scaled up.
pub(crate) fn samples_index(profile: &Profile) -> Option<usize> {
    sample_types(profile).iter().position(|kind| *kind == ("samples", "count"))
}

/// Which value has this type, such as `cpu` or `inuse_space`.
pub fn value_index(profile: &Profile, sample_type: &str) -> Option<usize> {
    sample_types(profile).iter().position(|(name, _)| *name == sample_type)
}

/// The value to show first: the profile's default, else the last one (as `go tool pprof` does).
pub fn default_value_index(profile: &Profile) -> usize {
    let wanted = text(&profile.string_table, profile.default_sample_type);
    let last = profile.sample_type.len().saturating_sub(1);
    match wanted {
        "" => last,
        wanted => value_index(profile, wanted).unwrap_or(last),
    }
}

/// The sum of one value over all samples, saturating.
pub fn total(profile: &Profile, value_index: usize) -> i64 {
    profile.sample.iter().map(|sample| value(sample, value_index)).fold(0, i64::saturating_add)
}

/// One value of a sample, 0 where it has none.
pub(crate) fn value(sample: &Sample, index: usize) -> i64 {
    sample.value.get(index).copied().unwrap_or(0)
}

/// Ids of a table resolved to positions; dense ids (position plus one) need no map.
struct Ids(Option<HashMap<u64, usize>>);

impl Ids {
    fn new(ids: impl Iterator<Item = u64> + Clone) -> Self {
        let dense = ids.clone().enumerate().all(|(position, id)| id == position as u64 + 1);
        Self((!dense).then(|| ids.enumerate().map(|(position, id)| (id, position)).collect()))
    }

    fn position(&self, id: u64) -> Option<usize> {
        match &self.0 {
            None => usize::try_from(id).ok()?.checked_sub(1),
            Some(map) => map.get(&id).copied(),
        }
    }
}

/// A profile with its ids resolved.
pub(crate) struct View<'a> {
    pub(crate) profile: &'a Profile,
    mappings: Ids,
    locations: Ids,
    functions: Ids,
}

impl<'a> View<'a> {
    pub(crate) fn new(profile: &'a Profile) -> Self {
        Self {
            profile,
            mappings: Ids::new(profile.mapping.iter().map(|mapping| mapping.id)),
            locations: Ids::new(profile.location.iter().map(|location| location.id)),
            functions: Ids::new(profile.function.iter().map(|function| function.id)),
        }
    }

    pub(crate) fn text(&self, index: i64) -> &'a str {
        text(&self.profile.string_table, index)
    }

    pub(crate) fn mapping_position(&self, id: u64) -> Option<usize> {
        self.mappings.position(id)
    }

    pub(crate) fn mapping(&self, id: u64) -> Option<&'a Mapping> {
        self.profile.mapping.get(self.mapping_position(id)?)
    }

    pub(crate) fn location_position(&self, id: u64) -> Option<usize> {
        let position = self.locations.position(id)?;
        (position < self.profile.location.len()).then_some(position)
    }

    pub(crate) fn function_position(&self, id: u64) -> Option<usize> {
        self.functions.position(id)
    }

    pub(crate) fn function(&self, id: u64) -> Option<&'a Function> {
        self.profile.function.get(self.function_position(id)?)
    }

    /// What a location without a function is called: by the file it lies in.
    pub(crate) fn unsymbolized_name(&self, location: &Location) -> String {
        let file = self.mapping(location.mapping_id).map_or("", |mapping| self.text(mapping.filename));
        match file.rsplit('/').next().unwrap_or_default() {
            "" => UNKNOWN.to_owned(),
            base => format!("[{}]", base.trim_matches(['[', ']'])),
        }
    }
}

/// A function at one place, as people tell functions apart: by name and file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index into [`Symbols::names`].
    pub(crate) name: usize,
    pub(crate) line: i64,
}

/// A function's name and its file, borrowed: a hostile profile can give many functions one long file.
pub(crate) type Name<'a> = (Cow<'a, str>, &'a str);

/// Every location as a list of named places, innermost first, with equal functions under one number.
pub(crate) struct Symbols<'a> {
    pub(crate) view: View<'a>,
    /// `(function, file)`.
    pub(crate) names: Vec<Name<'a>>,
    /// The line on which the function begins, 0 where unknown.
    pub(crate) start_lines: Vec<i64>,
    places: Vec<Vec<Place>>,
    index: HashMap<Name<'a>, usize>,
}

impl<'a> Symbols<'a> {
    pub(crate) fn new(profile: &'a Profile) -> Self {
        let mut symbols = Self {
            view: View::new(profile),
            names: Vec::new(),
            start_lines: Vec::new(),
            places: Vec::with_capacity(profile.location.len()),
            index: HashMap::new(),
        };
        for location in &profile.location {
            let places = symbols.places_of(location);
            symbols.places.push(places);
        }
        symbols
    }

    /// The frames of a sample, leaf first, inlined ones in their place; from the other end, root first.
    pub(crate) fn frames<'s>(&'s self, sample: &'s Sample) -> impl DoubleEndedIterator<Item = Place> + 's {
        sample
            .location_id
            .iter()
            .filter_map(|id| self.view.location_position(*id))
            .filter_map(|position| self.places.get(position))
            .flatten()
            .copied()
    }

    fn places_of(&mut self, location: &'a Location) -> Vec<Place> {
        if location.line.is_empty() {
            let name = self.view.unsymbolized_name(location);
            let name = self.number((Cow::Owned(name), ""), 0);
            return vec![Place { name, line: 0 }];
        }
        location
            .line
            .iter()
            .map(|line| {
                let (key, start) = self.function_key(line.function_id);
                Place { name: self.number(key, start), line: line.line }
            })
            .collect()
    }

    fn function_key(&self, id: u64) -> (Name<'a>, i64) {
        let Some(function) = self.view.function(id) else {
            return ((Cow::Borrowed(UNKNOWN), ""), 0);
        };
        let name = match self.view.text(function.name) {
            "" => self.view.text(function.system_name),
            name => name,
        };
        let name = if name.is_empty() { UNKNOWN } else { name };
        let file = self.view.text(function.filename);
        ((Cow::Borrowed(name), file), function.start_line)
    }

    fn number(&mut self, key: Name<'a>, start_line: i64) -> usize {
        if let Some(number) = self.index.get(&key) {
            return *number;
        }
        let number = self.names.len();
        self.names.push(key.clone());
        self.start_lines.push(start_line);
        self.index.insert(key, number);
        number
    }
}
