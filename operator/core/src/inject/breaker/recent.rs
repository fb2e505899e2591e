//! What is remembered, within a number of entries of known size? What is oldest is forgotten first.

use std::collections::HashMap;

use crate::hash::Key;

/// Most entries.
pub(super) const MOST: usize = 10_000;

/// Values by key. Two generations bound it without a look at each of them: when the young one is full it becomes the
/// old one, and what was old is forgotten. So the latest half of [`MOST`] is always there.
#[derive(Debug)]
pub(super) struct Recent<V> {
    young: HashMap<Key, V>,
    old: HashMap<Key, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V> Recent<V> {
    pub(super) fn get(&self, key: &Key) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(super) fn put(&mut self, key: Key, value: V) {
        if self.young.len() >= MOST / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<V> {
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }

    /// Bytes of the tables and of what `beside` counts of each value.
    #[cfg(test)]
    pub(super) fn bytes(&self, beside: impl Fn(&V) -> usize) -> usize {
        let table = |map: &HashMap<Key, V>| (map.capacity() * 8).div_ceil(7) * (size_of::<(Key, V)>() + 1);
        let values = self.young.values().chain(self.old.values());
        table(&self.young) + table(&self.old) + values.map(beside).sum::<usize>()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::key;

    #[test]
    fn the_latest_are_kept_and_their_number_is_bounded() {
        let mut recent = Recent::default();
        let of = |n: usize| key(&[&n.to_string()]);
        for n in 0..3 * MOST {
            recent.put(of(n), n);
            recent.put(of(n), n + 1);
            assert!(recent.len() <= MOST);
        }
        assert!((3 * MOST - MOST / 2..3 * MOST).all(|n| recent.get(&of(n)) == Some(&(n + 1))));
        assert_eq!(recent.get(&of(0)), None);
        assert_eq!(recent.take(&of(3 * MOST - 1)), Some(3 * MOST));
        assert_eq!(recent.take(&of(3 * MOST - 1)), None);
    }
}
