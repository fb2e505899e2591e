//! When has a connection had its time? When it asks for nothing, or when nothing comes of what it asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the handshake to the end of the first request's head.
    pub first_request: Duration,
    /// Between two requests. After it the connection ends within as long again.
    pub idle: Duration,
    /// While requests are in flight and nothing of them moves. Longer than any request takes.
    pub stuck: Duration,
}

impl Default for Timeouts {
    /// 10 s for the first request, as nobody connects without one; 120 s of idleness, since API servers,
    /// Prometheus and our agents close what is idle after 90 s by themselves and so are never cut off in the
    /// middle of a request; 300 s without a byte, when polls hang for 25 s and the API server gives up after
    /// 60 s.
    fn default() -> Self {
        Self {
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            stuck: Duration::from_secs(300),
        }
    }
}

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    FirstRequest,
    Idle,
    Stuck,
}

/// What happens on one connection. Clones look at the same.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<Standing>>);

#[derive(Clone, Copy, Debug)]
struct Standing {
    asked: bool,
    in_flight: u32,
    moved: Instant,
}

/// A request in flight; dropping it ends it.
#[derive(Debug)]
pub(super) struct InFlight(Activity);

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Standing { asked: false, in_flight: 0, moved: now })))
    }

    pub(super) fn begin(&self, now: Instant) -> InFlight {
        let mut standing = self.standing();
        *standing = Standing { asked: true, in_flight: standing.in_flight.saturating_add(1), moved: now };
        drop(standing);
        InFlight(self.clone())
    }

    /// Completes when the connection times out, with the reason.
    pub(super) async fn overdue(&self, timeouts: Timeouts) -> Overdue {
        loop {
            let now = Instant::now();
            let (at, why) = end(&self.standing(), timeouts);
            if at <= now {
                return why;
            }
            // A request that ends meanwhile makes the end come nearer.
            tokio::time::sleep_until(at.min(now + timeouts.idle)).await;
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    /// A part of the answer was taken.
    pub(super) fn moved(&self, now: Instant) {
        self.0.standing().moved = now;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut standing = self.0.standing();
        standing.in_flight = standing.in_flight.saturating_sub(1);
        standing.moved = Instant::now();
    }
}

/// When the connection ends if nothing moves any more, and why.
fn end(standing: &Standing, timeouts: Timeouts) -> (Instant, Overdue) {
    let (wait, why) = match standing {
        Standing { in_flight: 1.., .. } => (timeouts.stuck, Overdue::Stuck),
        Standing { asked: true, .. } => (timeouts.idle, Overdue::Idle),
        Standing { asked: false, .. } => (timeouts.first_request, Overdue::FirstRequest),
    };
    (standing.moved + wait, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        first_request: Duration::from_secs(1),
        idle: Duration::from_secs(10),
        stuck: Duration::from_secs(100),
    };

    #[test]
    fn who_never_asked_has_the_least_time_and_who_waits_for_an_answer_the_most() {
        let moved = Instant::now();
        let cases = [
            (false, 0, 1, Overdue::FirstRequest),
            (true, 0, 10, Overdue::Idle),
            (true, 1, 100, Overdue::Stuck),
            (true, 7, 100, Overdue::Stuck),
        ];
        for (asked, in_flight, seconds, why) in cases {
            let standing = Standing { asked, in_flight, moved };
            assert_eq!(
                end(&standing, TIMEOUTS),
                (moved + Duration::from_secs(seconds), why),
                "{asked} {in_flight}"
            );
        }
    }

    const QUICK: Timeouts = Timeouts {
        first_request: Duration::from_millis(20),
        idle: Duration::from_millis(100),
        stuck: Duration::from_secs(3),
    };

    #[tokio::test]
    async fn a_request_keeps_the_connection_and_its_end_lets_it_go() {
        let begun = Instant::now();
        let activity = Activity::new(begun);
        let keep = async {
            let request = activity.begin(Instant::now());
            tokio::time::sleep(Duration::from_millis(400)).await;
            drop(request);
        };
        let (why, ()) = tokio::join!(activity.overdue(QUICK), keep);
        assert_eq!(why, Overdue::Idle);
        assert!((500..3000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn an_answer_that_moves_is_not_stuck() {
        let begun = Instant::now();
        let activity = Activity::new(begun);
        let request = activity.begin(begun);
        let keep = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            request.moved(Instant::now());
        };
        let (why, ()) = tokio::join!(activity.overdue(QUICK), keep);
        assert_eq!(why, Overdue::Stuck);
        assert!(begun.elapsed().as_millis() >= 3500, "{:?}", begun.elapsed());
    }
}
