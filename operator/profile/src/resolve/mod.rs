//! What of a profile can a resolver name, and how are the names put in?
//!
//! ```text
//! Profile ─► lacking ─► (files with symbols are found and read) ─► FileNames ─► name ─► Profile
//!                                                                     standing ◄──┘
//! ```
//! Only locations whose mapping has a build id are looked at: their addresses are those that the file was linked
//! for. What comes back is hostile, since it is read from files of strangers: it names what was asked for, or
//! nothing.

mod names;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

pub use names::{FileNames, Place, Source};
pub use standing::{Missing, Standing, standing};

use crate::named::{Known, of_location, set_flags};
use crate::proto::{Function, Line, Profile};
use crate::strings::StringTable;
use crate::view::View;

/// Most files of a profile that are asked for.
const MAX_FILES: usize = 64;
/// Most addresses of a profile that are asked for.
const MAX_ADDRESSES: usize = 100_000;
/// Length of a build id in hex digits. Linkers write 16 to 40.
const BUILD_ID: std::ops::RangeInclusive<usize> = 8..=64;

/// A file with code in the profile of which names, files or lines are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// Its build id: 8 to 64 lower-case hex digits, an even number.
    pub build_id: String,
    /// Addresses that lack something, sorted, as the file was linked for.
    pub addresses: Vec<u64>,
    /// How many of them have no function.
    pub unnamed: usize,
}

/// What was found, by build id.
pub type Names = HashMap<String, FileNames>;

/// Whether the text can be the build id of a file: nothing else may become a part of a path or a URL.
#[must_use]
pub fn is_build_id(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    BUILD_ID.contains(&text.len()) && text.len().is_multiple_of(2) && text.bytes().all(hex)
}

/// The files of which something is not known, in the order of their build ids: 64 at most, with 100,000 addresses
/// in all.
#[must_use]
pub fn lacking(profile: &Profile) -> Vec<Lacking> {
    let view = View::new(profile);
    let mut files: BTreeMap<&str, BTreeMap<u64, bool>> = BTreeMap::new();
    let mut left = MAX_ADDRESSES;
    for location in &profile.location {
        let build_id = view.mapping(location.mapping_id).map_or("", |mapping| view.text(mapping.build_id));
        let known = of_location(&view, location);
        if left == 0 || location.address == 0 || is_complete(known) || !is_build_id(build_id) {
            continue;
        }
        if files.len() == MAX_FILES && !files.contains_key(build_id) {
            continue;
        }
        let unnamed = files.entry(build_id).or_default().entry(location.address).or_insert_with(|| {
            left -= 1;
            false
        });
        *unnamed |= !has_function(known);
    }
    files.into_iter().map(|(build_id, addresses)| asked(build_id, &addresses)).collect()
}

fn asked(build_id: &str, addresses: &BTreeMap<u64, bool>) -> Lacking {
    Lacking {
        build_id: build_id.to_owned(),
        addresses: addresses.keys().copied().collect(),
        unnamed: addresses.values().filter(|unnamed| **unnamed).count(),
    }
}

/// Whether function, file and line are known.
fn is_complete([function, file, line, _]: Known) -> bool {
    function && file && line
}

const fn has_function([function, ..]: Known) -> bool {
    function
}

/// Puts the names in, and sets the flags of the mappings again. What is complete stays as it is; what has a name
/// without a line changes only for what debug information says.
pub fn name(profile: &mut Profile, names: &Names) {
    let found = found(profile, names);
    if found.is_empty() {
        return;
    }
    if profile.string_table.is_empty() {
        profile.string_table.push(String::new());
    }
    let mut tables = Tables::of(profile);
    let lines: Vec<(usize, Vec<Line>)> =
        found.into_iter().map(|(location, file, place)| (location, tables.lines(file, place))).collect();
    let Tables { strings, first_string, functions, .. } = tables;
    profile.string_table.extend(strings.into_entries(first_string));
    profile.function.extend(functions);
    for (position, lines) in lines {
        if let Some(location) = profile.location.get_mut(position) {
            location.line = lines;
        }
    }
    set_flags(profile);
}

/// Which location gets which place of which file.
fn found<'a>(profile: &Profile, names: &'a Names) -> Vec<(usize, &'a FileNames, &'a Place)> {
    let view = View::new(profile);
    let locations = profile.location.iter().enumerate();
    let of_one = |(position, location): (usize, &crate::proto::Location)| {
        let mapping = view.mapping(location.mapping_id)?;
        let file = names.get(view.text(mapping.build_id))?;
        let place = file.place(location.address)?;
        let known = of_location(&view, location);
        let better = !is_complete(known) && (place.exact || !has_function(known));
        better.then_some((position, file, place))
    };
    locations.filter_map(of_one).collect()
}

/// The tables of a profile, to which functions are added.
struct Tables {
    strings: StringTable,
    first_string: i64,
    functions: Vec<Function>,
    ids: HashMap<Function, u64>,
    next_id: u64,
}

impl Tables {
    fn of(profile: &Profile) -> Self {
        let next_id =
            profile.function.iter().map(|function| function.id).max().unwrap_or(0).saturating_add(1);
        let known = |function: &Function| (Function { id: 0, ..*function }, function.id);
        Self {
            strings: StringTable::continued(&profile.string_table),
            first_string: profile.string_table.len() as i64,
            functions: Vec::new(),
            ids: profile.function.iter().map(known).collect(),
            next_id,
        }
    }

    fn lines(&mut self, file: &FileNames, place: &Place) -> Vec<Line> {
        place.lines.iter().map(|source| self.line(file, source)).collect()
    }

    fn line(&mut self, file: &FileNames, source: &Source) -> Line {
        let name = self.strings.intern(file.text(source.function));
        let system_name = match file.text(source.system_name) {
            "" => name,
            system_name => self.strings.intern(system_name),
        };
        let filename = self.strings.intern(file.text(source.file));
        let function = Function { id: 0, name, system_name, filename, start_line: 0 };
        let next_id = self.next_id;
        let id = *self.ids.entry(function).or_insert_with(|| {
            self.functions.push(Function { id: next_id, ..function });
            next_id
        });
        if id == next_id {
            self.next_id = next_id.saturating_add(1);
        }
        Line { function_id: id, line: i64::from(source.line), column: 0 }
    }
}
