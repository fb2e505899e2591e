//! How are a few places shared among callers of which nothing is known? A newcomer gets one, and the caller with
//! the most loses one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::permits::NoPermit;

/// How long a place is safe from those who hold as much: else a crowd that comes at once, such as the agents of a
/// fleet that finds a new leader, would push one another out, and nobody would be served.
const SAFE: Duration = Duration::from_secs(1);

/// Weights that holders take and give back. Once all are taken, a newcomer gets those of the holder that has
/// the most: an idle place of it before a busy one, an old one before a new one. So nobody who holds less than
/// the others is ever kept out, however many the others are; those who hold as much as the others wait a second.
#[derive(Debug)]
pub(crate) struct Shares<K: Eq + Hash>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    each: usize,
    all: usize,
    floor: usize,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    all: usize,
    next: u64,
    holders: HashMap<K, Holder>,
}

#[derive(Debug, Default)]
struct Holder {
    weight: usize,
    places: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    weight: usize,
    since: Instant,
    busy: bool,
    gone: Arc<Notify>,
}

/// A weight that was taken; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place<K: Clone + Eq + Hash> {
    holder: K,
    id: u64,
    of: Arc<Inner<K>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// At most `each` for one holder and `all` for all of them.
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self::with_floor(each, all, 0)
    }

    /// Nobody who holds no more than `floor` has to give up a place for others; newcomers are refused instead.
    pub(crate) fn with_floor(each: usize, all: usize, floor: usize) -> Self {
        let held = Mutex::new(Held { all: 0, next: 0, holders: HashMap::new() });
        Self(Arc::new(Inner { each, all, floor, held }))
    }

    /// Takes `weight`. `gone` is notified when the place has to be given up.
    pub(crate) fn take(&self, holder: &K, weight: usize, gone: &Arc<Notify>) -> Result<Place<K>, NoPermit> {
        self.take_at(holder, weight, gone, Instant::now())
    }

    fn take_at(
        &self,
        holder: &K,
        weight: usize,
        gone: &Arc<Notify>,
        now: Instant,
    ) -> Result<Place<K>, NoPermit> {
        let mut held = self.0.held();
        held.make_room(&self.0, Newcomer { holder, weight, keep: None, now })?;
        let id = held.next;
        held.next += 1;
        held.all += weight;
        let of_holder = held.holders.entry(holder.clone()).or_default();
        of_holder.weight += weight;
        of_holder.places.insert(id, Entry { weight, since: now, busy: false, gone: gone.clone() });
        Ok(Place { holder: holder.clone(), id, of: self.0.clone() })
    }

    /// Whether the holder has a place.
    pub(crate) fn has_any(&self, holder: &K) -> bool {
        self.0.held().holders.contains_key(holder)
    }

    /// Whether the next place is somebody's who has to give it up.
    pub(crate) fn is_full(&self) -> bool {
        self.0.held().all >= self.0.all
    }
}

/// The caller that needs a place.
struct Newcomer<'a, K> {
    holder: &'a K,
    weight: usize,
    /// A place of the holder that stays.
    keep: Option<u64>,
    now: Instant,
}

impl<K: Clone + Eq + Hash> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Clone + Eq + Hash> Place<K> {
    /// Takes `weight` more, unless the place had to be given up.
    pub(crate) fn grow(&self, weight: usize) -> Result<(), NoPermit> {
        let mut held = self.of.held();
        if !held.has(&self.holder, self.id) {
            return Err(NoPermit::ForAnyone);
        }
        let (holder, keep) = (&self.holder, Some(self.id));
        held.make_room(&self.of, Newcomer { holder, weight, keep, now: Instant::now() })?;
        held.all += weight;
        if let Some(holder) = held.holders.get_mut(&self.holder) {
            holder.weight += weight;
            if let Some(entry) = holder.places.get_mut(&self.id) {
                entry.weight += weight;
            }
        }
        Ok(())
    }

    /// Says whether something is being done in it; an idle place is given up first.
    pub(crate) fn set_busy(&self, busy: bool) {
        let mut held = self.of.held();
        let entry = held.holders.get_mut(&self.holder).and_then(|holder| holder.places.get_mut(&self.id));
        if let Some(entry) = entry {
            entry.busy = busy;
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        self.of.held().remove(&self.holder, self.id);
    }
}

impl<K> Inner<K> {
    fn held(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Held<K> {
    fn has(&self, holder: &K, id: u64) -> bool {
        self.holders.get(holder).is_some_and(|holder| holder.places.contains_key(&id))
    }

    /// Makes others give up places until the newcomer's weight fits.
    fn make_room(&mut self, limits: &Inner<K>, newcomer: Newcomer<'_, K>) -> Result<(), NoPermit> {
        if self.after(&newcomer) > limits.each {
            return Err(NoPermit::ForHolder);
        }
        while self.all + newcomer.weight > limits.all {
            let (victim, id) = self.victim(&newcomer, limits.floor).ok_or(NoPermit::ForAnyone)?;
            if let Some(entry) = self.remove(&victim, id) {
                entry.gone.notify_one();
            }
        }
        Ok(())
    }

    /// What the newcomer holds once it was let in.
    fn after(&self, newcomer: &Newcomer<'_, K>) -> usize {
        self.holders.get(newcomer.holder).map_or(0, |holder| holder.weight) + newcomer.weight
    }

    /// The place that has to be given up: of the other that holds the most, if it holds more than the newcomer
    /// will, or as much for a while; else an idle one of the newcomer itself.
    fn victim(&self, newcomer: &Newcomer<'_, K>, floor: usize) -> Option<(K, u64)> {
        let mine = self.after(newcomer);
        let is_safe = |entry: &Entry| newcomer.now.duration_since(entry.since) < SAFE;
        let others = self.holders.iter().filter(|(key, _)| *key != newcomer.holder);
        let of_others = others
            .filter(|(_, holder)| holder.weight > floor && holder.weight >= mine)
            .filter_map(|(key, holder)| holder.first(None).map(|(id, entry)| (key, holder.weight, id, entry)))
            .filter(|(_, weight, _, entry)| *weight > mine || !is_safe(entry))
            .max_by_key(|(_, weight, id, _)| (*weight, Reverse(*id)));
        if let Some((key, _, id, _)) = of_others {
            return Some((key.clone(), id));
        }
        let own = self.holders.get(newcomer.holder)?.first(newcomer.keep);
        own.filter(|(_, entry)| !entry.busy && !is_safe(entry)).map(|(id, _)| (newcomer.holder.clone(), id))
    }

    fn remove(&mut self, key: &K, id: u64) -> Option<Entry> {
        let holder = self.holders.get_mut(key)?;
        let entry = holder.places.remove(&id)?;
        holder.weight = holder.weight.saturating_sub(entry.weight);
        if holder.places.is_empty() {
            self.holders.remove(key);
        }
        self.all = self.all.saturating_sub(entry.weight);
        Some(entry)
    }
}

impl Holder {
    /// The place that goes first: idle before busy, old before new; never `keep`.
    fn first(&self, keep: Option<u64>) -> Option<(u64, &Entry)> {
        let places = self.places.iter().filter(|(id, _)| Some(**id) != keep);
        places.min_by_key(|(id, entry)| (entry.busy, **id)).map(|(id, entry)| (*id, entry))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn gone() -> Arc<Notify> {
        Arc::default()
    }

    fn was_told(gone: &Notify) -> bool {
        gone.notified().now_or_never().is_some()
    }

    #[test]
    fn who_holds_the_most_gives_up_the_oldest_idle_place() {
        let shares = Shares::new(4, 4);
        let signals: Vec<_> = (0..4).map(|_| gone()).collect();
        let attacker: Vec<_> = signals[..3].iter().map(|gone| shares.take(&"a", 1, gone).unwrap()).collect();
        attacker[0].set_busy(true);
        let _quiet = shares.take(&"b", 1, &signals[3]).unwrap();
        let _newcomer = shares.take(&"c", 1, &gone()).unwrap();
        let told: Vec<bool> = signals.iter().map(|gone| was_told(gone)).collect();
        assert_eq!(told, [false, true, false, false]);
        drop(attacker);
        assert_eq!(shares.0.held().all, 2, "a place that was given up is not given back once more");
    }

    #[test]
    fn who_would_hold_the_most_gives_up_an_idle_place_of_its_own_or_is_refused() {
        let shares = Shares::new(3, 3);
        let (first, second, begun) = (gone(), gone(), Instant::now());
        let take = |who, gone: &Arc<Notify>, after| shares.take_at(&who, 1, gone, begun + after);
        let mine = [take("a", &first, SAFE).unwrap(), take("a", &second, SAFE).unwrap()];
        let _other = take("b", &gone(), SAFE).unwrap();
        mine[0].set_busy(true);
        assert_eq!(take("a", &gone(), SAFE).err(), Some(NoPermit::ForAnyone), "it has only just come");
        let third = take("a", &gone(), 2 * SAFE).unwrap();
        assert_eq!((was_told(&first), was_told(&second)), (false, true));
        third.set_busy(true);
        assert_eq!(take("a", &gone(), 3 * SAFE).err(), Some(NoPermit::ForAnyone));
        assert_eq!(Shares::new(1, 9).take(&"a", 2, &gone()).err(), Some(NoPermit::ForHolder));
    }

    #[test]
    fn a_crowd_that_comes_at_once_waits_and_one_that_stays_makes_room() {
        let shares = Shares::new(3, 3);
        let (signals, begun) = ([gone(), gone(), gone()], Instant::now());
        let _crowd: Vec<_> = (0..3)
            .map(|n| shares.take_at(&n, 1, &signals[n], begun + n as u32 * SAFE / 10).unwrap())
            .collect();
        assert!(shares.take_at(&9, 1, &gone(), begun + SAFE / 2).is_err());
        assert!(shares.take_at(&9, 1, &gone(), begun + SAFE).is_ok());
        assert_eq!(signals.each_ref().map(|gone| was_told(gone)), [true, false, false]);
    }

    #[test]
    fn below_the_floor_nobody_gives_way() {
        let shares = Shares::with_floor(4, 4, 2);
        let places: Vec<_> = ["a", "a", "b", "b"].map(|who| shares.take(&who, 1, &gone()).unwrap()).into();
        assert_eq!(shares.take(&"c", 1, &gone()).err(), Some(NoPermit::ForAnyone));
        drop(places);
        let _places: Vec<_> = ["a", "a", "a", "b"].map(|who| shares.take(&who, 1, &gone()).unwrap()).into();
        assert!(shares.take(&"c", 1, &gone()).is_ok());
    }

    #[test]
    fn a_place_that_was_given_up_cannot_grow() {
        let shares = Shares::new(10, 10);
        let (large, signal) = (shares.take(&"a", 4, &gone()).unwrap(), gone());
        let larger = shares.take(&"b", 5, &signal).unwrap();
        larger.set_busy(true);
        assert_eq!(large.grow(2).err(), Some(NoPermit::ForAnyone), "it would be the largest itself");
        assert!(shares.take(&"c", 2, &gone()).is_ok() && was_told(&signal));
        assert!(larger.grow(1).is_err());
        assert!(large.grow(1).is_ok());
    }

    proptest! {
        /// Whatever happens, no bound is exceeded, and a caller with less than an equal share is let in.
        #[test]
        fn the_bounds_hold_and_the_light_are_let_in(
            steps in proptest::collection::vec((0u8..6, 1usize..4, 0u8..4), 1..80),
        ) {
            let (each, all) = (8, 16);
            let shares = Shares::new(each, all);
            let mut places: Vec<(Place<u8>, Arc<Notify>)> = Vec::new();
            for (who, weight, what) in steps {
                places.retain(|(_, gone)| !was_told(gone));
                match what {
                    0 if !places.is_empty() => drop(places.remove(weight % places.len())),
                    1 if !places.is_empty() => {
                        let _ = places[weight % places.len()].0.grow(1);
                    }
                    _ => {
                        let signal = gone();
                        let before = shares.0.held().holders.get(&who).map_or(0, |holder| holder.weight);
                        match shares.take(&who, weight, &signal) {
                            Ok(place) => places.push((place, signal)),
                            Err(_) => prop_assert!(before + weight > 2, "{} {}", before, weight),
                        }
                    }
                }
                let held = shares.0.held();
                let sum: usize = held.holders.values().map(|holder| holder.weight).sum();
                prop_assert!(sum == held.all && sum <= all);
                prop_assert!(held.holders.values().all(|holder| holder.weight <= each && holder.weight > 0));
            }
        }
    }
}
