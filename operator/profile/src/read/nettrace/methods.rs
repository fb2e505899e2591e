//! Which method does an address belong to?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Limits;
use super::bytes::Cursor;
use crate::read::ReadError;

/// Most characters of a name that are kept.
const MAX_NAME: usize = 512;

/// Machine code of a method. A method may have several: one for each tier that it was compiled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Its first address.
    pub start: u64,
    /// The first address after it.
    pub end: u64,
    /// `Namespace.Class.Method`.
    pub name: Arc<str>,
}

impl Method {
    /// The content of an event about a method.
    pub(super) fn read(content: &mut Cursor<'_>) -> Result<Self, ReadError> {
        let (_method, _module, start) = (content.long()?, content.long()?, content.long()?);
        let size = content.int()?;
        let (_token, _flags) = (content.int()?, content.int()?);
        let class = content.text(MAX_NAME)?;
        let method = content.text(MAX_NAME)?;
        let whole = if class.is_empty() { method } else { format!("{class}.{method}") };
        let name = whole.chars().take(MAX_NAME).collect::<String>().into();
        Ok(Self { start, end: start.saturating_add(u64::from(size)), name })
    }
}

/// The methods of a process by address. Of two methods at one place the later one is right.
#[derive(Debug, Clone)]
pub struct Methods {
    pub(super) methods: BTreeMap<u64, (u64, Arc<str>)>,
    name_bytes: usize,
    limits: Limits,
    left_out: u64,
}

impl Methods {
    /// No methods.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { methods: BTreeMap::new(), name_bytes: 0, limits, left_out: 0 }
    }

    /// Adds a method. One that has no name or no code, or is beyond the limits, is left out.
    pub fn add(&mut self, method: Method) {
        let Method { start, end, name } = method;
        if name.is_empty() || end <= start {
            return;
        }
        if let Some((_, old)) = self.methods.remove(&start) {
            self.name_bytes = self.name_bytes.saturating_sub(old.len());
        }
        let bytes = self.name_bytes.saturating_add(name.len());
        if self.methods.len() >= self.limits.methods || bytes > self.limits.name_bytes {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.name_bytes = bytes;
        self.methods.insert(start, (end, name));
    }

    /// The name of the method at an address.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<&Arc<str>> {
        let (_, (end, name)) = self.methods.range(..=address).next_back()?;
        (address < *end).then_some(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.methods.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.methods.is_empty()
    }

    /// How many were left out because of the limits.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}
