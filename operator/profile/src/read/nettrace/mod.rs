//! What does a .NET process say in the stream of a diagnostics session (nettrace, version 4)?
//!
//! ```text
//! bytes as they come ─► objects: Trace · MetadataBlock · StackBlock · EventBlock · SPBlock …
//!   metadata ─► which number is which event ─┐
//!   stacks ──────────────────────────────────┴─► events: a method, its map, a module, an allocation,
//!                                                a sample of a thread
//! methods, their maps, modules ─► Methods: name and instruction of an address
//! allocations ─► Allocations ─► a profile
//! ```
//! A stream goes on for as long as its session, so it is read as it comes, and what is not needed is not
//! kept.
//! Events that are not known are passed over by their sizes.

mod allocations;
mod bytes;
mod events;
mod maps;
mod methods;
mod modules;
mod objects;
#[cfg(test)]
mod tests;

pub use allocations::Allocations;
pub use maps::{Il, Map, MethodKey};
pub use methods::{Code, Method, Methods};
pub use modules::{Guid, Module};

use std::collections::HashMap;
use std::sync::Arc;

use self::events::Known;
use self::objects::{Buffer, Object};
use super::ReadError;
use crate::builder::Frame;

const FORMAT: &str = ".NET trace";

/// Bounds of a [`Reader`] and of what is made of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a block. .NET writes blocks of about 100 KiB.
    pub block_bytes: usize,
    /// Kinds of events. .NET 9 has some hundreds.
    pub kinds: usize,
    /// Addresses in all stacks between two sequence points.
    pub addresses: usize,
    /// Methods whose names are kept.
    pub methods: usize,
    /// Bytes of these names.
    pub name_bytes: usize,
    /// Bytes of the maps from their machine code to their instructions.
    pub map_bytes: usize,
    /// Modules that are kept.
    pub modules: usize,
    /// Bytes of files with debug information that may be in memory.
    pub symbol_bytes: usize,
    /// Different stacks of allocations.
    pub stacks: usize,
}

impl Default for Limits {
    /// Limits for a large service: about 150 MiB.
    fn default() -> Self {
        Self {
            block_bytes: 4 << 20,
            kinds: 10_000,
            addresses: 2_000_000,
            methods: 300_000,
            name_bytes: 32 << 20,
            map_bytes: 32 << 20,
            modules: 10_000,
            symbol_bytes: 32 << 20,
            stacks: 50_000,
        }
    }
}

impl Limits {
    /// Limits so that all of it together takes about so many bytes of memory, and no more than the default.
    #[must_use]
    pub fn within(bytes: usize) -> Self {
        let most = Self::default();
        Self {
            block_bytes: most.block_bytes.min(bytes / 8).max(1 << 20),
            addresses: most.addresses.min(bytes / 64),
            methods: most.methods.min(bytes / 400),
            name_bytes: most.name_bytes.min(bytes / 5),
            map_bytes: most.map_bytes.min(bytes / 8),
            modules: most.modules.min(bytes / 16_384),
            symbol_bytes: most.symbol_bytes.min(bytes / 8),
            stacks: most.stacks.min(bytes / 4096),
            ..most
        }
    }
}

/// What a stream says, as far as profiles need it. Stacks are addresses, leaf first; addresses of callers are
/// those to which is returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A method has been compiled, or was when the session ended.
    Method(Method),
    /// The map from a method's machine code to its instructions.
    Map(Map),
    /// A module has been loaded, or was when the session ended.
    Module(Module),
    /// So many bytes were allocated since the last such event, the last of them for an object of that size.
    Allocation {
        /// Bytes since the last event.
        bytes: u64,
        /// Bytes of the object; 0 where that is not known.
        object: u64,
        /// Where.
        stack: &'a [u64],
    },
    /// A thread that runs managed code, or waits in it, at a tick of the runtime's sampler.
    Sample {
        /// The kernel's number of the thread, in the process's own namespace.
        thread: u64,
        /// Where it is.
        stack: &'a [u64],
    },
}

/// A method and the line in it, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `Namespace.Class.Method`.
    pub name: Arc<str>,
    /// Its source file, or empty.
    pub file: Arc<str>,
    /// The line, from 1, or 0.
    pub line: u32,
    /// The line on which the method begins, from 1, or 0.
    pub start_line: u32,
}

impl Place {
    /// A method whose lines are not known.
    #[must_use]
    pub fn named(name: Arc<str>) -> Self {
        Self { name, ..Self::default() }
    }

    /// As a frame of a profile.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        let frame = Frame::named(&self.name, &self.file, i64::from(self.line));
        Frame { start_line: i64::from(self.start_line), ..frame }
    }
}

/// Reads one stream.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    buffer: Buffer,
    kinds: HashMap<u32, Known>,
    stacks: HashMap<u32, Box<[u64]>>,
    addresses: usize,
}

impl Reader {
    /// A reader for a stream from its first byte on.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let (kinds, stacks) = (HashMap::new(), HashMap::new());
        Self { limits, buffer: Buffer::new(limits.block_bytes), kinds, stacks, addresses: 0 }
    }

    /// Whether the stream has said that it is one.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.buffer.has_begun()
    }

    /// Whether the stream has said that it is at its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.buffer.is_over()
    }

    /// Reads the next bytes of the stream, and hands over the events that are complete with them.
    ///
    /// # Errors
    /// The bytes are no trace, a damaged one, one of another version, or beyond the limits. The rest of the
    /// stream cannot be read then.
    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) -> Result<(), ReadError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.push(bytes);
        while let Some((object, at)) = buffer.next_object()? {
            match object {
                Object::Metadata(block) => self.metadata(block, at)?,
                Object::Stacks(block) => self.stacks(block, at)?,
                Object::Events(block) => events::read(block, at, &self.kinds, &self.stacks, sink)?,
                // No event refers to a stack before this point.
                Object::SequencePoint => {
                    self.stacks.clear();
                    self.addresses = 0;
                }
                Object::Other => {}
            }
        }
        buffer.compact();
        self.buffer = buffer;
        Ok(())
    }

    fn metadata(&mut self, block: &[u8], at: usize) -> Result<(), ReadError> {
        for (number, known) in events::metadata(block, at)? {
            if self.kinds.len() >= self.limits.kinds {
                return Err(too_many("kinds of events", self.kinds.len(), self.limits.kinds));
            }
            self.kinds.insert(number, known);
        }
        Ok(())
    }

    fn stacks(&mut self, block: &[u8], at: usize) -> Result<(), ReadError> {
        for (number, stack) in events::stacks(block, at)? {
            // An empty one takes memory as well.
            self.addresses = self.addresses.saturating_add(stack.len() + 1);
            if self.addresses > self.limits.addresses {
                return Err(too_many("addresses in stacks", self.addresses, self.limits.addresses));
            }
            self.stacks.insert(number, stack);
        }
        Ok(())
    }
}

fn damaged(at: usize, what: &'static str) -> ReadError {
    ReadError::Damaged { format: FORMAT, at, what }
}

fn too_many(what: &'static str, have: usize, limit: usize) -> ReadError {
    ReadError::TooLarge { format: FORMAT, what, have, limit }
}
