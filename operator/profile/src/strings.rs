//! Which number stands for a text?

use std::collections::HashMap;

/// A string table under construction; entry 0 is the empty string.
#[derive(Debug)]
pub(crate) struct StringTable {
    index: HashMap<String, i64>,
    next: i64,
    bytes: usize,
}

impl StringTable {
    pub(crate) fn new() -> Self {
        Self::continued(&[String::new()])
    }

    /// A table that goes on after the entries of `table`; of a text that stands there twice, the first number
    /// counts.
    pub(crate) fn continued(table: &[String]) -> Self {
        let mut strings = Self { index: HashMap::with_capacity(table.len()), next: 0, bytes: 0 };
        for text in table {
            let number = strings.take_number(text);
            strings.index.entry(text.clone()).or_insert(number);
        }
        strings
    }

    pub(crate) fn get(&self, text: &str) -> Option<i64> {
        self.index.get(text).copied()
    }

    pub(crate) fn intern(&mut self, text: &str) -> i64 {
        if let Some(number) = self.get(text) {
            return number;
        }
        let number = self.take_number(text);
        self.index.insert(text.to_owned(), number);
        number
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of all texts together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entries from number `first` on, in order.
    pub(crate) fn into_entries(self, first: i64) -> Vec<String> {
        let mut entries: Vec<(String, i64)> =
            self.index.into_iter().filter(|(_, number)| *number >= first).collect();
        entries.sort_unstable_by_key(|(_, number)| *number);
        entries.into_iter().map(|(text, _)| text).collect()
    }

    fn take_number(&mut self, text: &str) -> i64 {
        let number = self.next;
        self.next += 1;
        self.bytes += text.len();
        number
    }
}
