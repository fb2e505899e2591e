//! How does a collector describe a frame of a stack?

/// A line of source code in a function; texts may be empty, numbers 0, where unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Line<'a> {
    /// The name for people (demangled).
    pub function: &'a str,
    /// The name the linker or interpreter knows; empty means the same as `function`.
    pub system_name: &'a str,
    /// Source file.
    pub file: &'a str,
    /// Line number from 1, or 0.
    pub line: i64,
    /// Line on which the function begins, from 1, or 0.
    pub start_line: i64,
}

/// One physical frame of a stack, with the functions inlined into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The name for people (demangled). Empty: not symbolized, the frame is shown by mapping and address.
    pub function: &'a str,
    /// The name the linker or interpreter knows; empty means the same as `function`.
    pub system_name: &'a str,
    /// Source file.
    pub file: &'a str,
    /// Line number from 1, or 0.
    pub line: i64,
    /// Line on which the function begins, from 1, or 0.
    pub start_line: i64,
    /// The instruction's address, by the rules of [`MappingInfo`]; of a caller, that of the call (return
    /// address − 1).
    pub address: Option<u64>,
    /// The mapping that holds the address.
    pub mapping: Option<MappingId>,
    /// Functions inlined into `function` at this place, **innermost first**; `function` itself is not among
    /// them.
    pub inlined: Vec<Line<'a>>,
}

impl<'a> Frame<'a> {
    /// A frame of an interpreter: function, file, line.
    pub fn named(function: &'a str, file: &'a str, line: i64) -> Self {
        Self { function, file, line, ..Self::default() }
    }

    /// A native frame that could not be symbolized.
    pub fn unsymbolized(address: u64, mapping: Option<MappingId>) -> Self {
        Self { address: Some(address), mapping, ..Self::default() }
    }

    /// The same frame at `address` of `mapping`.
    pub fn at(mut self, address: u64, mapping: Option<MappingId>) -> Self {
        self.address = Some(address);
        self.mapping = mapping;
        self
    }

    pub(super) fn own_line(&self) -> Line<'a> {
        Line {
            function: self.function,
            system_name: self.system_name,
            file: self.file,
            line: self.line,
            start_line: self.start_line,
        }
    }
}

/// A part of a file that is mapped into the target.
///
/// **Addresses are those that an ELF file was linked for**, not those of the process: the mapping is a load
/// segment and begins at the page of its `p_vaddr`, `file_offset` at the page of its `p_offset`. A resolver
/// that looks a location's address up as it is in the file with this build id is right, and so is one that
/// computes where the file was loaded, since it gets 0: `memory_start − file_offset + p_offset − p_vaddr`.
/// Processes with different layouts have the same locations.
///
/// Other files and memory keep the addresses of the process. They have no build id, so that nobody takes
/// these for linked ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MappingInfo<'a> {
    /// First address, at the start of a page.
    pub memory_start: u64,
    /// First address after the mapping.
    pub memory_limit: u64,
    /// Where in the file the first address lies, in bytes.
    pub file_offset: u64,
    /// Path inside the target's own file system.
    pub file: &'a str,
    /// Build id in lower-case hex, or empty.
    pub build_id: &'a str,
}

/// A mapping known to a [`ProfileBuilder`](super::ProfileBuilder).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MappingId(pub(super) u64);

/// A location known to a [`ProfileBuilder`](super::ProfileBuilder); keep it to symbolize an address once
/// only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocationId(pub(super) u64);

/// Labels of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label<'a> {
    /// Such as `thread`; never `pprof::…`.
    pub key: &'a str,
    /// A text or a number.
    pub value: LabelValue<'a>,
}

/// The value of a [`Label`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabelValue<'a> {
    /// A text.
    Text(&'a str),
    /// A number and its unit (may be empty).
    Number(i64, &'a str),
}

impl<'a> Label<'a> {
    /// A label with a text.
    pub fn text(key: &'a str, value: &'a str) -> Self {
        Self { key, value: LabelValue::Text(value) }
    }

    /// A label with a number of `unit`.
    pub fn number(key: &'a str, value: i64, unit: &'a str) -> Self {
        Self { key, value: LabelValue::Number(value, unit) }
    }
}
