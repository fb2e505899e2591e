//! What does a turn read of a thread? What the last turn looked at, in one system call; what is missing then,
//! one by one.

use std::io;

use super::memory::{Memory, Place};

/// Most bytes that are read of a thread.
const MAX_BYTES: usize = 4 << 20;
/// Bytes beyond what was looked at in a place that are read the next time: stacks grow.
const SPARE: usize = 512;

/// Memory of a thread as it was a moment ago.
pub struct Snapshot {
    memory: Memory,
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

struct Part {
    place: Place,
    /// Where its bytes begin.
    start: usize,
    /// Its bytes that were looked at.
    used: usize,
}

impl Snapshot {
    /// Reads places; those that cannot be read are left out.
    ///
    /// # Errors
    /// The process is gone, or may not be read.
    pub fn take(memory: &Memory, places: &[Place]) -> io::Result<Self> {
        let mut bytes = vec![0; places.iter().map(|place| place.len).sum::<usize>().min(MAX_BYTES)];
        let read = memory.read_all(places, &mut bytes)?;
        let mut end = 0;
        let parts = places.iter().zip(read).filter_map(|(place, read)| {
            let start = end;
            end += place.len;
            (read && end <= bytes.len()).then_some(Part { place: *place, start, used: 0 })
        });
        Ok(Self { parts: parts.collect(), memory: memory.clone(), bytes })
    }

    /// Bytes of the target. Where they are missing, `around` is read: a place that holds them.
    ///
    /// # Errors
    /// They cannot be read, or too much was read.
    pub fn get(&mut self, wanted: Place, around: impl FnOnce() -> Place) -> io::Result<&[u8]> {
        let held = |part: &Part| part.place.offset_of(wanted.address, wanted.len);
        let known = self.parts.iter().enumerate().find_map(|(n, part)| Some((n, held(part)?)));
        let (part, offset) = match known {
            Some(known) => known,
            None => {
                let around = around();
                let offset =
                    around.offset_of(wanted.address, wanted.len).ok_or(io::ErrorKind::InvalidInput)?;
                self.add(around)?;
                (self.parts.len() - 1, offset)
            }
        };
        let part = self.parts.get_mut(part).ok_or(io::ErrorKind::NotFound)?;
        part.used = part.used.max(offset + wanted.len);
        let start = part.start + offset;
        self.bytes.get(start..start + wanted.len).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn add(&mut self, place: Place) -> io::Result<()> {
        let start = self.bytes.len();
        if place.len > MAX_BYTES - start.min(MAX_BYTES) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.resize(start + place.len, 0);
        let into = self.bytes.get_mut(start..).unwrap_or_default();
        self.memory.read(place.address, into)?;
        self.parts.push(Part { place, start, used: 0 });
        Ok(())
    }

    /// The places that were looked at, with something to spare where a place is more than one object.
    pub fn used(&self) -> Vec<Place> {
        let used = self.parts.iter().filter(|part| part.used > 0);
        used.map(|part| {
            let is_object = part.used == part.place.len && part.used < SPARE;
            Place { address: part.place.address, len: part.used + if is_object { 0 } else { SPARE } }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_memory() -> Memory {
        let byte = 0_u8;
        Memory::of(std::process::id().cast_signed(), (&raw const byte) as u64).unwrap()
    }

    #[test]
    fn what_was_looked_at_is_read_at_once_the_next_time() {
        let memory = own_memory();
        let bytes: Vec<u8> = (0..4096_usize).map(|n| (n % 251) as u8).collect();
        let at = |offset: usize, len| Place { address: bytes.as_ptr() as u64 + offset as u64, len };
        let mut first = Snapshot::take(&memory, &[at(0, 8), Place { address: 8, len: 8 }]).unwrap();
        assert_eq!(first.get(at(4, 4), || unreachable!()).unwrap(), &bytes[4..8]);
        assert_eq!(first.get(at(1000, 8), || at(200, 2000)).unwrap(), &bytes[1000..1008]);
        assert_eq!(first.get(at(600, 8), || unreachable!("it is read")).unwrap(), &bytes[600..608]);
        assert_eq!(first.used(), [at(0, 8), at(200, 808 + SPARE)]);
        let mut second = Snapshot::take(&memory, &first.used()).unwrap();
        assert_eq!(second.get(at(1000, 8), || unreachable!()).unwrap(), &bytes[1000..1008]);
        assert_eq!(second.used(), [at(200, 808 + SPARE)]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let memory = own_memory();
        let mut snapshot = Snapshot::take(&memory, &[]).unwrap();
        let wild = Place { address: 8, len: 8 };
        assert!(snapshot.get(wild, || wild).is_err());
        assert!(snapshot.get(wild, || Place { address: 16, len: 8 }).is_err(), "it does not hold them");
        assert!(snapshot.get(wild, || Place { address: 0, len: usize::MAX }).is_err(), "too much");
    }
}
