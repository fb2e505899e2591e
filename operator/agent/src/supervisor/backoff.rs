//! How long until the next try? Full jitter between nothing and a doubling cap, and never before the server's
//! `Retry-After`.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LAST: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is believed.
const LONGEST: Duration = Duration::from_secs(300);

/// Counts failures in a row.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether the last try failed.
    #[must_use]
    pub const fn failing(&self) -> bool {
        self.failures > 0
    }

    /// After a success.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// After a failure: how long to wait. `chance` is random in `0.0..1.0`.
    pub fn next(&mut self, chance: f64, retry_after: Option<Duration>) -> Duration {
        let cap =
            FIRST.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        let jittered = cap.mul_f64(chance.clamp(0.0, 1.0));
        // A tenth on top, so that a fleet that was told the same second does not come back in it.
        let told = retry_after
            .map_or(Duration::ZERO, |t| t.min(LONGEST).mul_f64(1.0 + 0.1 * chance.clamp(0.0, 1.0)));
        jittered.max(told)
    }
}

/// The interval until the next heartbeat: `next_ms` kept within 1 s to 300 s, with up to 10 % more.
#[must_use]
pub fn heartbeat_interval(next_ms: u64, chance: f64) -> Duration {
    Duration::from_millis(next_ms.clamp(1000, 300_000)).mul_f64(1.0 + 0.1 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_doubles_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> =
            (0..10).map(|_| u64::try_from(backoff.next(1.0, None).as_millis()).unwrap()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        (0..1000).for_each(|_| assert!(backoff.next(1.0, None) <= LAST));
        assert_eq!(backoff.next(0.5, None), Duration::from_secs(15));
        backoff.reset();
        assert!(!backoff.failing());
        assert_eq!(backoff.next(0.0, None), Duration::ZERO);
    }

    #[test]
    fn the_server_is_obeyed_within_reason() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(0.0, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.next(1.0, Some(Duration::from_secs(10))), Duration::from_secs(11));
        assert_eq!(backoff.next(0.0, Some(Duration::from_secs(86_400))), LONGEST);
    }

    #[test]
    fn a_heartbeat_is_never_too_often_nor_too_rare() {
        assert_eq!(heartbeat_interval(0, 0.0), Duration::from_secs(1));
        assert_eq!(heartbeat_interval(u64::MAX, 0.0), Duration::from_secs(300));
        assert_eq!(heartbeat_interval(30_000, 1.0), Duration::from_secs(33));
    }
}
