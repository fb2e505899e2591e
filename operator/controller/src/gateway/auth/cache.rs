//! Was this token asked about lately?

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Answers by the SHA-256 of the token; the token itself is not kept. Two generations bound it: when the
/// young one is full it becomes the old one, and what was old is forgotten. So it holds at most `most`
/// answers.
#[derive(Debug)]
pub(super) struct Cache<V> {
    half: usize,
    life: SignedDuration,
    generations: Mutex<Generations<V>>,
}

type Generation<V> = HashMap<[u8; 32], (V, Timestamp)>;

#[derive(Debug)]
struct Generations<V> {
    young: Generation<V>,
    old: Generation<V>,
}

impl<V: Clone> Cache<V> {
    pub(super) fn new(most: usize, life: SignedDuration) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new() };
        Self { half: (most / 2).max(1), life, generations: Mutex::new(generations) }
    }

    pub(super) fn get(&self, key: &[u8; 32], now: Timestamp) -> Option<V> {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, since) = generations.young.get(key).or_else(|| generations.old.get(key))?;
        let age = now.duration_since(*since);
        (age >= SignedDuration::ZERO && age < self.life).then(|| value.clone())
    }

    pub(super) fn put(&self, key: [u8; 32], value: V, now: Timestamp) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= self.half && !generations.young.contains_key(&key) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, (value, now));
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.generations.lock().unwrap();
        generations.young.len() + generations.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> [u8; 32] {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        key
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_answer_is_believed_for_its_life_only() {
        let cache = Cache::new(10, SignedDuration::from_secs(60));
        cache.put(key(1), "pod", at(100));
        assert_eq!(cache.get(&key(1), at(159)), Some("pod"));
        assert_eq!(cache.get(&key(1), at(160)), None);
        assert_eq!(cache.get(&key(1), at(99)), None, "a clock that went back makes no answer live longer");
        assert_eq!(cache.get(&key(2), at(100)), None);
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_the_latest() {
        let cache = Cache::new(100, SignedDuration::from_secs(60));
        for n in 0..10_000 {
            cache.put(key(n), n, at(0));
            assert!(cache.len() <= 100);
        }
        assert!((9_960..10_000).all(|n| cache.get(&key(n), at(0)) == Some(n)));
    }
}
