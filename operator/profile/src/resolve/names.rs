//! What stands at addresses of one file? In a form that crosses from the process that reads the file.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::builder::Line;

/// Most bytes of a name.
const MAX_TEXT: usize = 4 << 10;
/// Most bytes of what is known of a file.
const MAX_MEMORY: usize = 12 << 20;
/// Most functions at one address, of which all but one are inlined.
const MAX_LINES: usize = 64;

/// The names of a file's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileNames {
    texts: Vec<String>,
    places: Vec<Place>,
    #[serde(skip)]
    index: HashMap<String, u32>,
    #[serde(skip)]
    bytes: usize,
}

/// What stands at one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The address that the file was linked for.
    pub address: u64,
    /// Whether debug information says so, rather than a symbol alone.
    pub exact: bool,
    /// Functions with what is inlined into them, innermost first.
    pub(super) lines: Vec<Source>,
}

/// One function at an address; texts by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub(super) function: u32,
    pub(super) system_name: u32,
    pub(super) file: u32,
    pub(super) line: u32,
}

impl Place {
    fn memory(&self) -> usize {
        size_of::<Self>() + self.lines.len() * size_of::<Source>()
    }
}

impl FileNames {
    /// Adds what stands at an address, innermost first: addresses must come in ascending order. Nothing is added of
    /// what has a function without a name, nor once it takes 12 MiB.
    pub fn add(&mut self, address: u64, exact: bool, lines: &[Line<'_>]) {
        let in_order = self.places.last().is_none_or(|last| last.address < address);
        let named = !lines.is_empty() && lines.iter().all(|line| !line.function.is_empty());
        if !in_order || !named || self.bytes > MAX_MEMORY {
            return;
        }
        // The outermost function is what a caller called: it stays whatever is inlined.
        let skip = lines.len().saturating_sub(MAX_LINES);
        let lines = lines.iter().skip(skip).map(|line| self.source(line)).collect();
        let place = Place { address, exact, lines };
        self.bytes += place.memory();
        self.places.push(place);
    }

    fn source(&mut self, line: &Line<'_>) -> Source {
        Source {
            function: self.number(line.function),
            system_name: self.number(line.system_name),
            file: self.number(line.file),
            line: u32::try_from(line.line).unwrap_or(0),
        }
    }

    fn number(&mut self, text: &str) -> u32 {
        let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let text = &text[..end];
        if let Some(number) = self.index.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.bytes += text.len() + size_of::<String>();
        self.texts.push(text.to_owned());
        self.index.insert(text.to_owned(), number);
        number
    }

    /// Whether this may be an answer to a question for these addresses, which are sorted: addresses, texts and their
    /// lengths are within bounds.
    #[must_use]
    pub fn answers(&self, addresses: &[u64]) -> bool {
        let known = |number: u32| usize::try_from(number).is_ok_and(|number| number < self.texts.len());
        let source = |s: &Source| [s.function, s.system_name, s.file].into_iter().all(known);
        let place = |place: &Place| {
            (1..=MAX_LINES).contains(&place.lines.len())
                && place.lines.iter().all(|line| source(line) && !self.text(line.function).is_empty())
                && addresses.binary_search(&place.address).is_ok()
        };
        self.places.is_sorted_by(|one, next| one.address < next.address)
            && self.places.iter().all(place)
            && self.texts.iter().all(|text| text.len() <= MAX_TEXT)
    }

    /// Bytes of memory that it takes, estimated.
    #[must_use]
    pub fn memory(&self) -> usize {
        let texts = self.texts.iter().map(|text| text.len() + size_of::<String>());
        texts.chain(self.places.iter().map(Place::memory)).sum()
    }

    /// How many addresses have a name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn place(&self, address: u64) -> Option<&Place> {
        let position = self.places.binary_search_by_key(&address, |place| place.address).ok()?;
        self.places.get(position)
    }

    pub(super) fn text(&self, number: u32) -> &str {
        usize::try_from(number).ok().and_then(|number| self.texts.get(number)).map_or("", String::as_str)
    }
}
