//! Does a table hold an equal entry, and where?
//!
//! The entries stay in their table, and nothing is copied into a key. The hash of each is remembered, so that
//! an index that grows reads no entry again. Each index has keys of its own, so that nobody can send entries
//! whose hashes are the same.

use std::hash::{BuildHasher, Hash, RandomState};

/// Where the entries of a table are, by their hash.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: RandomState,
    /// A power of two, at most three quarters of them taken; or none at all.
    slots: Vec<Slot>,
    taken: usize,
}

/// Part of the hash of an entry, and its position plus one; 0 is free.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: u32,
    entry: u32,
}

/// Slots of the smallest index.
const FEWEST: usize = 16;

impl Index {
    /// Bytes of memory for an entry, at most: a third of the slots is taken right after the index has grown.
    pub(crate) const ENTRY: usize = 3 * size_of::<Slot>();

    /// The hash of an entry in this index alone.
    pub(crate) fn hash(&self, entry: impl Hash) -> u32 {
        (self.keys.hash_one(entry) >> 32) as u32
    }

    /// The position of the entry of that hash which `is_equal` accepts.
    pub(crate) fn find(&self, hash: u32, mut is_equal: impl FnMut(usize) -> bool) -> Option<usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            // An index without slots has none here, and a free one ends every other search.
            let slot = self.slots.get(at)?;
            let position = (slot.entry as usize).checked_sub(1)?;
            if slot.hash == hash && is_equal(position) {
                return Some(position);
            }
            at = (at + 1) & mask;
        }
    }

    /// Notes an entry that was not found. One beyond the 4 billion that a slot can tell apart is never found.
    pub(crate) fn insert(&mut self, hash: u32, position: usize) {
        let Ok(entry) = u32::try_from(position.saturating_add(1)) else { return };
        if (self.taken + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.put(Slot { hash, entry });
        self.taken += 1;
    }

    fn grow(&mut self) {
        let size = (2 * self.slots.len()).max(FEWEST);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); size]);
        old.into_iter().filter(|slot| slot.entry != 0).for_each(|slot| self.put(slot));
    }

    fn put(&mut self, new: Slot) {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = new.hash as usize & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.entry == 0 {
                *slot = new;
                return;
            }
            at = (at + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_where_they_are_however_many_there_are() {
        let mut index = Index::default();
        let table: Vec<String> = (0..10_000).map(|n| format!("entry {n}")).collect();
        for (position, entry) in table.iter().enumerate() {
            let hash = index.hash(entry);
            assert_eq!(index.find(hash, |at| table[at] == *entry), None);
            index.insert(hash, position);
        }
        for (position, entry) in table.iter().enumerate() {
            assert_eq!(index.find(index.hash(entry), |at| table[at] == *entry), Some(position));
        }
        assert_eq!(index.find(index.hash("another"), |at| table[at] == "another"), None);
        assert!(index.slots.len() * size_of::<Slot>() <= table.len() * Index::ENTRY);
    }

    #[test]
    fn entries_of_one_hash_are_told_apart() {
        let mut index = Index::default();
        (0..100).for_each(|position| index.insert(u32::MAX, position));
        assert!((0..100).all(|position| index.find(u32::MAX, |at| at == position) == Some(position)));
        assert_eq!(index.find(u32::MAX, |_| false), None);
    }

    #[test]
    fn two_indexes_hash_differently() {
        let (one, other) = (Index::default(), Index::default());
        assert!((0..8).any(|entry| one.hash(entry) != other.hash(entry)));
    }
}
