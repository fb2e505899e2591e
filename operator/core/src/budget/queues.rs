//! Which claims wait for an account, and which of them is next?
//!
//! Between namespaces the one that holds fewest slots on the account goes first, and of those that hold
//! equally many the one that got its last one longest ago. So a tenant with many claims, or with a high
//! priority, keeps nobody else waiting; within a namespace priority decides, then age. The priority of a
//! cluster policy, which an administrator sets, also decides between namespaces that hold equally many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::accounts::Account;
use super::{Asker, Claim, Used};

/// A waiting claim that is not repeated within this time is dropped.
pub(super) const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// After so many further grants it no longer counts when a namespace was granted a slot last: it may be gone.
/// A grant counts on each of its up to six accounts.
const SERVED_FOR: u64 = 50_000;

/// Order of the claims of a namespace: the smaller goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    priority: Reverse<i32>,
    since: Timestamp,
    session: String,
    capture: String,
    /// The priority that counts beyond the namespace. Captures are unique, so nothing is ordered by it here.
    everywhere: Reverse<i32>,
}

impl Rank {
    pub(super) fn of(claim: &Claim) -> Self {
        Self {
            priority: Reverse(if claim.asker == Asker::Person { 0 } else { claim.priority }),
            since: claim.since,
            session: claim.session.clone(),
            capture: claim.capture.clone(),
            everywhere: Reverse(if claim.asker == Asker::ClusterPolicy { claim.priority } else { 0 }),
        }
    }
}

/// When a claim has its turn among those of all namespaces: the smaller goes first. How many slots its
/// namespace holds then, its cluster-wide priority, the last grant to the namespace, its age, and what tells
/// it from others.
type Turn<'r> = (usize, Reverse<i32>, u64, Timestamp, &'r str, &'r str);

/// A claim on an account, with what is held there.
pub(super) struct Asked<'a> {
    pub(super) account: &'a Account,
    pub(super) claim: &'a Claim,
    pub(super) used: Option<&'a Used>,
    pub(super) now: Timestamp,
}

impl Asked<'_> {
    fn held_by(&self, namespace: &str) -> usize {
        self.used.and_then(|used| used.by_namespace.get(namespace)).copied().unwrap_or(0)
    }
}

/// The claims that wait for one account.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// By namespace and in their order, with the time when each was last made.
    pub(super) claims: BTreeMap<String, BTreeMap<Rank, Timestamp>>,
    /// Which grant was the last one of a namespace, as long as anybody waits.
    pub(super) served: HashMap<String, u64>,
}

impl Queue {
    /// The turn of a claim whose namespace holds `held` slots when all its claims before it have had theirs.
    fn turn<'r>(&self, held: usize, namespace: &str, rank: &'r Rank) -> Turn<'r> {
        let served = self.served.get(namespace).copied().unwrap_or(0);
        (held, rank.everywhere, served, rank.since, &rank.session, &rank.capture)
    }
}

/// Waiting claims, each in the queue of the account that it found full. A claim only looks at those ahead of
/// it on its own accounts, and at no more of them than there is room for, so thousands can wait and retry
/// every second.
#[derive(Clone, Debug, Default)]
pub(super) struct Queues {
    pub(super) by_account: HashMap<Account, Queue>,
    /// The queue of each capture: its account and namespace, and the place in it.
    pub(super) by_capture: HashMap<String, (Account, String, Rank)>,
    /// How many slots were granted.
    grants: u64,
    swept: Timestamp,
}

impl Queues {
    pub(super) fn push(&mut self, account: Account, rank: Rank, namespace: String, now: Timestamp) {
        let queue = self.by_account.entry(account.clone()).or_default();
        queue.claims.entry(namespace.clone()).or_default().insert(rank.clone(), now);
        self.by_capture.insert(rank.capture.clone(), (account, namespace, rank));
    }

    pub(super) fn remove(&mut self, capture: &str) {
        let Some((account, namespace, rank)) = self.by_capture.remove(capture) else { return };
        let Some(queue) = self.by_account.get_mut(&account) else { return };
        if let Some(claims) = queue.claims.get_mut(&namespace) {
            claims.remove(&rank);
            if claims.is_empty() {
                queue.claims.remove(&namespace);
            }
        }
        if queue.claims.is_empty() {
            self.by_account.remove(&account);
        }
    }

    /// Takes note of a slot that was granted to a namespace.
    pub(super) fn granted(&mut self, account: &Account, namespace: &str) {
        self.grants += 1;
        if let Some(queue) = self.by_account.get_mut(account) {
            queue.served.insert(namespace.to_owned(), self.grants);
        }
    }

    /// Whether any active claim waits for the account.
    pub(super) fn is_awaited(&self, account: &Account, now: Timestamp) -> bool {
        let queue = self.by_account.get(account).into_iter();
        queue.flat_map(|queue| queue.claims.values()).flatten().any(|(_, seen)| is_made(*seen, now))
    }

    /// Whether at least `room` active claims that go before this one wait for the account. The `n`th claim of
    /// a namespace, counted from 0, has its turn when the namespace holds `n` slots more than now.
    pub(super) fn at_least(&self, room: usize, asked: &Asked) -> bool {
        if room == 0 {
            return true;
        }
        let Some(queue) = self.by_account.get(asked.account) else { return false };
        let (mine, own) = (Rank::of(asked.claim), asked.claim.namespace.as_str());
        let active = |(_, seen): &(&Rank, &Timestamp)| is_made(**seen, asked.now);
        let claims = queue.claims.get(own);
        let before = claims.map_or(0, |claims| claims.range(..&mine).filter(active).take(room).count());
        let turn = queue.turn(asked.held_by(own) + before, own, &mine);
        let mut ahead = before;
        for (namespace, claims) in queue.claims.iter().filter(|(namespace, _)| *namespace != own) {
            if ahead >= room {
                break;
            }
            let held = asked.held_by(namespace);
            let turns = claims.iter().filter(active).enumerate();
            let turns = turns.map(|(n, (rank, _))| queue.turn(held + n, namespace, rank));
            ahead += turns.take(room - ahead).take_while(|other| *other < turn).count();
        }
        ahead >= room
    }

    /// Drops claims that are no longer made. They do not count anyway, so an occasional call is enough.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if is_made(self.swept, now) {
            return;
        }
        self.swept = now;
        let seen = |(account, namespace, rank): &(Account, String, Rank)| {
            self.by_account.get(account)?.claims.get(namespace)?.get(rank).copied()
        };
        let over = |at: &(Account, String, Rank)| seen(at).is_none_or(|seen: Timestamp| !is_made(seen, now));
        let gone: Vec<String> =
            self.by_capture.iter().filter(|(_, at)| over(at)).map(|(capture, _)| capture.clone()).collect();
        gone.iter().for_each(|capture| self.remove(capture));
        let oldest = self.grants.saturating_sub(SERVED_FOR);
        self.by_account.values_mut().for_each(|queue| queue.served.retain(|_, grant| *grant >= oldest));
    }

    pub(super) fn retain_sessions(&mut self, lives: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self
            .by_capture
            .values()
            .filter(|(.., rank)| !lives(&rank.session))
            .map(|(.., rank)| rank.capture.clone())
            .collect();
        gone.iter().for_each(|capture| self.remove(capture));
    }
}

/// Whether a claim last made at `seen` still counts.
pub(super) fn is_made(seen: Timestamp, now: Timestamp) -> bool {
    now.duration_since(seen).abs() < FORGOTTEN_AFTER
}
