//! How many may one holder, and how many may all of them, hold at one time?

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Permits that holders take and give back.
#[derive(Debug)]
pub(crate) struct Permits<K: Eq + Hash> {
    each: usize,
    all: usize,
    held: Arc<Mutex<Held<K>>>,
}

#[derive(Debug)]
struct Held<K> {
    by_holder: HashMap<K, usize>,
    all: usize,
}

/// Permits that were taken together; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Permit<K: Eq + Hash> {
    holder: K,
    weight: usize,
    held: Arc<Mutex<Held<K>>>,
}

/// No permit is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// The holder has all that one may have.
    ForHolder,
    /// All together have all that there are.
    ForAnyone,
}

impl<K: Clone + Eq + Hash> Permits<K> {
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { each, all, held: Arc::new(Mutex::new(Held { by_holder: HashMap::new(), all: 0 })) }
    }

    /// Takes one permit.
    pub(crate) fn take(&self, holder: &K) -> Result<Permit<K>, NoPermit> {
        self.take_many(holder, 1)
    }

    /// Takes `weight` permits, or none.
    pub(crate) fn take_many(&self, holder: &K, weight: usize) -> Result<Permit<K>, NoPermit> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.by_holder.get(holder).copied().unwrap_or(0) + weight > self.each {
            return Err(NoPermit::ForHolder);
        }
        if held.all + weight > self.all {
            return Err(NoPermit::ForAnyone);
        }
        held.all += weight;
        *held.by_holder.entry(holder.clone()).or_default() += weight;
        Ok(Permit { holder: holder.clone(), weight, held: self.held.clone() })
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
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
    fn permits_are_bounded_for_each_and_for_all_and_given_back() {
        let permits = Permits::new(2, 3);
        let a = [permits.take(&"a"), permits.take(&"a")];
        assert_eq!(permits.take(&"a").err(), Some(NoPermit::ForHolder));
        let b = permits.take(&"b");
        assert_eq!(permits.take(&"c").err(), Some(NoPermit::ForAnyone));
        drop(b);
        assert!(permits.take(&"c").is_ok());
        drop(a);
        let held = permits.held.lock().unwrap();
        assert_eq!(
            (held.all, held.by_holder.len()),
            (0, 0),
            "nothing is kept of a holder that has no permit"
        );
    }

    #[test]
    fn who_is_heavy_takes_more() {
        let permits = Permits::new(6, 8);
        let heavy = permits.take_many(&"a", 4);
        assert!(heavy.is_ok());
        assert_eq!(permits.take_many(&"a", 3).err(), Some(NoPermit::ForHolder));
        assert_eq!(permits.take_many(&"b", 5).err(), Some(NoPermit::ForAnyone));
        let light = permits.take_many(&"b", 4);
        drop(heavy);
        assert!(permits.take_many(&"a", 4).is_ok());
        drop(light);
        assert_eq!(permits.held.lock().unwrap().all, 0);
    }
}
