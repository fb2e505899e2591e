//! What is sent to a destination next, and when?
//!
//! ```text
//! offer ─► waiting ─► take ─► being sent ─► settle ─► done: told once, when it is offered again
//!             ▲                                │
//!             └────── failed: later ◄──────────┘      full: the oldest that waits is dropped, and told
//! ```
//! While a destination fails, one parcel at a time tries, at growing intervals with jitter; the first that
//! arrives lifts this. A parcel that failed goes behind the others, so that one which is never accepted holds up
//! none; when others are accepted meanwhile, it is given up after [`MAX_FAILURES`].
//!
//! Nothing here outlives the process: what is offered follows from the statuses of sessions, so a new leader
//! offers it again, and sending it twice is harmless.

use std::collections::{BTreeMap, HashMap, HashSet};

use fleetprof_crds::Reason;
use jiff::{SignedDuration, Timestamp};

use crate::destination::{Delivery, Withdrawal};
use crate::time::after;

/// Shortest interval after a failure.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);
/// Longest interval between two attempts, before jitter.
const LONGEST: SignedDuration = SignedDuration::from_secs(60);
/// Longest time that a parcel waits for the one attempt that is left to it.
const LAST: SignedDuration = SignedDuration::from_secs(60);
/// After how many failures of its own a parcel is given up, counted only where the destination accepted others in
/// between.
pub const MAX_FAILURES: u32 = 5;

/// How much an outbox holds and does at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most parcels that wait; at least 1.
    pub waiting: usize,
    /// Most parcels that are sent at the same time; at least 1.
    pub at_once: usize,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The destination holds it.
    Stored,
    /// Not now; try again, at the earliest after the duration where there is one.
    Again(String, Option<SignedDuration>),
    /// Never.
    Failed(Reason, String),
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Send this.
    Send(String, T),
    /// Nothing until then, unless something settles or is offered.
    Wait(Timestamp),
    /// Nothing until something settles or is offered.
    Idle,
}

/// What waits for one destination. `T` is whatever sending a parcel takes; parcels are known by their keys.
#[derive(Debug)]
pub struct Outbox<T> {
    bounds: Bounds,
    /// Parcels by turn; lower turns first.
    waiting: BTreeMap<u64, Parcel<T>>,
    sending: HashMap<String, Parcel<T>>,
    /// Turn of each parcel that waits.
    turns: HashMap<String, u64>,
    /// What came of parcels, until it is asked for.
    done: HashMap<String, Delivery>,
    /// Parcels whose last attempt failed, or that have none left.
    given_up: HashSet<String>,
    next_turn: u64,
    /// Attempts since the last parcel arrived.
    failures: u32,
    not_before: Timestamp,
    /// Until when the destination itself asked to be left alone.
    asked_until: Timestamp,
    /// How many parcels have arrived.
    arrived: u64,
    problem: Option<String>,
    dropped: u64,
}

#[derive(Debug)]
struct Parcel<T> {
    key: String,
    content: T,
    since: Timestamp,
    not_before: Timestamp,
    /// Attempts that failed although the destination accepted others since the one before.
    failures: u32,
    /// How many parcels had arrived when it failed last.
    arrived_before: u64,
    tries: u32,
    /// Not to be tried again.
    withdrawn: bool,
}

impl<T: Clone> Outbox<T> {
    /// An empty outbox.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            waiting: BTreeMap::new(),
            sending: HashMap::new(),
            turns: HashMap::new(),
            done: HashMap::new(),
            given_up: HashSet::new(),
            next_turn: 0,
            failures: 0,
            not_before: Timestamp::MIN,
            asked_until: Timestamp::MIN,
            arrived: 0,
            problem: None,
            dropped: 0,
        }
    }

    /// Takes a parcel in, or tells what became of it. A final answer is told once: whoever asks again sends it
    /// again.
    pub fn offer(&mut self, key: &str, content: T, now: Timestamp) -> Delivery {
        if let Some(done) = self.settled(key) {
            return done;
        }
        self.given_up.remove(key);
        if !self.sending.contains_key(key) && !self.turns.contains_key(key) {
            self.take_in(key, content, false, now);
        }
        Delivery::Underway(self.problem.clone())
    }

    fn take_in(&mut self, key: &str, content: T, withdrawn: bool, now: Timestamp) {
        let parcel = Parcel {
            key: key.to_owned(),
            content,
            since: now,
            not_before: Timestamp::MIN,
            failures: 0,
            arrived_before: self.arrived,
            tries: 0,
            withdrawn,
        };
        self.queue(parcel);
        self.drop_oldest(key);
    }

    /// The final answer of a parcel, which is told once; `None` while there is none.
    pub fn settled(&mut self, key: &str) -> Option<Delivery> {
        self.done.remove(key)
    }

    /// The same, without forgetting it: for whoever cannot be sure to write it down.
    #[must_use]
    pub fn answer(&self, key: &str) -> Option<Delivery> {
        self.done.get(key).cloned()
    }

    /// Withdraws a parcel, so that nothing is delivered that nobody records. An attempt that is under way cannot
    /// be taken back, but is the last one. A parcel that was never tried has one attempt before that, within a minute
    /// and while the destination takes others: it may have been made too late for more. What came of it is told until
    /// [`retain`](Self::retain) forgets it, as whoever asks may fail to write it down.
    pub fn withdraw(&mut self, key: &str, content: T, now: Timestamp) -> Withdrawal {
        if let Some(done) = self.answer(key) {
            return Withdrawal::Settled(done);
        }
        if let Some(parcel) = self.sending.get_mut(key) {
            parcel.withdrawn = true;
            return Withdrawal::Sending;
        }
        let waits = self.turns.get(key).and_then(|turn| self.waiting.get_mut(turn));
        let untried = match &waits {
            Some(parcel) => parcel.tries == 0 && after(parcel.since, LAST) > now,
            None => !self.given_up.contains(key),
        };
        if self.failures > 0 || !untried {
            if let Some(turn) = self.turns.remove(key) {
                self.waiting.remove(&turn);
            }
            self.given_up.insert(key.to_owned());
            return Withdrawal::Withdrawn(self.problem.clone());
        }
        match waits {
            Some(parcel) => parcel.withdrawn = true,
            None => self.take_in(key, content, true, now),
        }
        Withdrawal::Sending
    }

    /// What to send now. `Send` must be followed by [`settle`](Self::settle).
    pub fn take(&mut self, now: Timestamp) -> Next<T> {
        let most = if self.failures > 0 { 1 } else { self.bounds.at_once };
        if self.waiting.is_empty() || self.sending.len() >= most {
            return Next::Idle;
        }
        let not_before = self.not_before.max(self.asked_until);
        if not_before > now {
            return Next::Wait(not_before);
        }
        let due = self.waiting.iter().find(|(_, parcel)| parcel.not_before <= now).map(|(turn, _)| *turn);
        let Some(parcel) = due.and_then(|turn| self.waiting.remove(&turn)) else {
            let soonest = self.waiting.values().map(|parcel| parcel.not_before).min();
            return soonest.map_or(Next::Idle, Next::Wait);
        };
        self.turns.remove(&parcel.key);
        let (key, content) = (parcel.key.clone(), parcel.content.clone());
        self.sending.insert(key.clone(), parcel);
        Next::Send(key, content)
    }

    /// Takes note of what came of an attempt. `draw` is random and sets the jitter.
    pub fn settle(&mut self, key: &str, attempt: Attempt, now: Timestamp, draw: u64) {
        let Some(parcel) = self.sending.remove(key) else { return };
        match attempt {
            Attempt::Stored => {
                (self.failures, self.not_before, self.problem) = (0, Timestamp::MIN, None);
                self.arrived = self.arrived.saturating_add(1);
                self.done.insert(parcel.key, Delivery::Stored);
            }
            Attempt::Failed(reason, why) => {
                self.done.insert(parcel.key, Delivery::Failed(reason, why));
            }
            Attempt::Again(why, least) => self.again(parcel, (why, least), now, draw),
        }
    }

    fn again(
        &mut self,
        mut parcel: Parcel<T>,
        (why, least): (String, Option<SignedDuration>),
        now: Timestamp,
        draw: u64,
    ) {
        parcel.tries = parcel.tries.saturating_add(1);
        // A destination that asks for time has nothing against this parcel.
        if self.arrived > parcel.arrived_before && parcel.tries > 1 && least.is_none() {
            parcel.failures = parcel.failures.saturating_add(1);
        }
        parcel.arrived_before = self.arrived;
        if parcel.failures >= MAX_FAILURES {
            let why = format!("not accepted in {} attempts while others were: {why}", parcel.tries);
            self.done.insert(parcel.key, Delivery::Failed(Reason::UploadRejected, why));
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let least = least.unwrap_or(SignedDuration::ZERO).min(LONGEST);
        self.not_before = after(now, pause(self.failures, draw));
        self.asked_until = self.asked_until.max(after(now, least));
        parcel.not_before = after(now, pause(parcel.tries, draw).max(least));
        self.problem = Some(why);
        if parcel.withdrawn {
            self.given_up.insert(parcel.key);
            return;
        }
        let key = parcel.key.clone();
        self.queue(parcel);
        self.drop_oldest(&key);
    }

    fn queue(&mut self, parcel: Parcel<T>) {
        self.turns.insert(parcel.key.clone(), self.next_turn);
        self.waiting.insert(self.next_turn, parcel);
        self.next_turn = self.next_turn.saturating_add(1);
    }

    /// Drops what has waited longest while there is too much, but not the parcel that just came.
    fn drop_oldest(&mut self, newest: &str) {
        while self.waiting.len() > self.bounds.waiting.max(1) {
            let others = self.waiting.iter().filter(|(_, parcel)| parcel.key != newest);
            let oldest = others.min_by_key(|(turn, parcel)| (parcel.since, **turn)).map(|(turn, _)| *turn);
            let Some(parcel) = oldest.and_then(|turn| self.waiting.remove(&turn)) else { return };
            self.turns.remove(&parcel.key);
            self.dropped = self.dropped.saturating_add(1);
            let waiting = self.bounds.waiting;
            let why = format!("{waiting} newer profiles wait for the destination, which is the most");
            self.done.insert(parcel.key, Delivery::Failed(Reason::BacklogFull, why));
        }
    }

    /// Forgets what came of parcels that nobody will ask for any more.
    pub fn retain(&mut self, live: impl Fn(&str) -> bool) {
        self.done.retain(|key, _| live(key));
        self.given_up.retain(|key| live(key));
        self.waiting.retain(|_, parcel| live(&parcel.key));
        self.turns.retain(|key, _| live(key));
    }

    /// Forgets parcels that have waited since before then: they come too late.
    pub fn forget_before(&mut self, limit: Timestamp) {
        self.waiting.retain(|_, parcel| parcel.since >= limit);
        let waiting: HashSet<&String> = self.waiting.values().map(|parcel| &parcel.key).collect();
        self.turns.retain(|key, _| waiting.contains(key));
    }

    /// How many parcels wait or are being sent.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.waiting.len().saturating_add(self.sending.len())
    }

    /// Since when the oldest of them waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        self.waiting.values().chain(self.sending.values()).map(|parcel| parcel.since).min()
    }

    /// How many parcels were dropped because too many waited.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What holds it up, since the last parcel arrived.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// After how long a server wants to be asked again that answers `code` because it, or what is before it, is busy;
/// `again` is what it says of that. `None`: it is not busy.
#[must_use]
pub fn busy(code: u16, again: Option<SignedDuration>) -> Option<SignedDuration> {
    matches!(code, 502..=504).then(|| again.unwrap_or(SignedDuration::ZERO))
}

/// The interval after so many failures in a row: doubled by each, at most a minute, and between a half and the
/// whole of that, so that replicas and destinations do not try in step.
#[must_use]
pub fn pause(failures: u32, draw: u64) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(6);
    let whole = SHORTEST.as_millis().saturating_mul(1_i128 << doublings).min(LONGEST.as_millis());
    let whole = i64::try_from(whole).unwrap_or(i64::MAX);
    let half = whole.checked_div(2).unwrap_or(0);
    let jitter = i64::try_from(draw.checked_rem(half.unsigned_abs().max(1)).unwrap_or(0)).unwrap_or(0);
    SignedDuration::from_millis(half.saturating_add(jitter))
}

#[cfg(test)]
mod tests;
