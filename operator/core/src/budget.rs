//! May one more target be captured now? A ledger of slots per node, namespace, policy and fleet that never
//! exceeds a limit.
//!
//! ```text
//! claim ─► held (there was room on every account)            ─► release, when the capture is over
//!      └─► waiting (said which account is full), asked again ─► held | forgotten
//! ```
//! The leader keeps one ledger. A target's slot is written to its session's status before the capture is
//! ordered, so a new leader restores all slots before it grants new ones.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use fleetprof_crds::Reason;
use jiff::{SignedDuration, Timestamp};

use crate::text::counted;

/// A waiting claim that is not repeated within this time is dropped.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// A target that needs a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The target's capture, which owns the slot.
    pub capture: String,
    /// UID of the session.
    pub session: String,
    /// Namespace of the session.
    pub namespace: String,
    /// UID of the session's policy; empty without a policy.
    pub policy: String,
    /// Node of the pod.
    pub node: String,
    /// Higher goes first.
    pub priority: i32,
    /// With equal priority, the earlier claim goes first.
    pub since: Timestamp,
    /// The limits that apply.
    pub limits: Limits,
}

/// Limits for concurrent captures on the accounts of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// On the claim's node, for captures of any policy.
    pub node: usize,
    /// In the claim's namespace.
    pub namespace: usize,
    /// Of the claim's policy.
    pub policy: usize,
    /// In the whole fleet.
    pub fleet: usize,
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The target may be captured.
    Granted,
    /// An account is full.
    Busy(Busy),
}

/// The full account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// `NodeBusy` or `BudgetExhausted`.
    pub reason: Reason,
    /// The account and its limit, as a message.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Account {
    Node(String),
    Namespace(String),
    Policy(String),
    Fleet,
}

/// Order of claims: the smaller goes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    priority: Reverse<i32>,
    since: Timestamp,
    session: String,
    capture: String,
}

/// Waiting claims: for each account the claims that found it full, in order, and when each was last made. A
/// claim only looks at those ahead of it on its own four accounts, so thousands can wait and retry every
/// second.
#[derive(Clone, Debug, Default)]
struct Queues {
    by_account: HashMap<Account, BTreeMap<Rank, Timestamp>>,
    /// The accounts that each capture waits for.
    by_capture: HashMap<String, (Account, Rank)>,
    swept: Timestamp,
}

impl Queues {
    fn push(&mut self, account: Account, rank: Rank, now: Timestamp) {
        self.by_capture.insert(rank.capture.clone(), (account.clone(), rank.clone()));
        self.by_account.entry(account).or_default().insert(rank, now);
    }

    fn remove(&mut self, capture: &str) {
        let Some((account, rank)) = self.by_capture.remove(capture) else { return };
        if let Some(queue) = self.by_account.get_mut(&account) {
            queue.remove(&rank);
            if queue.is_empty() {
                self.by_account.remove(&account);
            }
        }
    }

    /// Whether at least `room` active claims with a rank before `rank` wait for the account.
    fn at_least(&self, room: usize, account: &Account, rank: &Rank, now: Timestamp) -> bool {
        let before = self.by_account.get(account).into_iter().flat_map(|queue| queue.range(..rank));
        before.filter(|(_, seen)| is_made(**seen, now)).take(room).count() >= room
    }

    /// Drops claims that are no longer made. They do not count anyway, so an occasional call is enough.
    fn sweep(&mut self, now: Timestamp) {
        if is_made(self.swept, now) {
            return;
        }
        self.swept = now;
        let seen = |(account, rank): &(Account, Rank)| {
            self.by_account.get(account).and_then(|queue| queue.get(rank))
        };
        let over = |at: &(Account, Rank)| seen(at).is_none_or(|seen| !is_made(*seen, now));
        let gone: Vec<String> =
            self.by_capture.iter().filter(|(_, at)| over(at)).map(|(capture, _)| capture.clone()).collect();
        gone.iter().for_each(|capture| self.remove(capture));
    }

    fn retain_sessions(&mut self, lives: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self
            .by_capture
            .values()
            .filter(|(_, rank)| !lives(&rank.session))
            .map(|(_, rank)| rank.capture.clone())
            .collect();
        gone.iter().for_each(|capture| self.remove(capture));
    }
}

/// Whether a claim last made at `seen` still counts.
fn is_made(seen: Timestamp, now: Timestamp) -> bool {
    now.duration_since(seen) < FORGOTTEN_AFTER
}

/// Which captures hold a slot, and which wait for one.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    held: HashMap<String, Claim>,
    used: HashMap<Account, usize>,
    waiting: Queues,
}

impl Ledger {
    /// Claims a slot. A slot that is already held is granted again; a waiting claim must be repeated within
    /// 15 s.
    pub fn claim(&mut self, claim: Claim, now: Timestamp) -> Place {
        if self.held.contains_key(&claim.capture) {
            return Place::Granted;
        }
        self.waiting.sweep(now);
        self.waiting.remove(&claim.capture);
        let rank = rank(&claim);
        for (account, limit) in accounts(&claim) {
            let used = self.used.get(&account).copied().unwrap_or_default();
            if self.waiting.at_least(limit.saturating_sub(used), &account, &rank, now) {
                let busy = busy(&account, used, limit);
                self.waiting.push(account, rank, now);
                return Place::Busy(busy);
            }
        }
        self.hold(claim);
        Place::Granted
    }

    /// Takes a slot unconditionally, because the capture is running or may have been ordered.
    pub fn hold(&mut self, claim: Claim) {
        self.waiting.remove(&claim.capture);
        if self.held.contains_key(&claim.capture) {
            return;
        }
        for (account, _) in accounts(&claim) {
            *self.used.entry(account).or_default() += 1;
        }
        self.held.insert(claim.capture.clone(), claim);
    }

    /// Releases a slot; does nothing if the capture holds none.
    pub fn release(&mut self, capture: &str) {
        self.waiting.remove(capture);
        let Some(claim) = self.held.remove(capture) else { return };
        for (account, _) in accounts(&claim) {
            let left = self.used.get(&account).copied().unwrap_or_default().saturating_sub(1);
            if left == 0 {
                self.used.remove(&account)
            } else {
                self.used.insert(account, left)
            };
        }
    }

    /// Releases the slots of deleted sessions.
    pub fn retain_sessions(&mut self, lives: impl Fn(&str) -> bool) {
        let gone: Vec<String> =
            self.held.values().filter(|c| !lives(&c.session)).map(|c| c.capture.clone()).collect();
        gone.iter().for_each(|capture| self.release(capture));
        self.waiting.retain_sessions(lives);
    }

    /// Number of slots held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no slot is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// In the order in which they are checked.
fn accounts(claim: &Claim) -> [(Account, usize); 4] {
    let Limits { node, namespace, policy, fleet } = claim.limits;
    // A session without a policy has its own account instead.
    let owner = if claim.policy.is_empty() { &claim.session } else { &claim.policy };
    [
        (Account::Node(claim.node.clone()), node),
        (Account::Namespace(claim.namespace.clone()), namespace),
        (Account::Policy(owner.clone()), policy),
        (Account::Fleet, fleet),
    ]
}

fn rank(claim: &Claim) -> Rank {
    let Claim { priority, since, session, capture, .. } = claim;
    Rank { priority: Reverse(*priority), since: *since, session: session.clone(), capture: capture.clone() }
}

fn busy(account: &Account, used: usize, limit: usize) -> Busy {
    let run = counted(used, "capture is running", "captures are running");
    let (reason, message) = match account {
        Account::Node(node) => (
            Reason::NodeBusy,
            format!("{run} on node {node}, the limit is {limit} (budget.maxConcurrentPerNode)"),
        ),
        Account::Namespace(namespace) => (
            Reason::BudgetExhausted,
            format!("{run} in namespace {namespace}, the limit is {limit} (chart value budgets.namespace)"),
        ),
        Account::Policy(_) => (
            Reason::BudgetExhausted,
            format!("{run} for the policy, the limit is {limit} (budget.maxConcurrent)"),
        ),
        Account::Fleet => (
            Reason::BudgetExhausted,
            format!("{run} in the cluster, the limit is {limit} (chart value budgets.fleet)"),
        ),
    };
    Busy { reason, message }
}

#[cfg(test)]
mod tests;
