//! Which strings fit into a builder's string table?

use super::limits::BuilderLimits;
use crate::strings::StringTable;

/// A string table with limits.
#[derive(Debug)]
pub(super) struct Strings {
    table: StringTable,
    pub(super) shortened: u64,
}

impl Strings {
    pub(super) fn new() -> Self {
        Self { table: StringTable::new(), shortened: 0 }
    }

    /// The index of `text`, or `None` if the table is full.
    pub(super) fn intern(&mut self, text: &str, limits: &BuilderLimits) -> Option<i64> {
        if text.len() > limits.string_length {
            self.shortened += 1;
            return self.intern_short(&shorten(text, limits.string_length), limits);
        }
        self.intern_short(text, limits)
    }

    fn intern_short(&mut self, text: &str, limits: &BuilderLimits) -> Option<i64> {
        if let Some(number) = self.table.get(text) {
            return Some(number);
        }
        let full =
            self.table.len() >= limits.strings || self.table.bytes() + text.len() > limits.string_bytes;
        (!full).then(|| self.table.intern(text))
    }

    /// The index of one of the few built-in strings, which ignore the limits.
    pub(super) fn intern_own(&mut self, text: &str) -> i64 {
        self.table.intern(text)
    }

    /// The table, by number.
    pub(super) fn into_table(self) -> Vec<String> {
        self.table.into_entries(0)
    }
}

fn shorten(text: &str, length: usize) -> String {
    const ELLIPSIS: &str = "…";
    let keep = text.floor_char_boundary(length.saturating_sub(ELLIPSIS.len()));
    let mut short = text.get(..keep).unwrap_or_default().to_owned();
    short.push_str(ELLIPSIS);
    short
}
