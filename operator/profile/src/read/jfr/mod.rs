//! What do the events of a Java flight recording say, as profiles?
//!
//! ```text
//! recording = chunk*     chunk = header, then events in any order:
//!   metadata event ─► types ─┐
//!   checkpoint events ───────┴─► constants: stacks, methods, classes, symbols
//!   samples ─► sums by stack ─► names ─► a profile of each kind
//! ```
//! Types and fields are found by their names in the metadata, so that recordings of Java 11 to 25 are read
//! alike; events that are not known are passed over by their sizes.

mod bytes;
mod chunk;
mod events;
mod header;
mod stacks;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;

use super::ReadError;
use crate::builder::ProfileBuilder;
use crate::kind::ProfileKind;
use crate::proto::Profile;
use chunk::Chunk;
use events::{Clock, Source};
use header::Header;
use stacks::Stacks;
pub(super) use stacks::readable;

const FORMAT: &str = "JFR recording";

/// Says in a profile of allocations what its counts are worth.
const COUNTS: &str = "Java does not say how many objects a sample of allocations stands for: alloc_objects \
                      counts samples from Java 16 on, and estimates objects before.";

/// Bounds of [`read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a recording.
    pub bytes: usize,
    /// Types of a chunk. Java 25 has 700.
    pub types: usize,
    /// Fields of all types. Java 25 has 3,000.
    pub fields: usize,
    /// Texts of the metadata. Java 25 has 5,000.
    pub strings: usize,
    /// Stacks, methods, classes and symbols of a chunk.
    pub constants: usize,
    /// Bytes of the names of methods and classes of a chunk.
    pub name_bytes: usize,
}

impl Default for Limits {
    /// Limits for a slice of 10–15 s of a large service: 32 MiB.
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            types: 20_000,
            fields: 100_000,
            strings: 100_000,
            constants: 1_000_000,
            name_bytes: 32 << 20,
        }
    }
}

/// What is read of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// A profile of each kind that was asked for and that recordings have; it may be empty.
    pub profiles: Vec<(ProfileKind, Profile)>,
    /// CPU samples that were due and not taken, as far as the recording says.
    pub lost: u64,
}

/// Reads a recording. Of the kinds, these can be in one: cpu, alloc and lock. What a CPU sample of Java before
/// 25 stands for, in nanoseconds, is not in the recording, but was set when it began.
///
/// A frame is called `package.Class.method`, its file is the class. Values of allocations are weights in
/// bytes, those of locks the time that threads waited to get one.
///
/// # Errors
/// The bytes are no recording, a damaged one, or beyond the limits.
pub fn read(
    bytes: &[u8],
    limits: &Limits,
    kinds: &[ProfileKind],
    period_nanos: u64,
) -> Result<Recording, ReadError> {
    if bytes.len() > limits.bytes {
        return Err(too_many("bytes", bytes.len(), limits.bytes));
    }
    let headers = header::headers(bytes)?;
    let start = headers.iter().map(|header| header.start_nanos).min().unwrap_or(0);
    let duration = headers.iter().fold(0_u64, |sum, header| sum.saturating_add(header.duration_nanos));
    let mut builders: Vec<(ProfileKind, ProfileBuilder)> =
        [ProfileKind::Cpu, ProfileKind::Alloc, ProfileKind::Lock]
            .into_iter()
            .filter(|kind| kinds.contains(kind))
            .map(|kind| (kind, ProfileBuilder::new(kind, period(kind, period_nanos), signed(start))))
            .collect();
    let mut lost = 0_u64;
    for header in &headers {
        lost = lost.saturating_add(add_chunk(header, limits, period_nanos, &mut builders)?);
    }
    let profiles = builders.into_iter().map(|(kind, builder)| {
        let comments: &[&str] = if kind == ProfileKind::Alloc { &[COUNTS] } else { &[] };
        (kind, builder.finish(signed(duration), comments))
    });
    Ok(Recording { profiles: profiles.collect(), lost })
}

/// Nanoseconds of time for CPU; events of the other kinds do not stand at a distance.
fn period(kind: ProfileKind, nanos: u64) -> i64 {
    if kind == ProfileKind::Cpu { signed(nanos) } else { 1 }
}

/// Sums by type of event and stack.
type Sums = BTreeMap<(Source, (u64, u64)), [u64; 2]>;

/// Adds what a chunk holds, and gives back how many samples were lost.
fn add_chunk(
    header: &Header<'_>,
    limits: &Limits,
    period_nanos: u64,
    builders: &mut [(ProfileKind, ProfileBuilder)],
) -> Result<u64, ReadError> {
    let chunk = Chunk::read(header.bytes, header.metadata, header::SIZE, limits)?;
    let mut stacks = Stacks::new(&chunk, limits);
    let clock = Clock { ticks_per_second: header.ticks_per_second, period_nanos };
    let (sums, lost) = sum(&chunk, &stacks, clock, builders)?;
    let has = |source: Source| sums.keys().any(|(found, _)| *found == source);
    let used: Vec<Source> =
        Source::ALL.into_iter().filter(|source| !source.replaced_by().is_some_and(has)).collect();
    for ((source, (class, key)), values) in &sums {
        let builder = builders.iter_mut().find(|(kind, _)| *kind == source.kind());
        let Some((kind, builder)) = builder.filter(|_| used.contains(source)) else {
            continue;
        };
        let stack = stacks.stack(*class, *key)?;
        if *kind == ProfileKind::Lock && stack.is_of_the_recorder() {
            continue;
        }
        // Values are right in number and sign.
        let _added = builder.add(&stack.frames(), &values.map(signed), &[]);
    }
    Ok(lost)
}

fn sum(
    chunk: &Chunk<'_>,
    stacks: &Stacks<'_, '_>,
    clock: Clock,
    builders: &[(ProfileKind, ProfileBuilder)],
) -> Result<(Sums, u64), ReadError> {
    let wanted = |source: &Source| builders.iter().any(|(kind, _)| *kind == source.kind());
    let sources: Vec<Source> = Source::ALL.into_iter().filter(wanted).collect();
    let (mut sums, mut lost) = (Sums::new(), 0_u64);
    for event in chunk.events(header::SIZE) {
        let event = event?;
        if let Some(source) = sources.iter().find(|source| chunk.is(event.class, source.name())) {
            if let Some(count) = source.count(chunk, stacks, event, clock)? {
                let sum = sums.entry((*source, count.stack)).or_default();
                for (total, value) in sum.iter_mut().zip(count.values) {
                    *total = total.saturating_add(value);
                }
            }
        } else if chunk.is(event.class, "jdk.CPUTimeSamplesLost") {
            lost = lost.saturating_add(events::lost(chunk, event)?);
        }
    }
    Ok((sums, lost))
}

/// Pprof numbers are signed.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn damaged(at: usize, what: &'static str) -> ReadError {
    ReadError::Damaged { format: FORMAT, at, what }
}

fn too_many(what: &'static str, have: usize, limit: usize) -> ReadError {
    ReadError::TooLarge { format: FORMAT, what, have, limit }
}
