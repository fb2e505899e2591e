//! May this caller make another request now? Token buckets, bounded in number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// Callers with a bucket that is not full. Beyond it nobody new is let in until buckets have filled up.
const MAX_BUCKETS: usize = 65_536;

/// One bucket a caller; a full bucket is not stored.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    burst: f64,
    per_second: f64,
    buckets: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    by_caller: HashMap<K, Bucket>,
    swept: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    /// `burst` requests at once, then `per_second`.
    pub(super) fn new(burst: f64, per_second: f64) -> Self {
        let held = Held { by_caller: HashMap::new(), swept: Timestamp::UNIX_EPOCH };
        Self { burst, per_second, buckets: Mutex::new(held) }
    }

    /// Takes a token, or says after how many seconds there is one.
    pub(super) fn take(&self, caller: &K, now: Timestamp) -> Result<(), u64> {
        let mut held = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that went back: what is in the bucket counts from now.
        if let Some(known) = held.by_caller.get_mut(caller) {
            known.at = known.at.min(now);
        }
        let tokens = self.filled(held.by_caller.get(caller).copied(), now);
        if tokens < 1.0 {
            return Err(self.until_one(tokens));
        }
        let bucket = Bucket { tokens: tokens - 1.0, at: now };
        if let Some(known) = held.by_caller.get_mut(caller) {
            *known = bucket;
            return Ok(());
        }
        self.sweep(&mut held, now);
        if held.by_caller.len() >= MAX_BUCKETS {
            return Err(1);
        }
        held.by_caller.insert(caller.clone(), bucket);
        Ok(())
    }

    /// Whether there is a token, without taking it.
    pub(super) fn peek(&self, caller: &K, now: Timestamp) -> Result<(), u64> {
        let held = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = self.filled(held.by_caller.get(caller).copied(), now);
        if tokens < 1.0 { Err(self.until_one(tokens)) } else { Ok(()) }
    }

    /// Puts a token back that was taken for nothing.
    pub(super) fn give_back(&self, caller: &K, now: Timestamp) {
        let mut held = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = held.by_caller.get(caller).copied() else { return };
        let tokens = self.filled(Some(known), now) + 1.0;
        if tokens >= self.burst {
            held.by_caller.remove(caller);
        } else {
            held.by_caller.insert(caller.clone(), Bucket { tokens, at: now });
        }
    }

    fn filled(&self, bucket: Option<Bucket>, now: Timestamp) -> f64 {
        bucket.map_or(self.burst, |Bucket { tokens, at }| {
            // A clock that went back fills nothing.
            let seconds = now.duration_since(at).as_secs_f64().max(0.0);
            (tokens + seconds * self.per_second).min(self.burst)
        })
    }

    fn until_one(&self, tokens: f64) -> u64 {
        ((1.0 - tokens) / self.per_second).ceil().clamp(1.0, 3600.0) as u64
    }

    /// Drops full buckets, at most once a second.
    fn sweep(&self, held: &mut Held<K>, now: Timestamp) {
        if held.by_caller.len() < MAX_BUCKETS / 2 || now.as_second() == held.swept.as_second() {
            return;
        }
        held.swept = now;
        held.by_caller.retain(|_, bucket| self.filled(Some(*bucket), now) < self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate_holds() {
        let buckets = Buckets::new(3.0, 2.0);
        assert!((0..3).all(|_| buckets.take(&"a", at(0)).is_ok()));
        assert_eq!(buckets.take(&"a", at(0)), Err(1));
        assert_eq!(buckets.peek(&"a", at(0)), Err(1));
        assert_eq!(buckets.take(&"b", at(0)), Ok(()), "callers do not share a bucket");
        assert_eq!(buckets.take(&"a", at(500)), Ok(()));
        assert_eq!(buckets.take(&"a", at(500)), Err(1));
    }

    #[test]
    fn a_token_that_was_given_back_was_never_taken() {
        let buckets = Buckets::new(2.0, 1.0);
        buckets.give_back(&"a", at(0));
        for _ in 0..5 {
            assert_eq!((buckets.take(&"a", at(0)), buckets.take(&"a", at(0))), (Ok(()), Ok(())));
            assert_eq!(buckets.take(&"a", at(0)), Err(1), "no more than before");
            buckets.give_back(&"a", at(0));
            buckets.give_back(&"a", at(0));
        }
        assert!(buckets.buckets.lock().unwrap().by_caller.is_empty(), "a full bucket is not stored");
    }

    #[test]
    fn a_clock_that_jumps_back_neither_fills_nor_blocks_for_long() {
        let buckets = Buckets::new(1.0, 1.0);
        assert_eq!(buckets.take(&"a", at(10_000)), Ok(()));
        assert_eq!(buckets.take(&"a", at(0)), Err(1));
        assert_eq!(buckets.take(&"a", at(1_000)), Ok(()), "it fills from then on");
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let buckets = Buckets::new(2.0, 1.0);
        let let_in = (0..2 * MAX_BUCKETS).filter(|n| buckets.take(n, at(0)).is_ok()).count();
        assert_eq!(let_in, MAX_BUCKETS);
        assert_eq!(buckets.take(&usize::MAX, at(5_000)), Ok(()), "buckets that filled up make room");
        assert_eq!(buckets.buckets.lock().unwrap().by_caller.len(), 1);
    }
}
