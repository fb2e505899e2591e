//! How many may one holder, and how many may all of them, hold at one time?

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Places that holders take and give back.
#[derive(Debug)]
pub(crate) struct Places<K: Eq + Hash> {
    each: usize,
    all: usize,
    held: Arc<Mutex<Held<K>>>,
}

#[derive(Debug)]
struct Held<K> {
    by_holder: HashMap<K, usize>,
    all: usize,
}

/// Places that were taken together; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    holder: K,
    weight: usize,
    held: Arc<Mutex<Held<K>>>,
}

/// No place is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// The holder has all that one may have.
    ForHolder,
    /// All together have all that there are.
    ForAnyone,
}

impl<K: Clone + Eq + Hash> Places<K> {
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { each, all, held: Arc::new(Mutex::new(Held { by_holder: HashMap::new(), all: 0 })) }
    }

    /// Takes one place.
    pub(crate) fn take(&self, holder: &K) -> Result<Place<K>, NoPlace> {
        self.take_many(holder, 1)
    }

    /// Takes `weight` places, or none.
    pub(crate) fn take_many(&self, holder: &K, weight: usize) -> Result<Place<K>, NoPlace> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.by_holder.get(holder).copied().unwrap_or(0) + weight > self.each {
            return Err(NoPlace::ForHolder);
        }
        if held.all + weight > self.all {
            return Err(NoPlace::ForAnyone);
        }
        held.all += weight;
        *held.by_holder.entry(holder.clone()).or_default() += weight;
        Ok(Place { holder: holder.clone(), weight, held: self.held.clone() })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(self.weight);
        if let Some(taken) = held.by_holder.get_mut(&self.holder) {
            *taken = taken.saturating_sub(self.weight);
            if *taken == 0 {
                held.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_and_for_all_and_given_back() {
        let places = Places::new(2, 3);
        let a = [places.take(&"a"), places.take(&"a")];
        assert_eq!(places.take(&"a").err(), Some(NoPlace::ForHolder));
        let b = places.take(&"b");
        assert_eq!(places.take(&"c").err(), Some(NoPlace::ForAnyone));
        drop(b);
        assert!(places.take(&"c").is_ok());
        drop(a);
        let held = places.held.lock().unwrap();
        assert_eq!((held.all, held.by_holder.len()), (0, 0), "nothing is kept of a holder that has no place");
    }

    #[test]
    fn who_is_heavy_takes_more() {
        let places = Places::new(6, 8);
        let heavy = places.take_many(&"a", 4);
        assert!(heavy.is_ok());
        assert_eq!(places.take_many(&"a", 3).err(), Some(NoPlace::ForHolder));
        assert_eq!(places.take_many(&"b", 5).err(), Some(NoPlace::ForAnyone));
        let light = places.take_many(&"b", 4);
        drop(heavy);
        assert!(places.take_many(&"a", 4).is_ok());
        drop(light);
        assert_eq!(places.held.lock().unwrap().all, 0);
    }
}
