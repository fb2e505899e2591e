//! What do the blocks of a stream hold?

use std::collections::HashMap;

use super::bytes::Cursor;
use super::maps::Map;
use super::methods::Method;
use super::modules::Module;
use super::{Event, damaged};
use crate::read::ReadError;

/// Most characters of the name of a provider that are compared.
const MAX_PROVIDER: usize = 64;
/// Bytes of the identifiers of activities, and of each checksum of an uncompressed header.
const ACTIVITY: usize = 16;

/// An event that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A method with its names.
    Method,
    /// The map of a method's machine code.
    Map,
    /// A module with its file.
    Module,
    /// About 100 KB were allocated.
    Allocation,
    /// A thread at a tick of the sampler.
    Sample,
}

/// Which event a provider, a number and a version mean.
fn known(provider: &str, number: u32, version: u32) -> Option<Known> {
    match (provider, number) {
        ("Microsoft-Windows-DotNETRuntime", 143) => Some(Known::Method),
        ("Microsoft-Windows-DotNETRuntimeRundown", 143 | 144) => Some(Known::Method),
        ("Microsoft-Windows-DotNETRuntime", 190) => Some(Known::Map),
        ("Microsoft-Windows-DotNETRuntimeRundown", 149 | 150) => Some(Known::Map),
        // Older ones do not say which debug information is theirs.
        ("Microsoft-Windows-DotNETRuntime", 152) if version >= 2 => Some(Known::Module),
        ("Microsoft-Windows-DotNETRuntimeRundown", 153 | 154) if version >= 2 => Some(Known::Module),
        ("Microsoft-Windows-DotNETRuntime", 10) if version >= 2 => Some(Known::Allocation),
        ("Microsoft-DotNETCore-SampleProfiler", 0) => Some(Known::Sample),
        _ => None,
    }
}

/// What precedes an event; each one says only what differs from the one before it.
#[derive(Clone, Copy, Debug, Default)]
struct Header {
    kind: u32,
    thread: u64,
    stack: u32,
    size: usize,
}

/// Bits of a compressed header: which of its fields follow.
mod field {
    pub(super) const KIND: u8 = 1;
    pub(super) const SEQUENCE: u8 = 2;
    pub(super) const THREAD: u8 = 4;
    pub(super) const STACK: u8 = 8;
    pub(super) const ACTIVITY: u8 = 16;
    pub(super) const RELATED_ACTIVITY: u8 = 32;
    pub(super) const SIZE: u8 = 128;
}

/// Goes from event to event of a block.
struct Blobs<'a> {
    cursor: Cursor<'a>,
    compressed: bool,
    header: Header,
}

impl<'a> Blobs<'a> {
    fn new(block: &'a [u8], at: usize) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(block, at);
        let (size, flags) = (cursor.short()?, cursor.short()?);
        let rest = usize::from(size).checked_sub(4);
        cursor.take(rest.ok_or_else(|| damaged(at, "the header of a block is too short"))?)?;
        Ok(Self { cursor, compressed: flags & 1 != 0, header: Header::default() })
    }

    /// The next event: what precedes it, and its content.
    fn next_event(&mut self) -> Result<Option<(Header, Cursor<'a>)>, ReadError> {
        if self.cursor.left() == 0 {
            return Ok(None);
        }
        if self.compressed {
            self.compressed_header()?
        } else {
            self.plain_header()?
        }
        let place = self.cursor.place();
        let content = self.cursor.take(self.header.size)?;
        if !self.compressed {
            let padding = (self.header.size.wrapping_neg() % 4).min(self.cursor.left());
            self.cursor.take(padding)?;
        }
        Ok(Some((self.header, Cursor::new(content, place))))
    }

    fn compressed_header(&mut self) -> Result<(), ReadError> {
        let cursor = &mut self.cursor;
        let fields = cursor.byte()?;
        if fields & field::KIND != 0 {
            self.header.kind = cursor.small_number()?;
        }
        if fields & field::SEQUENCE != 0 {
            // Sequence number, capturing thread, processor.
            for _ in 0..3 {
                cursor.number()?;
            }
        }
        if fields & field::THREAD != 0 {
            self.header.thread = cursor.number()?;
        }
        if fields & field::STACK != 0 {
            self.header.stack = cursor.small_number()?;
        }
        let _time = cursor.number()?;
        for activity in [field::ACTIVITY, field::RELATED_ACTIVITY] {
            if fields & activity != 0 {
                cursor.take(ACTIVITY)?;
            }
        }
        if fields & field::SIZE != 0 {
            let at = cursor.place();
            let size = usize::try_from(cursor.number()?);
            self.header.size = size.map_err(|_| damaged(at, "an event is larger than memory"))?;
        }
        Ok(())
    }

    fn plain_header(&mut self) -> Result<(), ReadError> {
        let cursor = &mut self.cursor;
        let _size = cursor.int()?;
        // The uppermost bit says something about the order of events.
        let kind = cursor.int()? & 0x7fff_ffff;
        let _sequence = cursor.int()?;
        let thread = cursor.long()?;
        let (_capturing, _processor) = (cursor.long()?, cursor.int()?);
        let stack = cursor.int()?;
        let _time = cursor.long()?;
        cursor.take(2 * ACTIVITY)?;
        self.header = Header { kind, thread, stack, size: cursor.size()? };
        Ok(())
    }
}

/// The numbers of the events that are read.
pub(super) fn metadata(block: &[u8], at: usize) -> Result<Vec<(u32, Known)>, ReadError> {
    let (mut blobs, mut found) = (Blobs::new(block, at)?, Vec::new());
    while let Some((_, mut content)) = blobs.next_event()? {
        let number = content.int()?;
        let provider = content.text(MAX_PROVIDER)?;
        let event = content.int()?;
        let _name = content.text(0)?;
        let _keywords = content.long()?;
        let version = content.int()?;
        if let Some(known) = known(&provider, event, version) {
            found.push((number, known));
        }
    }
    Ok(found)
}

/// A stack of addresses, and its number in the stream.
pub(super) type NumberedStack = (u32, Box<[u64]>);

/// Stacks and their numbers.
pub(super) fn stacks(block: &[u8], at: usize) -> Result<Vec<NumberedStack>, ReadError> {
    let (mut cursor, mut stacks) = (Cursor::new(block, at), Vec::new());
    let (first, count) = (cursor.int()?, cursor.int()?);
    for number in 0..count {
        let size = cursor.size()?;
        let words = cursor.take(size)?.chunks_exact(8);
        let stack = words.map(|word| word.try_into().map_or(0, u64::from_le_bytes)).collect();
        stacks.push((first.wrapping_add(number), stack));
    }
    Ok(stacks)
}

/// Hands over the events of a block that are read. One whose stack is not known has none.
pub(super) fn read(
    block: &[u8],
    at: usize,
    kinds: &HashMap<u32, Known>,
    stacks: &HashMap<u32, Box<[u64]>>,
    sink: &mut dyn FnMut(Event<'_>),
) -> Result<(), ReadError> {
    let mut blobs = Blobs::new(block, at)?;
    while let Some((header, mut content)) = blobs.next_event()? {
        let stack = stacks.get(&header.stack).map_or(&[][..], |stack| stack);
        match kinds.get(&header.kind) {
            Some(Known::Method) => sink(Event::Method(Method::read(&mut content)?)),
            // Names do not depend on these: what another version of the runtime says costs lines only.
            Some(Known::Map) => Map::read(&mut content).into_iter().for_each(|map| sink(Event::Map(map))),
            Some(Known::Module) => {
                Module::read(&mut content).into_iter().for_each(|module| sink(Event::Module(module)));
            }
            Some(Known::Allocation) => {
                let (bytes, object) = allocation(&mut content)?;
                sink(Event::Allocation { bytes, object, stack });
            }
            Some(Known::Sample) => sink(Event::Sample { thread: header.thread, stack }),
            None => {}
        }
    }
    Ok(())
}

/// Bytes since the last event, and bytes of the object, where the version of the event has them.
fn allocation(content: &mut Cursor<'_>) -> Result<(u64, u64), ReadError> {
    let (_amount, _kind, _runtime) = (content.int()?, content.int()?, content.short()?);
    let bytes = content.long()?;
    let _class = content.long()?;
    let _name = content.text(0)?;
    let _heap = content.int()?;
    let (_address, object) = (content.long().ok(), content.long().unwrap_or(0));
    Ok((bytes, object))
}
