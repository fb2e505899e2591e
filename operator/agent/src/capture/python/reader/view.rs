//! What does a look read that follows many small objects? What the last one read, in few system calls; what
//! is missing then, one by one.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::codes::word_at;
use super::memory::{Memory, Place};

/// Most bytes that are read in a look.
const MAX_BYTES: usize = 16 << 20;

/// Memory as it was a moment ago, by what was asked for.
pub struct View<'a> {
    memory: &'a Memory,
    bytes: Vec<u8>,
    held: HashMap<(u64, usize), Part>,
}

struct Part {
    /// Where its bytes are.
    range: Range<usize>,
    /// Whether it was asked for.
    is_used: bool,
}

impl<'a> View<'a> {
    /// Reads places; those that cannot be read are left out.
    ///
    /// # Errors
    /// The process is gone, or may not be read.
    pub fn take(memory: &'a Memory, places: &[Place]) -> io::Result<Self> {
        let mut bytes = vec![0; places.iter().map(|place| place.len).sum::<usize>().min(MAX_BYTES)];
        let read = memory.read_all(places, &mut bytes)?;
        let mut end = 0;
        let mut held = HashMap::with_capacity(places.len());
        for (place, is_read) in places.iter().zip(read) {
            let start = end;
            end += place.len;
            if is_read && end <= bytes.len() {
                held.insert((place.address, place.len), Part { range: start..end, is_used: false });
            }
        }
        Ok(Self { memory, bytes, held })
    }

    /// Bytes of the target.
    ///
    /// # Errors
    /// They cannot be read, or too much was read.
    pub fn get(&mut self, address: u64, len: usize) -> io::Result<&[u8]> {
        let range = match self.held.get_mut(&(address, len)) {
            Some(part) => {
                part.is_used = true;
                part.range.clone()
            }
            None => self.add(address, len)?,
        };
        self.bytes.get(range).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The word at an address.
    ///
    /// # Errors
    /// As of `get`.
    pub fn word(&mut self, address: u64) -> io::Result<u64> {
        word_at(self.get(address, 8)?, 0).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn add(&mut self, address: u64, len: usize) -> io::Result<Range<usize>> {
        let start = self.bytes.len();
        if len > MAX_BYTES - start.min(MAX_BYTES) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.bytes.resize(start + len, 0);
        let into = self.bytes.get_mut(start..).unwrap_or_default();
        self.memory.read(address, into)?;
        let range = start..start + len;
        self.held.insert((address, len), Part { range: range.clone(), is_used: true });
        Ok(range)
    }

    /// What was asked for, by its address.
    pub fn used(self) -> Vec<Place> {
        let used = self.held.into_iter().filter(|(_, part)| part.is_used);
        let mut all: Vec<Place> = used.map(|((address, len), _)| Place { address, len }).collect();
        all.sort_unstable_by_key(|place| (place.address, place.len));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_read_at_once_the_next_time() {
        let words = [7_u64, 8, 9];
        let at = |n: usize| words[n..].as_ptr() as u64;
        let memory = Memory::of(std::process::id().cast_signed(), at(0)).unwrap();
        let mut first = View::take(&memory, &[Place { address: 8, len: 8 }]).unwrap();
        assert_eq!((first.word(at(0)).unwrap(), first.word(at(2)).unwrap()), (7, 9));
        assert!(first.word(8).is_err() && first.get(at(0), MAX_BYTES + 1).is_err());
        let used = first.used();
        assert_eq!(used, [Place { address: at(0), len: 8 }, Place { address: at(2), len: 8 }]);
        let mut second = View::take(&memory, &used).unwrap();
        assert_eq!((second.held.len(), second.word(at(2)).unwrap()), (2, 9));
    }
}
